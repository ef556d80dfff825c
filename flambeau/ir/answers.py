"""Who answers questions about named sizes in this thread: what is known of them (`Facts`, facts.py), or nobody.

    with assuming(facts):               # questions inside are put to `facts`
        Dim("B") > 4
"""
from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from flambeau.errors import TypeInferenceError
from flambeau.ir.location import is_internal_frame

if TYPE_CHECKING:
    from flambeau.ir.dims import Dim, Size

__all__ = ["Answers", "Undecided", "assuming", "distinct", "is_asked_by_user", "known", "proving"]


class Undecided(TypeInferenceError):
    """A question whose answer depends on what the names of sizes are, where only proofs count or nothing is known."""


class Answers(Protocol):
    """What dims ask: `Facts` (facts.py) is what there is."""

    number: Callable[[Dim], Any] | None

    def zero(self, size: Size) -> bool | None: ...

    def at_least_zero(self, size: Size) -> bool | None: ...

    def proofs(self) -> Answers: ...

    def distinct(self) -> Answers: ...

    def copy(self) -> Answers: ...

    def is_zero(self, size: Size) -> bool: ...

    def is_at_least_zero(self, size: Size) -> bool: ...

    def fixed(self, size: Dim) -> int: ...

    def hint(self, size: Dim) -> int: ...

    def lies_below(self, size: Size, limit: Size) -> bool: ...


class _Known(threading.local):
    facts: Answers | None = None


_known = _Known()


def known() -> Answers | None:
    """What is known of sizes in this thread now."""
    return _known.facts


@contextmanager
def assuming(facts: Answers | None) -> Iterator[None]:
    """Questions about sizes inside are answered by `facts`; None: by structure alone."""
    saved, _known.facts = _known.facts, facts
    try:
        yield
    finally:
        _known.facts = saved


@contextmanager
def proving() -> Iterator[None]:
    """Questions inside are answered by proof, or raise Undecided: for what may as well be left. No condition comes of
    them."""
    facts = known()
    if facts is None:
        yield
        return
    with assuming(facts.proofs()):
        yield


@contextmanager
def distinct() -> Iterator[None]:
    """Sizes that are not known to be equal count as different inside: for what is right of different sizes where they are
    equal too. No condition comes of that."""
    facts = known()
    if facts is None:
        yield
        return
    with assuming(facts.distinct()):
        yield


def is_asked_by_user(depth: int = 2) -> bool:
    """Whether it is a user's code, which is being traced, that asks what calls this: that hashes or prints a size. depth:
    of its frame."""
    facts = known()
    return facts is not None and facts.number is not None and not is_internal_frame(sys._getframe(depth))
