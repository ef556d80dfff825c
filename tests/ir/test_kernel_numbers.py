"""Runtime numbers of kernels: a kernel with names for some of its numbers means what it means with them bound."""
from __future__ import annotations

import math

import numpy as np
import pytest

from flambeau.errors import GraphError
from flambeau.ir.dtypes import DTYPES, bf16, f16, f32, f64, i8, i64, u64
from flambeau.ir.kernel.interpreter import interpret
from flambeau.ir.kernel.numbers import bound, const_of, word_of
from flambeau.ir.kernel.text import parse_kernel, print_kernel
from flambeau.ir.kernel.verifier import verify_kernel

SCALED = """\
loop @scaled {
  in x: f32[12] from r0
  out y: f32[n]
  parallel %i0 = n
  stage () {
    %0 = load x[%i0 + 1] : f32
    %1 = const "r1" : f32
    %2 = mul %0, %1 : f32
    store %2 to y[%i0]
  }
}
"""


def test_the_text_names_runtime_numbers():
    kernel = parse_kernel(SCALED)
    assert kernel.sizes == ("n", "r0", "r1")
    assert print_kernel(kernel) == SCALED


def test_a_kernel_means_what_it_means_with_its_numbers_bound():
    kernel, numbers = parse_kernel(SCALED), {"n": 4, "r0": 5, "r1": word_of(3.0, f32)}
    x, y = np.arange(12, dtype=np.float32), np.zeros(4, np.float32)
    interpret(kernel, [x, y], numbers)
    np.testing.assert_array_equal(y, 3 * x[6:10])
    known = bound(kernel, numbers)
    assert known.sizes == ()
    assert [address.offset for address in known.addresses()] == [6, 0]
    verify_kernel(known)


def test_what_may_be_any_number_is_not_proved():
    with pytest.raises(GraphError, match="r0, r1 may be any number"):
        verify_kernel(parse_kernel(SCALED))


@pytest.mark.parametrize("numbers", [{"n": 4, "r0": 8, "r1": 0}, {"n": 4, "r0": -2, "r1": 0}])
def test_numbers_that_leave_a_param_are_found_once_bound(numbers):
    with pytest.raises(GraphError, match="reaches element"):
        verify_kernel(bound(parse_kernel(SCALED), numbers))


@pytest.mark.parametrize(("dtype", "value"), [
    (f64, 0.1), (f64, -1e300), (f32, 1.01), (f32, -3.5), (f16, 0.1), (bf16, 0.1), (f32, math.inf), (i8, -7),
    (i64, -(1 << 63)), (u64, (1 << 64) - 1), (DTYPES["u32"], (1 << 32) - 1), (DTYPES["u8"], 255)])
def test_a_word_brings_a_const_as_its_dtype_holds_it(dtype, value):
    word = word_of(value, dtype)
    assert -(1 << 63) <= word < 1 << 63
    again = const_of(word, dtype)
    assert word_of(again, dtype) == word
    assert again == value or (dtype.kind == "float" and math.isclose(again, value, rel_tol=2.0**-7))


def test_a_word_of_a_short_float_is_the_bits_it_is_computed_in():
    assert word_of(1.5, bf16) == word_of(1.5, f16) == word_of(1.5, f32) == 0x3FC00000
    assert word_of(0.1, bf16) == 0x3DCD0000
