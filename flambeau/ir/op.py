"""What an op is. One declaration holds its attributes, type rule, NumPy meaning, derivative, lowering and samples.

An op is a frozen dataclass whose fields are its attributes, so printing, parsing, hashing and CSE come free.
Attribute values are ints, floats, bools, strings, DTypes, None, tuples of these, or a `Literal` array.
Ops are strict: no implicit broadcast and no promotion (the frontend inserts `broadcast` and `cast`), except that
an elementwise op takes rank-0 operands beside shaped ones.
"""
from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol

import numpy as np

from flambeau.errors import TypeInferenceError
from flambeau.ir.dtypes import DType
from flambeau.ir.outside import note
from flambeau.ir.records import dataclass
from flambeau.ir.types import TensorType

if TYPE_CHECKING:
    from flambeau.ir.builder import Builder
    from flambeau.ir.graph import Graph, Value
    from flambeau.ir.index_maps import Index
    from flambeau.ir.literal import Literal


class Effect(enum.Enum):
    """What an op does beside computing its results. DCE keeps, and CSE never merges, anything but PURE."""

    PURE = "pure"
    IO = "io"


@dataclass(frozen=True)
class Sample:
    """Operands (storage arrays with their types) that exercise an op, for the tests over the whole registry."""

    op: Op
    operands: tuple[np.ndarray, ...]
    types: tuple[TensorType, ...]
    differentiable: tuple[bool, ...] = ()       # per operand; () means every floating-point operand
    tolerance: float = 1.0                      # multiplies the generic error bound


class ScalarContext(Protocol):
    """What an index-to-scalar rule may ask for: it writes SSA at the loop level (see `ir.kernel`)."""

    def operand(self, position: int, index: tuple[Index, ...], guard: int | None = None) -> int:
        """Value id of that operand at `index`; where `guard` (a bool value) is false it is 0 and never read."""

    def emit(self, op: str, dtype: DType, *operands: int, attr: Any = None) -> int:
        """Append one scalar instruction; the value's id."""

    def const(self, value: float | int | bool, dtype: DType) -> int: ...

    def value_of(self, index: Index) -> int:
        """The i64 value of an index expression."""

    def index_of(self, value: int, extent: int) -> Index:
        """An index that is a computed i64 value, known to lie in [0, extent)."""

    def within(self, index: Index, low: int, high: int) -> int | None:
        """Bool value: low <= index < high; None when that always holds."""

    def both(self, a: int | None, b: int | None) -> int | None:
        """Logical and of two optional guards."""


class Op:
    """Base of every op: a frozen dataclass whose fields are its attributes, or an instance of a family without
    attributes. `name` is the IR spelling."""

    name: str
    effect: ClassVar[Effect] = Effect.PURE
    reads_memory: ClassVar[bool] = False    # it reads elements more than once: what computes them is not done again

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        """Result types. Raises TypeInferenceError that says what was asked and what was found."""
        raise NotImplementedError(f"{self.name}: no type rule")

    def evaluate(self, *operands: np.ndarray) -> np.ndarray | tuple[np.ndarray, ...]:
        """The NumPy meaning, on compute arrays (bf16 comes as f32). Results may have a wider dtype; the caller
        rounds them to the inferred one, and hears of no overflow (`ir.quiet`)."""
        raise NotImplementedError(f"{self.name}: no NumPy meaning")

    def vjp(self, b: Builder, operands: Sequence[Value], results: Sequence[Value],
            cotangents: Sequence[Value | None]) -> Sequence[Value | None]:
        """Cotangents of the operands (None where there is no derivative), built with `b` from ops.
        `cotangents[i]` is None when nothing flows into result i; at least one is not None."""
        raise NotImplementedError(f"{self.name}: no derivative rule")

    def jvp(self, b: Builder, operands: Sequence[Value], results: Sequence[Value],
            tangents: Sequence[Value | None]) -> Sequence[Value | None]:
        """Tangents of the results, given those of the operands: forward mode. A None is a tangent of zeros; at least one
        of those given is none. An op without a rule (`has_jvp`) is differentiated forward by way of its `vjp`."""
        raise NotImplementedError(f"{self.name}: no rule for tangents")

    def batched(self, b: Builder, operands: Sequence[Value], mapped: Sequence[bool], size: int) -> Sequence[Value]:
        """The results for each of `size` examples at once, every one with the examples as a further first dim. So are the
        operands that are `mapped`, one at least; the others are the same for all. An op without a rule (`is_batchable`)
        becomes what it decomposes into, or is applied to one example after the other."""
        raise NotImplementedError(f"{self.name}: no rule for batches")

    @property
    def has_jvp(self) -> bool:
        """True when `jvp` is defined."""
        return type(self).jvp is not Op.jvp

    @property
    def is_batchable(self) -> bool:
        """True when `batched` is defined."""
        return type(self).batched is not Op.batched

    def decompose(self, b: Builder, operands: Sequence[Value]) -> Sequence[Value] | None:
        """The same results from simpler ops, or None for an op that lowers by itself."""
        return None

    def composition(self, b: Builder, operands: Sequence[Value]) -> Sequence[Value] | None:
        """What it is made of, where it is also one that a kernel computes as a whole."""
        return self.decompose(b, operands)

    def scalar(self, ctx: ScalarContext, index: tuple[Index, ...], operands: tuple[TensorType, ...],
               result: TensorType) -> int:
        """The result's element at `index` as scalar SSA. Only for ops that `is_pointwise`."""
        raise NotImplementedError(f"{self.name}: not an index-to-scalar op")

    def fault(self, operands: Sequence[TensorType], results: Sequence[TensorType]) -> tuple[int, str] | None:
        """(status, message) that bad data ends its kernel with, where "{0}" stands for what was found; None for an op that
        takes all data."""
        return None

    @property
    def is_pointwise(self) -> bool:
        """True when `scalar` is defined: the op can fold into its consumer's loop."""
        return type(self).scalar is not Op.scalar

    @property
    def kernel_kind(self) -> str | None:
        """The name of the kind of kernel that computes the op (see `flambeau.kinds`): "loop" where it is pointwise. A
        class says otherwise with an attribute, `kernel_kind = "contraction"`. None: only what it decomposes into runs.
        """
        return "loop" if self.is_pointwise else None

    def errors(self, types: Sequence[TensorType], operands: Sequence[np.ndarray], errors: Sequence[np.ndarray | None],
               results: Sequence[np.ndarray]) -> Sequence[np.ndarray | None] | None:
        """How far each element of each result may lie from its meaning where those of the operands may by `errors`; a
        None among them is exact, an infinity is no bound. Floats come as f64; types says what they were. None:
        `ir.graph.rounding` works it out, as it can for ops with one result whose elements move a little where the
        operands' do."""
        return None

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        """Operands for the generic tests. `OPS[name].samples()` works on every entry: a class with attributes makes
        ops of its own, and a family of attribute-less instances overrides this with a method."""
        raise NotImplementedError(f"{cls.__name__}: no samples")

    def fail(self, message: str, hint: str | None = None) -> TypeInferenceError:
        """The error for bad operands, to be raised by the caller: `raise self.fail("...")`."""
        return TypeInferenceError(f"{self.name}: {message}", hint=hint)


