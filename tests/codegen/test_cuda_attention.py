"""Attention as text for GPUs: what it gives under the emulator, what is tiled there, and that its machine code spills
nothing."""
from __future__ import annotations

import time

import numpy as np
import pytest

import flambeau as fb
import flambeau.nn.functional as F
from flambeau.backends.cuda.backend import kernel_text
from flambeau.compiler import compile_graph
from flambeau.ir import Builder, Graph, ops
from flambeau.ir.gpu import SM80, SM90, GpuTarget
from flambeau.ir.graph.parser import parse
from flambeau.ir.graph.text import print_graph
from flambeau.ir.kernel import Kernel
from flambeau.ir.types import parse_type
from flambeau.passes.cuda.attention import fits_tiles
from flambeau.passes.graph.attention import tile_attention
from tests.compiler.random_attention import Drawn, run


def graph_of(rows: int, size: int, causal: bool, mask: str | None = None, dtype: str = "f32") -> Graph:
    """Both directions over two heads of two examples, tiled."""
    graph = Graph(name="attention")
    t = parse_type(f"{dtype}[2,2,{rows},{size}]")
    q, k, v, g = (graph.add_input(t) for _ in range(4))
    given = [graph.add_input(parse_type(f"{mask}[2,2,{rows},{rows}]"))] if mask else []
    b = Builder(graph)
    out, lse = b.emit(ops.Attention(0.125, causal, tiled=True), q, k, v, *given)
    graph.outputs = [out, *b.emit(ops.AttentionBackward(0.125, causal, tiled=True), q, k, v, *given, out, lse, g)]
    return graph


def kernels(rows: int, size: int, causal: bool, mask: str | None = None) -> list[Kernel]:
    return compile_graph(graph_of(rows, size, causal, mask), backend="cuda-emulator").kernels


@pytest.mark.parametrize("part", range(2))
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_random_programs_give_what_they_mean(part: int) -> None:
    """As many as 15 seconds allow."""
    start, seed = time.perf_counter(), part
    with fb.config.set(poison=True):
        while time.perf_counter() - start < 4:
            drawn = Drawn(seed, largest=48)
            assert not (wrong := run(drawn, backend="cuda-emulator")), f"Drawn({seed}, largest=48): {wrong}"
            seed += 2


def test_a_derivative_is_two_kernels_of_tiles_and_the_graph_has_no_weights() -> None:
    fb.manual_seed(0)
    given = [fb.randn(1, 2, 96, 16, requires_grad=True) for _ in range(3)]

    def step(q: fb.Tensor, k: fb.Tensor, v: fb.Tensor) -> tuple[fb.Tensor, ...]:
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return (out, *fb.autograd.grad(out.sin().sum(), (q, k, v)))

    compiled = fb.compile(step, backend="cuda-emulator")
    for x, y in zip(compiled(*given), step(*given), strict=True):
        np.testing.assert_allclose(x.detach().numpy(), y.detach().numpy(), atol=3e-5)
    found = compiled.signatures[0].compiled.kernels
    assert [kernel.keyword for kernel in found].count("attention") == 3
    assert not any(p.elements == 2 * 96 * 96 for kernel in found for p in kernel.params)


@pytest.mark.parametrize(("size", "dtype", "tiled"), [(64, fb.float32, True), (65, fb.float32, False),
                                                      (16, fb.float64, False), (16, fb.bfloat16, True)])
def test_what_is_tiled_fits_shared_memory(size: int, dtype: object, tiled: bool) -> None:
    given = [fb.ones(1, 64, size, dtype=dtype) for _ in range(3)]
    compiled = fb.compile(lambda q, k, v: F.scaled_dot_product_attention(q, k, v), backend="cuda-emulator")
    np.testing.assert_allclose(compiled(*given).float().numpy(), 1.0, rtol=1e-5)
    assert ("tiled=true" in compiled.ir("attention")) == tiled


def test_what_comes_tiled_and_does_not_fit_is_tiled_no_more() -> None:
    """A graph from text may say so of f64, whose tiles are too large for shared memory."""
    graph = parse(print_graph(graph_of(40, 16, False, dtype="f64")))
    assert all(node.op.tiled for node in graph.toposort() if isinstance(node.op, ops.Attention))
    assert "tiled=true" not in print_graph(tile_attention(graph, fits_tiles))


@pytest.mark.parametrize("target", [SM90, SM80], ids=["sm_90", "sm_80"])
@pytest.mark.parametrize(("rows", "size", "causal", "mask"), [(100, 64, True, None), (128, 32, False, None),
                                                              (64, 64, False, "bool"), (70, 17, False, "f32")])
def test_text_becomes_code_that_does_not_spill(rows: int, size: int, causal: bool, mask: str | None,
                                               target: GpuTarget) -> None:
    pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")
    from flambeau.codegen.cuda.toolchain import assemble, to_ptx
    for kernel in kernels(rows, size, causal, mask):
        made = assemble(to_ptx(kernel_text(kernel), target), target)
        assert made.cubin[:4] == b"\x7fELF" and made.spilled_bytes == 0
