"""Tensors of a GPU, which the emulator plays, and other memory: pinned, other libraries', other streams'."""
from __future__ import annotations

from collections import namedtuple
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import flambeau as fb
from flambeau import config
from flambeau.runtime.cuda.device import device_on, here
from flambeau.utils.data import DataLoader


@pytest.fixture(autouse=True)
def emulator() -> Iterator[None]:
    with config.set(cuda="emulator"):
        yield
    here.streams.clear()


class Theirs:
    """A tensor as another library has it."""

    def __init__(self, x: fb.Tensor):
        self.x = x

    def __dlpack__(self, **how: Any) -> Any:
        return self.x.__dlpack__(**how)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.x.__dlpack_device__()


def test_pinned_tensors() -> None:
    x = fb.arange(6.0).reshape(2, 3)
    pinned = x.T.pin_memory()
    assert pinned.is_pinned() and not x.is_pinned() and pinned.tolist() == x.T.tolist() and pinned.is_contiguous()
    assert pinned.pin_memory() is pinned and pinned[1:].is_pinned()
    there = pinned.to("cuda", non_blocking=True)
    pinned.fill_(9)                                                 # too early: the copy did not wait for it
    assert there.tolist() == [[9.0] * 2] * 3
    pinned.fill_(5)
    there = pinned.to("cuda")
    pinned.fill_(9)
    assert there.tolist() == [[5.0] * 2] * 3
    with pytest.raises(RuntimeError, match="only dense CPU tensors can be pinned"):
        there.pin_memory()
    with config.set(cuda=""):
        if not fb.cuda.is_available():
            assert x.pin_memory() is x and not x.is_pinned()


def test_loaders_pin_batches() -> None:
    Pair = namedtuple("Pair", "x y")
    data = [{"pair": Pair(np.float32(n), [fb.tensor(n)]), "name": f"n{n}"} for n in range(4)]
    for workers in (0, 1):
        batches = list(DataLoader(data, 2, pin_memory=True, num_workers=workers,
                                  multiprocessing_context="thread" if workers else None))
        assert len(batches) == 2 and batches[1]["name"] == ["n2", "n3"]
        assert batches[1]["pair"].x.is_pinned() and batches[1]["pair"].y[0].is_pinned()
        assert batches[1]["pair"].y[0].tolist() == [2, 3]
    assert not next(iter(DataLoader([fb.ones(1)], 1))).is_pinned()


def test_memory_used_on_another_stream_waits_for_it() -> None:
    x, side = fb.arange(1000.0, device="cuda"), fb.cuda.Stream()
    side.wait_stream(fb.cuda.current_stream())
    with fb.cuda.stream(side):
        y = x + 1
    x.record_stream(side)
    place = x.data_ptr()
    del x
    z = fb.zeros(1000, device="cuda")                               # would be the memory of x, which side still reads
    assert z.data_ptr() != place
    fb.cuda.current_stream().wait_stream(side)
    assert y[:3].tolist() == [1.0, 2.0, 3.0]
    fb.cuda.synchronize()


@pytest.mark.parametrize("dtype", [fb.float32, fb.bfloat16, fb.int64, fb.bool], ids=str)
def test_dlpack_shares_memory_of_a_gpu(dtype: Any) -> None:
    x = fb.arange(12, device="cuda").reshape(3, 4).to(dtype)
    for view in (x, x[1:], x.T, x[:, 1:3], x[1].expand(2, 4)):
        assert view.__dlpack_device__() == (2, 0)
        found = fb.from_dlpack(Theirs(view))
        assert found.device == x.device and found.dtype is dtype and found.tolist() == view.tolist()
        assert found.data_ptr() == view.data_ptr()
    fb.from_dlpack(Theirs(x[1:])).zero_()
    assert not x[1:].any() and x[0].any()
    copied = fb.from_dlpack(Theirs(x), copy=True)
    assert copied.data_ptr() != x.data_ptr()
    base = x.clone()
    view = base[:, 1:]
    base.unsqueeze_(0)                                              # the view lies where it did
    taken = fb.from_dlpack(Theirs(view))
    assert taken.tolist() == x[:, 1:].tolist() and view.stride() == (4, 1)
    with pytest.raises(BufferError, match="require gradient"):
        fb.ones(1, device="cuda", requires_grad=True).__dlpack__()
    with pytest.raises(BufferError, match="DLPack's device"):
        x.__dlpack__(dl_device=(1, 0))


