"""How much Python work something is, as a number that no machine's load changes."""
from __future__ import annotations

import sys
from collections.abc import Callable


def python_calls(function: Callable[[], object]) -> int:
    """How many Python functions run while `function` does."""
    count = 0

    def hook(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event == "call"

    previous = sys.getprofile()
    sys.setprofile(hook)
    try:
        function()
    finally:
        sys.setprofile(previous)
    return count
