"""Kernel by kernel: GEMM, convolution and its gradients, softmax, LayerNorm, GELU, Adam's update. No JAX side."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.workloads.base import Batch, Call

GEMMS = ((32, 32, 32), (128, 128, 128), (256, 256, 256), (1024, 1024, 1024), (4096, 64, 64), (1, 1024, 1024))
CONVS = ((64, 1, 28, 16, 5), (64, 16, 14, 32, 5), (16, 64, 28, 64, 3))  # batch, channels, side, outputs, taps
ROWS = (4096, 512)
PARAMETERS = 1 << 20


def normal(*shapes: tuple[int, ...]) -> Callable[[np.random.Generator], list[Batch]]:
    return lambda rng: [tuple(rng.normal(0, 1, shape).astype(np.float32) for shape in shapes)]


def make_conv_gradients(lib: Any, F: Any, padding: int) -> Any:
    """Forward and both gradients, as a step of training asks for them; conv_* times the forward alone."""

    def gradients(x: Any, w: Any, cotangent: Any) -> Any:
        x, w = x.detach().requires_grad_(), w.detach().requires_grad_()
        dx, dw = lib.autograd.grad(F.conv2d(x, w, padding=padding), (x, w), cotangent)
        return dw + dx[0, 0, 0, 0]  # one result that needs both

    return gradients


def make_adam(lib: Any, nn: Any, F: Any, optim: Any) -> Any:
    weight = nn.Parameter(lib.zeros(PARAMETERS))
    options = {"fused": True} if lib.__name__ == "torch" else {}  # torch's fastest, off by default there
    optimizer = optim.Adam([weight], lr=1e-3, **options)

    def update(gradient: Any) -> Any:
        weight.grad = gradient
        optimizer.step()
        return weight.detach()

    return update


def gemm(m: int, n: int, k: int) -> Call:
    data = normal((m, k), (k, n))
    return Call(
        f"gemm_{m}x{n}x{k}", f"GEMM f32, M {m}, N {n}, K {k}", data, 1e-4, lambda *libs: lambda a, b: a @ b
    )


def conv(batch: int, channels: int, side: int, outputs: int, taps: int) -> tuple[Call, Call]:
    title = f"{batch}x{channels}x{side}x{side}, {outputs} outputs of {taps}x{taps}"
    suffix, pad = f"{channels}x{side}_{outputs}x{taps}", taps // 2
    x, w, y = (batch, channels, side, side), (outputs, channels, taps, taps), (batch, outputs, side, side)

    def make_forward(lib: Any, nn: Any, F: Any, optim: Any) -> Any:
        return lambda x, w: F.conv2d(x, w, padding=pad)

    def make_gradients(lib: Any, nn: Any, F: Any, optim: Any) -> Any:
        return make_conv_gradients(lib, F, pad)

    return (
        Call(f"conv_{suffix}", f"convolution {title}", normal(x, w), 1e-4, make_forward),
        Call(
            f"conv_grad_{suffix}",
            f"convolution and its gradients {title}",
            normal(x, w, y),
            1e-3,
            make_gradients,
        ),
    )


def rows(name: str, title: str, call: Callable[[Any], Callable[..., Any]], *shapes: tuple[int, ...]) -> Call:
    """call(F) -> the function that is timed."""
    return Call(name, title, normal(*shapes), 1e-4, lambda lib, nn, F, optim: call(F))


WORKLOADS: tuple[Call, ...] = (
    *(gemm(*shape) for shape in GEMMS),
    *(call for shape in CONVS for call in conv(*shape)),
    rows("softmax", f"softmax of rows {ROWS}", lambda F: lambda x: F.softmax(x, dim=-1), ROWS),
    rows(
        "layer_norm",
        f"LayerNorm of rows {ROWS}",
        lambda F: lambda x, w, b: F.layer_norm(x, ROWS[1:], w, b),
        *(ROWS, ROWS[1:], ROWS[1:]),
    ),
    rows("gelu", f"GELU (erf) of {ROWS}", lambda F: lambda x: F.gelu(x), ROWS),
    Call("adam", f"Adam's update of {PARAMETERS} parameters", normal((PARAMETERS,)), 1e-4, make_adam),
)
