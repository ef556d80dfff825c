"""`Kernel.map`: dims, values and addresses replaced throughout, with the meaning kept where it should be."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from kernel_samples import (
    convolution,
    gather,
    layernorm,
    matmul,
    row_reduce,
    scale_rows,
    scatter_add,
    softmax,
)

from flambeau.ir.dtypes import i64
from flambeau.ir.kernel import Address, ContractionKernel, Instr, Kernel, LoopKernel, Param, Stage, Store
from flambeau.ir.kernel.hash import kernel_key
from flambeau.ir.kernel.interpreter import interpret
from flambeau.ir.kernel.verifier import verify_kernel

SAMPLES = [softmax(), layernorm(), gather(), scatter_add(), scale_rows(), matmul(), convolution(),
           row_reduce("argmax", 3, (4, 2))]
SAMPLES = [replace(kernel, schedule=None) for kernel in SAMPLES]
every_kernel = pytest.mark.parametrize("kernel", SAMPLES, ids=lambda kernel: kernel.name)


def result_of(kernel: Kernel) -> list[bytes]:
    """What its buffers hold after a run on drawn ones; indices are small."""
    rng, n = np.random.default_rng(0), 5
    buffers = []
    for param in kernel.params:
        elements = n if isinstance(param.elements, str) else param.elements
        drawn = rng.integers(0, 3, elements) if param.dtype.is_integer else rng.standard_normal(elements)
        buffers.append(drawn.astype(param.dtype.storage))
    interpret(kernel, buffers, dict.fromkeys(kernel.sizes, n))
    return [buffer.tobytes() for buffer in buffers]


@every_kernel
def test_nothing_to_replace_gives_the_same_kernel(kernel: Kernel) -> None:
    assert kernel.map() == kernel
    assert kernel.map(address=lambda a: a, value=lambda v: v, dim=lambda d: d) == kernel


@every_kernel
def test_other_value_ids_are_the_same_kernel(kernel: Kernel) -> None:
    moved = kernel.map(value=lambda v: 1000 - 3 * v)
    assert kernel_key(moved) == kernel_key(kernel)
    assert {i.id for i in moved.instrs()} == {1000 - 3 * i.id for i in kernel.instrs()}
    verify_kernel(moved)
    assert result_of(moved) == result_of(kernel)


@every_kernel
def test_other_numbers_for_dims_mean_the_same(kernel: Kernel) -> None:
    last = len(kernel.extents) - 1
    n_parallel = getattr(kernel, "n_parallel", 0)

    def turned(dim: int) -> int:                # parallel ones stay in front
        return n_parallel - 1 - dim if dim < n_parallel else last - (dim - n_parallel)

    extents = [kernel.extents[0]] * len(kernel.extents)
    for dim, extent in enumerate(kernel.extents):
        extents[turned(dim)] = extent
    moved = replace(kernel.map(dim=turned), extents=tuple(extents))
    verify_kernel(moved)
    assert moved.map(dim=turned) == replace(kernel, extents=moved.extents)
    assert result_of(moved) == result_of(kernel)


@every_kernel
def test_every_address_is_asked_for_once_and_in_order(kernel: Kernel) -> None:
    asked: list[Address] = []

    def note(address: Address) -> Address:
        asked.append(address)
        return replace(address, offset=address.offset + 7)

    moved = kernel.map(address=note)
    assert asked == list(kernel.addresses())
    assert [a.offset for a in moved.addresses()] == [a.offset + 7 for a in asked]


def test_a_dim_that_goes_takes_its_strides_and_roles_along() -> None:
    kernel = matmul()
    assert isinstance(kernel, ContractionKernel)
    moved = kernel.map(dim=lambda d: None if d == kernel.m[0] else d)
    assert moved.m == ()
    assert all(not a.stride_of(kernel.m[0]) for a in moved.addresses())
    assert (moved.batch, moved.n, moved.k, moved.extents) == (kernel.batch, kernel.n, kernel.k, kernel.extents)


def test_a_dim_whose_index_is_read_cannot_go() -> None:
    stage = Stage((), (Instr(0, "index", i64, (), 0),), (), (Store(Address(0, 0, ((0, 1),)), 0),))
    kernel = LoopKernel("count", (Param("y", i64, 4, "out"),), (4,), 1, (stage,))
    assert kernel.map(dim={0: 3}.get).stages[0].body[0].attr == 3
    with pytest.raises(AssertionError, match="%0 is the index of a dim that goes"):
        kernel.map(dim=lambda d: None)


def test_a_kernel_of_loops_has_its_stages_as_code() -> None:
    kernel = softmax()
    assert isinstance(kernel, LoopKernel)
    assert kernel.with_code(kernel.code) == kernel
    assert kernel.with_code(kernel.code[:1]).stages == kernel.stages[:1]
