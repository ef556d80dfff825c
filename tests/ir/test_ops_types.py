"""Type rules of ops: symbolic sizes, and errors that say what was asked, what was found, and what to do."""
from __future__ import annotations

import pytest

from flambeau.errors import TypeInferenceError
from flambeau.ir import dtypes, ops
from flambeau.ir.dims import Dim
from flambeau.ir.op import Op
from flambeau.ir.types import TensorType, parse_type

B, T = Dim("B"), Dim("T")
NO_PAD = ((0, 0), (0, 0))


def inferred(op: Op, *operands: str) -> str:
    return ", ".join(map(str, op.infer(*map(parse_type, operands))))


@pytest.mark.parametrize(("op", "operands", "result"), [
    (ops.add, ["f32[B,3]", "f32[B,3]"], "f32[B,3]"),
    (ops.mul, ["f32[]", "f32[B]"], "f32[B]"),
    (ops.lt, ["i64[B]", "i64[]"], "bool[B]"),
    (ops.where, ["bool[B]", "f32[]", "f32[B]"], "f32[B]"),
    (ops.Cast(dtypes.bf16), ["f32[B]"], "bf16[B]"),
    (ops.Broadcast((B, 4), (1,)), ["f32[4]"], "f32[B,4]"),
    (ops.Broadcast((B, 4), (0, 1)), ["f32[1,4]"], "f32[B,4]"),
    (ops.Reshape((B * T, 4)), ["f32[B,T,4]"], "f32[B*T,4]"),
    (ops.Reshape((B, T * 4)), ["f32[B,T,4]"], "f32[B,4*T]"),
    (ops.Permute((1, 0)), ["f32[B,4]"], "f32[4,B]"),
    (ops.Slice((0, 1), (B, 3), (1, 1)), ["f32[B,4]"], "f32[B,2]"),
    (ops.Pad((1, 0), (0, 2), (0, 0)), ["f32[B,4]"], "f32[B+1,6]"),
    (ops.Flip((0,)), ["f32[B]"], "f32[B]"),
    (ops.Concat(0), ["f32[B]", "f32[3]"], "f32[B+3]"),
    (ops.Sum((0,)), ["f32[B,4]"], "f32[4]"),
    (ops.AMax((1,)), ["f32[B,4]"], "f32[B]"),
    (ops.ArgMax(1), ["f32[B,4]"], "i64[B]"),
    (ops.Softmax(1), ["f32[B,4]"], "f32[B,4]"),
    (ops.Normalize((0,), 1e-5), ["bf16[B,4]"], "bf16[B,4], f32[4], f32[4]"),
    (ops.matmul, ["f32[B,4]", "f32[4,T]"], "f32[B,T]"),
    (ops.matmul, ["f32[B,T,4]", "f32[B,4,T]"], "f32[B,T,T]"),
    (ops.Take(0), ["f32[5,3]", "i64[B,T]"], "f32[B,T,3]"),
    (ops.ScatterAdd(5, 0), ["i64[B]", "f32[B,3]"], "f32[5,3]"),
    (ops.TakeAlong(1), ["f32[B,5]", "i64[B,1]"], "f32[B,1]"),
    (ops.Conv2d((1, 1), ((1, 1), (1, 1)), (1, 1), 1, "NCHW"), ["f32[B,3,8,8]", "f32[4,3,3,3]"], "f32[B,4,8,8]"),
    (ops.MaxPool2d((2, 2), (2, 2), NO_PAD, (1, 1), "NHWC", False), ["f32[B,6,4,3]"], "f32[B,3,2,3], i32[B,3,2,3]"),
    (ops.AvgPool2d((3, 3), (2, 2), NO_PAD, True, True, None, "NCHW"), ["f32[B,1,6,6]"], "f32[B,1,3,3]"),
], ids=str)
def test_symbolic_sizes_pass_through(op: Op, operands: list[str], result: str) -> None:
    assert inferred(op, *operands) == result


