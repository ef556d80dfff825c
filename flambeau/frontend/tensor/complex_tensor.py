"""Complex tensors: a real tensor whose last dim holds (real part, imaginary part), under PyTorch's complex interface.

The pair is all there is. What is done to a complex tensor is done to its pair in real ops, so the tape, a trace and a
compiled program know nothing of complex numbers, and a gradient is PyTorch's by itself: the derivative by the real part,
plus i times the one by the imaginary part. As a container of one tensor it passes into and out of compiled functions.

The slots of a Tensor stay empty here. A function that takes no complex tensors stumbles over the first one that it reads,
and then `functions/calls.py` hands over to the function of the same name in `functions/complex_table.py`, or raises
NotImplementedError. So real tensors pay nothing for complex ones.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from flambeau.frontend.tensor.tensor import Size, Tensor
from flambeau.ir import dtypes as dt
from flambeau.ir.dtypes import DType


class ComplexDType:
    """complex64 or complex128: two numbers of dtype `component`."""

    __slots__ = ("component", "itemsize", "torch_name")

    kind = "complex"
    is_complex, is_floating_point, is_integer, is_signed = True, False, False, True
    is_complex_operand = True               # see functions/stumbles.py

    def __init__(self, torch_name: str, component: DType):
        self.torch_name, self.component, self.itemsize = torch_name, component, 2 * component.itemsize

    def to_real(self) -> DType:
        """The dtype of the parts."""
        return self.component

    def to_complex(self) -> ComplexDType:
        """Itself."""
        return self

    def __repr__(self) -> str:
        return f"flambeau.{self.torch_name}"

    def __reduce__(self) -> tuple[Any, ...]:
        return complex_of, (self.component,)

    def __deepcopy__(self, memo: object) -> ComplexDType:
        return self


complex64: Final = ComplexDType("complex64", dt.f32)
complex128: Final = ComplexDType("complex128", dt.f64)


def complex_of(component: DType) -> ComplexDType:
    """The complex dtype of parts in `component`; of 16-bit floats and integers, that of float32."""
    return complex128 if component is dt.f64 else complex64


class RealOnlyError(AttributeError, NotImplementedError, RuntimeError):
    """A function of real tensors was given a complex one."""


def _empty_slot() -> Any:
    def read(self: ComplexTensor) -> Any:
        raise RealOnlyError(f"a function that takes real tensors only: not implemented for {self.dtype.torch_name}; "
                            "compute with view_as_real(z), or with z.real and z.imag")

    return property(read)


@dataclass(init=False, repr=False, eq=False)
class ComplexTensor(Tensor):
    """A tensor of complex numbers. `_pair`: [..., 2], real and imaginary parts, f32 or f64."""

    __slots__ = ("_pair",)

    _pair: Tensor

    is_complex_operand = True               # see functions/stumbles.py
    _type, _storage, _saved_version, _base = _empty_slot(), _empty_slot(), _empty_slot(), _empty_slot()

    @staticmethod
    def of(pair: Tensor) -> ComplexTensor:
        """Over this memory."""
        self = object.__new__(ComplexTensor)
        self._pair = pair
        return self

    __hash__ = Tensor.__hash__

    # -- what it is -------------------------------------------------------------------------------------------------

    @property
    def shape(self) -> Size:
        return Size(self._pair.shape[:-1])

    @property
    def dtype(self) -> Any:
        return complex_of(self._pair.dtype)

    @property
    def device(self) -> Any:
        return self._pair.device

    @property
    def ndim(self) -> int:
        return self._pair.ndim - 1

    def dim(self) -> int:
        """Number of dims."""
        return self._pair.ndim - 1

    def size(self, dim: int | None = None) -> Any:
        """The shape, or the size of one dim. Raises IndexError for a dim out of range."""
        shape = self.shape
        return shape if dim is None else shape[dim]

    def numel(self) -> int:
        """Number of elements."""
        return self._pair.numel() // 2

    nelement = numel

    def element_size(self) -> int:
        """Bytes of one element."""
        return 2 * self._pair.element_size()

    @property
    def itemsize(self) -> int:         # type: ignore[override]
        return self.element_size()

    @property
    def nbytes(self) -> int:
        return self._pair.nbytes

    def is_floating_point(self) -> bool:
        return False

    def is_complex(self) -> bool:
        return True

    # -- its data ---------------------------------------------------------------------------------------------------

    def _numbers(self) -> np.ndarray:
        """The data as complex numbers: a view where parts lie side by side."""
        data = self._pair._data()
        kind = np.complex64 if self._pair.dtype is dt.f32 else np.complex128
        if data.strides[-1] != data.itemsize:
            data = np.ascontiguousarray(data)
        return np.asarray(data.view(kind)[..., 0])

    def _data(self) -> np.ndarray:
        return self._numbers()

    def numpy(self, *, force: bool = False) -> np.ndarray:
        """The data as a complex ndarray that shares memory.

        Raises RuntimeError for a tensor that requires grad (use detach() first, or force), TraceError under trace."""
        self._pair.numpy(force=force)
        return self._numbers()

    def item(self) -> complex:
        """The only element as a Python number. Raises RuntimeError if there is not exactly one."""
        data = self._numbers()
        if data.size != 1:
            raise RuntimeError(f"item(): a tensor with {data.size} elements has no single value")
        return complex(data.item())

    def tolist(self) -> Any:
        """Nested Python lists of the elements (a number for a 0-d tensor)."""
        return self._numbers().tolist()

    def __complex__(self) -> complex:
        return self.item()

    def __bool__(self) -> bool:
        if self.numel() != 1:
            raise RuntimeError(f"the truth value of a tensor with {self.numel()} elements is ambiguous; "
                               "use .any() or .all()")
        return bool(self.item())

    def __float__(self) -> float:
        return _real_of(self.item(), "float")

    def __int__(self) -> int:
        return int(_real_of(self.item(), "int"))

    def __index__(self) -> int:
        raise TypeError("only integer tensors of a single element can be converted to an index")

    def __contains__(self, value: object) -> bool:
        return bool((self._numbers() == value).any())

    def __len__(self) -> int:
        if not self.ndim:
            raise TypeError("len() of a 0-d tensor")
        return self.shape[0]

    def data_ptr(self) -> int:
        """Address of the first element."""
        return self._pair.data_ptr()

    def is_contiguous(self, memory_format: Any = None) -> bool:
        """True when the elements lie in row-major order without gaps."""
        return self._pair.is_contiguous()

    def stride(self, dim: int | None = None) -> Any:
        """Step between neighbours along each dim, in elements."""
        strides = tuple([step // 2 for step in self._pair.stride()[:-1]])
        return strides if dim is None else strides[dim]

    def storage_offset(self) -> int:
        """Elements between the start of the storage and the first element."""
        return self._pair.storage_offset() // 2

    @property
    def _version(self) -> int:
        return self._pair._version

    def __repr__(self) -> str:
        if self._pair._storage.trace is not None:
            return f"tensor(<complex, {self._pair!r}>)"
        text = np.array2string(self._numbers(), separator=", ", prefix="tensor(", precision=4, threshold=1000)
        facts = [text]
        if self._pair._type.device != "cpu":
            facts.append(f"device='{self._pair._type.device}'")
        if self._pair.dtype is dt.f64:
            facts.append("dtype=flambeau.complex128")
        if 0 in self.shape:
            facts.append(f"size={tuple(self.shape)}")
        if self.grad_fn is not None:
            facts.append(f"grad_fn=<{self.grad_fn.name}>")
        elif self.requires_grad:
            facts.append("requires_grad=True")
        return f"tensor({', '.join(facts)})"

    # -- autograd ---------------------------------------------------------------------------------------------------

    @property
    def requires_grad(self) -> bool:
        """True when operations on this tensor are recorded for backward()."""
        return self._pair.requires_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        self._pair.requires_grad = value

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Ask autograd to record operations on this tensor."""
        self._pair.requires_grad_(requires_grad)
        return self

    @property
    def grad(self) -> Tensor | None:
        """The gradient that backward() left: the derivative by the real part, plus i times that by the imaginary part."""
        grad = self._pair.grad
        return None if grad is None else ComplexTensor.of(grad)

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        self._pair.grad = value._pair if isinstance(value, ComplexTensor) else value

    @property
    def is_leaf(self) -> bool:
        """True when no recorded operation made this tensor."""
        return self._pair.is_leaf

    @property
    def grad_fn(self) -> Any:
        """The record of the operation that made this tensor; None for leaves."""
        return self._pair.grad_fn

    @property
    def retains_grad(self) -> bool:     # type: ignore[override]
        return self._pair.retains_grad

    def retain_grad(self) -> None:
        """Add this computed tensor's gradient to its `.grad` at every backward, as for leaves."""
        self._pair.retain_grad()

    def register_hook(self, hook: Callable[[Tensor], Tensor | None]) -> Any:
        """Call hook(gradient), which may give another one, whenever this tensor's gradient is computed."""
        def on_pair(grad: Tensor) -> Tensor | None:
            found = hook(ComplexTensor.of(grad))
            return found._pair if isinstance(found, ComplexTensor) else found

        return self._pair.register_hook(on_pair)

    def backward(self, gradient: Tensor | None = None, retain_graph: bool | None = None, create_graph: bool = False,
                 inputs: Any = None) -> None:
        """Add the gradients to `.grad` of the leaves; `gradient` is needed: a complex number has no one derivative."""
        if not isinstance(gradient, ComplexTensor):
            raise RuntimeError("grad can be implicitly created only for real scalar outputs but got "
                               f"{self.dtype!r}; pass a complex gradient")
        self._pair.backward(gradient._pair, retain_graph, create_graph, inputs)

    def detach(self) -> Tensor:
        """The same memory, off the tape."""
        return ComplexTensor.of(self._pair.detach())

    def detach_(self) -> Tensor:
        """Take this tensor off the tape."""
        self._pair.detach_()
        return self

    @property
    def data(self) -> Tensor:
        """The same memory, off the tape, which does not notice what is written to it."""
        return ComplexTensor.of(self._pair.data)

    @data.setter
    def data(self, value: Any) -> None:
        self._pair.data = value._pair

    def _up_to_date(self) -> None:
        self._pair._up_to_date()

    # -- copies -----------------------------------------------------------------------------------------------------

    def cpu(self, memory_format: Any = None) -> Tensor:
        """On the CPU: itself where it is there."""
        return self._on("cpu")

    def cuda(self, device: Any = None, non_blocking: bool = False, memory_format: Any = None) -> Tensor:
        """On a GPU, by default the current one."""
        return self._on("cuda" if device is None else device)

    def _on(self, device: Any) -> Tensor:
        pair = self._pair.cpu() if device == "cpu" else self._pair.cuda(device)
        return self if pair is self._pair else ComplexTensor.of(pair)

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if id(self) not in memo:
            made = memo[id(self)] = object.__new__(type(self))
            made._pair = self._pair.__deepcopy__(memo)
        return memo[id(self)]

    def __reduce_ex__(self, protocol: Any = 2) -> tuple[Any, ...]:
        return ComplexTensor.of, (self._pair,)


def _real_of(value: complex, kind: str) -> float:
    if value.imag:
        raise RuntimeError(f"value cannot be converted to type {kind} without overflow: {value} has an imaginary part")
    return value.real


__all__ = ["ComplexDType", "ComplexTensor", "complex64", "complex128", "complex_of"]
