"""Flambeau: PyTorch's interface over a graph compiler. `import flambeau as fb`.

Tensors and functions are here; `fb.nn`, `fb.optim`, `fb.compile` and the compiler itself (`fb.ir`) load at first use.
"""
from __future__ import annotations

import importlib
from math import e, inf, nan, pi
from typing import TYPE_CHECKING, Any

from flambeau import autograd, config, errors
from flambeau import kinds as _kinds
from flambeau import neighbours as _neighbours
from flambeau import tracebacks as _tracebacks
from flambeau.frontend import control as _control
from flambeau.frontend import methods as _methods
from flambeau.frontend.facts import *  # noqa: F403
from flambeau.frontend.facts import Layout as layout
from flambeau.frontend.facts import MemoryFormat as memory_format
from flambeau.frontend.functions.activations import celu, hardshrink, prelu, relu, selu, threshold
from flambeau.frontend.functions.adaptive_pooling import adaptive_avg_pool1d, adaptive_max_pool1d
from flambeau.frontend.functions.arithmetic import *  # noqa: F403
from flambeau.frontend.functions.calls import called
from flambeau.frontend.functions.coerce import broadcast_shapes, result_type
from flambeau.frontend.functions.comparison import *  # noqa: F403
from flambeau.frontend.functions.compound_products import *  # noqa: F403
from flambeau.frontend.functions.copies import *  # noqa: F403
from flambeau.frontend.functions.counting_distributions import *  # noqa: F403
from flambeau.frontend.functions.creation import *  # noqa: F403
from flambeau.frontend.functions.decompositions import *  # noqa: F403
from flambeau.frontend.functions.distributions import *  # noqa: F403
from flambeau.frontend.functions.dtypes import *  # noqa: F403
from flambeau.frontend.functions.elementwise import *  # noqa: F403
from flambeau.frontend.functions.gathering import *  # noqa: F403
from flambeau.frontend.functions.grids import (
    affine_grid_generator,
    grid_sampler,
    grid_sampler_2d,
    grid_sampler_3d,
)
from flambeau.frontend.functions.inplace import celu_, relu_, selu_, threshold_
from flambeau.frontend.functions.joining import *  # noqa: F403
from flambeau.frontend.functions.linear_algebra import *  # noqa: F403
from flambeau.frontend.functions.norms import *  # noqa: F403
from flambeau.frontend.functions.out import taking_out as _taking_out
from flambeau.frontend.functions.pointwise import *  # noqa: F403
from flambeau.frontend.functions.pooling import (
    avg_pool1d,
    max_pool1d,
    max_pool1d_with_indices,
    max_pool2d,
    max_pool3d,
)
from flambeau.frontend.functions.products import *  # noqa: F403
from flambeau.frontend.functions.reductions import *  # noqa: F403
from flambeau.frontend.functions.running import *  # noqa: F403
from flambeau.frontend.functions.scattering import *  # noqa: F403
from flambeau.frontend.functions.searching import *  # noqa: F403
from flambeau.frontend.functions.sharing import *  # noqa: F403
from flambeau.frontend.functions.shuffles import (
    channel_shuffle,
    native_channel_shuffle,
    pixel_shuffle,
    pixel_unshuffle,
)
from flambeau.frontend.functions.sorting import *  # noqa: F403
from flambeau.frontend.functions.special_functions import *  # noqa: F403
from flambeau.frontend.functions.stacking import *  # noqa: F403
from flambeau.frontend.functions.statistics import *  # noqa: F403
from flambeau.frontend.functions.views import *  # noqa: F403
from flambeau.frontend.functions.window_functions import *  # noqa: F403
from flambeau.frontend.functions.windows import as_strided, as_strided_scatter
from flambeau.frontend.methods import detach as _detach
from flambeau.frontend.missing import missing
from flambeau.frontend.process import *  # noqa: F403
from flambeau.frontend.random import *  # noqa: F403
from flambeau.frontend.tape.autograd import (
    enable_grad,
    inference_mode,
    is_grad_enabled,
    no_grad,
    set_grad_enabled,
)
from flambeau.frontend.tensor.device import Device as device
from flambeau.frontend.tensor.device import get_default_device, set_default_device
from flambeau.frontend.tensor.promotion import get_default_dtype, promote_types, set_default_dtype
from flambeau.frontend.tensor.tensor import Size, Tensor
from flambeau.frontend.typed import *  # noqa: F403
from flambeau.ir.collector import paused_collector as _paused_collector
from flambeau.ir.dtypes import DType as dtype
from flambeau.ir.dtypes import bf16 as bfloat16
from flambeau.ir.dtypes import bool_ as bool
from flambeau.ir.dtypes import f16 as float16
from flambeau.ir.dtypes import f32 as float32
from flambeau.ir.dtypes import f64 as float64
from flambeau.ir.dtypes import i8 as int8
from flambeau.ir.dtypes import i16 as int16
from flambeau.ir.dtypes import i32 as int32
from flambeau.ir.dtypes import i64 as int64
from flambeau.ir.dtypes import u8 as uint8
from flambeau.ir.dtypes import u32 as uint32
from flambeau.ir.dtypes import u64 as uint64
from flambeau.runtime.threads import get_num_threads, set_num_threads

