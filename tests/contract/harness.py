"""Programs that must not be told apart from eager code, and what runs them.

A case is registered by one of

    @same     a generator that is given a decorator (`fb.compile`, or one that does nothing) and yields what can be
              seen. The compiled run yields what the eager one does, or raises a FlambeauError on the way.
    @exact    the same, and a FlambeauError is a failure too: documented to work.
    @intact   a function that gives a `Situation`: a call, and the state that it may change. Compiled, either the call
              has the effect it has eagerly, or it raises and the state is what it was before.
    @check    a plain function with asserts.
    @script   a function that gives a `Script`: a program for a process of its own, which must end by itself, in time,
              with exit status 0.
"""
from __future__ import annotations

import contextlib
import importlib
import math
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import flambeau as fb
from flambeau.errors import FlambeauError, GraphError

ROOT = Path(__file__).resolve().parent.parent.parent
FILES = ("arguments", "attributes", "classes", "closures", "containers", "gradients", "hooks", "inplace", "iteration",
         "modules", "optimizers", "packages", "processes", "randomness", "refusals", "scalars", "swallowed")
GOOD = ("same", "refused", "ok")
TIME_LIMIT_S = 60

Decorator = Callable[..., Any]


@dataclass(frozen=True)
class Case:
    """A registered case; `file` is the module that holds it, without its package."""

    name: str
    kind: str
    function: Callable[..., Any]
    file: str

    def __str__(self) -> str:
        return f"{self.file}::{self.name}"


@dataclass(frozen=True)
class Situation:
    """call: what to compile; arguments: what it is called with; state: reads what the call may change."""

    call: Callable[..., Any]
    arguments: tuple[Any, ...]
    state: Callable[[], Any]


@dataclass(frozen=True)
class Script:
    """source: what `python -c` is given; environment: variables added; options: of the interpreter."""

    source: str
    environment: dict[str, str] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    time_limit_s: int = TIME_LIMIT_S


@dataclass(frozen=True)
class Verdict:
    """word: one of GOOD, or WRONG, BADERROR, FAIL, CRASH, HANG; detail: why."""

    word: str
    detail: str = ""

    @property
    def good(self) -> bool:
        return self.word in GOOD


CASES: dict[str, Case] = {}


def register(kind: str, function: Callable[..., Any], name: str | None = None) -> None:
    """Add a case; `name` for cases that are made in a loop. Raises ValueError for a name that is taken."""
    case = Case(name or function.__name__, kind, function, function.__module__.rpartition(".")[2])
    if CASES.setdefault(str(case), case) is not case:
        raise ValueError(f"two cases are called {case}")


