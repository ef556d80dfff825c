import math

import kernel_samples as samples
import numpy as np
import pytest

from flambeau.errors import GraphError, KernelError
from flambeau.ir import dtypes
from flambeau.ir.dtypes import bf16, bool_, f16, f32, f64, i8, i16, i32, i64, u8, u32, u64
from flambeau.ir.kernel import SCALAR_OPS, Address, LoopKernel, Param, Store
from flambeau.ir.kernel.interpreter import interpret

EPS = np.finfo(np.float32).eps


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def run(kernel, *inputs, sizes=()):
    """The out buffers of `kernel` for `inputs` (anything array-like), which are given in the order of params."""
    given, buffers = list(inputs), []
    for param in kernel.params:
        if param.role in ("in", "inout"):
            buffers.append(np.array(given.pop(0), param.dtype.storage).reshape(-1))
        else:
            elements = dict(sizes)[param.elements] if isinstance(param.elements, str) else param.elements
            buffers.append(np.full(elements, 77, param.dtype.storage))
    interpret(kernel, buffers, sizes)
    outs = [b for b, p in zip(buffers, kernel.params, strict=True) if p.role in ("out", "inout")]
    return outs[0] if len(outs) == 1 else outs


def apply(op, *operands, dtype=None):
    """One scalar op on (values, dtype) operands, bf16 given and returned as numbers."""
    stored = [dtypes.f32_to_bf16(np.array(v, np.float32)) if d is bf16 else np.array(v, d.storage)
              for v, d in operands]
    dtype = dtype or operands[0][1]
    kernel = samples.elementwise(op, [d for _, d in operands], dtype, len(stored[0]))
    return dtypes.to_compute(run(kernel, *stored), dtype)


def test_softmax(rng):
    x = rng.normal(size=(5, 7)).astype(np.float32) * 30
    shifted = np.exp(x.astype(np.float64) - x.max(1, keepdims=True))
    got = run(samples.softmax(), x).reshape(5, 7)
    np.testing.assert_allclose(got, shifted / shifted.sum(1, keepdims=True), rtol=4 * EPS * 30)


