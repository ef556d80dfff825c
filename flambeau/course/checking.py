"""A learner's file held against the checks of its exercise, which say what is wrong and how to go on."""
from __future__ import annotations

import importlib
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from flambeau.course.exercises import EXERCISES, SOLUTIONS, Exercise
from flambeau.course.library import ember, run_file

SECONDS = 10                        # a check takes milliseconds; what runs longer runs for ever
Check = Callable[[Any], None]       # of the learner's module
CHECKS: dict[str, list[tuple[str, Check]]] = {}


class Wrong(Exception):
    """What the learner's code did, and should have done; and a hint that leads on."""

    def __init__(self, said: str, hint: str = "") -> None:
        super().__init__(said)
        self.said, self.hint = said, hint


class TooLong(BaseException):
    """No Exception: a learner's `except Exception` must not hold it back."""


@dataclass(frozen=True)
class Finding:
    claim: str
    said: str = ""                  # what is wrong, if anything
    hint: str = ""

    @property
    def is_right(self) -> bool:
        return not self.said


def check(number: str, claim: str) -> Callable[[Check], Check]:
    """Declare a check of exercise `number`: a function that is given the learner's module and raises Wrong."""
    def declare(run: Check) -> Check:
        CHECKS.setdefault(number, []).append((claim, run))
        return run
    return declare


def of_ember(name: str) -> Any:
    """Another module of the learner's library."""
    return importlib.import_module(f"ember.{name}")


# -- what checks say it with ------------------------------------------------------------------------------------------


def expect(what: str, found: object, wanted: object, hint: str = "", tolerance: float = 1e-9) -> None:
    """Raise Wrong unless `found` is `wanted`: numbers and arrays up to the tolerance, the rest exactly."""
    if not same(found, wanted, tolerance):
        raise Wrong(f"{what} is {short(found)}, not {short(wanted)}", hint)


def returns(function: Callable[..., object], *arguments: object, wanted: object, hint: str = "",
            tolerance: float = 1e-9) -> None:
    """`expect` for one call, which the message shows."""
    name = getattr(function, "__name__", str(function))
    called = f"{name}({', '.join(map(short, arguments))})"
    expect(called, function(*arguments), wanted, hint, tolerance)


def refuses(function: Callable[..., object], *arguments: object, error: type[Exception], naming: str = "",
            hint: str = "") -> None:
    """Raise Wrong unless the call raises that error, with `naming` in its message."""
    called = f"{getattr(function, '__name__', function)}({', '.join(map(short, arguments))})"
    try:
        found = function(*arguments)
    except error as raised:
        if naming.lower() not in str(raised).lower():
            raise Wrong(f"{called} raises {type(raised).__name__} with the words {str(raised)!r}, which do not name "
                        f"{naming!r}", hint) from None
        return
    raise Wrong(f"{called} gives {short(found)}; it should raise {error.__name__}", hint)


def same(found: object, wanted: object, tolerance: float) -> bool:
    match wanted:
        case bool() | str() | None:
            return found is wanted or (type(found) in (type(wanted), np.bool_) and found == wanted)
        case int() | float() | np.ndarray() | np.generic():
            try:
                a, b = np.asarray(found), np.asarray(wanted)
                return a.shape == b.shape and bool(np.allclose(a, b, rtol=tolerance, atol=tolerance, equal_nan=True))
            except (TypeError, ValueError):
                return False
        case list() | tuple():
            return type(found) is type(wanted) and len(found) == len(wanted) and all(
                same(a, b, tolerance) for a, b in zip(found, wanted, strict=True))
        case dict():
            return isinstance(found, dict) and found.keys() == wanted.keys() and all(
                same(found[key], wanted[key], tolerance) for key in wanted)
    return bool(found == wanted)


def short(value: object, most: int = 90) -> str:
    if isinstance(value, np.ndarray):
        value = value.tolist()
    text = getattr(value, "__name__", None) if callable(value) else None
    text = text or repr(value)
    return text if len(text) <= most else text[: most - 4] + " ..."


# -- running them -----------------------------------------------------------------------------------------------------


