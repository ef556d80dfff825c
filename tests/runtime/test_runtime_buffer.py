import gc
import os
import resource
import subprocess
import sys
import weakref
from pathlib import Path

import numpy as np
import pytest

from flambeau import config
from flambeau.errors import UnsupportedError
from flambeau.runtime import (
    Buffer,
    allocate,
    allocator,
    as_ndarray,
    buffer,
    from_ndarray,
    memory_stats,
    release_kept_memory,
    reset_peak_memory,
    zeros,
)
from flambeau.runtime.native.builtin import builtins_possible


@pytest.fixture(params=["native", "numpy"])
def make(request):
    """Both allocators: the builtin, and the one for interpreters that take none."""
    return allocator() if request.param == "native" else buffer._allocate_with_numpy


def live_bytes():
    gc.collect()
    return memory_stats().live_bytes


def resident_bytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


@pytest.mark.parametrize("nbytes", [0, 1, 63, 64, 65, 4096, 4097, 2**20 - 1, 2**20, 5 * 2**20 + 3])
def test_memory_is_aligned_writable_and_as_long_as_asked(make, nbytes):
    made = make(nbytes)
    assert type(made) is Buffer and made.device == "cpu" and made.nbytes == nbytes
    assert made.ptr % 64 == 0 and made.ptr > 0
    view = as_ndarray(made, np.uint8, (nbytes,))
    view[...] = 7
    assert int(view.sum(dtype=np.int64)) == 7 * nbytes


def test_buffers_do_not_overlap(make):
    buffers = [make(size) for size in (0, 0, 1, 64, 100, 4096, 4096, 5000, 2**20, 2**20)]
    spans = sorted((each.ptr, each.ptr + max(each.nbytes, 1)) for each in buffers)
    assert all(end <= start for (_, end), (start, _) in zip(spans, spans[1:], strict=False))


def test_the_native_allocator_is_used_here():
    assert builtins_possible()
    with config.set(poison=False):
        assert type(allocator()).__name__ == "builtin_function_or_method"


@pytest.mark.parametrize("nbytes", [1, 7, 8, 4096, 2**21])
def test_poisoned_memory_is_filled_to_its_last_byte(nbytes):
    with config.set(poison=True):
        buffer = allocate(nbytes)
    memory = as_ndarray(buffer, np.uint8, (nbytes,))
    assert memory.tolist() == ([0xFA, 0x7F] * nbytes)[:nbytes]


def test_poison_is_nan_as_a_float_large_as_an_integer_and_no_bool():
    with config.set(poison=True):
        buffer = allocate(64)
    for dtype in (np.float16, np.float32, np.float64):
        assert np.isnan(as_ndarray(buffer, dtype, (4,))).all()
    bf16 = as_ndarray(buffer, np.uint16, (4,)).astype(np.uint32) << 16
    assert np.isnan(bf16.view(np.float32)).all()
    assert (as_ndarray(buffer, np.int64, (4,)) > 2**62).all()
    assert (as_ndarray(buffer, np.uint8, (4,)) > 1).all()


def test_freed_memory_is_no_longer_live():
    before = live_bytes()
    first, second = allocate(1000), allocate(3 * 2**20)
    assert live_bytes() == before + 1024 + 3 * 2**20
    del first
    assert live_bytes() == before + 3 * 2**20
    del second
    assert live_bytes() == before


def test_peak_is_the_most_that_lived_at_once():
    before = live_bytes()
    reset_peak_memory()
    one = allocate(2**16)
    del one
    two = allocate(2**15)
    assert memory_stats().peak_bytes == before + 2**16
    reset_peak_memory()
    assert memory_stats().peak_bytes == before + two.nbytes


def test_freed_blocks_serve_the_next_request_of_their_size():
    for nbytes in (256, 2**21):
        first = allocate(nbytes)
        address = first.ptr
        del first
        assert allocate(nbytes).ptr == address


ALONE = """
from test_runtime_buffer import resident_bytes
from flambeau.runtime import memory_stats, release_kept_memory, zeros

release_kept_memory()
resident = resident_bytes()
blocks = [zeros(32 * 2**20) for _ in range(12)]
assert resident_bytes() - resident > 300 * 2**20
del blocks
assert 0 < memory_stats().kept_bytes <= 256 * 2**20
release_kept_memory()
assert memory_stats().kept_bytes == 0
assert resident_bytes() - resident < 40 * 2**20
"""


