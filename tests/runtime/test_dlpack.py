"""Memory shared with other libraries: NumPy and PyTorch on the CPU, the emulator's GPU with itself."""
from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from flambeau import config
from flambeau.ir import dtypes as dt
from flambeau.ir.dtypes import DTYPES
from flambeau.runtime import dlpack
from flambeau.runtime.buffer import as_ndarray, from_ndarray
from flambeau.runtime.cuda.device import device_on, here
from flambeau.runtime.devices import memory_on


class Giver:
    """As another library's tensor."""

    def __init__(self, make: Any, device: str):
        self.make, self.device, self.streams = make, device, []     # type: ignore[var-annotated]

    def __dlpack__(self, stream: int | None = None, **_: Any) -> Any:
        self.streams.append(stream)
        return self.make(stream)

    def __dlpack_device__(self) -> tuple[int, int]:
        return dlpack.dlpack_device(self.device)


@pytest.fixture
def emulator() -> Iterator[None]:
    with config.set(cuda="emulator"):
        yield
    here.streams.clear()


@pytest.mark.parametrize("dtype", [d for d in DTYPES.values() if d is not dt.bf16], ids=str)
def test_numpy_reads_what_is_exported(dtype: dt.DType) -> None:
    array = np.arange(24).reshape(2, 3, 4).astype(dtype.storage)
    buffer = from_ndarray(array)
    giver = Giver(lambda stream: dlpack.export_dlpack(buffer, dtype, (3, 2), (4, 12), 1 * dtype.itemsize), "cpu")
    found = np.from_dlpack(giver)                                                           # type: ignore[arg-type]
    assert found.dtype == array.dtype and found.tolist() == array[:, :, 1].T.tolist()
    assert dlpack._given
    del found
    gc.collect()
    assert not dlpack._given                                        # NumPy said that it is done


def test_a_capsule_that_nobody_takes_lets_go() -> None:
    capsule = dlpack.export_dlpack(from_ndarray(np.zeros(3)), dt.f64, (3,), (1,))
    assert len(dlpack._given) == 1
    del capsule
    assert not dlpack._given


@pytest.mark.parametrize("view", [np.s_[:], np.s_[::-1, ::2], np.s_[1:, 3], np.s_[:, :0]], ids=str)
def test_what_numpy_exports_is_read(view: Any) -> None:
    array = np.arange(12, dtype=np.int32).reshape(3, 4)[view]
    shared = dlpack.import_dlpack(array)
    strides = tuple([4 * step for step in shared.strides])
    found = as_ndarray(shared.buffer, shared.dtype.storage, shared.shape, strides, shared.offset)
    assert shared.dtype is dt.i32 and found.tolist() == array.tolist()
    if array.size:
        array[...] = 7
        assert (found == 7).all()                                   # it is the same memory


def test_pytorch_takes_and_gives_bfloat16() -> None:
    torch = pytest.importorskip("torch")
    shared = dlpack.import_dlpack(torch.tensor([1.0, 2.5], dtype=torch.bfloat16))
    assert shared.dtype is dt.bf16 and shared.shape == (2,)
    back = torch.from_dlpack(Giver(lambda stream: dlpack.export_dlpack(shared.buffer, dt.bf16, (2,), (1,)), "cpu"))
    assert back.dtype is torch.bfloat16 and back.tolist() == [1.0, 2.5]


def test_what_is_not_known_is_refused() -> None:
    with pytest.raises(BufferError, match="capsule"):
        dlpack.import_dlpack(3)
    capsule = dlpack.export_dlpack(from_ndarray(np.zeros(3)), dt.f64, (3,), (1,))
    dlpack.import_dlpack(capsule)
    with pytest.raises(BufferError, match="nobody took"):
        dlpack.import_dlpack(capsule)
    with pytest.raises(BufferError, match="code 5"):
        dlpack.import_dlpack(np.zeros(2, np.complex64))
    with pytest.raises(AttributeError, match="'cpu'"):
        dlpack.cuda_array_interface(from_ndarray(np.zeros(3)), dt.f64, (3,), (1,))


def test_streams_of_both_sides_wait_for_each_other(emulator: None) -> None:
    memory, device = memory_on("cuda:0"), device_on(0)
    giving, taking = device.stream(), device.stream()
    values = np.arange(6, dtype=np.float32)
    here.streams[device] = giving
    buffer = memory.from_host(values)
    giver = Giver(lambda stream: dlpack.export_dlpack(buffer, dt.f32, (2, 3), (3, 1), stream=stream), "cuda:0")
    here.streams[device] = taking
    # the giver asks its work of its own stream, whichever is current
    giver.make = lambda stream: _within(device, giving, lambda: dlpack.export_dlpack(
        buffer, dt.f32, (2, 3), (3, 1), stream=stream))
    shared = dlpack.import_dlpack(giver)
    assert giver.streams == [int(taking.handle)] and shared.buffer.device == "cuda:0"
    assert memory.to_host(shared.buffer).view(np.float32).tolist() == values.tolist()


def _within(device: Any, stream: Any, run: Any) -> Any:
    before = here.streams[device]
    here.streams[device] = stream
    try:
        return run()
    finally:
        here.streams[device] = before


def test_cuda_array_interface_goes_both_ways(emulator: None) -> None:
    memory, device = memory_on("cuda:1"), device_on(1)
    buffer = memory.from_host(np.arange(12, dtype=np.int64))

    class Theirs:
        __cuda_array_interface__ = dlpack.cuda_array_interface(buffer, dt.i64, (2, 3), (6, 2), 8)

    said = Theirs.__cuda_array_interface__
    assert said["typestr"] == "<i8" and said["stream"] == 1 and said["strides"] == (48, 16) and said["version"] == 3
    here.streams[device] = device.stream()
    shared = dlpack.from_cuda_array_interface(Theirs(), "cuda:1")
    assert (shared.shape, shared.strides, shared.buffer.ptr) == ((2, 3), (6, 2), buffer.ptr + 8)
    assert memory.to_host(shared.buffer).view(np.int64).tolist() == list(range(1, 12))
    plain = dlpack.cuda_array_interface(buffer, dt.i64, (12,), (1,))
    assert plain["strides"] is None and plain["data"] == (buffer.ptr, False)
    with pytest.raises(AttributeError, match="bfloat16"):
        dlpack.cuda_array_interface(buffer, dt.bf16, (12,), (1,))
