"""LoopKernels written by hand, compiled for every target this machine runs, against NumPy."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from loop_kernels import RUNNABLE, Compiled, Script, at, draw, filled, run

from flambeau.codegen.artifact import TaskDim
from flambeau.ir import dtypes
from flambeau.ir.dtypes import bf16, bool_, f16, f32, f64, i8, i16, i32, i64, u8, u32, u64
from flambeau.ir.kernel import LoopSchedule

EPS = float(np.finfo("f4").eps)
NUMBERS = [f16, bf16, f32, f64, i8, i16, i32, i64, u8, u32, u64]
every_target = pytest.mark.parametrize("target", RUNNABLE, ids=lambda target: target.cpu)


@pytest.fixture
def rng():
    return np.random.default_rng(1)


def real(storage, dtype):
    """Stored numbers as f64 (exact for floats and small ints)."""
    return dtypes.to_compute(storage, dtype).astype("f8")


def check(out, n, expected, **tolerance):
    """The first n elements are as expected, the rest untouched."""
    np.testing.assert_allclose(out[:n], np.asarray(expected).reshape(-1), **tolerance)
    assert (out[n:] == 77).all(), "wrote past its end"


# -- elementwise ------------------------------------------------------------------------------------------------------


def axpb(n, schedule=None, dtype=f32):
    s = Script()
    x, out = s.param(n, dtype), s.param(n, dtype, "out")
    number = 3 if dtype.is_integer else 3.0
    value = s.op("add", s.op("mul", s.load(x, {0: 1}), s.load(x, {0: 1})), s.const(number, dtype))
    s.stage(stores=[(at(out, {0: 1}), value)])
    return s.kernel([n], 1, schedule)


SCHEDULES = [None, LoopSchedule(), LoopSchedule(0, 1, 64), LoopSchedule(0, 4, 1000), LoopSchedule(0, 3, 96)]


@every_target
@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_flat_kernel_of_runtime_size_computes_its_elements_and_no_others(target, schedule, rng):
    compiled = Compiled(axpb("n", schedule), target)
    for n in (0, 1, 5, 16, 64, 97, 1000, 9000):
        for step in (None, 1):
            x, out = draw(rng, f32, n), filled(n)
            assert compiled(x, out, sizes=(n,), step=step and max(step, n // 500)) == 0
            check(out, n, x * x + 3, rtol=EPS)


@every_target
@pytest.mark.parametrize("n", [1, 2, 3, 15, 16, 17, 31, 100, 8192, 9001])
def test_flat_kernel_of_static_size(target, n, rng):
    x, out = draw(rng, f32, n), filled(n)
    run(axpb(n), x, out, target=target)
    check(out, n, x * x + 3, rtol=EPS)


@every_target
@pytest.mark.parametrize("dtype", NUMBERS, ids=str)
def test_every_dtype_computes_in_its_own_arithmetic(target, dtype, rng):
    n = 77
    x, out = draw(rng, dtype, n), filled(n, dtype)
    run(axpb(n, dtype=dtype), x, out, target=target)
    values = dtypes.to_compute(x, dtype)
    product = dtypes.to_compute(dtypes.to_storage(values * values, dtype), dtype)
    expected = dtypes.to_compute(dtypes.to_storage(product + values.dtype.type(3), dtype), dtype)
    # f32 and f64 may contract to one rounding; the others are exact.
    check(dtypes.to_compute(out, dtype)[:n], n, expected, rtol=float(np.finfo("f4").eps) if dtype in (f32, f64) else 0)


def test_in_and_out_may_be_the_same_memory(rng):
    for n in (5, 100, 5000):
        x = draw(rng, f32, n)
        expected = x * x + 3
        run(axpb(n), x, x)
        np.testing.assert_allclose(x, expected, rtol=EPS)


@every_target
def test_mixed_widths_share_one_vector(target, rng):
    n = 203
    s = Script()
    x, k, flag, wide = s.param(n), s.param(n, i64), s.param(n, bool_), s.param(n, f64)
    out, mask = s.param(n, f64, "out"), s.param(n, bool_, "out")
    a = s.op("cast", s.load(x, {0: 1}), dtype=f64)
    b = s.op("cast", s.load(k, {0: 1}), dtype=f64)
    chosen = s.op("select", s.load(flag, {0: 1}), s.op("add", a, b), s.load(wide, {0: 1}))
    s.stage(stores=[(at(out, {0: 1}), chosen), (at(mask, {0: 1}), s.op("lt", a, b))])
    buffers = [draw(rng, d, n) for d in (f32, i64, bool_, f64)]
    o, m = filled(n, f64), np.zeros(n, "?")
    run(s.kernel([n], 1), *buffers, o, m, target=target)
    check(o, n, np.where(buffers[2], buffers[0].astype("f8") + buffers[1], buffers[3]))
    np.testing.assert_array_equal(m, buffers[0] < buffers[1])


@every_target
@pytest.mark.parametrize("vector_dim", [None, 0, 1])
def test_broadcast_of_a_row_a_column_and_a_scalar(target, vector_dim, rng):
    rows, columns = 13, 37
    s = Script()
    x, row, column, scalar = s.param(rows * columns), s.param(columns), s.param(rows), s.param(1, f64)
    out = s.param(rows * columns, role="out")
    value = s.op("mul", s.load(x, {0: columns, 1: 1}), s.load(row, {1: 1}))
    value = s.op("add", value, s.op("exp", s.load(column, {0: 1})))
    value = s.op("mul", value, s.op("cast", s.load(scalar), dtype=f32))
    s.stage(stores=[(at(out, {0: columns, 1: 1}), value)])
    X, R, C, o = draw(rng, f32, rows * columns), draw(rng, f32, columns), draw(rng, f32, rows), filled(rows * columns)
    kernel = s.kernel([rows, columns], 2, LoopSchedule(vector_dim, 2, 16))
    run(kernel, X, R, C, np.array([0.5]), o, target=target, step=3)
    expected = (X.reshape(rows, columns).astype("f8") * R + np.exp(C.astype("f8"))[:, None]) * 0.5
    check(o, rows * columns, expected, rtol=8 * EPS, atol=16 * EPS)


# -- addresses --------------------------------------------------------------------------------------------------------


@every_target
@pytest.mark.parametrize("dtype", [f32, i8, f64, bf16], ids=str)
@pytest.mark.parametrize("stride", [-1, 2, -3, 5])
def test_strided_and_reversed_loads_and_stores(target, stride, dtype, rng):
    n, span = 45, abs(stride) * 44 + 1
    offset = 0 if stride > 0 else span - 1
    for load_stride, store_stride in ((stride, 1), (1, stride)):
        s = Script()
        x, out = s.param(span if load_stride != 1 else n, dtype), s.param(span, dtype, "out")
        value = s.load(x, {0: load_stride}, offset=offset if load_stride != 1 else 0)
        s.stage(stores=[(at(out, {0: store_stride}, offset if store_stride != 1 else 0), value)])
        X, o = draw(rng, dtype, s.params[x].elements), filled(span, dtype)
        expected = o.copy()
        expected[: span][(np.arange(n) * store_stride) + (offset if store_stride != 1 else 0)] = (
            X[(np.arange(n) * load_stride) + (offset if load_stride != 1 else 0)]
        )
        run(s.kernel([n], 1, LoopSchedule(0, 2, 64)), X, o, target=target)
        np.testing.assert_array_equal(o, expected)


@every_target
@pytest.mark.parametrize("vector_dim", [0, 1])
def test_transpose(target, vector_dim, rng):
    rows, columns = 21, 34
    s = Script()
    x, out = s.param(rows * columns), s.param(rows * columns, role="out")
    s.stage(stores=[(at(out, {0: columns, 1: 1}), s.load(x, {0: 1, 1: rows}))])
    X, o = draw(rng, f32, rows * columns), filled(rows * columns)
    run(s.kernel([rows, columns], 2, LoopSchedule(vector_dim, 1, 64)), X, o, target=target)
    check(o, rows * columns, X.reshape(columns, rows).T)


@every_target
@pytest.mark.parametrize("vector_dim", [None, 0])
def test_guarded_loads_pad_with_zeros_and_touch_nothing_outside(target, vector_dim, rng):
    low, n, high = 3, 40, 6
    s = Script()
    x, out = s.param(n), s.param(low + n + high, role="out")
    i = s.index(0)
    inside = s.op("and", s.op("ge", i, s.const(low, i64)), s.op("lt", i, s.const(low + n, i64)))
    s.stage(stores=[(at(out, {0: 1}), s.load(x, {0: 1}, offset=-low, guard=inside))])
    X, o = draw(rng, f32, n), filled(low + n + high)
    run(s.kernel([low + n + high], 1, LoopSchedule(vector_dim, 1, 64)), X, o, target=target)
    check(o, low + n + high, np.pad(X, (low, high)))


@every_target
def test_uniform_guards_zero_a_row_or_leave_it_alone(target, rng):
    rows, columns = 5, 19
    address = {0: columns, 1: 1}
    s = Script()
    x, y, z = s.param(rows * columns), s.param(rows * columns, role="out"), s.param(rows * columns, role="out")
    odd = s.op("eq", s.op("mod", s.index(0), s.const(2, i64)), s.const(1, i64))
    value = s.load(x, address, guard=odd)
    s.stage([1], stores=[(at(y, address), value), (at(z, address, guard=odd), s.load(x, address))])
    X, Y, Z = draw(rng, f32, rows * columns), filled(rows * columns), filled(rows * columns)
    run(s.kernel([rows, columns], 1, LoopSchedule(1, 1)), X, Y, Z, target=target)
    is_odd = (np.arange(rows) % 2 == 1)[:, None]
    grid = X.reshape(rows, columns)
    check(Y, rows * columns, np.where(is_odd, grid, 0))
    check(Z, rows * columns, np.where(is_odd, grid, 77))


@every_target
@pytest.mark.parametrize("dtype", [f32, i8, f16], ids=str)
@pytest.mark.parametrize("vector_dim", [0, 1])
def test_gather_rows(target, vector_dim, dtype, rng):
    entries, width, n = 11, 23, 37
    s = Script()
    table, where, out = s.param(entries * width, dtype), s.param(n, i64), s.param(n * width, dtype, "out")
    row = s.load(where, {0: 1})
    s.stage(stores=[(at(out, {0: width, 1: 1}), s.load(table, {1: 1}, dynamic=[(row, width)]))])
    T, W, o = draw(rng, dtype, entries * width), rng.integers(0, entries, n), filled(n * width, dtype)
    run(s.kernel([n, width], 2, LoopSchedule(vector_dim, 2, 64)), T, W, o, target=target)
    check(o, n * width, T.reshape(entries, width)[W])


@every_target
@pytest.mark.parametrize("dtype", [f32, i32, bf16, f64, i8], ids=str)
@pytest.mark.parametrize("schedule", [None, LoopSchedule(), LoopSchedule(0, 2, 64), LoopSchedule(1, 2)], ids=str)
def test_scatter_add_sums_every_update_of_a_row(target, schedule, dtype, rng):
    entries, width, n = 7, 21, 50
    s = Script()
    updates, where, out = s.param(n * width, dtype), s.param(n, i64), s.param(entries * width, dtype, "inout")
    row = s.load(where, {1: 1})
    s.stage([1], stores=[(at(out, {0: 1}, dynamic=[(row, width)]), s.load(updates, {0: 1, 1: width}), "add")])
    U, W = draw(rng, dtype, n * width), rng.integers(0, entries, n)
    o = dtypes.to_storage(np.zeros(entries * width, dtype.compute), dtype)
    kernel = s.kernel([width, n], 1, schedule)
    run(kernel, U, W, o, target=target)
    expected = np.zeros((entries, width))
    np.add.at(expected, W, real(U, dtype).reshape(n, width))
    if dtype is i8:
        expected = expected.astype(i64.storage).astype("i1")
    step = {bf16: 2.0**-8, f32: EPS}.get(dtype, 1e-12)
    np.testing.assert_allclose(real(o, dtype), expected.reshape(-1), atol=4 * n * step, rtol=0)


@every_target
def test_scatter_add_of_lanes_that_collide(target, rng):
    n, entries = 53, 3
    s = Script()
    where, out = s.param(n, i32), s.param(entries, role="inout")
    row = s.op("cast", s.load(where, {0: 1}), dtype=i64)
    keep = s.op("ne", row, s.const(1, i64))
    s.stage([0], stores=[(at(out, dynamic=[(row, 1)], guard=keep), s.const(1.0), "add")])
    W, o = rng.integers(0, entries, n).astype("i4"), np.zeros(entries, "f4")
    run(s.kernel([n], 0, LoopSchedule(0, 2)), W, o, target=target)
    np.testing.assert_array_equal(o, np.bincount(W, minlength=entries) * [1, 0, 1])


@every_target
def test_scatter_set_lets_the_last_of_equal_addresses_win(target):
    n = 40
    s = Script()
    out = s.param(3, role="out")
    third = s.op("mod", s.index(0), s.const(3, i64))
    s.stage([0], stores=[(at(out, dynamic=[(third, 1)]), s.op("cast", s.index(0), dtype=f32))])
    o = filled(3)
    run(s.kernel([n], 0, LoopSchedule(0, 2)), o, target=target)
    check(o, 3, [39, 37, 38])


# -- reductions -------------------------------------------------------------------------------------------------------


def softmax(rows, columns, schedule=None, dtype=f32):
    s = Script()
    x, out = s.param(rows * columns if isinstance(rows, int) else "rows", dtype), s.param(1, dtype, "out")
    point = {0: columns, 1: 1}
    wide = lambda value: value if dtype is f32 else s.op("cast", value, dtype=f32)
    narrow = lambda value: value if dtype is f32 else s.op("cast", value, dtype=dtype)
    [top] = s.stage([1], reduce=[("max", wide(s.load(x, point)))])
    [total] = s.stage([1], reduce=[("sum", s.op("exp", s.op("sub", wide(s.load(x, point)), top)))])
    share = s.op("div", s.op("exp", s.op("sub", wide(s.load(x, point)), top)), total)
    s.stage([1], stores=[(at(out, point), narrow(share))])
    return s.kernel([rows, columns], 1, schedule)


@every_target
@pytest.mark.parametrize("schedule", [None, LoopSchedule(1, 4), LoopSchedule(0, 2, 16), LoopSchedule()], ids=str)
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (3, 2), (5, 16), (18, 37), (4, 1000)])
def test_softmax(target, rows, columns, schedule, rng):
    x, out = draw(rng, f32, rows * columns, -30, 30), filled(rows * columns)
    run(softmax(rows, columns, schedule), x, out, target=target, step=2)
    wide = x.reshape(rows, columns).astype("f8")
    e = np.exp(wide - wide.max(1, keepdims=True))
    check(out, rows * columns, e / e.sum(1, keepdims=True), rtol=64 * EPS, atol=1e-30)


@every_target
def test_softmax_of_runtime_rows_and_columns(target, rng):
    s = Script()
    x, out = s.param("cells"), s.param("cells", role="out")
    [total] = s.stage([1], reduce=[("sum", s.load(x, {1: 1}))])
    s.stage([1], stores=[(at(out, {1: 1}), s.op("div", s.load(x, {1: 1}), total))])
    compiled = Compiled(s.kernel(["one", "columns"], 1, LoopSchedule(1, 4)), target)
    for columns in (0, 1, 7, 16, 63, 64, 65, 200):
        X, o = draw(rng, f32, columns, 1, 2), filled(columns)
        assert compiled(X, o, sizes=(1, columns)) == 0
        check(o, columns, X / X.astype("f8").sum(), rtol=16 * EPS)


@every_target
@pytest.mark.parametrize("schedule", [None, LoopSchedule(1, 2), LoopSchedule(0, 1, 16)], ids=str)
def test_layernorm(target, schedule, rng):
    rows, columns = 19, 75
    s = Script()
    x, gain, bias = s.param(rows * columns), s.param(columns), s.param(columns)
    out = s.param(rows * columns, role="out")
    point = {0: columns, 1: 1}
    share = 1.0 / columns
    [total] = s.stage([1], reduce=[("sum", s.load(x, point))])
    mean = s.op("mul", total, s.const(share))
    s.stage()
    distance = s.op("sub", s.load(x, point), mean)
    [squares] = s.stage([1], reduce=[("sum", s.op("mul", distance, distance))])
    scale = s.op("rsqrt", s.op("add", s.op("mul", squares, s.const(share)), s.const(1e-5)))
    s.stage()
    normal = s.op("mul", s.op("sub", s.load(x, point), mean), scale)
    s.stage([1], stores=[(at(out, point), s.op("fma", normal, s.load(gain, {1: 1}), s.load(bias, {1: 1})))])
    X, G, B = draw(rng, f32, rows * columns), draw(rng, f32, columns), draw(rng, f32, columns)
    o = filled(rows * columns)
    run(s.kernel([rows, columns], 1, schedule), X, G, B, o, target=target)
    wide = X.reshape(rows, columns).astype("f8")
    normed = (wide - wide.mean(1, keepdims=True)) / np.sqrt(wide.var(1, keepdims=True) + 1e-5)
    check(o, rows * columns, normed * G + B, rtol=1e-5, atol=1e-5)


REDUCERS = {"sum": np.sum, "prod": np.prod, "max": np.max, "min": np.min, "argmax": np.argmax, "argmin": np.argmin}


def reduce_kernel(shape, axis, combiner, dtype, schedule):
    """Reduce dim `axis` of a matrix."""
    s = Script()
    x = s.param(shape[0] * shape[1], dtype)
    kept, walked = (1, 0) if axis == 0 else (0, 1)
    out = s.param(shape[kept], i64 if combiner.startswith("arg") else dtype, "out")
    strides = {0: 1, 1: shape[1]} if axis == 0 else {0: shape[1], 1: 1}
    [result] = s.stage([1], reduce=[(combiner, s.load(x, strides))])
    s.stage(stores=[(at(out, {0: 1}), result)])
    return s.kernel([shape[kept], shape[walked]], 1, schedule)


@every_target
@pytest.mark.parametrize("schedule", [None, LoopSchedule(0, 2, 32), LoopSchedule(1, 4), LoopSchedule()], ids=str)
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("combiner", REDUCERS)
def test_reductions_of_floats_along_rows_and_columns(target, combiner, axis, schedule, rng):
    shape = (45, 70)
    x = draw(rng, f32, 45 * 70, 0.5, 1.5) if combiner == "prod" else np.round(draw(rng, f32, 45 * 70))
    out = filled(shape[1 - axis], i64 if combiner.startswith("arg") else f32)
    run(reduce_kernel(shape, axis, combiner, f32, schedule), x, out, target=target, step=1)
    wide = x.reshape(shape).astype("f8")
    check(out, shape[1 - axis], REDUCERS[combiner](wide, axis=axis), rtol=100 * EPS)


@every_target
@pytest.mark.parametrize("dtype", [i8, i16, i32, i64, u8, u32, u64], ids=str)
@pytest.mark.parametrize("combiner", REDUCERS)
def test_reductions_of_ints_wrap_and_order_by_sign(target, combiner, dtype, rng):
    info = np.iinfo(dtype.storage)
    x = rng.integers(info.min, info.max, 3 * 101, dtype=dtype.storage, endpoint=True)
    wanted = dtype if not combiner.startswith("arg") else i64
    out = filled(3, wanted)
    run(reduce_kernel((3, 101), 1, combiner, dtype, LoopSchedule(1, 2)), x, out, target=target)
    matrix = x.reshape(3, 101)
    if combiner in ("sum", "prod"):
        expected = REDUCERS[combiner](matrix, axis=1, dtype=dtype.storage)
    else:
        expected = REDUCERS[combiner](matrix, axis=1)
    np.testing.assert_array_equal(out[:3], expected)


@every_target
@pytest.mark.parametrize("dtype", [f16, bf16], ids=str)
def test_narrow_floats_accumulate_in_f32(target, dtype, rng):
    x, out = draw(rng, dtype, 2 * 3000, 1, 2), filled(2, dtype)
    run(reduce_kernel((2, 3000), 1, "sum", dtype, LoopSchedule(1, 4)), x, out, target=target)
    expected = real(x, dtype).reshape(2, 3000).sum(1)
    one_rounding = 2.0**-8 if dtype is bf16 else 2.0**-11
    np.testing.assert_allclose(real(out[:2], dtype), expected, rtol=one_rounding * 1.01)


@every_target
@pytest.mark.parametrize("schedule", [LoopSchedule(0, 1, 16), LoopSchedule(1, 2), LoopSchedule()], ids=str)
@pytest.mark.parametrize("combiner", ["max", "min", "argmax", "argmin"])
def test_extrema_propagate_nan_and_positions_are_the_first(target, combiner, schedule):
    rows, columns = 6, 50
    x = np.zeros((rows, columns), "f4")
    x[1, 7] = x[1, 33] = np.nan                       # the first NaN wins over everything
    x[2, 3], x[2, 40] = np.inf, -np.inf
    x[3] = -np.inf
    x[4] = np.inf
    x[5, 20] = x[5, 45] = 5 if combiner.endswith("max") else -5
    out = filled(rows, i64 if combiner.startswith("arg") else f32)
    run(reduce_kernel((rows, columns), 1, combiner, f32, schedule), x.reshape(-1), out, target=target)
    np.testing.assert_array_equal(out[:rows], REDUCERS[combiner](x, axis=1))


@every_target
@pytest.mark.parametrize("vector_dim", [0, 1, 2, None])
def test_argmax_over_two_dims_is_row_major(target, vector_dim, rng):
    x = rng.integers(0, 9, (4, 5, 33)).astype("f4")
    s = Script()
    p, out = s.param(x.size), s.param(4, i64, "out")
    [best] = s.stage([1, 2], reduce=[("argmax", s.load(p, {0: 165, 1: 33, 2: 1}))])
    s.stage(stores=[(at(out, {0: 1}), best)])
    o = filled(4, i64)
    run(s.kernel([4, 5, 33], 1, LoopSchedule(vector_dim, 2, 16)), x.reshape(-1), o, target=target)
    check(o, 4, x.reshape(4, -1).argmax(1))


@every_target
@pytest.mark.parametrize("combiner", ["any", "all", "argmax", "argmin", "max", "min"])
@pytest.mark.parametrize("schedule", [LoopSchedule(1, 2), LoopSchedule(0, 1, 16)], ids=str)
def test_reductions_of_bools(target, combiner, schedule, rng):
    x = rng.random((4, 45)) < np.array([0, 0.02, 0.98, 1])[:, None]
    out = filled(4, i64) if combiner.startswith("arg") else np.zeros(4, "?")
    run(reduce_kernel((4, 45), 1, combiner, bool_, schedule), x.reshape(-1), out, target=target)
    reducer = {"any": np.any, "all": np.all} | REDUCERS
    np.testing.assert_array_equal(out[:4], reducer[combiner](x, axis=1))


@every_target
@pytest.mark.parametrize(("combiner", "identity"), [("sum", 0), ("prod", 1), ("max", -np.inf), ("min", np.inf)])
@pytest.mark.parametrize("extent", [0, "n"])
def test_empty_reductions_give_the_identity(target, combiner, identity, extent):
    s = Script()
    x, out = s.param(extent), s.param(3, role="out")
    [result] = s.stage([1], reduce=[(combiner, s.load(x, {1: 1}))])
    s.stage(stores=[(at(out, {0: 1}), result)])
    o = filled(3)
    run(s.kernel([3, extent], 1, LoopSchedule(1, 2)), np.zeros(0, "f4"), o, sizes=(0,) * isinstance(extent, str),
        target=target)
    check(o, 3, [identity] * 3)


@every_target
def test_a_value_that_does_not_vary_is_summed_once_a_point(target):
    s = Script()
    x, rows, columns = s.param(5), s.param(5, role="out"), s.param(5, role="out")
    value = s.load(x, {0: 1})
    [total] = s.stage([1], reduce=[("sum", value)])
    s.stage(stores=[(at(rows, {0: 1}), total)])
    [total] = s.stage([1], reduce=[("sum", s.op("mul", s.load(x, {0: 1}), s.const(2.0)))])
    s.stage(stores=[(at(columns, {0: 1}), total)])
    X = np.arange(5, dtype="f4")
    for schedule in (LoopSchedule(1, 2), LoopSchedule(0, 1, 16), LoopSchedule()):
        o, p = filled(5), filled(5)
        run(s.kernel([5, 41], 1, schedule), X, o, p, target=target)
        check(o, 5, X * 41)
        check(p, 5, X * 82)


@every_target
def test_stages_see_what_earlier_stages_stored_at_the_same_point(target, rng):
    rows, columns = 3, 40
    s = Script()
    x, scratch, out = s.param(rows * columns), s.param(rows * columns, role="scratch"), s.param(rows, role="out")
    point = {0: columns, 1: 1}
    s.stage([1], stores=[(at(scratch, point), s.op("neg", s.load(x, point)))])
    first = s.load(scratch, {0: columns})
    [total] = s.stage([1], reduce=[("sum", s.op("mul", s.load(scratch, point), first))])
    s.stage(stores=[(at(out, {0: 1}), total)])
    X, o = np.round(draw(rng, f32, rows * columns)), filled(rows)
    run(s.kernel([rows, columns], 1, LoopSchedule(1, 2)), X, filled(rows * columns), o, target=target)
    grid = X.reshape(rows, columns)
    check(o, rows, (grid * grid[:, :1]).sum(1))


# -- checks -----------------------------------------------------------------------------------------------------------


def checked_gather(n, entries, schedule):
    s = Script()
    table, where, out = s.param(entries), s.param("n" if n == "n" else n, i64), s.param(1, role="out")
    row = s.load(where, {0: 1})
    inside = s.op("and", s.op("ge", row, s.const(0, i64)), s.op("lt", row, s.const(entries, i64)))
    s.op("check", inside, row, attr=1)
    s.stage(stores=[(at(out, {0: 1}), s.load(table, dynamic=[(row, 1)]))])
    return s.kernel([n], 1, schedule)


@every_target
@pytest.mark.parametrize("schedule", [LoopSchedule(0, 2, 64), LoopSchedule()], ids=str)
@pytest.mark.parametrize("n", [50, "n"])
def test_a_failed_check_ends_the_kernel_with_status_and_detail(target, schedule, n, rng):
    compiled = Compiled(checked_gather(n, 9, schedule), target)
    assert compiled.phase.errors == ((1, "index {0} is out of range"),)
    table, where, out = draw(rng, f32, 9), rng.integers(0, 9, 50), filled(50)
    sizes = (50,) if n == "n" else ()
    assert compiled(table, where, out, sizes=sizes) == 0
    check(out, 50, table[where])
    for bad, place in ((9, 49), (-1, 0), (1 << 62, 17)):
        broken = where.copy()
        broken[place] = bad
        assert compiled(table, broken, out, sizes=sizes) == 1
        assert compiled.details[0] == bad


def test_checks_of_a_stage_without_points_do_not_fire():
    for extent in (0, "n"):
        s = Script()
        where, out = s.param(1, i64), s.param(1, role="out")
        s.op("check", s.op("ge", s.load(where), s.const(0, i64)), s.load(where), attr=1)
        s.stage([1], stores=[(at(out), s.const(1.0))])
        run(s.kernel([1, extent], 1, LoopSchedule(1, 1)), np.array([-5]), filled(1), sizes=(0,) * (extent == "n"))


@every_target
def test_integer_division_by_zero_does_not_trap(target):
    s = Script()
    x, out = s.param(20, i32), s.param(20, i32, "out")
    value = s.load(x, {0: 1})
    quotient = s.op("floordiv", s.const(7, i32), value)
    s.stage(stores=[(at(out, {0: 1}), s.op("add", quotient, s.op("mod", value, s.const(0, i32))))])
    run(s.kernel([20], 1), np.zeros(20, "i4"), filled(20, i32), target=target)


# -- tasks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vector_dim", [0, 1, 2])
def test_tasks_cover_every_point_once_in_any_split(vector_dim):
    shape = (3, 5, 70)
    s = Script()
    out = s.param(3 * 5 * 70, role="inout")
    s.stage(stores=[(at(out, {0: 350, 1: 70, 2: 1}), s.const(1.0), "add")])
    compiled = Compiled(s.kernel(shape, 3, LoopSchedule(vector_dim, 1, 32)))
    for step in (None, 1, 4):
        o = np.zeros(3 * 5 * 70, "f4")
        assert compiled(o, step=step) == 0
        assert (o == 1).all()


def test_runtime_sizes_of_two_dims_count_tasks():
    s = Script()
    out = s.param("cells", role="inout")
    row = s.index(0)
    s.stage(stores=[(at(out, {1: 1}, dynamic=[(row, 100)]), s.const(1.0), "add")])
    compiled = Compiled(s.kernel(["rows", "columns"], 2, LoopSchedule(1, 1, 32)))
    assert compiled.phase.tasks is None and compiled.phase.task_count((3, 70)) == 9
    assert compiled.phase.task_dims[-1] == TaskDim("columns", 32, 1)
    o = np.zeros(300, "f4")
    assert compiled(o, sizes=(3, 70)) == 0
    np.testing.assert_array_equal(o.reshape(3, 100), np.pad(np.ones((3, 70)), ((0, 0), (0, 30))))


def test_no_tasks_touch_no_memory():
    compiled = Compiled(axpb("n"))
    assert compiled.function(None, (ctypes.c_void_p * 2)(0, 0), None, 0, 0) == 0


@every_target
@pytest.mark.parametrize("dtype", [bf16, bool_, i8, i16, i32], ids=str)
@pytest.mark.parametrize("reverse", [False, True])
def test_a_narrow_element_alone_in_its_vector_leaves_its_neighbours_alone(target, dtype, reverse):
    """LLVM 22 stores the untruncated element there (llvm/llvm-project#179489)."""
    for n, last_only in ((33, False), (17, False), (16, True)):
        s = Script()
        x, out = s.param(n, i64), s.param(n, dtype, "out")
        narrow = s.op("cast", s.load(x, {0: 1}), dtype=dtype)
        last = s.op("eq", s.index(0), s.const(n - 1, i64)) if last_only else None
        place = at(out, {0: -1 if reverse else 1}, n - 1 if reverse else 0, guard=last)
        s.stage(stores=[(place, narrow)])
        o = np.full(n + 8, 1, dtype.storage)
        run(s.kernel([n], 1, LoopSchedule(0, 1, 64)), np.ones(n, "i8"), o[4:], target=target)
        one = dtypes.to_storage(np.ones(1, dtype.compute), dtype)[0]
        written = o[4 : 4 + n]
        assert (o[:4] == 1).all() and (o[4 + n :] == 1).all()
        if last_only:
            written = written[[0 if reverse else -1]]
            assert (np.delete(o, 4 + (0 if reverse else n - 1)) == 1).all()
        assert (written == one).all()


@every_target
@pytest.mark.parametrize("dtype", [f32, f64, bf16], ids=str)
@pytest.mark.parametrize(("rows", "columns"), [(32, 64), (37, 100), (16, 17), (5, 40)])
def test_tiles_transpose_what_they_load_and_what_they_store(target, dtype, rows, columns, rng):
    s = Script()
    x, y = s.param(rows * columns, dtype), s.param(rows * columns, dtype)
    plain, moved = (s.param(rows * columns, dtype, "out") for _ in range(2))
    by_row, by_column = {0: columns, 1: 1}, {0: 1, 1: rows}
    total = s.op("add", s.load(x, by_column), s.load(y, by_row))
    s.stage(stores=[(at(plain, by_row), total), (at(moved, by_column), total)])
    schedule = LoopSchedule(1, 1, 32, row_dim=0, rows=16)
    X, Y = draw(rng, dtype, rows * columns), draw(rng, dtype, rows * columns)
    found = [filled(rows * columns, dtype) for _ in range(2)]
    assert Compiled(s.kernel([rows, columns], 2, schedule), target)(X, Y, *found, step=3) == 0
    wide = [dtypes.to_compute(a, dtype) for a in (X, Y)]
    expected = dtypes.to_storage(wide[0].reshape(columns, rows).T + wide[1].reshape(rows, columns), dtype)
    check(found[0], rows * columns, expected, rtol=0)
    check(found[1], rows * columns, expected.T, rtol=0)
