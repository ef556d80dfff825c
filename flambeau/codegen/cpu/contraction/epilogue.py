"""The epilogue of a contraction, evaluated on vectors of accumulators along the innermost n dim.

A value that does not depend on the vector dim stays a scalar until it meets one that does. Loads and stores are
classified by their stride along the vector dim: 1 is a vector access, 0 a splat, anything else element by element.
"""

from __future__ import annotations

from collections.abc import Callable

import llvmlite.ir as ll

from flambeau.codegen.cpu.llvm.emitter import I64, Emitter, compute_type, constant, is_float, lanes_of
from flambeau.codegen.cpu.llvm.numbers import Int, number_of
from flambeau.codegen.cpu.scalar_ops import emit_constant, emit_instr
from flambeau.ir.kernel import Address, ContractionKernel, Instr, Store
from flambeau.ir.records import dataclass

__all__ = ["EpiloguePoint", "evaluate_epilogue", "fits_registers"]

# An epilogue this short is repeated on every accumulator register; a longer one runs in a loop over a spilled tile.
_REGISTER_INSTRS = 7
_REGISTER_ADDRESSES = 4
_REGISTER_OPS = frozenset({
    "const", "acc", "load", "cast", "add", "sub", "mul", "neg", "min", "max", "abs", "fma", "select",
    "eq", "ne", "lt", "le", "gt", "ge",
})  # fmt: skip


@dataclass(frozen=True)
class EpiloguePoint:
    """One vector of epilogue points. pointer: address of lane 0, dynamic terms left out; index: i64 value of a dim
    at lane 0; active: how many leading lanes exist."""

    acc: ll.Value
    lanes: int
    active: int | ll.Value
    vector_dim: int | None
    pointer: Callable[[Address], ll.Value]
    index: Callable[[int], ll.Value]


def fits_registers(kernel: ContractionKernel) -> bool:
    """Whether the epilogue is short and plain enough to be repeated on every accumulator register."""
    body, stores = kernel.epilogue.body, kernel.epilogue.stores
    loads = [i.attr for i in body if isinstance(i.attr, Address)]
    used = {*loads, *(store.address for store in stores)}
    inner = kernel.n[-1] if kernel.n else None
    return (
        len(body) <= _REGISTER_INSTRS
        and len(used) <= _REGISTER_ADDRESSES
        and all(i.op in _REGISTER_OPS for i in body)
        and all(a.guard is None and not a.dynamic for a in used)
        and all(inner is None or a.step_of(inner) in (0, 1) for a in loads)
        and all(s.combine == "set" and (inner is None or s.address.step_of(inner) == 1) for s in stores)
    )


def evaluate_epilogue(
    b: Emitter, kernel: ContractionKernel, point: EpiloguePoint, known: dict[object, ll.Value] | None = None
) -> None:
    """Emit the body and the stores for one vector of points. known: loads of read-only params already made in this
    block or one that dominates it, keyed by address and pointer; new ones are added."""
    values: dict[int, ll.Value] = {}
    dtype_of = {instr.id: instr.dtype for instr in kernel.epilogue.body}
    for instr in kernel.epilogue.body:
        operands = [values[i] for i in instr.operands]
        match instr.op:
            case "acc":
                values[instr.id] = b.round_to(point.acc, kernel.acc_dtype.name)
            case "index":
                assert isinstance(instr.attr, int), "an index names a dim"
                values[instr.id] = _index(b, point, instr.attr)
            case "load":
                values[instr.id] = _load(b, kernel, point, instr, values, {} if known is None else known)
            case "check":
                _check(b, point, instr, operands)
            case "const" if isinstance(instr.attr, str):
                values[instr.id] = b.runtime_constant(instr.attr, instr.dtype.name, 1)
            case "const":
                values[instr.id] = emit_constant(b, instr, 1)
            case _:
                operand_dtypes = [dtype_of[i] for i in instr.operands]
                values[instr.id] = emit_instr(b, instr, _same_lanes(b, operands), operand_dtypes)
    for store in kernel.epilogue.stores:
        _store(b, kernel, point, store, values)


def _check(b: Emitter, point: EpiloguePoint, instr: Instr, operands: list[ll.Value]) -> None:
    """Return the status if the condition is false in a lane that exists; detail is the first such lane's."""
    assert isinstance(instr.attr, int), "a check has a status"
    fine, detail = operands
    assert isinstance(point.active, int), "a general kernel has no checks with runtime columns"
    for lane in range(point.active if lanes_of(fine) > 1 else 1):
        b.fail_if(b.not_(b.lane(fine, lane)), instr.attr, b.lane(detail, min(lane, lanes_of(detail) - 1)))


def _same_lanes(b: Emitter, operands: list[ll.Value]) -> list[ll.Value]:
    lanes = max((lanes_of(v) for v in operands), default=1)
    return [b.splat(v, lanes) if lanes_of(v) == 1 else v for v in operands]


def _index(b: Emitter, point: EpiloguePoint, dim: int) -> ll.Value:
    first = point.index(dim)
    if dim != point.vector_dim or point.lanes == 1:
        return first
    return b.add(b.splat(first, point.lanes), b.iota(point.lanes))


def _stride(point: EpiloguePoint, address: Address) -> Int:
    """Elements from lane to lane, dynamic terms left out."""
    return 0 if point.vector_dim is None else number_of(address.step_of(point.vector_dim))