def test_cuda_array_interface_is_that_of_a_gpus_tensors() -> None:
    x = fb.arange(12.0, device="cuda").reshape(3, 4)
    said = x[1:, ::2].__cuda_array_interface__
    assert said["shape"] == (2, 2) and said["strides"] == (16, 8) and said["data"] == (x.data_ptr() + 16, False)
    assert not hasattr(fb.ones(1), "__cuda_array_interface__")
    assert not hasattr(fb.ones(1, device="cuda", dtype=fb.bfloat16), "__cuda_array_interface__")

    class Array:
        __cuda_array_interface__ = said

    taken = fb.as_tensor(Array(), device="cuda")
    assert taken.tolist() == [[4.0, 6.0], [8.0, 10.0]] and taken.data_ptr() == x.data_ptr() + 16


def test_generators_of_gpus() -> None:
    fb.cuda.manual_seed(3)
    first, state = fb.rand(3, device="cuda").tolist(), fb.cuda.get_rng_state()
    second = fb.rand(3, device="cuda").tolist()
    fb.cuda.set_rng_state(state)
    assert fb.rand(3, device="cuda").tolist() == second != first
    fb.cuda.manual_seed_all(3)
    assert fb.rand(3, device="cuda:1").tolist() == first and fb.cuda.initial_seed() == 3
    assert len(fb.cuda.get_rng_state_all()) == 2
    fb.manual_seed(3)
    assert fb.rand(3).tolist() == first


def test_the_current_gpu_is_what_cuda_means() -> None:
    with fb.cuda.device(1):
        assert fb.ones(1, device="cuda").device == fb.device("cuda:1")
    assert fb.ones(1, device="cuda").device == fb.device("cuda:0")


def test_streams_run_eager_ops_and_compiled_functions() -> None:
    side = fb.cuda.Stream()
    step = fb.compile(lambda x: (x * 2).sum())
    with fb.cuda.stream(side):
        x = fb.arange(4.0, device="cuda") + 1
        total = step(x)
    assert not side.query()
    side.synchronize()
    assert device_on(0).default_stream is not side._stream and total.item() == 20.0


def test_verified_functions_check_what_a_gpu_computes() -> None:
    layer = fb.nn.Linear(3, 2).to("cuda")
    opt = fb.optim.SGD(layer.parameters(), lr=0.1)

    def step(x: fb.Tensor) -> fb.Tensor:
        opt.zero_grad()
        loss = fb.softmax(layer(x), 1).square().sum()
        loss.backward()
        opt.step()
        return loss

    x, before = fb.randn(4, 3, device="cuda"), layer.weight.tolist()
    first = fb.compile(step, verify=True)(x).item()
    assert layer.weight.tolist() != before and step(x).item() < first
    table = fb.arange(4.0, device="cuda")
    with pytest.raises(IndexError):
        fb.compile(lambda i: table[i], verify=True)(fb.tensor([7], device="cuda"))
    here_too = fb.compile(lambda x: fb.softmax(x, 0), backend="cuda-emulator", verify=True)
    assert here_too(fb.zeros(4)).tolist() == [0.25] * 4


def test_workers_that_are_forked_have_the_cpu() -> None:
    fb.rand(1, device="cuda")                                       # its generator is in use

    class Noise:
        def __len__(self) -> int:
            return 2

        def __getitem__(self, index: int) -> fb.Tensor:
            return fb.rand(3) + index

    (batch,) = DataLoader(Noise(), 2, num_workers=1, multiprocessing_context="fork", pin_memory=True)
    assert batch.is_pinned() and batch.shape == (2, 3)

    class There(Noise):
        def __getitem__(self, index: int) -> fb.Tensor:
            return fb.ones(1, device="cuda")

    with pytest.raises(RuntimeError, match="Cannot re-initialize CUDA in forked subprocess"):
        list(DataLoader(There(), 2, num_workers=1, multiprocessing_context="fork"))
