"""Values by hand: the corners where a plausible implementation would differ."""
from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from op_harness import ArrayContext, gradients, new_graph

from flambeau.errors import KernelError
from flambeau.ir import dtypes, ops
from flambeau.ir.builder import Builder
from flambeau.ir.graph import Graph
from flambeau.ir.graph.interpreter import interpret
from flambeau.ir.index_maps import Index
from flambeau.ir.op import Op
from flambeau.ir.ops.views import divmod_index, reshape_groups
from flambeau.ir.philox import philox_4x32
from flambeau.ir.types import TensorType, parse_type

NAN, INF = np.nan, np.inf


def value(op: Op, *operands: object) -> np.ndarray:
    return np.asarray(op.evaluate(*map(np.asarray, operands)))


def gradient(op: Op, *operands: object, weight: object = 1.0) -> list[np.ndarray]:
    """Of sum(weight * op(operands)), in f64."""
    arrays = [np.asarray(x, np.float64) for x in operands]
    b, inputs = new_graph([TensorType(a.shape, dtypes.f64) for a in arrays])
    y = b.emit(op, *inputs)
    weights = b.constant(np.broadcast_to(np.asarray(weight, np.float64), y.shape), dtypes.f64)
    b.graph.outputs = gradients(b, b.sum(b.mul(y, weights), range(len(y.shape))), inputs)
    return list(interpret(b.graph, arrays)[0])


def test_sign_of_nan_is_zero() -> None:
    assert_array_equal(value(ops.sign, [NAN, -INF, -0.0, 2.0]), [0, -1, 0, 1])


def test_relu_keeps_nan() -> None:
    assert_array_equal(value(ops.relu, [NAN, -1.0, -0.0, 3.0]), [NAN, 0, 0, 3])


def test_round_takes_halves_to_even() -> None:
    assert_array_equal(value(ops.round, [0.5, 1.5, 2.5, -0.5]), [0, 2, 2, -0.0])


def test_floor_divide_and_remainder_round_down_fmod_cuts() -> None:
    x, y = np.array([7, -7, 7, -7]), np.array([2, 2, -2, -2])
    assert_array_equal(value(ops.floor_divide, x, y), [3, -4, -4, 3])
    assert_array_equal(value(ops.remainder, x, y), [1, 1, -1, -1])
    assert_array_equal(value(ops.fmod, x, y), [1, -1, 1, -1])


@pytest.mark.parametrize("op", [ops.floor_divide, ops.trunc_divide, ops.remainder, ops.fmod], ids=str)
def test_integer_division_by_zero_is_an_error(op: Op) -> None:
    with pytest.raises(KernelError, match="division by zero") as caught:
        value(op, np.array([1, 2]), np.array([1, 0]))
    assert caught.value.status == 2


def test_integer_power_with_a_negative_exponent_is_the_truncated_reciprocal() -> None:
    assert_array_equal(value(ops.pow, np.array([2, 1, -1, -1, 3]), np.array([-1, -5, -2, -3, 2])), [0, 1, 1, -1, 9])


def test_cast_saturates_floats_and_wraps_integers() -> None:
    floats = np.array([NAN, INF, -INF, 300.7, -1.9], np.float32)
    assert_array_equal(value(ops.Cast(dtypes.u8), floats), [0, 255, 0, 255, 0])
    assert_array_equal(value(ops.Cast(dtypes.i64), floats), [0, 2**63 - 1, -(2**63), 300, -1])
    assert_array_equal(value(ops.Cast(dtypes.i8), np.array([130, -129])), [-126, 127])
    assert_array_equal(value(ops.Cast(dtypes.bool_), floats), [True] * 5)


def test_maximum_halves_the_cotangent_on_a_tie() -> None:
    x, y = gradient(ops.maximum, [1.0, 2.0, 3.0], [1.0, 5.0, 0.0])
    assert_array_equal(x, [0.5, 0, 1])
    assert_array_equal(y, [0.5, 1, 0])


def test_amax_shares_the_cotangent_among_ties() -> None:
    assert_array_equal(gradient(ops.AMax((0,)), [1.0, 4.0, 4.0, 2.0])[0], [0, 0.5, 0.5, 0])


