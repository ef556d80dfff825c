"""Random programs: chains of views that are written through, and writes on the tape."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from against_torch import theirs
from inplace_programs import Generator, Program, as_function, inputs, run

import flambeau as fb

# -- chains of views --------------------------------------------------------------------------------------------------

Step = tuple[str, tuple[Any, ...]]
BASES = ((2, 3, 4), (3, 3), (4, 4), (2, 2, 3, 2), (6,), (1, 5, 1), (3, 0), ())


def drawn_step(rng: random.Random, shape: tuple[int, ...]) -> Step:
    """A view method and its arguments, for a tensor of that shape."""
    rank = len(shape)
    d = rng.randrange(rank) if rank else 0
    kinds: list[Step] = [("unsqueeze", (rng.randrange(rank + 1),)), ("view", (-1,)), ("__getitem__", (None,))]
    if rank and 0 not in shape:
        i = rng.randrange(shape[d])
        order = list(range(rank))
        rng.shuffle(order)
        begin, step = rng.randrange(shape[0]), rng.choice([1, 1, 2, 3])
        kinds += [
            ("permute", tuple(order)),
            ("transpose", (d, rng.randrange(rank))),
            ("movedim", (d, rng.randrange(rank))),
            ("select", (d, i)),
            ("narrow", (d, i, rng.randrange(1, shape[d] - i + 1))),
            ("__getitem__", (slice(begin, None, step),)),
            ("__getitem__", ((Ellipsis, slice(None, None, step)),)),
            ("squeeze", ()),
        ]
    if rank > 1:
        other = rng.choice([e for e in range(rank) if e != d])
        kinds += [("diagonal", (rng.choice([-1, 0, 0, 1]), d, other)), ("flatten", (0, 1))] * 2
    if rank and shape[-1] and shape[-1] % 2 == 0:
        kinds.append(("unflatten", (-1, (2, shape[-1] // 2))))
    return rng.choice(kinds)


def in_numpy(x: np.ndarray, step: Step) -> np.ndarray | None:
    """The step on an array, by strides alone; None where the elements would have to be copied."""
    name, args = step
    match name:
        case "unsqueeze":
            return np.expand_dims(x, args[0])
        case "permute":
            return x.transpose(args)
        case "transpose":
            return x.swapaxes(*args)
        case "movedim":
            return np.moveaxis(x, *args)
        case "select":
            return x[(*[slice(None)] * args[0], args[1], ...)]
        case "narrow":
            return x[(*[slice(None)] * args[0], slice(args[1], args[1] + args[2]))]
        case "__getitem__":
            return x[args[0] if isinstance(args[0], tuple) else (args[0], ...)]
        case "squeeze":
            return x.squeeze()
        case "diagonal":
            found = np.diagonal(x, *args)
            found.setflags(write=True)
            return found
        case "view":
            reshaped = x.reshape(-1)
        case "flatten":
            reshaped = x.reshape(x.shape[0] * x.shape[1], *x.shape[2:])
        case _:
            reshaped = x.reshape(*x.shape[:-1], *args[1])
    return reshaped if np.shares_memory(reshaped, x) or not x.size else None


def chain(seed: int) -> tuple[np.ndarray, list[Step], list[np.ndarray]]:
    """(an array, steps, the views of it that they give one after another); the steps that would copy are left out."""
    rng = random.Random(seed)
    shape = rng.choice(BASES)
    base = np.arange(np.prod(shape, dtype=np.float64)).reshape(shape)
    steps, views = [], [base]
    for _ in range(rng.randrange(1, 7)):
        step = drawn_step(rng, views[-1].shape)
        view = in_numpy(views[-1], step)
        if view is not None:
            steps.append(step)
            views.append(view)
    return base, steps, views


def written(base: Any, steps: list[Step], numbers: Any) -> list[Any]:
    """The base and its views after the last was changed by `numbers`, then the one before it."""
    views = [base]
    for name, args in steps:
        views.append(getattr(views[-1], name)(*args))
    views[-1].mul_(2)
    views[-1].add_(numbers)
    views[len(views) // 2][...] = views[len(views) // 2] + 100
    return views


def written_in_numpy(views: list[np.ndarray], numbers: np.ndarray) -> None:
    views[-1][...] = views[-1] * 2 + numbers
    views[len(views) // 2][...] += 100


def test_writes_through_chains_of_views_reach_the_memory(seeds: Iterator[int]) -> None:
    for seed in seeds:
        base, steps, expected = chain(seed)
        numbers = np.random.default_rng(seed).integers(0, 9, expected[-1].shape).astype(np.float64)
        mine = fb.tensor(base.copy())
        found = written(mine, steps, fb.tensor(numbers))
        strides = [view.strides for view in expected]
        written_in_numpy(expected, numbers)
        for view, array, steps_of in zip(found, expected, strides, strict=True):
            assert view.tolist() == array.tolist(), (seed, base.shape, steps)
            assert view._storage is mine._storage, (seed, base.shape, steps)
            kept = [(s, b // 8) for s, b, n in zip(view.stride(), steps_of, array.shape, strict=True) if n > 1]
            assert 0 in array.shape or all(a == b for a, b in kept), (seed, base.shape, steps)


def test_compiled_writes_through_chains_of_views_reach_the_memory(seeds: Iterator[int]) -> None:
    for seed in seeds:
        base, steps, expected = chain(seed)
        numbers = np.random.default_rng(seed).integers(0, 9, expected[-1].shape).astype(np.float64)
        argument, captured = fb.tensor(base.copy()), fb.tensor(base.copy())

        @fb.compile
        def write(x: fb.Tensor, n: fb.Tensor, captured: Any = captured, steps: Any = steps) -> Any:
            return written(x, steps, n), written(captured, steps, n)

        results = write(argument, fb.tensor(numbers))
        written_in_numpy(expected, numbers)
        for found in (*results, [argument], [captured]):
            for view, array in zip(found, expected, strict=False):
                assert view.tolist() == array.tolist(), (seed, base.shape, steps)


@pytest.mark.torch
def test_views_are_where_pytorchs_are(seeds: Iterator[int]) -> None:
    torch = theirs()
    for seed in seeds:
        rng = random.Random(seed)
        base = np.arange(24.0).reshape(rng.choice([(2, 3, 4), (4, 6), (2, 2, 3, 2)]))
        mine, other = fb.tensor(base), torch.tensor(base)
        x, y, steps = mine, other, []
        for _ in range(6):
            name, args = drawn_step(rng, tuple(y.shape))
            steps.append((name, args))
            try:
                y = getattr(y, name)(*args)
            except RuntimeError:
                with pytest.raises(RuntimeError):
                    getattr(x, name)(*args)
                continue
            x = getattr(x, name)(*args)
        is_view = y.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()
        assert (x._storage is mine._storage) == is_view, (seed, base.shape, steps)
        x.add_(1)
        y.add_(1)
        assert (x.tolist(), mine.tolist()) == (y.tolist(), other.tolist()), (seed, base.shape, steps)


# -- programs ---------------------------------------------------------------------------------------------------------

Seen = dict[str, tuple[np.ndarray, bool, np.ndarray | None]]


def seen(tensors: dict[str, Any]) -> Seen:
    """Value, requires_grad and gradient of every tensor."""
    arrays = {name: t for name, t in tensors.items() if hasattr(t, "detach")}
    return {
        name: (as_array(t), t.requires_grad, None if t.grad is None else as_array(t.grad))
        for name, t in arrays.items()
    }


def as_array(t: Any) -> np.ndarray:
    return np.array(t.detach().numpy(), np.float64)


def differences(found: Seen, expected: Seen, of_requires_grad: bool = True) -> list[str]:
    """In words. 1e-8: a few dozen operations on numbers near 1, in f64."""
    texts = []
    for name in found.keys() & expected.keys():
        (value, requires, grad), (value_due, requires_due, grad_due) = found[name], expected[name]
        if not np.allclose(value, value_due, 1e-8, 1e-8, equal_nan=True):
            texts.append(f"{name} is {value.tolist()}, not {value_due.tolist()}")
        if of_requires_grad and requires is not requires_due:
            texts.append(f"{name}.requires_grad is {requires}")
        if (grad is None) is not (grad_due is None) or (
            grad is not None and grad_due is not None and not np.allclose(grad, grad_due, 1e-8, 1e-8, equal_nan=True)
        ):
            texts.append(f"{name}.grad is {grad}, not {grad_due}")
    return texts


# What PyTorch refuses, rightly or not, and we compute: overlapping memory, views that it takes for leaves, views that
# were pinned before a write that no tape knows of.
ONLY_PYTORCH_REFUSES = (
    "unsupported operation",
    "a leaf Variable that",
    "INTERNAL ASSERT",
    "Can't detach views",
    "its base or another view of its base has been modified",
)


def is_excused(program: Program, due: Exception | None) -> bool:
    """A view made under no_grad() requires grad in PyTorch, though nothing flows through it; here it does not."""
    return "no_grad():\n    h" in str(program) or any(text in str(due) for text in ONLY_PYTORCH_REFUSES)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.torch
def test_programs_of_writes_agree_with_pytorch(seeds: Iterator[int]) -> None:
    torch = theirs().module
    for seed in seeds:
        program = Generator(seed).make()
        mine, other = inputs(fb, fb.float64), inputs(torch, torch.float64)
        number, error = run(program, fb, fb.float64, mine)
        number_due, due = run(program, torch, torch.float64, other)
        if (error is None) is not (due is None) or number != number_due:
            assert is_excused(program, due), f"seed {seed}\n{program}\nline {number}: {error!r}, PyTorch: {due!r}"
        elif due is None:
            wrong = differences(seen(mine), seen(other), "no_grad():\n    h" not in str(program))
            assert not wrong, f"seed {seed}\n{program}\n{wrong}"


def test_programs_of_writes_are_the_same_compiled(seeds: Iterator[int]) -> None:
    for seed in seeds:
        program = Generator(seed).make()
        outcomes: list[tuple[Seen | None, Exception | None]] = []
        for compiled in (False, True):
            tensors = inputs(fb, fb.float64)
            function = as_function(program, fb, fb.float64, tensors)
            try:
                made = (fb.compile(function) if compiled else function)(tensors["d"], tensors["e"])
            except (RuntimeError, IndexError) as error:
                outcomes.append((None, error))
            else:
                names = [name for name in program.shapes if name.startswith("h")]
                results = {name: t.detach() for name, t in zip(names, made, strict=True)}
                outcomes.append((seen({**tensors, **results}), None))
        (expected, due), (found, error) = outcomes
        if isinstance(error, (fb.errors.UnsupportedError, fb.errors.CaptureError)):
            continue
        assert (error is None) is (due is None), f"seed {seed}\n{program}\n{error!r}, eager: {due!r}"
        if found is not None and expected is not None:
            wrong = differences(found, expected)
            assert not wrong, f"seed {seed}\n{program}\n{wrong}"
