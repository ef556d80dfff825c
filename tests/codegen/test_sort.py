"""Sort kernels: text, rules and meaning; every method compiled for every target this machine runs, against NumPy."""

from __future__ import annotations

import ctypes
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from loop_kernels import RUNNABLE, load_phase

from flambeau.codegen.cpu import backend
from flambeau.errors import GraphError, ParseError
from flambeau.ir import dtypes as dt
from flambeau.ir import ops
from flambeau.ir.dtypes import DType
from flambeau.ir.kernel import Address, Param
from flambeau.ir.kernel.hash import kernel_key
from flambeau.ir.kernel.interpreter import interpret
from flambeau.ir.kernel.text import parse_kernel, print_kernel
from flambeau.ir.kernel.verifier import verify_kernel
from flambeau.ir.target import Target, generic_aarch64
from flambeau.kinds import sort
from flambeau.kinds.sort import SortKernel, SortSchedule
from flambeau.passes.cpu.schedule import schedule

METHODS = ("count", "radix", "select")
PADDING = 8                     # elements after each result that must not change


def sorts(dtype: DType, rows: tuple[int, ...], length: int, keep: int | None = None, *, descending: bool = False,
          inner: int = 1, method: str | None = None, tasks: int = 1, wanted: str = "vi") -> SortKernel:
    """Rows of a row-major array [*rows, length, inner], along the dim before the last; `inner` is one more dim of rows."""
    keep = length if keep is None else keep
    extents = (*rows, inner, length, keep) if inner > 1 else (*rows, length, keep)
    along = len(extents) - 2

    def address(buffer: int, size: int, dim: int) -> Address:
        strides, stride = {dim: inner}, size * inner
        if inner > 1:
            strides[along - 1] = 1
        for row in reversed(range(len(rows))):
            strides[row], stride = stride, stride * rows[row]
        return Address(buffer, 0, tuple(sorted((dim, stride) for dim, stride in strides.items() if stride)))

    count = int(np.prod(rows)) * inner
    params, results = [Param("x", dtype, count * length, "in")], {"v": None, "i": None}
    for which, name, kind in (("v", "values", dtype), ("i", "indices", dt.i64)):
        if which in wanted:
            results[which] = address(len(params), keep, along + 1)
            params.append(Param(name, kind, count * keep, "out"))
    return SortKernel("k", tuple(params), extents, address(0, length, along), results["v"], results["i"], descending,
                      schedule=None if method is None else SortSchedule(method, tasks, tasks > 1))


def compiled(kernel: SortKernel, target: Target, x: np.ndarray) -> list[np.ndarray]:
    """Its results on a flat array, its scratch holding nonsense."""
    [artifact] = backend.compile_kernels([kernel], target)
    outs = [np.full(p.elements + PADDING, 77).astype(p.dtype.storage) for p in kernel.params[1:]]
    scratch = [np.full(n + 64, 0xA5, np.uint8) for n in artifact.scratch_bytes]
    aligned = [a[-a.ctypes.data % 64:] for a in scratch]
    arrays = [x, *outs, *aligned]
    pointers = (ctypes.c_void_p * len(arrays))(*[a.ctypes.data for a in arrays])
    for phase in artifact.phases:
        function, alive = load_phase(artifact.object, phase)
        for task in range(phase.task_count()):
            assert function((ctypes.c_int64 * 8)(), pointers, (ctypes.c_int64 * 1)(), task, task + 1) == 0
        del alive
    for out, a in zip(outs, kernel.params[1:], strict=True):
        assert (out[a.elements:] == np.array(77).astype(out.dtype)).all(), "wrote past its end"
    return [out[:p.elements] for out, p in zip(outs, kernel.params[1:], strict=True)]


def meant(kernel: SortKernel, x: np.ndarray) -> list[np.ndarray]:
    """What NumPy says, row by row."""
    inner = kernel.extents[-3] if kernel.source.stride_of(len(kernel.extents) - 2) > 1 else 1
    rows = dt.to_compute(x, kernel.dtype).reshape(-1, kernel.length, inner)
    order = ops.Sort(1, kernel.descending, kernel.keep).evaluate(rows)[1]
    found = {"values": np.take_along_axis(x.reshape(rows.shape), order, 1), "indices": order}
    return [found[name].ravel() for name, _, _ in kernel.results()]


def drawn(dtype: DType, count: int, style: str, seed: int = 0) -> np.ndarray:
    """Storage arrays: any bits, few values, specials, or falling and rising runs."""
    rng = np.random.default_rng(seed)
    if dtype is dt.bool_:
        return rng.integers(0, 2, count).astype(np.bool_)
    bits = rng.integers(0, 256, count * dtype.itemsize, dtype=np.uint8).view(dtype.storage)
    if style == "bits":
        return bits
    if style == "special" and dtype.is_floating_point:
        values = np.array([np.nan, -np.nan, 0.0, -0.0, np.inf, -np.inf, 1.0, -1e-40], np.float32)
        return dt.to_storage(values[rng.integers(0, len(values), count)].astype(dtype.compute), dtype)
    if style == "few":
        return dt.to_storage(rng.integers(0, 5, count).astype(dtype.compute), dtype)
    rising = dt.to_compute(bits, dtype)[np.argsort(dt.to_compute(bits, dtype), kind="stable")]
    return dt.to_storage(rising[::-1].copy() if style == "falling" else rising, dtype)