def check_and_tell(exercise: Exercise, folder: Path, alone: bool = False) -> int:
    """Print what of the exercise is right and what is not. The exit code: 0 all is, 1 something is not."""
    path = folder / exercise.file
    if not path.exists():
        raise FileNotFoundError(f"there is no {path}; python -m flambeau course start {exercise.number} writes it")
    findings = findings_of(exercise, path, () if alone else (folder / "ember",))
    print(f"{exercise.number} {exercise.title} ({path})")
    for finding in findings:
        print(f"  {'ok   ' if finding.is_right else 'WRONG'} {finding.claim}")
        if finding.said:
            print("        " + finding.said.replace("\n", "\n        "))
        if finding.hint:
            print("        hint: " + finding.hint)
    right = sum(f.is_right for f in findings)
    print(f"  {right} of {len(findings)} right" + ("" if right < len(findings) else followed_by(exercise)))
    return 0 if right == len(findings) else 1


def followed_by(exercise: Exercise) -> str:
    place = EXERCISES.index(exercise) + 1
    if place == len(EXERCISES):
        return "; that was the last"
    return f"; next: {EXERCISES[place].number} {EXERCISES[place].title}"


def findings_of(exercise: Exercise, path: Path, folders: tuple[Path, ...] = ()) -> list[Finding]:
    """Run all checks of the exercise on the file at `path`; other modules of ember come from `folders` or the solutions."""
    return list(each_finding(exercise, path, folders))


def each_finding(exercise: Exercise, path: Path, folders: tuple[Path, ...] = ()) -> Iterator[Finding]:
    importlib.import_module(f"flambeau.course.checks.chapter_{exercise.chapter}")
    with ember(folders):
        try:
            with limited(SECONDS):
                module = run_file(exercise, path)
        except (Exception, TooLong) as error:
            yield told("the file runs", error, path)
            return
        for claim, run in CHECKS[exercise.number]:
            yield finding(claim, run, module, path)


def finding(claim: str, run: Check, module: ModuleType, path: Path) -> Finding:
    try:
        with limited(SECONDS), np.errstate(all="ignore"):
            run(module)
    except (Exception, TooLong) as error:
        return told(claim, error, path)
    return Finding(claim)


HINTS: dict[type[BaseException], str] = {
    RecursionError: "Python's stack is about a thousand calls deep and programs are longer: walk with a list of your own",
    TooLong: "is there a loop whose end does not come? Print what changes from one round to the next",
    ZeroDivisionError: "what should happen where the divisor is 0?",
}


def told(claim: str, error: BaseException, path: Path) -> Finding:
    """What a learner is told of an error: what they asked for, and the last line of theirs that led to it."""
    if isinstance(error, Wrong):
        return Finding(claim, error.said, error.hint)
    if isinstance(error, SyntaxError):
        return Finding(claim, f"line {error.lineno}: Python does not read it: {error.msg}", "mend that first")
    frames = [f for f in traceback.extract_tb(error.__traceback__) if is_theirs(Path(f.filename))]
    where, whose = "", ""
    if frames:
        last = frames[-1]
        where = f"{Path(last.filename).name}:{last.lineno}, in {last.name}: "
        if Path(last.filename).resolve() != path.resolve():
            other = next((e for e in EXERCISES if e.module == Path(last.filename).stem), None)
            whose = f"that file is exercise {other.number}: check it first, or check this one with --alone" if other else ""
    match error:
        case NotImplementedError():
            said = f"{where}not written yet"
        case TooLong():
            said = f"{where}still running after {SECONDS} s"
        case _:
            said = f"{where}{type(error).__name__}: {error}"
    return Finding(claim, said, whose or HINTS.get(type(error), ""))


def is_theirs(path: Path) -> bool:
    """Whether it is a file of the learner's. A solution that raises was called with something that it refuses."""
    return "ember" in path.parts and not path.is_relative_to(SOLUTIONS)


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise TooLong after that time, where there are signals for it."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGALRM"):
        yield
        return

    def stop(_number: int, _frame: object) -> None:
        raise TooLong

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds, seconds / 10)    # again: Python swallows what strikes in a finalizer
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
