"""Keywords as PyTorch takes them: NumPy's names for dims, sizes by name, Python types for dtypes.

A module of functions ends in `take_keywords(globals(), __all__)`; what needs nothing of this is left as it is.
"""
from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, MutableMapping
from types import FunctionType
from typing import Any, Final

from flambeau.frontend.promotion import as_dtype

_NUMPYS: Final = {"axis": "dim", "keepdims": "keepdim"}
_VARARGS: Final = 0x04                      # inspect.CO_VARARGS


def take_keywords(namespace: MutableMapping[str, Any], names: Iterable[str]) -> None:
    """Replace the functions of a module by ones that take these keywords."""
    for name in names:
        namespace[name] = with_keywords(namespace[name])


def with_keywords(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, which also takes `axis=` for dim, `keepdims=` for keepdim, its sizes by name (`size=(2, 3)` for
    `*size`), and float, int and bool as dtypes. Returned as it is when it has no such parameters."""
    if not isinstance(function, FunctionType):
        return function
    code = function.__code__
    count = code.co_argcount + code.co_kwonlyargcount
    parameters = code.co_varnames[:count]
    aliases = {numpys: ours for numpys, ours in _NUMPYS.items() if ours in parameters and numpys not in parameters}
    sizes = code.co_varnames[count] if code.co_flags & _VARARGS else None
    has_dtype = "dtype" in parameters
    if not aliases and sizes is None and not has_dtype:
        return function

    @functools.wraps(function)
    def spelled(*args: Any, **kwargs: Any) -> Any:
        if kwargs:
            if has_dtype and "dtype" in kwargs:
                kwargs["dtype"] = as_dtype(kwargs["dtype"], function.__name__)
            for numpys, ours in aliases.items():
                if numpys in kwargs and ours not in kwargs:
                    kwargs[ours] = kwargs.pop(numpys)
            if sizes is not None and sizes in kwargs:
                args = (*args, kwargs.pop(sizes))
        return function(*args, **kwargs)

    return spelled


__all__ = ["take_keywords", "with_keywords"]
