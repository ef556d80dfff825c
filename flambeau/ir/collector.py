"""No garbage collection while thousands of graph nodes are made: nothing made is garbage, and each full collection
walks every object of the process (measured: 24 us of 30 for a new node of a 2,600-op graph)."""
from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_MOST_UNSEEN: Final = 500_000
_unseen = 0                     # objects that became old ones without a look, since the last full collection
_collections = 0                # how many full ones there were then


@contextmanager
def paused_collector() -> Iterator[None]:
    """The cycle collector rests inside the block (or the decorated function), unless it was off anyway. It then takes what
    was made for what has been there for long, so that the first objects that are made behind the block don't have it
    walk all of that (0.6 s for a GPT of 48 layers)."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            _grow_old()
            gc.enable()


def _grow_old() -> None:
    """All objects become old ones, unseen. What of them is garbage waits for a full collection: here where it is much."""
    global _unseen, _collections
    collections = gc.get_stats()[2]["collections"]
    if collections != _collections:
        _unseen, _collections = 0, collections
    if _unseen > _MOST_UNSEEN:
        gc.collect()
    elif not gc.get_freeze_count():         # else they are the program's, and unfreeze() is not for us to call
        _unseen += gc.get_count()[0]
        gc.freeze()
        gc.unfreeze()
