"""A call specialised to one signature: checks and the native call as one generated Python function.

For functions whose arguments are all positional leaves and that have no effects beyond captured state. It returns
MISS whenever anything is not as it was, and the general path (`Entry.matches`, `Entry.run`) decides.
"""
from __future__ import annotations

import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from flambeau.frontend.active import active
from flambeau.frontend.epoch import epoch, grad_epoch
from flambeau.frontend.scalars import INTEGER_LIMIT
from flambeau.frontend.tape.autograd import grad_mode
from flambeau.frontend.tape.dispatch import is_stale
from flambeau.frontend.tensor.storage import Storage
from flambeau.frontend.tensor.strides import is_row_major
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.frontend.trace.gradients import Home
from flambeau.frontend.trace.guards.values import MISSING
from flambeau.runtime.buffer import allocator

if TYPE_CHECKING:
    from flambeau.frontend.call.entry import Entry

MISS = object()


def make_fast_call(entry: Entry) -> Callable[[tuple[Any, ...]], Any] | None:
    """The specialised call, taking the tuple of positional arguments; None where the signature is not simple."""
    traced = entry.traced
    positional = entry.structure
    assert positional is not None and len(positional.children) == 2, "arguments flatten as (args, kwargs)"
    args, kwargs = positional.children
    if args is None or kwargs is None or kwargs.children or any(c is not None for c in args.children):
        return None
    simple_result = traced.structure is None or all(c is None for c in traced.structure.children)
    if (not simple_result or entry.segments and not entry.spent or traced.written_args or traced.arg_grads
            or traced.unset_grads or traced.flags or traced.arg_hooks or traced.result_grads
            or entry._gives_grads
            or not all(is_row_major(entry.leaf_guards[n].expected.static_shape, s) for n, s in entry.layouts)
            or any(s.kind != "out" and s.kind != "object" for s in traced.outputs)
            or traced.structure is not None and traced.structure.kind not in (tuple, list)):
        return None
    return _Writer(entry).write()


