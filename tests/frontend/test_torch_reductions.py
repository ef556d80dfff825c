"""Reductions, products and orders, against PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from against_torch import check, ours, theirs

import flambeau as fb

pytestmark = pytest.mark.torch
Case = Callable[..., Any]
DIMS: list[Any] = [None, 0, 1, -1, (0, 2), (1,), (-1, 0)]


@pytest.mark.parametrize(
    "name", ["sum", "mean", "amax", "amin", "std", "var", "logsumexp", "norm", "nansum", "any", "all"]
)
@pytest.mark.parametrize("dim", DIMS, ids=str)
@pytest.mark.parametrize("keepdim", [False, True])
def test_reductions_agree(name: str, dim: Any, keepdim: bool) -> None:
    dim = tuple(range(3)) if dim is None and name in ("logsumexp", "amax", "amin", "any", "all") else dim

    def run(lib: Any, x: Any) -> Any:
        if name == "norm":
            return lib.norm(x, dim=dim, keepdim=keepdim)
        return getattr(x, name)(dim=dim, keepdim=keepdim)

    check(run, "f32[2,3,4]", tolerance=16)


@pytest.mark.parametrize("dtype", ["bool", "u8", "i32", "i64", "f16", "bf16", "f64"])
def test_reductions_of_dtypes_agree(dtype: str) -> None:
    check(
        lambda lib, x: [
            x.sum(),
            x.sum(0),
            x.sum(dtype=lib.float32),
            x.amax(),
            x.amin(1),
            x.any(),
            x.cumsum(0),
        ],
        f"{dtype}[3,4]",
        gradients=False,
    )
    check(
        lambda lib, x: [
            x.prod(),
            x.prod(1),
            x.max(),
            x.min(),
            x.argmax() if x.dtype != lib.bool else x.sum(),
        ],
        f"{dtype}[3,4]",
        gradients=False,
        tolerance=64,
    )


def test_prod_agrees_with_zeros() -> None:
    check(lambda lib, x: [x.prod(), x.prod(1), x.prod(0, keepdim=True)], "f32[3,4]")
    check(lambda lib, x: x.prod(1), "f32[3,3]", arrays=[np.array([[1.0, 0, 3], [0, 0, 2], [1, 2, 3]])])


@pytest.mark.parametrize("name", ["max", "min"])
def test_extremes_along_a_dim_agree(name: str) -> None:
    def run(lib: Any, x: Any) -> Any:
        along = getattr(x, name)(dim=1)
        return [
            along.values,
            along.indices,
            *getattr(lib, name)(x, 0, keepdim=True),
            getattr(x, name)(),
            getattr(lib, name)(x, x * 0.5),
        ]

    check(run, "f32[3,4]")


def test_arg_extremes_agree() -> None:
    check(
        lambda lib, x: [
            x.argmax(),
            x.argmax(0),
            x.argmin(1, keepdim=True),
            x.argmin(),
            x.argmax(keepdim=True),
        ],
        "f32[3,4]",
    )
    ties = np.array([[1.0, 3, 3], [np.nan, 1, np.nan]])
    check(
        lambda lib, x: [x.argmax(1), x.argmin(1), x.max(1).values], "f32[2,3]", arrays=[ties], gradients=False
    )


@pytest.mark.parametrize(
    "kwargs", [{}, {"correction": 0}, {"unbiased": False}, {"dim": 1, "correction": 2}, {"dim": (0, 1)}]
)
def test_variances_agree(kwargs: dict[str, Any]) -> None:
    check(lambda lib, x: [lib.var(x, **kwargs), lib.std(x, **kwargs)], "f32[4,5]", tolerance=16)
    check(
        lambda lib, x: [*lib.var_mean(x, 1), *lib.std_mean(x, 0, keepdim=True), x.var(False)],
        "f32[4,5]",
        tolerance=16,
    )


@pytest.mark.parametrize("p", [1, 2, 3, 0.5, 0, float("inf"), -float("inf"), "fro"])
def test_norms_agree(p: Any) -> None:
    check(lambda lib, x: [lib.norm(x, p), lib.norm(x, p, 1)], "f32[3,4]", tolerance=32, gradients=p != 0)


def test_running_sums_and_products_agree() -> None:
    check(lambda lib, x: [x.cumsum(0), x.cumsum(-1), x.cumprod(1), x.cumprod(0)], "f32[5,7]", tolerance=64)


def test_logsumexp_agrees_with_infinities() -> None:
    x = np.array([[-np.inf, -np.inf], [np.inf, 1.0], [1e4, -1e4], [-np.inf, 3.0]])
    check(lambda lib, x: lib.logsumexp(x, 1), "f32[4,2]", arrays=[x], gradients=False)


def test_empty_reductions_agree() -> None:
    check(lambda lib, x: [x.sum(0), x.prod(0), x.mean(1), x.sum(), x.any(0), x.all(0)], "f32[0,3]")


def test_softmaxes_agree() -> None:
    check(
        lambda lib, x: [
            lib.softmax(x, 1),
            lib.log_softmax(x, 0),
            x.softmax(-1),
            lib.F.softmin(x, 1),
            lib.softmax(x, 1, dtype=lib.float64),
        ],
        "f32[3,5]",
        tolerance=16,
    )
    check(lambda lib, x: [lib.softmax(x, 0), lib.log_softmax(x, 0)], "f32[]")


def test_orders_agree() -> None:
    check(
        lambda lib, x: [
            *x.sort(),
            *x.sort(0, descending=True),
            x.argsort(),
            *x.topk(2),
            *x.topk(2, 0, largest=False),
            *x.kthvalue(2),
            x.median(),
            *x.median(1),
            x.msort(),
        ],
        "f32[3,5]",
    )
    check(lambda lib, x: [lib.unique(x), *lib.unique(x, return_inverse=True, return_counts=True)], "i64[3,4]")


@pytest.mark.parametrize(
    ("case", "error"),
    [
        (lambda lib, x: x.sum(2), IndexError),
        (lambda lib, x: x.sum((0, 0)), RuntimeError),
        (lambda lib, x: x.long().mean(), RuntimeError),
        (lambda lib, x: lib.zeros(0).max(), (RuntimeError, IndexError)),
        (lambda lib, x: lib.zeros(0, 3).amax(0), IndexError),
        (lambda lib, x: x.argmax(5), IndexError),
        (lambda lib, x: x.topk(9), RuntimeError),
        (lambda lib, x: lib.softmax(x.long(), 0), RuntimeError),
        (lambda lib, x: x.cumsum(4), IndexError),
    ],
)
def test_errors_have_pytorchs_types(case: Case, error: Any) -> None:
    torch = theirs()
    with pytest.raises(error):
        case(torch, torch.ones(2, 3))
    with pytest.raises(error):
        case(ours, fb.ones(2, 3))


# -- products ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "shapes",
    [
        ("3", "3"),
        ("2,3", "3"),
        ("3", "3,4"),
        ("2,3", "3,4"),
        ("5,2,3", "3,4"),
        ("5,2,3", "3"),
        ("3", "5,3,4"),
        ("5,2,3", "5,3,4"),
        ("5,2,3", "1,3,4"),
        ("6,1,2,3", "5,3,4"),
        ("2,3", "5,3,4"),
        ("2,0", "0,3"),
        ("0,2", "2,3"),
        ("2,4,2,3", "4,3,2"),
    ],
)
def test_matmul_agrees_in_every_rank(shapes: tuple[str, str]) -> None:
    check(lambda lib, x, y: x @ y, *[f"f32[{s}]" for s in shapes])


@pytest.mark.parametrize("dtype", ["f16", "bf16", "f64", "i64"])
def test_matmul_of_dtypes_agrees(dtype: str) -> None:
    check(lambda lib, x, y: lib.matmul(x, y), f"{dtype}[3,4]", f"{dtype}[4,2]")


@pytest.mark.parametrize(
    "case",
    [
        lambda lib, x, y, v: lib.mm(x, y),
        lambda lib, x, y, v: lib.mv(x, v),
        lambda lib, x, y, v: lib.dot(v, v),
        lambda lib, x, y, v: lib.outer(v, x[:, 0]),
        lambda lib, x, y, v: lib.addmm(y[:, 0].sum(), x, y, beta=0.5, alpha=2),
        lambda lib, x, y, v: lib.addmv(x[:, 0], x, v),
        lambda lib, x, y, v: lib.bmm(x[None], y[None]),
        lambda lib, x, y, v: lib.baddbmm(lib.ones(1, 2, 4), x[None], y[None]),
        lambda lib, x, y, v: lib.trace(x @ y[:, :2]),
        lambda lib, x, y, v: lib.tensordot(x, y, 1),
        lambda lib, x, y, v: lib.tensordot(x, x, ([0, 1], [0, 1])),
        lambda lib, x, y, v: lib.inner(x, v),
        lambda lib, x, y, v: lib.F.linear(x, y.mT),
        lambda lib, x, y, v: lib.F.linear(x[None], y.mT, y[0]),
        lambda lib, x, y, v: lib.F.linear(v, y.mT, y[0]),
        lambda lib, x, y, v: lib.F.linear(x, v),
        lambda lib, x, y, v: lib.addr(x, x[:, 0], v),
    ],
)
def test_products_agree(case: Case) -> None:
    check(case, "f32[2,3]", "f32[3,4]", "f32[3]", tolerance=16)


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("ij,jk->ik", ("2,3", "3,4")),
        ("ij,jk", ("2,3", "3,4")),
        ("bij,bjk->bik", ("2,3,4", "2,4,5")),
        ("i,i->", ("3", "3")),
        ("i,j->ij", ("3", "4")),
        ("ij->ji", ("2,3",)),
        ("ij->", ("2,3",)),
        ("ij->j", ("2,3",)),
        ("ii->i", ("3,3",)),
        ("ii", ("3,3",)),
        ("bhid,bhjd->bhij", ("2,2,3,4", "2,2,5,4")),
        ("...ij,...jk->...ik", ("2,2,3,4", "2,4,5")),
        ("...i->...", ("2,3",)),
        ("ij,kj,lj->ikl", ("2,3", "4,3", "5,3")),
        ("ijk,jil->kl", ("2,3,4", "3,2,5")),
        ("ij,ij->ij", ("2,3", "2,3")),
        ("ij,j->ij", ("2,3", "3")),
        ("a,b,c->cab", ("2", "3", "4")),
        ("bn,anm,bm->ba", ("2,5", "3,5,4", "2,4")),
        ("ijij->ij", ("2,3,2,3",)),
        ("ij , jk -> ki", ("2,3", "3,4")),
        ("ab,bc,cd", ("2,3", "3,4", "4,2")),
        ("iji,j->i", ("2,3,2", "3")),
    ],
)
def test_einsum_agrees(equation: str, shapes: tuple[str, ...]) -> None:
    check(lambda lib, *xs: lib.einsum(equation, *xs), *[f"f32[{s}]" for s in shapes], tolerance=32)


@pytest.mark.parametrize("equation", ["i,i->i", "i,j->ij"])
def test_einsum_that_sums_nothing_promotes_as_multiplication_does(equation: str) -> None:
    for first in ("i64", "i32", "bool", "f64"):
        check(lambda lib, x, y: lib.einsum(equation, x, y), f"{first}[3]", "f32[3]")


@pytest.mark.parametrize(("equation", "shapes"), [("ij,jk->ik", ("2,1", "1,3")), ("ij,kj->ik", ("2,1", "3,1"))])
def test_einsum_that_sums_one_product_promotes_too(equation: str, shapes: tuple[str, ...]) -> None:
    for lhs, rhs in (("f32", "f64"), ("f64", "f32"), ("i64", "f32")):
        check(lambda lib, *xs: lib.einsum(equation, *xs), f"{lhs}[{shapes[0]}]", f"{rhs}[{shapes[1]}]")


@pytest.mark.parametrize(
    ("case", "error"),
    [
        (lambda lib, x: x @ x, RuntimeError),
        (lambda lib, x: lib.mm(x, lib.ones(3)), RuntimeError),
        (lambda lib, x: x @ x.mT.double(), RuntimeError),
        (lambda lib, x: lib.dot(x, x), RuntimeError),
        (lambda lib, x: lib.einsum("ij,jk->ik", x), RuntimeError),
        (lambda lib, x: lib.einsum("ij,jk->ik", x, x), RuntimeError),
        (lambda lib, x: lib.einsum("ij,kj->ik", x, lib.arange(6).view(2, 3)), RuntimeError),
        (lambda lib, x: lib.einsum("ijk->i", x), RuntimeError),
        (lambda lib, x: lib.bmm(x[None], lib.ones(2, 3, 2)), RuntimeError),
        (lambda lib, x: lib.F.linear(x, lib.ones(4, 4)), RuntimeError),
        (lambda lib, x: x @ 2, (RuntimeError, TypeError)),
        (lambda lib, x: lib.tensordot(x, x, 1), RuntimeError),
    ],
)
def test_product_errors_have_pytorchs_types(case: Case, error: Any) -> None:
    torch = theirs()
    with pytest.raises(error):
        case(torch, torch.ones(2, 3))
    with pytest.raises(error):
        case(ours, fb.ones(2, 3))
