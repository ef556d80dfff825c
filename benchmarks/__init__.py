"""Flambeau beside torch eager, torch.compile and JAX: same weights, same data, one run. See `python -m benchmarks -h`."""
