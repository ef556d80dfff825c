"""What this machine can do at most: multiply-adds of f32 and bytes copied, with all threads. Measured once for each machine
and number of threads, in less than a second where nothing else runs."""
from __future__ import annotations

import time
from typing import Any, Final

import numpy as np

from flambeau.backends.peaks import Peaks, kept_peaks
from flambeau.codegen.cpu.toolchain import emit_object
from flambeau.ir import dtypes as dt
from flambeau.ir.target import Target
from flambeau.ir.types import TensorType
from flambeau.runtime.executable import Executable
from flambeau.runtime.host import host_target
from flambeau.runtime.loader import load
from flambeau.runtime.program import Launch, Program, Signature, Slot, TensorSpec
from flambeau.runtime.threads import get_num_threads

__all__ = ["peaks"]

_SUMS: Final = 12                           # independent ones: more than two units with four cycles each can work on
_TURNS: Final = 100_000                     # of one task
_CHUNK: Final = 1 << 20                     # bytes that one task copies
_LEAST_COPY: Final = 64 << 20
_REPEATS: Final = 7


def peaks(number: int = 0) -> Peaks:
    """Of this machine, with as many threads as kernels may use now."""
    target, threads = host_target(), get_num_threads()
    return kept_peaks(f"{target!r} {threads}", lambda: _measured(target, threads))


def _measured(target: Target, threads: int) -> Peaks:
    lanes = target.vector_bytes // 4
    library = load([emit_object(_text(target, lanes), target)], ["peak_fma", "peak_copy"])
    tasks = 4 * threads
    program = _program("peak_fma", tasks, 1, 64)
    seconds = _least(Executable(program, library.addresses, keep=library), [np.ones(64, np.uint8)])
    flops = tasks * _TURNS * _SUMS * lanes * 2 / seconds
    nbytes = max(_LEAST_COPY, min(4 * target.l3_bytes, 4 * _LEAST_COPY))
    chunks = nbytes // _CHUNK
    seconds = _least(Executable(_program("peak_copy", chunks, 2, chunks * _CHUNK), library.addresses, keep=library),
                     [_aligned(chunks * _CHUNK), _aligned(chunks * _CHUNK)])
    return Peaks(flops, 2 * chunks * _CHUNK / seconds, f"this machine, {threads} threads")


def _aligned(nbytes: int) -> Any:
    """Bytes at a multiple of 64, each of them there. NumPy's, which go back to the system when they are done with."""
    array = np.ones(nbytes + 64, np.uint8)
    start = -array.ctypes.data % 64
    return array[start:start + nbytes]


def _least(executable: Executable, arrays: list[Any]) -> float:
    """Seconds of the fastest of some calls, the first one not counted."""
    pointers, times = [array.ctypes.data for array in arrays], []
    for _ in range(_REPEATS + 1):
        started = time.perf_counter()
        executable.fast_call(*pointers)
        times.append(time.perf_counter() - started)
    return min(times[1:])


def _program(symbol: str, tasks: int, n_buffers: int, nbytes: int) -> Program:
    slots = tuple([Slot("arg", number, nbytes) for number in range(n_buffers)])
    specs = tuple([TensorSpec(f"buffer[{number}]", TensorType((nbytes,), dt.u8)) for number in range(n_buffers)])
    return Program(slots, (Launch(symbol, tasks, 1, True, tuple(range(n_buffers))),), Signature(specs))


def _text(target: Target, lanes: int) -> str:
    bits = 8 * target.vector_bytes
    vector = f"<{lanes} x float>"
    if target.has_fma:
        step = "  %s{n}.next = call {v} @llvm.fma.v{lanes}f32({v} %s{n}, {v} %factor, {v} %factor)"
    else:
        step = "  %p{n} = fmul {v} %s{n}, %factor\n  %s{n}.next = fadd {v} %p{n}, %factor"
    sums = "\n".join(f"  %s{n} = phi {vector} [ %factor, %task ], [ %s{n}.next, %turn ]" for n in range(_SUMS))
    steps = "\n".join(step.format(n=n, v=vector, lanes=lanes) for n in range(_SUMS))
    total = "\n".join(f"  %t{n} = fadd {vector} {'%factor' if n == 0 else f'%t{n - 1}'}, %s{n}.next" for n in range(_SUMS))
    return f"""
declare {vector} @llvm.fma.v{lanes}f32({vector}, {vector}, {vector})

define i32 @peak_fma(ptr %context, ptr %buffers, ptr %sizes, i64 %begin, i64 %end) #0 {{
entry:
  %memory = load ptr, ptr %buffers
  %factor = load {vector}, ptr %memory, align 4
  br label %task
task:
  %number = phi i64 [ %begin, %entry ], [ %number.next, %ended ]
  br label %turn
turn:
  %i = phi i64 [ 0, %task ], [ %i.next, %turn ]
{sums}
{steps}
  %i.next = add i64 %i, 1
  %more = icmp ult i64 %i.next, {_TURNS}
  br i1 %more, label %turn, label %ended
ended:
{total}
  store {vector} %t{_SUMS - 1}, ptr %memory, align 4
  %number.next = add i64 %number, 1
  %another = icmp ult i64 %number.next, %end
  br i1 %another, label %task, label %out
out:
  ret i32 0
}}

define i32 @peak_copy(ptr %context, ptr %buffers, ptr %sizes, i64 %begin, i64 %end) #0 {{
entry:
  %source = load ptr, ptr %buffers
  %target.p = getelementptr ptr, ptr %buffers, i64 1
  %target = load ptr, ptr %target.p
  %first = mul i64 %begin, {_CHUNK}
  %last = mul i64 %end, {_CHUNK}
  br label %next
next:
  %i = phi i64 [ %first, %entry ], [ %i.next, %next ]
  %from = getelementptr i8, ptr %source, i64 %i
  %to = getelementptr i8, ptr %target, i64 %i
  %value = load {vector}, ptr %from, align 64
  store {vector} %value, ptr %to, align 64
  %i.next = add i64 %i, {4 * lanes}
  %more = icmp ult i64 %i.next, %last
  br i1 %more, label %next, label %out
out:
  ret i32 0
}}

attributes #0 = {{ nounwind "min-legal-vector-width"="{bits}" "prefer-vector-width"="{bits}" }}
"""
