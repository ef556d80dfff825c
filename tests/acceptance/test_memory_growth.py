"""Training for a long time takes no more memory than training for a short one, and no cycle collector."""
from __future__ import annotations

import gc
import resource
import sys
import tracemalloc
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import flambeau as fb
import flambeau.nn.functional as F
from flambeau import nn, optim

STATM = Path("/proc/self/statm")
NEEDS_PROC = pytest.mark.skipif(not STATM.exists(), reason="resident memory is read from /proc")
BOTH = pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
# Half of what one leaked object or activation (4 KiB) a step would come to.
OBJECTS_A_STEP = 0.5            # known to the collector, or blocks given out by Python's allocator
BYTES_A_STEP = 2048


def make_step(compiled: bool) -> Callable[[fb.Tensor, fb.Tensor], fb.Tensor]:
    fb.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 4))
    optimizer = optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)

    def step(x: fb.Tensor, y: fb.Tensor) -> fb.Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return fb.compile(step) if compiled else step


def train(step: Callable[..., fb.Tensor], n: int) -> None:
    rng = np.random.default_rng(0)
    for _ in range(n):
        x = fb.from_numpy(rng.standard_normal((16, 16), np.float32))
        y = fb.from_numpy(rng.integers(0, 4, 16))
        step(x, y).item()


@contextmanager
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def resident_bytes() -> int:
    """Of the whole process, now, native memory included."""
    return int(STATM.read_text(encoding="ascii").split()[1]) * resource.getpagesize()


def assert_no_growth(compiled: bool, steps: int) -> None:
    """Requires: /proc."""
    step = make_step(compiled)
    train(step, 100)
    with no_collector():
        objects, blocks, resident = len(gc.get_objects()), sys.getallocatedblocks(), resident_bytes()
        train(step, steps)
        more_resident = resident_bytes() - resident
        more_objects = len(gc.get_objects()) - objects
        assert gc.collect() == 0                        # empties Python's free lists, too
        more_blocks = sys.getallocatedblocks() - blocks
    assert more_objects < OBJECTS_A_STEP * steps
    assert more_blocks < OBJECTS_A_STEP * steps
    assert more_resident < BYTES_A_STEP * steps


@NEEDS_PROC
@BOTH
def test_1000_steps_leave_no_memory_behind(compiled: bool) -> None:
    assert_no_growth(compiled, 1_000)


@NEEDS_PROC
def test_10000_compiled_steps_leave_no_memory_behind() -> None:
    assert_no_growth(True, 10_000)


@BOTH
def test_arrays_are_freed_at_once(compiled: bool) -> None:
    """tracemalloc sees NumPy's buffers, and its peak what was alive at the same time."""
    step = make_step(compiled)
    train(step, 20)
    with no_collector():
        tracemalloc.start()
        try:
            train(step, 20)
            first_peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.reset_peak()
            train(step, 60)
            later_peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert later_peak < first_peak + 60 * BYTES_A_STEP


def test_a_tape_is_freed_with_its_tensors() -> None:
    """A loss that is dropped without a backward takes everything it kept alive with it."""
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 2))
    with no_collector():
        h = model(fb.ones(3, 4))
        watched = [weakref.ref(h), weakref.ref(h._storage)]
        loss = (h * h).sum() + h[:, 0].relu().mean()
        watched.append(weakref.ref(loss))
        del h
        assert watched[1]() is not None         # the derivative of the square needs it
        del loss
        assert [w() for w in watched] == [None] * 3


@BOTH
def test_steps_leave_nothing_for_the_cycle_collector(compiled: bool) -> None:
    step = make_step(compiled)
    train(step, 5)
    with no_collector():
        train(step, 20)
        assert gc.collect() == 0


def test_in_place_ops_and_views_leave_nothing_for_the_cycle_collector() -> None:
    weight = fb.ones(4, 4, requires_grad=True)

    def step() -> None:
        x = weight * 2
        x[1:] += weight[:-1]
        x.t()[0].mul_(3)
        (x * x).sum().backward()
        weight.grad = None

    step()
    with no_collector():
        for _ in range(10):
            step()
        assert gc.collect() == 0


def test_freeing_a_long_tape_does_not_overflow_the_stack() -> None:
    x = fb.ones((), requires_grad=True)
    y = x
    for _ in range(20_000):
        y = y + 1
    with no_collector():
        del y


def test_a_dropped_compiled_function_frees_its_model() -> None:
    def use() -> weakref.ref[nn.Linear]:
        model = nn.Linear(3, 3)
        fb.compile(lambda x: model(x).sum())(fb.ones(2, 3)).backward()
        return weakref.ref(model)

    watched = use()
    gc.collect()
    assert watched() is None
