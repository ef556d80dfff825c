"""Every method and operator of Tensor, in one table. Importing this module attaches them."""
from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Final

import numpy as np

from flambeau.errors import TraceError
from flambeau.frontend import facts, missing, typed
from flambeau.frontend.active import active
from flambeau.frontend.epoch import epoch
from flambeau.frontend.functions import (
    activations,
    arithmetic,
    beside_arrays,
    comparison,
    compound_products,
    copies,
    creation,
    decompositions,
    distributions,
    elementwise,
    gathering,
    indexing,
    inplace,
    joining,
    linear_algebra,
    pointwise,
    products,
    reductions,
    running,
    scattering,
    searching,
    shape_in_place,
    sharing,
    sorting,
    special_functions,
    stacking,
    statistics,
    views,
    windows,
)
from flambeau.frontend.functions.calls import called
from flambeau.frontend.functions.coerce import cast, one_tensor
from flambeau.frontend.functions.element_calls import apply_, map_
from flambeau.frontend.functions.marks import methods_of
from flambeau.frontend.functions.stumbles import STUMBLES, complex_instead, complex_table, has_complex
from flambeau.frontend.tape.autograd import record_of
from flambeau.frontend.tape.backward import (
    backward,
    register_hook,
    register_post_accumulate_grad_hook,
    retain_grad,
)
from flambeau.frontend.tape.dispatch import copied, up_to_date
from flambeau.frontend.tape.moves import moved, place_like, placed
from flambeau.frontend.tape.unwatched import unwatched_if_plain, watching
from flambeau.frontend.tensor.device import Device, place_named
from flambeau.frontend.tensor.promotion import as_dtype, get_default_dtype
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.frontend.where import describe, user_location
from flambeau.ir import dtypes as dt
from flambeau.ir.dtypes import DTYPES, DType

# -- functions whose first argument is the tensor ---------------------------------------------------------------------

MARKED: Final = (                           # modules whose functions say so themselves
    activations, arithmetic, comparison, compound_products, copies, decompositions, elementwise, pointwise, running,
    scattering, searching, special_functions, stacking, statistics)
NAMES: Final = {
    reductions: (
        "all", "amax", "amin", "aminmax", "any", "argmax", "argmin", "count_nonzero", "cumprod", "cumsum", "dist",
        "log_softmax", "logsumexp", "max", "mean", "min", "nansum", "norm", "prod", "softmax", "std", "sum", "var"),
    views: (
        "broadcast_to", "chunk", "clone", "contiguous", "diag", "diag_embed", "diagonal", "expand", "expand_as",
        "flatten", "moveaxis", "movedim", "narrow", "permute", "ravel", "reshape", "reshape_as", "select", "squeeze",
        "swapaxes", "swapdims", "t", "tensor_split", "transpose", "tril", "triu", "unbind", "unflatten", "unsqueeze",
        "view", "view_as"),
    joining: ("flip", "fliplr", "flipud", "repeat", "repeat_interleave", "roll", "rot90", "tile"),
    gathering: (
        "bincount", "gather", "index_add", "index_copy", "index_fill", "index_put", "index_select", "masked_fill",
        "masked_select", "scatter", "scatter_add", "take", "take_along_dim"),
    products: (
        "addmm", "addmv", "addr", "baddbmm", "bmm", "dot", "ger", "inner", "matmul", "mm", "mv", "outer", "trace",
        "vdot"),
    linear_algebra: ("cholesky", "cholesky_inverse", "cholesky_solve", "inverse"),
    sorting: ("argsort", "kthvalue", "median", "mode", "msort", "nanmedian", "nanquantile", "quantile", "sort", "topk",
              "unique"),
    windows: ("as_strided", "as_strided_scatter"),
    creation: ("new_empty", "new_empty_strided", "new_full", "new_ones", "new_tensor", "new_zeros"),
}
FUNCTIONS: Final = {name: function for module in MARKED for name, function in methods_of(vars(module)).items()} | {
    name: getattr(module, name) for module, names in NAMES.items() for name in names}
