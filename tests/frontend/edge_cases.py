"""Functions at the edges of their domains: zeros of both signs, ones, infinities, NaN, what is tiny or huge, ties.

A case is a function of one library (PyTorch or Flambeau) and its tensors, and a kind that says what they hold:
"one" an edge each, "two" every pair of edges, "rows" every row of `WIDTH` edges.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

INF, NAN = float("inf"), float("nan")
EDGES = (0.0, -0.0, 1.0, -1.0, 0.5, -2.0, 3.0, 20.5, INF, -INF, NAN, 1e-30, -1e30, 3e38)
PAIRED = (0.0, -0.0, 1.0, -1.0, 2.5, INF, -INF, NAN, 1e-30)
IN_ROWS = (0.0, -0.0, 1.0, -2.0, INF, -INF, NAN)


def operands(kind: str, width: int = 2) -> list[np.ndarray]:
    """The tensors' elements, in f64."""
    if kind == "one":
        return [np.array(EDGES)]
    if kind == "two":
        x, y = zip(*itertools.product(PAIRED, PAIRED), strict=True)
        return [np.array(x), np.array(y)]
    if kind == "rows":
        return [np.array(list(itertools.product(IN_ROWS, repeat=width)))]
    if kind == "two rows":
        rows = np.array(list(itertools.product(IN_ROWS, repeat=width)))
        return [rows, np.tile([1.0, 0.0, 2.0][:width], (len(rows), 1))]
    raise AssertionError(kind)


@dataclass(frozen=True)
class Case:
    kind: str
    function: Callable[..., Any]


def _named(kind: str, *names: str, **options: Any) -> dict[str, Case]:
    """Functions of the library, called by name with the same options."""
    text = "".join(f", {key}={value}" for key, value in options.items())

    def case(name: str) -> Case:
        def call(lib: Any, *tensors: Any) -> Any:
            return getattr(lib, name)(*tensors, **options)

        return Case(kind, call)

    return {f"{name}({kind}{text})": case(name) for name in names}


def _of_nn(kind: str, *names: str, **options: Any) -> dict[str, Case]:
    """The same for nn.functional."""
    text = "".join(f", {key}={value}" for key, value in options.items())

    def case(name: str) -> Case:
        def call(lib: Any, *tensors: Any) -> Any:
            return getattr(lib.F, name)(*tensors, **options)

        return Case(kind, call)

    return {f"F.{name}({kind}{text})": case(name) for name in names}


def _written(kind: str, **functions: Callable[..., Any]) -> dict[str, Case]:
    return {f"{name}({kind})": Case(kind, function) for name, function in functions.items()}


ZEROS = "+0 is greater than -0, where PyTorch takes either"
EXTREMES = f"a NaN takes the gradient alone, where PyTorch's is NaN everywhere; {ZEROS}"
MOMENTS = "beside an infinity the mean is infinite and gradients are NaN"
SMALL = "what is shrunk to 0 keeps its sign, as in PyTorch's narrower dtypes"
LOSSES = "the sign of a loss of 0"

