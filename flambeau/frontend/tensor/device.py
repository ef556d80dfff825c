"""Where a tensor lives, as users say it, and where new ones are made."""
from __future__ import annotations

import re
import threading
from typing import Any

from flambeau.errors import FlambeauError, UnsupportedError
from flambeau.runtime.devices import current_index, memory_on

_TYPES = frozenset("cpu cuda ipu xpu mkldnn hip ve fpga maia xla mps meta hpu mtia privateuseone".split())
_SPELLED = re.compile(r"([a-z]+)(?::(0|[1-9][0-9]*))?")
_known: dict[tuple[str, int | None], Device] = {}


class Device(str):
    """`fb.device("cpu")`, `fb.device("cuda", 1)`: its `type` and its `index` (None where it is not said). There is one
    object for each, a str as tensors show it.

    Naming a device does not need it to be there; making a tensor on it does. Within `with fb.device(...)` tensors are
    made on it. Raises RuntimeError for what names no device."""

    type: str
    index: int | None           # type: ignore[assignment]

    def __new__(cls, type: Any = "cpu", index: int | None = None) -> Device:
        if isinstance(type, Device):
            return type
        if isinstance(type, int) and not isinstance(type, bool) and index is None:
            type, index = "cuda", int(type)
        if not isinstance(type, str):
            raise TypeError(f"device: type must be a str, got {type!r}")
        spelled = _SPELLED.fullmatch(type)
        if spelled is None:
            raise RuntimeError(f"Invalid device string: '{type}'")
        if spelled[1] not in _TYPES:
            raise RuntimeError(f"Expected one of {', '.join(sorted(_TYPES))} device type at start of device string: {type}"
                               '; GPUs are "cuda" or "cuda:0", main memory is "cpu"')
        if spelled[2] is not None:
            if index is not None:
                raise RuntimeError(f"type (string) must not include an index because index was passed explicitly: {type}")
            index = int(spelled[2])
        key = spelled[1], index
        if key not in _known:
            self = str.__new__(cls, spelled[1] if index is None else f"{spelled[1]}:{index}")
            self.type, self.index = key
            _known[key] = self
        return _known[key]

    def __repr__(self) -> str:
        return f"device(type='{self.type}'{'' if self.index is None else f', index={self.index}'})"

    def __reduce__(self) -> tuple[Any, ...]:
        return Device, (self.type, self.index)

    def __deepcopy__(self, memo: Any) -> Device:
        return self

    def __enter__(self) -> Device:
        _places.stack.append(_places.default)
        _set_default(place_named(self))
        return self

    def __exit__(self, *exc: object) -> None:
        _set_default(_places.stack.pop())


CPU = Device("cpu")


def device_named(name: str) -> Device:
    """The device of a type of the IR, which may be one that a backend of somebody else's brought."""
    kind, _, index = name.partition(":")
    key = kind, int(index) if index.isdigit() else None
    if key not in _known:
        found = str.__new__(Device, name)
        found.type, found.index = key
        _known[key] = found
    return _known[key]


# -- where new tensors are made ---------------------------------------------------------------------------------------


class _Places(threading.local):
    """Of one thread: `default`, where factories make tensors that are not told where (None: on the CPU)."""

    default: str | None = None

    def __init__(self) -> None:
        self.stack: list[str | None] = []


_places = _Places()
_defaults_differ = False                    # whether some thread ever had a default: asking costs less than a thread's own


def place_of(device: Any) -> str | None:
    """What `device=` of a factory means: a device's full name ("cuda:0"), or None for the CPU. Raises as `place_named`."""
    if device is None:
        return _places.default if _defaults_differ else None
    return place_named(device)


def place_named(device: Any) -> str | None:
    """The full name of a device that is there, None for the CPU. device: a Device, its name, or the number of a GPU. Raises
    RuntimeError for what names no device, UnsupportedError for one that is not there."""
    if device is CPU:
        return None
    if isinstance(device, bool) or not isinstance(device, (str, int)):
        raise TypeError(f"device must be a flambeau.device, a str or an int, got {type(device).__name__}")
    named = Device(device if isinstance(device, str) else f"cuda:{device}")
    if named.type == "cpu":
        return None
    if named.type != "cuda":
        raise UnsupportedError(f"device {str(named)!r} is not available; tensors live on 'cpu' or 'cuda'")
    name = f"cuda:{current_index() if named.index is None else named.index}"
    try:
        memory_on(name)
    except (ImportError, FlambeauError) as error:
        why, hint = getattr(error, "message", str(error)), getattr(error, "hint", None)
        raise UnsupportedError(f"device {str(named)!r} is not available; tensors live on 'cpu' ({why})",
                               hint=hint) from None
    return name


def is_there(device: Any) -> bool:
    """Whether tensors can lie on a device."""
    try:
        place_named(device)
    except (RuntimeError, FlambeauError):
        return False
    return True


def get_default_device() -> Device:
    """Where factories make tensors that are not told where, in this thread."""
    return CPU if _places.default is None else device_named(_places.default)


def set_default_device(device: Any) -> None:
    """Let factories make tensors on `device` where they are not told where; None for the CPU again. In this thread."""
    _set_default(None if device is None else place_named(device))


def _set_default(place: str | None) -> None:
    global _defaults_differ
    _places.default = place
    _defaults_differ = _defaults_differ or place is not None