RENAMED: Final = {"__getitem__": indexing.getitem, "__setitem__": indexing.setitem,
                  "polygamma": special_functions.polygamma_of, "unfold": windows.windows_along}

# -- operators --------------------------------------------------------------------------------------------------------

BINARY: Final = {
    "add": elementwise.add, "sub": elementwise.sub, "mul": elementwise.mul, "truediv": elementwise.div,
    "floordiv": elementwise.floor_divide, "mod": pointwise.remainder, "pow": elementwise.pow,
    "and": pointwise.bitwise_and, "or": pointwise.bitwise_or, "xor": pointwise.bitwise_xor,
    "lshift": pointwise.bitwise_left_shift, "rshift": pointwise.bitwise_right_shift,
}
COMPARISONS: Final = {"eq": pointwise.eq, "ne": pointwise.ne, "lt": pointwise.lt, "le": pointwise.le,
                      "gt": pointwise.gt, "ge": pointwise.ge}
_BESIDE: Final = {name: partial(beside_arrays.arithmetic, ufunc, products.matmul if name == "matmul" else BINARY[name])
                  for name, ufunc in beside_arrays.UFUNCS.items()}
_BESIDE_COMPARED: Final = {name: partial(beside_arrays.comparison, COMPARISONS[name]) for name in ("eq", "ne")}
UNARY: Final = {"neg": pointwise.neg, "pos": elementwise.positive, "abs": pointwise.abs,
                "invert": pointwise.bitwise_not}


def _operator(function: Callable[..., Tensor],
              beside: Callable[[Tensor, np.ndarray], Tensor] | None = None) -> Callable[[Tensor, Any], Any]:
    def method(self: Tensor, other: Any) -> Any:
        if elementwise.number_or_tensor(other, beside is not None):
            return unwatched_if_plain(function, self, other) if watching else function(self, other)
        return beside(self, other) if beside is not None and isinstance(other, np.ndarray) else NotImplemented

    return method


def _reflected(function: Callable[..., Tensor]) -> Callable[[Tensor, Any], Any]:
    commutes = function is elementwise.mul  # as PyTorch has it: the number is the second factor

    def method(self: Tensor, other: Any) -> Any:
        if not elementwise.number_or_tensor(other):
            return NotImplemented
        operands = (self, other) if commutes else (other, self)
        return unwatched_if_plain(function, *operands) if watching else function(*operands)

    return method


def _divided_by(self: Tensor, other: Any) -> Any:
    """other / self; for 16-bit floats by way of the reciprocal, as PyTorch has it, which lets the number keep its
    digits."""
    if not elementwise.number_or_tensor(other, or_array=True):
        return _BESIDE["mul"](pointwise.reciprocal(self), other) if isinstance(other, np.ndarray) else NotImplemented
    if self._type.dtype.is_floating_point and self._type.dtype.itemsize == 2:
        return elementwise.mul(pointwise.reciprocal(self), other)
    return elementwise.div(other, self)


def _assigning(function: Callable[..., Tensor], name: str) -> Callable[[Tensor, Any], Any]:
    overwriting = inplace.inplace(function, name)

    def method(self: Tensor, other: Any) -> Any:
        # beside an array x += a is x = x + a, as in PyTorch
        return overwriting(self, other) if elementwise.number_or_tensor(other, or_array=True) else NotImplemented

    return method


def _matmul(self: Tensor, other: Any) -> Any:
    if isinstance(other, np.ndarray):
        return _BESIDE["matmul"](self, other)
    return products.matmul(self, other) if isinstance(other, Tensor) else NotImplemented


def _rmatmul(self: Tensor, other: Any) -> Any:
    return products.matmul(other, self) if isinstance(other, Tensor) else NotImplemented


def new(self: Tensor, *args: Any, device: Any = None) -> Tensor:
    """A tensor of this one's dtype, as `fb.Tensor(...)` makes them: of sizes, or of data. It lies where this one does."""
    return placed(typed.made(args, self.dtype, "new", "cpu"), place_like(self, device))


