"""Fused graphs to kernels."""
