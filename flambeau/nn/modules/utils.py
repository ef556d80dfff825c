"""Sizes as tuples, for layers that take one number for all dims: `_pair(3)` is (3, 3); and names without their prefix."""
from collections.abc import Callable, Iterable
from itertools import repeat
from typing import Any


def _ntuple(n: int, name: str = "parse") -> Callable[[Any], tuple[Any, ...]]:
    """A function that repeats a number n times, and leaves an iterable's elements as they are."""
    def parse(x: Any) -> tuple[Any, ...]:
        return tuple(x) if isinstance(x, Iterable) else tuple(repeat(x, n))

    parse.__name__ = name
    return parse


_single, _pair = _ntuple(1, "_single"), _ntuple(2, "_pair")
_triple, _quadruple = _ntuple(3, "_triple"), _ntuple(4, "_quadruple")


def consume_prefix_in_state_dict_if_present(state_dict: dict[str, Any], prefix: str) -> None:
    """Take prefix off the names that begin with it, in place: of a state_dict that `nn.DataParallel` wrote, "module."."""
    metadata = getattr(state_dict, "_metadata", {})     # names of modules, which end without a dot
    for name in [name for name in state_dict if name.startswith(prefix)]:
        state_dict[name[len(prefix):]] = state_dict.pop(name)
    for name in [name for name in metadata if f"{name}.".startswith(prefix)]:
        metadata[name[len(prefix):]] = metadata.pop(name)
