"""`fb.fft`: discrete Fourier transforms under PyTorch's names."""
from flambeau.frontend.functions import complex_table, complex_transforms
from flambeau.frontend.functions.complex_transforms import *  # noqa: F403

assert complex_table, "importing it gives complex tensors their methods"
__all__ = list(complex_transforms.__all__)
