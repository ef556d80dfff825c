"""From the rows of the registry that have a surface to the functions that users call: `FUNCTIONS` and, for `fb.special`,
`SPECIAL`. The module `pointwise` gives them their names.

Each function is one of the few below over an op, so that a call costs what one written by hand would.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator
from types import CodeType, FunctionType
from typing import Any, Final

from flambeau.frontend.functions.coerce import (
    TensorLike,
    as_bool,
    cast,
    check_operands,
    floating,
    floating_one,
    full_of,
    one_tensor,
    promoted,
)
from flambeau.frontend.functions.marks import in_place, method
from flambeau.frontend.functions.stumbles import STUMBLES, complex_instead
from flambeau.frontend.tape.dispatch import dispatch
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import dtypes as dt
from flambeau.ir import ops
from flambeau.ir.dtypes import DType
from flambeau.ir.op import OPS
from flambeau.ir.ops.surface import Surface

Function = Callable[..., Tensor]
HOME: Final = "flambeau.frontend.functions.pointwise"


def rows() -> Iterator[tuple[ops.Elementwise, Surface]]:
    """Every elementwise op that users call by a function made here, in the registry's order."""
    for op in OPS.values():
        if isinstance(op, ops.Elementwise) and op.surface is not None:
            yield op, op.surface


# -- one operand ------------------------------------------------------------------------------------------------------


def _of_float(op: ops.Elementwise, name: str) -> Function:
    def function(input: Tensor) -> Tensor:
        try:
            return dispatch(op, floating_one(name, input))
        except STUMBLES as error:
            return complex_instead(error, name, input)

    return function


def _of_one(op: ops.Elementwise, name: str) -> Function:
    def function(input: Tensor) -> Tensor:
        try:
            return dispatch(op, one_tensor(name, input))
        except STUMBLES as error:
            return complex_instead(error, name, input)

    return function


def _of_truth(op: ops.Elementwise, name: str) -> Function:
    def function(input: Tensor) -> Tensor:
        try:
            return dispatch(op, as_bool(one_tensor(name, input)))
        except STUMBLES as error:
            return complex_instead(error, name, input)

    return function


def _of_one_or(op: ops.Elementwise, name: str, elsewhere: ops.Elementwise | DType | bool) -> Function:
    accepts = op.accepts

    def function(input: Tensor) -> Tensor:
        try:
            x = one_tensor(name, input)
            if x._type.dtype in accepts:
                return dispatch(op, x)
            if isinstance(elsewhere, bool):
                return full_of(x._type.static_shape, elsewhere, dt.bool_, like=x)
            return dispatch(op, cast(x, elsewhere)) if isinstance(elsewhere, DType) else dispatch(elsewhere, x)
        except STUMBLES as error:
            return complex_instead(error, name, input)

    return function


# -- two operands and more --------------------------------------------------------------------------------------------


def _of_floats(op: ops.Elementwise, name: str) -> Function:
    def function(input: TensorLike, other: TensorLike) -> Tensor:
        try:
            return dispatch(op, *floating(name, input, other))
        except STUMBLES as error:
            return complex_instead(error, name, input, other)

    return function


def _of_common(op: ops.Elementwise, name: str) -> Function:
    def function(input: TensorLike, other: TensorLike) -> Tensor:
        try:
            return dispatch(op, *promoted(name, input, other))
        except STUMBLES as error:
            return complex_instead(error, name, input, other)

    return function


def _of_truths(op: ops.Elementwise, name: str) -> Function:
    def function(input: TensorLike, other: TensorLike) -> Tensor:
        try:
            check_operands(name, (input, other))
            return dispatch(op, *promoted(name, input, other, dtype=dt.bool_))
        except STUMBLES as error:
            return complex_instead(error, name, input, other)

    return function


def _of_common_or(op: ops.Elementwise, name: str, elsewhere: ops.Elementwise | DType | bool) -> Function:
    accepts = op.accepts
    assert not isinstance(elsewhere, bool), f"{name}: one answer for all elements is for ops of one operand"

    def function(input: TensorLike, other: TensorLike) -> Tensor:
        try:
            x, y = promoted(name, input, other)
            if x._type.dtype in accepts:
                return dispatch(op, x, y)
            if isinstance(elsewhere, DType):
                return dispatch(op, cast(x, elsewhere), cast(y, elsewhere))
            return dispatch(elsewhere, x, y)
        except STUMBLES as error:
            return complex_instead(error, name, input, other)

    return function


# -- by the row -------------------------------------------------------------------------------------------------------

_BY_DOMAIN: Final = {"float": (_of_float, _of_floats), "bool": (_of_truth, _of_truths)}
_WHAT_DTYPES_DO: Final = {"float": "integers are taken to the default float dtype",
                          "bool": "of whether the elements differ from 0"}


def made(op: ops.Elementwise, surface: Surface) -> Function:
    """The function of one row, under its name, documented."""
    name = surface.name or op.name
    assert op.arity in (1, 2), f"{name}: functions are made for one operand or two"
    two = op.arity - 1
    if surface.elsewhere == "":
        function = _BY_DOMAIN.get(op.domain, (_of_one, _of_common))[two](op, name)
    else:
        function = (_of_one_or, _of_common_or)[two](op, name, _standing_in(surface.elsewhere))
    assert isinstance(function, FunctionType)
    _rename(function, dict(zip(("input", "other"), surface.parameters, strict=True)))
    function.__name__ = function.__qualname__ = name
    function.__module__, function.__doc__ = HOME, _documentation(op, surface)
    marked: Any = function
    if surface.is_method and not surface.is_special:
        marked = method(in_place(marked) if surface.is_in_place else marked)
    return marked


def _standing_in(elsewhere: str | bool) -> ops.Elementwise | DType | bool:
    if isinstance(elsewhere, bool):
        return elsewhere
    if elsewhere in dt.DTYPES:
        return dt.DTYPES[elsewhere]
    op = OPS[elsewhere]
    assert isinstance(op, ops.Elementwise), f"{elsewhere} is no elementwise op"
    return op


def _rename(function: FunctionType, names: dict[str, str]) -> None:
    """Call the parameters as the row does: they can be passed by name, and that is what a signature shows."""
    code: CodeType = function.__code__
    function.__code__ = code.replace(co_varnames=tuple([names.get(v, v) for v in code.co_varnames]))
    function.__annotations__ = {names.get(k, k): v for k, v in function.__annotations__.items()}


def _documentation(op: ops.Elementwise, surface: Surface) -> str:
    """`doc`, element by element; what happens to other dtypes."""
    text = f"{surface.doc}, element by element"
    if surface.elsewhere == "stop_gradient":
        return f"{text}; {'integers' if op.domain == 'float' else 'bools'} unchanged."
    if surface.elsewhere == "" and op.domain in _WHAT_DTYPES_DO:
        return f"{text}; {_WHAT_DTYPES_DO[op.domain]}."
    if surface.elsewhere == "" and op.domain in ("int", "int|bool"):
        return f"{text}. Raises RuntimeError for floats{' and bools' * (op.domain == 'int')}."
    return f"{text}, as bools." if op.is_test else f"{text}."


FUNCTIONS: Final[dict[str, Function]] = {}
SPECIAL: Final[dict[str, Function]] = {}

for _op, _surface in rows():
    _function = made(_op, _surface)
    if not _surface.is_special:
        FUNCTIONS.update(dict.fromkeys((_function.__name__, *_surface.aliases), _function))
    SPECIAL.update(dict.fromkeys((*_surface.special, *[_function.__name__] * _surface.is_special), _function))
