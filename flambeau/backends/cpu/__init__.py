"""The CPU as a device: how its code is made and run, and what it can do at most."""
from flambeau.backends.cpu.backend import CpuBackend

__all__ = ["CpuBackend"]
