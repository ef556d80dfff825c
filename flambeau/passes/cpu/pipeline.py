"""The graph passes of a CPU: images go channels-last, and kernels stay small enough for LLVM."""
from __future__ import annotations

from functools import partial
from typing import Final

from flambeau.passes.cpu.attention import fits_tiles
from flambeau.passes.cpu.channels_last import layout
from flambeau.passes.cpu.joins import join_by_parts
from flambeau.passes.fusion.fuse import fuse
from flambeau.passes.fusion.keep import keep
from flambeau.passes.fusion.limits import Limits
from flambeau.passes.graph.attention import tile_attention
from flambeau.passes.graph.sums_of_products import join_products
from flambeau.passes.pipeline import Pass, graph_passes

__all__ = ["CPU_LIMITS", "CPU_PASSES", "KEEPING_PASSES"]

CPU_LIMITS: Final = Limits(
    ops=192,            # LLVM's time grows faster than the kernel
    stored=32,
    cheap=8,
    repeats=4)
_LAYOUT: Final = Pass("layout", layout)
_FUSE: Final = Pass("fuse", partial(fuse, limits=CPU_LIMITS))
_ATTENTION: Final = Pass("attention", partial(tile_attention, fits=fits_tiles))
_PRODUCTS: Final = Pass("products", join_products)
_JOIN: Final = Pass("join", join_by_parts)
CPU_PASSES: Final = graph_passes(_LAYOUT, _FUSE, _ATTENTION, _PRODUCTS, _JOIN)
KEEPING_PASSES: Final = graph_passes(_LAYOUT, _FUSE, _ATTENTION, _PRODUCTS, _JOIN, (Pass("keep", keep),))
"""Those of programs that compute once for each version of what they capture what depends on nothing else (decision 051)."""
