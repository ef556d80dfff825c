"""Kernel -> nothing, or a GraphError that names the kernel, the stage and the instruction that break a rule.

What is proved: every value is defined once and before its use, where the use can see it; operands have the number
and types their op wants; addresses without a guard or a gathered part stay inside their param for every index
(and for every number a runtime size may have); params are read and written as their role says; results are stored
whole, each element once, or filled and then updated by one parallel point each; the schedule names dims that exist.
Of runtime numbers other than sizes nothing is known: such kernels are verified with them bound (`numbers.bound`).
What is not: that guards and gathered indices are right, which the interpreter and the compiled kernels find out, and
that no parallel point reads what another stores.
"""
from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import field
from typing import NoReturn, cast

from flambeau.errors import GraphError
from flambeau.ir import dtypes
from flambeau.ir.dtypes import DType
from flambeau.ir.kernel.base import Kernel
from flambeau.ir.kernel.bounds import span_outside
from flambeau.ir.kernel.grammar import Address, Extent, Instr, Reduction, Stage, Store
from flambeau.ir.kernel.types import instr_mistake, reduction_mistake
from flambeau.ir.records import dataclass

__all__ = ["Checker", "verify_kernel"]


def verify_kernel(kernel: Kernel) -> None:
    """Raises GraphError, for example
    `kernel softmax, stage 1, %3 = sub: operand %1 is f64, not f32`."""
    checker = Checker(kernel)
    checker.check_params()
    if names := kernel.sizes[len({e for e in kernel.extents if isinstance(e, str)}):]:
        checker.fail(f"{', '.join(names)} may be any number: verify it with its runtime numbers bound")
    checker.check_extents()
    kernel.check(checker)
    checker.check_results()


