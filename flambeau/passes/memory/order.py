"""When planned calls run: by number, one after another, again and again, or instead of others.

What lowering and the memory plan hand over for a region that runs any number of times. The calls of all bodies stand in
`MemoryPlan.calls`, each once; the plan's `order` names them by number:

    order = (0, 1, Repeated(more, (2, 3, 4)), Chosen(positive, (5,), (6, 7)), 8)

`more` and `positive` are Values of bool[] with homes like all others. What a region takes from outside has the home of
the value outside; what a loop carries has one home for the whole of the loop, which calls before the loop and at the end
of its body store to (copies, or the very call that computes the next value where that is right); the result of a branch
has one home that both bodies store to.
"""
from __future__ import annotations

from typing import Union

from flambeau.ir.graph import Value
from flambeau.ir.records import dataclass

__all__ = ["Chosen", "Order", "Repeated"]


@dataclass(frozen=True)
class Repeated:
    """While `condition` holds: the body. What stands before it, and the end of the body, computes the condition."""

    condition: Value
    body: Order


@dataclass(frozen=True)
class Chosen:
    """`then` if `condition` holds, else `otherwise`."""

    condition: Value
    then: Order
    otherwise: Order = ()


Order = tuple[Union[int, Repeated, Chosen], ...]            # noqa: UP007 (int: a call, by number)