def test_layernorm(rng):
    x, w, b = (rng.normal(size=s).astype(np.float32) for s in ((4, 9), 9, 9))
    wide = x.astype(np.float64)
    normal = (wide - wide.mean(1, keepdims=True)) / np.sqrt(wide.var(1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(run(samples.layernorm(), x, w, b).reshape(4, 9), normal * w + b, atol=16 * EPS)


def test_argmax_gives_the_first_extremum_and_nan_wins():
    kernel = samples.row_reduce("argmax", 3, (4,))
    assert run(kernel, [[1, 5, 5, 2], [1, np.nan, 9, np.nan], [-np.inf] * 4]).tolist() == [1, 1, 0]


@pytest.mark.parametrize(("order", "expected"), [((1, 2), 2), ((2, 1), 4)])
def test_argmax_counts_row_major_in_the_order_of_the_stage(order, expected):
    x = [[0, 0, 9], [0, 0, 0]]                   # dim 1 is 0, dim 2 is 2
    assert run(samples.row_reduce("argmax", 1, (2, 3), order=order), x).tolist() == [expected]


@pytest.mark.parametrize("dtype", [f16, bf16, f32, f64, i8, i32, i64, u8, u64])
@pytest.mark.parametrize("combiner", ["sum", "prod", "max", "min"])
def test_reductions_keep_the_dtype(combiner, dtype, rng):
    x = rng.integers(1, 4, size=(2, 3, 4))
    stored = dtypes.f32_to_bf16(x.astype(np.float32)) if dtype is bf16 else x.astype(dtype.storage)
    got = dtypes.to_compute(run(samples.row_reduce(combiner, 2, (3, 4), dtype), stored), dtype)
    exact = getattr(np, combiner)(x.reshape(2, -1), axis=1, dtype=object) if combiner in ("sum", "prod") else \
        getattr(np, combiner)(x.reshape(2, -1), axis=1)
    if dtype.kind == "float":
        np.testing.assert_allclose(got.astype(float), exact.astype(float), rtol=2.0**-9)
    else:
        assert [int(g) for g in got] == [_wrapped(int(e), dtype) for e in exact]


def _wrapped(value, dtype):
    bits = dtype.itemsize * 8
    value %= 1 << bits
    return value - (1 << bits) if dtype.kind == "int" and value >= 1 << (bits - 1) else value


def test_max_propagates_nan_and_any_all_reduce_bools():
    assert np.isnan(run(samples.row_reduce("max", 1, (3,)), [1, np.nan, 2])[0])
    assert run(samples.row_reduce("any", 2, (2,), bool_), [0, 1, 0, 0]).tolist() == [True, False]
    assert run(samples.row_reduce("all", 2, (2,), bool_), [0, 1, 1, 1]).tolist() == [False, True]


@pytest.mark.parametrize(("combiner", "expected"), [("sum", 0), ("prod", 1), ("max", -np.inf), ("min", np.inf)])
def test_reduction_over_no_points_is_the_identity(combiner, expected):
    assert run(samples.row_reduce(combiner, 2, (0,)), []).tolist() == [expected] * 2


def test_argmax_over_no_points_is_an_error():
    with pytest.raises(GraphError, match="argmax over no points"):
        run(samples.row_reduce("argmax", 2, (0,)), [])


def test_no_parallel_points_touches_nothing():
    assert run(samples.softmax(0, 7), []).size == 0


def test_gather_reads_rows_and_a_false_guard_gives_zero(rng):
    x = rng.normal(size=(6, 3)).astype(np.float32)
    got = run(samples.gather(), [5, -1, 0, 5], x).reshape(4, 3)
    np.testing.assert_array_equal(got, np.stack([x[5], np.zeros(3), x[0], x[5]]))


def test_gather_out_of_range_is_status_1():
    with pytest.raises(KernelError, match="element 18 of x, which has 18") as caught:
        run(samples.gather(), [5, -1, 6, 0], np.zeros(18))
    assert caught.value.status == 1 and caught.value.details == (18, 18)


@pytest.mark.parametrize("dtype", [f32, bf16, i32])
def test_scatter_add_counts_every_duplicate(dtype):
    index = np.array([0, 5, 5, 2, 5, 0, 2, 5])
    x = np.arange(24).reshape(8, 3)
    expected = np.ones((6, 3), np.int64)
    np.add.at(expected, index, x)
    as_stored = (lambda a: dtypes.f32_to_bf16(np.float32(a))) if dtype is bf16 else (lambda a: a)
    got = run(samples.scatter_add(dtype=dtype), index, as_stored(x), as_stored(np.ones((6, 3))))
    np.testing.assert_array_equal(dtypes.to_compute(got, dtype).reshape(6, 3), expected)


def test_bf16_scatter_add_rounds_each_sum():
    kernel = samples.scatter_add(1, 1, 2, bf16)
    one = dtypes.f32_to_bf16(np.float32([1.0, 1.0]))
    got = run(kernel, [0, 0], one, dtypes.f32_to_bf16(np.float32([256.0])))
    assert dtypes.bf16_to_f32(got).tolist() == [256.0]      # 257 rounds to 256 twice; 258 would be exact


def test_guarded_store_leaves_the_rest_alone():
    b = samples.Body()
    i = b.index(0)
    guard = b.add("lt", i, b.const(2, i64), dtype=bool_)
    stage, _ = b.stage(stores=[Store(Address(0, offset=1, strides=((0, 1),), guard=guard), i)])
    kernel = LoopKernel("guarded", (Param("y", i64, 3, "inout"),), (4,), 1, (stage,))
    assert run(kernel, [7, 8, 9]).tolist() == [7, 0, 1]     # points 2 and 3 would be outside


def test_last_of_equal_addresses_wins():
    b = samples.Body()
    i = b.index(1)
    stage, _ = b.stage([1], stores=[Store(Address(0, strides=((0, 1),)), i)])
    assert run(LoopKernel("last", (Param("y", i64, 2, "out"),), (2, 5), 1, (stage,))).tolist() == [4, 4]


def test_load_sees_the_start_not_the_same_stage():
    b = samples.Body()                                      # x[i] = x[i + 1], walked by an inner dim
    x = b.load(0, [(0, 1)], offset=1, dtype=i64)
    stage, _ = b.stage([0], stores=[Store(Address(0, strides=((0, 1),)), x)])
    kernel = LoopKernel("shift", (Param("x", i64, 4, "inout"),), (3,), 0, (stage,))
    assert run(kernel, [1, 2, 3, 4]).tolist() == [2, 3, 4, 4]


def test_runtime_size_by_name_and_by_position():
    buffers = [np.arange(3, dtype=np.float32), np.zeros(3, np.float32)]
    assert run(samples.scale_rows(), np.arange(5), sizes={"n": 5}).tolist() == [0, 2, 4, 6, 8]
    interpret(samples.scale_rows(), buffers, (3,))
    assert buffers[1].tolist() == [0, 2, 4]


def test_wrong_buffer_is_named():
    with pytest.raises(AssertionError, match=r"param x is f32\[35\] flat, got float64\[35\]"):
        interpret(samples.softmax(), [np.zeros(35), np.zeros(35, np.float32)])


def test_batched_matmul_with_bias(rng):
    lhs, rhs, bias = (rng.normal(size=s).astype(np.float32) for s in ((2, 3, 5), (5, 4), 4))
    expected = lhs.astype(np.float64) @ rhs.astype(np.float64) + bias
    np.testing.assert_allclose(run(samples.matmul(), lhs, rhs, bias).reshape(2, 3, 4), expected, atol=8 * EPS)


def test_bf16_matmul_accumulates_in_f32(rng):
    lhs, rhs = (dtypes.f32_to_bf16(rng.normal(size=s).astype(np.float32)) for s in ((1, 3, 64), (64, 4)))
    kernel = samples.matmul(1, 3, 4, 64, bf16, bias=False, acc_dtype=f32)
    expected = dtypes.bf16_to_f32(lhs)[0].astype(np.float64) @ dtypes.bf16_to_f32(rhs)
    np.testing.assert_allclose(run(kernel, lhs, rhs).reshape(3, 4), expected, atol=64 * EPS)


def test_int_matmul_wraps():
    got = run(samples.matmul(1, 1, 1, 2, i8, bias=False), [100, 100], [2, 1])
    assert got.tolist() == [300 - 256]


def test_matmul_over_empty_k_is_zero():
    assert run(samples.matmul(1, 2, 2, 0, bias=False), [], []).tolist() == [0] * 4


def test_convolution_against_loops(rng):
    image, weight = rng.normal(size=(2, 5, 6, 3)).astype(np.float32), rng.normal(size=(3, 3, 3, 4)).astype(np.float32)
    expected = np.zeros((2, 3, 4, 4))
    for h in range(3):
        for w in range(4):
            window = image[:, h:h + 3, w:w + 3].astype(np.float64)
            expected[:, h, w] = np.einsum("nrsc,rscf->nf", window, weight)
    got = run(samples.convolution(), image, weight).reshape(expected.shape)
    np.testing.assert_allclose(got, np.maximum(expected, 0), atol=32 * EPS)


@pytest.mark.parametrize("detail_strides", [[(0, 1)], [(0, 1), (1, 1)]])
def test_failed_check_gives_its_status_and_the_first_detail(detail_strides):
    b = samples.Body()
    fine = b.add("lt", b.load(0, [(0, 1)], dtype=i64), b.const(3, i64), dtype=bool_)
    b.add("check", fine, b.load(0, detail_strides, dtype=i64), dtype=bool_, attr=5)
    stage, _ = b.stage([1], stores=[Store(Address(1), b.const(1, i64))])
    kernel = LoopKernel("checked", (Param("x", i64, 4, "in"), Param("y", i64, 1, "inout")), (3, 2), 1, (stage,))
    assert run(kernel, [0, 1, 2, 9], [7]).tolist() == [1]
    y = np.array([7])
    with pytest.raises(KernelError) as caught:
        interpret(kernel, [np.array([0, 8, 9, 9]), y])
    assert caught.value.status == 5 and caught.value.details == (8, 0)
    assert y.tolist() == [7]                                # nothing is stored past a failed check


# Scalar ops

def test_every_scalar_op_has_a_meaning():
    without = {name for name, row in SCALAR_OPS.items() if row.meaning is None}
    assert without == {"const", "index", "affine", "load", "acc", "cast", "check", "philox"}


def test_cast_from_float_saturates_and_nan_is_zero():
    x = [np.nan, np.inf, -np.inf, 1e30, -1e30, 2.9, -2.9, 300.0]
    assert apply("cast", (x, f32), dtype=i8).tolist() == [0, 127, -128, 127, -128, 2, -2, 127]
    assert apply("cast", (x, f64), dtype=u8).tolist() == [0, 255, 0, 255, 0, 2, 0, 255]
    top, bottom = 2**63 - 1, -(2**63)
    assert apply("cast", (x, f32), dtype=i64).tolist() == [0, top, bottom, top, bottom, 2, -2, 300]
    assert apply("cast", ([2.0**64, 2.0**63, -1.0], f64), dtype=u64).tolist() == [2**64 - 1, 2**63, 0]
    assert apply("cast", ([127.5, -128.5, 128.0], f32), dtype=i8).tolist() == [127, -128, 127]


def test_cast_between_ints_wraps_and_to_bool_is_nonzero():
    assert apply("cast", ([300, -1], i32), dtype=u8).tolist() == [44, 255]
    assert apply("cast", ([-1], i32), dtype=u64).tolist() == [2**64 - 1]
    assert apply("cast", ([0.0, -0.0, np.nan, 1e-45], f32), dtype=bool_).tolist() == [False, False, True, True]
    assert apply("cast", ([True, False], bool_), dtype=f16).tolist() == [1.0, 0.0]


def test_bf16_is_rounded_to_even_after_each_op():
    assert apply("add", ([1.0, 1.0], bf16), ([2**-8, 3 * 2**-8], bf16)).tolist() == [1.0, 1.0 + 2**-6]
    assert apply("cast", ([1.00390625, 3.4e38], f32), dtype=bf16).tolist() == [1.0, math.inf]


def test_f16_overflows_to_inf():
    assert apply("mul", ([60000.0], f16), ([2.0], f16)).tolist() == [math.inf]
    assert apply("cast", ([65519, 65520], i64), dtype=f16).tolist() == [65504, math.inf]


def test_integer_division_rounds_as_named():
    lhs, rhs = ([7, -7, 7, -7], i32), ([2, 2, -2, -2], i32)
    assert apply("floordiv", lhs, rhs).tolist() == [3, -4, -4, 3]
    assert apply("mod", lhs, rhs).tolist() == [1, 1, -1, -1]
    assert apply("truncdiv", lhs, rhs).tolist() == [3, -3, -3, 3]
    assert apply("fmod", lhs, rhs).tolist() == [1, -1, 1, -1]


@pytest.mark.parametrize("dtype", [i8, i16, i32, i64])
def test_least_int_over_minus_one_wraps(dtype):
    least = int(np.iinfo(dtype.storage).min)
    for op, expected in (("floordiv", least), ("truncdiv", least), ("mod", 0), ("fmod", 0)):
        assert apply(op, ([least], dtype), ([-1], dtype)).tolist() == [expected], op


@pytest.mark.parametrize("op", ["floordiv", "mod", "fmod", "truncdiv"])
def test_integer_division_by_zero_is_status_2(op):
    with pytest.raises(KernelError, match="integer division by zero") as caught:
        apply(op, ([1, 2], i32), ([1, 0], i32))
    assert caught.value.status == 2
    assert not np.isfinite(apply(op, ([1.0], f32), ([0.0], f32))[0])


def test_arithmetic_wraps():
    assert apply("add", ([127], i8), ([1], i8)).tolist() == [-128]
    assert apply("neg", ([-128], i8)).tolist() == [-128]
    assert apply("abs", ([-128], i8)).tolist() == [-128]
    assert apply("neg", ([1], u32)).tolist() == [2**32 - 1]
    assert apply("pow", ([3, -1, 0, 2, 2], i8), ([5, -3, -1, 8, -1], i8)).tolist() == [243 - 256, -1, 0, 0, 0]


def test_shifts_past_the_width():
    assert apply("shl", ([1, 1, 1], i32), ([31, 32, 40], i32)).tolist() == [-(2**31), 0, 0]
    assert apply("shr", ([-8, -8, 8], i32), ([1, 32, 99], i32)).tolist() == [-4, -1, 0]
    assert apply("shr", ([2**63], u64), ([64], u64)).tolist() == [0]


def test_not_is_logical_on_bool_and_bitwise_on_ints():
    assert apply("not", ([True, False], bool_)).tolist() == [False, True]
    assert apply("not", ([0, 5], i8)).tolist() == [-1, -6]


def test_min_and_max_propagate_nan():
    for op in ("min", "max"):
        assert np.isnan(apply(op, ([np.nan, 1.0], f32), ([1.0, np.nan], f32))).all()


def test_fma_rounds_once():
    x = np.float32(1 + 2**-12)
    assert apply("fma", ([x], f32), ([x], f32), ([-1.0], f32))[0] == np.float32(2**-11 + 2**-24)
    y = 1 + 2.0**-30
    assert apply("fma", ([y], f64), ([y], f64), ([-1 - 2.0**-29], f64))[0] == 2.0**-60
    # 1 + 2^-24 + 2^-78: in f64 the last term is lost, and the tie would then round down to 1.
    tiny = ([2.0**-39], f32)
    assert apply("fma", tiny, tiny, ([np.float32(1.0)], f32))[0] == 1.0
    assert apply("fma", ([1 + 2.0**-23], f32), ([2.0**-24 * (1 + 2.0**-23)], f32), ([1.0], f32))[0] == 1 + 2.0**-23
    assert apply("fma", ([np.inf, 1e200], f64), ([1.0, 1e200], f64), ([1.0, 1.0], f64)).tolist() == [np.inf] * 2


WIDE_SAMPLES = {
    "exp": math.exp, "expm1": math.expm1, "exp2": lambda x: 2.0**x,
    "sin": math.sin, "cos": math.cos, "tan": math.tan,
    "atan": math.atan, "sinh": math.sinh, "cosh": math.cosh, "tanh": math.tanh, "asinh": math.asinh,
    "erf": math.erf, "erfc": math.erfc, "sigmoid": lambda x: 1 / (1 + math.exp(-x)),
}
POSITIVE_SAMPLES = {
    "log": math.log, "log2": math.log2, "log10": math.log10, "log1p": math.log1p, "sqrt": math.sqrt,
    "rsqrt": lambda x: 1 / math.sqrt(x), "acosh": lambda x: math.acosh(1 + x),
}


@pytest.mark.parametrize("op", sorted(WIDE_SAMPLES | POSITIVE_SAMPLES))
@pytest.mark.parametrize("dtype", [f16, bf16, f32, f64])
def test_functions_against_libm(op, dtype):
    x = np.array([0.125, 0.5, 1.0, 2.5, 6.0] + ([-0.25, -3.0] if op in WIDE_SAMPLES else []))
    function = (WIDE_SAMPLES | POSITIVE_SAMPLES)[op]
    operand = 1 + x if op == "acosh" else x
    eps = 2.0**-8 if dtype is bf16 else np.finfo(dtype.storage).eps
    got = apply(op, (operand, dtype)).astype(np.float64)
    np.testing.assert_allclose(got, [function(v) for v in x], rtol=2 * eps, atol=2.0**-24 if dtype is f16 else 0)


def test_special_values_of_functions():
    assert apply("sigmoid", ([-np.inf, np.inf, -1000.0], f32)).tolist() == [0.0, 1.0, 0.0]
    assert apply("rsqrt", ([0.0, np.inf], f32)).tolist() == [np.inf, 0.0]
    assert apply("round", ([0.5, 1.5, -2.5], f32)).tolist() == [0.0, 2.0, -2.0]
    assert apply("erfc", ([np.inf, -np.inf], f64)).tolist() == [0.0, 2.0]
    assert np.isnan(apply("log", ([-1.0, np.nan], f32))).all()


def test_minus_zero_and_nan_bits_pass_through_a_copy():
    bits = np.array([0x80000000, 0x7FC12345], np.uint32).view(np.float32)
    got = run(samples.elementwise("neg", [f32], f32, 2), -bits)
    assert got.view(np.uint32).tolist() == [0x80000000, 0x7FC12345]


def test_philox_gives_the_published_words():
    b = samples.Body()
    lo, hi, key = (b.load(p, [(0, 1)], dtype=u64) for p in range(3))
    words = [b.add("philox", lo, hi, key, dtype=u32, attr=word) for word in range(4)]
    stores = [Store(Address(3, offset=w, strides=((0, 4),)), value) for w, value in enumerate(words)]
    stage, _ = b.stage(stores=stores)
    params = (*(Param(name, u64, 2, "in") for name in ("lo", "hi", "key")), Param("y", u32, 8, "out"))
    ones = 2**64 - 1                        # Random123's known answers: all zero bits, all one bits
    got = run(LoopKernel("philox", params, (2,), 1, (stage,)), *(np.array([0, ones], np.uint64),) * 3)
    assert [hex(w) for w in got.tolist()] == [
        "0x6627e8d5", "0xe169c58d", "0xbc57ac4c", "0x9b00dbd8",
        "0x408f276d", "0x41c83b0e", "0xa20bc7c6", "0x6d5451fd"]
