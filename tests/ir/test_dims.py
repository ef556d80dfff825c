"""Symbolic sizes: polynomials that cancel to ints, compare by structure, and print so that they parse."""
from __future__ import annotations

import pytest

from flambeau.ir.dims import Dim
from flambeau.ir.size_text import parse_size

B, T = Dim("B"), Dim("T")


def test_arithmetic_that_cancels_gives_an_int() -> None:
    found = (B + 3) - B
    assert found == 3 and type(found) is int
    assert B * 0 == 0 and type(B * 0) is int
    assert 2 * B - B - B == 0


def test_equal_polynomials_are_equal_however_they_were_written() -> None:
    assert (B + 1) * (B - 1) == B * B - 1
    assert B + T == T + B and B * T == T * B
    assert hash((B + 1) * 2) == hash(2 * B + 2)


def test_a_dim_is_not_its_name_nor_a_number() -> None:
    assert B != "B" and B != 1 and B + 1 != B


def test_subtraction_from_an_int() -> None:
    assert 5 - B == -B + 5
    assert (5 - B).evaluate({"B": 2}) == 3  # type: ignore[union-attr]


@pytest.mark.parametrize("size", [0, 7, 2**63 - 1, B, -B, B + 1, 2 * B * T + B - 4, B * B * B, 3 - T, Dim("_x1") * 10])
def test_text_comes_back(size: object) -> None:
    assert parse_size(str(size)) == size


def test_evaluation_follows_the_arithmetic() -> None:
    sizes = {"B": 5, "T": 3}
    assert ((2 * B + T) * (T - 1) - 7).evaluate(sizes) == (2 * 5 + 3) * (3 - 1) - 7  # type: ignore[union-attr]


def test_an_unbound_name_is_a_key_error() -> None:
    with pytest.raises(KeyError, match="T"):
        (B * T).evaluate({"B": 1})  # type: ignore[union-attr]


@pytest.mark.parametrize("text", ["", "2B", "B-1", "B**2", "a b", "1.5", "+", "B+"])
def test_what_is_no_size_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match="identifier|invalid literal"):
        parse_size(text)


@pytest.mark.parametrize("text", ["-2", "9223372036854775808", "2*B + -2*B + -1"])
def test_sizes_lie_between_0_and_2_to_the_63(text: str) -> None:
    with pytest.raises(ValueError, match="is no size: sizes lie between 0 and 2"):
        parse_size(text)


def test_a_name_must_be_an_identifier() -> None:
    with pytest.raises(ValueError, match="'2B' is not an identifier"):
        Dim("2B")
