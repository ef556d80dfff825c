"""The shuffle of groups of channels."""
from flambeau.frontend.nn.resampling import ChannelShuffle as ChannelShuffle
