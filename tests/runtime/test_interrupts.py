"""An interrupt that strikes in a finalizer or a callback is raised all the same, a moment later."""
from __future__ import annotations

import ctypes
import gc
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator

import pytest

import flambeau as fb
from flambeau.__main__ import main
from flambeau.demo import digits_cnn
from flambeau.runtime.interrupts import not_swallowed

PATIENCE_S = 60.0


@pytest.fixture(autouse=True)
def _default_handler() -> Iterator[None]:
    """Whatever started pytest may have had it ignore SIGINT."""
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, former)


def strike() -> None:
    """As Ctrl-C does: Python runs the handler before this returns, in whatever called it."""
    signal.raise_signal(signal.SIGINT)


class Finalized:
    def __del__(self) -> None:
        strike()


def in_a_finalizer() -> None:
    Finalized()


def in_a_callback_of_the_collector() -> None:
    def callback(phase: str, _: dict[str, int]) -> None:
        if phase == "start":
            strike()

    gc.callbacks.append(callback)
    try:
        gc.collect()
    finally:
        gc.callbacks.remove(callback)


def in_a_callback_of_a_weakref() -> None:
    class Gone:
        pass

    gone = Gone()
    watched = weakref.ref(gone, lambda _: strike())
    del gone
    assert watched() is None


def in_a_callback_of_ctypes() -> None:
    ctypes.CFUNCTYPE(None)(strike)()


WHERE = [in_a_finalizer, in_a_callback_of_the_collector, in_a_callback_of_a_weakref, in_a_callback_of_ctypes]


def wait_for_it() -> None:
    """The steps of a long loop. Falls through where no interrupt comes."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        time.sleep(0.001)


@pytest.mark.parametrize("swallowed", WHERE)
def test_swallowed_interrupt_is_raised(swallowed: Callable[[], None], capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt), not_swallowed():
        swallowed()
        wait_for_it()
    assert capfd.readouterr().err == ""


def test_interrupt_that_is_swallowed_again_and_again_is_raised_in_the_end() -> None:
    """Three finalizers, each of which outlasts a moment: the interrupt that is sent again strikes in the next one."""
    ran = []

    class Slow:
        def __del__(self) -> None:
            ran.append(1)
            if len(ran) == 1:
                strike()
            wait_for_it()

    with pytest.raises(KeyboardInterrupt), not_swallowed():
        for _ in range(3):
            Slow()
        wait_for_it()
    assert len(ran) == 3


def test_interrupt_ends_a_wait_of_the_operating_system() -> None:
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt), not_swallowed():
        in_a_finalizer()
        time.sleep(PATIENCE_S)
    assert time.monotonic() - started < PATIENCE_S


def test_other_errors_are_told_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def __del__(self) -> None:
            raise ValueError("of a finalizer")

    told = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: told.append(str(unraisable.exc_value)))
    with not_swallowed():
        Broken()
    assert told == ["of a finalizer"]


def test_hook_is_as_before_unless_the_block_has_set_it(monkeypatch: pytest.MonkeyPatch) -> None:
    former = sys.unraisablehook
    with not_swallowed(), not_swallowed():
        assert sys.unraisablehook is not former
    assert sys.unraisablehook is former
    told = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)
    with not_swallowed():
        own = sys.unraisablehook
        sys.unraisablehook = print
    assert sys.unraisablehook is print
    sys.unraisablehook = own                    # as who put its own in its place may do later
    in_a_finalizer()
    time.sleep(0.1)
    assert [one.exc_type for one in told] == [KeyboardInterrupt]


def test_other_threads_change_nothing() -> None:
    former, seen = sys.unraisablehook, []

    def enter() -> None:
        with not_swallowed():
            seen.append(sys.unraisablehook)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert seen == [former]


def test_interrupt_swallowed_between_steps_ends_the_demo(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    dealt = digits_cnn.batches

    def interrupted(*arguments: object) -> Iterator[digits_cnn.Batch]:
        in_a_finalizer()
        yield from dealt(*arguments)           # type: ignore[arg-type]

    monkeypatch.setattr(digits_cnn, "batches", interrupted)
    with fb.config.set(disable_jit=True):       # what runs between two steps is the same
        assert main(["demo", "--epochs", "10000"]) == 130
    told = capfd.readouterr().err
    assert "interrupted" in told and "Traceback" not in told and "ignored" not in told




def test_interrupt_swallowed_while_a_function_is_compiled_is_raised() -> None:
    strikes = [in_a_finalizer]

    @fb.compile
    def f(x: fb.Tensor) -> fb.Tensor:
        for one in strikes:
            one()
        return x + 1

    with pytest.raises(KeyboardInterrupt):
        f(fb.ones(3))
        wait_for_it()
    strikes.clear()
    assert f(fb.ones(3)).tolist() == [2.0, 2.0, 2.0]
