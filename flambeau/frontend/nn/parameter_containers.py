"""Containers of parameters, which are registered under their index or key. Plain tensors become Parameters; other values
are kept as they are."""
from __future__ import annotations

import operator
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NoReturn, cast, overload

from flambeau.frontend.nn.module import Module
from flambeau.frontend.nn.parameter import Parameter
from flambeau.frontend.tensor.tensor import Tensor


def _kept(value: Any) -> Any:
    return Parameter(value) if isinstance(value, Tensor) and not isinstance(value, Parameter) else value


class _Parameters(Module):
    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise RuntimeError(f"{self._get_name()} should not be called.")

    def _lines(self, members: Iterable[tuple[str, Any]], *, by_dtype: bool) -> str:
        lines = []
        for name, value in members:
            if isinstance(value, Tensor):
                sizes = "x".join(map(str, value.shape))
                kind = repr(value.dtype) if by_dtype else cast(Any, value).type()
                what = f"{'Parameter' if isinstance(value, Parameter) else 'Tensor'} containing: [{kind} of size {sizes}]"
            else:
                what = f"Object of type: {type(value).__name__}"
            lines.append(f"  ({name}): {what}")
        return "\n".join(lines)


class ParameterList(_Parameters):
    """A list of parameters under "0", "1", ...: `ParameterList([fb.randn(2, 3), fb.randn(4)])`."""

    def __init__(self, values: Iterable[Any] | None = None):
        super().__init__()
        self._size = 0
        if values is not None:
            self.extend(values)

    def append(self, value: Any) -> ParameterList:
        """Add a value at the end."""
        self._size += 1
        self[self._size - 1] = value
        return self

    def extend(self, values: Iterable[Any]) -> ParameterList:
        """Add values at the end. Raises TypeError for what is no iterable, or a tensor."""
        if not isinstance(values, Iterable) or isinstance(values, Tensor):
            raise TypeError(f"ParameterList.extend should be called with an iterable, got {type(values).__name__}")
        for value in list(values):
            self.append(value)
        return self

    __iadd__ = extend

    def _name(self, index: int) -> str:
        position = operator.index(index)
        if not -self._size <= position < self._size:
            raise IndexError(f"index {position} is out of range for {self._size} parameters")
        return str(position % self._size)

    @overload
    def __getitem__(self, index: slice) -> ParameterList: ...

    @overload
    def __getitem__(self, index: int) -> Any: ...

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return ParameterList(list(self)[index])
        return getattr(self, self._name(index))

    def __setitem__(self, index: int, value: Any) -> None:
        setattr(self, self._name(index), _kept(value))

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Any]:
        return iter([self[n] for n in range(self._size)])

    def __dir__(self) -> list[str]:
        return [name for name in super().__dir__() if not name.isdigit()]

    def extra_repr(self) -> str:
        return self._lines(((str(n), value) for n, value in enumerate(self)), by_dtype=True)


class ParameterDict(_Parameters):
    """A dict of parameters, in order of insertion (of their names, where a plain dict was given)."""

    def __init__(self, parameters: Any = None):
        super().__init__()
        self._keys: dict[str, None] = {}
        if parameters is not None:
            self.update(parameters)

    def __getitem__(self, key: str) -> Any:
        return getattr(self, _checked(key))

    def __setitem__(self, key: str, value: Any) -> None:
        setattr(self, _checked(key), _kept(value))
        self._keys[key] = None

    def __delitem__(self, key: str) -> None:
        del self._keys[_checked(key)]
        delattr(self, key)

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __reversed__(self) -> Iterator[str]:
        return reversed(list(self._keys))

    def __contains__(self, key: object) -> bool:
        return key in self._keys

    def keys(self) -> Iterable[str]:
        """The names."""
        return self._keys.keys()

    def values(self) -> Iterable[Any]:
        """The parameters and other values."""
        return (self[key] for key in self._keys)

    def items(self) -> Iterable[tuple[str, Any]]:
        """(name, value) of each."""
        return ((key, self[key]) for key in self._keys)

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a name, or `default`."""
        return self[key] if key in self else default

    def setdefault(self, key: str, default: Any = None) -> Any:
        """The value of a name, which becomes `default` if it has none."""
        if key not in self:
            self[key] = default
        return self[key]

    def pop(self, key: str) -> Any:
        """Take a value out and give it."""
        value = self[key]
        del self[key]
        return value

    def popitem(self) -> tuple[str, Any]:
        """Take the newest out: (name, value). Raises KeyError when there is none."""
        if not self._keys:
            raise KeyError("popitem(): ParameterDict is empty")
        key = next(reversed(self._keys))
        return key, self.pop(key)

    def clear(self) -> None:
        """Take all out."""
        for key in list(self._keys):
            del self[key]

    def copy(self) -> ParameterDict:
        """A new dict of the same parameters."""
        return ParameterDict(OrderedDict(self.items()))

    def fromkeys(self, keys: Iterable[str], default: Any = None) -> ParameterDict:
        """A new dict with `default` under each name."""
        return ParameterDict([(key, default) for key in keys])

    def update(self, parameters: Any) -> None:
        """Add or replace values: from a dict (a plain one's names are sorted) or pairs of a name and a value."""
        if not isinstance(parameters, (Iterable, ParameterDict)):
            raise TypeError(f"ParameterDict.update takes a dict or pairs of a name and a value, got "
                            f"{type(parameters).__name__}")
        if isinstance(parameters, (OrderedDict, ParameterDict)):
            pairs = list(parameters.items())
        elif isinstance(parameters, Mapping):
            pairs = sorted(parameters.items(), key=lambda pair: pair[0])
        else:
            pairs = list(parameters)
        for pair in pairs:
            if not isinstance(pair, (tuple, list)):
                raise TypeError(f"ParameterDict.update takes pairs of a name and a value, got {type(pair).__name__}")
            if len(pair) != 2:
                raise ValueError(f"ParameterDict.update takes pairs of a name and a value, got {len(pair)} values")
            self[pair[0]] = pair[1]

    def __or__(self, other: Any) -> ParameterDict:
        made = self.copy()
        made.update(other)
        return made

    def __ror__(self, other: Mapping[str, Any]) -> dict[str, Any]:
        return {**other, **dict(self.items())}

    def __ior__(self, other: Any) -> ParameterDict:
        self.update(other)
        return self

    def extra_repr(self) -> str:
        return self._lines(self.items(), by_dtype=False)


def _checked(key: object) -> str:
    if not isinstance(key, str):
        raise TypeError(f"ParameterDict: names must be strings, got {type(key).__name__}")
    return key


__all__ = ["ParameterDict", "ParameterList"]
