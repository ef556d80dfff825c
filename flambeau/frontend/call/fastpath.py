"""A call specialised to one signature: checks and the native call as one generated Python function.

For functions whose arguments are all positional leaves and that have no effects beyond captured state. It returns
MISS whenever anything is not as it was, and the general path (`Entry.matches`, `Entry.run`) decides.
"""
from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any

import numpy as np

from flambeau.frontend.active import active
from flambeau.frontend.call.bindings import Bindings
from flambeau.frontend.call.leaf_guard import LeafGuard
from flambeau.frontend.call.memory import memory_at, memory_of
from flambeau.frontend.epoch import epoch, grad_epoch
from flambeau.frontend.scalars import INTEGER_LIMIT
from flambeau.frontend.tape.autograd import SpentRecord, grad_mode
from flambeau.frontend.tape.dispatch import is_stale
from flambeau.frontend.tensor.storage import DeviceStorage, Storage
from flambeau.frontend.tensor.strides import is_row_major
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.frontend.trace.call_plan import Argument, CallPlan, Fixed, Found, Given, Made, Number
from flambeau.frontend.trace.gradients import Home
from flambeau.frontend.trace.guards.values import MISSING
from flambeau.frontend.trace.guards.watch import GuardSet
from flambeau.runtime.buffer import allocator

MISS = object()
FastCall = Callable[[tuple[Any, ...]], Any]         # takes the positional arguments; gives the result, or MISS


def why_general(plan: CallPlan, spent: Mapping[int, SpentRecord], device: str = "cpu") -> str | None:
    """Why the calls of a plan can't be generated, in words; None where they can."""
    structure, result = plan.structure, plan.result_structure
    assert structure is not None and len(structure.children) == 2, "arguments flatten as (args, kwargs)"
    args, kwargs = structure.children
    if args is None or kwargs is None or kwargs.children or any(c is not None for c in args.children):
        return "its arguments are named, or nest"
    if result is not None and (result.kind not in (tuple, list) or any(c is not None for c in result.children)):
        return "its result nests, or is of a class of its own"
    if any(not isinstance(part, (Made, Fixed)) or isinstance(part, Made) and (
            part.gradient is not None or part.cls is not Tensor)
           for part in plan.results):
        return "its result is more than new tensors and fixed objects"
    if device.startswith("cuda:") and any(type.device == "cpu" for type in plan.outputs):
        return "a part of its result lies on the CPU"
    if plan.segments and not spent:
        return "its result requires grad"
    if plan.handed or plan.slots:
        return "it leaves tensors in Python's objects"
    if plan.flags:
        return "it changes requires_grad"
    if any(isinstance(write.value, (Given, Found)) for write in plan.gradients):
        return "it leaves a gradient that it was given"
    for argument in plan.arguments:
        if argument.is_written or argument.gradient is not None or argument.has_no_grad or argument.hooks is not None:
            return "it changes an argument, its gradient, or runs its hooks"
        if argument.strides is not None and not is_row_major(plan.leaves[argument.leaf].expected.static_shape,
                                                             argument.strides):
            return "an argument does not lie in row-major order"
    return None


