"""The text that kernels have for CUDA, run by the emulator: every op's samples, random loops and contractions under many
schedules. What no kernel may do, the emulator finds."""
from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from codegen.contraction_kernels import (
    Conv,
    expected_sums,
    gemm,
    input_grad,
    make_arrays,
    sum_tolerance,
    view,
)
from codegen.row_kernels import RowKernel
from codegen.transpose_kernels import random_transpose
from test_loops_random import RandomKernel, same_numbers

import flambeau as fb
import flambeau.nn.functional as F
from flambeau import nn, optim
from flambeau.backends.cuda.backend import kernel_text
from flambeau.codegen.cuda.compile import code_key
from flambeau.codegen.cuda.emulator import emulate
from flambeau.codegen.cuda.text import KernelText
from flambeau.compiler import compile_graph
from flambeau.errors import KernelError, VerificationError
from flambeau.ir import dtypes as dt
from flambeau.ir import ops
from flambeau.ir.gpu import SM90
from flambeau.ir.graph import Graph
from flambeau.ir.kernel import BlockSchedule, ContractionKernel, TileSchedule
from flambeau.ir.kernel.interpreter import interpret
from flambeau.ir.kernel.parser import parse_kernel
from flambeau.ir.kernel.text import print_kernel
from flambeau.ir.kernel.verifier import verify_kernel
from flambeau.ir.types import TensorType

SCHEDULES = (BlockSchedule(64), BlockSchedule(8, 32), BlockSchedule(1, 128), BlockSchedule(16, 8), BlockSchedule(2, 64),
             BlockSchedule(32, 4, lanes_inner=False), BlockSchedule(8, 8, lanes_inner=False),
             BlockSchedule(8, 32, width=4, kept=True), BlockSchedule(64, kept=True),
             BlockSchedule(1, 64, width=2, kept=True), BlockSchedule(16, 8, width=4),
             BlockSchedule(32, 2, width=2, kept=True), BlockSchedule(64, width=8, kept=True))


def test_random_loops_compute_what_the_interpreter_does(seeds: Iterator[int]) -> None:
    for seed in seeds:
        maker = (RandomKernel, RowKernel)[seed % 2](seed)
        kernel = maker.build()
        expected = [buffer.copy() for buffer in maker.buffers]
        interpret(kernel, expected)
        for schedule in random.Random(seed).sample(SCHEDULES, 2):
            if not any(stage.dims for stage in kernel.stages):
                schedule = replace(schedule, width=1)
            found = [buffer.copy() for buffer in maker.buffers]
            scheduled = replace(kernel, schedule=schedule)
            verify_kernel(scheduled)
            text = kernel_text(scheduled)
            emulate(text, found)
            for param, ours, theirs in zip(kernel.params, found, expected, strict=True):
                assert same_numbers(ours, theirs, param.dtype), f"seed {seed}, {schedule}: {param}\n{text.source}"


def test_random_transposes_compute_what_the_interpreter_does(seeds: Iterator[int]) -> None:
    for seed in seeds:
        kernel, buffers = random_transpose(seed)
        verify_kernel(kernel)
        expected, found = [b.copy() for b in buffers], [b.copy() for b in buffers]
        interpret(kernel, expected)
        emulate(kernel_text(kernel), found)
        for ours, theirs in zip(found, expected, strict=True):
            assert ours.tobytes() == theirs.tobytes(), f"seed {seed}\n{kernel_text(kernel).source}"


TWO_SIZES = """loop @copy {
  in a: f32[100]
  out b: f32[100]
  parallel %i0 = n, %i1 = m
  stage () {
    %0 = load a[%i0*10 + %i1] : f32
    store %0 to b[%i0*10 + %i1]
  }
}
"""


@pytest.mark.parametrize("schedule", [BlockSchedule(64), BlockSchedule(8, 32)])
def test_blocks_cover_every_point_of_two_runtime_sizes(schedule: BlockSchedule) -> None:
    text = kernel_text(replace(parse_kernel(TWO_SIZES), schedule=schedule))
    for sizes in ((10, 10), (9, 10), (10, 1), (1, 10), (0, 10)):
        found = np.zeros(100, np.float32)
        emulate(text, [np.ones(100, np.float32), found], sizes)
        assert found.sum() == np.prod(sizes)