CASES: dict[str, Case] = {
    **_named("one", "abs", "acos", "acosh", "asin", "asinh", "atan", "atanh", "ceil", "cos", "cosh", "erf", "erfc",
             "exp", "exp2", "expm1", "floor", "frac", "log", "log10", "log1p", "log2", "nan_to_num", "neg",
             "reciprocal", "relu", "round", "rsqrt", "sigmoid", "sign", "sin", "sinh", "sqrt", "square", "tan",
             "tanh", "trunc", "positive", "isnan", "isinf", "isfinite", "logical_not"),
    **_named("one", "clamp", min=0.0),
    **_named("one", "clamp", max=1.0),
    **_named("one", "clamp", min=-1.0, max=1.0),
    **_named("one", "clamp", min=NAN),
    **_named("one", "clamp", min=0.0, max=NAN),
    **_named("one", "clamp", min=1.0, max=-1.0),
    **_named("one", "round", decimals=1),
    **{name: case for p in (0, 1, 2, 3, 0.5, -1, -0.5, -2, 1.5, 4) for name, case in
       _written("one", **{f"pow_{p}": lambda lib, x, p=p: x ** p}).items()},
    **_written("one", rpow=lambda lib, x: 2.0 ** x, rpow_0=lambda lib, x: 0.0 ** x, rdiv=lambda lib, x: 1.0 / x,
               remainder_2=lambda lib, x: x % 2.0, floordiv_2=lambda lib, x: x.detach() // 2.0,
               rsub=lambda lib, x: 1.0 - x, times_0=lambda lib, x: x * 0.0,
               masked_fill=lambda lib, x: x.masked_fill(x > 0, 1.0),
               where_positive=lambda lib, x: lib.where(x > 0, x, lib.zeros_like(x)),
               div_floor=lambda lib, x: lib.div(x, 2.0, rounding_mode="floor"),
               div_trunc=lambda lib, x: lib.div(x, 2.0, rounding_mode="trunc"),
               lerp_0=lambda lib, x: lib.lerp(x, lib.ones_like(x), 0.0),
               lerp_1=lambda lib, x: lib.lerp(lib.ones_like(x), x, 1.0),
               lerp_half=lambda lib, x: lib.lerp(lib.ones_like(x), x, 0.5)),
    **_of_nn("one", "celu", "elu", "gelu", "hardshrink", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu",
             "logsigmoid", "mish", "relu", "relu6", "selu", "silu", "softplus", "softshrink", "softsign",
             "tanhshrink"),
    **_of_nn("one", "gelu", approximate="tanh"),
    **_of_nn("one", "threshold", threshold=0.0, value=9.0),
    **_of_nn("one", "softplus", beta=2.0, threshold=5.0),
    **_of_nn("one", "celu", alpha=2.0),
    **_of_nn("one", "elu", alpha=0.5),
    **_of_nn("one", "leaky_relu", negative_slope=0.0),
    **_of_nn("one", "hardshrink", lambd=1.0),
    **_of_nn("one", "softshrink", lambd=1.0),
    **_written("one", dropout_1=lambda lib, x: lib.F.dropout(x, 1.0),
               prelu=lambda lib, x: lib.F.prelu(x, lib.full((1,), 0.25, dtype=x.dtype))),
    **_named("two", "add", "sub", "mul", "div", "pow", "maximum", "minimum", "fmax", "fmin", "atan2", "hypot",
             "logaddexp", "xlogy", "remainder", "fmod", "eq", "ne", "lt", "le", "gt", "ge"),
    **_written("two", lerp_0=lambda lib, x, y: lib.lerp(x, y, 0.0), lerp_1=lambda lib, x, y: lib.lerp(x, y, 1.0),
               lerp_third=lambda lib, x, y: lib.lerp(x, y, 0.3), lerp_most=lambda lib, x, y: lib.lerp(x, y, 0.7),
               lerp_weight=lambda lib, x, y: lib.lerp(lib.ones_like(x), x, y),
               where=lambda lib, x, y: lib.where(x > 0, x, y),
               where_no=lambda lib, x, y: lib.where(x > 1e39, x, y),
               clamp_min=lambda lib, x, y: lib.clamp(x, min=y), clamp_max=lambda lib, x, y: lib.clamp(x, max=y),
               addcmul=lambda lib, x, y: lib.addcmul(lib.ones_like(x), x, y, value=2.0),
               addcdiv=lambda lib, x, y: lib.addcdiv(lib.ones_like(x), x, y),
               isclose=lambda lib, x, y: lib.isclose(x, y),
               div_floor=lambda lib, x, y: lib.div(x, y, rounding_mode="floor"),
               div_trunc=lambda lib, x, y: lib.div(x, y, rounding_mode="trunc"),
               mse=lambda lib, x, y: lib.F.mse_loss(x, y, reduction="none"),
               l1=lambda lib, x, y: lib.F.l1_loss(x, y, reduction="none"),
               smooth_l1=lambda lib, x, y: lib.F.smooth_l1_loss(x, y, reduction="none"),
               smooth_l1_0=lambda lib, x, y: lib.F.smooth_l1_loss(x, y, reduction="none", beta=0.0),
               huber=lambda lib, x, y: lib.F.huber_loss(x, y, reduction="none"),
               kl_div=lambda lib, x, y: lib.F.kl_div(x, y, reduction="none"),
               kl_div_log=lambda lib, x, y: lib.F.kl_div(x, y, reduction="none", log_target=True),
               bce=lambda lib, x, y: lib.F.binary_cross_entropy(
                   x.nan_to_num().clamp(0, 1), y.nan_to_num().clamp(0, 1), reduction="none"),
               bce_logits=lambda lib, x, y: lib.F.binary_cross_entropy_with_logits(x, y, reduction="none"),
               poisson=lambda lib, x, y: lib.F.poisson_nll_loss(x, y, reduction="none"),
               poisson_full=lambda lib, x, y: lib.F.poisson_nll_loss(x, y, reduction="none", full=True),
               poisson_rate=lambda lib, x, y: lib.F.poisson_nll_loss(x, y, reduction="none", log_input=False),
               gaussian=lambda lib, x, y: lib.F.gaussian_nll_loss(x, lib.ones_like(x), y.abs(), reduction="none"),
               soft_margin=lambda lib, x, y: lib.F.soft_margin_loss(x, y.detach(), reduction="none"),
               hinge=lambda lib, x, y: lib.F.hinge_embedding_loss(x, y.sign().detach() + (y == 0),
                                                                   reduction="none"),
               ranking=lambda lib, x, y: lib.F.margin_ranking_loss(x, y, lib.ones_like(x), reduction="none",
                                                                    margin=1.0)),
    **_named("rows", "sum", "mean", "prod", "amax", "amin", "std", "var", "nansum", "logsumexp", "softmax",
             "log_softmax", "cumsum", "cumprod", "any", "all", "argmax", "argmin", "count_nonzero", dim=1),
    **_named("rows", "max", "min", "median", dim=1),
    **_named("rows", "sort", dim=1, stable=True),
    **{name: case for p in (0, 0.5, 1, 1.5, 2, 3, INF, -INF, -1) for name, case in
       _written("rows", **{f"norm_{p}": lambda lib, x, p=p: lib.norm(x, p, 1)}).items()},
    **_of_nn("rows", "softmin", "normalize", "glu", dim=1),
    **_of_nn("rows", "normalize", dim=1, p=1.0),
    **_written("rows", var_0=lambda lib, x: lib.var(x, 1, correction=0),
               std_0=lambda lib, x: lib.std(x, 1, correction=0),
               std_mean=lambda lib, x: lib.std_mean(x, 1), aminmax=lambda lib, x: lib.aminmax(x, dim=1),
               layer_norm=lambda lib, x: lib.F.layer_norm(x, x.shape[1:]),
               rms_norm=lambda lib, x: lib.F.rms_norm(x, x.shape[1:], eps=1e-6),
               group_norm=lambda lib, x: lib.F.group_norm(x.reshape(len(x), 1, -1), 1),
               max_pool=lambda lib, x: lib.F.max_pool1d(x, 2, 1),
               max_pool_padded=lambda lib, x: lib.F.max_pool1d(x, 2, 1, 1),
               avg_pool=lambda lib, x: lib.F.avg_pool1d(x, 2, 1),
               avg_pool_padded=lambda lib, x: lib.F.avg_pool1d(x, 2, 1, 1),
               adaptive_avg_pool=lambda lib, x: lib.F.adaptive_avg_pool1d(x, 3),
               embedding=lambda lib, x: lib.F.embedding(lib.tensor([0, 1, 1]), x, padding_idx=0),
               index_select=lambda lib, x: x.index_select(1, lib.tensor([0, 0])),
               gather=lambda lib, x: x.gather(1, lib.zeros_like(x).long()),
               first=lambda lib, x: x[:, 0],
               logcumsum=lambda lib, x: lib.log(lib.cumsum(lib.exp(x), 1)),
               flat_max=lambda lib, x: x.nan_to_num().max(),
               cross_entropy=lambda lib, x: lib.F.cross_entropy(x, lib.zeros_like(x)[:, 0].long(),
                                                                reduction="none"),
               cross_entropy_smooth=lambda lib, x: lib.F.cross_entropy(
                   x, lib.zeros_like(x)[:, 0].long(), reduction="none", label_smoothing=0.25),
               cross_entropy_soft=lambda lib, x: lib.F.cross_entropy(
                   x, lib.eye(x.shape[1], dtype=x.dtype)[:1].expand(len(x), -1), reduction="none"),
               nll=lambda lib, x: lib.F.nll_loss(x, lib.zeros_like(x)[:, 0].long(), reduction="none"),
               nll_ignored=lambda lib, x: lib.F.nll_loss(x, lib.arange(len(x)) % 2, ignore_index=1,
                                                         reduction="none")),
    **_written("rows", pairwise_equal=lambda lib, x: lib.F.pairwise_distance(x, x.detach(), eps=0.0),
               dist=lambda lib, x: lib.dist(x, lib.ones_like(x)),
               attention=lambda lib, x: lib.F.scaled_dot_product_attention(
                   *[lib.eye(2, dtype=x.dtype).expand(len(x), 2, 2)] * 3,
                   x.nan_to_num(0.0, 5.0, -INF)[:, None].expand(-1, 2, -1)),
               cross_entropy_weighted=lambda lib, x: lib.F.cross_entropy(
                   x, lib.zeros_like(x)[:, 0].long(), reduction="none",
                   weight=lib.tensor([2.0, 0.5], dtype=x.dtype))),
    **_written("two rows", pairwise=lambda lib, x, y: lib.F.pairwise_distance(x, y),
               pairwise_0=lambda lib, x, y: lib.F.pairwise_distance(x, y, eps=0.0),
               cosine=lambda lib, x, y: lib.F.cosine_similarity(x, y, dim=1)),
}

