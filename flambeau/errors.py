"""Every error a user can meet. An error says what was asked, what was found, where, and what to do.

A message prints as

    contracting dims differ: lhs f32[8,4] dim 1 is 4, rhs f32[5,2] dim 0 is 5
      traced at train.py:31: logits = h @ w_out          hint: did you mean w_out.T?

Classes inherit the builtin that PyTorch users already catch for the same mistake.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from typing import ClassVar

__all__ = [
    "AcceleratorError",
    "AnomalyError",
    "CaptureError",
    "FlambeauDeprecationWarning",
    "FlambeauError",
    "FlambeauFutureWarning",
    "FlambeauRuntimeWarning",
    "FlambeauWarning",
    "GraphError",
    "IndexOutOfRangeError",
    "KernelError",
    "LinAlgError",
    "OutOfMemoryError",
    "ParseError",
    "ShapeError",
    "TraceError",
    "TypeInferenceError",
    "UnsupportedError",
    "VerificationError",
]


class FlambeauError(Exception):
    """Base of them all.

    message: what was asked and what was found; where: the user's `file:line: code`; hint: a way out.
    """

    def __init__(self, message: str, *, where: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        parts = []
        if self.where:
            parts.append(f"traced at {self.where}")
        if self.hint:
            parts.append(f"hint: {self.hint}")
        return "\n  ".join([self.message, "          ".join(parts)]) if parts else self.message

    def __reduce__(self) -> tuple[object, ...]:
        # BaseException pickles args only, and would lose the keyword parts across worker processes.
        return (type(self), (self.message,), self.__dict__)


class TypeInferenceError(FlambeauError, RuntimeError, TypeError):
    """An op was given operands whose types (shape, dtype, device) it does not accept."""


class ShapeError(FlambeauError, RuntimeError, ValueError):
    """Shapes that do not fit: a bad reshape, a failed broadcast, sizes that disagree."""


class IndexOutOfRangeError(FlambeauError, IndexError, RuntimeError):
    """A dim or an index outside its range, found before any kernel runs."""


class _Listening(threading.local):
    """Who is told of refusals in this thread: the trace that runs, which a refusal ends even if user code catches it."""

    tell: Callable[[FlambeauError], object] | None = None


listening = _Listening()


class _Refusal(FlambeauError):
    """A valid program that can't be compiled, or not be done at all."""

    def __init__(self, message: str, *, where: str | None = None, hint: str | None = None) -> None:
        super().__init__(message, where=where, hint=hint)
        if listening.tell is not None:
            listening.tell(self)


class TraceError(_Refusal, RuntimeError, TypeError):
    """Python asked a traced tensor for something only a real value has (a bool, an int, an array)."""


class CaptureError(_Refusal, RuntimeError):
    """A compiled function has an effect on Python state that the compiler cannot reproduce on later calls."""


class GraphError(FlambeauError, ValueError):
    """IR that breaks a rule of the IR; found by the verifier."""


class ParseError(FlambeauError, ValueError):
    """IR text, or the bytes of a program or an artifact, that do not parse."""


class AcceleratorError(FlambeauError, RuntimeError):
    """A GPU's driver refused, or work on the GPU went wrong."""


class OutOfMemoryError(AcceleratorError):
    """A GPU has not so much memory left."""


class KernelError(FlambeauError, IndexError, ArithmeticError, RuntimeError):
    """A kernel found bad data while it ran (an index out of range, an integer division by zero).

    status: the kernel's nonzero return value; details: the two integers it left beside it.
    """

    def __init__(
        self,
        message: str,
        *,
        where: str | None = None,
        hint: str | None = None,
        status: int = 0,
        details: tuple[int, int] = (0, 0),
    ) -> None:
        super().__init__(message, where=where, hint=hint)
        self.status = status
        self.details = details


class LinAlgError(KernelError):
    """A matrix that is singular or not positive-definite, or whose eigenvalues or singular values are not found. details:
    which one of the batch, and the order of its leading minor that is not positive-definite."""

    STATUSES: ClassVar = frozenset({3, 4, 5, 6, 7, 8})


_WITHIN = re.compile(r"index \{0\} is out of range for size (\d+)")


def out_of_range(size: object) -> str:
    """What a kernel says that found an index, "{0}", outside [0, size)."""
    return f"index {{0}} is out of range for size {size}"


def stands(message: str, details: Sequence[int]) -> bool:
    """Whether the message of a kernel may be about these details: not if it calls an index out of range that is not."""
    size = _WITHIN.search(message)
    return not (size and details and 0 <= details[0] < int(size[1]))


def kernel_error(message: str, status: int, details: tuple[int, int]) -> KernelError:
    """The error for a kernel that ended with this status."""
    kind = LinAlgError if status in LinAlgError.STATUSES else KernelError
    return kind(message, status=status, details=details)


class AnomalyError(FlambeauError, RuntimeError):
    """A compiled function gave NaN or an infinity while anomaly mode was on (`fb.autograd.detect_anomaly()`).

    op, kernel, module: where it began, by name ("" for what there is none of); result, operands: what that op gave and
    was given, each with its `low` and `high` and how many NaN (`n_nan`) and infinities (`n_inf`) it holds."""

    def __init__(
        self,
        message: str,
        *,
        where: str | None = None,
        hint: str | None = None,
        op: str = "",
        kernel: str = "",
        module: str = "",
        result: object = None,
        operands: tuple[object, ...] = (),
    ) -> None:
        super().__init__(message, where=where, hint=hint)
        self.op, self.kernel, self.module, self.result, self.operands = op, kernel, module, result, operands


class UnsupportedError(_Refusal, NotImplementedError):
    """A thing that is valid but that this version, device or platform cannot do."""


class VerificationError(FlambeauError, AssertionError):
    """The compiler made a mistake, and noticed: a kernel that does not store its results, or numbers that are not
    what the program means (`fb.compile(verify=True)`).

    blame: which part is wrong ("pass 9, fuse", "lowering", "code generation", "memory plan"; "" where that is not known);
    repro: a small program that shows it (`flambeau.repro.Repro`), which the message ends with, or None."""

    def __init__(self, message: str, *, where: str | None = None, hint: str | None = None, blame: str = "") -> None:
        super().__init__(message, where=where, hint=hint)
        self.blame = blame
        self.repro: object = None

    def __str__(self) -> str:
        told = super().__str__()
        return told if self.repro is None else f"{told}\n\nThe smallest program that was found to show it:\n\n{self.repro}"


class FlambeauWarning(UserWarning):
    """Base of all warnings of ours; `flambeau.warned` lists them by their ids."""


class FlambeauFutureWarning(FlambeauWarning, FutureWarning):
    """Of what goes by another name now."""


class FlambeauDeprecationWarning(FlambeauWarning, DeprecationWarning):
    """The same, where Python shows it to developers alone."""


class FlambeauRuntimeWarning(FlambeauWarning, RuntimeWarning):
    """Of what was found when a program started."""


def meant(name: str, known: Iterable[str], near: float = 0.6) -> str | None:
    """The known name that is most like `name`, if one is, from 0 for anything to 1 for itself, at least `near`."""
    found = import_module("difflib").get_close_matches(name, list(known), 1, near)    # not at hand before a mistake is made
    return found[0] if found else None
