"""Anomaly mode: the tape remembers the lines it was made at, and eager backward walks look at every gradient. What it does
in compiled functions is in `call/anomalies.py`."""
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any

import numpy as np

from flambeau.errors import UnsupportedError
from flambeau.frontend.active import active
from flambeau.frontend.epoch import epoch
from flambeau.frontend.tape.autograd import Record, anomaly
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.frontend.where import describe, user_location
from flambeau.ir import dtypes as dt


class set_detect_anomaly:
    """Turn anomaly mode on or off, at once or for a `with` block, in all threads. An eager backward that gives a NaN raises
    RuntimeError with the line of the forward op it belongs to. A compiled function that gives or writes NaN or an infinity
    raises AnomalyError, a RuntimeError, which names the op where it began, and leaves everything as it was before the call.
    Within a compiled function the mode holds, at every call, for the ops between on and off.
    check_nan=False: lines are remembered only. Raises UnsupportedError in a function of `cond` or `while_loop` and in a
    backward."""

    def __init__(self, mode: bool, check_nan: bool = True):
        self.saved, self.trace = anomaly.state, _trace()
        if self.trace is not None:
            self.said = self.trace.said
            _say(self.trace, bool(mode) and bool(check_nan))
        _set(bool(mode), bool(check_nan))

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        _set(*self.saved)
        if self.trace is not None:
            self.trace.say(self.said)


def _trace() -> Any:
    """What traces a compiled function, if one is being traced."""
    tracer: Any = active.tracer
    while tracer is not None and tracer.is_level:
        tracer = tracer.around
    return tracer


def _say(trace: Any, checks: bool) -> None:
    what = "a function of cond or while_loop" if trace.around is not None else \
        "a gradient hook or a Function's backward" if trace.is_in_backward else ""
    if what:
        raise UnsupportedError(f"anomaly mode changes in {what} that is compiled", where=describe(user_location()),
                               hint="put the `with` block around the call of cond, while_loop or backward()")
    trace.say(checks)


def _set(is_on: bool, checks: bool) -> None:
    anomaly.is_on, anomaly.checks = is_on, checks
    epoch.bump()                            # compiled functions look whether they are to watch


class detect_anomaly:
    """Anomaly mode for a `with` block."""

    def __init__(self, check_nan: bool = True):
        self.check_nan = check_nan

    def __enter__(self) -> None:
        self._mode = set_detect_anomaly(True, self.check_nan)

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self._mode.__exit__(kind, value, tb)


def is_anomaly_enabled() -> bool:
    return _asked()[0]


def is_anomaly_check_nan_enabled() -> bool:
    return _asked()[1]


def _asked() -> tuple[bool, bool]:
    """The mode, by which a function that is traced may choose."""
    trace = _trace()
    if trace is not None and trace.said is None:
        trace.asked_anomaly = anomaly.state
    return anomaly.state


class Watched:
    """A record whose derivative is looked at."""

    def __init__(self, record: Record):
        self.record, self.op = record, self

    @property
    def name(self) -> str:
        return self.record.name

    def vjp(self, b: Any, operands: Sequence[Any], results: Sequence[Any], cotangents: Sequence[Any]) -> Sequence[Any]:
        """The record's, if it holds no NaN. Raises RuntimeError that names the op and its line otherwise."""
        found = self.record.op.vjp(b, operands, results, cotangents)
        for n, gradient in enumerate(found):
            if isinstance(gradient, Tensor) and gradient.dtype.is_floating_point and _has_nan(gradient):
                where = describe(self.record.loc)
                raise RuntimeError(f"the derivative of {self.name} gave NaN in the gradient of its operand {n}"
                                   + (f"\n  recorded at {where}" if where else ""))
        return found


def _has_nan(t: Tensor) -> bool:
    tracer = active.tracer
    if tracer is not None and tracer.hides_values:
        return False
    return bool(np.isnan(dt.to_compute(t._data(), t.dtype)).any())


def watched(operations: Iterable[Any]) -> Iterator[Any]:
    """A backward walk with its records watched."""
    return (Watched(operation) if isinstance(operation, Record) else operation for operation in operations)


def of_watched(parts_of: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """`parts_of` that takes watched records too."""
    return lambda operation: parts_of(operation.record if isinstance(operation, Watched) else operation)


__all__ = ["detect_anomaly", "is_anomaly_check_nan_enabled", "is_anomaly_enabled", "of_watched", "set_detect_anomaly",
           "watched"]
