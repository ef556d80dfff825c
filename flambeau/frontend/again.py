"""Running a function again, as it ran the first time: what derivatives do that keep nothing of it."""
from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from flambeau.frontend.random import stream_of
from flambeau.frontend.tape.autograd import grad_mode
from flambeau.frontend.tape.dispatch import dispatch
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import ops


class Then:
    """What functions ran with: autocast, and their closure variables, which may hold something else by now (`for layer in
    layers: h, _ = scan(lambda h, x: (layer(h) + x, None), h, xs)`)."""

    def __init__(self, *functions: Callable[..., Any]):
        self.casting = grad_mode.casting
        self.cells: dict[int, tuple[types.CellType, Any]] = {}
        pending: list[Any] = list(functions)
        while pending:
            function = pending.pop()
            function = getattr(function, "func", getattr(function, "__func__", function))       # partial, bound method
            for cell in getattr(function, "__closure__", None) or ():
                if id(cell) not in self.cells and _is_filled(cell):
                    self.cells[id(cell)] = cell, cell.cell_contents
                    pending.append(cell.cell_contents)

    @contextmanager
    def again(self) -> Iterator[None]:
        """It is so again."""
        changed = [(cell, then, cell.cell_contents if _is_filled(cell) else cell) for cell, then in self.cells.values()
                   if not _is_filled(cell) or cell.cell_contents is not then]
        try:
            for cell, then, _ in changed:
                cell.cell_contents = then
            with cast_as(self.casting):
                yield
        finally:
            for cell, _, now in changed:
                if now is cell:                         # which was empty
                    del cell.cell_contents
                else:
                    cell.cell_contents = now


def _is_filled(cell: types.CellType) -> bool:
    try:
        cell.cell_contents      # noqa: B018
    except ValueError:
        return False
    return True


@contextmanager
def cast_as(casting: Any) -> Iterator[None]:
    """Autocast is as it was in an earlier run."""
    saved = grad_mode.casting
    grad_mode.cast(casting)
    try:
        yield
    finally:
        grad_mode.cast(saved)


@contextmanager
def drawing_from(state: Tensor | None) -> Iterator[None]:
    """Random numbers are drawn from this state, and the own one of the generator of its device stays as it is."""
    if state is None:
        yield
        return
    stream = stream_of([state])
    own = stream.state
    stream.state = dispatch(ops.stop_gradient, state).data                  # whose versions nobody counts
    try:
        yield
    finally:
        stream.state = own


__all__ = ["Then", "cast_as", "drawing_from"]
