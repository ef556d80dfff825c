"""Products cut up for a GPU: which are, into what, and that the parts give the same numbers."""
from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from codegen.contraction_kernels import Conv, attention_scores, gemm
from codegen.random_contractions import RandomContraction
from test_loops_random import same_numbers

import flambeau as fb
import flambeau.nn.functional as F
from flambeau.backends.cuda.backend import kernel_text
from flambeau.codegen.cuda.emulator import emulate
from flambeau.ir import dtypes as dt
from flambeau.ir.gpu import SM80, SM90, GpuTarget
from flambeau.ir.graph import Graph, Value
from flambeau.ir.kernel import ContractionKernel, Kernel, LoopKernel
from flambeau.ir.kernel.interpreter import interpret
from flambeau.ir.kernel.verifier import verify_kernel
from flambeau.ir.types import TensorType
from flambeau.passes.cuda.schedule_contraction import canonical, schedule_contraction
from flambeau.passes.cuda.schedule_loops import schedule_loops
from flambeau.passes.cuda.split_contraction import _cuts, _in_parts, divide_contraction


def values_of(kernel: ContractionKernel) -> tuple[Value, ...]:
    """Something behind each param."""
    graph = Graph(name="values")
    return tuple([graph.add_input(TensorType((int(p.elements),), p.dtype), p.name) for p in kernel.params])


def divided(kernel: ContractionKernel, target: GpuTarget = SM90) -> list[Kernel]:
    return [made for made, _ in divide_contraction(kernel, values_of(kernel), target)]


@pytest.mark.parametrize(("kernel", "cut"), [
    (Conv(32, 58, 58, 64, 64).weight_grad(), True), (gemm(256, 256, 8192), True), (gemm(64, 64, 4096), True),
    (gemm(4096, 4096, 4096), False), (gemm(1024, 1024, 1024), False), (gemm(64, 64, 64), False),
    (gemm(100_000, 64, 64), False), (attention_scores(8, 12, 128, 64), False), (Conv(32, 58, 58, 64, 64).forward(), False)],
    ids=lambda x: f"{x.name}{x.extents}" if isinstance(x, Kernel) else "")
def test_long_sums_of_few_results_are_cut(kernel: ContractionKernel, cut: bool) -> None:
    for target in (SM90, SM80):
        found = divided(kernel, target)
        assert len(found) == (2 if cut else 1)
        if cut:
            partial, whole = found
            assert isinstance(partial, ContractionKernel) and isinstance(whole, LoopKernel)
            tile = schedule_contraction(partial, target).schedule
            blocks = partial.extents[-1] * math.prod([-(-math.prod([partial.extents[d] for d in dims]) // size)
                                                      for dims, size in ((partial.m, tile.m), (partial.n, tile.n))])
            assert blocks >= target.multiprocessors // 2


def test_a_product_with_a_vector_is_a_loop_that_reads_memory_as_it_runs() -> None:
    for layout in ((False, False), (True, False), (False, True), (True, True)):
        for shape in ((1, 512, 1024), (512, 1, 1024)):
            (loop,) = divided(gemm(*shape, *layout))
            assert isinstance(loop, LoopKernel)
            matrix = loop.params[1 if shape[0] == 1 else 0]
            address = next(i.attr for i in loop.instrs() if i.op == "load" and loop.params[i.attr.buffer] == matrix)
            assert schedule_loops(loop, SM90).lanes_inner == (address.stride_of(len(loop.extents) - 1) == 1)


def run(kernels: list[tuple[Kernel, tuple[Value, ...]]], arrays: dict[Value, np.ndarray]) -> None:
    for kernel, values in kernels:
        for value, param in zip(values, kernel.params, strict=True):
            if value not in arrays:
                arrays[value] = dt.to_storage(np.full(int(param.elements), 77, param.dtype.compute), param.dtype)
        verify_kernel(kernel)
        scheduled = (schedule_contraction(kernel, SM90) if isinstance(kernel, ContractionKernel)
                     else replace(kernel, schedule=schedule_loops(kernel, SM90)))
        emulate(kernel_text(scheduled), [arrays[value] for value in values])


def test_random_products_in_parts_give_the_bits_of_their_meaning(seeds: Iterator[int]) -> None:
    """In every way that their dims can be cut, whether it pays or not."""
    for seed in seeds:
        made = RandomContraction(seed)
        values = values_of(made.kernel)
        expected = [array.copy() for array in made.arrays]
        interpret(made.kernel, expected)
        plain = canonical(made.kernel)
        cuts = [(dim, parts) for dim in plain.k for parts in (2, 3, 4, 8) if plain.extents[dim] % parts == 0]
        ways = [divide_contraction(made.kernel, values, SM90)]
        if cuts and 0 not in plain.extents:
            ways.append(_in_parts(plain, values, *random.Random(seed).choice(cuts)))
        for kernels in ways:
            arrays = {value: array.copy() for value, array in zip(values, made.arrays, strict=True)}
            run(kernels, arrays)
            for param, value, theirs in zip(made.kernel.params, values, expected, strict=True):
                assert same_numbers(arrays[value], theirs, param.dtype), f"seed {seed}: {param} of {kernels}"


def test_parts_keep_whole_chunks_of_memory() -> None:
    assert {parts for _, parts in _cuts(canonical(gemm(8, 8, 1024)))} == {2, 4, 8, 16}
    assert not list(_cuts(canonical(gemm(8, 8, 1021))))


def test_a_step_with_parts_gives_the_numbers_of_the_cpu() -> None:
    """Linear layers on many rows: the gradients of weights are cut, their updates are the epilogue of the second kernel."""
    losses = []
    for backend in ("cpu", "cuda-emulator"):
        fb.manual_seed(0)
        layer = fb.nn.Linear(12, 20)
        opt = fb.optim.SGD(layer.parameters(), lr=0.05, momentum=0.9)

        @fb.compile(backend=backend)
        def step(x: fb.Tensor, y: fb.Tensor) -> fb.Tensor:
            opt.zero_grad()                                             # noqa: B023
            loss = F.mse_loss(F.relu(layer(x)), y)                      # noqa: B023
            loss.backward()
            opt.step()                                                  # noqa: B023
            return loss

        x, y = fb.randn(4096, 12), fb.randn(4096, 20)
        losses.append([float(step(x, y)) for _ in range(3)])
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)
    assert "_parts" in step.ir("kernels") and "partial" in step.ir("kernels")
