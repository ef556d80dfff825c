"""Machine code of loop kernels."""
