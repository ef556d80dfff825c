"""Windows of an image as columns, and back."""
from flambeau.frontend.nn.resampling import Fold as Fold
from flambeau.frontend.nn.resampling import Unfold as Unfold