def same(found: list[np.ndarray], expected: list[np.ndarray]) -> None:
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a.view(np.uint8), np.ascontiguousarray(b).view(np.uint8))


# -- machine code -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", RUNNABLE, ids=lambda target: target.cpu)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", dt.DTYPES.values(), ids=str)
def test_every_method_sorts_every_dtype(target: Target, method: str, dtype: DType) -> None:
    for number, style in enumerate(("special", "falling") if dtype.is_floating_point else ("few", "bits")):
        keep, length = (3, 600) if method == "select" else (None, 37)
        kernel = sorts(dtype, (2,), length, keep, method=method, descending=bool(number % 2), tasks=2)
        x = drawn(dtype, 2 * length, style)
        same(compiled(kernel, target, x), meant(kernel, x))


@pytest.mark.parametrize("length", [1, 2, 7, 8, 15, 16, 33, 129])
@pytest.mark.parametrize("method", ["count", "radix"])
def test_rows_of_every_length(method: str, length: int) -> None:
    for dtype in (dt.f32, dt.i64):
        for inner in (1, 3):
            kernel = sorts(dtype, (2,), length, max(1, length // 2), inner=inner, method=method, tasks=2)
            x = drawn(dtype, 2 * length * inner, "few")
            same(compiled(kernel, RUNNABLE[0], x), meant(kernel, x))


@pytest.mark.parametrize("style", ["bits", "few", "falling", "rising", "special"])
@pytest.mark.parametrize("dtype", [dt.f32, dt.i64, dt.f16], ids=str)
def test_the_first_few_of_long_rows(style: str, dtype: DType) -> None:
    """Falling rows fill the buffer again and again; 1537 is no multiple of any vector."""
    for keep, inner in ((1, 1), (10, 1), (300, 1), (10, 2)):
        kernel = sorts(dtype, (1,), 1537, keep, inner=inner, method="select")
        x = drawn(dtype, 1537 * inner, style)
        same(compiled(kernel, RUNNABLE[0], x), meant(kernel, x))


@pytest.mark.parametrize("wanted", ["v", "i"])
@pytest.mark.parametrize("method", METHODS)
def test_either_result_alone(method: str, wanted: str) -> None:
    kernel = sorts(dt.f32, (2, 3), 400, 5, method=method, tasks=4, wanted=wanted)
    x = drawn(dt.f32, 2400, "bits")
    same(compiled(kernel, RUNNABLE[0], x), meant(kernel, x))


def test_nothing_is_launched_for_nothing() -> None:
    for rows, length, keep in (((0,), 5, 5), ((2,), 0, 0), ((2,), 5, 0)):
        kernel = schedule(sorts(dt.f32, rows, length, keep), RUNNABLE[0])
        verify_kernel(kernel)
        assert all(out.size == 0 for out in compiled(kernel, RUNNABLE[0], np.zeros(10, np.float32)))


def test_code_is_made_for_processors_that_are_not_here() -> None:
    for method in METHODS:
        [artifact] = backend.compile_kernels([sorts(dt.f64, (2,), 3000, 5, method=method)], generic_aarch64())
        assert artifact.object


# -- schedules --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kernel", "method"),
    [
        (sorts(dt.f32, (100,), 20), "count"),
        (sorts(dt.f32, (1,), 1000), "radix"),
        (sorts(dt.i64, (1000,), 1000), "radix"),
        (sorts(dt.f32, (1,), 1000, 10), "select"),
        (sorts(dt.f32, (1,), 1000, 500), "radix"),
        (sorts(dt.u8, (1,), 1 << 20, 1), "select"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_method_follows_length_and_what_is_kept(kernel: SortKernel, method: str) -> None:
    chosen = schedule(kernel, Target("x86_64-unknown-linux-gnu", "x86-64-v4", "+avx512f", 64, True, 32, cores=8)).schedule
    assert chosen.method == method
    assert chosen.parallel == (kernel.n_rows > 1)


def test_scratch_grows_with_cores_and_not_with_rows() -> None:
    for cores in (1, 2, 8):
        target = Target("x86_64-unknown-linux-gnu", "x86-64-v4", "+avx512f", 64, True, 32, cores=cores)
        for rows, per_core in ((10_000, 4), (10, 4)):
            [artifact] = backend.compile_kernels([schedule(sorts(dt.f32, (rows,), 1000), target)], target)
            assert artifact.scratch_bytes[0] <= 16064 * min(rows, per_core * cores)


# -- text, rules, key, meaning ----------------------------------------------------------------------------------------

SAMPLES = [sorts(dt.f32, (4,), 6, 2, descending=True, method="count"), sorts(dt.bf16, (2, 3), 5, inner=2),
           sorts(dt.i64, (), 9, wanted="i", method="radix", tasks=3), sorts(dt.bool_, (0,), 3, wanted="v")]


@pytest.mark.parametrize("kernel", SAMPLES, ids=str)
def test_text_reads_back_and_is_valid(kernel: SortKernel) -> None:
    verify_kernel(kernel)
    assert parse_kernel(print_kernel(kernel)) == kernel
    assert print_kernel(parse_kernel(print_kernel(kernel))) == print_kernel(kernel)


def test_the_text_shown_in_the_kinds_docstring_is_a_kernel() -> None:
    text = sort.__doc__.split("\n\n")[1]
    kernel = parse_kernel(text)
    verify_kernel(kernel)
    assert print_kernel(kernel) == "".join(line[4:] + "\n" for line in text.splitlines())


def test_a_key_tells_what_differs() -> None:
    kernel = SAMPLES[0]
    others = [replace(kernel, descending=False), replace(kernel, values=None), replace(kernel, extents=(4, 6, 1)),
              replace(kernel, schedule=SortSchedule("radix"))]
    keys = {kernel_key(k) for k in (kernel, *others)}
    assert len(keys) == 5 and kernel_key(replace(kernel, name="other", locations=("a.py:1",))) in keys


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("keep %i2 = 2", "keep %i2 = 7", "can't keep 7 of 6 elements"),
        ("sort x[%i0*6 + %i1]", "sort x[%i0*7 + %i1]", "sort: reaches"),
        ("sort x[%i0*6 + %i1]", "sort x[%i0*6 + %i2]", "its address uses dim %i2, which is not walked here"),
        ("values values[%i0*2 + %i2]", "values values[%i0*2 + %i1]", "its address uses dim %i1"),
        ("values values[%i0*2 + %i2]", "values x[%i0*2 + %i2]", "values: param x is no result of its own"),
        ("values values[%i0*2 + %i2]", "values indices[%i0*2 + %i2]", "values: param indices is i64, the values are f32"),
        ("values values[%i0*2 + %i2]", "values values[%i0*2]", "param values: its elements are not stored once each"),
        ("values values[%i0*2 + %i2]", "", "param values: an out param that nothing stores to"),
        ("tasks=1", "tasks=0", "tasks=0 is not a positive int"),
        ('method="count"', 'method="select"', 'method="select" begins with 32 elements, a row has 6'),
    ],
)
def test_what_breaks_a_rule_is_named(old: str, new: str, message: str) -> None:
    text = print_kernel(SAMPLES[0])
    assert old in text
    with pytest.raises(GraphError) as caught:
        verify_kernel(parse_kernel(text.replace(old, new)))
    assert message in caught.value.message


@pytest.mark.parametrize(("old", "new", "message"), [
    ("along %i1 = 6", "along %i1 = 6, %i2 = 3", "one dim"),
    ("keep %i2 = 2", "", "'keep'"),
    ('method="count"', 'method="magic"', "a value of type"),
])
def test_text_that_is_no_kernel_says_what_was_expected(old: str, new: str, message: str) -> None:
    text = print_kernel(SAMPLES[0])
    assert old in text
    with pytest.raises(ParseError, match=message):
        parse_kernel(text.replace(old, new))


def test_a_kernel_that_keeps_nothing_reads_nothing() -> None:
    kernel = replace(sorts(dt.f32, (4,), 6, 0), extents=(40, 6, 0))         # more than there is
    verify_kernel(kernel)
    interpret(kernel, [np.zeros(24, np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64)])


@pytest.mark.parametrize("kernel", SAMPLES, ids=str)
def test_the_interpreter_means_the_same(kernel: SortKernel) -> None:
    x = drawn(kernel.dtype, int(kernel.params[0].elements), "special")
    outs: list[Any] = [np.zeros(p.elements, p.dtype.storage) for p in kernel.params[1:]]
    interpret(kernel, [x, *outs])
    expected = meant(kernel, x)
    for a, b in zip(outs, expected, strict=True):
        np.testing.assert_array_equal(dt.to_compute(a, kernel.dtype) if a.dtype == x.dtype else a,
                                      dt.to_compute(b, kernel.dtype) if b.dtype == x.dtype else b)


def test_rows_that_there_are_not_load_nothing() -> None:
    """No address names a dim without points: the rows begin at element 0 of nothing."""
    kernel = parse_kernel("""sort @k {
  in x: f32[0]
  out y: i64[0]
  rows %i0 = 0
  along %i1 = 3
  keep %i2 = 2
  sort x[0]
  indices y[%i0]
}
""")
    interpret(kernel, [np.zeros(0, np.float32), np.zeros(0, np.int64)])