@pytest.mark.parametrize(("op", "operands", "message"), [
    (ops.add, ["f32[2,3]", "f32[3]"], r"add: shapes differ: lhs f32\[2,3\], rhs f32\[3\][\s\S]*hint: broadcast"),
    (ops.add, ["f32[B]", "f32[T]"], "shapes differ"),
    (ops.add, ["f32[2]", "f64[2]"], r"one dtype, found f32\[2\], f64\[2\][\s\S]*cast"),
    (ops.add, ["bool[2]", "bool[2]"], r"add: takes number operands, found bool\[2\]"),
    (ops.exp, ["i64[2]"], r"exp: takes float operands, found i64\[2\]"),
    (ops.div, ["i64[2]", "i64[2]"], "div: takes float"),
    (ops.where, ["f32[2]", "f32[2]", "f32[2]"], "takes a bool"),
    (ops.matmul, ["f32[8,4]", "f32[5,2]"],
     r"matmul: contracting dims differ: lhs f32\[8,4\] dim 1 is 4, rhs f32\[5,2\] dim 0 is 5"),
    (ops.matmul, ["f32[8,4]", "f32[2,4]"], r"hint: did you mean to transpose rhs"),
    (ops.matmul, ["f32[4]", "f32[4]"], "at least 2"),
    (ops.matmul, ["f32[2,3,4]", "f32[5,4,2]"], "batch dims differ"),
    (ops.Broadcast((2, 3), (0,)), ["f32[3]"], r"dim 0 of f32\[3\] is 3, dim 0 of f32\[2,3\] is 2"),
    (ops.Broadcast((2, 3), (1, 0)), ["f32[3,2]"], "not increasing"),
    (ops.Reshape((5,)), ["f32[2,3]"], r"f32\[2,3\] has 6 elements, f32\[5\] has 5"),
    (ops.Reshape((B,)), ["f32[T]"], "elements"),
    (ops.Permute((0, 0)), ["f32[2,3]"], "not an order"),
    (ops.Slice((0,), (4,), (1,)), ["f32[3]"], r"0:4:1 does not lie in dim 0 of f32\[3\]"),
    (ops.Slice((1,), (4,), (1,)), ["f32[B]"], "whether the size B is at least 4 is not known"),
    (ops.Pad((-1,), (0,), (0,)), ["f32[3]"], "none may be negative"),
    (ops.Flip((2,)), ["f32[3]"], "not increasing dims"),
    (ops.Concat(1), ["f32[2,3]", "f32[3,3]"], "may differ in dim 1 only"),
    (ops.UpdateSlice((2,), (1,)), ["f32[3]", "f32[2]"], "2 elements from 2 by 1 do not fit in dim 0"),
    (ops.Sum((1, 0)), ["f32[2,3]"], "not increasing dims"),
    (ops.AMax((0,)), ["f32[0,3]"], "no elements"),
    (ops.Any((0,)), ["f32[3]"], "takes bool"),
    (ops.Softmax(2), ["f32[2,3]"], "dim 2 is not a dim"),
    (ops.Softmax(0), ["i64[2]"], "takes float"),
    (ops.Take(0), ["f32[5]", "f32[2]"], "integer indices"),
    (ops.TakeAlong(1), ["f32[3,5]", "i64[2,5]"], "may differ in dim 1 only"),
    (ops.ScatterAdd(3, 0), ["i64[4]", "f32[5]"], "do not hold the indices' shape"),
    (ops.RandomBits((2,), dtypes.u32), ["i32[2]"], r"as i64\[2\], found i32\[2\]"),
    (ops.Conv2d((1, 1), NO_PAD, (1, 1), 1, "NCHW"), ["f32[1,3,8,8]", "f32[4,2,3,3]"], "x has 3 channels, w takes 2"),
    (ops.Conv2d((1, 1), NO_PAD, (1, 1), 2, "NCHW"), ["f32[1,3,8,8]", "f32[4,2,3,3]"], "groups 2 does not divide"),
    (ops.Conv2d((1, 1), NO_PAD, (1, 1), 1, "NCHW"), ["f32[1,3,2,8]", "f32[4,3,3,3]"], "larger than"),
    (ops.Conv3d((1, 1, 1), (*NO_PAD, (0, 0)), (1, 1, 1), 1, "NCHW"), ["f32[1,3,8,8,8]", "f32[4,3,3,3,3]"],
     "neither 'NCDHW' nor 'NDHWC'"),
    (ops.Conv3d((1, 1), NO_PAD, (1, 1, 1), 1, "NCDHW"), ["f32[1,3,8,8,8]", "f32[4,3,3,3,3]"], "not a triple"),
    (ops.Conv2d((1, 1), NO_PAD, (1, 1), 1, "NCWH"), ["f32[1,3,8,8]", "f32[4,3,3,3]"], "neither 'NCHW' nor 'NHWC'"),
    (ops.Conv2d((1, 1), NO_PAD, (1, 1), 1, "NCHW"), ["f32[1,3,H,8]", "f32[4,3,3,3]"], r"is at least H\+-1 is not known"),
    (ops.MaxPool2d((2, 2), (2, 2), ((2, 2), (0, 0)), (1, 1), "NCHW", False), ["f32[1,1,4,4]"], "without an element"),
    (ops.MaxPool2d((2, 2), (2, 2), (1, 1), (1, 1), "NCHW", False), ["f32[1,1,4,4]"],  # type: ignore[arg-type]
     r"is not \(\(top, bottom\), \(left, right\)\)"),
    (ops.AvgPool2d((2, 2), (2, 2), NO_PAD, False, True, 0, "NCHW"), ["f32[1,1,4,4]"], "divisor_override is 0"),
], ids=str)
def test_wrong_operands_are_explained(op: Op, operands: list[str], message: str) -> None:
    with pytest.raises(TypeInferenceError, match=message):
        inferred(op, *operands)


def test_rank_0_operand_may_lie_on_another_device() -> None:
    scalar, tensor = TensorType((), dtypes.f32), TensorType((2,), dtypes.f32, "cuda")
    assert ops.mul.infer(scalar, tensor) == (tensor,)


def test_literals_are_equal_bit_by_bit() -> None:
    literal = ops.literal
    assert literal(0.0, dtypes.f32) != literal(-0.0, dtypes.f32)
    assert literal(float("nan"), dtypes.f32) == literal(float("nan"), dtypes.f32)
    assert literal(1, dtypes.i64) != literal(True, dtypes.bool_)
    assert literal([1.0], dtypes.f32) != literal(1.0, dtypes.f32)
    assert hash(literal([1, 2], dtypes.i32)) == hash(literal([1, 2], dtypes.i32))


def test_literal_out_of_range_is_an_error() -> None:
    with pytest.raises(TypeInferenceError, match="outside the range of i8"):
        ops.literal(128, dtypes.i8)


def test_literal_does_not_follow_its_source() -> None:
    source = ops.literal([1.0, 2.0], dtypes.f32).array.copy()
    kept = ops.literal(source, dtypes.f32)
    source[0] = 9.0
    assert kept.array[0] == 1.0
    with pytest.raises(ValueError, match="read-only"):
        kept.array[0] = 5.0
