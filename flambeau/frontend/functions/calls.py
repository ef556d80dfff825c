"""How users may call the functions of this package: keywords as PyTorch takes them, and one sentence for arguments that
don't fit. A module of functions ends in `public(globals(), __all__)`.

A call that succeeds pays for nothing but the keywords it uses: arguments are held against the function's annotations
only when Python has stumbled over something. A function that stumbles over a complex tensor hands over to the one that
takes such (`complex_table.py`).
"""
from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from types import FunctionType
from typing import Any, Final

import numpy as np

from flambeau.errors import FlambeauError, meant
from flambeau.frontend.functions.coerce import is_number, kind_of
from flambeau.frontend.functions.out import ADDING_UP, OUT, written
from flambeau.frontend.functions.stumbles import CALLS, COMPLEX, complex_instead, has_complex, in_words
from flambeau.frontend.tape.autograd import grad_mode
from flambeau.frontend.tape.casting import POLICIES, cast_arguments
from flambeau.frontend.tape.unwatched import unwatched_if_plain, watching
from flambeau.frontend.tensor.promotion import as_dtype
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir.dtypes import DType

_NUMPYS: Final = {"axis": "dim", "keepdims": "keepdim"}
_IDLE: Final = ("layout", "memory_format", "pin_memory")        # PyTorch's, that decide nothing here
_VARARGS: Final = 0x04                      # inspect.CO_VARARGS


def public(namespace: MutableMapping[str, Any], names: Iterable[str]) -> None:
    """Replace the functions of a module by ones that users may call."""
    for name in names:
        namespace[name] = called(namespace[name])


def constructors(namespace: MutableMapping[str, Any], names: Iterable[str]) -> None:
    """The same for the classes of a package: what `__init__` takes."""
    for name in names:
        kind = namespace[name]
        if isinstance(kind, type) and kind.__init__ is not object.__init__:     # type: ignore[misc]
            kind.__init__ = called(kind.__init__, name)         # type: ignore[misc]


def called(function: Callable[..., Any], name: str = "") -> Callable[..., Any]:
    """`function`, which also takes `out=` where PyTorch's does, `axis=` for dim, `keepdims=` for keepdim, its sizes by
    name (`size=(2, 3)` for `*size`), float, int and bool as dtypes, and what decides nothing here (`layout=`). Raises
    TypeError for an argument that does not fit its annotation and trips the function up."""
    if not isinstance(function, FunctionType) or hasattr(function, "__wrapped__"):
        return function
    code = function.__code__
    count = code.co_argcount + code.co_kwonlyargcount
    parameters = code.co_varnames[:count]
    aliases = {numpys: ours for numpys, ours in _NUMPYS.items() if ours in parameters and numpys not in parameters}
    sizes = code.co_varnames[count] if code.co_flags & _VARARGS else None
    has_dtype = "dtype" in parameters
    name = name or function.__name__
    hands_over = not function.__module__.startswith(COMPLEX)    # it takes complex tensors itself
    policy, has_out = POLICIES.get(name), name in OUT and "out" not in parameters
    takes_idle = "device" in parameters or name in ("clone", "contiguous")
    idle = [word for word in _IDLE if takes_idle and word not in parameters]
    spells = bool(aliases) or sizes is not None or has_dtype or has_out or bool(idle)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if kwargs and spells:
            if has_out and "out" in kwargs:
                out = kwargs.pop("out")
                if name in ADDING_UP and kwargs.get("dtype") is None and isinstance(out, Tensor):
                    kwargs["dtype"] = out.dtype
                result = call(*args, **kwargs)
                return result if out is None else written(name, result, out)
            for word in idle:
                if word in kwargs:
                    _check_idle(name, word, kwargs.pop(word))
            for numpys, ours in aliases.items():
                if numpys in kwargs and ours not in kwargs:
                    kwargs[ours] = kwargs.pop(numpys)
            if sizes is not None and sizes in kwargs:
                args = (*args, kwargs.pop(sizes))
            if has_dtype and "dtype" in kwargs:
                try:
                    kwargs["dtype"] = as_dtype(kwargs["dtype"], name)
                except TypeError as error:
                    return complex_instead(error, function.__name__, *args, **kwargs)
        try:
            return unwatched_if_plain(function, *args, **kwargs) if watching else function(*args, **kwargs)
        except Exception as error:
            if hands_over and has_complex((*args, *kwargs.values())):
                stumble = error
            else:
                if isinstance(error, FlambeauError):
                    raise
                refusal = _refusal(error, function, name, args, kwargs) if isinstance(error, _STUMBLES) else None
                if refusal is None:
                    raise
                raise refusal from refusal.__cause__
        try:
            return complex_instead(stumble, function.__name__, *args, **kwargs)
        except (*_STUMBLES, RecursionError) as error:
            refusal = None if isinstance(error, FlambeauError) else _refusal(error, function, name, args, kwargs)
            if refusal is None:
                raise
            raise refusal from refusal.__cause__

    CALLS.add(call.__code__)                # type: ignore[attr-defined]
    return call if policy is None else _autocast(call, policy)