class _Writer:
    """Generates the source of one specialised call."""

    def __init__(self, entry: Entry):
        self.entry = entry
        self.names: dict[str, Any] = {
            "MISS": MISS, "Tensor": Tensor, "Storage": Storage, "new": object.__new__, "active": active,
            "grad_mode": grad_mode, "epoch": epoch, "grad_epoch": grad_epoch, "allocate": allocator(),
            "argument": entry._argument, "is_stale": is_stale, "entry": entry,
            "environment_holds": entry.environment_holds, "guards": entry.guards, "MISSING": MISSING,
            "is_": operator.is_}
        self.lines: list[str] = []

    def write(self) -> Callable[[tuple[Any, ...]], Any]:
        entry = self.entry
        guards = entry.leaf_guards
        self.put(f"if len(args) != {len(guards)} or active.tracer is not None: return MISS")
        if guards:
            self.put(f"{', '.join(f'a{n}' for n in range(len(guards)))}, = args")
        for n in range(len(guards)):
            self.check_leaf(n)
        self.check_environment()
        if entry.traced.read_grads:
            self.put("if entry._reads_epoch != grad_epoch.value and not entry.grads_hold(): return MISS")
        self.aliases()
        pointers = [self.pointer(n) for n in entry.traced.arg_leaves]
        scalars = [self.scalar(s, n) for n, s in enumerate(entry.traced.scalars)]
        outs = []
        for n, value in enumerate(entry.traced.graph.outputs):
            self.put(f"b{n} = allocate({value.type.nbytes})")
            outs.append(f"b{n}.ptr")
        if entry.traced.grads:
            self.put("is_settled = entry._homes_epoch == grad_epoch.value")
            self.put("if not is_settled: entry.ready_gradients()")
        self.put(f"entry.executable.fast_call({', '.join(pointers + scalars + outs)})")
        self.effects()
        self.results()
        source = "def call(args):\n" + "\n".join("    " + line for line in self.lines)
        exec(compile(source, f"<flambeau call of {entry.traced.graph.name}>", "exec"), self.names)
        call: Callable[[tuple[Any, ...]], Any] = self.names["call"]
        return call

    def put(self, line: str) -> None:
        self.lines.append(line)

    def constant(self, prefix: str, value: Any) -> str:
        name = f"{prefix}{len(self.names)}"
        self.names[name] = value
        return name

    def check_leaf(self, n: int) -> None:
        guard = self.entry.leaf_guards[n]
        known = self.constant("guard", guard)
        if guard.kind == "tensor":
            kind = "Tensor" if guard.cls is Tensor else self.constant("cls", guard.cls)
            self.put(f"if type(a{n}) is not {kind} or a{n}._requires_grad is not {guard.requires_grad}: return MISS")
            if guard.requires_grad:
                self.put(f"if (a{n}._record is None) is not {guard.is_leaf}: return MISS")
            self.put(f"if a{n}._type is not {known}.expected and not {known}.holds(a{n}): return MISS")
        elif guard.kind == "number":
            self.put(f"if type(a{n}) is not {self.constant('kind', guard.cls)}: return MISS")
            if guard.cls is np.ndarray:
                self.put(f"if not {known}.holds(a{n}): return MISS")
            elif not issubclass(guard.expected, (float, np.floating)):
                self.put(f"if not {-INTEGER_LIMIT} <= a{n} <= {INTEGER_LIMIT}: return MISS")
        elif guard.kind == "value":
            self.put(f"if not {known}.holds(a{n}): return MISS")
        else:
            self.put(f"if a{n} is not {self.constant('object', guard.expected)}: return MISS")

    def check_environment(self) -> None:
        """By identity where that suffices."""
        entry = self.entry
        if entry.fixed_items:
            self.put("if not environment_holds(): return MISS")
            return
        self.put(f"if grad_mode.enabled is not {entry.grad_enabled}: return MISS")
        self.put("if epoch.value != entry._epoch and not environment_holds(): return MISS")
        tests = entry.guards.tests(lambda value: self.constant("held", value), "return MISS")
        for test in ["if not guards.quick(): return MISS"] if tests is None else tests:
            self.put(test)

    def aliases(self) -> None:
        entry = self.entry
        if entry.known and entry.traced.arg_leaves:
            known = self.constant("known", entry.known)
            self.put(f"if {' or '.join(f'id(a{n}) in {known}' for n in entry.traced.arg_leaves)}: return MISS")
        for n, first in entry.repeated:
            self.put(f"if a{n} is not a{first}: return MISS")
        for group in entry.distinct:
            same = f"a{group[0]} is a{group[1]}" if len(group) == 2 else \
                f"len({{{', '.join(f'id(a{n})' for n in group)}}}) != {len(group)}"
            self.put(f"if {same}: return MISS")
        if entry.exclusive and entry.traced.arg_leaves:
            self.put(f"if {' or '.join(f'id(a{n}._storage) in entry.state_storages' for n in entry.traced.arg_leaves)}: "
                     "return MISS")

    def pointer(self, n: int) -> str:
        self.put(f"s{n} = a{n}._storage")
        self.put(f"if a{n}._base is None and s{n}.pointer: p{n} = s{n}.pointer")
        matters = any(n == leaf for leaf, _ in self.entry.layouts)          # how it lies in memory
        layout = f" or not a{n}._data().flags.c_contiguous" if matters else ""
        self.put("else:")
        self.put(f"    if is_stale(a{n}){layout}: return MISS")
        self.put(f"    p{n}, h{n} = argument(a{n})")
        return f"p{n}"

    def scalar(self, scalar: Any, n: int) -> str:
        if scalar.owner is None:
            return f"float(a{scalar.key})"
        return f"float({self.constant('owner', scalar.owner)}[{scalar.key!r}])"

    def effects(self) -> None:
        traced = self.entry.traced
        self.put("entry.calls += 1")
        if traced.written_states:
            written = [traced.states[n] for n in traced.written_states if not isinstance(traced.states[n], Home)]
            self.put(f"for t in {self.constant('written', written)}: t._storage.version += 1")
        if traced.grads:
            self.put("if not is_settled: entry.attach_gradients(args)")

    def results(self) -> None:
        entry, made = self.entry, []
        for number, spec in enumerate(entry.traced.outputs):
            if spec.kind == "object":
                made.append(self.constant("value", spec.value))
                continue
            type = entry.traced.graph.outputs[spec.index].type
            layout = self.constant("layout", (type.dtype.storage, type.shape))
            wrapped = f"Tensor._make(Storage(None, b{spec.index}, {layout}), {self.constant('type', type)})"
            self.put(f"r{number} = {wrapped}")
            if number in entry.spent:
                spent = self.constant("spent", entry.spent[number])
                self.put(f"r{number}._requires_grad = True; r{number}._record = {spent}")
            elif spec.requires_grad:
                self.put(f"r{number}._requires_grad = True")
            made.append(f"r{number}")
        structure = entry.traced.structure
        if structure is None:
            self.put(f"return {made[0]}")
        else:
            body = "".join(f"{m}, " for m in made)
            self.put(f"return ({body})" if structure.kind is tuple else f"return [{body}]")
