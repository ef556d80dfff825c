"""Orders, medians, quantiles and what differs: by hand, against NumPy, and against PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from against_torch import as_ours, check, ours, theirs, to_numpy

import flambeau as fb

INF, NAN = float("inf"), float("nan")
Case = Callable[..., Any]


# -- by hand ----------------------------------------------------------------------------------------------------------


def test_equal_elements_keep_their_order_both_ways() -> None:
    x = fb.tensor([2, 1, 2, 1, 2])
    assert x.argsort().tolist() == [1, 3, 0, 2, 4]
    assert x.argsort(descending=True).tolist() == [0, 2, 4, 1, 3]
    assert x.topk(4).indices.tolist() == [0, 2, 4, 1]
    assert x.topk(3, largest=False).indices.tolist() == [1, 3, 0]


def test_nan_is_greatest_whatever_its_sign_and_zeros_are_equal() -> None:
    x = fb.tensor([NAN, 0.0, -NAN, -0.0, INF, -INF])
    assert x.argsort().tolist() == [5, 1, 3, 4, 0, 2]
    assert x.argsort(descending=True).tolist() == [0, 2, 4, 1, 3, 5]
    assert np.signbit(x.sort().values.numpy()[:3]).tolist() == [True, False, True]
    assert x.topk(2).indices.tolist() == [0, 2]
    assert x.kthvalue(6).indices.item() == 2


@pytest.mark.parametrize("dtype", [fb.bool, fb.uint8, fb.int8, fb.int32, fb.int64, fb.float16, fb.bfloat16, fb.float64])
def test_every_dtype_has_an_order(dtype: Any) -> None:
    x = fb.tensor([[1, 0, 1], [0, 1, 1]]).to(dtype)
    for values, indices in (x.sort(), x.topk(3, largest=False)):
        assert values.dtype is dtype and values.double().tolist() == [[0, 1, 1], [0, 1, 1]]
        assert indices.dtype is fb.int64 and indices.tolist() == [[1, 0, 2], [0, 1, 2]]


def test_a_scalar_is_a_vector_of_one() -> None:
    x = fb.tensor(3.0, requires_grad=True)
    found = [x.sort(), x.topk(1), x.kthvalue(1, keepdim=True), x.median(0), x.nanmedian(-1), x.mode()]
    for values, indices in found:
        assert (values.shape, values.item(), indices.shape, indices.item()) == ((), 3.0, (), 0)
    assert x.argsort().shape == x.msort().shape == x.median().shape == x.quantile(0.3, dim=0, keepdim=True).shape == ()
    sum(values for values, _ in found).backward()
    assert x.grad.item() == len(found)


def test_rows_of_nothing() -> None:
    x = fb.zeros(0, 3)
    assert [t.shape for t in x.sort(0)] == [(0, 3)] * 2
    assert [t.shape for t in fb.zeros(3, 0).topk(0)] == [(3, 0)] * 2
    assert x.median(1).values.shape == x.mode(1, keepdim=True).indices.shape[:1] == x.kthvalue(1, 1).values.shape == (0,)
    assert np.isnan(fb.zeros(0).median().item()) and np.isnan(fb.zeros(0).nanmedian().item())
    for ask in (lambda: x.median(0), lambda: x.mode(0), lambda: x.kthvalue(1, 0), lambda: fb.zeros(0).long().median()):
        with pytest.raises(IndexError, match="has no elements along dim 0"):
            ask()


def test_a_median_is_the_lower_of_two_and_ignores_nan_when_asked() -> None:
    x = fb.tensor([[4.0, 1.0, 3.0, 2.0], [NAN, 1.0, NAN, 0.0], [NAN] * 4])
    values, indices = x.median(1)
    assert values.tolist()[0] == 2.0 and np.isnan(values.numpy()[1:]).all() and indices.tolist() == [3, 0, 0]
    values, indices = x.nanmedian(1, keepdim=True)
    assert values.tolist()[:2] == [[2.0], [0.0]] and np.isnan(values.numpy()[2, 0]) and indices.tolist() == [[3], [3], [0]]
    assert np.isnan(x.median().item()) and x.nanmedian().item() == 1.0


def test_the_mode_is_the_least_of_the_most_frequent_at_its_last_place() -> None:
    assert [t.item() for t in fb.tensor([3, 1, 1, 3, 2, 3, 1]).mode()] == [1, 6]
    assert [t.item() for t in fb.tensor([NAN, 1.0, NAN, 0.0, 1.0]).mode()] == [1.0, 4]
    x = fb.tensor([[1.0, 2.0], [2.0, 1.0], [2.0, 1.0]], requires_grad=True)
    x.mode(0).values.sum().backward()
    assert x.grad.tolist() == [[0, 0], [0, 0], [1, 1]]


def test_unique_values_in_order_with_places_and_counts() -> None:
    values, inverse, counts = fb.tensor([[2, 1], [2, 5]]).unique(return_inverse=True, return_counts=True)
    assert (values.tolist(), inverse.tolist(), counts.tolist()) == ([1, 2, 5], [[1, 0], [1, 2]], [1, 2, 1])
    assert fb.zeros(0).unique(return_counts=True)[1].tolist() == []
    assert fb.tensor([NAN, 1.0, NAN]).unique().shape == (3,)


def test_quantiles_lie_between_elements() -> None:
    x = fb.tensor([3.0, 1.0, 2.0, 4.0])
    assert x.quantile(0.5).item() == 2.5 and x.quantile(fb.tensor([0.0, 1.0])).tolist() == [1.0, 4.0]
    found = [x.quantile(0.4, interpolation=how).item() for how in ("lower", "higher", "nearest", "midpoint")]
    assert found == [2.0, 3.0, 2.0, 2.5]
    assert np.isnan(fb.tensor([1.0, NAN]).quantile(0.0).item()) and fb.tensor([1.0, NAN]).nanquantile(1.0).item() == 1.0


@pytest.mark.parametrize(
    ("ask", "error", "message"),
    [
        (lambda x: x.topk(4), RuntimeError, "topk: k 4 is out of range for size 3 of dim 1"),
        (lambda x: x.topk(-1, 0), RuntimeError, "topk: k -1 is out of range for size 2 of dim 0"),
        (lambda x: x.topk(1.5), TypeError, "topk: argument 'k' must be an int, got 1.5"),
        (lambda x: x.kthvalue(0), RuntimeError, "kthvalue: k 0 is out of range for size 3 of dim 1"),
        (lambda x: x.sort(2), IndexError, r"sort: dim 2 is out of range \[-2, 1\]"),
        (lambda x: x.median(keepdim=True), TypeError, "median: keepdim needs a dim"),
        (lambda x: x.nanmedian(keepdim=True), TypeError, "nanmedian: keepdim needs a dim"),
        (lambda x: x.mode(-3), IndexError, "mode: dim -3 is out of range"),
        (lambda x: x.quantile(1.5), RuntimeError, r"quantile: q must be in \[0, 1\], got 1.5"),
        (lambda x: x.quantile(fb.tensor([0.5, -1.0])), RuntimeError, r"quantile: every q must be in \[0, 1\]"),
        (lambda x: x.quantile(fb.ones(1, 1)), RuntimeError, "quantile: q must be a number, or a 0-d tensor or vector"),
        (lambda x: x.quantile("a"), TypeError, "quantile: q must be a number or a Tensor, got str"),
        (lambda x: x.long().nanquantile(0.5), RuntimeError, "nanquantile: takes float32 or float64 tensors"),
        (lambda x: x.quantile(0.5, interpolation="cubic"), RuntimeError, "quantile: interpolation must be one of linear"),
        (lambda x: fb.sort([1, 2]), TypeError, "sort: argument 'input' must be a Tensor"),
    ],
)
def test_bad_arguments_are_named(ask: Case, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ask(fb.ones(2, 3))


# -- against NumPy ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("size", [1, 2, 17, 130, 1000])
def test_sort_agrees_with_numpy(size: int, descending: bool) -> None:
    x = np.random.default_rng(size).integers(0, 50, (3, size, 2)).astype(np.float32)
    values, indices = fb.from_numpy(x).sort(1, descending)
    order = np.argsort(-x if descending else x, 1, kind="stable")
    np.testing.assert_array_equal(indices.numpy(), order)
    np.testing.assert_array_equal(values.numpy(), np.take_along_axis(x, order, 1))


def test_second_derivatives_follow_the_order() -> None:
    x = fb.tensor([3.0, 1.0, 2.0], requires_grad=True)
    weights = fb.tensor([1.0, 10.0, 100.0])
    (g,) = fb.autograd.grad((x.sort().values ** 3 * weights).sum(), [x], create_graph=True)
    assert g.tolist() == [2700.0, 3.0, 120.0]
    assert fb.autograd.grad(g.sum(), [x])[0].tolist() == [1800.0, 6.0, 120.0]


# -- compiled ---------------------------------------------------------------------------------------------------------


def kinds_of(compiled: Any) -> list[str]:
    return [call.kernel.keyword for call in compiled.signatures[-1].compiled.memory.calls]


def test_views_are_sorted_where_they_lie() -> None:
    x = fb.arange(24.0).reshape(2, 3, 4)
    for case in (lambda x: x.sort(1), lambda x: x.permute(2, 0, 1).sort(0), lambda x: x[:, 1:, ::2].sort(1),
                 lambda x: x.flip(2).sort(2), lambda x: x[:, None].expand(2, 5, 3, 4).sort(2)):
        compiled = fb.compile(lambda x, case=case: tuple(case(x)))
        for a, b in zip(compiled(x), case(x), strict=True):
            np.testing.assert_array_equal(a.numpy(), b.numpy())
        assert kinds_of(compiled) == ["sort"]


def test_what_comes_before_and_after_is_fused_with_itself() -> None:
    compiled = fb.compile(lambda x: (x * 2 + 1).exp().sort().values.log() - 1)
    compiled(fb.ones(3, 4))
    assert kinds_of(compiled) == ["loop", "sort", "loop"]


def test_only_what_is_asked_for_is_stored() -> None:
    compiled = fb.compile(lambda x: x.argsort(descending=True))
    assert compiled(fb.tensor([1.0, 3.0, 2.0])).tolist() == [1, 2, 0]
    (kernel,) = [call.kernel for call in compiled.signatures[-1].compiled.memory.calls]
    assert kernel.values is None and len(kernel.params) == 2


def test_states_are_sorted_in_place_of_themselves() -> None:
    state = fb.tensor([3.0, 1.0, 2.0])

    @fb.compile
    def step() -> fb.Tensor:
        before = state * 1
        state.copy_(state.sort(descending=True).values)
        return before

    assert step().tolist() == [3.0, 1.0, 2.0] and step().tolist() == [3.0, 2.0, 1.0]


def test_a_number_may_be_k_and_q() -> None:
    compiled = fb.compile(lambda x, k, q: (x.topk(k).values, x.quantile(q)))
    x = fb.tensor([3.0, 1.0, 2.0])
    for k, q in ((1, 0.5), (2, 0.25), (2, 0.75)):
        values, quantile = compiled(x, k, q)
        assert values.tolist() == [3.0, 2.0][:k] and quantile.item() == x.quantile(q).item()


@pytest.mark.parametrize("size", [1, 40, 700])
@pytest.mark.parametrize("backend", ["cpu", "interpret"])
def test_compiled_orders_are_the_eager_ones(size: int, backend: str) -> None:
    rng = np.random.default_rng(size)
    x = fb.from_numpy(np.round(rng.standard_normal((4, size)) * 4).astype(np.float32))

    def run(x: fb.Tensor) -> Any:
        return (*x.sort(), *x.sort(0, True), *x.topk(1 + size // 70), *x.kthvalue(1 + size // 3), *x.median(1), x.median(),
                *x.nanmedian(0), *x.mode(1), x.quantile(0.3, 1), x.nanquantile(0.9, 0), x.msort(), x.argsort(1, True))

    for a, b in zip(fb.compile(run, backend=backend)(x), run(x), strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


@pytest.mark.parametrize("name", ["sort", "topk", "kthvalue", "median", "nanmedian", "mode", "quantile"])
def test_compiled_gradients_are_the_eager_ones(name: str) -> None:
    arguments = {"topk": (3,), "kthvalue": (2,), "quantile": (0.4,)}.get(name, ())

    def gradients(x: fb.Tensor) -> Any:
        x = x.detach().requires_grad_()
        found = getattr(x, name)(*arguments, dim=1)
        values = found if isinstance(found, fb.Tensor) else found.values
        (g,) = fb.autograd.grad((values**3).sum(), [x], create_graph=True)
        return g, fb.autograd.grad((g**2).sum(), [x])[0]

    x = fb.tensor([[3.0, -1.0, 2.0, 2.0, 0.5], [1.0, 1.5, -2.0, 4.0, 1.0]])
    for a, b in zip(fb.compile(gradients)(x), gradients(x), strict=True):
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-6)


def test_verified_calls_hold_sorts_against_their_meaning() -> None:
    compiled = fb.compile(lambda x: (x.exp().sort(0).values * 2, x.topk(2).indices), verify=True)
    values, indices = compiled(fb.tensor([[1.0, 0.0], [0.0, 2.0]]))
    assert indices.tolist() == [[0, 1], [1, 0]] and values.shape == (2, 2)


def test_a_compiled_q_out_of_range_is_found_as_it_runs() -> None:
    compiled = fb.compile(lambda x, q: x.quantile(q))
    with pytest.raises(IndexError, match="index 3 is out of range"):
        compiled(fb.ones(3), fb.tensor(1.5))


# -- against PyTorch --------------------------------------------------------------------------------------------------

ROWS = np.array([[3.0, -1.0, 2.5, 7.0, -4.0], [0.5, 0.25, -8.0, 1.0, 2.0], [9.0, 8.0, 7.0, 6.0, 5.0]])
HOLES = np.array([[NAN, 1.0, 3.0, 2.0, NAN], [NAN] * 5, [5.0, -INF, INF, 0.5, 2.0]])
SORTS: dict[str, Case] = {
    "sort": lambda lib, x: [*x.sort(stable=True), *x.sort(0, descending=True), *lib.sort(x, -2)],
    "argsort": lambda lib, x: [x.argsort(stable=True), lib.argsort(x, dim=0, descending=True, stable=True)],
    "msort": lambda lib, x: x.msort(),
    "topk": lambda lib, x: [*x.topk(3), *x.topk(2, 0, largest=False), *lib.topk(x, 5), *x.topk(0)],
    "kthvalue": lambda lib, x: [*x.kthvalue(2), *x.kthvalue(3, 0, keepdim=True), *lib.kthvalue(x, 5)],
    "median": lambda lib, x: [x.median(), *x.median(1), *x.median(0, keepdim=True)],
    "nanmedian": lambda lib, x: [x.nanmedian(), *x.nanmedian(1), *x.nanmedian(0, keepdim=True)],
    "mode": lambda lib, x: [*x.mode(), *x.mode(0, keepdim=True)],
    "strided": lambda lib, x: [*x.T.sort(), *x[:, ::2].topk(2, 0), x.T[1:].median(), *x.flip(0).sort(0)],
    "middle": lambda lib, x: [*x[:, None, :].expand(3, 4, 5).sort(0), *x.reshape(3, 5, 1).topk(2, 1)],
}
UNSTABLE = ("topk", "kthvalue", "nanmedian", "middle", "strided")      # PyTorch takes any of equal ones there


def _values(case: Case) -> Case:
    return lambda lib, x: [y for y in case(lib, x) if y.dtype != lib.int64]


QUANTILES: dict[str, Case] = {
    "number": lambda lib, x: [x.quantile(0.3), x.quantile(0.77, 1), lib.quantile(x, 1, 0, True), x.quantile(0.0, -1)],
    "vector": lambda lib, x: [lib.quantile(x, lib.tensor([0.1, 0.5, 1.0], dtype=x.dtype), dim, keepdim)
                              for dim in (None, 0, 1) for keepdim in (False, True)],
    "scalar": lambda lib, x: [x.quantile(lib.tensor(0.25, dtype=x.dtype), 1, keepdim=True), x[0, 0].quantile(0.5)],
    **{how: lambda lib, x, how=how: [x.quantile(0.33, 1, interpolation=how), x.quantile(0.5, 0, interpolation=how)]
       for how in ("lower", "higher", "midpoint", "nearest")},
    "nan": lambda lib, x: [x.nanquantile(0.4), x.nanquantile(0.4, 1), x.nanquantile(0.6, 0, keepdim=True),
                           lib.nanquantile(x, lib.tensor([0.0, 0.9], dtype=x.dtype), 1)],
}


@pytest.mark.torch
@pytest.mark.parametrize("name", SORTS)
@pytest.mark.parametrize("dtype", ["f32", "f64", "f16", "bf16", "i64", "i32", "u8"])
def test_orders_agree(name: str, dtype: str) -> None:
    rows = ROWS + 8 if dtype == "u8" else ROWS
    check(SORTS[name], f"{dtype}[3,5]", arrays=[rows * 4 if dtype[0] in "iu" else rows])


@pytest.mark.torch
@pytest.mark.parametrize("name", [name for name in SORTS if name != "mode"])
def test_orders_agree_beside_nan_and_infinities(name: str) -> None:
    check(_values(SORTS[name]) if name in UNSTABLE else SORTS[name], "f32[3,5]", arrays=[HOLES], gradients=False)


@pytest.mark.torch
@pytest.mark.parametrize("name", QUANTILES)
@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_quantiles_agree(name: str, dtype: str) -> None:
    check(QUANTILES[name], f"{dtype}[3,5]", arrays=[ROWS])
    check(QUANTILES[name], f"{dtype}[3,5]", arrays=[HOLES], gradients=False)


@pytest.mark.torch
@pytest.mark.parametrize("array", [[3, 1, 1, 3, 2], [2, 2, 2, 2], [1, 2, 3], [5, 5, 1, 1, 1, 2]], ids=str)
def test_ties_are_chosen_as_pytorch_does(array: list[int]) -> None:
    check(lambda lib, x: [*x.sort(stable=True), *x.sort(stable=True, descending=True), *x.mode(), *x.median(0),
                          x.kthvalue(2).values, x.topk(2).values, *x.unique(return_inverse=True, return_counts=True)],
          f"i64[{len(array)}]", arrays=[np.array(array)])


@pytest.mark.torch
def test_unique_agrees() -> None:
    def run(lib: Any, x: Any) -> Any:
        return [lib.unique(x), *x.unique(return_inverse=True), *x.unique(return_counts=True), *x.unique(True, True, True),
                *lib.unique(x, return_inverse=True, return_counts=True, dim=0)]

    check(run, "i64[5,3]")
    check(run, "bool[4,2]")
    check(lambda lib, x: x.unique(return_inverse=True, return_counts=True), "f32[6]", gradients=False,
          arrays=[np.array([NAN, -0.0, 0.0, NAN, INF, 0.0])])


@pytest.mark.torch
@pytest.mark.parametrize(
    "case",
    [
        lambda lib, x: x.topk(9),
        lambda lib, x: x.topk(-1),
        lambda lib, x: x.kthvalue(0),
        lambda lib, x: x.kthvalue(9, 0),
        lambda lib, x: x.sort(5),
        lambda lib, x: lib.zeros(0, 3).kthvalue(1, 0),
        lambda lib, x: lib.zeros(0).mode(),
        lambda lib, x: lib.zeros(0).median(0),
        lambda lib, x: x.quantile(2.0),
        lambda lib, x: x.half().quantile(0.5),
        lambda lib, x: lib.zeros(0).quantile(0.5),
        lambda lib, x: x.sort(0, False, True),
        lambda lib, x: x.topk(1.5),
    ],
)
def test_errors_have_pytorchs_types(case: Case) -> None:
    errors = []
    for lib in (theirs(), ours):
        with pytest.raises((IndexError, RuntimeError, TypeError)) as caught:
            case(lib, lib.ones(2, 3))
        errors.append(next(kind for kind in (IndexError, RuntimeError, TypeError) if isinstance(caught.value, kind)))
    assert errors[0] is errors[1]


# -- random rows ------------------------------------------------------------------------------------------------------

DRAWN: dict[str, Case] = {
    "sort": lambda lib, x, dim, k, down: [*lib.sort(x, dim=dim, descending=down, stable=True)],
    "topk": lambda lib, x, dim, k, down: [lib.topk(x, k, dim, down)[0]],
    "kthvalue": lambda lib, x, dim, k, down: [lib.kthvalue(x, k, dim)[0]],
    "median": lambda lib, x, dim, k, down: [lib.median(x, dim, keepdim=down)[0], lib.median(x)],
    "nanmedian": lambda lib, x, dim, k, down: [lib.nanmedian(x, dim, keepdim=down)[0], lib.nanmedian(x)],
    "mode": lambda lib, x, dim, k, down: [*lib.mode(lib.nan_to_num(x), dim)],
    "unique": lambda lib, x, dim, k, down: [*lib.unique(lib.nan_to_num(x), return_inverse=True, return_counts=True)],
    "quantile": lambda lib, x, dim, k, down: [lib.quantile(x.float(), k / 16, dim), lib.nanquantile(x.double(), k / 16)],
}


@pytest.mark.torch
def test_random_rows_agree_with_pytorch_eager_and_compiled(seeds: Iterator[int]) -> None:
    for seed in seeds:
        rng = np.random.default_rng(seed)
        shape = tuple(int(n) for n in rng.choice([1, 2, 3, 5, 16], rng.integers(1, 4)))
        dim = int(rng.integers(len(shape)))
        shape = (*shape[:dim], int(rng.choice([1, 4, 15, 16])), *shape[dim + 1:])
        array = rng.integers(-4, 5, shape) / 2
        array[rng.random(shape) < 0.1] = rng.choice([NAN, INF, -0.0, 1.0])
        dtype = rng.choice(["f32", "f64", "f16", "bf16", "i64", "i32", "i8"])
        spec = f"{dtype}[{','.join(map(str, shape))}]"
        array = np.nan_to_num(array * 2, posinf=9).round() if dtype[0] == "i" else array
        k, down, name = int(rng.integers(1, shape[dim] + 1)), bool(rng.random() < 0.5), rng.choice(list(DRAWN))

        def case(lib: Any, x: Any, name: str = name, dim: int = dim, k: int = k, down: bool = down) -> Any:
            return DRAWN[name](lib, x, dim, k, down)

        try:
            smooth = name in ("topk", "kthvalue") and len(set(array.ravel())) == array.size
            check(case, spec, arrays=[array], gradients=smooth)
            if name != "unique":
                x = as_ours(array, spec)
                for a, b in zip(fb.compile(lambda x: case(ours, x))(x), case(ours, x), strict=True):
                    np.testing.assert_array_equal(to_numpy(a), to_numpy(b))
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {name} of {spec} along {dim}, k {k}, {down}: {error}\n{array}") from error


@pytest.mark.parametrize("is_compiled", [False, True])
@pytest.mark.parametrize("size", [1, 3, 7])
def test_the_first_values_and_positions_of_a_known_size(size: int, is_compiled: bool) -> None:
    def values(x: fb.Tensor) -> Any:
        return fb.unique(x, return_inverse=True, return_counts=True, size=size)

    def positions(x: fb.Tensor) -> Any:
        return *fb.nonzero(x, as_tuple=True, size=size), fb.nonzero(x, size=size), fb.argwhere(x, size=size, fill_value=9)

    if is_compiled:
        values, positions = fb.compile(values), fb.compile(positions)
    rng = np.random.default_rng(size)
    for shape in ((6,), (2, 3), (1,), (2, 2, 2)):
        x = fb.tensor(rng.integers(-1, 3, shape).astype(np.float32))
        expected, inverse, counts = fb.unique(x, return_inverse=True, return_counts=True)
        found, place, count = values(x)
        known = min(size, len(expected))
        assert found.tolist() == [*expected[:known].tolist(), *[x.min().item()] * (size - known)]
        assert count.tolist() == [*counts[:known].tolist(), *[0] * (size - known)]
        assert place.tolist() == inverse.clamp(max=size).tolist()
        *columns, rows, filled = positions(x)
        wanted = fb.nonzero(x)[:size]
        pad = [[-1] * x.ndim] * (size - len(wanted))
        assert rows.tolist() == wanted.tolist() + pad
        assert [column.tolist() for column in columns] == [list(column) for column in zip(*rows.tolist(), strict=True)]
        assert filled.tolist() == wanted.tolist() + [[9] * x.ndim] * (size - len(wanted))


def test_sizes_that_make_no_sense() -> None:
    assert fb.unique(fb.tensor([3, 1, 3]), size=3, fill_value=-7).tolist() == [1, 3, -7]
    with pytest.raises(RuntimeError, match="size must not be negative"):
        fb.unique(fb.ones(2), size=-1)
    with pytest.raises(RuntimeError, match="without elements"):
        fb.unique(fb.ones(0), size=1)
    with pytest.raises(fb.errors.TraceError, match="size="):
        fb.compile(fb.unique)(fb.ones(2))
