"""Backends: what decides for a device how calls run on it, and runs them. "cpu" emits machine code through LLVM;
"interpret" runs every kernel's NumPy meaning on the same memory. Others are added with `register_backend`, or given to
`fb.compile(f, backend=...)` as objects."""
from flambeau.backends import cuda, cudnn, mkl, mkldnn, mps, openmp
from flambeau.backends.base import Backend, BuiltKernel, Runnable, whole_kernel
from flambeau.backends.cpu import CpuBackend
from flambeau.backends.interpret import InterpretBackend
from flambeau.backends.registry import backend_of, backend_on, device_of, register_backend
from flambeau.codegen.artifact import Artifact, Phase

__all__ = ["Artifact", "Backend", "BuiltKernel", "CpuBackend", "InterpretBackend", "Phase", "Runnable",
           "backend_of", "backend_on", "cuda", "cudnn", "device_of", "mkl", "mkldnn", "mps", "openmp", "register_backend",
           "whole_kernel"]