def module_load(self: Tensor, other: Tensor, assign: bool = False) -> Tensor:
    """What load_state_dict() puts in the place of this tensor: `other`, or what this one becomes by copying it."""
    return one_tensor("module_load", other) if assign else one_tensor("module_load", other).detach()


def _iterator(self: Tensor) -> Iterator[Tensor]:
    """The slices along dim 0. Raises TypeError for a 0-d tensor."""
    if not self._type.shape:
        raise TypeError("iteration over a 0-d tensor")
    return iter(views.unbind(self, 0))


def _reversed(self: Tensor) -> Tensor:
    return joining.flip(self, 0) if self.ndim else self


# -- dtype and device -------------------------------------------------------------------------------------------------


def to(self: Tensor, *args: Any, dtype: DType | None = None, device: Any = None, non_blocking: bool = False,
       copy: bool = False, memory_format: Any = None) -> Tensor:
    """`to(dtype)`, `to(device)`, `to(device, dtype)` or `to(other)`: itself when nothing changes, unless copy. Gradients
    come back to where it lies.

    Raises UnsupportedError for a device that is not there, and for a move in a compiled function."""
    try:
        dtype = as_dtype(dtype, "to")
        for arg in args:
            if isinstance(arg, (DType, type)):
                dtype = as_dtype(arg, "to")
            elif isinstance(arg, Tensor):
                dtype, device = arg._type.dtype, arg.device
            elif has_complex(arg):
                return complex_table().hand_over("to", (self, *args), {"copy": copy})
            elif arg is not None and not isinstance(arg, bool):
                device = arg
        if device is not None and device != self._type.device:
            place = place_named(device) or "cpu"
            if place != self._type.device:
                return moved(self if dtype is None else cast(self, dtype), place, non_blocking)
    except STUMBLES as error:
        return complex_instead(error, "to", self, *args, dtype=dtype, device=device, copy=copy)
    if dtype is not None and dtype is not self._type.dtype:
        return cast(self, dtype)
    return views.clone(self) if copy else self


def type_as(self: Tensor, tensor: Tensor) -> Tensor:
    """In the dtype of another tensor, and where that lies."""
    if one_tensor("type_as", tensor).is_complex():
        return to(self, tensor.dtype, tensor.device)
    return moved(cast(self, tensor._type.dtype), tensor._type.device)


class TypeOf:
    """`x.type`: the tensor's type, as derivatives that are written for graph values read it, and PyTorch's method:
    `x.type(fb.float64)` converts, as do a class of old (`fb.DoubleTensor`) and its name; `x.type()` names the type."""

    __slots__ = ("_of",)

    def __init__(self, of: Tensor):
        self._of = of

    def __call__(self, dtype: Any = None, non_blocking: bool = False) -> Any:
        if dtype is None:
            return f"flambeau.{'' if self._of._type.device == 'cpu' else 'cuda.'}{_TYPE_NAMES[self._of._type.dtype]}Tensor"
        if has_complex(dtype):
            return to(self._of, dtype)
        if isinstance(dtype, str):
            named = {f"{name}Tensor": found for found, name in _TYPE_NAMES.items()}
            is_cuda = ".cuda." in dtype
            dtype = named.get(dtype.rpartition(".")[2], Tensor if dtype == "torch.Tensor" else dtype)
            if isinstance(dtype, DType):                    # the name says where, too
                there = cast(self._of, dtype)
                return cuda(there) if is_cuda and there._type.device == "cpu" else there if is_cuda else moved(there, "cpu")
        if isinstance(dtype, typed.TypedTensor):
            dtype = dtype.dtype
        if dtype is Tensor:
            dtype = get_default_dtype()
        if not isinstance(dtype, DType):
            raise ValueError(f"type: invalid type {dtype!r}; pass a dtype, such as fb.float64")
        return cast(self._of, dtype)

    @property
    def dtype(self) -> DType:
        return self._of._type.dtype

    def __getattr__(self, name: str) -> Any:
        return getattr(self._of._type, name)

    def __eq__(self, other: object) -> bool:
        return self._of._type == (other._of._type if isinstance(other, TypeOf) else other)

    def __hash__(self) -> int:
        return hash(self._of._type)

    def __repr__(self) -> str:
        return str(self._of._type)


