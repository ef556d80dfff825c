"""`fb.cuda` and `fb.accelerator`, where the GPU is the emulator's, and where there is none."""
from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import flambeau as fb
from flambeau import config
from flambeau.runtime.buffer import Buffer
from flambeau.runtime.cuda.device import here
from flambeau.runtime.devices import memory_on, set_current_index


@pytest.fixture
def emulator() -> Iterator[None]:
    with config.set(cuda="emulator"):
        yield
    here.streams.clear()
    set_current_index(0)


def bytes_of(buffer: Buffer) -> list[int]:
    return memory_on(buffer.device).to_host(buffer).tolist()


def test_without_a_gpu_questions_are_answered_and_needs_are_errors() -> None:
    if fb.cuda.is_available():
        pytest.skip("there is a GPU")
    assert fb.cuda.device_count() == 0 and fb.cuda.memory_stats() == {} and fb.cuda.get_arch_list() == []
    assert fb.cuda.memory_allocated() == 0 and not fb.cuda.is_bf16_supported()
    assert fb.accelerator.current_accelerator() is None and fb.accelerator.device_count() == 0
    fb.cuda.manual_seed_all(3)
    fb.cuda.synchronize()
    fb.cuda.empty_cache()
    for need in (fb.cuda.current_device, fb.cuda.Stream, fb.cuda.init, fb.cuda.mem_get_info, fb.cuda.get_device_name,
                 fb.cuda.current_stream):
        with pytest.raises(RuntimeError, match="NVIDIA driver|cuda-bindings|pip install|CUDA"):
            need()
    with pytest.raises(RuntimeError, match="accelerator"):
        fb.accelerator.current_device_index()


def test_devices(emulator: None) -> None:
    assert fb.cuda.is_available() and fb.cuda.device_count() == 2 and fb.cuda.is_bf16_supported(False)
    fb.cuda.init()
    assert fb.cuda.is_initialized() and fb.cuda._initialized and fb.cuda.current_device() == 0
    with fb.cuda.device(1):
        assert fb.cuda.current_device() == 1 == fb.accelerator.current_device_index()
        with fb.cuda.device(-1), fb.cuda.device_of(fb.ones(1)):
            assert fb.cuda.current_device() == 1
    fb.cuda.set_device("cuda:1")
    fb.cuda.set_device(fb.device("cuda", 0))
    assert fb.cuda.current_device() == 0
    found = fb.cuda.get_device_properties(1)
    assert (found.major, found.minor) == fb.cuda.get_device_capability() == (9, 0)
    assert found.name == fb.cuda.get_device_name("cuda:1") and found.multi_processor_count == 132
    assert fb.cuda.get_arch_list() == ["sm_90"] and fb.cuda.can_device_access_peer(0, 1)
    assert str(fb.accelerator.current_accelerator()) == "cuda"
    with pytest.raises(RuntimeError, match="invalid device ordinal"):
        fb.cuda.set_device(2)
    with pytest.raises(ValueError, match="Expected a cuda device, but got: cpu"):
        fb.cuda.synchronize("cpu")


def test_memory(emulator: None) -> None:
    fb.cuda.reset_peak_memory_stats()
    before = fb.cuda.memory_allocated()
    buffer = memory_on("cuda:0").allocate(1000)
    assert fb.cuda.memory_allocated() == before + 1024 == fb.accelerator.memory_allocated()
    assert fb.cuda.memory_reserved() >= fb.cuda.memory_allocated()
    free, total = fb.cuda.mem_get_info()
    assert 0 < free < total == fb.cuda.get_device_properties().total_memory
    del buffer
    assert fb.cuda.memory_allocated() == before and fb.cuda.max_memory_allocated() == before + 1024
    fb.cuda.empty_cache()
    assert "allocated_bytes" in fb.cuda.memory_summary()
    fb.cuda.set_per_process_memory_fraction(0.5)
    assert fb.cuda.get_per_process_memory_fraction() == 0.5
    with pytest.raises(fb.cuda.OutOfMemoryError, match="Tried to allocate 5.00 GiB"):
        memory_on("cuda:0").allocate(5 << 30)
    fb.cuda.set_per_process_memory_fraction(1.0)
    assert fb.cuda.OutOfMemoryError is fb.OutOfMemoryError and issubclass(fb.OutOfMemoryError, RuntimeError)


def test_streams_and_events(emulator: None) -> None:
    memory = memory_on("cuda:0")
    side = fb.cuda.Stream(priority=-1)
    assert fb.cuda.current_stream() == fb.cuda.default_stream() != side
    assert fb.cuda.default_stream().cuda_stream == 0 and side.device == fb.device("cuda:0")
    start, end = fb.cuda.Event(enable_timing=True), fb.cuda.Event(enable_timing=True)
    with fb.cuda.stream(side):
        assert fb.cuda.current_stream() == side
        start.record()
        buffer = memory.from_host(np.arange(4, dtype=np.uint8))
        end.record()
        with fb.cuda.stream(None):
            assert fb.cuda.current_stream() == side
    assert not side.query() and not end.query()
    with pytest.raises(RuntimeError, match="completed"):
        start.elapsed_time(end)
    end.wait()                                                      # the default stream does
    assert bytes_of(buffer) == [0, 1, 2, 3]
    end.synchronize()
    assert end.query() and start.elapsed_time(end) >= 0
    with pytest.raises(ValueError, match="enable_timing=True"):
        fb.cuda.Event().elapsed_time(end)
    with side, fb.cuda.device(1), fb.cuda.stream(fb.cuda.Stream()) as _:
        assert fb.cuda.current_device() == 1 and fb.cuda.current_stream(0) == side
    assert fb.cuda.current_device() == 0 and fb.cuda.current_stream() == fb.cuda.default_stream()
    event = side.record_event()
    fb.cuda.current_stream().wait_event(event)
    fb.cuda.current_stream().wait_stream(side)
    fb.cuda.synchronize()
    assert fb.cuda.ExternalStream(0).query()


def test_names_and_arguments_are_pytorchs() -> None:
    torch = pytest.importorskip("torch")
    skipped = {"device", "DeviceProperties", "can_device_access_peer", "AcceleratorError", "OutOfMemoryError", "Event",
               "Stream", "ExternalStream", "StreamContext", "host_memory_stats"}

    def parameters(function: Any) -> list[str]:
        return [f"{p.kind}{p.name}" for p in inspect.signature(function).parameters.values()]

    for ours, theirs in ((fb.cuda, torch.cuda), (fb.accelerator, torch.accelerator)):
        for name in set(ours.__all__) - skipped:
            if name not in ("device_index", "device_of"):
                assert parameters(getattr(ours, name)) == parameters(getattr(theirs, name)), name
    for kind in ("Stream", "Event"):
        for name in dir(getattr(torch.cuda, kind)):
            if not name.startswith("_") and name != "from_ipc_handle":
                ours, theirs = getattr(getattr(fb.cuda, kind), name), getattr(getattr(torch.cuda, kind), name)
                if inspect.isfunction(theirs):
                    assert parameters(ours) == parameters(theirs), name
