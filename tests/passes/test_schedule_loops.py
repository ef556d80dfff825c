"""Loop schedules follow from what a kernel costs on a target, for machines that are not here too."""
from __future__ import annotations

from dataclasses import replace

import pytest

from flambeau.ir import dtypes as dt
from flambeau.ir.gpu import SM90
from flambeau.ir.kernel import Address, Instr, LoopKernel, LoopSchedule, Param, Reduction, Stage, Store
from flambeau.ir.target import generic_x86_64
from flambeau.passes.cpu.loop_cost import Cost
from flambeau.passes.cpu.schedule_loops import schedule_loops
from flambeau.passes.cuda import schedule_loops as on_gpus

MACHINE = replace(generic_x86_64(), vector_bytes=64, n_vector_registers=32, l2_bytes=2 << 20, cores=8)


def mapped(extents, strides, op="neg", dtype=dt.f32) -> LoopKernel:
    """out[row-major] = op(x[strides]) over parallel extents."""
    steps = [1]
    for extent in reversed(extents[1:]):
        steps.insert(0, steps[0] * extent)
    elements = steps[0] * extents[0]
    body = (Instr(0, "load", dtype, (), Address(0, 0, tuple((d, s) for d, s in enumerate(strides) if s))),
            Instr(1, op, dtype, (0,)))
    store = Store(Address(1, 0, tuple((d, s) for d, s in enumerate(steps))), 1)
    params = (Param("x", dtype, elements, "in"), Param("out", dtype, elements, "out"))
    return LoopKernel("mapped", params, tuple(extents), len(extents), (Stage((), body, (), (store,)),))


def summed(parallel, inner, strides, combiner="sum") -> LoopKernel:
    """out[i0] = sum over i1 of x; strides of (i0, i1)."""
    load = Instr(0, "load", dt.f32, (), Address(0, 0, tuple((d, s) for d, s in enumerate(strides) if s)))
    reduce = Stage((1,), (load,), (Reduction(1, combiner, 0, dt.f32),))
    store = Stage((), (), (), (Store(Address(1, 0, ((0, 1),)), 1),))
    params = (Param("x", dt.f32, parallel * inner, "in"), Param("out", dt.f32, parallel, "out"))
    return LoopKernel("summed", params, (parallel, inner), 1, (reduce, store))


def test_small_kernels_stay_on_one_thread():
    small, large = (schedule_loops(mapped((n,), (1,)), MACHINE) for n in (4096, 1 << 22))
    assert not small.parallel and large.parallel
    assert small.block >= 4096


def test_costly_points_make_smaller_tasks():
    cheap, costly = (schedule_loops(mapped((1 << 17,), (1,), op), MACHINE) for op in ("neg", "pow"))
    assert cheap.vector_dim == costly.vector_dim == 0 and costly.block < cheap.block


def test_one_core_gets_no_parallel_kernels():
    assert not schedule_loops(mapped((1 << 22,), (1,)), replace(MACHINE, cores=1)).parallel


def test_a_transposed_copy_is_tiled():
    found = schedule_loops(mapped((1000, 1000), (1, 1000)), MACHINE)
    assert (found.vector_dim, found.row_dim, found.rows) == (1, 0, 16) and found.block <= 256


@pytest.mark.parametrize(("extents", "dtype"), [((3, 1000), dt.f32), ((1000, 1000), dt.u8)], ids=str)
def test_no_tiles_where_none_fits_or_elements_are_bytes(extents, dtype):
    assert schedule_loops(mapped(extents, (1, extents[0]), dtype=dtype), MACHINE).row_dim is None


def test_sums_of_rows_run_along_them_with_several_accumulators():
    found = schedule_loops(summed(4096, 512, (512, 1)), MACHINE)
    assert found.vector_dim == 1 and found.unroll == 4 and found.row_dim is None


@pytest.mark.parametrize("columns", [16, 64, 512])
def test_sums_of_columns_have_eight_accumulators(columns):
    found = schedule_loops(summed(columns, 4096, (1, columns)), MACHINE)
    assert (found.vector_dim, found.row_dim) == (0, 1) and found.unroll * found.rows == 8


def test_chunks_leave_each_core_some():
    kernel = summed(4096, 4096, (4096, 1))
    found = schedule_loops(kernel, MACHINE)
    chunk = Cost(kernel, MACHINE).nanoseconds(1) * found.grain / 4096
    assert found.parallel and 2_000 < chunk < 25_000 and 4096 / found.grain >= 4 * MACHINE.cores


def test_gathers_cost_more_than_contiguous_loads():
    kernel = mapped((4096, 64), (1, 4096))
    assert schedule_loops(replace(kernel, schedule=None), MACHINE) == schedule_loops(kernel, MACHINE)
    assert Cost(kernel, MACHINE).instrs(1, tiled=0) < Cost(kernel, MACHINE).instrs(1)
    assert isinstance(schedule_loops(kernel, MACHINE), LoopSchedule)


def test_a_large_scattered_sum_runs_along_its_columns():
    """Zeroing the result is most of its memory traffic, which must not decide for vectors that jump over rows."""
    rows, columns, updates = 50_000, 256, 8192
    zero = Stage((1,), (Instr(0, "const", dt.f32, (), 0.0),), (), (Store(Address(2, 0, ((0, 1), (1, columns))), 0),))
    body = (Instr(1, "load", dt.i64, (), Address(0, 0, ((2, 1),))),
            Instr(2, "load", dt.f32, (), Address(1, 0, ((0, 1), (2, columns)))))
    add = Stage((2,), body, (), (Store(Address(2, 0, ((0, 1),), ((1, columns),)), 2, "add"),))
    params = (Param("at", dt.i64, updates, "in"), Param("x", dt.f32, updates * columns, "in"),
              Param("out", dt.f32, rows * columns, "out"))
    kernel = LoopKernel("scattered", params, (columns, rows, updates), 1, (zero, add))
    assert schedule_loops(kernel, MACHINE).vector_dim == 0


@pytest.mark.parametrize("extent", [1024, "n"])
def test_a_thread_of_a_gpu_takes_neighbours_unless_a_point_is_much_to_compute(extent):
    """erfinv of f64 took 138 registers for two points, side by side, and takes 74 for one."""
    def chained(n_ops):
        kernel = mapped((1024,), (1,))
        (stage,) = kernel.stages
        body = (stage.body[0], *[Instr(1 + n, "neg", dt.f32, (n,)) for n in range(n_ops)])
        params = tuple(replace(param, elements=extent) for param in kernel.params)
        stage = replace(stage, body=body, stores=(Store(stage.stores[0].address, n_ops),))
        return replace(kernel, params=params, extents=(extent,), stages=(stage,))

    few, many = (on_gpus.schedule_loops(chained(n), SM90) for n in (2 * on_gpus.BUSY - 1, 2 * on_gpus.BUSY))
    assert (few.width, many.width) == (4, 1)
