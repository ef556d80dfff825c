"""`map_location`: where the tensors of a file go once they are read."""
from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from flambeau.errors import UnsupportedError
from flambeau.frontend.tape.moves import moved
from flambeau.frontend.tensor.complex_tensor import ComplexTensor
from flambeau.frontend.tensor.device import Device, place_named
from flambeau.frontend.tensor.tensor import Tensor

__all__ = ["relocate"]


class SavedStorage:
    """What a function given as map_location sees of a tensor's memory: it gives it back as it is (for the CPU), or what one
    of its methods gives."""

    def __init__(self, device: str = "cpu"):
        self.device = Device(device)

    def cpu(self) -> SavedStorage:
        """Its memory on the CPU."""
        return SavedStorage()

    def cuda(self, device: Any = None) -> SavedStorage:
        """Its memory on a GPU, by default the current one."""
        return SavedStorage("cuda" if device is None else f"cuda:{device}" if isinstance(device, int) else device)

    def to(self, device: Any) -> SavedStorage:
        """Its memory there."""
        return SavedStorage(device)


def relocate(found: Any, saved_on: Mapping[int, str], map_location: Any) -> None:
    """Move the tensors in an object that was read, in place. saved_on: where those were saved that were not on the CPU, by
    id. Tensors over all of the same memory share it there too."""
    if not saved_on and (map_location is None or isinstance(map_location, Mapping)):
        return
    bases: dict[tuple[int, str], Tensor] = {}
    for t in {id(t): t for t in _tensors(found)}.values():
        place = _place(saved_on.get(id(t), "cpu"), map_location)
        if place is not None:
            _move(t, place, bases)


def _place(saved: str, map_location: Any) -> str | None:
    """The full name of where a tensor goes, None for the CPU."""
    wanted: Any = saved
    if isinstance(map_location, Mapping):
        wanted = map_location.get(saved, saved)
    elif isinstance(map_location, Callable):            # type: ignore[arg-type]
        located = map_location(SavedStorage(), saved)
        wanted = saved if located is None else getattr(located, "device", "cpu")
    elif map_location is not None:
        wanted = map_location
    try:
        return place_named(wanted)
    except UnsupportedError as error:
        raise RuntimeError(f"Attempting to deserialize object on a {Device(wanted).type} device, which is not available: "
                           "use load with map_location='cpu' to map tensors to the CPU") from error


def _move(t: Tensor, place: str, bases: dict[tuple[int, str], Tensor]) -> None:
    base = t if t._base is None else t._base
    key = id(base._storage), place
    if key not in bases:
        bases[key] = moved(Tensor._make(base._storage, base._type, base._array), place)
    there = bases[key]
    t._base = None if t._base is None else there
    t._storage, t._type, t._array = there._storage, t._type.on(place), None


def _tensors(tree: Any) -> Iterator[Tensor]:
    if isinstance(tree, ComplexTensor):
        yield tree._pair
    elif isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, Mapping):
        for value in tree.values():
            yield from _tensors(value)
    elif isinstance(tree, (list, tuple, set, frozenset)):
        for value in tree:
            yield from _tensors(value)