def test_power_has_finite_derivatives_at_zero() -> None:
    x, y = gradient(ops.pow, [0.0, 0.0, 2.0], [0.0, 2.0, 0.0])
    assert_array_equal(x, [0, 0, 0])
    assert_array_equal(y, [0, 0, np.log(2.0)])


def test_where_does_not_mix_nan_into_the_branch_not_taken() -> None:
    b, (x,) = new_graph([parse_type("f64[2]")])
    positive = b.gt(x, b.scalar(0.0, x))
    y = b.where(positive, b.log(b.where(positive, x, b.scalar(1.0, x))), b.scalar(0.0, x))
    b.graph.outputs = gradients(b, b.sum(y, (0,)), [x])
    assert_array_equal(interpret(b.graph, [np.array([-1.0, 2.0])])[0][0], [0.0, 0.5])


def test_product_derivative_is_right_beside_zeros() -> None:
    assert_array_equal(gradient(ops.Prod((0,)), [2.0, 0.0, 3.0])[0], [0, 6, 0])
    assert_array_equal(gradient(ops.Prod((0,)), [0.0, 0.0, 3.0])[0], [0, 0, 0])
    assert_array_equal(gradient(ops.Prod((0, 1)), [[2.0, 3.0], [4.0, 5.0]])[0], [[60, 40], [30, 24]])


def test_rank_0_operand_collects_the_whole_cotangent() -> None:
    x, y = gradient(ops.mul, 3.0, [1.0, 2.0, 4.0])
    assert x == 7.0
    assert_array_equal(y, [3, 3, 3])


def test_sum_of_empty_dim_is_zero_and_product_one() -> None:
    assert_array_equal(value(ops.Sum((0,)), np.zeros((0, 2))), [0, 0])
    assert_array_equal(value(ops.Prod((0,)), np.zeros((0, 2))), [1, 1])


def test_argmax_takes_the_first_and_prefers_nan() -> None:
    assert_array_equal(value(ops.ArgMax(1), [[1.0, 5, 5], [2, NAN, NAN]]), [1, 1])
    assert_array_equal(value(ops.ArgMin(1), [[1.0, -5, -5], [2, NAN, -9]]), [1, 1])


def test_slice_of_rank_0_is_a_view_and_no_number() -> None:
    x = np.array(3.0)
    assert np.shares_memory(ops.Slice((), (), ()).evaluate(x), x)


def test_pad_puts_zeros_around_and_between() -> None:
    assert_array_equal(value(ops.Pad((1,), (2,), (1,)), [5, 6, 7]), [0, 5, 0, 6, 0, 7, 0, 0])


def test_update_slice_replaces_every_other_element() -> None:
    assert_array_equal(value(ops.UpdateSlice((1,), (2,)), [1, 2, 3, 4, 5], [8, 9]), [1, 8, 3, 9, 5])


def test_scatter_add_adds_up_equal_indices() -> None:
    assert_array_equal(value(ops.ScatterAdd(4, 0), [1, 3, 1], [1.0, 2.0, 4.0]), [0, 5, 0, 2])


@pytest.mark.parametrize("index", [-1, 3])
@pytest.mark.parametrize("op", [ops.Take(0), ops.TakeAlong(0)], ids=str)
def test_index_out_of_range_is_an_error(op: Op, index: int) -> None:
    with pytest.raises(KernelError, match=f"index {index} is out of range for size 3") as caught:
        value(op, [1.0, 2.0, 3.0], [0, index])
    assert caught.value.status == 1


def test_scalar_rule_of_take_checks_its_index() -> None:
    types = (parse_type("f32[3]"), parse_type("i64[2]"))
    ctx = ArrayContext((np.zeros(3, np.float32), np.array([0, 3])), types, parse_type("f32[2]"))
    with pytest.raises(AssertionError, match="check with status 1"):
        ops.Take(0).scalar(ctx, ctx.index(parse_type("f32[2]")), types, parse_type("f32[2]"))


def test_softmax_of_huge_numbers_does_not_overflow() -> None:
    assert_array_equal(value(ops.Softmax(0), [1e4, 1e4, -1e4]), [0.5, 0.5, 0])


def test_normalize_gives_biased_variance() -> None:
    y, mean, var = ops.Normalize((0,), 0.0).evaluate(np.array([1.0, 3.0]))
    assert (mean, var) == (2.0, 1.0)
    assert_array_equal(y, [-1, 1])