# Where an edge is deliberately not PyTorch's, and why. Everything else is held to PyTorch's values and gradients.
DIFFERENT: dict[str, str] = {
    "maximum(two)": ZEROS, "minimum(two)": ZEROS, "clamp_min(two)": ZEROS, "clamp_max(two)": ZEROS,
    "amax(rows, dim=1)": EXTREMES, "amin(rows, dim=1)": EXTREMES, "aminmax(rows)": EXTREMES,
    "pow_-0.5(one)": "at -inf PyTorch's own derivative is taken of a power that its forward is not",
    "pow_1.5(one)": "at -inf C's pow of 0.5 is inf, where PyTorch takes the root of a negative number",
    "F.hardswish(one)": "the gradient at NaN is NaN",
    "F.hardsigmoid(one)": "PyTorch computes the slope 1/6 in float32 whatever the dtype",
    "F.softshrink(one)": SMALL, "F.softshrink(one, lambd=1.0)": SMALL,
    "dropout_1(one)": "what is dropped is 0, where PyTorch multiplies infinities by 0",
    "logaddexp(two)": "equal infinities share the gradient, where PyTorch divides them",
    "bce(two)": "PyTorch's least slope is float32's 1e-12; a gradient of NaN that nan_to_num replaced is selected away",
    "soft_margin(two)": "log(1 + exp(x)) does not overflow",
    "poisson_full(two)": "what Stirling's formula is not asked for has no gradient, where PyTorch's is NaN",
    "var(rows, dim=1)": MOMENTS, "var_0(rows)": MOMENTS, "std_mean(rows)": MOMENTS,
    "cumprod(rows, dim=1)": "the product of the others, where PyTorch divides infinities",
    **{f"norm_{p}(rows)": "a finite element beside an infinite one has the gradient 0"
       for p in (0.5, 1.5, 3, -1)},
    "max_pool(rows)": "of several NaN in a window the first wins", "max_pool_padded(rows)": "as max_pool",
    "layer_norm(rows)": "the sign of a zero mean of zeros",
    "nll(rows)": LOSSES, "nll_ignored(rows)": LOSSES,
}
