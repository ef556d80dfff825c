"""einops' layers as Modules: `from flambeau.einops import Rearrange, Reduce, EinMix`, as from `einops.layers.torch`, which
works unchanged too, and from `einops.layers.flambeau`, whose classes these are.

einops' functions (`rearrange`, `reduce`, `repeat`, `einsum`, `pack`) take our tensors without this."""
from einops.layers.flambeau import EinMix, Rearrange, Reduce

__all__ = ["EinMix", "Rearrange", "Reduce"]
