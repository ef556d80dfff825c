"""Flops and bytes of kernels, by hand."""

from __future__ import annotations

import pytest

import flambeau as fb
import flambeau.nn.functional as F
from flambeau.ir.kernel.work import Work, work_of


def works(function, *arguments):
    """Of each kernel call of a function."""
    compiled = fb.compile(function)
    compiled(*arguments)
    calls = compiled.signatures[0].compiled.memory.calls
    return [work_of(call.kernel, dict(zip(call.kernel.sizes, call.sizes, strict=False))) for call in calls]


def test_elementwise_reads_and_writes_each_element():
    assert works(lambda x: x * 2 + 1, fb.ones(1000)) == [Work(2000, 8000)]


def test_product_counts_multiplications_and_additions():
    assert works(lambda a, b: a @ b, fb.ones(32, 48), fb.ones(48, 16)) == [
        Work(2 * 32 * 48 * 16, 4 * (32 * 48 + 48 * 16 + 32 * 16))]


def test_rows_given_up_are_all_that_is_read_of_a_table():
    (work,) = works(lambda table, i: F.embedding(i, table), fb.ones(1000, 8), fb.arange(3))
    assert work.bytes == 4 * 3 * 8 * 2 + 8 * 3 and work.flops == 0


def test_values_that_do_not_depend_on_a_dim_count_once():
    (work,) = works(lambda x, row: x * fb.exp(row), fb.ones(100, 64), fb.ones(64))
    assert work.flops == 100 * 64 + 64 or work.flops == 2 * 100 * 64


def test_integer_arithmetic_is_none_of_floating_point():
    (work,) = works(lambda x: x * 3 + 1, fb.arange(10))
    assert work == Work(0, 160)


def test_intensity():
    assert Work(100, 50).intensity == 2.0 and Work(0, 0).intensity == 0.0
    assert Work(1, 0).intensity == pytest.approx(float("inf"))
