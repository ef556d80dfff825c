"""What functions do with complex tensors: `FUNCTIONS`, by name. A function that stumbles over a complex operand is handed
over here by `functions/calls.py`; ComplexTensor has those that are methods as methods of its own. Importing this module
attaches them."""
from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from flambeau.errors import UnsupportedError
from flambeau.frontend.functions import (
    beside_arrays,
    complex_math,
    complex_views,
    compound_products,
    convolution,
    creation,
    gathering,
    joining,
    linear_algebra,
    norms,
    padding,
    products,
    reductions,
    searching,
    stacking,
    views,
)
from flambeau.frontend.functions.coerce import expanded, user_line
from flambeau.frontend.functions.complex_math import product
from flambeau.frontend.functions.complex_parts import *  # noqa: F403
from flambeau.frontend.functions.complex_parts import (
    component,
    conj,
    conj_physical,
    imag,
    joined,
    parts_in,
    real,
    split,
    view_as_real,
)
from flambeau.frontend.functions.complex_views import by_parts
from flambeau.frontend.tape.writes import before, update_
from flambeau.frontend.tensor.complex_tensor import ComplexTensor, complex64, complex128, complex_of
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import dtypes as dt

Function = Callable[..., Any]
cfloat, cdouble = complex64, complex128

# -- products ---------------------------------------------------------------------------------------------------------


def _bilinear(function: Function) -> Function:
    """A product that is linear in its first two arguments."""
    name = function.__name__

    def of_parts(input: Any, other: Any, *args: Any, **kwargs: Any) -> Tensor:
        if name not in ("outer", "kron", "cross") and input.dtype is not other.dtype:
            raise RuntimeError(f"{name}: operands must have one dtype, got {input.dtype!r} and {other.dtype!r}")
        dtype = component(name, input, other)
        return product(dtype, parts_in(dtype, input), parts_in(dtype, other),
                       lambda a, b: function(a, b, *args, **kwargs))

    return of_parts


def _conjugated(function: Function) -> Function:
    return lambda x, y, *args, **kwargs: function(conj(x), y, *args, **kwargs)


def einsum(equation: str, *operands: Any) -> Tensor:
    """Every choice of a real or an imaginary part of each operand, by the power of i that it has."""
    given = operands[0] if len(operands) == 1 and isinstance(operands[0], (list, tuple)) else operands
    dtype = component("einsum", *given)
    totals: list[Any] = [None, None]
    choices = [[(p, side) for side, p in enumerate(parts_in(dtype, z)) if p is not None] for z in given]
    for parts in itertools.product(*choices):
        power = sum(side for _, side in parts)
        term = products.einsum(equation, *[p for p, _ in parts])
        old = totals[power % 2]
        sign = complex_math.sub_ if power % 4 > 1 else complex_math.add_
        totals[power % 2] = sign(0.0 if old is None else old, term) if old is not None or power % 4 > 1 else term
    return joined(*[creation.zeros_like(next(t for t in totals if t is not None)) if t is None else t for t in totals])