if TYPE_CHECKING:
    from flambeau import amp, distributions, func, ir, linalg, minitorch, nn, optim, random, signal, special
    from flambeau.frontend import data
    from flambeau.frontend.amp import autocast
    from flambeau.frontend.call.compile import compile
    from flambeau.frontend.func.vmap import vmap
    from flambeau.frontend.functions.convolution import *  # noqa: F403
    from flambeau.frontend.functions.convolution import convolution
    from flambeau.frontend.functions.distances import *  # noqa: F403
    from flambeau.frontend.functions.native import *  # noqa: F403
    from flambeau.frontend.functions.native_norms import *  # noqa: F403
    from flambeau.frontend.functions.padding import constant_pad_nd
    from flambeau.frontend.functions.recurrent import *  # noqa: F403
    from flambeau.torch_version import __version__

detach = called(_detach)
cond = called(_control.cond)
globals().update(_methods.IN_PLACE)
_taking_out(globals(), list(globals()))
half, float, double = float16, float32, float64
short, int, long = int16, int32, int64
newaxis = None

_PACKAGES = ("accelerator", "amp", "backends", "compiler", "cpu", "cuda", "distributed", "distributions", "fft", "func",
             "functional", "fx", "hub", "ir", "jit", "linalg", "minitorch", "mps", "multiprocessing", "nn", "onnx",
             "optim", "profiler", "random", "safetensors", "serialization", "signal", "sparse", "special", "testing",
             "torch_version", "types", "utils", "version", "xpu")
_NAMES = {                                  # module -> what it gives at first use
    "frontend.amp": "GradScaler autocast clear_autocast_cache get_autocast_cpu_dtype get_autocast_dtype "
                    "get_autocast_gpu_dtype is_autocast_cache_enabled is_autocast_cpu_enabled is_autocast_enabled "
                    "set_autocast_cache_enabled set_autocast_dtype set_autocast_enabled",
    "frontend.call.compile": "compile",
    "frontend.trace.sizes": "mark_dynamic mark_static",
    "errors": "AcceleratorError OutOfMemoryError",
    "frontend.checks": "_assert _check _check_index _check_is_size _check_not_implemented _check_type _check_value",
    "frontend.exchange.archive": "load save",
    "frontend.func.vmap": "vmap",
    "frontend.nn.quantized": "qint8 quantize_dynamic",
    "frontend.profile.memory": "memory_summary",
    "frontend.profile.session": "profile",
    "frontend.functions.complex_spectrograms": "istft stft",
    "frontend.functions.complex_table": "cdouble cfloat complex complex128 complex64 conj conj_physical imag is_complex "
                                        "is_conj is_neg polar real resolve_conj resolve_neg view_as_complex view_as_real",
    "frontend.functions.convolution": "conv1d conv2d conv3d conv_tbc conv_transpose1d conv_transpose2d conv_transpose3d "
                                      "convolution",
    "frontend.functions.distances": "cdist cosine_similarity pairwise_distance pdist",
    "frontend.functions.loops": "associative_scan debug_callback debug_print fori_loop map scan switch while_loop",
    "frontend.functions.native": "alpha_dropout alpha_dropout_ binary_cross_entropy_with_logits cosine_embedding_loss "
                                 "ctc_loss dropout dropout_ embedding embedding_bag embedding_renorm_ "
                                 "feature_alpha_dropout feature_alpha_dropout_ feature_dropout feature_dropout_ "
                                 "hinge_embedding_loss kl_div margin_ranking_loss poisson_nll_loss rrelu rrelu_ "
                                 "triplet_margin_loss",
    "frontend.functions.native_norms": "batch_norm group_norm instance_norm layer_norm native_batch_norm native_group_norm "
                                       "native_layer_norm rms_norm",
    "frontend.functions.padding": "constant_pad_nd",
    "frontend.functions.recurrent": "gru gru_cell lstm lstm_cell rnn_relu rnn_relu_cell rnn_tanh rnn_tanh_cell",
    "torch_version": "__version__",
}
_LAZY = {name: (f"flambeau.{name}", "") for name in _PACKAGES} | {      # name -> (module, attribute; "" for the module)
    name: (f"flambeau.{module}", name) for module, names in _NAMES.items() for name in names.split()} | {
    "data": ("flambeau.frontend.data", "")}


_neighbours.watch()
_tracebacks.install()


def __getattr__(name: str) -> Any:
    place = ("flambeau.frontend.functions.foreach", name) if name.startswith("_foreach_") else _LAZY.get(name)
    if place is None:
        raise missing("flambeau", name)
    module, attribute = place
    with _paused_collector():           # what modules make stays
        found = importlib.import_module(module)
    value = globals()[name] = getattr(found, attribute) if attribute else found
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY} - {"annotations", "importlib", "TYPE_CHECKING", "Any"})