def test_max_pool_takes_the_first_maximum_and_nan_wins() -> None:
    x = np.array([[7.0, 7, 1, NAN], [7, 0, NAN, 2]], np.float32)[None, None]
    values, indices = ops.MaxPool2d((2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1), "NCHW", False).evaluate(x)
    assert_array_equal(values[0, 0], [[7, NAN]])
    assert_array_equal(indices[0, 0], [[0, 3]])


def test_max_pool_padding_never_wins() -> None:
    x = np.full((1, 1, 2, 2), -INF, np.float32)
    values, indices = ops.MaxPool2d((3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1), "NCHW", False).evaluate(x)
    assert_array_equal(values[0, 0], [[-INF]])
    assert_array_equal(indices[0, 0], [[0]])


def test_philox_matches_the_published_vectors() -> None:
    """Random123's kat_vectors for philox4x32-10."""
    def block(counter: tuple[int, int], key: int) -> list[int]:
        return [int(w[0]) for w in philox_4x32(np.array([counter[0]], np.uint64), counter[1], key)]

    ones = 2**64 - 1
    assert block((0, 0), 0) == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    assert block((ones, ones), ones) == [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]
    assert block((0x85A308D3243F6A88, 0x0370734413198A2E), 0x299F31D0A4093822) == [
        0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1]


def test_random_bits_are_words_of_their_own_block() -> None:
    key = np.array([5, 9])
    wide = ops.RandomBits((4,), dtypes.u64).evaluate(key)
    narrow = ops.RandomBits((2, 2), dtypes.u32).evaluate(key)
    assert_array_equal(narrow.ravel(), (wide & np.uint64(0xFFFFFFFF)).astype(np.uint32))


def test_reshape_groups_keep_untouched_dims_apart() -> None:
    def groups(source: tuple[int, ...], target: tuple[int, ...]) -> list[tuple[list[int], list[int]]]:
        return [(list(s), list(t)) for s, t in reshape_groups(source, target)]

    assert groups((5, 6), (5, 2, 3)) == [([0], [0]), ([1], [1, 2])]
    assert groups((4, 3), (2, 6)) == [([0, 1], [0, 1])]
    assert groups((), ()) == []
    for source, target in [((1, 5, 1), (5,)), ((5,), (1, 5, 1)), ((1,), ()), ((), (1, 1)), ((2, 1, 3), (1, 6))]:
        found = groups(source, target)
        assert [d for s, _ in found for d in s] == list(range(len(source)))
        assert [d for _, t in found for d in t] == list(range(len(target)))
        assert all(np.prod([source[d] for d in s]) == np.prod([target[d] for d in t]) for s, t in found)


def test_division_keeps_the_terms_that_divide_affine() -> None:
    """(6*i + j) // 3 = 2*i + j//3: only j//3 is computed."""
    result = parse_type("f32[4,6]")
    ctx = ArrayContext((), (), result)
    quotient, remainder = divmod_index(ctx, Index.dim(0, 4) * 6 + Index.dim(1, 6), 3)
    assert (("dim", 0), 2, 4) in quotient.terms
    assert not any(symbol == ("dim", 0) for symbol, _, _ in remainder.terms)
    i, j = np.indices((4, 6)).reshape(2, -1)
    assert_array_equal(ctx.values[ctx.value_of(quotient)], (6 * i + j) // 3)
    assert_array_equal(ctx.values[ctx.value_of(remainder)], (6 * i + j) % 3)


def test_custom_derivative_is_the_backward_region() -> None:
    """A custom op that squares, whose derivative the user says is 10 * g."""
    t = parse_type("f64[2]")
    forward, (x,) = new_graph([t])
    forward.graph.outputs = [forward.mul(x, x)]
    backward, (_, _, g) = new_graph([t, t, t])
    backward.graph.outputs = [backward.mul(g, backward.scalar(10.0, g))]
    b = Builder(Graph())
    x = b.graph.add_input(t)
    y = b.emit(ops.Custom("square"), x, regions=(forward.graph, backward.graph))
    b.graph.outputs = [y, *gradients(b, b.sum(y, (0,)), [x])]
    (found, slope), _ = interpret(b.graph, [np.array([3.0, 4.0])])
    assert_array_equal(found, [9, 16])
    assert_array_equal(slope, [10, 10])