def test_kept_blocks_go_back_to_the_system_on_request_and_beyond_the_limit():
    """In a process of its own: what other tests left in this one, the system may take back meanwhile."""
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    subprocess.run([sys.executable, "-c", ALONE], check=True, env={**os.environ, "PYTHONPATH": path})


def test_a_block_larger_than_the_limit_is_not_kept():
    release_kept_memory()
    huge = allocate(300 * 2**20)
    del huge
    assert memory_stats().kept_bytes == 0


def test_no_leak_over_many_allocations():
    resident, live = resident_bytes(), live_bytes()
    for size in range(200_000):
        allocate(size % 9000)
    assert live_bytes() == live and resident_bytes() - resident < 8 * 2**20


@pytest.mark.parametrize(
    ("nbytes", "error"),
    [("8", TypeError), (None, TypeError), (8.0, TypeError), (-1, OverflowError), (2**63, MemoryError)],
)
def test_what_is_no_size_is_refused(nbytes, error):
    with pytest.raises(error):
        allocate(nbytes)


def test_more_memory_than_there_is_raises_memory_error():
    with pytest.raises(MemoryError):
        allocate(2**50)


@pytest.mark.parametrize("count", [0, 2])
def test_raw_allocator_counts_its_arguments(count):
    with pytest.raises(TypeError, match="one argument"):
        allocator()(*[8] * count)


def test_zeros_are_zero_also_in_reused_memory():
    for nbytes in (128, 2**20):
        dirty = allocate(nbytes)
        as_ndarray(dirty, np.uint8, (nbytes,))[...] = 255
        del dirty
        assert not as_ndarray(zeros(nbytes), np.uint8, (nbytes,)).any()


def test_view_keeps_the_buffer_alive():
    made = allocate(800)
    held = weakref.ref(made)
    view = as_ndarray(made, np.float64, (100,))[10:20][::2]
    view[...] = 3
    del made
    assert held() is not None and view.sum() == 15
    del view
    assert held() is None


def test_buffer_keeps_its_array_alive_and_shares_its_memory():
    array = np.arange(6, dtype=np.int32)
    shared = from_ndarray(array)
    held = weakref.ref(array)
    as_ndarray(shared, np.int32, (6,))[0] = 9
    assert array[0] == 9 and shared.nbytes == 24
    del array
    assert held() is not None
    del shared
    assert held() is None


def test_strided_views():
    made = from_ndarray(np.arange(12, dtype=np.float32).reshape(3, 4))
    flipped = as_ndarray(made, np.float32, (4, 3), (4, -16), offset_bytes=32)
    assert flipped.tolist() == [[8, 4, 0], [9, 5, 1], [10, 6, 2], [11, 7, 3]]
    assert as_ndarray(made, np.float32, (2, 3), (0, 4)).tolist() == [[0, 1, 2], [0, 1, 2]]
    assert as_ndarray(made, np.float32, (), offset_bytes=44) == 11
    assert as_ndarray(made, np.float32, (0, 5)).shape == (0, 5)


@pytest.mark.parametrize(
    ("shape", "strides", "offset"),
    [((4,), None, 0), ((3,), None, 1), ((2,), (8,), 5), ((2,), (-4,), 0), ((), None, 9), ((), None, -1)],
)
def test_view_outside_the_buffer_is_our_mistake(shape, strides, offset):
    with pytest.raises(AssertionError, match="leaves a buffer of 12 bytes"):
        as_ndarray(allocate(12), np.float32, shape, strides, offset)


def test_buffer_of_a_strided_array_spans_its_elements():
    base = np.arange(20, dtype=np.float64)
    reverse = base[15:4:-2]
    shared = from_ndarray(reverse)
    assert shared.ptr == base.ctypes.data + 5 * 8 and shared.nbytes == 11 * 8
    first = reverse.ctypes.data - shared.ptr
    assert as_ndarray(shared, np.float64, (6,), (-16,), first).tolist() == reverse.tolist()


@pytest.mark.parametrize("array", [np.zeros(0), np.array(3.0), np.zeros((0, 4))])
def test_small_arrays(array):
    shared = from_ndarray(array)
    assert shared.nbytes == array.nbytes and shared.ptr == array.ctypes.data


def test_read_only_array():
    array = np.arange(4)
    array.flags.writeable = False
    assert from_ndarray(array).ptr == array.ctypes.data


def test_unaligned_array_is_refused():
    with pytest.raises(UnsupportedError, match="not aligned"):
        from_ndarray(np.zeros(33, np.uint8)[1:].view(np.float64))