ANY_SIZE = """loop @grown {
  in a: bf16[n]
  in b: f32[1]
  out c: f32[n]
  parallel %i0 = n
  stage () {
    %0 = load a[%i0] : bf16
    %1 = cast %0 : f32
    %2 = load b[0] : f32
    %3 = add %1, %2 : f32
    store %3 to c[%i0]
  }
  blocks points=32, width=4
}
"""


def test_sizes_known_at_run_time_are_taken_four_by_four_and_one_by_one() -> None:
    kernel = parse_kernel(ANY_SIZE)
    verify_kernel(kernel)
    text = kernel_text(kernel)
    assert "load4(b0" in text.source and "store4(b2" in text.source
    for size in (0, 1, 3, 4, 127, 128, 129, 1000):
        found = np.full(size, 7, np.float32)
        emulate(text, [np.full(size, 0x3F80, np.uint16), np.ones(1, np.float32), found], (size,))
        assert (found == 2).all()


LARGE = """loop @large {
  in a: u8[6442450944]
  out b: u8[6442450944]
  parallel %i0 = 3, %i1 = 2147483648
  stage () {
    %0 = load a[%i0*2147483648 + %i1] : u8
    store %0 to b[%i0*2147483648 + %i1]
  }
  blocks points=256
}
"""


def test_places_beyond_two_to_the_31_are_worked_out_in_64_bits() -> None:
    """The text's own arithmetic, for threads of a block near the end; the store's place, told as a number."""
    text = kernel_text(parse_kernel(LARGE))
    block = text.blocks() - 1
    lines = [line.strip() for line in text.source.split("\n") if " = " in line and "blockIdx" in line or "i0 =" in line
             or "i1 =" in line]
    place = text.source.split("b1[")[1].split("] =")[0]
    body = "\n".join([*lines, f"b0[t] = float32(({place}) - 6442450688)"]).replace("cuda.blockIdx.x", str(block))
    assert emulated("thread = t\n" + body).tolist() == list(range(64))
    small = kernel_text(parse_kernel(LARGE.replace("6442450944", "300").replace("2147483648", "100")))
    assert "int64" in text.source and "int64" not in small.source


def test_random_numbers_are_the_cpus() -> None:
    for draw in (lambda x: fb.rand(500), lambda x: fb.randn(500), lambda x: F.dropout(x, 0.3)):
        found = []
        for backend in ("cpu", "cuda-emulator"):
            fb.manual_seed(3)
            found.append(fb.compile(draw, backend=backend)(fb.ones(500)).numpy())
        np.testing.assert_allclose(*found, rtol=0 if draw(fb.ones(500)).min() >= 0 else 1e-6)


def test_where_a_program_lies_makes_no_other_code() -> None:
    kernel = replace(parse_kernel(TWO_SIZES), schedule=BlockSchedule(64))
    moved, grown = replace(kernel, locations=("train.py:7",)), replace(kernel, schedule=BlockSchedule(32))
    key, moved_key, other_key = (code_key(kernel_text(each), SM90) for each in (kernel, moved, grown))
    assert "train.py:7" in kernel_text(moved).source and moved_key == key != other_key


TILES = (TileSchedule(16, 16, 8, 1, 1), TileSchedule(32, 16, 16, 4, 1), TileSchedule(64, 64, 8, 8, 4))
LAYOUTS = [(False, False), (False, True), (True, False), (True, True)]
SUMS = [gemm(1, 1, 1), gemm(40, 33, 17), gemm(5, 70, 40), gemm(17, 19, 9, dtype=dt.f16, acc=dt.f32),
        gemm(17, 19, 9, dtype=dt.bf16, acc=dt.f32), gemm(9, 20, 30, dtype=dt.f64), gemm(9, 20, 30, dtype=dt.i32),
        gemm(9, 20, 30, dtype=dt.u8, acc=dt.i64), *[gemm(20, 30, 21, *layout) for layout in LAYOUTS],
        Conv(2, 7, 6, 3, 5).forward(), Conv(1, 9, 9, 4, 6, stride=2, groups=2).forward(), input_grad(2, 7, 6, 3, 5)]