_TYPE_NAMES: Final = {dt.f32: "Float", dt.f64: "Double", dt.f16: "Half", dt.bf16: "BFloat16", dt.i64: "Long",
                      dt.i32: "Int", dt.i16: "Short", dt.i8: "Char", dt.u8: "Byte", dt.bool_: "Bool",
                      dt.u32: "UInt32", dt.u64: "UInt64"}


def _conversion(dtype: DType) -> Callable[[Tensor], Tensor]:
    def method(self: Tensor, memory_format: Any = None) -> Tensor:
        return cast(self, dtype)

    method.__doc__ = f"In {dtype!r}."
    return method


CONVERSIONS: Final = {"float": dt.f32, "double": dt.f64, "half": dt.f16, "bfloat16": dt.bf16, "long": dt.i64,
                      "int": dt.i32, "short": dt.i16, "char": dt.i8, "byte": dt.u8, "bool": dt.bool_}


def cpu(self: Tensor, memory_format: Any = None) -> Tensor:
    """In the host's memory: itself where it is there."""
    return moved(self, "cpu")


def cuda(self: Tensor, device: Any = None, non_blocking: bool = False, memory_format: Any = None) -> Tensor:
    """On a GPU, by default the current one. device: its number, or a device of type "cuda". Raises UnsupportedError where
    there is none."""
    named = Device("cuda" if device is None else device if isinstance(device, str) else f"cuda:{device}")
    if named.type != "cuda":
        raise ValueError(f"Invalid device, must be cuda device, got {named!r}")
    return moved(self, place_named(named) or "cpu", non_blocking)


# -- off and on the tape ----------------------------------------------------------------------------------------------


def tensor_backward(self: Tensor, gradient: Tensor | None = None, retain_graph: bool | None = None,
                    create_graph: bool = False, inputs: Any = None) -> None:
    """Add the gradients of this tensor to `.grad` of the leaves it depends on. `gradient`: what to start from, None
    for a single element."""
    backward(self, gradient, retain_graph, create_graph, inputs=inputs)


def detach(self: Tensor) -> Tensor:
    """The same memory, off the tape: changes through either are seen by both."""
    made = Tensor._make(self._storage, self._type, self._array, self._bare_base(), self._chain)
    if active.tracer is not None:
        active.tracer.keep(made, self)
    return made


def detach_(self: Tensor) -> Tensor:
    """Take this tensor off the tape. Raises RuntimeError for a view."""
    if self._base is not None and self.requires_grad:
        raise RuntimeError("can't detach views in place; use detach()")
    record_of(self, None, 0, requires_grad=False)
    epoch.bump()
    return self


def _get_data(self: Tensor) -> Tensor:
    """The same memory, off the tape, which does not notice what is written to it."""
    made = detach(self)
    (made if made._base is None else made._base)._unwatched = True
    return made


def _set_data(self: Tensor, value: Tensor) -> None:
    """Point this tensor at the memory of `value`."""
    if not isinstance(value, Tensor):
        raise TypeError(f"data must be a Tensor, got {type(value).__name__}")
    if value._storage is self._storage and value._chain == self._chain and value._type == self._type:
        return                              # `x.data += y` puts back what it got
    if active.tracer is not None and active.tracer.is_from_outside(self) and not active.tracer.may_move(self, value):
        raise TraceError("the data of an argument, or of a tensor from outside, was replaced in a compiled function by "
                         "memory of another type or of other tensors from outside", where=describe(user_location()),
                         hint="give it a clone(), or change it in place: `with fb.no_grad(): tensor.copy_(value)`")
    self._storage, self._type, self._array = value._storage, value._type, value._array
    self._base, self._chain = value._bare_base(), value._chain
    epoch.bump()