def _dynamic_offset(b: Emitter, address: Address, values: dict[int, ll.Value]) -> ll.Value | None:
    """Sum of the address's dynamic terms: scalar, vector, or None without any."""
    total: ll.Value | None = None
    for value, stride in address.dynamic:
        factor = b.splat(ll.Constant(I64, stride), lanes_of(values[value]))
        term = b.mul(values[value], factor)
        total = term if total is None else b.add(*_same_lanes(b, [total, term]))
    return total


def _lane_offsets(b: Emitter, point: EpiloguePoint, address: Address, dynamic: ll.Value | None) -> ll.Value:
    """Element offsets of all lanes from lane 0's pointer, an i64 vector."""
    steps = b.steps(point.lanes, _stride(point, address))
    return (
        steps
        if dynamic is None
        else b.add(b.splat(dynamic, point.lanes) if lanes_of(dynamic) == 1 else dynamic, steps)
    )


def _mask(b: Emitter, point: EpiloguePoint, guard: ll.Value | None) -> ll.Value | int:
    """Lanes to touch: those that exist and pass the guard."""
    if guard is None:
        return point.active
    mask = b.splat(guard, point.lanes) if lanes_of(guard) == 1 else guard
    if isinstance(point.active, int) and point.active >= point.lanes:
        return mask
    return b.and_(mask, b.tail_mask(point.lanes, point.active))


def _load(
    b: Emitter,
    kernel: ContractionKernel,
    point: EpiloguePoint,
    instr: Instr,
    values: dict[int, ll.Value],
    known: dict[object, ll.Value],
) -> ll.Value:
    address = instr.attr
    assert isinstance(address, Address), "a load has an address"
    pointer = point.pointer(address)
    key = (address, pointer)
    if key in known:
        return known[key]
    value = _load_new(b, point, address, pointer, instr.dtype.name, values)
    if kernel.params[address.buffer].role == "in" and not address.dynamic and address.guard is None:
        known[key] = value
    return value


def _load_new(
    b: Emitter,
    point: EpiloguePoint,
    address: Address,
    pointer: ll.Value,
    dtype: str,
    values: dict[int, ll.Value],
) -> ll.Value:
    dynamic = _dynamic_offset(b, address, values)
    guard = None if address.guard is None else values[address.guard]
    stride = _stride(point, address)
    varies = dynamic is not None and lanes_of(dynamic) > 1
    if dynamic is not None and not varies:
        pointer = b.element(pointer, dynamic, dtype)
    if point.lanes == 1 or (stride == 0 and not varies and (guard is None or lanes_of(guard) == 1)):
        return _load_scalar(b, pointer, dtype, guard)
    mask = _mask(b, point, guard)
    if stride == 1 and not varies:
        return b.load_vector(pointer, 0, dtype, point.lanes, mask)
    offsets = _lane_offsets(b, point, address, dynamic if varies else None)
    return b.gather(pointer, offsets, dtype, mask)


def _load_scalar(b: Emitter, pointer: ll.Value, dtype: str, guard: ll.Value | None) -> ll.Value:
    if guard is None:
        return b.load_scalar(pointer, 0, dtype)
    zero = constant(compute_type(dtype), 0)
    return b.branch_values(guard, lambda: [b.load_scalar(pointer, 0, dtype)], lambda: [zero])[0]


def _store(
    b: Emitter, kernel: ContractionKernel, point: EpiloguePoint, store: Store, values: dict[int, ll.Value]
) -> None:
    address, dtype = store.address, kernel.params[store.address.buffer].dtype.name
    value = values[store.value]
    value = b.splat(value, point.lanes) if lanes_of(value) == 1 else value
    dynamic = _dynamic_offset(b, address, values)
    guard = None if address.guard is None else values[address.guard]
    pointer = point.pointer(address)
    varies = dynamic is not None and lanes_of(dynamic) > 1
    if dynamic is not None and not varies:
        pointer = b.element(pointer, dynamic, dtype)
    if point.lanes > 1 and not varies and _stride(point, address) == 1:
        mask = _mask(b, point, guard)
        if store.combine == "add":
            value = _sum(b, b.load_vector(pointer, 0, dtype, point.lanes, mask), value, dtype)
        b.store_vector(value, pointer, 0, dtype, mask)
        return
    _store_lanes(b, point, store, value, pointer, dtype, dynamic if varies else None, guard)


def _store_lanes(
    b: Emitter,
    point: EpiloguePoint,
    store: Store,
    value: ll.Value,
    pointer: ll.Value,
    dtype: str,
    dynamic: ll.Value | None,
    guard: ll.Value | None,
) -> None:
    """One lane after another, in order, as several lanes may meet at one element."""
    offsets = _lane_offsets(b, point, store.address, dynamic) if point.lanes > 1 else dynamic

    def store_lane(lane: int) -> None:
        target = pointer if offsets is None else b.element(pointer, b.lane(offsets, lane), dtype)
        number = b.lane(value, lane)
        if store.combine == "add":
            number = _sum(b, b.load_scalar(target, 0, dtype), number, dtype)
        b.store_vector(number, target, 0, dtype)

    for lane in range(point.active if isinstance(point.active, int) else point.lanes):
        here = None if guard is None else b.lane(guard, lane) if lanes_of(guard) > 1 else guard
        if not isinstance(point.active, int):
            is_there = b.icmp_signed("<", b.index(lane), point.active)
            here = is_there if here is None else b.and_(here, is_there)
        if here is None:
            store_lane(lane)
            continue
        with b.if_then(here):
            store_lane(lane)


def _sum(b: Emitter, x: ll.Value, y: ll.Value, dtype: str) -> ll.Value:
    if is_float(dtype):
        return b.fadd(x, y)
    return b.or_(x, y) if dtype == "bool" else b.add(x, y)