@pytest.mark.parametrize("kernel", SUMS, ids=lambda kernel: f"{kernel.name}{kernel.extents}{kernel.params[0].dtype}")
def test_contractions_sum_in_tiles_of_any_size(kernel: ContractionKernel) -> None:
    arrays = make_arrays(kernel)
    wanted, sizes = expected_sums(kernel, arrays)
    for tile in TILES:
        found = [array.copy() for array in arrays]
        emulate(kernel_text(replace(kernel, schedule=tile)), found)
        sums = view(found[2], kernel.epilogue.stores[0].address, kernel, (*kernel.batch, *kernel.m, *kernel.n))
        if kernel.acc_dtype.is_floating_point:
            assert (np.abs(sums - wanted) <= sum_tolerance(kernel, sizes)).all()
        else:
            np.testing.assert_array_equal(sums, wanted)


def test_schedules_print_and_read_back() -> None:
    kernels = [replace(RandomKernel(3).build(), schedule=BlockSchedule(8, 32)), replace(gemm(4, 5, 6), schedule=TILES[0])]
    for kernel in kernels:
        text = print_kernel(kernel)
        assert ("blocks points=8" in text or "tiles m=16" in text) and print_kernel(parse_kernel(text)) == text


def test_whole_steps_run_as_text() -> None:
    def made() -> tuple[nn.Module, optim.Optimizer]:
        fb.manual_seed(0)
        model = nn.Sequential(nn.Embedding(7, 6), nn.Linear(6, 8), nn.LayerNorm(8), nn.GELU(), nn.Dropout(0.3),
                              nn.Linear(8, 5))
        return model, optim.AdamW(model.parameters(), lr=0.01)

    losses: list[list[float]] = []
    words, labels = fb.tensor([[1, 2, 6], [0, 5, 3]]), fb.tensor([4, 0, 1, 2, 2, 3])
    for backend in ("cpu", "cuda-emulator"):
        model, opt = made()

        @fb.compile(backend=backend)
        def step(x: fb.Tensor, y: fb.Tensor) -> fb.Tensor:
            opt.zero_grad()                                             # noqa: B023
            loss = F.cross_entropy(model(x).flatten(0, 1), y)           # noqa: B023
            loss.backward()
            opt.step()                                                  # noqa: B023
            return loss

        losses.append([float(step(words, labels)) for _ in range(4)])
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)
    assert losses[0][3] < losses[0][0]
    source = step.ir("cuda")
    assert "def kernel_" in source and "cuda.shared.array" in source and "test_cuda_text.py:" in source


def test_profile_tells_a_time_for_each_launch() -> None:
    x = np.array([[3.0, 1.0, 2.0]], np.float32)
    graph = Graph(name="two")
    operand = graph.add_input(TensorType(x.shape, dt.f32), "x")
    (total,) = graph.append(ops.Sum((1,)), [operand]).results
    graph.outputs += (total, graph.append(ops.Sort(1), [operand]).results[0])
    compiled = compile_graph(graph, backend="cuda-emulator")
    outs = [np.zeros(v.type.static_shape, np.float32) for v in graph.outputs]
    seconds = compiled.executable.profile([x.ctypes.data], [], [o.ctypes.data for o in outs], repeats=2)
    assert len(seconds) == len(compiled.program.launches) == 2 and all(second > 0 for second in seconds)
    assert outs[0].ravel().tolist() == [6.0] and outs[1].tolist() == [[1.0, 2.0, 3.0]]


def test_sorts_are_stable_and_know_nan() -> None:
    x = fb.tensor([[2.0, float("nan"), -0.0, 0.0, 2.0, -1.0], [3.0, 3.0, 1.0, float("inf"), 1.0, 0.5]])
    for how in ({"descending": True, "stable": True}, {"stable": True}, {"dim": 0}):
        values, places = fb.compile(lambda x: fb.sort(x, **how), backend="cuda-emulator")(x)         # noqa: B023
        wanted, where = fb.sort(x, **how)
        np.testing.assert_array_equal(values.numpy(), wanted.numpy())
        assert places.tolist() == where.tolist()
    found = fb.compile(lambda x: fb.topk(x, 2), backend="cuda-emulator")(x)
    assert found[1].tolist() == fb.topk(x, 2)[1].tolist()


