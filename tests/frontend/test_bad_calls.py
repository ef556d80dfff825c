"""Whatever is passed to whatever function: it works, or one sentence says what is wrong. Never an internal error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import bad_calls
import numpy as np
import pytest

import flambeau as fb
import flambeau.nn.functional as F
from flambeau.frontend.tensor.tensor import printed


@pytest.fixture(autouse=True)
def undone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Tensors print as they did after calls that change it, and files that calls write are nowhere to be seen."""
    monkeypatch.chdir(tmp_path)
    kept = dict(printed)
    yield
    printed.clear()
    printed.update(kept)



def _told(found: Iterator[tuple[str, list[object], dict[str, object], str]]) -> str:
    return "\n".join(f"{name}(*{args}, **{kwargs}): {what}" for name, args, kwargs, what in found)


def test_random_calls_are_refused_in_words(seeds: Iterator[int]) -> None:
    for seed in seeds:
        found = list(bad_calls.faults(seed, 50))
        assert not found, f"--seeds {seed}:{seed + 1}\n" + _told(iter(found))


def test_random_calls_inside_compiled_functions_are_refused_in_words(seeds: Iterator[int]) -> None:
    for seed in seeds:
        found = list(bad_calls.faults(seed, 5, compiled=True))
        assert not found, f"--seeds {seed}:{seed + 1}\n" + _told(iter(found))


x = fb.ones(2, 3)


@pytest.mark.parametrize(("call", "message"), [
    (lambda: fb.topk(x, "a"), "topk: argument 'k' must be an int, got 'a'"),
    (lambda: x.narrow(0, (1, 1), 1), "narrow: argument 'start' must be an int, got a tuple of int"),
    (lambda: fb.cat(0.5), "cat: argument 'tensors' must be a list or tuple, each a Tensor, got 0.5"),
    (lambda: fb.stack([x, 1]), "stack: argument 'tensors' must be .*, each a Tensor, got a list of Tensor, int"),
    (lambda: F.softmin(1, 0), "softmin: argument 'input' must be a Tensor, got int"),
    (lambda: fb.isclose(x, x, atol="a"), "isclose: argument 'atol' must be a number, got 'a'"),
    (lambda: fb.nn.Linear("a", 3), "Linear: argument 'in_features' must be an int, got 'a'"),
    (lambda: fb.nn.ModuleList(3), "ModuleList: argument 'modules' must be .*, got int"),
    (lambda: x.fill_("a"), "fill_: argument 'value' must be a number or a Tensor, got 'a'"),
])
def test_an_argument_that_does_not_fit_is_named(call: object, message: str) -> None:
    for run in (call, fb.compile(call)):
        with pytest.raises(TypeError, match=message):
            run()


@pytest.mark.parametrize(("call", "kind", "message"), [
    (lambda: fb.pow(1j, np.ones(3)), ValueError, r"pow: can't take \(complex, ndarray\)"),
    (lambda: fb.roll(x, x, 1j), TypeError, "roll: "),
    (lambda: fb.empty(dtype=1j), TypeError, "empty: can't take"),
    (lambda: fb.ones(2).resize_(-1, -1), RuntimeError, "resize_: a tensor can't have negative sizes"),
    (lambda: fb.set_printoptions(precision="a"), TypeError, "set_printoptions: precision must be an int"),
])
def test_what_python_stumbles_over_is_told_by_the_function(call: Callable[[], object], kind: type[Exception],
                                                           message: str) -> None:
    with pytest.raises(kind, match=message):
        call()


def test_an_error_of_the_users_own_code_stays_as_it_is() -> None:
    with pytest.raises(AttributeError, match="'Tensor' object has no attribute 'missing'"):
        fb.scan(lambda carry, x: (carry.missing, x), x, x)


def test_0d_tensors_are_refused_where_a_dim_is_needed() -> None:
    for call in (lambda t: t.unbind(), lambda t: t.split(1), lambda t: t.chunk(2), lambda t: fb.tensor_split(t, 2),
                 lambda t: fb.diag_embed(t)):
        with pytest.raises(IndexError, match="takes 1 dim or more"):
            call(fb.tensor(1.0))
    assert fb.tensor(2.0).nonzero().shape == (1, 0)
    assert [t.tolist() for t in fb.tensor(2.0).nonzero(as_tuple=True)] == [[0]]
