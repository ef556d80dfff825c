"""Tensor: a typed view of a Storage, with PyTorch's names. Operators and methods are attached by `methods.py`."""
from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from flambeau.frontend.active import active
from flambeau.frontend.epoch import epoch, grad_epoch
from flambeau.frontend.tensor.device import CPU, Device, device_named
from flambeau.frontend.tensor.storage import DeviceStorage, Storage
from flambeau.frontend.tensor.strides import is_row_major, place_in, plain_place, strides_of
from flambeau.ir import dtypes as dt
from flambeau.ir.answers import known
from flambeau.ir.dtypes import DType
from flambeau.ir.markup import folded
from flambeau.ir.ops import View
from flambeau.ir.types import TensorType

if TYPE_CHECKING:
    from flambeau.frontend.method_types import TensorMethods
    from flambeau.frontend.tape.autograd import Record
else:
    TensorMethods = object                  # methods.py attaches them


class Size(tuple[int, ...]):
    """A shape: a tuple with `numel()`, printed as PyTorch prints it."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        """By ranks first: sizes with names are asked about (`ir.dims`) only where the others don't tell."""
        return isinstance(other, tuple) and len(self) == len(other) and tuple.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = tuple.__hash__

    def numel(self) -> int:
        count = 1
        for size in self:
            count *= size
        return count

    def __repr__(self) -> str:
        return f"flambeau.Size({[int(size) for size in self] if known() is not None else list(self)})"


