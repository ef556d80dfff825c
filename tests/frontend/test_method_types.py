"""Type checkers see the methods that Tensor really has."""

from __future__ import annotations

from method_types import STUB, text


def test_declared_methods_are_those_attached() -> None:
    assert STUB.read_text(encoding="utf-8") == text(), "run python tests/frontend/method_types.py"