@dataclass
class Checker:
    """What holds for every kernel, and for the stages of those that have scalar code; kinds add rules of their own."""

    kernel: Kernel
    place: str = ""                                                 # the stage at hand, for messages
    dtype_of: dict[int, DType] = field(default_factory=dict)        # of every value so far
    checks: set[int] = field(default_factory=set)                   # ids of checks, which have no value
    visible: set[int] = field(default_factory=set)                  # those that the place at hand may use
    stored: set[int] = field(default_factory=set)                   # params that earlier stages stored to
    reads_nothing: bool = False                                     # and stores nothing, having no points

    def fail(self, message: str, item: str = "") -> NoReturn:
        where = [f"kernel {self.kernel.name}", self.place, item]
        locations = self.kernel.locations
        raise GraphError(f"{', '.join(filter(None, where))}: {message}", where=locations[0] if locations else None)

    # Params and extents

    def check_params(self) -> None:
        for name, times in Counter(p.name for p in self.kernel.params).items():
            if times > 1:
                self.fail(f"{times} params are called {name!r}")
        for param in self.kernel.params:
            known = isinstance(param.elements, str) and param.elements in self.kernel.extents
            if not known and not self.is_count(param.elements):
                self.fail(f"its elements are {param.elements!r}, neither a number nor the size of a dim",
                          f"param {param.name}")

    def check_extents(self) -> None:
        for dim, extent in enumerate(self.kernel.extents):
            named = isinstance(extent, str) and extent and self.kernel.takes_sizes
            if not named and not self.is_count(extent):
                self.fail(f"the extent of dim %i{dim} is {extent!r}")

    def check_results(self) -> None:
        self.place = ""
        for number, param in enumerate(self.kernel.params):
            if param.role == "out" and number not in self.stored:
                self.fail("an out param that nothing stores to", f"param {param.name}")
            if param.role in ("out", "inout") and (mistake := self.kernel.storing_mistake(number)):
                self.fail(mistake, f"param {param.name}")

    # Stages

    def check_stage(self, stage: Stage, dims: set[int], acc_dtype: DType | None = None) -> None:
        before = set(self.visible)
        for instr in stage.body:
            self.check_instr(instr, dims, acc_dtype)
            self.define(instr.id, instr.dtype, f"%{instr.id} = {instr.op}")
            (self.checks if instr.op == "check" else self.visible).add(instr.id)
        for store in stage.stores:
            self.check_store(store, dims)
        for reduction in stage.reductions:
            self.check_reduction(reduction, stage)
            self.define(reduction.id, reduction.dtype, _reduction_name(reduction))
        if stage.dims:
            self.visible = before
        self.visible |= {r.id for r in stage.reductions}
        self.stored |= {store.address.buffer for store in stage.stores}

    def define(self, id: int, dtype: DType, item: str) -> None:
        if type(id) is not int or id < 0:
            self.fail(f"{id!r} is no number for a value", item)
        if id in self.dtype_of:
            self.fail("defined twice", item)
        self.dtype_of[id] = dtype

    def require_visible(self, values: Iterable[int], item: str) -> None:
        for value in values:
            if value not in self.dtype_of:
                self.fail(f"uses %{value}, which is not defined before it", item)
            if value in self.checks:
                self.fail(f"uses %{value}, a check, which has no value", item)
            if value not in self.visible:
                self.fail(f"uses %{value}, which only its own stage can see", item)

    def check_instr(self, instr: Instr, dims: set[int], acc_dtype: DType | None) -> None:
        item = f"%{instr.id} = {instr.op}"
        self.require_visible(instr.operands, item)
        operands = [(value, self.dtype_of[value]) for value in instr.operands]
        if mistake := instr_mistake(instr, operands):
            self.fail(mistake, item)
        if instr.op == "index" and instr.attr not in dims:
            self.fail(f"dim %i{instr.attr} is not walked here", item)
        if instr.op == "acc" and instr.dtype is not acc_dtype:
            self.fail("outside a contraction" if acc_dtype is None else f"the accumulator is {acc_dtype}", item)
        if instr.op == "affine":
            self.check_terms(cast(Address, instr.attr), dims, item)
        elif isinstance(instr.attr, Address):
            self.check_address(instr.attr, dims, item)
            self.check_read(instr.attr.buffer, item)
            if instr.dtype is not (stored := self.kernel.params[instr.attr.buffer]).dtype:
                self.fail(f"gives {instr.dtype}, but param {stored.name} is {stored.dtype}", item)

    def check_reduction(self, reduction: Reduction, stage: Stage) -> None:
        item = _reduction_name(reduction)
        self.require_visible([reduction.value], item)
        if mistake := reduction_mistake(reduction, self.dtype_of[reduction.value]):
            self.fail(mistake, item)
        if reduction.combiner in ("argmax", "argmin") and any(self.kernel.extents[d] == 0 for d in stage.dims):
            self.fail("over no points it has no value", item)

    # Memory

    def check_store(self, store: Store, dims: set[int]) -> None:
        item = f"{'store' if store.combine == 'set' else 'accumulate'} %{store.value}"
        self.require_visible([store.value], item)
        self.check_address(store.address, dims, item)
        param, dtype = self.kernel.params[store.address.buffer], self.dtype_of[store.value]
        if param.role == "in":
            self.fail(f"writes param {param.name}, which is an input", item)
        if dtype is not param.dtype:
            self.fail(f"param {param.name} is {param.dtype}, the value {dtype}", item)
        if store.combine == "add":
            self.check_read(store.address.buffer, item)
            if not (dtype.is_integer or dtype.is_floating_point):
                self.fail(f"{dtype} has no sum", item)

    def check_read(self, buffer: int, item: str) -> None:
        param = self.kernel.params[buffer]
        if param.role in ("out", "scratch") and buffer not in self.stored:
            article = "an" if param.role == "out" else "a"
            self.fail(f"reads param {param.name}, {article} {param.role} param that no earlier stage stored to", item)

    def check_address(self, address: Address, dims: set[int], item: str) -> None:
        if not 0 <= address.buffer < len(self.kernel.params):
            self.fail(f"addresses param {address.buffer}; there are {len(self.kernel.params)}", item)
        self.check_terms(address, dims, item)
        self.check_bounds(address, dims, item)

    def check_terms(self, address: Address, dims: set[int], item: str) -> None:
        walked = [dim for dim, _ in address.strides]
        for dim in walked:
            if dim not in dims:
                self.fail(f"its address uses dim %i{dim}, which is not walked here", item)
        if walked != sorted(set(walked)):
            self.fail(f"the dims of its address are not in order: {_dims(walked)}", item)
        if any(stride == 0 for _, stride in address.strides + address.dynamic):
            self.fail("its address has a stride of 0", item)
        self.check_address_values(address, item)

    def check_address_values(self, address: Address, item: str) -> None:
        wanted = [(value, dtypes.i64, "index") for value, _ in address.dynamic]
        if address.guard is not None:
            wanted.append((address.guard, dtypes.bool_, "guard"))
        for value, dtype, use in wanted:
            self.require_visible([value], item)
            if self.dtype_of[value] is not dtype:
                self.fail(f"its {use} %{value} is {self.dtype_of[value]}, not {dtype}", item)

    def check_bounds(self, address: Address, dims: Iterable[int], item: str) -> None:
        param = self.kernel.params[address.buffer]
        if address.guard is None and not address.dynamic and not self.reads_nothing:
            outside = span_outside(address, {d: self.kernel.extents[d] for d in dims}, param.elements)
            if outside:
                self.fail(f"reaches {outside} of param {param.name}, which has {param.elements}", item)

    # For the rules of a kind

    def require_positive(self, schedule: object, names: Sequence[str]) -> None:
        for name in names:
            value = getattr(schedule, name)
            if not self.is_count(value) or value < 1:
                self.fail(f"{name}={value!r} is not a positive int")

    @staticmethod
    def is_count(value: Extent) -> bool:
        return type(value) is int and value >= 0


def _reduction_name(reduction: Reduction) -> str:
    return f"%{reduction.id} = reduce {reduction.combiner}"


def _dims(dims: Iterable[int]) -> str:
    return ", ".join(f"%i{dim}" for dim in dims)
