"""One compiled signature: when it applies, and how to run it."""
from __future__ import annotations

import copy
from collections.abc import Callable, Sequence, Set
from typing import TYPE_CHECKING, Any

import numpy as np

from flambeau import config
from flambeau.errors import UnsupportedError
from flambeau.frontend.call.compiled_backward import Call, CompiledSegment, spent_results, wrap
from flambeau.frontend.call.fastpath import make_fast_call
from flambeau.frontend.epoch import epoch, grad_epoch
from flambeau.frontend.pytree import Structure, unflatten
from flambeau.frontend.scalars import is_runtime_number, plain, settled
from flambeau.frontend.tape.autograd import grad_mode, set_grad_enabled
from flambeau.frontend.tape.backward import retain_grad
from flambeau.frontend.tape.dispatch import dispatch, write
from flambeau.frontend.tensor.promotion import get_default_dtype
from flambeau.frontend.tensor.storage import Storage
from flambeau.frontend.tensor.strides import strides_of
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.frontend.trace.binder import TracedCall, hooks_of
from flambeau.frontend.trace.gradients import Home, ReadGrad
from flambeau.frontend.trace.guards.values import is_same
from flambeau.frontend.trace.guards.watch import GuardSet
from flambeau.ir import ops
from flambeau.ir.graph import Graph
from flambeau.runtime.buffer import Buffer, allocate

if TYPE_CHECKING:
    from flambeau.backends import Runnable
    from flambeau.compiler import Compiled


class LeafGuard:
    """What an argument leaf must be: a tensor of one type, a number of one kind (or value, when the trace depended
    on it), or one particular object."""

    __slots__ = ("cls", "expected", "is_leaf", "kind", "name", "requires_grad")

    def __init__(self, leaf: Any, name: str, by_value: bool, is_captured: bool = False):
        self.name, self.requires_grad = name, False
        self.cls = type(leaf)
        self.expected: Any
        if is_captured:
            self.kind, self.expected = "object", leaf
        elif isinstance(leaf, Tensor):
            self.kind, self.expected, self.requires_grad = "tensor", leaf._type, leaf._requires_grad
            self.is_leaf = leaf._record is None
        elif is_runtime_number(leaf) and not by_value:
            self.kind, self.expected = "number", type(settled(leaf))
        elif isinstance(settled(leaf), (int, float, str, bytes, type(None), complex, np.generic, frozenset)):
            self.kind, self.expected = "value", settled(leaf)
        else:
            self.kind, self.expected = "object", leaf

    def holds(self, leaf: Any) -> bool:
        match self.kind:
            case "tensor":
                if type(leaf) is not self.cls or leaf._requires_grad is not self.requires_grad \
                        or (leaf._record is None) is not self.is_leaf:
                    return False
                if leaf._type is not self.expected:
                    if leaf._type != self.expected:
                        return False
                    self.expected = leaf._type          # the same object next time, in all likelihood
                return True
            case "number":
                return type(settled(leaf)) is self.expected and is_runtime_number(leaf)
            case "value":
                return bool(is_same(self.expected, settled(leaf)))
            case _:
                return leaf is self.expected

    def difference(self, leaf: Any) -> str:
        """In words: what was expected and what came."""
        if self.kind == "tensor":
            if not isinstance(leaf, Tensor):
                return f"{self.name} is {type(leaf).__name__}, was a tensor {self.expected}"
            if leaf._type != self.expected:
                return f"{self.name} is {leaf._type}, was {self.expected}"
            if type(leaf) is not self.cls:
                return f"{self.name} is a {type(leaf).__name__}, was a {self.cls.__name__}"
            if leaf._requires_grad is self.requires_grad:
                return f"{self.name} is {'a leaf' if leaf._record is None else 'no leaf'} of autograd"
            return f"{self.name} {'requires' if leaf._requires_grad else 'does not require'} grad"
        if self.kind == "number":
            if type(settled(leaf)) is self.expected:
                return f"{self.name} is {leaf}, an integer beyond 2**31, which is guarded by value"
            return f"{self.name} is {type(settled(leaf)).__name__}, was {self.expected.__name__}"
        if self.kind == "value":
            return f"{self.name} is {leaf!r}, was {self.expected!r}"
        return f"{self.name} is another {type(leaf).__name__}"

    def remedy(self, leaf: Any) -> str:
        """What the user can do about a leaf that keeps changing."""
        if self.kind == "tensor" and isinstance(leaf, Tensor):
            return "pad the tensors to a few shapes: every shape and dtype is compiled for itself"
        if is_runtime_number(leaf):
            return f"the function looks at the number {self.name} (if, range(), int(), an index): compute with it instead"
        return f"pass the same {type(leaf).__name__} as {self.name} again, or tensors in its place"