class Tensor(TensorMethods):
    """An n-dimensional array that autograd and the tracer understand. Made by `fb.tensor`, `fb.zeros`, ...

    A view shares `_storage` with its base: `_base` is the tensor that owns the storage's layout and `_chain` the
    view ops that lead from it, so that a write through the view can be expressed on the base (`_chain` is () and
    `_base` None for a tensor that is its own base)."""

    __slots__ = ("__weakref__", "_array", "_base", "_chain", "_grad", "_history", "_hooks", "_index", "_origin",
                 "_pinned", "_record", "_requires_grad", "_retains_grad", "_saved_version", "_storage", "_type",
                 "_unwatched")

    _storage: Storage
    _type: TensorType
    _array: np.ndarray | None               # the data, once somebody asked for it
    _base: Tensor | None
    _chain: tuple[View, ...]
    _history: int                           # how often the tape of a base, and as far as a view knows it, was rewritten
    _requires_grad: bool
    _retains_grad: bool
    _record: Record | None                  # the operation that made it
    _index: int                             # which of its results it is
    _grad: Tensor | None
    _hooks: dict[int, Any] | None           # of a leaf; see gradient_hooks.py
    _pinned: str | None                     # why a view can't follow an in-place change on the tape
    _origin: Tensor | None                  # of an alias on the tape: the leaf it stands for
    _saved_version: int                     # of an alias on the tape: the version it needs; -1 for other tensors
    _unwatched: bool                        # x.data: writes to it, and to views of it, leave the version as it is

    def __init__(self, *args: Any, **kwargs: Any):
        """`fb.Tensor(2, 3)`, `fb.Tensor([1.0, 2.0])`: PyTorch's old constructor, which `__new__` is (see typed.py)."""

    @staticmethod
    def _make(storage: Storage, type: TensorType, array: np.ndarray | None = None, base: Tensor | None = None,
              chain: tuple[View, ...] = (), cls: type[Tensor] | None = None) -> Tensor:
        self = object.__new__(cls or Tensor)
        self._storage, self._type, self._array, self._base, self._chain = storage, type, array, base, chain
        self._requires_grad = self._retains_grad = self._unwatched = False
        self._record = self._grad = self._origin = self._hooks = self._pinned = None
        self._index = self._history = 0
        self._saved_version = -1
        return self

    @staticmethod
    def _from_array(array: np.ndarray, dtype: DType, cls: type[Tensor] | None = None) -> Tensor:
        """A tensor over `array` (storage layout of dtype), not copied."""
        storage = Storage(array)
        if array.base is not None:
            storage.share()
        return Tensor._make(storage, TensorType(array.shape, dtype), array, cls=cls)

    def _bare_base(self) -> Tensor | None:
        """What a view of this memory that is no part of this tensor's history has as its base."""
        base = self._base
        return None if base is None else Tensor._make(base._storage, base._type, base._array)

    # -- what it is -------------------------------------------------------------------------------------------------

    @property
    def shape(self) -> Size:
        """The sizes of the dims: a tuple that counts too (`x.shape.numel()`)."""
        return Size(self._type.shape)  # type: ignore[arg-type]

    @property
    def type(self) -> TensorType:
        """The dtype and the shape, as the compiler sees them."""
        return self._type

    @property
    def dtype(self) -> DType:
        """The type of the elements: `fb.float32`, ..."""
        return self._type.dtype

    @property
    def device(self) -> Device:
        """Where the elements lie: `cpu`, `cuda:0`, ..."""
        name = self._type.device
        return CPU if name == "cpu" else device_named(name)

    @property
    def ndim(self) -> int:
        """Number of dims."""
        return len(self._type.shape)

    def dim(self) -> int:
        """Number of dims."""
        return len(self._type.shape)

    def size(self, dim: int | None = None) -> Any:
        """The shape, or the size of one dim. Raises IndexError for a dim out of range."""
        if dim is None:
            return self.shape
        return self._type.shape[self._place(dim, "size")]

    def _place(self, dim: Any, name: str) -> int:
        """A dim of this tensor. Raises TypeError, IndexError for what is none."""
        rank = len(self._type.shape)
        if not hasattr(type(dim), "__index__"):
            raise TypeError(f"{name}: dim must be an int, got {dim!r}")
        number: int = dim.__index__()
        if not -rank <= number < rank:
            raise IndexError(f"{name}: dim {number} is out of range for a tensor of {rank} dims")
        return number

    def numel(self) -> int:
        """Number of elements."""
        return self._type.numel

    nelement = numel

    def element_size(self) -> int:
        """Bytes of one element."""
        return self._type.dtype.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of all elements, one that `expand` repeats counted each time."""
        return self._type.nbytes

    def is_floating_point(self) -> bool:
        """Whether the elements are float16, bfloat16, float32 or float64."""
        return self._type.dtype.is_floating_point

    def is_complex(self) -> bool:
        """Whether the elements are complex numbers."""
        return False

    # -- its data ---------------------------------------------------------------------------------------------------

    def _data(self) -> np.ndarray:
        """The storage-layout ndarray under this tensor (bf16 as uint16 bits); a view, never a copy.

        Raises TraceError for a traced tensor, which has no data."""
        tracer = active.tracer
        if tracer is not None and self._storage.trace is None:
            return tracer.data_of(self)
        array = self._array
        if array is None:
            storage = self._storage
            if storage.trace is not None:
                found: np.ndarray = storage.trace.data_of(self)
                return found
            if storage.is_elsewhere:
                return self._fetched()
            array = self._base._data() if self._base is not None else storage.array
            for op in self._chain:
                array = op.evaluate(array)  # type: ignore[assignment]
            self._array = array
        return array

    def _fetched(self) -> np.ndarray:
        """A copy on the host of what lies on another device: read-only, and made anew each time."""
        storage, place = self._storage, plain_place(self)
        assert isinstance(storage, DeviceStorage), "it lies elsewhere"
        if place is not None:
            return storage.fetched(place, self._type)
        array = storage.array
        for op in self._chain:
            array = op.evaluate(array)  # type: ignore[assignment]
        return array

    def data_ptr(self) -> int:
        """Address of the first element."""
        if self._storage.trace is None:
            self._storage.share(address=True)
        return self._address()

    def _address(self) -> int:
        if self._storage.is_elsewhere:
            return self._storage.buffer.ptr + self.storage_offset() * self._type.dtype.itemsize
        array = self._data()
        buffer = self._storage.buffer
        if array is self._storage._array:
            return buffer.ptr
        return int(array.__array_interface__["data"][0])

    def is_contiguous(self, memory_format: Any = None) -> bool:
        """True when the elements lie in row-major order without gaps. memory_format is accepted."""
        return is_row_major(self._type.static_shape, strides_of(self))

    def stride(self, dim: int | None = None) -> Any:
        """Step between neighbours along each dim, in elements."""
        strides = strides_of(self)
        return strides if dim is None else strides[self._place(dim, "stride")]

    def storage_offset(self) -> int:
        """Elements between the start of the storage and the first element."""
        if self._storage.is_elsewhere:
            return 0 if self._base is None else place_in(self._storage.base, self._chain)[0]    # type: ignore[attr-defined]
        return (self._address() - self._storage.buffer.ptr) // self._type.dtype.itemsize

    @property
    def _version(self) -> int:
        """How often the storage was changed in place."""
        return self._storage.version

    # -- autograd ---------------------------------------------------------------------------------------------------

    @property
    def requires_grad(self) -> bool:
        """True when operations on this tensor are recorded for backward()."""
        base = self._base
        if base is None or self._history == base._history:
            return self._requires_grad
        if self._pinned is not None:        # it can't be used any more where that is recorded
            return base._requires_grad
        self._up_to_date()
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if not self.is_leaf:
            raise RuntimeError("requires_grad can only be set on leaf tensors; use detach() for a tensor that was computed")
        self.requires_grad_(value)

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Ask autograd to record operations on this tensor. Raises RuntimeError for non-float dtypes, and when
        turning it off on a tensor that is not a leaf."""
        if requires_grad and not self._type.dtype.is_floating_point:
            raise RuntimeError("only tensors of floating-point dtype can require gradients, this one is "
                               f"{self.dtype!r}")
        self._up_to_date()
        if not requires_grad and self._record is not None:
            raise RuntimeError("requires_grad can only be turned off on leaf tensors; use detach() for a tensor "
                               "that was computed")
        if self._requires_grad is not bool(requires_grad):
            if active.tracer is not None:
                active.tracer.meet(self)                # as it was before
            self._requires_grad = bool(requires_grad)
            epoch.bump()
        return self

    @property
    def grad(self) -> Tensor | None:
        """The gradient that backward() left, of the same type; None before."""
        tracer = active.tracer
        if tracer is not None:
            return tracer.get_grad(self)
        grad_epoch.bump()
        return self._grad

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        if value is not None:
            if not isinstance(value, Tensor):
                raise TypeError(f"grad must be a Tensor or None, got {type(value).__name__}")
            if value._type != self._type:
                raise RuntimeError(f"grad must have the type of its tensor: {self._type}, got {value._type}")
        if active.tracer is None:
            grad_epoch.bump()
            self._grad = value
        else:
            active.tracer.set_grad(self, value)

    @property
    def is_leaf(self) -> bool:
        """True when no recorded operation made this tensor."""
        self._up_to_date()
        return self._record is None if active.tracer is None else active.tracer.is_leaf(self)

    @property
    def grad_fn(self) -> Record | None:
        """The record of the operation that made this tensor; None for leaves."""
        self._up_to_date()
        return self._record if active.tracer is None else active.tracer.record_of(self)

    # -- Python protocol --------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        if not self._type.shape:
            raise TypeError("len() of a 0-d tensor")
        return self._type.static_shape[0]

    def __hash__(self) -> int:
        return id(self)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        array = self.numpy()
        return array.astype(dtype) if dtype is not None and array.dtype != dtype else array

    def item(self) -> Any:
        """The only element as a Python number. Raises RuntimeError if there is not exactly one."""
        data = self._data()
        if data.size != 1:
            raise RuntimeError(f"item(): a tensor with {data.size} elements has no single value")
        return (dt.bf16_to_f32(data) if self.dtype is dt.bf16 else data).item()

    def tolist(self) -> Any:
        """Nested Python lists of the elements (a number for a 0-d tensor)."""
        data = self._data()
        return (dt.bf16_to_f32(data) if self.dtype is dt.bf16 else data).tolist()

    def __bool__(self) -> bool:
        if self._storage.trace is None and self._data().size != 1:
            raise RuntimeError(f"the truth value of a tensor with {self._data().size} elements is ambiguous; "
                               "use .any() or .all()")
        return bool(self.item())

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        if self.dtype.is_floating_point:
            raise TypeError("only integer tensors of a single element can be converted to an index")
        return int(self.item())

    def __contains__(self, value: object) -> bool:
        return bool((self._data() == value).any())

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if not self._type.shape and self._storage.trace is None else str(self)

    def _repr_html_(self) -> str:
        """What a notebook shows: type and numbers."""
        return folded(f"tensor {self._type}{', requires grad' * self._requires_grad}", repr(self))

    def __repr__(self) -> str:
        if self._storage.trace is not None:
            shown: str = self._storage.trace.shown(self)
            return shown
        return _format(self)


printed: dict[str, Any] = {"precision": 4, "threshold": 1000}     # what set_printoptions() changes


def _format(tensor: Tensor) -> str:
    """tensor([[1., 2.]], dtype=...) in NumPy's layout with PyTorch's trailing facts."""
    data = tensor._data()
    shown = dt.bf16_to_f32(data) if tensor.dtype is dt.bf16 else data
    text = np.array2string(shown, separator=", ", prefix="tensor(", **printed)
    facts = [text]
    if tensor._type.device != "cpu":
        facts.append(f"device='{tensor._type.device}'")
    if tensor.dtype not in (dt.f32, dt.i64, dt.bool_):
        facts.append(f"dtype={tensor.dtype!r}")
    if 0 in tensor.shape:
        facts.append(f"size={tuple(tensor.shape)}")
    if tensor._record is not None:
        facts.append(f"grad_fn=<{tensor._record.name}>")
    elif tensor._requires_grad:
        facts.append("requires_grad=True")
    return f"tensor({', '.join(facts)})"


__all__ = ["Size", "Tensor", "printed"]