def _autocast(function: Callable[..., Any], policy: str) -> Callable[..., Any]:
    """`function`, whose arguments autocast casts."""
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if grad_mode.casting is not None:
            args, kwargs = cast_arguments(policy, grad_mode.casting, args, kwargs)
        return function(*args, **kwargs)

    return call


def _check_idle(name: str, word: str, value: Any) -> None:
    if word == "layout" and repr(value) not in ("None", "flambeau.strided"):
        raise NotImplementedError(f"{name}: tensors are strided, layout {value!r} is not there")


_STUMBLES: Final = (AttributeError, TypeError, ValueError, IndexError, KeyError, AssertionError, OverflowError,
                    ZeroDivisionError, UnboundLocalError)


# -- arguments that don't fit -----------------------------------------------------------------------------------------


def _refusal(error: Exception, function: FunctionType, asked: str, args: tuple[Any, ...],
             kwargs: dict[str, Any]) -> Exception | None:
    """What to raise instead of an error that Python or NumPy raised; None where the error is somebody's word already."""
    misused = _misused(function, asked, args, kwargs)
    if misused is not None:
        return TypeError(misused)
    return in_words(error, asked, args, kwargs)


def _misused(function: FunctionType, asked: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    """Which argument does not fit its annotation, in words; None when all do."""
    try:
        bound = inspect.signature(function).bind(*args, **kwargs)
    except TypeError as error:
        words = list(inspect.signature(function).parameters)
        likes = [like for word in kwargs if word not in words and (like := meant(word, words)) is not None]
        return "".join([f"{asked}: {error}", *[f"; did you mean {like!r}?" for like in likes[:1]]])
    for name, value in bound.arguments.items():
        wanted = function.__annotations__.get(name, "Any")
        if function.__code__.co_flags & _VARARGS and name == function.__code__.co_varnames[
                function.__code__.co_argcount + function.__code__.co_kwonlyargcount]:
            continue                        # sizes_of() has looked at them
        if isinstance(wanted, str) and not any(_fits(value, kind) for kind in _alternatives(wanted)):
            return f"{asked}: argument '{name}' must be {_in_words(wanted)}, got {_described(value)}"
    return None


def _alternatives(annotation: str) -> Iterator[str]:
    """`int | Sequence[int] | None` -> its three parts."""
    depth, start = 0, 0
    for place, char in enumerate(annotation):
        depth += (char == "[") - (char == "]")
        if char == "|" and not depth:
            yield annotation[start:place].strip()
            start = place + 1
    yield annotation[start:].strip()


def _fits(value: Any, kind: str) -> bool:
    known = _KINDS.get(kind)
    if known is not None:
        return known[0](value)
    if kind.startswith("Sequence["):
        return isinstance(value, (tuple, list)) and all(_fits(v, kind[9:-1]) for v in value)
    if kind.startswith(("Iterable[", "Mapping[")):
        return hasattr(type(value), "keys" if kind[0] == "M" else "__iter__") and not isinstance(value, (str, np.ndarray))
    return True


def _in_words(annotation: str) -> str:
    found = []
    for kind in _alternatives(annotation):
        inner = kind[9:-1] if kind.startswith("Sequence[") else kind
        word = _KINDS[inner][1] if inner in _KINDS else inner
        found.append(f"a list or tuple, each {word}" if inner is not kind else word)
    return " or ".join(found)


def _described(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        for v in value:
            if hasattr(type(v), "__dlpack__") and not isinstance(v, Tensor):
                return kind_of(v)
        return f"a {type(value).__name__} of {', '.join(sorted({type(v).__name__ for v in value})) or 'nothing'}"
    return repr(value) if isinstance(value, (str, float)) else kind_of(value)


def _is_int(value: Any) -> bool:
    if isinstance(value, (Tensor, np.ndarray)):
        return value.ndim == 0
    return hasattr(type(value), "__index__") and not isinstance(value, float)


def _is_dims(value: Any) -> bool:
    return value is None or _is_int(value) or isinstance(value, (tuple, list)) and all(map(_is_int, value))


_KINDS: Final[dict[str, tuple[Callable[[Any], bool], str]]] = {
    "Tensor": (lambda v: isinstance(v, Tensor), "a Tensor"),
    "TensorLike": (lambda v: isinstance(v, Tensor) or is_number(v), "a Tensor or a number"),
    "Number": (is_number, "a number"),
    "float": (is_number, "a number"),
    "int": (_is_int, "an int"),
    "bool": (lambda v: isinstance(v, (bool, int)) or type(v).__name__ == "bool", "a bool"),
    "str": (lambda v: isinstance(v, str), "a str"),
    "None": (lambda v: v is None, "None"),
    "tuple[int, ...]": (lambda v: isinstance(v, tuple) and all(map(_is_int, v)), "a tuple of ints"),
    "list[int]": (lambda v: isinstance(v, list) and all(map(_is_int, v)), "a list of ints"),
    "Dims": (_is_dims, "an int, a tuple of ints or None"),
    "DType": (lambda v: isinstance(v, DType), "a dtype"),
}

__all__ = ["called", "constructors", "public"]
