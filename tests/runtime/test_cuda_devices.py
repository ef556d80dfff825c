"""Memory of devices, and programs on it, where the device is the emulator's."""
from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from flambeau import config
from flambeau.backends import backend_on
from flambeau.backends.cuda.backend import EmulatedCudaBackend
from flambeau.compiler import compile_graph
from flambeau.errors import KernelError, UnsupportedError, VerificationError
from flambeau.ir import parse
from flambeau.runtime.buffer import Buffer, as_ndarray
from flambeau.runtime.devices import memory_on


@pytest.fixture(autouse=True)
def emulator() -> Iterator[None]:
    with config.set(cuda="emulator"):
        yield


def floats(buffer: Buffer) -> list[float]:
    return memory_on(buffer.device).to_host(buffer).view(np.float32).tolist()


@pytest.mark.parametrize("device", ["cpu", "cuda:0", "cuda:1"])
def test_bytes_come_back_as_they_went(device: str) -> None:
    memory = memory_on(device)
    values = np.arange(6, dtype=np.float32)
    buffer = memory.from_host(values)
    values[:] = 0                                                   # the copy is made
    assert (buffer.device, buffer.nbytes, floats(buffer)) == (device, 24, [0, 1, 2, 3, 4, 5])
    memory.write(buffer, 8, np.array([[7, 8]], np.float32))
    other = memory.zeros(16)
    memory.copy(other, 4, buffer, 8, 8)
    memory.synchronize()
    assert floats(other) == [0, 7, 8, 0]
    assert memory.to_host(buffer, 20, 4).view(np.float32) == [5]
    assert memory.allocate(0).nbytes == 0
    before = memory.stats()["allocated"]
    del other
    assert memory.stats()["allocated"] <= before - 16
    with pytest.raises(VerificationError, match="leave a buffer of 24 bytes"):
        memory.to_host(buffer, 20, 8)


def test_the_host_never_looks_at_memory_of_the_device() -> None:
    buffer = memory_on("cuda:0").allocate(8)
    assert buffer.ptr >> 56 == 0x5C                                 # no address: a processor refuses it
    with pytest.raises(VerificationError, match="not NumPy's"):
        as_ndarray(buffer, np.float32, (2,))


def test_devices_that_are_not_there() -> None:
    with pytest.raises(RuntimeError, match="invalid device ordinal"):
        memory_on("cuda:7")
    for name in ("cuda", "npu:0"):
        with pytest.raises(UnsupportedError, match=name):
            memory_on(name)


PROGRAM = """graph @step {{
  %0 = input arg "x" : f32[4]@cuda:{n}
  %1 = input state "w" : f32[4]@cuda:{n}
  %2 = mul(%0, %1) : f32[4]@cuda:{n}
  %3 = add(%2, %1) : f32[4]@cuda:{n}
  write %2 to %1
  return %3
}}"""


@pytest.mark.parametrize("number", [0, 1])
def test_programs_compute_on_memory_of_their_device(number: int) -> None:
    memory = memory_on(f"cuda:{number}")
    made = compile_graph(parse(PROGRAM.format(n=number)), rules=True)
    assert isinstance(made.backend, EmulatedCudaBackend) and made.backend is backend_on(f"cuda:{number}")
    assert {slot.device for slot in made.program.slots} == {f"cuda:{number}"}
    x, w = (memory.from_host(np.array(v, np.float32)) for v in ([1, 2, 3, 4], [2, 3, 4, 5]))
    out = memory.allocate(16)
    made.executable.bind_states([w.ptr]).fast_call(x.ptr, out.ptr)
    assert floats(out) == [4, 9, 16, 25] and floats(w) == [2, 6, 12, 20]


def test_programs_of_the_hosts_memory_still_run_on_copies() -> None:
    made = compile_graph(parse(PROGRAM.format(n=0).replace("@cuda:0", "")), backend="cuda-emulator", rules=True)
    x, w, out = np.full(4, 2, np.float32), np.full(4, 3, np.float32), np.zeros(4, np.float32)
    made.executable.bind_states([w.ctypes.data]).fast_call(x.ctypes.data, out.ctypes.data)
    assert out.tolist() == [9] * 4 and w.tolist() == [6] * 4


def test_bad_indices_name_the_op_when_somebody_waits() -> None:
    graph = parse("""graph @look {
  %0 = input arg "table" : f32[4]@cuda:0
  %1 = input arg "at" : i64[2]@cuda:0
  %2 = take(%0, %1, dim=0) : f32[2]@cuda:0  loc(#0)
  return %2
}
#0 = loc "model.py":3 "look"
""")
    memory = memory_on("cuda:0")
    made = compile_graph(graph, rules=True)
    table, at, out = memory.zeros(16), memory.from_host(np.array([0, 9])), memory.allocate(8)
    with pytest.raises(KernelError, match="model.py"):
        made.executable.fast_call(table.ptr, at.ptr, out.ptr)
        memory.to_host(out)
