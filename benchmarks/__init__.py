"""Flambeau beside torch eager, torch.compile and JAX: same weights and data, one run (`python -m benchmarks`)."""
