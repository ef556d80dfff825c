"""Module 1: variables with a history, which is a view of our tape, and backpropagation by MiniTorch's protocol."""
from __future__ import annotations

import functools
import weakref
from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any

import flambeau as fb
from flambeau.frontend.tape.autograd import Record, key_of, origin_of
from flambeau.frontend.tape.backward import TensorBuilder
from flambeau.ir.records import dataclass


def central_difference(f: Any, *vals: Any, arg: int = 0, epsilon: float = 1e-6) -> Any:
    """The slope of f(*vals) along argument `arg`, from the values at epsilon on both sides."""
    above, below = ([v + step if i == arg else v for i, v in enumerate(vals)] for step in (epsilon, -epsilon))
    return (f(*above) - f(*below)) / (2 * epsilon)


@dataclass
class Context:
    """What `forward` leaves for `backward`."""

    no_grad: bool = False
    saved_values: tuple[Any, ...] = ()

    def save_for_backward(self, *values: Any) -> None:
        """Keep values, unless no_grad."""
        if not self.no_grad:
            self.saved_values = values

    @property
    def saved_tensors(self) -> tuple[Any, ...]:
        """The values kept."""
        return self.saved_values


@dataclass
class History:
    """How a variable came about: the function, its context and its inputs. All empty for a leaf."""

    last_fn: type[Function] | None = None
    ctx: Context | None = None
    inputs: Sequence[Variable] = ()


# The names of leaves, by the id of the tensor: histories make variables anew. In an object of C, because a compiled step,
# whose SGD names the parameters again, would take a dict that it sees for state of the program.
_NAMES: ContextVar[dict[int, tuple[weakref.ref[fb.Tensor], str]]] = ContextVar("names", default={})     # noqa: B039


class Variable:
    """What Scalar and Tensor share: `value`, a tensor of ours, whose record on the tape is the history."""

    value: fb.Tensor

    def _like(self, value: fb.Tensor) -> Any:
        """A variable of this kind around a tensor."""
        raise NotImplementedError

    def _given(self, derivative: Any) -> fb.Tensor:
        """A derivative as a tensor of the value's shape."""
        raise NotImplementedError

    def _told(self, derivative: fb.Tensor) -> Any:
        """A derivative as users of this kind of variable know it."""
        raise NotImplementedError

    @property
    def unique_id(self) -> int:
        """One number for one place on the tape."""
        return hash(key_of(self.value))

    @property
    def name(self) -> str:
        """The name that it, or the leaf around the same tensor, was given; or else its number."""
        tensor, name = _NAMES.get().get(id(self.value), (None, ""))
        return self.__dict__.get("_name") or (name if tensor and tensor() is self.value else str(self.unique_id))

    @name.setter
    def name(self, name: str) -> None:
        self.__dict__["_name"] = name
        if self.value.is_leaf:
            names, key = _NAMES.get(), id(self.value)
            names[key] = weakref.ref(self.value, lambda _: names.pop(key, None)), name

    @property
    def history(self) -> History | None:
        """None for a constant."""
        if not self.value.requires_grad:
            return None
        record = self.value.grad_fn
        if record is None:
            return History()
        inputs = [self._like(origin_of(operand)) for operand in record.operands]
        applied: Any = getattr(record.op, "ctx", None)      # of a Function of ours
        if hasattr(applied, "call"):
            return History(applied.call.fn, applied.call.ctx, inputs)
        return History(_function_named(getattr(applied, "compares", record.name)), Context(), inputs)

    def is_leaf(self) -> bool:
        """True for a variable that can have a derivative and was not computed."""
        return self.value.requires_grad and self.value.is_leaf

    def is_constant(self) -> bool:
        """True for a variable without derivative."""
        return not self.value.requires_grad

    @property
    def parents(self) -> Sequence[Variable]:
        """The inputs of the function that made it."""
        history = self.history
        assert history is not None, "a constant has no parents"
        return history.inputs

    def chain_rule(self, d_output: Any) -> list[tuple[Variable, Any]]:
        """The inputs that can have a derivative, each with its share of d_output."""
        record = self.value.grad_fn
        assert isinstance(record, Record), "a leaf or a constant was not computed"
        results = record.saved_results()
        cotangents = [self._given(d_output) if i == self.value._index else None for i in range(len(results))]
        rule: Any = record.op.vjp                   # written for values of graphs
        shares = rule(TensorBuilder(), record.operands, results, cotangents)
        return [(self._like(origin_of(operand)), self._told(share))
                for operand, share in zip(record.operands, shares, strict=True)
                if operand.requires_grad and share is not None]

    def accumulate_derivative(self, x: Any) -> None:
        """Add x to the derivative of a leaf."""
        assert self.is_leaf(), "only leaf variables have derivatives"
        before, share = self.value.grad, self._given(x)
        self.value.grad = share if before is None else before + share

    def backward(self, d_output: Any = None) -> None:
        """Accumulate the derivatives of all leaves; d_output is 1 where it is left out."""
        if self.value.requires_grad:
            self.value.backward(None if d_output is None else self._given(d_output), retain_graph=True)