class FastCallWriter:
    """Generates the source of one specialised call. What it compares with are constants out of the plan and the guards;
    what changes from call to call is in `bound`."""

    def __init__(self, plan: CallPlan, bound: Bindings, leaf_guards: Sequence[LeafGuard], guards: GuardSet,
                 known: Set[int], spent: Mapping[int, SpentRecord], environment_holds: Callable[[], bool],
                 device: str = "cpu"):
        self.plan, self.leaf_guards, self.guards, self.known, self.spent = plan, leaf_guards, guards, known, spent
        self.bound = bound
        self.names: dict[str, Any] = {
            "MISS": MISS, "Tensor": Tensor, "Storage": Storage, "active": active, "grad_mode": grad_mode, "epoch": epoch,
            "grad_epoch": grad_epoch, "allocate": allocator(), "memory_of": memory_of, "is_stale": is_stale, "bound": bound,
            "environment_holds": environment_holds, "guards": guards, "MISSING": MISSING, "is_": operator.is_,
            "version_of": operator.attrgetter("version")}
        self.is_elsewhere = device.startswith("cuda:")
        if self.is_elsewhere:
            memory = memory_at(device)
            self.names |= {"DeviceStorage": DeviceStorage, "allocate": memory.allocate, "memory_of": memory.address_of}
        self.counts: Counter[str] = Counter()
        self.lines: list[str] = []

    def compiled(self) -> FastCall:
        """The call."""
        exec(compile(self.source(), f"<flambeau call of {self.plan.name}>", "exec"), self.names)
        call: FastCall = self.names["call"]
        return call

    def source(self) -> str:
        """The call as Python."""
        self.write()
        return "def call(args):\n" + "".join(f"    {line}\n" for line in self.lines)

    def write(self) -> None:
        plan = self.plan
        self.put(f"if len(args) != {len(plan.leaves)} or active.tracer is not None: return MISS")
        if plan.leaves:
            self.put(f"{', '.join(f'a{n}' for n in range(len(plan.leaves)))}, = args")
        for n in range(len(plan.leaves)):
            self.check_leaf(n)
        self.check_environment()
        if plan.reads:
            self.put("if bound.reads_at != grad_epoch.value and not bound.gradients_hold(): return MISS")
        self.aliases()
        pointers = [self.pointer(argument) for argument in plan.arguments]
        numbers = [self.number(number) for number in plan.numbers]
        for n, type in enumerate(plan.outputs):
            self.put(f"b{n} = allocate({type.nbytes})")
        outs = [f"b{n}.ptr" for n in range(len(plan.outputs))]
        if plan.gradients:
            self.put("is_settled = bound.homes_at == grad_epoch.value")
            self.put("if not is_settled: bound.ready_gradients()")
        if self.bound.prepares:
            self.put("if list(map(version_of, bound.read_once)) != bound.versions: bound.prepare()")
        self.put("run = bound.run")
        self.put(f"run({', '.join(pointers + numbers + outs)})")
        self.effects()
        self.results()

    def put(self, line: str) -> None:
        self.lines.append(line)

    def constant(self, prefix: str, value: Any) -> str:
        name = f"{prefix}{self.counts[prefix]}"
        self.counts[prefix] += 1
        self.names[name] = value
        return name

    def check_leaf(self, n: int) -> None:
        guard = self.leaf_guards[n]
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
        if any(number.owner is not None and number.is_guarded for number in self.plan.numbers):
            self.put("if not environment_holds(): return MISS")
            return
        mode = self.plan.mode if isinstance(self.plan.mode, bool) else self.constant("mode", self.plan.mode)
        self.put(f"if grad_mode.mode is not {mode}: return MISS")
        generation = self.guards.generation             # what follows compares with what the guards held then
        self.put(f"if epoch.value != bound.epoch and not (environment_holds() and guards.generation == {generation}): "
                 "return MISS")
        tests = self.guards.tests(lambda value: self.constant("held", value), "return MISS")
        for test in ["if not guards.quick(): return MISS"] if tests is None else tests:
            self.put(test)

    def aliases(self) -> None:
        tensors = [f"a{argument.leaf}" for argument in self.plan.arguments]
        if self.known and tensors:
            known = self.constant("known", self.known)
            self.put(f"if {' or '.join(f'id({a}) in {known}' for a in tensors)}: return MISS")
        for n, leaf in enumerate(self.plan.leaves):
            if leaf.repeats is not None:
                self.put(f"if a{n} is not a{leaf.repeats}: return MISS")
        for group in self.plan.distinct:
            same = f"a{group[0]} is a{group[1]}" if len(group) == 2 else \
                f"len({{{', '.join(f'id(a{n})' for n in group)}}}) != {len(group)}"
            self.put(f"if {same}: return MISS")
        if self.plan.writes_in_place and tensors:
            self.put(f"if {' or '.join(f'id({a}._storage) in bound.storages' for a in tensors)}: return MISS")

    def pointer(self, argument: Argument) -> str:
        n = argument.leaf
        self.put(f"s{n} = a{n}._storage")
        self.put(f"if a{n}._base is None and s{n}.pointer: p{n} = s{n}.pointer")
        is_contiguous = f"a{n}.is_contiguous()" if self.is_elsewhere else f"a{n}._data().flags.c_contiguous"
        layout = "" if argument.strides is None else f" or not {is_contiguous}"
        self.put("else:")
        self.put(f"    if is_stale(a{n}){layout}: return MISS")
        self.put(f"    p{n}, h{n} = memory_of(a{n})")
        return f"p{n}"

    def number(self, number: Number) -> str:
        if number.owner is None:
            return f"float(a{number.key})"
        return f"float({self.constant('owner', number.owner)}[{number.key!r}])"

    def effects(self) -> None:
        self.put("bound.calls += 1")
        if any(state.is_written for state in self.plan.states):
            written = [state.memory for state in self.plan.states if state.is_written and type(state.memory) is not Home]
            self.put(f"for t in {self.constant('written', written)}: t._storage.version += 1")
        if self.plan.gradients:
            self.put("if not is_settled: bound.attach_gradients(args)")

    def results(self) -> None:
        made = []
        for position, result in enumerate(self.plan.results):
            if isinstance(result, Fixed):
                made.append(self.constant("value", result.value))
                continue
            assert isinstance(result, Made), f"{result} in a specialised call"
            if self.is_elsewhere:
                type = self.constant("type", result.type)
                self.put(f"r{position} = Tensor._make(DeviceStorage(b{result.output}, {type}), {type})")
            else:
                layout = self.constant("layout", (result.type.dtype.storage, result.type.shape))
                storage = f"Storage(None, b{result.output}, {layout})"
                self.put(f"r{position} = Tensor._make({storage}, {self.constant('type', result.type)})")
            if position in self.spent:
                spent = self.constant("spent", self.spent[position])
                self.put(f"r{position}._requires_grad = True; r{position}._record = {spent}")
            elif result.requires_grad:
                self.put(f"r{position}._requires_grad = True")
            made.append(f"r{position}")
        structure = self.plan.result_structure
        if structure is None:
            self.put(f"return {made[0]}")
        else:
            body = "".join(f"{m}, " for m in made)
            self.put(f"return ({body})" if structure.kind is tuple else f"return [{body}]")


__all__ = ["MISS", "FastCall", "FastCallWriter", "why_general"]
