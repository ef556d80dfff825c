"""Channels made pixels, and back."""
from flambeau.frontend.nn.resampling import PixelShuffle as PixelShuffle
from flambeau.frontend.nn.resampling import PixelUnshuffle as PixelUnshuffle