def _alike(leaves: Sequence[Any]) -> tuple[list[tuple[int, int]], list[list[int]]]:
    """(leaf, earlier leaf) that are one tensor, and groups of leaves of one type that are different tensors."""
    first_of: dict[int, int] = {}
    repeated: list[tuple[int, int]] = []
    groups: dict[Any, list[int]] = {}
    for n, leaf in enumerate(leaves):
        if isinstance(leaf, Tensor):
            first = first_of.setdefault(id(leaf), n)
            if first != n:
                repeated.append((n, first))
            else:
                groups.setdefault((leaf._type, leaf._requires_grad), []).append(n)
    return repeated, [group for group in groups.values() if len(group) > 1]


class Entry:
    """A compiled signature of a function, ready to run."""

    def __init__(self, traced: TracedCall, executable: Runnable, leaves: Sequence[Any], names: Sequence[str],
                 structure: Structure | None, compile_backward: Callable[[Graph], Compiled]):
        self.traced, self.structure, self.names = traced, structure, names
        by_value = {s.key for s in traced.scalars if s.owner is None and s.guarded}
        self.leaf_guards = [LeafGuard(leaf, names[n], n in by_value, n in traced.captured) for n, leaf in enumerate(leaves)]
        self.layouts = [(n, strides_of(leaves[n])) for n in traced.laid_out]
        self.repeated, self.distinct = _alike(leaves)
        self._known: Set[int] = frozenset()
        self._known_generation = -1
        self.guards = GuardSet(traced.heap)
        self.grad_enabled, self.default_dtype = grad_mode.enabled, get_default_dtype()
        self._threads = config.num_threads if traced.heap.scope.names("get_num_threads") else None
        self.fixed_items = [s for s in traced.scalars if s.owner is not None and s.guarded]
        self._outside_of = {id(o.tensor): o for o in traced.outside}
        self._leaves_on_tape = [n for n in traced.arg_leaves if leaves[n]._requires_grad and
                            (traced.arg_hooks or traced.arg_grads or traced.unset_grads
                             or traced.differentiable is not None)]
        self.captured_leaves = self._captured_leaves(leaves)
        self.unbound = executable
        self._state_types = [v.type for v in traced.graph.inputs if v.node.op.kind == "state"]     # type: ignore[attr-defined]
        self.bound_storages: list[Storage] = []
        self.pointers: list[int] = []
        self.executable = executable
        self._homes = [(n, home, [w.leaf for w in traced.grads if w.value is home])
                       for n, home in enumerate(traced.states) if isinstance(home, Home)]
        self._homes_epoch = self._reads_epoch = -1
        self._gives_grads = any(isinstance(w.value, (int, ReadGrad)) for w in traced.grads)
        self.bind()
        self._epoch = -1                # the first call looks at everything: compiling took a while
        self.calls = 0
        self.segments = [] if traced.differentiable is None else \
            [CompiledSegment(traced.graph.name, s, compile_backward) for s in traced.differentiable.segments]
        if len(self.segments) == 1 and self.segments[0].segment.error is None:
            self.segments[0].ready()
        self.spent = spent_results(traced.differentiable, self.segments)
        self.requiring_grad = [n for n, s in enumerate(traced.outputs) if s.requires_grad]
        self.visible = {s.index: n for n, s in enumerate(traced.outputs) if s.kind == "out"}
        self.exclusive = bool(traced.written_args or traced.written_states)
        self._fast_call = make_fast_call(self)
        self._generation = self.guards.generation

    @property
    def fast_call(self) -> Callable[[tuple[Any, ...]], Any] | None:
        """The specialised call, which compares with what the guards hold now."""
        if self._generation != self.guards.generation:
            self._generation = self.guards.generation
            self._fast_call = make_fast_call(self)
        return self._fast_call

    # -- when it applies --------------------------------------------------------------------------------------------

    def matches(self, structure: Structure | None, leaves: Sequence[Any]) -> bool:
        if structure != self.structure or len(leaves) != len(self.leaf_guards):
            return False
        for guard, leaf in zip(self.leaf_guards, leaves, strict=True):
            if not guard.holds(leaf):
                return False
        if not self.repeats_hold(leaves):
            return False
        for n in self.traced.unset_grads:
            if leaves[n]._grad is not None:
                return False
        for n, strides in self.layouts:
            if strides_of(leaves[n]) != strides:
                return False
        for n, hooks in self.traced.arg_hooks:
            if hooks_of(leaves[n]) != hooks:
                return False
        if self._leaves_on_tape and self._captured_leaves(leaves) != self.captured_leaves:
            return False
        return self.environment_holds()

    def _captured_leaves(self, leaves: Sequence[Any]) -> list[int]:
        """Which arguments are captured tensors too (by id), 1 for those that were computed, 0 for others; where gradients
        depend on it."""
        return [id(leaves[n]) if id(leaves[n]) in self._outside_of else int(leaves[n]._record is not None)
                for n in self._leaves_on_tape]

    @property
    def known(self) -> Set[int]:
        """The tensors from outside that are no arguments, by id."""
        if self._known_generation != self.guards.generation:
            self._known_generation = self.guards.generation
            self._known = self.guards.heap.tensors() | self._outside_of.keys()
        return self._known

    def repeats_hold(self, leaves: Sequence[Any]) -> bool:
        """The same tensors are given twice, and none that the code also reaches by name."""
        known = self.known
        if known and any(id(leaves[n]) in known for n in self.traced.arg_leaves):
            return False
        return all(leaves[n] is leaves[first] for n, first in self.repeated) and \
            all(len({id(leaves[n]) for n in group}) == len(group) for group in self.distinct)

    def environment_holds(self) -> bool:
        """Everything but the arguments."""
        if config.disable_jit:
            return False
        if grad_mode.enabled is not self.grad_enabled or get_default_dtype() is not self.default_dtype:
            return False
        if not self.grads_hold():
            return False
        for item in self.fixed_items:
            if not is_same(item.value, plain(item.owner[item.key])):      # type: ignore[index]
                return False
        if self._epoch != epoch.value:
            if not self.guards.holds() or not self._outside_holds() or self._threads not in (None, config.num_threads):
                return False
            self._epoch = epoch.value
            return True
        return self.guards.holds()

    def grads_hold(self) -> bool:
        """.grad is None where it was, and another gradient than last time is bound."""
        if self._reads_epoch == grad_epoch.value:
            return True
        found = [read.holds(self.pointers) for read in self.traced.read_grads]
        if False in found or None in found and not self._rebind_gradients():
            return False
        self._reads_epoch = grad_epoch.value
        return True

    def _rebind_gradients(self) -> bool:
        """Gradients that were one tensor are one still, those that were not are not, and no other state is one."""
        pointer_of: dict[int, int] = {}
        for read in self.traced.read_grads:
            if read.state >= 0 and read.view is None and read.leaf._grad is not None:
                now = read.leaf._grad._storage.buffer.ptr
                if pointer_of.setdefault(read.state, now) != now:
                    return False
        homes = {n for n, _, _ in self._homes}
        taken = {p for n, p in enumerate(self.pointers) if n not in pointer_of and n not in homes}
        if len({*pointer_of.values()}) < len(pointer_of) or not taken.isdisjoint(pointer_of.values()):
            return False
        self.bind()
        return True

    def _outside_holds(self) -> bool:
        """Captured tensors are what they were; those that got other memory of the same layout are bound again."""
        moved: dict[Storage, set[Storage]] = {}
        for outside in self.traced.outside:
            if not outside.is_same_kind():
                return False
            moved.setdefault(outside.storage, set()).add(outside.tensor._storage)
        if all(now == {storage} for storage, now in moved.items()):
            return True
        states: dict[Storage, Tensor] = {}
        for t in self.traced.states:
            known = self._outside_of.get(id(t))
            if isinstance(t, Tensor):
                states[t._storage if known is None else known.storage] = t
        for storage, now in moved.items():
            if now != {storage} and (len(now) > 1 or not _is_plain(states.get(storage))):
                return False
        for outside in self.traced.outside:
            outside.storage = outside.tensor._storage
        self.bind()
        return True

    def why_not(self, structure: Structure | None, leaves: Sequence[Any]) -> str:
        """The first thing that differs, in words."""
        if structure != self.structure or len(leaves) != len(self.leaf_guards):
            return "the arguments nest differently"
        for guard, leaf in zip(self.leaf_guards, leaves, strict=True):
            if not guard.holds(leaf):
                return guard.difference(leaf)
        if not self.repeats_hold(leaves):
            return "other arguments are one and the same tensor, or one that is captured"
        if grad_mode.enabled is not self.grad_enabled:
            return f"grad mode is {'on' if grad_mode.enabled else 'off'}"
        if get_default_dtype() is not self.default_dtype:
            return f"the default dtype is {get_default_dtype()!r}"
        for read in self.traced.read_grads:
            if (read.leaf._grad is None) is not (read.type is None):
                now = "no longer None" if read.type is None else "None now"
                return f".grad of a tensor {read.leaf._type} is {now}"
            if read.holds(self.pointers) is False:
                return f".grad of a tensor {read.leaf._type} lies in memory in another way"
        for n in self.traced.unset_grads:
            if leaves[n]._grad is not None:
                return f".grad of {self.names[n]} is no longer None"
        for item in self.fixed_items:
            if not is_same(item.value, plain(item.owner[item.key])):      # type: ignore[index]
                return f"{item.key!r} changed from {item.value!r} to {item.owner[item.key]!r}"      # type: ignore[index]
        for n, strides in self.layouts:
            if strides_of(leaves[n]) != strides:
                return f"strides of {self.names[n]} are {strides_of(leaves[n])}, were {strides}"
        if any(hooks_of(leaves[n]) != hooks for n, hooks in self.traced.arg_hooks):
            return "an argument has other gradient hooks"
        if self._captured_leaves(leaves) != self.captured_leaves:
            return "an argument that requires grad is a captured tensor, or a computed one, or was"
        broken = self.guards.broken()
        if broken is None:
            for outside in self.traced.outside:
                if outside.tensor._requires_grad is not outside.requires_grad:
                    return f"requires_grad of a captured tensor {outside.type} changed"
                if not outside.is_same_kind() or outside.tensor._storage is not outside.storage:
                    return f"a captured tensor {outside.type} is {outside.tensor._type} now, or other memory"
        return broken or "something changed and changed back"

    def remedy(self, structure: Structure | None, leaves: Sequence[Any]) -> str:
        """What the user can do about the first thing that differs."""
        if structure == self.structure and len(leaves) == len(self.leaf_guards):
            for guard, leaf in zip(self.leaf_guards, leaves, strict=True):
                if not guard.holds(leaf):
                    return guard.remedy(leaf)
            if any(not is_same(s.value, plain(s.owner[s.key])) for s in self.fixed_items):      # type: ignore[index]
                return "the function looks at a hyperparameter (if, int(), printing): compute with it instead"
            if self.guards.number_changed():
                return "pass what changes as an argument: numbers among the arguments may be others at every call"
        return "keep what changes out of the function, or pass it as a tensor (explain() lists what changed each time)"

    # -- running ----------------------------------------------------------------------------------------------------

    def bind(self) -> None:
        """Point the executable at the memory of the captured tensors."""
        pointers = []
        for number, tensor in enumerate(self.traced.states):
            if isinstance(tensor, Home):
                pointers.append(tensor.pointer)
                continue
            if not tensor._storage.array.flags.c_contiguous:
                raise UnsupportedError(f"a captured tensor {tensor._type} does not lie contiguously in memory",
                                       hint="make it with .contiguous() before the compiled function uses it")
            if number in self.traced.written_states:
                _check_writable(tensor if isinstance(tensor, Tensor) else tensor.grad, "a captured tensor")
            pointers.append(tensor._storage.buffer.ptr)
        self.bound_storages = [t._storage for t in self.traced.states if isinstance(t, Tensor)]
        self.state_storages = {id(t._storage) for t in self.traced.states}
        self.pointers = pointers
        self.executable = self.unbound.bind_states(pointers) if pointers else self.unbound

    def run(self, leaves: Sequence[Any]) -> Any:
        """Call the machine code on these leaves and give the function's result."""
        traced = self.traced
        for n, _, _ in traced.arg_grads:
            if leaves[n]._record is not None:
                raise UnsupportedError(f"backward() in {traced.graph.name} reached {self.names[n]}, which was computed "
                                       "outside of it: gradients would not flow further",
                                       hint="compute it inside too, call backward() outside, or detach() it")
        for n in traced.written_args:
            _check_writable(leaves[n], self.names[n])
        are_settled = not traced.grads or self._homes_epoch == grad_epoch.value and not self._gives_grads
        if not are_settled:
            self.ready_gradients()
        held = [self._argument(leaves[n]) for n in traced.arg_leaves]
        if self.exclusive:
            self._check_aliases(leaves)
        scalars = [float(leaves[s.key] if s.owner is None else s.owner[s.key]) for s in traced.scalars]
        buffers = [allocate(value.type.nbytes) for value in traced.graph.outputs]
        found = [read.leaf._grad for read in traced.read_grads]
        self.executable.fast_call(*[pointer for pointer, _ in held], *scalars, *[b.ptr for b in buffers])
        self.calls += 1
        self._finish_writes(leaves, held)
        if not are_settled:
            self.attach_gradients(leaves, found)
        return self._results(leaves, buffers, held, scalars, found)

    @staticmethod
    def _argument(tensor: Tensor) -> tuple[int, np.ndarray | None]:
        """(address of a contiguous argument, the copy made for it if it was not contiguous)."""
        if tensor._base is None and tensor._storage.pointer:
            return tensor._storage.pointer, None
        array = tensor._data()
        if array.flags.c_contiguous:
            if tensor._base is None:
                return tensor._storage.buffer.ptr, None
            return int(array.__array_interface__["data"][0]), None
        copy = np.ascontiguousarray(array)
        return int(copy.__array_interface__["data"][0]), copy

    def _check_aliases(self, leaves: Sequence[Any]) -> None:
        """In-place writes and aliased arguments do not go together: the trace saw separate tensors."""
        seen: dict[int, int] = {}
        for n in self.traced.arg_leaves:
            key = id(leaves[n]._storage)
            written = n in self.traced.written_args
            if key in self.state_storages and (written or self._writes_storage(key)):
                raise UnsupportedError(f"{self.names[n]} shares memory with a tensor that the compiled function captured, "
                                       "and one of them is changed in place", hint="pass a clone()")
            if key in seen and (written or seen[key] in self.traced.written_args):
                raise UnsupportedError(f"{self.names[seen[key]]} and {self.names[n]} share memory, and one of them is "
                                       "changed in place", hint="pass a clone()")
            seen[key] = n

    def _writes_storage(self, key: int) -> bool:
        return any(id(self.traced.states[n]._storage) == key for n in self.traced.written_states)

    # -- gradients of captured leaves -------------------------------------------------------------------------------

    def ready_gradients(self) -> None:
        """Before a call: gradients that it leaves get other memory where somebody holds what they had."""
        read = {id(r.leaf._grad._storage) for r in self.traced.read_grads if r.state >= 0 and r.leaf._grad is not None}
        is_moved = False
        for number, home, leaves in self._homes:
            type = self._state_types[number]
            if home.is_held(leaves) or home.grad._type is not type and home.grad._type != type or \
                    read and id(home._storage) in read:
                home.renew(type)
            is_moved = is_moved or home.pointer != self.pointers[number]
        if is_moved:
            self.bind()

    def attach_gradients(self, leaves: Sequence[Any], found: Sequence[Tensor | None] = ()) -> None:
        """After a call: every `.grad` is what the function left there. found: what each `.grad` that it read was."""
        traced = self.traced
        for change in traced.grads:
            value: Any = change.value
            if type(value) is Home:
                value = value.grad
            elif isinstance(value, ReadGrad):
                value = found[traced.read_grads.index(value)]
            elif isinstance(value, int):
                value = leaves[value]
            if change.leaf._grad is not value:
                change.leaf._grad = value
                grad_epoch.bump()
        self._homes_epoch = grad_epoch.value

    def _finish_writes(self, leaves: Sequence[Any], held: Sequence[tuple[int, np.ndarray | None]]) -> None:
        traced = self.traced
        for n in traced.written_states:
            traced.states[n]._storage.version += 1
        for n in traced.written_args:
            leaves[n]._storage.version += 1
            copy = held[traced.arg_leaves.index(n)][1]
            if copy is not None:
                np.copyto(leaves[n]._data(), copy)
        for tensor, flag in traced.flags:
            tensor.requires_grad_(flag)

    def _results(self, leaves: Sequence[Any], buffers: list[Buffer], held: Any, scalars: list[float],
                 found: Sequence[Tensor | None]) -> Any:
        traced = self.traced
        made: list[Any] = []
        self._argument_gradients(leaves, buffers)
        for spec in traced.outputs:
            match spec.kind:
                case "out":
                    made.append(wrap(buffers[spec.index], traced.graph.outputs[spec.index].type))
                case "object":
                    made.append(spec.value)
                case "copy":
                    made.append(copy.copy(spec.value))
                case "arg":
                    made.append(leaves[spec.index])
                case "repeat":
                    made.append(made[spec.index])
                case "arg grad":
                    made.append(leaves[spec.index]._grad)
                case "grad":
                    made.append(found[traced.read_grads.index(spec.value)] if isinstance(spec.value, ReadGrad)
                                else spec.value.leaf._grad)
                    grad_epoch.bump()
                case _:
                    number = wrap(buffers[spec.index], traced.graph.outputs[spec.index].type).item()
                    made.append(int(number) if spec.is_integer else number)
        for position, number in traced.result_grads:
            made[position]._grad = wrap(buffers[number], traced.graph.outputs[number].type)
        for n in self.requiring_grad:
            made[n]._requires_grad, made[n]._record = True, self.spent.get(n)
        if self.segments and not self.spent:
            call = Call(leaves, traced.arg_leaves, held, traced.states, scalars, buffers, made, self.visible)
            inner: dict[int, Tensor] = {}
            for segment in self.segments:
                segment.record(call, inner)
        for position in traced.retained:
            retain_grad(made[position])
        return unflatten(traced.structure, made)

    def _argument_gradients(self, leaves: Sequence[Any], buffers: Sequence[Buffer]) -> None:
        """Leave gradients on arguments."""
        for leaf, number, is_added in self.traced.arg_grads:
            grad = None if number < 0 else wrap(buffers[number], self.traced.graph.outputs[number].type)
            old = leaves[leaf]._grad if is_added else None
            if old is not None and grad is not None:
                with set_grad_enabled(False):
                    write(old, dispatch(ops.add, old, grad))
            else:
                leaves[leaf].grad = grad


def _check_writable(tensor: Tensor, name: str) -> None:
    if not tensor._data().flags.writeable:
        raise UnsupportedError(f"{name} is changed in place, but its elements share memory (made by expand), or its "
                               "memory is read-only", hint="clone() it first")


def _is_plain(tensor: Tensor | None) -> bool:
    """True when a state owns the memory it has now, and that is contiguous."""
    return (tensor is not None and tensor._base is None and tensor._storage.array.shape == tensor._type.shape
            and bool(tensor._storage.array.flags.c_contiguous))


__all__ = ["Entry", "LeafGuard"]
