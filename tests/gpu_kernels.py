"""The kernels that a GPU would run for a function, without running them."""
from __future__ import annotations

from collections.abc import Callable, Sequence

import flambeau as fb
from flambeau.compiler import compile_graph
from flambeau.ir.kernel import Kernel


def kernels_of(function: Callable[..., object], *args: fb.Tensor) -> Sequence[Kernel]:
    """As they are launched, in order; the function runs once, on the CPU."""
    traced = fb.compile(function)
    traced(*args)
    return compile_graph(traced.graph("graph"), backend="cuda-emulator").kernels
