"""What autocast does to the arguments of functions: which of them compute in a lower precision, in full precision, or in
the widest of their arguments' dtypes. The lists are those of PyTorch's CPU autocast."""
from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import dtypes as dt
from flambeau.ir.dtypes import DType

_LOWER: Final = """
    addbmm addmm baddbmm bmm chain_matmul conv1d conv2d conv3d conv_tbc conv_transpose1d conv_transpose2d
    conv_transpose3d convolution einsum inner linear matmul mm multi_dot prelu scaled_dot_product_attention tensordot
    vecdot"""
_FULL: Final = """
    adaptive_avg_pool3d adaptive_max_pool3d avg_pool3d binary_cross_entropy binary_cross_entropy_with_logits cdist cholesky
    cholesky_inverse cholesky_solve cosine_embedding_loss cross_entropy ctc_loss eig eigh eigvals eigvalsh fft fft2 fftn
    fractional_max_pool2d fractional_max_pool3d geqrf grid_sample hfft hinge_embedding_loss huber_loss ifft ifft2 ifftn
    ihfft inv inv_ex inverse irfft irfft2 irfftn kl_div l1_loss lstsq lu_factor lu_solve margin_ranking_loss matrix_rank
    max_pool3d mse_loss multi_margin_loss multilabel_margin_loss multilabel_soft_margin_loss nanquantile nll_loss orgqr
    pinverse poisson_nll_loss polar prod qr quantile rfft rfft2 rfftn smooth_l1_loss soft_margin_loss solve solve_triangular
    stft svd svdvals tensorinv tensorsolve trace triangular_solve triplet_margin_loss view_as_complex"""
_WIDEST: Final = "cat concat concatenate stack index_copy"
POLICIES: Final[dict[str, str]] = {
    **dict.fromkeys(_LOWER.split(), "lower"), **dict.fromkeys(_FULL.split(), "full"),
    **dict.fromkeys(_WIDEST.split(), "widest")}


class Casting(NamedTuple):
    """An autocast at work. modes: what stands for it with recording off and on, where compiled calls compare modes."""

    dtype: DType
    modes: tuple[str, ...]
    device: str                             # the kind of those whose tensors it casts


def mode_in_words(mode: object) -> str:
    """The `mode` of a GradMode."""
    return f"grad mode {'on' if mode else 'off'}" if isinstance(mode, bool) else str(mode)


@functools.cache
def casting_to(dtype: DType, device: str = "cpu") -> Casting:
    """The one object for autocast to `dtype` of the tensors of a kind of device."""
    what = f"autocast to {dtype.name}" + f" on {device}" * (device != "cpu")
    return Casting(dtype, tuple([f"grad mode {flag}, {what}" for flag in ("off", "on")]), device)


def cast_arguments(policy: str, casting: Casting, args: tuple[Any, ...], kwargs: dict[str, Any],
                   ) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments with their floating-point tensors in the dtype of the policy; f64 ones stay as they are."""
    if policy == "lower":
        dtype = casting.dtype
    elif policy == "full" or any(t._type.dtype is dt.f32
                                 for t in _castable((args, tuple(kwargs.values())), casting.device)):
        dtype = dt.f32
    else:
        return args, kwargs
    device = casting.device
    return _cast(args, dtype, device), {name: _cast(value, dtype, device) for name, value in kwargs.items()}


def _castable(tree: Iterable[Any], device: str) -> Iterable[Tensor]:
    for item in tree:
        if isinstance(item, Tensor):
            if _is_eligible(item, device):
                yield item
        elif isinstance(item, (tuple, list)):
            yield from _castable(item, device)


def _cast(value: Any, dtype: DType, device: str) -> Any:
    if isinstance(value, Tensor):
        return value.to(dtype) if value._type.dtype is not dtype and _is_eligible(value, device) else value
    if type(value) in (tuple, list):
        return type(value)([_cast(item, dtype, device) for item in value])
    return value


def _is_eligible(t: Tensor, device: str) -> bool:
    kind = t._type
    return kind.dtype.is_floating_point and kind.dtype is not dt.f64 and (
        kind.device == device or kind.device.partition(":")[0] == device)