def topological_sort(variable: Any) -> list[Any]:
    """The variables that lead to this one, without constants: each before its parents."""
    order: list[Any] = []
    seen: set[int] = set()
    stack = [(variable, False)]
    while stack:
        current, done = stack.pop()
        if done:
            order.append(current)
        elif not current.is_constant() and current.unique_id not in seen:
            seen.add(current.unique_id)
            stack.append((current, True))
            if not current.is_leaf():
                stack.extend((parent, False) for parent in current.parents)
    return order[::-1]


def backpropagate(variable: Any, deriv: Any) -> None:
    """Walk the sorted variables and accumulate derivatives at the leaves, through nothing but the protocol: `chain_rule`,
    `is_leaf` and so on. `variable.backward(deriv)` gives the same by our own walk."""
    derivatives = {variable.unique_id: deriv}
    for current in topological_sort(variable):
        if current.unique_id not in derivatives:
            continue
        found = derivatives.pop(current.unique_id)
        if current.is_leaf():
            current.accumulate_derivative(found)
            continue
        for parent, share in current.chain_rule(found):
            if not parent.is_constant():
                key = parent.unique_id
                derivatives[key] = derivatives[key] + share if key in derivatives else share


# -- functions --------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class _Call:
    """One application of a user's function."""

    fn: type[Function]
    ctx: Context
    maker: Variable                 # of the kind that the function works on
    result: fb.Tensor


class _Recorded(fb.autograd.Function):
    """Puts a call on our tape: the user's backward is its derivative."""

    @staticmethod
    def forward(ctx: Any, call: _Call, *operands: fb.Tensor) -> fb.Tensor:
        ctx.call = call
        return call.result

    @staticmethod
    def backward(ctx: Any, d: fb.Tensor) -> tuple[Any, ...]:
        call = ctx.call
        shares = call.fn._backward(call.ctx, call.maker._told(d))
        return (None, *[getattr(share, "value", share) for share in shares])


def recorded(history: History, maker: Variable, result: fb.Tensor) -> fb.Tensor:
    """`result` as what the function of a history has computed from its inputs."""
    assert history.last_fn is not None and history.ctx is not None, "a history has a function and its context"
    call = _Call(history.last_fn, history.ctx, maker, result)
    found: fb.Tensor = _Recorded.apply(call, *[v.value for v in history.inputs])
    return found


class Function:
    """Static methods `forward(ctx, ...)` and `backward(ctx, d_output)`, applied with `apply`."""

    @classmethod
    def _forward(cls, ctx: Context, *inps: Any) -> Any:
        return cls.forward(ctx, *inps)  # type: ignore[attr-defined]

    @classmethod
    def _backward(cls, ctx: Context, d_out: Any) -> tuple[Any, ...]:
        found = cls.backward(ctx, d_out)  # type: ignore[attr-defined]
        return found if isinstance(found, tuple) else (found,)

    @classmethod
    def apply(cls, *vals: Any) -> Any:
        raise NotImplementedError("use ScalarFunction for scalars, Function for tensors")


_SPELT = {"relu": "ReLU", "lt": "LT", "eq": "EQ", "matmul": "MatMul"}


@functools.cache
def _function_named(name: str) -> type[Function]:
    """A class that stands for an op of ours in histories."""
    return type(_SPELT.get(name) or name.title().replace("_", ""), (Function,), {})


class _ZeroSlope(fb.autograd.Function):
    """A function of steps: its derivative is 0 everywhere, rather than none at all."""

    @staticmethod
    def forward(ctx: Any, fn: Any, x: fb.Tensor, y: fb.Tensor) -> Any:
        ctx.shapes, ctx.compares = (x.shape, y.shape), fn.__name__
        return fn(x, y)

    @staticmethod
    def backward(ctx: Any, d: fb.Tensor) -> tuple[Any, ...]:
        return None, *[fb.zeros(shape, dtype=d.dtype) for shape in ctx.shapes]


def compared(fn: Any, x: fb.Tensor, y: fb.Tensor) -> fb.Tensor:
    """fn(x, y), a comparison, which backpropagation goes through with derivatives of 0."""
    found: fb.Tensor = _ZeroSlope.apply(fn, x, y)
    return found


def value_of(v: Any) -> fb.Tensor:
    """The tensor of a variable; a number becomes one."""
    return v.value if isinstance(v, Variable) else fb.tensor(float(v), dtype=fb.float64)


__all__ = ["Context", "Variable", "backpropagate", "central_difference", "topological_sort"]
