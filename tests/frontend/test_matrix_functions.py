"""Factorizations, determinants, pseudoinverses and norms, eager and compiled: against PyTorch, and what is an error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from against_torch import check
from test_linear_algebra import OPTIONS, compiled, regular, run, spd

import flambeau as fb
from flambeau.errors import FlambeauError, ShapeError, TypeInferenceError
from flambeau.linalg import LinAlgError

Case = Callable[..., Any]
NAN, INF = float("nan"), float("inf")
WAYS = pytest.mark.parametrize("options", [None, *OPTIONS], ids=["eager", "compiled", "interpreted", "verified"])


def symmetric(x: Any) -> Any:
    return x + x.mT


def apart(lib: Any, x: Any) -> Any:
    """Singular values that lie apart, of square matrices and others."""
    n = x.shape[-1]
    return x / 2 + lib.eye(x.shape[-2], n, dtype=x.dtype) * (1 + 3 * lib.arange(n, dtype=x.dtype))


def low_rank(x: Any) -> Any:
    return x[..., :1] * x[..., :1, :]


CASES: dict[str, tuple[Case, tuple[str, ...]]] = {
    "det": (lambda lib, a: [lib.linalg.det(a), a.det()], ("[2,3,3]",)),
    "det_singular": (lambda lib, a: lib.det(lib.cat([a[..., :2], a[..., :1]], -1)), ("[3,3]",)),
    "det_zero": (lambda lib, a: lib.det(a * 0), ("[2,2]",)),
    "slogdet": (lambda lib, a: [*lib.linalg.slogdet(regular(lib, a)), regular(lib, a).logdet()], ("[2,3,3]",)),
    "logdet_negative": (lambda lib, a: lib.logdet(-regular(lib, a)), ("[3,3]",)),
    "inv_ex": (lambda lib, a: list(lib.linalg.inv_ex(regular(lib, a))), ("[2,3,3]",)),
    "solve_ex": (lambda lib, a, b: [*lib.linalg.solve_ex(regular(lib, a), b), *lib.linalg.solve_ex(
        regular(lib, a), b.mT, left=False)], ("[2,3,3]", "[3,4]")),
    "lu": (lambda lib, a: list(lib.linalg.lu(a)), ("[2,4,4]",)),
    "lu_tall": (lambda lib, a: [*lib.linalg.lu(a)], ("[5,3]",)),
    "lu_wide": (lambda lib, a: [*lib.linalg.lu(a)], ("[2,3,5]",)),
    "lu_factor": (lambda lib, a: [*lib.linalg.lu_factor(a), *lib.linalg.lu_factor_ex(a)], ("[2,3,4]",)),
    "lu_unpack": (lambda lib, a: [*lib.lu_unpack(*lib.linalg.lu_factor(a))], ("[4,3]",)),
    "lu_large": (lambda lib, a: [*lib.linalg.lu(a)], ("[40,50]",)),
    "lu_solve": (lambda lib, a, b: [
        lib.linalg.lu_solve(*lib.linalg.lu_factor(regular(lib, a)), c, left=left, adjoint=adjoint)
        for left, c in ((True, b), (False, b.mT)) for adjoint in (False, True)], ("[2,3,3]", "[3,2]")),
    "qr": (lambda lib, a: [*lib.linalg.qr(regular(lib, a)), *regular(lib, a).qr()], ("[2,3,3]",)),
    "qr_tall": (lambda lib, a: [*lib.linalg.qr(apart(lib, a))], ("[5,3]",)),
    "qr_wide": (lambda lib, a: [*lib.linalg.qr(apart(lib, a), mode="complete")], ("[3,5]",)),
    "qr_values": (lambda lib, a: [*lib.linalg.qr(apart(lib, a.detach()), "complete"), *lib.linalg.qr(a.detach(), "r")],
                  ("[5,3]",)),
    "householder": (lambda lib, a: lib.linalg.householder_product(*(t * 0.9 for t in lib.geqrf(a.detach()))) * a.sum(),
                    ("[2,4,3]",)),
    "ormqr": (lambda lib, a, b, c: [lib.ormqr(a, b, c, True, False), lib.ormqr(a, b, c.mT, False, True)],
              ("[4,3]", "[3]", "[4,2]")),
    "eigh": (lambda lib, a: [(lambda w, v: [w, v.abs()])(*lib.linalg.eigh(apart(lib, symmetric(a)), uplo))[i]
                             for uplo in ("L", "U") for i in (0, 1)], ("[2,3,3]",)),
    "eigvalsh": (lambda lib, a: [lib.linalg.eigvalsh(a), lib.linalg.eigvalsh(a, UPLO="U")], ("[2,3,3]",)),
    "svd": (lambda lib, a: [t.abs() for t in lib.linalg.svd(apart(lib, a))], ("[2,3,3]",)),
    "svd_tall": (lambda lib, a: [t.abs() for t in lib.linalg.svd(apart(lib, a), full_matrices=False)], ("[5,3]",)),
    "svd_wide": (lambda lib, a: [t.abs() for t in apart(lib, a).svd()], ("[3,5]",)),
    "svd_full": (lambda lib, a: [lib.linalg.svd(a)[1], *(t.abs().detach()[..., :3] for t in lib.linalg.svd(a)[:1])],
                 ("[3,5]",)),
    "svdvals": (lambda lib, a: lib.linalg.svdvals(a), ("[2,3,5]",)),
    "pinv": (lambda lib, a: [lib.linalg.pinv(a), a.pinverse(), lib.linalg.pinv(low_rank(a), rtol=1e-3)], ("[2,3,4]",)),
    "pinv_atol": (lambda lib, a: [lib.linalg.pinv(apart(lib, a), atol=3.0), lib.linalg.pinv(
        symmetric(a), hermitian=True, rtol=1e-3)], ("[3,3]",)),
    "lstsq": (lambda lib, a, b: [*lib.linalg.lstsq(a, b)], ("[2,5,3]", "[2,5,2]")),
    "lstsq_wide": (lambda lib, a, b: [*lib.linalg.lstsq(a, b, driver="gels")], ("[3,5]", "[3,2]")),
    "lstsq_all": (lambda lib, a, b: [*lib.linalg.lstsq(a, b, driver="gelsd")], ("[5,3]", "[5,1]")),
    "rank": (lambda lib, a: [lib.linalg.matrix_rank(a), lib.linalg.matrix_rank(low_rank(a), rtol=1e-4),
                             lib.linalg.matrix_rank(symmetric(a), hermitian=True)], ("[2,3,3]",)),
    "cond": (lambda lib, a: [lib.linalg.cond(regular(lib, a), p) for p in (None, -2)] + [
        lib.linalg.cond(regular(lib, a.detach()), p) for p in (1, -1, INF, -INF, "fro", "nuc")], ("[2,3,3]",)),
    "matrix_power": (lambda lib, a: [lib.linalg.matrix_power(regular(lib, a) / 9, n) for n in (-2, -1, 0, 1, 2, 5)],
                     ("[2,3,3]",)),
    "matrix_exp": (lambda lib, a: [lib.linalg.matrix_exp(a), (3 * a).matrix_exp() / 100], ("[2,3,3]",)),
    "norms": (lambda lib, a: [lib.linalg.norm(a, p, (1, 2)) for p in ("fro", "nuc", 1, -1, 2, -2, INF, -INF)],
              ("[2,3,4]",)),
    "norms_kept": (lambda lib, a: [lib.linalg.matrix_norm(a, p, (2, 0), keepdim=True) for p in (
        "fro", "nuc", 1, -1, 2, -2, INF, -INF)], ("[2,3,4]",)),
    "vector_norms": (lambda lib, a: [lib.linalg.vector_norm(a, p, d) for p in (0, 1, 2, 3.5, -1, INF, -INF)
                                     for d in (None, 1, (0, 2))] + [lib.linalg.norm(a), lib.linalg.norm(a, dim=-1)],
                     ("[2,3,4]",)),
    "old_norms": (lambda lib, a: [lib.norm(a, p, dim=(0, 1)) for p in ("fro", "nuc")] + [lib.nuclear_norm(a)]
                  + [lib.frobenius_norm(a, (0,), True)], ("[3,4]",)),
    "tensorsolve": (lambda lib, a, b: [lib.linalg.tensorsolve(regular(lib, a).reshape(2, 3, 6), b), lib.linalg.tensorinv(
        regular(lib, a).reshape(2, 3, 6), ind=2)], ("[6,6]", "[2,3]")),
    "older": (lambda lib, a, b: [lib.cholesky_inverse(spd(lib, a).tril()).detach(), *lib.triangular_solve(
        b, regular(lib, a), upper=False, transpose=True)], ("[3,3]", "[3,2]")),
    "products": (lambda lib, a, b: [lib.linalg.cross(a, b), lib.linalg.multi_dot([a[0], a.mT, b, b[0]]),
                                    lib.linalg.multi_dot([a, b.mT]), lib.linalg.vander(a), lib.linalg.vander(a, N=2)],
                 ("[4,3]", "[4,3]")),
    "views": (lambda lib, a: [lib.linalg.diagonal(a), lib.linalg.vecdot(a, a * 2), lib.linalg.vecdot(a, a, dim=0)],
              ("[3,3]",)),
}


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_are_pytorchs(name: str) -> None:
    function, shapes = CASES[name]
    check(function, *["f32" + shape for shape in shapes], tolerance=1000)
    check(compiled(function), *["f64" + shape for shape in shapes], tolerance=1000)


@WAYS
def test_factors_multiply_to_the_matrix(options: dict[str, Any] | None) -> None:
    a = fb.from_numpy(np.random.default_rng(0).standard_normal((2, 20, 17)))

    def products(a: fb.Tensor) -> list[fb.Tensor]:
        q, r = fb.linalg.qr(a)
        whole, full = fb.linalg.qr(a, mode="complete")
        u, s, vh = fb.linalg.svd(a)
        p, lower, upper = fb.linalg.lu(a)
        w, v = fb.linalg.eigh(a @ a.mT)
        return [q @ r, whole @ full, (u[..., :17] * s[..., None, :]) @ vh, p @ lower @ upper,
                fb.linalg.pinv(fb.linalg.pinv(a)), ((v * w[..., None, :]) @ v.mT - a @ a.mT)[..., :17] + a]

    for found in run(products, options)(a):
        np.testing.assert_allclose(found.numpy(), a.numpy(), rtol=0, atol=1e-12)


@WAYS
@pytest.mark.parametrize("shape", [(0, 0), (0, 2, 2), (3, 0, 0)])
def test_matrices_of_nothing(options: dict[str, Any] | None, shape: tuple[int, ...]) -> None:
    a = fb.zeros(shape, requires_grad=True)

    def all_of(a: fb.Tensor) -> list[fb.Tensor]:
        return [fb.det(a), fb.linalg.slogdet(a).logabsdet, fb.linalg.inv(a), *fb.linalg.qr(a), *fb.linalg.svd(a),
                *fb.linalg.lu(a), *fb.linalg.eigh(a), fb.linalg.matrix_exp(a), fb.linalg.pinv(a),
                fb.linalg.matrix_power(a, 3)]

    found = run(all_of, options)(a)
    assert found[0].tolist() == fb.ones(shape[:-2]).tolist() and found[2].shape == shape
    sum(t.sum() for t in found if t.requires_grad).backward()
    assert a.grad is not None and a.grad.shape == shape


def test_svd_of_no_columns_is_an_identity() -> None:
    for decorated in (fb.linalg.svd, fb.compile(fb.linalg.svd)):
        u, s, vh = decorated(fb.zeros(2, 0))
        assert (u.tolist(), s.tolist(), vh.shape) == ([[1.0, 0.0], [0.0, 1.0]], [], (0, 0))


@WAYS
def test_what_is_not_found_is_named_with_the_op(options: dict[str, Any] | None) -> None:
    bad, worse = fb.stack([fb.eye(2), fb.ones(2, 2)]), fb.stack([fb.eye(2), fb.full((2, 2), NAN)])
    with pytest.raises(LinAlgError, match=r"linalg\.inv: matrix 1 of the batch is singular"):
        run(lambda a: fb.linalg.inv(a), options)(bad)
    with pytest.raises(LinAlgError, match=r"linalg\.inv: the matrix is singular"):
        run(lambda a: a.inverse(), options)(bad[1])
    for function in (fb.linalg.eigh, fb.linalg.eigvalsh):
        with pytest.raises(LinAlgError, match=r"linalg\.eigh: .* matrix 1 of the batch"):
            run(lambda a, function=function: function(a), options)(worse)
    for function in (fb.linalg.svd, fb.linalg.svdvals, fb.linalg.pinv):
        with pytest.raises(LinAlgError, match=r"linalg\.svd: .* matrix 1 of the batch"):
            run(lambda a, function=function: function(a), options)(worse)


@WAYS
def test_what_has_no_inverse_is_told_by_info(options: dict[str, Any] | None) -> None:
    a = fb.stack([2 * fb.eye(2), fb.ones(2, 2), fb.zeros(2, 2)])
    inverse, info = run(lambda a: fb.linalg.inv_ex(a), options)(a)
    assert info.tolist() == [0, 2, 1] and info.dtype is fb.int32
    assert inverse[0].tolist() == [[0.5, 0.0], [0.0, 0.5]] and inverse[1:].isnan().all()
    assert run(lambda a: fb.linalg.solve_ex(a, a[0]).info, options)(a).tolist() == [0, 2, 1]
    assert run(lambda a: fb.linalg.lu_factor_ex(a).info, options)(a).tolist() == [0, 2, 1]
    assert run(lambda a: fb.linalg.slogdet(a).logabsdet, options)(a).tolist()[1:] == [-INF, -INF]
    assert run(lambda a: fb.linalg.cond(a, 1), options)(a).tolist() == [1.0, INF, INF]
    with pytest.raises(LinAlgError, match="lu_factor_ex: matrix 1 of the batch is singular"):
        fb.linalg.lu_factor_ex(a, check_errors=True)
    with pytest.raises(LinAlgError, match="singular"):
        run(lambda a: fb.linalg.inv_ex(a, check_errors=True), options)(a)


def test_low_rank_factors_are_near() -> None:
    rng = np.random.default_rng(0)
    a = fb.from_numpy(rng.standard_normal((30, 3)) @ rng.standard_normal((3, 12)))
    for lowrank in (fb.svd_lowrank, fb.compile(fb.svd_lowrank)):
        u, s, v = lowrank(a, q=4)
        np.testing.assert_allclose(((u * s) @ v.mT).numpy(), a.numpy(), atol=1e-10)
    u, s, v = fb.pca_lowrank(a, q=4)
    np.testing.assert_allclose(((u * s) @ v.mT).numpy(), (a - a.mean(0)).numpy(), atol=1e-10)


MISUSES: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: fb.det(fb.ones(3, 2)), ShapeError, r"linalg.det: takes square matrices, got f32\[3,2\]"),
    (lambda: fb.linalg.svd(fb.ones(3)), ShapeError, "linalg.svd: takes matrices"),
    (lambda: fb.linalg.qr(fb.eye(3).half()), TypeInferenceError, "linalg.qr: takes f32 or f64, got f16"),
    (lambda: fb.linalg.qr(fb.eye(3), mode="full"), RuntimeError, "mode must be 'reduced', 'complete' or 'r'"),
    (lambda: fb.linalg.eigh(fb.eye(3), "X"), RuntimeError, "UPLO must be 'L' or 'U'"),
    (lambda: fb.linalg.lu(fb.eye(3), pivot=False), NotImplementedError, "linalg.lu: LU factors without exchanges"),
    (lambda: fb.linalg.svd(fb.eye(3), driver="gesvd"), RuntimeError, "argument 'driver' is for CUDA"),
    (lambda: fb.linalg.matrix_power(fb.eye(3), 1.5), TypeError, "argument 'n' must be an int"),
    (lambda: fb.linalg.matrix_norm(fb.eye(3), 3), RuntimeError, "linalg.matrix_norm: ord must be"),
    (lambda: fb.linalg.vector_norm(fb.ones(3).int()), RuntimeError, "takes floating-point tensors"),
    (lambda: fb.linalg.norm(fb.ones(2, 2, 2), "fro"), RuntimeError, "is for tensors of 2 dims"),
    (lambda: fb.linalg.cond(fb.eye(3), 3), RuntimeError, "linalg.cond: p must be"),
    (lambda: fb.linalg.lstsq(fb.eye(3), fb.ones(2, 1)), ShapeError, "linalg.lstsq: shapes don't fit"),
    (lambda: fb.linalg.householder_product(fb.ones(2, 3), fb.ones(2)), ShapeError, "takes k <= n <= m"),
    (lambda: fb.linalg.lu_solve(fb.eye(3), fb.ones(3), fb.ones(3, 1)), RuntimeError, "pivots are int32"),
    (lambda: fb.linalg.tensorinv(fb.ones(2, 3)), ShapeError, "linalg.tensorinv"),
    (lambda: fb.linalg.ldl_factor(fb.eye(3)), NotImplementedError, "linalg.ldl_factor: not implemented"),
    (lambda: fb.symeig(fb.eye(3)), RuntimeError, "use fb.linalg.eigh"),
]


@pytest.mark.parametrize("number", range(len(MISUSES)))
def test_what_does_not_fit_is_an_error(number: int) -> None:
    misuse, kind, message = MISUSES[number]
    for attempt in (misuse, fb.compile(misuse)):
        with pytest.raises(kind, match=message):
            attempt()


def test_no_derivative_is_an_error_that_says_so() -> None:
    a = fb.from_numpy(np.random.default_rng(0).standard_normal((4, 2))).requires_grad_()
    with pytest.raises((FlambeauError, NotImplementedError), match=r"linalg\.qr: has no derivative with mode='complete'"):
        fb.linalg.qr(a, mode="complete").Q.sum().backward()
    with pytest.raises((FlambeauError, NotImplementedError), match="use fb.linalg.qr"):
        fb.geqrf(a).a.sum().backward()
