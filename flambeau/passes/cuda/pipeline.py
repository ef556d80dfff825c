"""The graph passes of a GPU: those of any device, and attention in tiles."""
from __future__ import annotations

from functools import partial
from typing import Final

from flambeau.passes.cuda.attention import fits_tiles
from flambeau.passes.fusion.fuse import fuse
from flambeau.passes.graph.attention import tile_attention
from flambeau.passes.graph.convolutions import plain_convolutions
from flambeau.passes.pipeline import Pass, graph_passes

__all__ = ["CUDA_PASSES"]

CUDA_PASSES: Final = graph_passes(Pass("layout", plain_convolutions), Pass("fuse", fuse),
                                  Pass("attention", partial(tile_attention, fits=fits_tiles)))