class Evaluation(Protocol):
    """How a region is evaluated, on whatever stands for arrays there: arrays, or arrays with their errors."""

    def outputs(self, region: Graph, operands: Sequence[Any]) -> Sequence[Any]:
        """The outputs of `region`, whose inputs are `operands`."""

    def holds(self, predicate: Any) -> bool:
        """Whether a bool[] is true."""


@dataclass(frozen=True)
class Trimmed:
    """What is left of a node whose unused results were dropped: which of its results and operands, and its regions."""

    results: tuple[int, ...]
    operands: tuple[int, ...]
    regions: tuple[Graph, ...]


class RegionOp(Op):
    """An op that holds graphs, called regions, and says what fits them, what they mean together, and what may be done
    with them. A region reads its inputs only, writes nothing and has the effects of its nodes.

    `roles`: what each region is."""

    roles: ClassVar[tuple[str, ...]]

    def infer_regions(self, operands: Sequence[TensorType], regions: Sequence[Graph]) -> tuple[TensorType, ...]:
        """Result types. Raises TypeInferenceError where regions don't fit the operands or each other."""
        raise NotImplementedError(f"{self.name}: no type rule")

    def evaluate_regions(self, evaluation: Evaluation, regions: Sequence[Graph],
                         operands: Sequence[Any]) -> Sequence[Any]:
        """The meaning: results for operands."""
        raise NotImplementedError(f"{self.name}: no meaning")

    def region_of(self, regions: Sequence[Graph], known: Sequence[Literal | None]) -> tuple[Graph, int] | None:
        """The region that is all a node does, and the first of the operands that it takes; None where there is none.
        known: the operands that are constants."""
        return None

    def input_of(self, regions: Sequence[Graph], position: int) -> int | None:
        """The input by which every region sees an operand as it is, whenever it runs; None where none does."""
        return None

    def trimmed(self, regions: Sequence[Graph], used: Sequence[bool]) -> Trimmed | None:
        """Without the results that are not used and the operands that are then not read; None where there are none.
        The regions are edited in place: they keep nodes that nothing reads any more."""
        return None

    def check_count(self, regions: Sequence[Graph]) -> None:
        """Raises TypeInferenceError unless there is one region for each role."""
        if len(regions) != len(self.roles):
            count = {1: "one region", 2: "two regions"}.get(len(self.roles), f"{len(self.roles)} regions")
            roles = f", {' and '.join(self.roles)}," if len(self.roles) > 1 else ""
            raise self.fail(f"needs {count}{roles} and has {len(regions)}")

    def check_inputs(self, region: Graph, number: int, given: Sequence[TensorType]) -> None:
        """Raises TypeInferenceError unless region `number` has inputs of these types."""
        takes = types_of(region.inputs)
        if takes != list(given):
            raise self.fail(f"region {number} takes ({listed(takes)}), is given ({listed(given)})")


def types_of(values: Sequence[Value]) -> list[TensorType]:
    """Their types as rules compare them, which is without devices: see `flambeau.ir.devices`."""
    return [value.type.on("cpu") for value in values]


def listed(types: Sequence[TensorType]) -> str:
    """Types as messages name them."""
    return ", ".join(map(str, types))


OPS: Final[dict[str, type[Op] | Op]] = {}
"""Every op by its IR name: a class for ops with attributes, the one instance for attribute-less ones."""


def register(name: str) -> Callable[[type[Op]], type[Op]]:
    """Class decorator: a frozen dataclass with attributes becomes the op `name`."""

    def add(cls: type[Op]) -> type[Op]:
        assert name not in OPS, f"op {name!r} is declared twice"
        note(name)
        cls.name = name
        OPS[name] = cls
        return cls

    return add


def register_instance(op: Op) -> Op:
    """An attribute-less op, an instance of a family, becomes an entry of OPS."""
    assert op.name not in OPS, f"op {op.name!r} is declared twice"
    note(op.name)
    OPS[op.name] = op
    return op