def _is_view(self: Tensor) -> bool:
    if active.tracer is not None and self._storage.trace is not None and active.tracer.is_from_outside(self):
        raise TraceError("whether an argument is a view was asked for in a compiled function", where=describe(
            user_location()), hint="ask outside and pass the answer")
    return self._base is not None


# -- copies -----------------------------------------------------------------------------------------------------------


def _deepcopy(self: Tensor, memo: dict[int, Any]) -> Tensor:
    """A copy of the data, and of `.grad`. Raises RuntimeError for a tensor that was computed with gradients."""
    if id(self) in memo:
        return memo[id(self)]
    if self._record is not None:
        raise RuntimeError("only leaf tensors support deepcopy; detach() this one first")
    own = copied(self)
    made = memo[id(self)] = Tensor._make(own._storage, own._type, own._array, cls=self.__class__)
    made._requires_grad = self._requires_grad
    for name, value in getattr(self, "__dict__", {}).items():
        setattr(made, name, value)
    if self._grad is not None:
        made._grad = _deepcopy(self._grad, memo)
    return made


def _reduce(self: Tensor, protocol: int = 2) -> tuple[Any, ...]:
    """Pickled as its data, dtype and requires_grad, and where it lies unless that is the CPU."""
    device = self._type.device
    return _rebuilt, (self.__class__, np.array(self._data(), order="C"), self.dtype.name, self._requires_grad,
                      getattr(self, "__dict__", None), *([] if device == "cpu" else [device]))


def _rebuilt(cls: type[Tensor], array: np.ndarray, dtype: str, requires_grad: bool, attributes: Any,
             device: str = "cpu") -> Tensor:
    made = Tensor._from_array(array, DTYPES[dtype], cls)
    if device != "cpu":
        there = moved(made, place_named(device) or "cpu")
        made = Tensor._make(there._storage, there._type, there._array, cls=cls)
    made._requires_grad = requires_grad
    for name, value in (attributes or {}).items():
        setattr(made, name, value)
    return made


# -- beside complex tensors -------------------------------------------------------------------------------------------


def _real(self: Tensor) -> Tensor:
    """The real parts: itself."""
    return self


def _imag(self: Tensor) -> Tensor:
    """Raises RuntimeError: only complex tensors have imaginary parts."""
    raise RuntimeError("imag is not implemented for tensors with non-complex dtypes.")


def _itself(name: str) -> Callable[[Tensor], Tensor]:
    def method(self: Tensor) -> Tensor:
        """Itself: a real tensor."""
        return self

    method.__name__ = method.__qualname__ = name
    return method


