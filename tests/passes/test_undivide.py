"""Addresses that divide an index and put it together again lose the division."""
from __future__ import annotations

from flambeau.ir import dtypes as dt
from flambeau.ir.kernel import Address, Instr, LoopKernel, Param, Stage, Store
from flambeau.passes.lowering.loops import AFFINE
from flambeau.passes.lowering.undivide import undivide


def divided(divisor: int, strides: tuple[int, int]) -> Stage:
    """load x[(i0*3 + 5) // divisor * strides[0] + (i0*3 + 5) % divisor * strides[1]]"""
    body = (Instr(0, AFFINE, dt.i64, (), Address(-1, 5, ((0, 3),))), Instr(1, "const", dt.i64, (), divisor),
            Instr(2, "floordiv", dt.i64, (0, 1)), Instr(3, "mod", dt.i64, (0, 1)),
            Instr(4, "load", dt.f32, (), Address(0, 7, (), ((2, strides[0]), (3, strides[1])))))
    return Stage((), body, (), (Store(Address(1, 0, ((0, 1),)), 4),))


def undivided(stage: Stage) -> Stage:
    params = (Param("x", dt.f32, 1 << 20, "in"), Param("y", dt.f32, 8, "out"))
    (found,) = undivide(LoopKernel("k", params, (8,), 1, (stage,))).stages
    return found


def test_a_quotient_and_its_remainder_make_the_index_again() -> None:
    stage = undivided(divided(64, (128, 2)))
    assert [i.op for i in stage.body] == ["load"]
    assert stage.body[0].attr == Address(0, 7 + 2 * 5, ((0, 6),))


def test_strides_that_do_not_fit_keep_the_division() -> None:
    stage = undivided(divided(64, (100, 2)))
    assert [i.op for i in stage.body] == ["affine", "const", "floordiv", "mod", "load"]


def test_what_other_instructions_read_stays() -> None:
    stage = divided(64, (64, 1))
    body = (*stage.body, Instr(5, "cast", dt.f32, (3,)), Instr(6, "add", dt.f32, (4, 5)))
    found = undivided(Stage((), body, (), (Store(Address(1, 0, ((0, 1),)), 6),)))
    assert [i.op for i in found.body] == ["affine", "const", "mod", "load", "cast", "add"]
    assert found.body[3].attr == Address(0, 7 + 5, ((0, 3),))