def test_a_bad_index_and_a_zero_divisor_are_reported() -> None:
    table, quotient = fb.arange(5.0), fb.compile(lambda x, y: x // y, backend="cuda-emulator")
    looked_up = fb.compile(lambda i: table[i] * 2, backend="cuda-emulator")
    assert looked_up(fb.tensor([4, 0])).tolist() == [8.0, 0.0]
    with pytest.raises(IndexError, match="index 5 is out of range"):
        looked_up(fb.tensor([4, 5]))
    assert quotient(fb.tensor([7, -7]), fb.tensor([2, 2])).tolist() == [3, -4]
    with pytest.raises(KernelError, match="division by zero"):
        quotient(fb.tensor([7, 7]), fb.tensor([2, 0]))


def emulated(body: str, threads: int = 64, blocks: int = 1) -> np.ndarray:
    """A kernel on one buffer of 64 floats."""
    lines = ["t = uint32(cuda.threadIdx.x)", *body.strip("\n").split("\n")]
    source = "def k(status, b0):\n" + "\n".join(f"    {line}" for line in lines) + "\n"
    buffer = np.arange(64, dtype=np.float32)
    emulate(KernelText("k", source, ("int64*", "float32*"), (64,), (blocks,), 1, threads), [buffer])
    return buffer


REVERSED = """
s = cuda.shared.array(64, float32)
s[t] = b0[t]
cuda.syncthreads()
b0[t] = s[uint32(63 - t)]
"""


def test_threads_exchange_through_shared_memory_and_shuffles() -> None:
    assert emulated(REVERSED).tolist() == list(range(63, -1, -1))
    assert emulated("b0[t] = cuda.shfl_xor_sync(0xffffffff, b0[t], 1)").tolist()[:4] == [1.0, 0.0, 3.0, 2.0]
    assert emulated("if t < 3:\n    for x in range(t):\n        b0[t] = b0[t] + 1").tolist()[:4] == [0.0, 2.0, 4.0, 3.0]


@pytest.mark.parametrize(("body", "message"), [
    (REVERSED.replace("cuda.syncthreads()\n", ""), "reads what another thread stored, without a barrier"),
    (REVERSED.replace("syncthreads", "syncwarp"), "reads what another thread stored, without a barrier"),
    (REVERSED.replace("63 - t", "64 - t"), "touches element 64 of shared memory, which has 64"),
    (REVERSED.replace("s[t] =", "s[uint32(t // 2)] ="), "stores an element of shared memory from two threads at once"),
    (REVERSED.replace("s[t] = b0[t]", "if t < 63:\n    s[t] = b0[t]"), "reads an element of shared memory that nothing"),
    ("if t < 40:\n    cuda.syncthreads()", "has a barrier that some threads do not reach"),
    ("if t < 40:\n    b0[t] = cuda.shfl_xor_sync(0xffffffff, b0[t], 1)", "has a shuffle that some threads do not reach"),
    ("b0[uint32(t ^ 1)] = b0[t]", "stores what another thread read, without a barrier"),
    ("x = cuda.local.array(4, float32)\nload4(b0, t, x)", "touches 4 elements of b0 from 1 on, at once"),
    ("b0[t + 1] = b0[t]", "touches element 64 of b0, which has 64"),
    ("v = b0[uint32(63 - t)]\nb0[t] = v", "stores what another thread read"),
    ("b0[t] = float32(cuda.shfl_xor_sync(0xffffffff, uint64(t), 1))", "shuffles a uint64"),
    ("x = uint64(t) + int64(1)\nb0[t] = float32(x)", "mixes int64 and uint64"),
    ("x = cuda.shared.array(0, float32)", "asks for an array of 0 elements"),
    ("x = cuda.local.array(0, float32)", "asks for an array of 0 elements"),
], ids=lambda value: value.split("\n")[0][:40] if isinstance(value, str) else None)
def test_what_no_kernel_may_do_is_found(body: str, message: str) -> None:
    with pytest.raises(VerificationError, match=message):
        emulated(body)


def test_blocks_share_nothing_but_buffers() -> None:
    with pytest.raises(VerificationError, match="stores an element of b0 from two threads at once|another thread"):
        emulated("b0[t] = b0[t] + 1", blocks=2)
    assert emulated("i = uint32(cuda.blockIdx.x * 32 + t)\nb0[i] = b0[i] + 1", threads=32, blocks=2).tolist()[-1] == 64.0


def test_a_report_ends_in_an_error_with_its_detail() -> None:
    with pytest.raises(KernelError) as info:
        emulated("if t == 3:\n    report(status, 7, t * 10)")
    assert (info.value.status, info.value.details[0]) == (7, 30)
