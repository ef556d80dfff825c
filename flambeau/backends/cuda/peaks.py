"""What a GPU can do at most: multiply-adds of f32 by its ordinary cores, and bytes copied, timed by events of its own."""
from __future__ import annotations

from typing import Final

from flambeau.backends.base import BuiltKernel
from flambeau.backends.cuda.backend import CudaBackend, EmulatedCudaBackend, backend_of_device
from flambeau.backends.peaks import Peaks, kept_peaks
from flambeau.ir import dtypes as dt
from flambeau.ir.kernel.parser import parse_kernel
from flambeau.ir.kinds import kind_of
from flambeau.ir.types import TensorType
from flambeau.runtime.cuda.api import checked
from flambeau.runtime.cuda.device import Device
from flambeau.runtime.cuda.memory import CudaMemory
from flambeau.runtime.program import Launch, Program, Signature, Slot, TensorSpec

__all__ = ["peaks"]

_CHAIN: Final = 256                         # multiply-adds of each element, one after the other
_REPEATS: Final = 7
_MOST_BYTES: Final = 256 << 20              # copied: more than caches hold
_A_THREAD: Final = 64                       # elements, for every thread that fits a multiprocessor: 0.1 ms and more
_CHAINS: Final = """
loop @peak {{
  in in0: f32[{elements}]
  out out0: f32[{elements}]
  parallel %i0 = {elements}
  stage () {{
    %0 = load in0[%i0] : f32
{steps}
    store %{last} to out0[%i0]
  }}
}}
"""


def peaks(number: int) -> Peaks:
    """Of "cuda:number"."""
    backend = backend_of_device(number)
    device = backend.device
    return kept_peaks(f"{device.product} {device.multiprocessors}", lambda: _measured(backend, device))


def _measured(backend: CudaBackend, device: Device) -> Peaks:
    is_there = not isinstance(backend, EmulatedCudaBackend)
    elements = device.multiprocessors * 2048 * _A_THREAD if is_there else 1 << 7
    nbytes = min(_MOST_BYTES, device.memory_info()[0] // 4) if is_there else 1 << 20
    flops, moved = 2 * _CHAIN * elements, 2 * nbytes
    return Peaks(flops / _seconds_of_chains(backend, elements), moved / _seconds_of_copy(device, nbytes), device.product)


def _seconds_of_chains(backend: CudaBackend, elements: int) -> float:
    steps = "\n".join(f"    %{n} = fma %{n - 1}, %0, %0 : f32" for n in range(1, _CHAIN + 1))
    kernel = parse_kernel(_CHAINS.format(elements=elements, steps=steps, last=_CHAIN))
    target, schedule = backend.host(), kind_of(kernel).implementation("cuda").schedule
    kernel = kernel if schedule is None else schedule(kernel, target)
    (artifact,) = backend.build([kernel], target)
    name, nbytes = backend.device.name, 4 * elements
    (phase,) = artifact.phases
    assert phase.tasks is not None, "its sizes are known"
    kind = TensorType((elements,), dt.f32, name)
    program = Program((Slot("arg", 0, nbytes, name), Slot("out", 0, nbytes, name)),
                      (Launch(phase.symbol, phase.tasks, phase.grain, False, (0, 1)),),
                      Signature((TensorSpec("x", kind),), (), (), (TensorSpec("y", kind),)))
    memory = CudaMemory(backend.device)
    given, made = memory.zeros(nbytes), memory.allocate(nbytes)
    executable = backend.executable(program, [BuiltKernel(kernel, artifact)])
    (seconds,) = executable.profile([given.ptr], (), [made.ptr], repeats=_REPEATS)
    return seconds


def _seconds_of_copy(device: Device, nbytes: int) -> float:
    memory, stream, seconds = CudaMemory(device), device.current_stream(), []
    source, target = memory.zeros(nbytes), memory.zeros(nbytes)
    for _ in range(_REPEATS):
        before, after = device.event(timing=True), device.event(timing=True)
        before.record(stream)
        checked(device.cu, device.cu.cuMemcpyDtoDAsync(target.ptr, source.ptr, nbytes, stream.handle))
        after.record(stream)
        after.synchronize()
        seconds.append(1e-3 * before.milliseconds_to(after))
    return min(seconds)
