"""`out=`: a function's results written over tensors that are given."""
from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, MutableMapping, Sequence
from types import FunctionType
from typing import Any, Final

from flambeau.errors import ShapeError
from flambeau.frontend.active import active
from flambeau.frontend.functions.coerce import cast, category, user_line
from flambeau.frontend.tape.autograd import grad_mode
from flambeau.frontend.tape.writes import assign_
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.warned import warn

# What takes `out=`, by the name of the function: PyTorch's functions that do.
OUT: Final = frozenset("""
    abs acos acosh add addbmm addcdiv addcmul addmm addmv addr airy_ai all amax amin aminmax any arange argmax argmin
    argsort asin asinh atan atan2 atanh baddbmm bernoulli bessel_j0 bessel_j1 bessel_y0 bessel_y1 bitwise_and
    bitwise_left_shift bitwise_not bitwise_or bitwise_right_shift bitwise_xor bmm bucketize cat ceil chain_matmul
    chebyshev_polynomial_t chebyshev_polynomial_u chebyshev_polynomial_v chebyshev_polynomial_w cholesky cholesky_ex
    cholesky_inverse cholesky_solve clamp clamp_max clamp_min clip column_stack complex concat concatenate cond
    conj_physical copysign cos cosh cross cummax cummin cumprod cumsum deg2rad det diag diff digamma div divide dot
    dstack eig eigh eigvals eigvalsh empty entr eq erf erfc erfcx erfinv exp exp2 expit expm1 eye fft fft2 fftfreq
    fftn fix float_power floor floor_divide fmax fmin fmod frac frexp full gammainc gammaincc gammaln gather gcd ge
    geqrf ger greater greater_equal gt heaviside hermite_polynomial_h hermite_polynomial_he hfft hfft2 hfftn histc
    histogram householder_product hstack hypot i0 i0e i1 i1e ifft ifft2 ifftn igamma igammac ihfft ihfft2 ihfftn
    index_add index_copy index_reduce index_select inner inv inv_ex inverse irfft irfft2 irfftn isin isneginf isposinf
    kron kthvalue laguerre_polynomial_l lcm ldexp ldl_factor ldl_factor_ex ldl_solve le legendre_polynomial_p lerp
    less less_equal lgamma linspace log log10 log1p log2 log_ndtr log_softmax logaddexp logaddexp2 logcumsumexp
    logical_and logical_not logical_or logical_xor logit logspace logsumexp lstsq lt lu lu_factor lu_factor_ex
    lu_solve lu_unpack masked_select matmul matrix_norm matrix_power matrix_rank max maximum mean median min minimum
    mm mode modified_bessel_i0 modified_bessel_i1 modified_bessel_k0 modified_bessel_k1 msort mul multi_dot
    multigammaln multinomial multiply mv mvlgamma nan_to_num nanmean nanmedian nanquantile nansum narrow_copy ndtr
    ndtri ne neg negative nextafter nonzero norm normal not_equal ones ormqr outer pinv polar polygamma pow prod psi
    qr quantile rad2deg rand randint randn randperm range reciprocal remainder renorm rfft rfft2 rfftfreq rfftn round
    row_stack rsqrt scaled_modified_bessel_k0 scaled_modified_bessel_k1 scatter scatter_add scatter_reduce
    searchsorted sgn sigmoid sign signbit sin sinc sinh slogdet softmax solve solve_ex solve_triangular sort
    special_entr spherical_bessel_j0 sqrt square stack std std_mean sub subtract sum svd svdvals take take_along_dim
    tan tanh tensordot tensorinv tensorsolve topk tril tril_indices triu triu_indices true_divide trunc var var_mean
    vdot vecdot vector_norm vstack where xlog1py xlogy zeros zeta""".split())

# Those that compute in the dtype of what takes the result, unless another is asked for.
ADDING_UP: Final = frozenset({"nansum", "prod", "sum"})

# Those that make a tensor where `out` lies.
_PLACED_BY_OUT: Final = frozenset("""arange empty eye fftfreq full linspace logspace normal ones rand randint randn randperm
                                  range rfftfreq tril_indices triu_indices zeros""".split())


def taking_out(namespace: MutableMapping[str, Any], names: Iterable[str]) -> None:
    """Let the functions of a namespace of users', which were made to cost no more than they must, take `out=` too."""
    made: dict[FunctionType, Callable[..., Any]] = {}           # one for all names of a function
    for name in names:
        function = namespace.get(name)
        if name in OUT and isinstance(function, FunctionType) and not hasattr(function, "__wrapped__"):
            if function not in made:
                made[function] = _taking_out(function)
                made[function].__module__ = namespace["__name__"]       # where pickle finds it
            namespace[name] = made[function]


def _taking_out(function: FunctionType) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*args: Any, out: Any = None, **kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        return result if out is None else written(function.__name__, result, out)

    return call


def written(name: str, result: Any, out: Any) -> Any:
    """`out`, or a tuple of them where there are several results, overwritten by what the function gave.

    One of another shape takes on that of the result (with a warning, unless it was empty). Raises TypeError for what is
    no tensor, RuntimeError when gradients would have to go through it, or its dtype is of a lower category."""
    if isinstance(result, Tensor):
        if not isinstance(out, Tensor):
            raise TypeError(f"{name}(): argument 'out' must be Tensor, not {type(out).__name__}")
        return _written(name, result, out)
    if not isinstance(result, tuple) or not isinstance(out, Sequence) or len(out) != len(result):
        raise TypeError(f"{name}(): argument 'out' must be {len(result)} tensors" if isinstance(result, tuple)
                        else f"{name}() got an unexpected keyword argument 'out'")
    for given in out:
        if not isinstance(given, Tensor):
            raise TypeError(f"{name}(): argument 'out' must be tensors, not {type(given).__name__}")
    found = [_written(name, value, given) for value, given in zip(result, out, strict=True)]
    return type(result)(*found) if hasattr(result, "_fields") else tuple(found)


def _written(name: str, result: Tensor, out: Tensor) -> Tensor:
    if grad_mode.enabled and (result.requires_grad or out.requires_grad):
        raise RuntimeError(f"{name}(): functions with out=... arguments don't support automatic differentiation, but one "
                           "of the arguments requires grad.")
    if category(result.dtype) > category(out.dtype):
        raise RuntimeError(f"{name}: result type {result.dtype!r} can't be cast to the desired output type {out.dtype!r}")
    if out._type.device != result._type.device and name not in _PLACED_BY_OUT:
        raise RuntimeError(f"Expected out tensor to have device {result._type.device}, but got {out._type.device} instead")
    value = cast(result, out.dtype)
    if out.ndim == value.ndim and out._type.shape == value._type.shape:
        return assign_(out, value)
    if active.tracer is not None:
        raise ShapeError(f"{name}: out has shape {tuple(out.shape)}, the result {tuple(value.shape)}: a compiled function "
                         "can't change the shape of a tensor", where=user_line(), hint="pass an out of the result's shape")
    if out.numel():
        warn("FB017", f"An output with one or more elements was resized since it had shape {list(out.shape)}, which does "
                      f"not match the required output shape {list(value.shape)}.", stacklevel=3)
    out.data = value.clone()
    return out
