"""One compiled signature: when it applies, and how to run it."""
from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from typing import TYPE_CHECKING, Any

from flambeau import config
from flambeau.errors import UnsupportedError
from flambeau.frontend.call.bindings import Bindings
from flambeau.frontend.call.compiled_backward import Call, CompiledSegment, spent_results
from flambeau.frontend.call.fastpath import FastCall, FastCallWriter, why_general
from flambeau.frontend.call.leaf_guard import LeafGuard
from flambeau.frontend.call.memory import check_writable, memory_at
from flambeau.frontend.call.results import finish_writes, leave_gradients, make_results
from flambeau.frontend.epoch import epoch, grad_epoch
from flambeau.frontend.pytree import Structure
from flambeau.frontend.scalars import plain
from flambeau.frontend.tape.autograd import anomaly, grad_mode
from flambeau.frontend.tape.casting import mode_in_words
from flambeau.frontend.tensor.promotion import get_default_dtype
from flambeau.frontend.tensor.strides import strides_of
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.frontend.trace.call_plan import Argument, CallPlan, Found, Given, hooks_of, place_on_tape
from flambeau.frontend.trace.guards.effects import Slot, moved_tensors
from flambeau.frontend.trace.guards.values import MISSING, is_same
from flambeau.frontend.trace.guards.watch import GuardSet
from flambeau.ir.graph import Graph

if TYPE_CHECKING:
    from flambeau.backends import Runnable
    from flambeau.compiler import Compiled


