"""Random programs of solves and factorizations among elementwise ops, products, views and gradients: compiled and eager
agree within rounding, on well-conditioned matrices; on others both raise the same, or neither."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import flambeau as fb
from flambeau.linalg import LinAlgError
from flambeau.runtime import lapack


def regular(x: fb.Tensor) -> fb.Tensor:
    """Diagonally dominant, whatever x is."""
    return fb.tanh(x) + (x.shape[-1] + 1) * fb.eye(x.shape[-1], dtype=x.dtype)


def definite(x: fb.Tensor) -> fb.Tensor:
    y = fb.tanh(x)
    return y @ y.mT / x.shape[-1] + fb.eye(x.shape[-1], dtype=x.dtype)


def apart(x: fb.Tensor) -> fb.Tensor:
    """Eigenvalues and singular values that lie apart."""
    n = x.shape[-1]
    return fb.tanh(x) / n + fb.diag(2.0 + 3.0 * fb.arange(n)).to(x.dtype)


def rebuilt(x: fb.Tensor) -> fb.Tensor:
    """Symmetric, by its eigenvectors, whatever their signs."""
    values, vectors = fb.linalg.eigh(apart(x) + apart(x).mT)
    return (vectors * values.sin()[..., None, :]) @ vectors.mT


STEPS: dict[str, Callable[..., fb.Tensor]] = {
    "sin": lambda x, y: fb.sin(x),
    "mul": lambda x, y: fb.tanh(x) * y,
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y.mT,
    "exp": lambda x, y: fb.exp(-x * x) + y,
    "product": lambda x, y: x @ y / x.shape[-1],
    "transposed": lambda x, y: x.mT,
    "flipped": lambda x, y: x.flip(-1),
    "rolled": lambda x, y: fb.roll(x, 1, -2) + y,
    "where": lambda x, y: fb.where(x > y, x, -y),
    "row": lambda x, y: x[..., :1, :] + y,
    "softmax": lambda x, y: fb.softmax(x, -1) + y,
    "sum": lambda x, y: x.sum(-1, keepdim=True) / x.shape[-1] * y,
    "triangle": lambda x, y: x.tril() + y.triu(1),
    "solve": lambda x, y: fb.linalg.solve(regular(x), y),
    "solve_right": lambda x, y: fb.linalg.solve(regular(x), y, left=False),
    "solve_transposed": lambda x, y: fb.linalg.solve(regular(x).mT, y.mT),
    "solve_vector": lambda x, y: fb.linalg.solve(regular(x), y[..., 0])[..., None] + x,
    "solve_wide": lambda x, y: fb.linalg.solve(regular(x), fb.cat([x, y], -1))[..., ::2],
    "solve_itself": lambda x, y: fb.linalg.solve(regular(x), regular(x)) + y,
    "solve_one": lambda x, y: fb.linalg.solve(regular(x.reshape(-1, *x.shape[-2:])[0]), y),
    "inverse": lambda x, y: fb.linalg.inv(regular(x)) + y,
    "cholesky": lambda x, y: fb.linalg.cholesky(definite(x)) + y,
    "cholesky_upper": lambda x, y: fb.linalg.cholesky(definite(x), upper=True) @ y,
    "cholesky_solve": lambda x, y: fb.cholesky_solve(y, fb.linalg.cholesky(definite(x))),
    "cholesky_ex": lambda x, y: fb.linalg.cholesky_ex(definite(x)).L @ y,
    "lower": lambda x, y: fb.linalg.solve_triangular(regular(x), y, upper=False),
    "upper": lambda x, y: fb.linalg.solve_triangular(regular(x), y, upper=True, left=False),
    "unit": lambda x, y: fb.linalg.solve_triangular(fb.tanh(x) / x.shape[-1], y, upper=True, unitriangular=True),
    "det": lambda x, y: fb.linalg.det(regular(x) / (x.shape[-1] + 1))[..., None, None] * y,
    "slogdet": lambda x, y: fb.linalg.slogdet(regular(x)).logabsdet[..., None, None] + y,
    "eigh": lambda x, y: rebuilt(x) + y,
    "eigvalsh": lambda x, y: fb.linalg.eigvalsh(apart(x) + apart(x).mT)[..., None] / x.shape[-1] * y,
    "svd": lambda x, y: (lambda u, s, vh: (u * s.sqrt()[..., None, :]) @ vh + y)(*fb.linalg.svd(apart(x))),
    "svdvals": lambda x, y: fb.linalg.svdvals(apart(x))[..., None] / x.shape[-1] * y,
    "qr": lambda x, y: fb.linalg.qr(regular(x)).R.abs() / x.shape[-1] + y,
    "lu": lambda x, y: fb.linalg.lu(regular(x)).L @ y,
    "pinv": lambda x, y: fb.linalg.pinv(regular(x)) @ y,
    "matrix_exp": lambda x, y: fb.linalg.matrix_exp(fb.tanh(x) / x.shape[-1]) * y,
    "fft": lambda x, y: fb.view_as_real(fb.fft.fft(x, norm="ortho")).sum(-1) + y,
    "rfft": lambda x, y: fb.fft.irfft(fb.fft.rfft(x.sin(), dim=-2, norm="ortho"), x.shape[-2], -2) * y,
    "logdet": lambda x, y: fb.linalg.cholesky(definite(x)).diagonal(dim1=-2, dim2=-1).log().sum() * y,
}


def drawn_program(rng: np.random.Generator) -> tuple[list[tuple[str, int, int]], Callable[..., Any]]:
    """(name, operand, operand) of each step, and the program: values of the last two, gradients, perhaps of gradients."""
    steps = [(str(rng.choice(list(STEPS))), int(rng.integers(n + 2)), int(rng.integers(n + 2)))
             for n in range(rng.integers(2, 7))]
    grads = int(rng.integers(3))

    def program(*tensors: fb.Tensor) -> list[fb.Tensor]:
        values = list(tensors)
        for name, a, b in steps:
            values.append(STEPS[name](values[a], values[b]))
        results = values[-2:]
        for _ in range(grads):
            total = sum((y.sin() * y).sum() for y in results)
            results = [*results, *fb.autograd.grad(total, tensors, create_graph=True, materialize_grads=True)]
        return results

    return steps, program


def test_compiled_is_eager_within_rounding(seeds, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = [[source] for source in (lapack.of_scipy, lapack.of_numpy) if source() is not None] + [[]]
    for seed in seeds:
        rng = np.random.default_rng(seed)
        steps, program = drawn_program(rng)
        shape = (*rng.integers(1, 4, rng.integers(0, 3)), *[int(rng.choice([1, 2, 3, 4, 5, 9, 18]))] * 2)
        dtype = fb.float64 if rng.random() < 0.7 else fb.float32
        arrays = [rng.uniform(-1, 1, shape) for _ in range(2)]
        options = [{}, {}, {}, {"verify": True}, {"backend": "interpret"}][rng.integers(5)]
        monkeypatch.setattr(lapack, "SOURCES", sources[rng.integers(len(sources))])

        def given(arrays=arrays, dtype=dtype) -> list[fb.Tensor]:
            return [fb.tensor(a, dtype=dtype, requires_grad=True) for a in arrays]

        said = f"seed {seed}: {shape} {dtype} {options}\n{steps}"
        try:
            expected = program(*given())
            found = fb.compile(program, **options)(*given())
        except Exception as error:
            raise AssertionError(said) from error
        tolerance = 1e-9 if dtype is fb.float64 else 2e-2
        for number, (a, b) in enumerate(zip(found, expected, strict=True)):
            meant = b.detach().double().numpy()
            scale = max(1.0, float(np.abs(meant).max(initial=0)))
            error = np.abs(a.detach().double().numpy() - meant).max(initial=0) / scale
            assert error <= tolerance or not np.isfinite(meant).all(), f"{said}\nresult {number} is off by {error}"


def test_matrices_of_small_integers_fail_alike(seeds) -> None:
    """Which of them are singular no rounding decides; nor which have a factor, but for determinants of 0."""
    shapes = [(2, 2), (3, 2, 2), (2, 1, 2, 2), (1, 1), (4, 1, 1)]
    solve = fb.compile(lambda a, b: fb.linalg.solve(a, b) * 2)
    factor = fb.compile(lambda a: fb.linalg.cholesky(a + 0))

    def outcome(function: Callable[..., fb.Tensor], *arrays: np.ndarray) -> Any:
        try:
            return function(*map(fb.from_numpy, arrays)).numpy()
        except LinAlgError as error:
            return error.status, error.message.partition(" (in the kernel")[0]

    for seed in seeds:
        rng = np.random.default_rng(seed)
        shape = shapes[seed % len(shapes)]
        a = rng.choice([-2.0, -1.0, 0.0, 1.0, 2.0, 4.0], shape).astype([np.float32, np.float64][seed % 2])
        b = rng.integers(-3, 4, (*shape[:-1], 2)).astype(a.dtype)
        pairs = [(outcome(solve, a, b), outcome(lambda a, b: fb.linalg.solve(a, b) * 2, a, b))]
        if (a[..., 0, 0] * a[..., -1, -1] != a[..., -1, 0] ** 2).all() or shape[-1] == 1:
            pairs.append((outcome(factor, a), outcome(fb.linalg.cholesky, a)))
        for found, expected in pairs:
            if isinstance(expected, tuple):
                assert found == expected, f"seed {seed}: {a.tolist()}"
            else:
                np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5, err_msg=f"seed {seed}: {a.tolist()}")
