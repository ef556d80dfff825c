"""Where a tensor lives, as users say it."""
from __future__ import annotations

import re
from typing import Any

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
        if not isinstance(type, str):
            raise TypeError(f"device: type must be a str, got {type!r}")
        spelled = _SPELLED.fullmatch(type)
        if spelled is None:
            raise RuntimeError(f"Invalid device string: '{type}'")
        if spelled[1] not in _TYPES:
            raise RuntimeError(f"Expected one of {', '.join(sorted(_TYPES))} device type at start of device string: {type}")
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
        if self.type != "cpu":
            raise RuntimeError(f"device {str(self)!r} is not available; tensors live on 'cpu'")
        return self

    def __exit__(self, *exc: object) -> None:
        """Nothing to go back to: there is one device to make tensors on."""


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
