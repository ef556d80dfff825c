"""Forward mode by hand: within `dual_level()` a tensor can be given a tangent, which all ops carry along."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

from flambeau.frontend.active import active
from flambeau.frontend.func.dual import DualLevel
from flambeau.frontend.tensor.tensor import Tensor

_open: list[tuple[DualLevel, ExitStack]] = []


class UnpackedDualTensor(NamedTuple):
    """A tensor without its tangent, and that (None where it has none)."""

    primal: Tensor
    tangent: Tensor | None


def enter_dual_level() -> int:
    """Begin a level; its number. Raises RuntimeError within one: levels of this kind don't nest (fb.func.jvp does)."""
    if _open:
        raise RuntimeError("forward_ad: levels don't nest; use fb.func.jvp for derivatives of derivatives")
    level, stack = DualLevel(), ExitStack()
    stack.enter_context(level.entered())
    _open.append((level, stack))
    return 0


def exit_dual_level(*, level: int | None = None) -> None:
    """End a level: its tangents are forgotten. Raises RuntimeError where none is open."""
    if not _open or level not in (None, 0):
        raise RuntimeError("forward_ad: there is no such level to exit")
    _open.pop()[1].close()


@contextmanager
def dual_level() -> Iterator[int]:
    """A level for the block inside."""
    yield enter_dual_level()
    exit_dual_level()


def make_dual(tensor: Tensor, tangent: Tensor, *, level: int | None = None) -> Tensor:
    """`tensor` with a tangent, of the same type. Raises RuntimeError outside of a level, and where types differ."""
    current = _current()
    if current is None:
        raise RuntimeError("make_dual: there is no level; call it in `with fb.autograd.forward_ad.dual_level():`")
    if not tensor._type.dtype.is_floating_point or not tangent._type.dtype.is_floating_point:
        raise ValueError(f"make_dual: takes floating-point tensors, got {tensor._type} and {tangent._type}")
    if tensor._type != tangent._type:
        raise RuntimeError(f"make_dual: the tangent of a tensor {tensor._type} is {tangent._type}; they must have one type")
    return current.shell(current.held(tensor)[0], current.held(tangent)[0])


def unpack_dual(tensor: Tensor, *, level: int | None = None) -> UnpackedDualTensor:
    """(tensor without its tangent, the tangent or None)"""
    current = _current()
    if current is None or tensor._storage.trace is not current:
        return UnpackedDualTensor(tensor, None)
    primal, tangent = current.held(tensor)
    return UnpackedDualTensor(primal, tangent)


def _current() -> DualLevel | None:
    return _open[-1][0] if _open and active.tracer is _open[-1][0] else None


__all__ = ["UnpackedDualTensor", "dual_level", "enter_dual_level", "exit_dual_level", "make_dual", "unpack_dual"]
