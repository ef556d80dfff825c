"""Kernels to Python text that numba.cuda compiles, and to code for NVIDIA GPUs."""