def _combined(function: Function) -> Function:
    def of_parts(input: Any, x: Any, y: Any, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
        return complex_math.add(complex_math.mul(input, beta) if beta != 1 else input,
                                complex_math.mul(function(x, y), alpha) if alpha != 1 else function(x, y))

    return of_parts


def linear(input: Any, weight: Any, bias: Any = None) -> Tensor:
    found = _bilinear(products.linear)(input, weight)
    return found if bias is None else complex_math.add(found, bias)


MATMUL: Final = {f.__name__: _bilinear(f) for f in (
    products.matmul, products.mm, products.bmm, products.mv, products.dot, products.inner, products.outer,
    products.tensordot)}

# -- sums and sizes ---------------------------------------------------------------------------------------------------


def _of_sizes(function: Function) -> Function:
    """A norm of elements, which depends on their sizes alone."""
    def of_sizes(input: Any, *args: Any, **kwargs: Any) -> Tensor:
        if "nuc" in (*args, kwargs.get("p")):
            raise UnsupportedError(f"{function.__name__}: the nuclear norm of complex matrices is not implemented")
        return function(complex_math.abs(input), *args, **kwargs)

    return of_sizes


def _linalg_norm(A: Any, ord: Any = None, dim: Any = None, keepdim: bool = False, **kwargs: Any) -> Tensor:
    if ord in ("nuc", 2, -2) and (len(dim) if isinstance(dim, (tuple, list)) else A.ndim if dim is None else 1) == 2:
        raise UnsupportedError(f"linalg.norm: ord={ord!r} of complex matrices is not implemented")
    return norms.linalg_norm(complex_math.abs(A), ord, dim, keepdim, **kwargs)


def _of_truth(function: Function) -> Function:
    """Of whether numbers are 0."""
    return lambda input, *args, **kwargs: function(complex_math.ne(input, 0), *args, **kwargs)


def _convolved(function: Function) -> Function:
    def of_parts(input: Any, weight: Any, bias: Any = None, *args: Any, **kwargs: Any) -> Tensor:
        if len({t.dtype for t in (input, weight, bias) if t is not None}) > 1:
            raise RuntimeError(f"{function.__name__}: input {input.dtype!r}, weight {weight.dtype!r} and bias "
                               f"{None if bias is None else bias.dtype!r} must have one dtype")
        dtype = component(function.__name__, input, weight)
        found = product(dtype, parts_in(dtype, input), parts_in(dtype, weight),
                        lambda a, b: function(a, b, None, *args, **kwargs))
        if bias is None:
            return found
        rank = len(weight.shape) - 2
        return complex_math.add(found, complex_views.reshape(complex_views.complexed(bias, found), (-1, *[1] * rank)))

    return of_parts


def eye(n: int, m: int | None = None, *, dtype: Any, requires_grad: bool = False) -> Tensor:
    made = complex_views.to(creation.eye(n, m, dtype=dtype.component), dtype)
    return made.requires_grad_() if requires_grad else made


def matrix_power(input: Any, n: int) -> Tensor:
    if n < 1:
        input = _embedded(linear_algebra.inverse, input) if n else complex_views.to(
            creation.eye(input.shape[-1], device=input.device), input.dtype)
    found = input
    for _ in range(abs(n) - 1 if n else 0):
        found = MATMUL["matmul"](found, input)
    return found


def index_put(input: Any, indices: Any, values: Any, accumulate: bool = False) -> Tensor:
    pair = complex_views.complexed(values, input)._pair
    return ComplexTensor.of(gathering.index_put(input._pair, indices, pair, accumulate))


def l1_loss(input: Any, target: Any, size_average: Any = None, reduce: Any = None, reduction: str = "mean") -> Tensor:
    sizes = complex_math.abs(complex_math.sub(input, target))
    return sizes if reduction == "none" else reductions.mean(sizes) if reduction == "mean" else reductions.sum(sizes)


def var(input: Any, *args: Any, **kwargs: Any) -> Tensor:
    return complex_math.add_(*[reductions.var(p, *args, **kwargs) for p in split(input)])


def std(input: Any, *args: Any, **kwargs: Any) -> Tensor:
    return complex_math.pointwise.sqrt(var(input, *args, **kwargs))


# -- the table --------------------------------------------------------------------------------------------------------

LINEAR: Final[Mapping[Function, tuple[int | str, ...]]] = {             # and which arguments have parts
    **dict.fromkeys((joining.cat, joining.stack, joining.hstack, joining.vstack, stacking.dstack, stacking.column_stack),
                    (0, "tensors")),
    **dict.fromkeys((creation.meshgrid, stacking.atleast_1d, stacking.atleast_2d, stacking.atleast_3d, stacking.block_diag),
                    tuple(range(16))),
    **dict.fromkeys((
        reductions.sum, reductions.mean, reductions.nansum, reductions.cumsum, joining.roll, joining.flip,
        joining.fliplr, joining.flipud, joining.rot90, joining.repeat, joining.repeat_interleave, joining.tile,
        views.tril, views.triu, views.diag, views.diag_embed, products.trace, gathering.index_select, gathering.gather,
        gathering.take_along_dim, gathering.take, gathering.masked_select), (0, "input")),
    padding.pad: (0, 3, "input", "value"),
    complex_math.elementwise.where: (1, 2, "input", "other"),
    gathering.masked_fill: (0, 2, "value"),
    **dict.fromkeys((gathering.index_add, gathering.index_copy, gathering.scatter, gathering.scatter_add),
                    (0, 3, "source", "src")),
}

FUNCTIONS: Final[dict[str, Function]] = {
    **{name: getattr(complex_math, name) for name in (
        "abs", "add", "addcdiv", "addcmul", "allclose", "angle", "cos", "cosh", "div", "eq", "equal", "exp", "exp2",
        "expm1", "isclose", "isfinite", "isinf", "isnan", "isreal", "lerp", "log", "log10", "log1p", "log2", "mul",
        "ne", "neg", "positive", "pow", "prod", "reciprocal", "rsqrt", "rsub", "sgn", "sigmoid", "sin", "sinh",
        "sqrt", "square", "sub", "tan", "tanh")},
    **{name: getattr(complex_views, name) for name in (
        "as_tensor", "broadcast_to", "chunk", "clone", "contiguous", "diagonal", "empty", "empty_like", "expand",
        "expand_as", "flatten", "from_numpy", "full", "full_like", "movedim", "narrow", "new_empty",
        "new_full", "new_ones", "new_zeros", "ones", "ones_like", "permute", "rand", "rand_like", "randn",
        "randn_like", "ravel", "reshape", "reshape_as", "select", "squeeze", "swapaxes", "t", "tensor",
        "tensor_split", "to", "transpose", "type_as", "unbind", "unflatten", "unsqueeze", "view", "view_as",
        "zeros", "zeros_like")},
    **{function.__name__: by_parts(function, *values) for function, values in LINEAR.items()},
    **MATMUL,
    "split": complex_views.split_, "einsum": einsum, "linear": linear, "vdot": _conjugated(MATMUL["dot"]),
    "vecdot": _conjugated(lambda x, y, dim=-1: by_parts(reductions.sum, 0)(complex_math.mul(x, y), dim)),
    "addmm": _combined(MATMUL["mm"]), "baddbmm": _combined(MATMUL["bmm"]), "addmv": _combined(MATMUL["mv"]),
    "var": var, "std": std, "sign": complex_math.sgn, "norm": _of_sizes(reductions.norm),
    "vector_norm": _of_sizes(norms.vector_norm), "linalg_norm": _linalg_norm, "kron": _bilinear(compound_products.kron),
    "dist": lambda input, other, p=2: FUNCTIONS["norm"](complex_math.sub(input, other), p),
    **{f.__name__: _convolved(f) for f in (
        convolution.conv1d, convolution.conv2d, convolution.conv3d, convolution.conv_transpose1d,
        convolution.conv_transpose2d, convolution.conv_transpose3d)},
    **{f.__name__: _of_truth(f) for f in (reductions.any, reductions.all, reductions.count_nonzero, searching.nonzero,
                                         complex_math.pointwise.logical_not)},
    "broadcast_tensors": lambda *tensors: tuple(complex_math.broadcast(*tensors)),
    "matrix_power": matrix_power, "result_type": lambda *values: complex_of(component("result_type", *values)),
    "l1_loss": l1_loss, "index_put": index_put, "cross": _bilinear(compound_products.cross), "eye": eye,
    **dict.fromkeys(("inverse", "inv"), lambda A: _embedded(linear_algebra.inverse, A)),
    "solve": lambda A, B, **kwargs: _solved(A, B, **kwargs),
}
ALIASES: Final = {
    "swapdims": "swapaxes", "moveaxis": "movedim", "concat": "cat", "concatenate": "cat", "absolute": "abs",
    "negative": "neg", "subtract": "sub", "multiply": "mul", "divide": "div", "true_divide": "div", "not_equal": "ne",
    "ger": "outer", "is_same_size": "is_same_size",
}
FUNCTIONS.update({alias: FUNCTIONS[name] for alias, name in ALIASES.items() if name in FUNCTIONS})


def _embedded(function: Function, *operands: Any) -> Tensor:
    """A function of matrices by way of real ones of twice the size, [[re, -im], [im, re]]."""
    dtype = component("linalg", *operands)
    wide = []
    for z in operands:
        re, im = parts_in(dtype, z)
        im = creation.zeros_like(re) if im is None else im
        wide.append(joining.cat([joining.cat([re, complex_math.pointwise.neg(im)], -1), joining.cat([im, re], -1)], -2))
    found = function(*wide)
    rows, columns = found.shape[-2] // 2, found.shape[-1] // 2
    return joined(found[..., :rows, :columns], found[..., rows:, :columns])


def _solved(a: Any, b: Any, **kwargs: Any) -> Tensor:
    if b.ndim == 1 or b.ndim == a.ndim - 1 and tuple(b.shape) == tuple(a.shape)[:-1]:
        return complex_views.select(_solved(a, complex_views.unsqueeze(b, -1)), -1, 0)
    return _embedded(lambda a, b: linear_algebra.solve(a, b, **kwargs), a, b)


def hand_over(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What the function of that name gives for complex operands. Raises UnsupportedError where there is none."""
    function = FUNCTIONS.get(name)
    if function is None:
        dtype = next((v.dtype for v in _tensors(args, kwargs)), complex64)
        raise UnsupportedError(f"{name}: not implemented for {dtype.torch_name}", where=user_line(),
                               hint="compute with view_as_real(z), or with z.real and z.imag")
    return function(*args, **kwargs)


def _tensors(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[ComplexTensor]:
    flat = itertools.chain.from_iterable(v if isinstance(v, (list, tuple)) else [v] for v in (*args, *kwargs.values()))
    return [v for v in flat if isinstance(v, ComplexTensor)]


# -- methods ----------------------------------------------------------------------------------------------------------


def _in_place(function: Function) -> Function:
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        given = [a._pair if isinstance(a, ComplexTensor) else a for a in (*args, *kwargs.values())]
        old = ComplexTensor.of(before(self._pair, given))
        new = complex_views.complexed(function(old, *args, **kwargs), self)._pair
        if new._type != self._pair._type:
            new = expanded(new, self._pair._type.static_shape)
        update_(self._pair, new)
        return self

    return method


def _operator(function: Function, turned: bool = False) -> Function:
    def method(self: Any, other: Any) -> Any:
        if not isinstance(other, Tensor) and not complex_math.is_complex_number(other) \
                and not complex_math.elementwise.number_or_tensor(other, or_array=not turned):
            return NotImplemented               # NumPy computes with an array
        return function(other, self) if turned else function(self, other)

    return method


def _compared(function: Function) -> Function:
    method = _operator(function)
    return lambda self, other: method(self, beside_arrays.tensor_from(other) if isinstance(other, np.ndarray) else other)


def _iterator(self: Any) -> Any:
    if not self.ndim:
        raise TypeError("iteration over a 0-d tensor")
    return iter(complex_views.unbind(self))


def _rebuilt(kind: type[ComplexTensor], pair: Tensor) -> ComplexTensor:
    made = object.__new__(kind)
    made._pair = pair
    return made


def _set_part(side: int) -> Function:
    def write(self: Any, value: Any) -> None:
        split(self)[side].copy_(value)

    return write


BINARY: Final = {"add": complex_math.add, "sub": complex_math.sub, "mul": complex_math.mul, "truediv": complex_math.div,
                 "pow": complex_math.pow, "matmul": MATMUL["matmul"]}
IN_PLACE: Final = ("add", "conj_physical", "div", "divide", "exp", "index_add", "index_copy", "log", "masked_fill", "mul",
                   "multiply", "neg", "pow", "reciprocal", "scatter_add", "sqrt", "square", "sub", "subtract", "tril",
                   "triu")
OTHERS: Final[dict[str, Any]] = {
    "where": lambda self, condition, other: FUNCTIONS["where"](condition, self, other),
    "__getitem__": complex_views.getitem, "__setitem__": complex_views.setitem, "__iter__": _iterator,
    "__reduce_ex__": lambda self, protocol=2: (_rebuilt, (type(self), self._pair)),
    "__neg__": complex_math.neg, "__pos__": complex_math.positive, "__abs__": complex_math.abs,
    "__eq__": _compared(complex_math.eq), "__ne__": _compared(complex_math.ne), "__hash__": Tensor.__hash__,
    "real": property(real, _set_part(0)), "imag": property(imag, _set_part(1)),
    "T": property(complex_views.reversed_dims), "mT": property(complex_views.matrix_transposed),
    "H": property(lambda z: conj(complex_views.reversed_dims(z))),
    "mH": property(lambda z: conj(complex_views.matrix_transposed(z))),
    "adjoint": lambda z: conj(complex_views.matrix_transposed(z)),
    "conj": conj, "conj_physical": conj_physical, "copy_": complex_views.copy_, "zero_": complex_views.zero_,
    "fill_": complex_views.fill_, "type": complex_views.type_of, "view_as_real": view_as_real,
    **{name: complex_views.converted(dtype) for name, dtype in {
        "cfloat": complex64, "cdouble": complex128, "float": dt.f32, "double": dt.f64, "half": dt.f16, "bfloat16": dt.bf16,
        "long": dt.i64, "int": dt.i32, "short": dt.i16, "char": dt.i8, "byte": dt.u8, "bool": dt.bool_}.items()},
}


def attach() -> None:
    """Give ComplexTensor its methods."""
    for name, function in FUNCTIONS.items():
        if hasattr(Tensor, name):
            setattr(ComplexTensor, name, function)
    for name, function in BINARY.items():
        setattr(ComplexTensor, f"__{name}__", _operator(function))
        setattr(ComplexTensor, f"__r{name}__", _operator(function, turned=True))
        setattr(ComplexTensor, f"__i{name}__", _in_place(function))
    for name in IN_PLACE:
        setattr(ComplexTensor, f"{name}_", _in_place((OTHERS | FUNCTIONS)[name]))
    for name, value in OTHERS.items():
        setattr(ComplexTensor, name, value)


attach()
