"""Systems of equations and factorizations: by hand, against PyTorch and NumPy, and what is an error, eager and compiled."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from against_torch import check, theirs

import flambeau as fb
from flambeau import optim
from flambeau.errors import FlambeauError, KernelError, ShapeError, TypeInferenceError
from flambeau.linalg import LinAlgError

Case = Callable[..., Any]
NAN, INF = float("nan"), float("inf")
OPTIONS: list[dict[str, Any]] = [{}, {"backend": "interpret"}, {"verify": True}]
WAYS = pytest.mark.parametrize("options", [None, *OPTIONS], ids=["eager", "compiled", "interpreted", "verified"])


def run(function: Callable[..., Any], options: dict[str, Any] | None) -> Callable[..., Any]:
    return function if options is None else fb.compile(function, **options)


def spd(lib: Any, x: Any) -> Any:
    """A symmetric positive-definite matrix made of any."""
    return x @ x.mT / x.shape[-1] + lib.eye(x.shape[-1], dtype=x.dtype)


def regular(lib: Any, x: Any) -> Any:
    return x + 4 * x.shape[-1] * lib.eye(x.shape[-1], dtype=x.dtype)


# -- by hand ----------------------------------------------------------------------------------------------------------


@WAYS
def test_two_equations(options: dict[str, Any] | None) -> None:
    solve = run(fb.linalg.solve, options)
    a = fb.tensor([[2.0, 1.0], [1.0, 3.0]])
    assert solve(a, fb.tensor([3.0, 5.0])).tolist() == pytest.approx([0.8, 1.4])
    assert solve(a, fb.tensor([[3.0], [5.0]])).shape == (2, 1)
    found = run(lambda a, b: fb.linalg.solve(a, b, left=False), options)(a, fb.tensor([[3.0, 5.0]]))
    np.testing.assert_allclose(found.numpy(), [[0.8, 1.4]], rtol=1e-6)


@WAYS
def test_factors_look_at_one_triangle(options: dict[str, Any] | None) -> None:
    a = fb.tensor([[4.0, NAN], [2.0, 5.0]])
    assert run(fb.linalg.cholesky, options)(a).tolist() == [[2.0, 0.0], [1.0, 2.0]]
    assert run(lambda a: fb.linalg.cholesky(a, upper=True), options)(a.T).tolist() == [[2.0, 1.0], [0.0, 2.0]]
    assert run(lambda a: a.cholesky(True), options)(a.T).tolist() == [[2.0, 1.0], [0.0, 2.0]]


@WAYS
def test_zeros_on_a_diagonal_are_divided_by(options: dict[str, Any] | None) -> None:
    a, b = fb.tensor([[1.0, 7.0], [NAN, 0.0]]), fb.tensor([[0.0], [1.0]])
    assert run(lambda a, b: fb.linalg.solve_triangular(a, b, upper=True), options)(a, b).tolist() == [[-INF], [INF]]
    unit = run(lambda a, b: fb.linalg.solve_triangular(a, b, upper=True, unitriangular=True), options)
    assert unit(a, b).tolist() == [[-7.0], [1.0]]


@WAYS
@pytest.mark.parametrize(("a", "b"), [((0, 0), (0, 2)), ((3, 3), (3, 0)), ((0, 2, 2), (0, 2, 1)), ((2, 0, 0), (2, 0, 3)),
                                      ((2, 2), (0, 2, 1)), ((0, 0), (0,)), ((0, 3, 3), (0, 3))])
def test_nothing_is_solved_for(options: dict[str, Any] | None, a: tuple[int, ...], b: tuple[int, ...]) -> None:
    x, y = fb.zeros(a, requires_grad=True), fb.zeros(b, requires_grad=True)
    found = run(fb.linalg.solve, options)(x, y)
    assert found.shape == b
    found.sum().backward()
    assert (x.grad.shape, y.grad.shape) == (a, b) and not x.grad.any() and not y.grad.any()


@WAYS
@pytest.mark.parametrize("shape", [(0, 0), (0, 2, 2), (3, 0, 0)])
def test_nothing_is_factored(options: dict[str, Any] | None, shape: tuple[int, ...]) -> None:
    x = fb.zeros(shape, requires_grad=True)
    found = run(fb.linalg.cholesky, options)(x)
    found.sum().backward()
    assert found.shape == x.grad.shape == shape


@WAYS
def test_one_matrix_serves_a_batch(options: dict[str, Any] | None) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((3, 3)), rng.standard_normal((4, 5, 3, 2))
    found = run(fb.linalg.solve, options)(fb.from_numpy(a), fb.from_numpy(b))
    np.testing.assert_allclose(found.numpy(), np.linalg.solve(a, b), rtol=1e-9)


@WAYS
def test_nan_goes_where_it_goes(options: dict[str, Any] | None) -> None:
    a = fb.eye(3)
    assert run(fb.linalg.solve, options)(a, fb.tensor([NAN, 1.0, INF])).isnan()[0].item()
    assert run(fb.linalg.solve, options)(fb.full((2, 2), NAN), fb.ones(2)).isnan().all().item()


# -- against PyTorch and NumPy ----------------------------------------------------------------------------------------

CASES: dict[str, tuple[Case, tuple[str, ...]]] = {
    "solve": (lambda lib, a, b: lib.linalg.solve(regular(lib, a), b), ("[4,4]", "[4,3]")),
    "vector": (lambda lib, a, b: lib.linalg.solve(regular(lib, a), b), ("[4,4]", "[4]")),
    "vectors": (lambda lib, a, b: lib.linalg.solve(regular(lib, a), b), ("[2,3,4,4]", "[2,3,4]")),
    "vector_for_each": (lambda lib, a, b: lib.linalg.solve(regular(lib, a), b), ("[2,4,4]", "[4]")),
    "matrix_like_a_batch": (lambda lib, a, b: lib.linalg.solve(regular(lib, a), b), ("[3,3,3]", "[3,3]")),
    "batches": (lambda lib, a, b: lib.linalg.solve(regular(lib, a), b), ("[2,1,3,3]", "[5,3,2]")),
    "one_matrix": (lambda lib, a, b: lib.linalg.solve(regular(lib, a), b), ("[3,3]", "[2,2,3,2]")),
    "right": (lambda lib, a, b: lib.linalg.solve(regular(lib, a), b, left=False), ("[2,4,4]", "[3,4]")),
    "transposed": (lambda lib, a, b: lib.linalg.solve(regular(lib, a).mT, b.mT[..., ::2]), ("[4,4]", "[5,4]")),
    "itself": (lambda lib, a: lib.linalg.solve(regular(lib, a), regular(lib, a)), ("[3,3]",)),
    "inv": (lambda lib, a: [lib.linalg.inv(regular(lib, a)), regular(lib, a).inverse()], ("[2,4,4]",)),
    "lower": (lambda lib, a, b: lib.linalg.solve_triangular(regular(lib, a), b, upper=False), ("[4,4]", "[4,3]")),
    "upper": (lambda lib, a, b: lib.linalg.solve_triangular(regular(lib, a), b, upper=True), ("[2,4,4]", "[4,3]")),
    "unit": (lambda lib, a, b: lib.linalg.solve_triangular(a / 9, b, upper=True, unitriangular=True),
             ("[4,4]", "[2,4,1]")),
    "unit_lower": (lambda lib, a, b: lib.linalg.solve_triangular(a / 9, b, upper=False, unitriangular=True),
                   ("[4,4]", "[4,1]")),
    "triangle_on_the_right": (lambda lib, a, b: [
        lib.linalg.solve_triangular(regular(lib, a), b, upper=upper, left=False) for upper in (False, True)],
        ("[4,4]", "[3,4]")),
    "cholesky": (lambda lib, a: lib.linalg.cholesky(spd(lib, a)), ("[4,4]",)),
    "cholesky_batch": (lambda lib, a: lib.linalg.cholesky(spd(lib, a), upper=True), ("[2,3,4,4]",)),
    "cholesky_solve": (lambda lib, a, b: [
        lib.cholesky_solve(b, regular(lib, a).tril()), lib.cholesky_solve(b, regular(lib, a).triu(), upper=True)],
        ("[4,4]", "[4,2]")),
    "cholesky_ex": (lambda lib, a: [*lib.linalg.cholesky_ex(spd(lib, a)), *lib.linalg.cholesky_ex(
        spd(lib, a), upper=True, check_errors=True)], ("[2,3,3]",)),
    "large": (lambda lib, a, b: lib.linalg.solve(spd(lib, a), b), ("[70,70]", "[70,2]")),
    "large_cholesky": (lambda lib, a: lib.linalg.cholesky(spd(lib, a)), ("[70,70]",)),
}


def compiled(function: Case) -> Case:
    """`function`, compiled where the library can."""
    return lambda lib, *tensors: (fb.compile(function) if lib.module is fb else function)(lib, *tensors)


@pytest.mark.torch
@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_are_pytorchs(name: str, dtype: str) -> None:
    function, shapes = CASES[name]
    check(function, *[dtype + shape for shape in shapes], tolerance=300)
    check(compiled(function), *[dtype + shape for shape in shapes], tolerance=300)


@pytest.mark.parametrize("name", CASES)
def test_second_derivatives_agree_with_finite_differences(name: str) -> None:
    function, shapes = CASES[name]
    if "70" in shapes[0]:
        pytest.skip("one size is as good as another")
    rng = np.random.default_rng(3)
    arrays = [rng.uniform(-1, 1, [int(s) for s in shape[1:-1].split(",")]) for shape in shapes]
    directions = [rng.standard_normal(a.shape) for a in arrays]

    def slopes(*tensors: fb.Tensor) -> tuple[fb.Tensor, ...]:
        found = function(fb, *tensors)
        total = sum((y**3).sum() for y in (found if isinstance(found, list) else [found]) if y.is_floating_point())
        return fb.autograd.grad(total, tensors, create_graph=True)

    def at(step: float) -> list[np.ndarray]:
        moved = [fb.tensor(a + step * d, requires_grad=True) for a, d in zip(arrays, directions, strict=True)]
        return [g.detach().numpy() for g in slopes(*moved)]

    for decorated in (slopes, fb.compile(slopes)):
        tensors = [fb.tensor(a, requires_grad=True) for a in arrays]
        along = sum((g * fb.tensor(d)).sum() for g, d in zip(decorated(*tensors), directions, strict=True))
        second = fb.autograd.grad(along, tensors)
        step = 1e-5
        for found, high, low in zip(second, at(step), at(-step), strict=True):
            expected = (high - low) / (2 * step)
            # step**2 * fourth derivative + eps * slope / step
            np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5, atol=1e-5 * max(1.0, abs(expected).max()))


@pytest.mark.parametrize("n", [1, 2, 7, 8, 9, 16, 17, 33, 100])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_residuals_are_roundings(n: int, dtype: type[np.floating]) -> None:
    rng = np.random.default_rng(n)
    a = (rng.standard_normal((2, n, n)) + 2 * np.sqrt(n) * np.eye(n)).astype(dtype)
    b = rng.standard_normal((2, n, 3)).astype(dtype)

    @fb.compile
    def all_of(a, b):
        factor = fb.linalg.cholesky(a @ a.mT)
        return (fb.linalg.solve(a, b), factor, fb.linalg.solve_triangular(a, b, upper=False),
                fb.linalg.solve_triangular(a, b, upper=True))

    x, factor, lower, upper = (y.double().numpy() for y in all_of(fb.from_numpy(a), fb.from_numpy(b)))
    wide, eps = a.astype(np.float64), float(np.finfo(dtype).eps)
    for matrix, solution in ((wide, x), (np.tril(wide), lower), (np.triu(wide), upper)):
        allowed = 8 * n * eps * (np.abs(matrix) @ np.abs(solution)).max()           # Higham 2002, theorems 8.5, 9.5
        assert np.abs(matrix @ solution - b).max() <= allowed
    square = (wide @ np.swapaxes(wide, -1, -2)).astype(dtype)
    allowed = 8 * n * eps * np.abs(square).max()
    assert np.abs(factor @ np.swapaxes(factor, -1, -2) - square).max() <= allowed
    assert not np.triu(factor, 1).any()


# -- what is an error -------------------------------------------------------------------------------------------------


@WAYS
def test_singular_matrix_is_named_with_the_line(options: dict[str, Any] | None) -> None:
    solve = run(lambda a, b: fb.linalg.solve(a, b), options)                        # this line
    assert solve(fb.eye(2).expand(3, 2, 2), fb.ones(2)).shape == (3, 2)
    with pytest.raises(LinAlgError, match="linalg.solve: matrix 1 of the batch is singular") as caught:
        solve(fb.stack([fb.eye(2), fb.ones(2, 2), fb.zeros(2, 2)]), fb.ones(2))
    assert re.search(r"test_linear_algebra\.py:\d+", str(caught.value))
    assert isinstance(caught.value, (RuntimeError, KernelError, FlambeauError)) and caught.value.details[0] == 1
    with pytest.raises(LinAlgError, match="linalg.solve: the matrix is singular"):
        solve(fb.zeros(2, 2), fb.ones(2))


@WAYS
@pytest.mark.parametrize(("bad", "order"), [
    ([[-1.0, 0.0], [0.0, 1.0]], 1), ([[1.0, 0.0], [0.0, 0.0]], 2), ([[1.0, 0.0], [2.0, 1.0]], 2),
    ([[NAN, 0.0], [0.0, 1.0]], 1), ([[1.0, 0.0], [NAN, 1.0]], 2), ([[1.0, 0.0], [0.0, -INF]], 2)])
def test_matrix_that_is_not_positive_definite_is_named_with_its_order(
        options: dict[str, Any] | None, bad: list[list[float]], order: int) -> None:
    factor = run(lambda a: fb.linalg.cholesky(a), options)
    with pytest.raises(LinAlgError, match="matrix 1 of the batch is not positive-definite") as caught:
        factor(fb.stack([fb.eye(2), fb.tensor(bad), fb.eye(2)]))
    assert f"its leading minor of order {order} is not" in str(caught.value) and caught.value.details == (1, order)
    assert re.search(r"test_linear_algebra\.py:\d+", str(caught.value))
    with pytest.raises(LinAlgError, match=f"linalg.cholesky: the matrix is not .* order {order} is not"):
        factor(fb.tensor(bad))


@WAYS
def test_factors_that_there_are_not_are_nan_with_an_order(options: dict[str, Any] | None) -> None:
    bad = fb.tensor([[1.0, 0.0], [2.0, 1.0]])
    batch = fb.stack([4 * fb.eye(2), bad, fb.tensor([[NAN, 0.0], [0.0, 1.0]]), bad.T]).requires_grad_()
    for upper in (False, True):
        attempt = run(lambda a, upper=upper: fb.linalg.cholesky_ex(a, upper=upper), options)
        factors, info = attempt(batch.mT if upper else batch)
        assert (info.dtype, info.tolist()) == (fb.int32, [0, 2, 1, 0])
        found = (factors.mT if upper else factors).detach()
        assert found[::3].tolist() == [[[2.0, 0.0], [0.0, 2.0]], [[1.0, 0.0], [0.0, 1.0]]]
        assert found.isnan().sum().item() == 6 and found[:, 0, 1].tolist() == [0.0] * 4
    assert [t.tolist() for t in run(fb.linalg.cholesky_ex, options)(fb.eye(1))] == [[[1.0]], 0]
    (grad,) = fb.autograd.grad(attempt(batch.mT).L.diagonal(dim1=-2, dim2=-1).sum(), [batch])
    assert grad[0].tolist() == [[0.25, 0.0], [0.0, 0.25]] and grad[1].isnan().any().item()
    with pytest.raises(LinAlgError):
        run(lambda a: fb.linalg.cholesky_ex(a, check_errors=True), options)(bad)


def test_order_in_a_large_matrix() -> None:
    a = np.eye(50)
    a[33, 33] = -1
    for factor in (fb.linalg.cholesky, fb.compile(fb.linalg.cholesky)):
        with pytest.raises(LinAlgError, match="order 34"):
            factor(fb.from_numpy(a))


MISUSES: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: fb.linalg.solve(fb.ones(3, 2), fb.ones(3)), ShapeError, r"takes square matrices, got f32\[3,2\]"),
    (lambda: fb.linalg.solve(fb.ones(3), fb.ones(3)), ShapeError, r"takes square matrices, got f32\[3\]"),
    (lambda: fb.linalg.solve(fb.eye(3), fb.ones(4)), ShapeError, r"shapes don't fit A @ x = B"),
    (lambda: fb.linalg.solve(fb.eye(3), fb.ones(4, 2)), ShapeError, r"A f32\[3,3\], B f32\[4,2\]"),
    (lambda: fb.linalg.solve(fb.eye(3), fb.ones(3, 2), left=False), ShapeError, r"shapes don't fit x @ A = B"),
    (lambda: fb.linalg.solve(fb.eye(3), fb.ones(3), left=False), ShapeError, "a vector B has no left=False"),
    (lambda: fb.linalg.solve(fb.eye(3), fb.tensor(1.0)), ShapeError, "B is a number"),
    (lambda: fb.linalg.solve(fb.eye(3).expand(2, 3, 3), fb.ones(5, 3, 2)), ShapeError, "linalg.solve"),
    (lambda: fb.linalg.solve(fb.eye(3).int(), fb.ones(3)), TypeInferenceError, r"takes f32 or f64, got i32\[3,3\]"),
    (lambda: fb.linalg.solve(fb.eye(3).half(), fb.ones(3).half()), TypeInferenceError, "takes f32 or f64, got f16"),
    (lambda: fb.linalg.solve(fb.eye(3), fb.ones(3).double()), TypeInferenceError, "must have one dtype"),
    (lambda: fb.linalg.solve_triangular(fb.eye(3), fb.ones(3), upper=True), ShapeError, "shapes don't fit"),
    (lambda: fb.linalg.cholesky(fb.ones(2, 3)), ShapeError, "linalg.cholesky: takes square matrices"),
    (lambda: fb.linalg.cholesky(fb.eye(3).bfloat16()), TypeInferenceError, "takes f32 or f64, got bf16"),
    (lambda: fb.linalg.cholesky(3.0), TypeError, "cholesky: argument 'A' must be a Tensor|expected"),
    (lambda: fb.cholesky_solve(fb.ones(3), fb.eye(3)), ShapeError, "cholesky_solve: shapes don't fit"),
    (lambda: fb.inverse(fb.ones(2, 3)), ShapeError, "linalg.inv: takes square matrices"),
]


@pytest.mark.parametrize("number", range(len(MISUSES)))
def test_what_does_not_fit_is_an_error_with_both_types(number: int) -> None:
    misuse, kind, message = MISUSES[number]
    for attempt in (misuse, fb.compile(misuse)):
        with pytest.raises(kind, match=message):
            attempt()


@pytest.mark.torch
def test_pytorch_refuses_the_same() -> None:
    torch = theirs()
    refused = [lambda: torch.linalg.solve(torch.eye(3), torch.ones(3), left=False),
               lambda: torch.linalg.solve_triangular(torch.eye(3), torch.ones(3), upper=True),
               lambda: torch.linalg.solve(torch.eye(3), torch.ones(3).double())]
    for attempt in refused:
        with pytest.raises(RuntimeError):
            attempt()


# -- in programs ------------------------------------------------------------------------------------------------------


def gaussian_process(options: dict[str, Any] | None) -> tuple[list[float], list[float], Callable[[], fb.Tensor]]:
    """Thirty steps that fit the noise, the scale and the length of a Gaussian process to a sine."""
    rng = np.random.default_rng(0)
    times = np.linspace(0, 6, 24)
    t = fb.from_numpy(times)
    y = fb.from_numpy(np.sin(times) + 0.1 * rng.standard_normal(24))
    logs = fb.zeros(3, dtype=fb.float64, requires_grad=True)
    opt = optim.Adam([logs], lr=0.1)
    count = fb.zeros((), dtype=fb.int64)

    def step() -> fb.Tensor:
        count.add_(1)
        opt.zero_grad()
        noise, scale, length = logs.exp().unbind()
        distance = (t[:, None] - t[None, :]) / length
        kernel = scale * (-0.5 * distance * distance).exp() + noise * fb.eye(24, dtype=t.dtype)
        factor = fb.linalg.cholesky(kernel)
        weights = fb.cholesky_solve(y[:, None], factor)
        loss = 0.5 * y @ weights[:, 0] + factor.diagonal().log().sum()
        loss.backward()
        opt.step()
        return loss

    decorated = run(step, options)
    losses = [decorated().item() for _ in range(30 if options in (None, {}) else 4)]
    return losses, logs.tolist(), decorated


def test_gaussian_process_learns_alike_eager_and_compiled() -> None:
    losses, logs, _ = gaussian_process(None)
    assert losses[-1] < losses[0] - 10
    for options in OPTIONS:
        found, theirs, _ = gaussian_process(options)
        np.testing.assert_allclose(found, losses[:len(found)], rtol=1e-9)
        if options == {}:
            np.testing.assert_allclose(theirs, logs, rtol=1e-8)


@pytest.mark.parametrize("options", OPTIONS, ids=["compiled", "interpreted", "verified"])
def test_failed_step_leaves_state_as_it_was(options: dict[str, Any]) -> None:
    weight = fb.ones(2, 2, requires_grad=True)
    opt = optim.SGD([weight], lr=0.1, momentum=0.9)
    count, last = fb.zeros(()), fb.zeros(2, 2)

    def step(a: fb.Tensor) -> fb.Tensor:
        count.add_(1)
        opt.zero_grad()
        factor = fb.linalg.cholesky(a)
        last.copy_(factor)
        loss = (fb.linalg.solve(a, weight) * factor).sum()
        loss.backward()
        opt.step()
        return loss

    decorated = fb.compile(step, **options)
    decorated(fb.eye(2))

    def state() -> list[Any]:
        momentum = opt.state[weight]["momentum_buffer"]
        return [t.detach().clone().tolist() for t in (weight, count, last, weight.grad, momentum)]

    before = state()
    for bad in (fb.zeros(2, 2), -fb.eye(2), fb.tensor([[1.0, 0.0], [0.0, NAN]])):
        with pytest.raises(LinAlgError, match="not positive-definite"):
            decorated(bad)
        assert state() == before
    decorated(2 * fb.eye(2))
    assert state() != before


@pytest.mark.parametrize("options", OPTIONS, ids=["compiled", "interpreted", "verified"])
def test_state_that_becomes_its_own_factor_is_whole_or_as_it_was(options: dict[str, Any]) -> None:
    state = fb.from_numpy(np.stack([4 * np.eye(3), 9 * np.eye(3)]))

    @fb.compile(**options)
    def step() -> fb.Tensor:
        state.copy_(fb.linalg.cholesky(state))
        return state.sum()

    assert step().item() == 15.0
    state[1].neg_()
    before = state.tolist()
    with pytest.raises(LinAlgError, match="matrix 1 of the batch"):         # the first one's factor is computed by then
        step()
    assert state.tolist() == before


@WAYS
def test_inside_of_choices_and_loops(options: dict[str, Any] | None) -> None:
    a = fb.tensor([[4.0, 1.0], [1.0, 3.0]])

    def choose(a: fb.Tensor, flag: fb.Tensor) -> Any:
        return fb.cond(flag, lambda a: fb.linalg.cholesky(a), lambda a: a * 2, (a,))

    def turn(a: fb.Tensor, x: fb.Tensor) -> Any:
        return fb.while_loop(lambda i, x: i < 3, lambda i, x: (i + 1, fb.linalg.solve(a, x)), (fb.tensor(0), x))[1]

    chosen, turned = run(choose, options), run(turn, options)
    assert chosen(-a, fb.tensor(False)).tolist() == [[-8.0, -2.0], [-2.0, -6.0]]        # what is not chosen fails not
    with pytest.raises(LinAlgError, match="not positive-definite"):
        chosen(-a, fb.tensor(True))
    expected = np.linalg.solve(np.linalg.matrix_power(a.numpy(), 3), np.ones(2))
    np.testing.assert_allclose(turned(a, fb.ones(2)).numpy(), expected, rtol=1e-4)
    with pytest.raises(LinAlgError, match="singular"):
        turned(fb.zeros(2, 2), fb.ones(2))


def test_threads_at_once() -> None:
    f = fb.compile(lambda a, b: fb.linalg.solve(a, fb.sin(b)))
    rng = np.random.default_rng(0)
    problems = [((rng.standard_normal((40, 40)) + 20 * np.eye(40)), rng.standard_normal((40, 3))) for _ in range(8)]
    f(*map(fb.from_numpy, problems[0]))
    wrong: list[str] = []

    def work(number: int) -> None:
        a, b = problems[number]
        expected = np.linalg.solve(a, np.sin(b))
        for turn in range(30):
            if not np.allclose(f(fb.from_numpy(a), fb.from_numpy(b)).numpy(), expected, rtol=1e-10):
                wrong.append(f"thread {number}, turn {turn}")
            if turn % 10 == number:
                with pytest.raises(LinAlgError):
                    f(fb.zeros(40, 40, dtype=fb.float64), fb.from_numpy(b))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(problems))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong, wrong
