"""Memory: where blocks go, what may share, which calls can fail."""
from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from flambeau.ir import dtypes as dt
from flambeau.ir.builder import Builder
from flambeau.ir.graph import Graph, Value
from flambeau.ir.kernel import Address, Instr, LoopKernel, Param, Reduction, Stage, Store
from flambeau.ir.types import parse_type
from flambeau.passes.lowering.lower import Call, copy_call
from flambeau.passes.memory.arena import ALIGNMENT, Block, _place, lay_out
from flambeau.passes.memory.checks import check_call, failing_calls
from flambeau.passes.memory.state_writes import in_place_writes


def value(graph: Graph, type: str, kind: str = "arg") -> Value:
    return graph.add_input(parse_type(type), f"x{len(graph)}", kind)                # type: ignore[arg-type]


# -- placing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_blocks_alive_together_do_not_overlap(seed: int) -> None:
    rng = random.Random(seed)
    blocks = [Block(ALIGNMENT * rng.randint(1, 9), first, first + rng.randint(0, 9))
              for first in (rng.randint(0, 30) for _ in range(60))]
    total = _place(blocks)
    for i, a in enumerate(blocks):
        assert 0 <= a.offset <= total - a.nbytes and a.offset % ALIGNMENT == 0
        for b in blocks[i + 1:]:
            apart = a.last < b.first or b.last < a.first
            assert apart or a.offset + a.nbytes <= b.offset or b.offset + b.nbytes <= a.offset
    alive = max(sum(b.nbytes for b in blocks if b.first <= t <= b.last) for t in range(45))
    assert alive <= total <= 2 * alive


def test_a_chain_of_copies_needs_one_block() -> None:
    graph = Graph()
    values = [value(graph, "f32[100]") for _ in range(6)]
    calls = [copy_call(a, b) for a, b in zip(values, values[1:], strict=False)]
    arena = lay_out(calls, [()] * 5, {values[0]: None})
    assert arena.nbytes == 448 and arena.reused_bytes == 4 * 400 and arena.unshared_bytes == 5 * 448


def test_scratch_lies_beside_what_its_call_reads_and_writes() -> None:
    graph = Graph()
    a, b, c = (value(graph, "f32[16]") for _ in range(3))
    arena = lay_out([copy_call(a, b), copy_call(b, c)], [(), (64, 128)], {a: None})
    offsets = sorted((block.offset, block.nbytes) for block in [arena.block_of[b], *arena.scratch[1]])
    assert all(start + size <= after for (start, size), (after, _) in zip(offsets, offsets[1:], strict=False))


# -- sharing ----------------------------------------------------------------------------------------------------------

ROW = Address(0, 0, ((0, 4), (1, 1)))           # x[4,4] walked by rows; i1 is the inner dim


def call(stages: Sequence[Stage], reads: int = 16, writes: int = 16) -> tuple[Call, Value, Value]:
    graph = Graph()
    x, y = value(graph, f"f32[{reads}]"), value(graph, f"f32[{writes}]")
    params = (Param("x", dt.f32, reads, "in"), Param("y", dt.f32, writes, "out"))
    return Call(LoopKernel("k", params, (4, 4), 1, tuple(stages)), (x, y)), x, y


def may_share(call: Call, read: Value, written: Value) -> bool:
    return call.may_share(read, written)


def stored(at: Address, load: Address = ROW) -> Stage:
    target = Address(1, at.offset, at.strides, at.dynamic, at.guard)
    return Stage((1,), (Instr(0, "load", dt.f32, (), load),), (), (Store(target, 0),))


def test_a_result_may_lie_where_its_operand_was_read() -> None:
    assert may_share(*call([stored(ROW)]))


def test_a_transposed_result_may_not() -> None:
    assert not may_share(*call([stored(Address(0, 0, ((0, 1), (1, 4))))]))


def test_a_neighbour_that_is_read_forbids_sharing() -> None:
    stage = stored(ROW)
    other = Instr(1, "load", dt.f32, (), Address(0, 15, ((0, -4), (1, -1))))
    assert not may_share(*call([Stage((1,), (*stage.body, other), (), stage.stores)]))


def test_what_a_later_stage_reads_again_is_not_overwritten() -> None:
    again = Stage((1,), (Instr(5, "load", dt.f32, (), ROW),), (Reduction(6, "sum", 5, dt.f32),))
    assert not may_share(*call([stored(ROW), again]))
    before = Stage((1,), (Instr(5, "load", dt.f32, (), ROW),), (Reduction(6, "sum", 5, dt.f32),))
    assert may_share(*call([before, stored(ROW)]))


def test_a_result_of_another_size_does_not_share() -> None:
    assert not may_share(*call([stored(ROW)], writes=20))


def test_a_scattered_store_does_not_share() -> None:
    stage = stored(ROW)
    added = Stage((1,), stage.body, (), (Store(stage.stores[0].address, 0, "add"),))
    assert not may_share(*call([added]))


# -- what may fail ----------------------------------------------------------------------------------------------------


def test_indices_are_checked_once() -> None:
    graph = Graph()
    indices, others = value(graph, "i64[7]"), value(graph, "i64[7]")
    a, b = value(graph, "f32[4]"), value(graph, "f32[4]")
    first = check_call(indices, 10, copy_call(a, b))
    wider, narrower = check_call(indices, 12, first), check_call(indices, 9, first)
    assert failing_calls([first, wider, narrower, check_call(others, 10, first), narrower]) == [0, 2, 3]


def test_writes_wait_for_calls_that_may_fail() -> None:
    graph = Graph()
    w, x, indices = value(graph, "f32[4]", "state"), value(graph, "f32[4]"), value(graph, "i64[7]")
    made = Builder(graph).neg(x)
    graph.writes[w] = made
    calls = [copy_call(x, made), check_call(indices, 10, copy_call(x, made))]
    writes = in_place_writes(calls, graph.outputs, graph.writes)
    assert writes.direct == {w: made} and writes.order == [1, 0]