def _registers(kind: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        register(kind, function)
        return function

    return add


same, exact, intact, check, script = map(_registers, ("same", "exact", "intact", "check", "script"))


def load(files: tuple[str, ...] = FILES) -> dict[str, Case]:
    """All cases of these files, by `file::name`."""
    for name in files:
        importlib.import_module(f"tests.contract.{name}")
    return CASES


# -- what is seen -----------------------------------------------------------------------------------------------------


def seen(value: Any) -> Any:
    """A comparable picture: dtype, shape, values and gradient of tensors, types of numbers, containers all through."""
    if isinstance(value, fb.Tensor):
        grad = None if value.grad is None else value.grad.detach().tolist()
        return ("tensor", str(value.dtype), tuple(value.shape), value.requires_grad, value.detach().tolist(), grad)
    if isinstance(value, (tuple, list)):
        return [type(value).__name__, [seen(v) for v in value]]
    if isinstance(value, dict):
        return {str(key): seen(v) for key, v in value.items()}
    return (type(value).__name__, value if type(value) in (int, float, complex, bool, str) else repr(value))


def is_same(a: Any, b: Any, rtol: float = 1e-5) -> bool:
    """Equal pictures: numbers to rounding, NaN is NaN, zeros keep their sign."""
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(is_same(x, y, rtol) for x, y in zip(a, b, strict=True))
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(is_same(a[key], b[key], rtol) for key in a)
    if isinstance(a, float) and isinstance(b, float):
        if a == b == 0:
            return math.copysign(1, a) == math.copysign(1, b)
        return math.isclose(a, b, rel_tol=rtol, abs_tol=1e-7) or (a != a and b != b)
    return type(a) is type(b) and a == b


def eager(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """What `fb.compile` is replaced by: gives the function as it is, in both spellings of a decorator."""
    return function if function is not None else lambda f: f


def observed(case: Callable[[Decorator], Iterator[Any]], decorator: Decorator) -> tuple[list[Any], Exception | None]:
    """(pictures of all that the case yields, the error that ended it)."""
    fb.manual_seed(0)
    found: list[Any] = []
    try:
        for value in case(decorator):
            found.append(seen(value))
    except Exception as error:
        return found, error
    return found, None


# -- running ----------------------------------------------------------------------------------------------------------


def run(case: Case) -> Verdict:
    """Run one case: scripts in a process of their own, the others here, with the settings they change put back."""
    if case.kind == "script":
        return _run_script(case.function())
    dtype = fb.get_default_dtype()
    try:
        with fb.config.set(num_threads=fb.config.num_threads), _time_limit(TIME_LIMIT_S):
            return {"same": _run_same, "exact": _run_same, "intact": _run_intact, "check": _run_check}[case.kind](case)
    except TimeoutError:
        return Verdict("HANG", f"not done after {TIME_LIMIT_S} s")
    except RecursionError as error:
        return Verdict("BADERROR", repr(error))
    finally:
        fb.set_default_dtype(dtype)
        fb.set_grad_enabled(True)


def _run_same(case: Case) -> Verdict:
    expected, eager_error = observed(case.function, eager)
    found, error = observed(case.function, fb.compile)
    for n, (compiled, right) in enumerate(zip(found, expected, strict=False)):
        if not is_same(compiled, right):
            return Verdict("WRONG", f"yield {n}: compiled {compiled}\n         eager    {right}")
    if error is None:
        if eager_error is not None:
            return Verdict("WRONG", f"eager raises {_told(eager_error)}; compiled does not")
        return Verdict("same") if len(found) == len(expected) else Verdict("WRONG", "another number of yields")
    if isinstance(error, TimeoutError):
        raise error
    if eager_error is not None and len(found) == len(expected):
        return Verdict("same", f"both raise: {_told(eager_error)} / {_told(error)}")
    if not isinstance(error, FlambeauError) or isinstance(error, GraphError):    # the verifier's is a fault of ours
        return Verdict("BADERROR", _told(error) + _end_of(error))
    return Verdict("refused" if case.kind == "same" else "FAIL", "refused: " + _told(error))


def _run_intact(case: Case) -> Verdict:
    fb.manual_seed(0)
    right: Situation = case.function()
    with contextlib.suppress(Exception):
        right.call(*right.arguments)
    expected = seen(right.state())

    fb.manual_seed(0)
    tried: Situation = case.function()
    before = seen(tried.state())
    error: Exception | None = None
    try:
        fb.compile(tried.call)(*tried.arguments)
    except TimeoutError:
        raise
    except Exception as caught:
        error = caught
    try:
        after = seen(tried.state())
    except FlambeauError as leaked:
        return Verdict("WRONG", f"a traced value is left behind: {_told(leaked)}\n  the call: {_told(error)}")
    wanted = expected if error is None else before
    if not is_same(after, wanted):
        return Verdict("WRONG", f"left    {after}\n  wanted  {wanted}\n  the call: {_told(error)}")
    if error is None:
        return Verdict("same")
    fb.manual_seed(0)
    with contextlib.suppress(Exception):
        tried.call(*tried.arguments)
    again = seen(tried.state())
    if not is_same(again, expected):
        return Verdict("WRONG", f"run eagerly afterwards: {again}\n  wanted  {expected}\n  the call: {_told(error)}")
    return Verdict("refused", _told(error))


def _run_check(case: Case) -> Verdict:
    try:
        case.function()
    except TimeoutError:
        raise
    except Exception as error:
        return Verdict("FAIL", _told(error) + _end_of(error))
    return Verdict("ok")


def _run_script(given: Script) -> Verdict:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **given.environment}
    try:
        with tempfile.TemporaryDirectory() as folder:           # odd environments make files where the process runs
            done = subprocess.run([sys.executable, *given.options, "-c", given.source], capture_output=True, text=True,
                                  errors="replace", timeout=given.time_limit_s, env=environment, cwd=folder)
    except subprocess.TimeoutExpired:
        return Verdict("HANG", f"not done after {given.time_limit_s} s")
    if done.returncode == 0:
        return Verdict("ok")
    return Verdict("CRASH" if done.returncode < 0 else "FAIL",
                   f"exit status {done.returncode}\n{done.stdout[-600:]}{done.stderr[-900:]}")


def _told(error: Exception | None) -> str:
    return "no error" if error is None else f"{type(error).__name__}: {error}"[:600]


def _end_of(error: Exception) -> str:
    return "\n" + "".join(traceback.format_tb(error.__traceback__)[-2:])


@contextlib.contextmanager
def _time_limit(seconds: int) -> Iterator[None]:
    """Raises TimeoutError in the body when it takes too long. Only where there are alarms, in the main thread."""
    if not hasattr(signal, "SIGALRM"):
        yield
        return

    def ring(number: int, frame: Any) -> None:
        raise TimeoutError

    previous = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)


def leaf(*values: float) -> fb.Tensor:
    """A vector that requires grad."""
    return fb.tensor(list(values), requires_grad=True)