class Entry:
    """A compiled signature of a function, ready to run. tf32, deterministic: what the settings were,
    if the code depends on them. plain: gives the same code, but that computes nothing once; None where it
    computes nothing once itself."""

    def __init__(self, plan: CallPlan, compiled: Compiled, compile_backward: Callable[[Graph], Compiled],
                 device: str = "cpu", tf32: bool | None = None, deterministic: bool | None = None,
                 plain: Callable[[], Runnable] | None = None):
        self.plan, self.device, self.tf32, self.deterministic = plan, device, tf32, deterministic
        self.memory = memory_at(device)
        self.bound = Bindings(plan, compiled, device, plain)
        self.guards = GuardSet(plan.heap)
        self._generation = self._known_generation = -1
        self._known: Set[int] = frozenset()
        self._outside = frozenset(id(outside.tensor) for outside in plan.outside)
        self.leaf_guards = [LeafGuard(leaf) for leaf in plan.leaves]
        self._repeated = [(n, leaf.repeats) for n, leaf in enumerate(plan.leaves) if leaf.repeats is not None]
        self.fixed_items = [n for n in plan.numbers if n.owner is not None and n.is_guarded]
        self.segments = [CompiledSegment(plan.name, segment, compile_backward, self.memory, device)
                         for segment in plan.segments]
        if len(self.segments) == 1 and self.segments[0].segment.error is None:
            self.segments[0].ready()
        self.spent = spent_results(self.segments)
        self._gives_grads = any(isinstance(write.value, (Given, Found)) for write in plan.gradients)
        self._particular = [a for a in plan.arguments if a.is_particular]
        self._fast_call: FastCall | None = None

    @property
    def fast_call(self) -> FastCall | None:
        """The specialised call, which compares with what the guards hold now."""
        if self._generation != self.guards.generation:
            self._generation = self.guards.generation
            self._fast_call = self._writer().compiled() if self.why_general() is None else None
        return self._fast_call

    def _writer(self) -> FastCallWriter:
        return FastCallWriter(self.plan, self.bound, self.leaf_guards, self.guards, self.known, self.spent,
                              self.environment_holds, self.device)

    def why_general(self) -> str | None:
        """Why no specialised call is generated; None where one is."""
        return why_general(self.plan, self.spent, self.device)

    def text(self) -> str:
        """The plan, and the call that was generated for it or why none was."""
        reason = self.why_general()
        return f"{self.plan}\n\n{self._writer().source() if reason is None else f'every call is general: {reason}'}"

    # -- when it applies --------------------------------------------------------------------------------------------

    def all_leaves(self, leaves: Sequence[Any]) -> Sequence[Any]:
        """The leaves of the arguments and of the slots; too few, where a slot holds something that nests in another
        way."""
        return self.plan.all_leaves(leaves)

    def find(self, structure: Structure | None, leaves: Sequence[Any]) -> Entry | None:
        """Itself, if it is for a call."""
        return self if self.matches(structure, leaves) else None

    def matches(self, structure: Structure | None, leaves: Sequence[Any]) -> bool:
        leaves = self.all_leaves(leaves)
        return self.would_match(structure, leaves, self.leaf_guards) and all(
            self._difference(a, leaves[a.leaf]) is None for a in self._particular)

    def would_match(self, structure: Structure | None, leaves: Sequence[Any], guards: Sequence[LeafGuard]) -> bool:
        """Whether a call is for an entry that differs from this one in what the leaves, slots included, must be."""
        if structure != self.plan.structure or len(leaves) != len(guards):
            return False
        for guard, leaf in zip(guards, leaves, strict=True):
            if not guard.holds(leaf):
                return False
        return self.repeats_hold(leaves) and self.environment_holds()

    def _difference(self, argument: Argument, leaf: Tensor) -> str | None:
        """What differs of an argument beside its type, in words."""
        if argument.has_no_grad and leaf._grad is not None:
            return f".grad of {self.plan.leaves[argument.leaf].name} is no longer None"
        if argument.strides is not None and strides_of(leaf) != argument.strides:
            return f"strides of {self.plan.leaves[argument.leaf].name} are {strides_of(leaf)}, were {argument.strides}"
        if argument.hooks is not None and hooks_of(leaf) != argument.hooks:
            return "an argument has other gradient hooks"
        if argument.on_tape is not None and place_on_tape(leaf, self._outside) != argument.on_tape:
            return "an argument that requires grad is a captured tensor, or a computed one, or was"
        return None

    @property
    def known(self) -> Set[int]:
        """The tensors from outside that are no arguments, by id."""
        if self._known_generation != self.guards.generation:
            self._known_generation = self.guards.generation
            self._known = self.guards.heap.tensors() | self._outside
        return self._known

    def repeats_hold(self, leaves: Sequence[Any]) -> bool:
        """The same tensors are given twice, and none that the code also reaches by name."""
        known = self.known
        if known and any(id(leaves[a.leaf]) in known for a in self.plan.arguments):
            return False
        return all(leaves[n] is leaves[first] for n, first in self._repeated) and \
            all(len({id(leaves[n]) for n in group}) == len(group) for group in self.plan.distinct)

    def environment_holds(self) -> bool:
        """Everything but the arguments."""
        plan, bound = self.plan, self.bound
        if config.disable_jit:
            return False
        if grad_mode.mode is not plan.mode or get_default_dtype() is not plan.default_dtype:
            return False
        if not bound.gradients_hold():
            return False
        for number in self.fixed_items:
            if not is_same(number.value, plain(number.read(()))):
                return False
        if bound.epoch != epoch.value:
            if not self.guards.holds() or not bound.outside_holds() or plan.num_threads not in (None, config.num_threads):
                return False
            if plan.anomaly_mode not in (None, anomaly.state):
                return False
            if self.tf32 not in (None, config.tf32) or self.deterministic not in (None, config.deterministic):
                return False
            bound.follow_anomaly_mode()
            bound.epoch = epoch.value
            return True
        return self.guards.holds()

    def why_not(self, structure: Structure | None, leaves: Sequence[Any]) -> str:
        """The first thing that differs, in words."""
        leaves = self.all_leaves(leaves)
        if structure != self.plan.structure or len(leaves) != len(self.leaf_guards):
            moved = next((read for read in self.plan.slots if read.leaves() is None), None)
            return "the arguments nest differently" if moved is None else f"{moved} nests differently"
        for guard, leaf in zip(self.leaf_guards, leaves, strict=True):
            if not guard.holds(leaf):
                return guard.difference(leaf)
        if not self.repeats_hold(leaves):
            return "other arguments are one and the same tensor, or one that is captured"
        if grad_mode.mode is not self.plan.mode:
            return f"{mode_in_words(grad_mode.mode)}, was {mode_in_words(self.plan.mode)}"
        if get_default_dtype() is not self.plan.default_dtype:
            return f"the default dtype is {get_default_dtype()!r}"
        if self.deterministic not in (None, config.deterministic):
            return f"use_deterministic_algorithms({config.deterministic}) was called"
        if self.plan.anomaly_mode not in (None, anomaly.state):
            return f"anomaly mode was turned {'on' if anomaly.is_on else 'off'}, which the function asks for"
        for read in self.plan.reads:
            if (read.leaf._grad is None) is not (read.type is None):
                now = "no longer None" if read.type is None else "None now"
                return f".grad of a tensor {read.leaf._type} is {now}"
            if read.holds(self.bound.pointers) is False:
                return f".grad of a tensor {read.leaf._type} lies in memory in another way"
        for number in self.fixed_items:
            now = number.read(())
            if not is_same(number.value, plain(now)):
                return f"{number.key!r} changed from {number.value!r} to {now!r}"
        if self.tf32 not in (None, config.tf32):
            return f"TF32 is {'allowed' if config.tf32 else 'no longer allowed'}"
        differences = (self._difference(argument, leaves[argument.leaf]) for argument in self._particular)
        return next(filter(None, differences), None) or self.guards.broken() or self.bound.moved() \
            or "something changed and changed back"

    def moved_tensors(self) -> tuple[Slot, ...]:
        """The slots, and the parts where another tensor of the same type lies now: whichever lies there is an argument."""
        slots = [read.slot for read in self.plan.slots if read.slot.get() is not MISSING]
        return (*slots, *[s for s in moved_tensors(self.guards.heap) if s.place not in {t.place for t in slots}])

    def remedy(self, structure: Structure | None, leaves: Sequence[Any]) -> str:
        """What the user can do about the first thing that differs."""
        leaves = self.all_leaves(leaves)
        if structure == self.plan.structure and len(leaves) == len(self.leaf_guards):
            for guard, leaf in zip(self.leaf_guards, leaves, strict=True):
                if not guard.holds(leaf):
                    return guard.remedy(leaf)
            if any(not is_same(number.value, plain(number.read(()))) for number in self.fixed_items):
                return "the function looks at a hyperparameter (if, int(), printing): compute with it instead"
            if self.guards.number_changed():
                return "pass what changes as an argument: numbers among the arguments may be others at every call"
        return "keep what changes out of the function, or pass it as a tensor (explain() lists what changed each time)"

    # -- running ----------------------------------------------------------------------------------------------------

    def run(self, leaves: Sequence[Any], given: Any) -> Any:
        """Call the machine code on these leaves of `given`, (args, kwargs), and give the function's result."""
        plan, bound = self.plan, self.bound
        leaves = self.all_leaves(leaves)
        self._check_arguments(leaves)
        for handed in plan.handed:
            handed.check(given, self._is_known)
        are_settled = not plan.gradients or bound.homes_at == grad_epoch.value and not self._gives_grads
        if not are_settled:
            bound.ready_gradients()
        if bound.prepares and bound.versions != [watched.version for watched in bound.read_once]:
            bound.prepare()
        address_of, allocate = self.memory.address_of, self.memory.allocate
        held = [address_of(leaves[argument.leaf]) for argument in plan.arguments]
        if plan.writes_in_place:
            self._check_aliases(leaves)
        numbers = [float(number.read(leaves)) for number in plan.numbers]
        buffers = [allocate(type.nbytes) for type in plan.outputs]
        call = Call(plan, leaves, held, numbers, buffers, [read.leaf._grad for read in plan.reads],
                    given, self.memory)
        bound.run(*[pointer for pointer, _ in held], *numbers, *[b.ptr for b in buffers])
        bound.calls += 1
        finish_writes(call)
        if not are_settled:
            bound.attach_gradients(leaves, call.found)
        leave_gradients(call)
        return make_results(call, self.segments, self.spent)

    def _check_arguments(self, leaves: Sequence[Any]) -> None:
        for argument in self.plan.arguments:
            if argument.gradient is not None and leaves[argument.leaf]._record is not None:
                name = self.plan.leaves[argument.leaf].name
                raise UnsupportedError(f"backward() in {self.plan.name} reached {name}, which was computed outside of it: "
                                       "gradients would not flow further",
                                       hint="compute it inside too, call backward() outside, or detach() it")
        for argument in self.plan.arguments:
            if argument.is_written:
                check_writable(leaves[argument.leaf], self.plan.leaves[argument.leaf].name)

    def _is_known(self, container: Any) -> bool:
        """True for what the code gets to by name."""
        return id(container) in self.guards.heap.nodes

    def _check_aliases(self, leaves: Sequence[Any]) -> None:
        """In-place writes and aliased arguments do not go together: the trace saw separate tensors."""
        seen: dict[int, Argument] = {}
        for argument in self.plan.arguments:
            storage, name = leaves[argument.leaf]._storage, self.plan.leaves[argument.leaf].name
            if id(storage) in self.bound.storages and (argument.is_written or self.bound.writes(storage)):
                raise UnsupportedError(f"{name} shares memory with a tensor that the compiled function captured, "
                                       "and one of them is changed in place", hint="pass a clone()")
            other = seen.get(id(storage))
            if other is not None and (argument.is_written or other.is_written):
                raise UnsupportedError(f"{self.plan.leaves[other.leaf].name} and {name} share memory, and one of them is "
                                       "changed in place", hint="pass a clone()")
            seen[id(storage)] = argument


__all__ = ["Entry"]