def _spectrogram(name: str) -> Callable[..., Tensor]:
    def method(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        module = importlib.import_module("flambeau.frontend.functions.complex_spectrograms")
        found: Tensor = getattr(module, name)(self, *args, **kwargs)
        return found

    method.__name__ = method.__qualname__ = name
    method.__doc__ = f"`fb.{name}` of it."
    return method


def _to_complex(name: str) -> Callable[..., Tensor]:
    def method(self: Tensor, memory_format: Any = None) -> Tensor:
        return to(self, getattr(complex_table(), name))

    method.__doc__ = f"In flambeau.{name}."
    return method


def split(self: Tensor, split_size: int | Sequence[int], dim: int = 0) -> tuple[Tensor, ...]:
    return views.split(self, split_size, dim)


def where(self: Tensor, condition: Tensor, other: Any) -> Tensor:
    """Its own elements where `condition`, those of `other` elsewhere: `fb.where(condition, x, other)`."""
    return elementwise.where(condition, self, other)


split.__doc__ = views.split.__doc__
OTHERS: Final[dict[str, Any]] = {
    "__rtruediv__": _divided_by, "__rdiv__": _divided_by, "__matmul__": _matmul, "__rmatmul__": _rmatmul,
    "split": called(split), "apply_": called(apply_), "map_": called(map_), "new": new,
    "module_load": module_load, "__iter__": _iterator, "__reversed__": _reversed,
    "__deepcopy__": _deepcopy,
    "__reduce_ex__": _reduce, "__array_priority__": 1000, "__array_wrap__": beside_arrays.array_wrap, "to": to,
    "type_as": type_as, "cpu": cpu, "cuda": cuda, "numpy": sharing.numpy,
    "backward": tensor_backward, "detach": detach, "detach_": detach_, "retain_grad": retain_grad,
    "_up_to_date": up_to_date,
    "register_hook": register_hook, "register_post_accumulate_grad_hook": register_post_accumulate_grad_hook,
    "ndimension": Tensor.dim, "where": where,
    "type": property(TypeOf), "T": property(views.reversed_dims), "mT": property(views.matrix_transposed),
    "data": property(_get_data, _set_data),
    "is_cuda": property(lambda self: self.device.type == "cuda", doc="Whether it lies on a GPU."),
    "_is_view": _is_view,
    "real": property(_real), "imag": property(_imag), "conj": _itself("conj"), "resolve_conj": _itself("resolve_conj"),
    "resolve_neg": _itself("resolve_neg"), "H": property(views.reversed_dims), "mH": property(views.matrix_transposed),
    "adjoint": views.matrix_transposed,
    "conj_physical": views.clone, "conj_physical_": facts.itself, "cfloat": _to_complex("complex64"),
    "cdouble": _to_complex("complex128"),
    "stft": _spectrogram("stft"), "istft": _spectrogram("istft"),
    "retains_grad": property(lambda self: self._retains_grad, doc="Whether `retain_grad()` was asked for."),
    "itemsize": property(Tensor.element_size),
}


# Of the methods in place, those that PyTorch also has as functions.
_IN_PLACE_FUNCTIONS: Final = frozenset("""
    abs_ acos_ acosh_ addmv_ arccos_ arccosh_ arcsin_ arcsinh_ arctan_ arctanh_ as_strided_ asin_ asinh_ atan_
    atanh_ ceil_ clamp_ clamp_max_ clamp_min_ clip_ cos_ cosh_ deg2rad_ detach_ erf_ erfc_ exp2_ exp_ expm1_ fill_
    fix_ floor_ frac_ gcd_ i0_ index_put_ lcm_ ldexp_ log10_ log1p_ log2_ log_ logit_ nan_to_num_ neg_ negative_
    rad2deg_ reciprocal_ resize_as_ round_ rsqrt_ sigmoid_ sin_ sinc_ sinh_ sqrt_ square_ tan_ tanh_ trunc_ xlogy_
    zero_""".split())


def attach() -> None:
    """Give Tensor its methods."""
    for name, function in BINARY.items():
        setattr(Tensor, f"__{name}__", _operator(function, _BESIDE[name]))
        setattr(Tensor, f"__r{name}__", _reflected(function))
        setattr(Tensor, f"__i{name}__", _assigning(function, f"__i{name}__"))
    for name, function in COMPARISONS.items():
        setattr(Tensor, f"__{name}__", _operator(function, _BESIDE_COMPARED.get(name)))
    for name, unary in UNARY.items():
        setattr(Tensor, f"__{name}__", unary)
    for name, dtype in CONVERSIONS.items():
        setattr(Tensor, name, _conversion(dtype))
    for table in (FUNCTIONS, RENAMED, inplace.METHODS, distributions.METHODS, shape_in_place.METHODS, facts.METHODS,
                  sharing.METHODS, missing.METHODS, OTHERS):
        for name, method in table.items():
            setattr(Tensor, name, method)

    Tensor.__new__ = typed.new_tensor_of_class      # type: ignore[method-assign,assignment]


def _function_of(method: Callable[..., Any], name: str) -> Callable[..., Any]:
    def function(input: Tensor, *args: Any, **kwargs: Any) -> Any:
        return method(one_tensor(name, input), *args, **kwargs)

    function.__name__ = function.__qualname__ = name
    function.__module__, function.__doc__ = "flambeau", method.__doc__
    return function


IN_PLACE: Final = {name: _function_of(method, name)
                   for table in (inplace.METHODS, distributions.METHODS, shape_in_place.METHODS, OTHERS)
                   for name, method in table.items() if name in _IN_PLACE_FUNCTIONS}
attach()
