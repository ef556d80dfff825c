"""An IRBuilder whose instructions are lines of text from the start.

llvmlite keeps every instruction as an object, finds each an unused name and renders it at the end: 18 us an
instruction, half of the time a kernel took to compile. The instructions that kernels are made of are written out
once here (2 us). Control flow, phis and all that is rare stay llvmlite's; both kinds mix freely. Operand types are
checked here where the text names only one of them, else by LLVM's parser.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import llvmlite.ir as ll

__all__ = ["Line", "TextBuilder", "index_constant"]

_I1, _I64 = ll.IntType(1), ll.IntType(64)
_ORDER = {"<": "lt", "<=": "le", ">": "gt", ">=": "ge", "==": "eq", "!=": "ne"}


class Line(ll.Value):
    """One instruction as text, and the value it makes: its type and the name it goes by ("" for a store)."""

    __slots__ = ("_line", "parent", "reference", "type")

    def __init__(self, parent: ll.Block, kind: ll.Type, reference: str, line: str) -> None:
        self.parent, self.type, self.reference, self._line = parent, kind, reference, line

    def get_reference(self) -> str:
        """How other instructions name the value."""
        return self.reference

    def set_metadata(self, name: str, node: ll.MDValue) -> None:
        """Attach metadata, as llvmlite's instructions do."""
        self._line += f", !{name} {node.get_reference()}"

    def __str__(self) -> str:
        return self._line


@functools.lru_cache(maxsize=4096)
def index_constant(number: int) -> ll.Constant:
    """An i64 constant; the same object for the same number."""
    return ll.Constant(_I64, number)


@functools.cache
def _vector_of_i1(lanes: int) -> ll.Type:
    return ll.VectorType(_I1, lanes)


def _binary(opcode: str) -> Callable[..., ll.Value]:
    def method(
        self: TextBuilder, lhs: ll.Value, rhs: ll.Value, name: str = "", flags: Sequence[str] = ()
    ) -> ll.Value:
        words = f"{opcode} {' '.join(flags)} " if flags else f"{opcode} "
        kind = _common_type(opcode, lhs, rhs)
        return self.line(kind, f"{words}{kind} {lhs.get_reference()}, {rhs.get_reference()}")

    return method


def _cast(opcode: str) -> Callable[..., ll.Value]:
    def method(self: TextBuilder, value: ll.Value, kind: ll.Type, name: str = "") -> ll.Value:
        if value.type == kind:
            return value
        return self.line(kind, f"{opcode} {value.type} {value.get_reference()} to {kind}")

    return method


def _comparison(opcode: str, prefix: str, plain: bool) -> Callable[..., ll.Value]:
    """plain: == and != have no prefix (integers)."""

    def method(
        self: TextBuilder, order: str, lhs: ll.Value, rhs: ll.Value, name: str = "", flags: Sequence[str] = ()
    ) -> ll.Value:
        # fcmp's own names ("ord", "uno") pass.
        word = _ORDER.get(order)
        word = order if word is None else word if plain and word in ("eq", "ne") else prefix + word
        words = f"{opcode} {' '.join(flags)} {word}" if flags else f"{opcode} {word}"
        kind = _common_type(opcode, lhs, rhs)
        result = _vector_of_i1(kind.count) if isinstance(kind, ll.VectorType) else _I1
        return self.line(result, f"{words} {kind} {lhs.get_reference()}, {rhs.get_reference()}")

    return method


class TextBuilder(ll.IRBuilder):
    """llvmlite's builder, of one function, with the frequent instructions overridden. `name` arguments are ignored."""

    def __init__(self, block: ll.Block) -> None:
        super().__init__(block)
        function = block.parent
        # All builders of a function draw from one row of names; llvmlite's own never begin with a digit after "t".
        if not hasattr(function, "line_numbers"):
            function.line_numbers = itertools.count()
        self._numbers: Iterator[int] = function.line_numbers

    def line(self, kind: ll.Type, text: str) -> ll.Value:
        """Insert `%name = text`, a value of type `kind`."""
        reference = f"%t{next(self._numbers)}"
        return self._add(Line(self._block, kind, reference, f"{reference} = {text}"))

    def effect(self, text: str) -> ll.Value:
        """Insert an instruction that makes no value."""
        return self._add(Line(self._block, ll.VoidType(), "", text))

    def _add(self, line: Line) -> Line:
        self._block.instructions.insert(self._anchor, line)
        self._anchor += 1
        return line

    fadd, fsub, fmul, fdiv, frem = map(_binary, ("fadd", "fsub", "fmul", "fdiv", "frem"))
    sdiv, srem = map(_binary, ("sdiv", "srem"))
    and_, or_, xor, shl, lshr, ashr = map(_binary, ("and", "or", "xor", "shl", "lshr", "ashr"))
    _add_text, _sub_text, _mul_text = map(_binary, ("add", "sub", "mul"))
    _udiv_text, _urem_text = map(_binary, ("udiv", "urem"))
    trunc, zext, sext, bitcast = map(_cast, ("trunc", "zext", "sext", "bitcast"))
    fptrunc, fpext = map(_cast, ("fptrunc", "fpext"))
    fptoui, fptosi, uitofp, sitofp = map(_cast, ("fptoui", "fptosi", "uitofp", "sitofp"))
    icmp_signed = _comparison("icmp", "s", plain=True)
    icmp_unsigned = _comparison("icmp", "u", plain=True)
    fcmp_ordered = _comparison("fcmp", "o", plain=False)
    fcmp_unordered = _comparison("fcmp", "u", plain=False)

    def add(self, lhs: ll.Value, rhs: ll.Value, name: str = "", flags: Sequence[str] = ()) -> ll.Value:
        """lhs + rhs; sums of i64 with constants are folded."""
        x, y = _i64_number(lhs), _i64_number(rhs)
        if x is not None and y is not None:
            return index_constant(x + y)
        if x == 0 or y == 0:
            return rhs if x == 0 else lhs
        return self._add_text(lhs, rhs, flags=flags)

    def sub(self, lhs: ll.Value, rhs: ll.Value, name: str = "", flags: Sequence[str] = ()) -> ll.Value:
        """lhs - rhs; differences of i64 with constants are folded."""
        x, y = _i64_number(lhs), _i64_number(rhs)
        if x is not None and y is not None:
            return index_constant(x - y)
        return lhs if y == 0 else self._sub_text(lhs, rhs, flags=flags)

    def mul(self, lhs: ll.Value, rhs: ll.Value, name: str = "", flags: Sequence[str] = ()) -> ll.Value:
        """lhs * rhs; products of i64 with constants are folded."""
        x, y = _i64_number(lhs), _i64_number(rhs)
        if x is not None and y is not None:
            return index_constant(x * y)
        if x == 0 or y == 0:
            return index_constant(0)
        if x == 1 or y == 1:
            return rhs if x == 1 else lhs
        return self._mul_text(lhs, rhs, flags=flags)

    def udiv(self, lhs: ll.Value, rhs: ll.Value, name: str = "", flags: Sequence[str] = ()) -> ll.Value:
        """lhs / rhs without sign; quotients of i64 constants are folded."""
        x, y = _i64_number(lhs), _i64_number(rhs)
        if x is not None and y is not None and x >= 0 and y > 0:
            return index_constant(x // y)
        return lhs if y == 1 else self._udiv_text(lhs, rhs, flags=flags)

    def urem(self, lhs: ll.Value, rhs: ll.Value, name: str = "", flags: Sequence[str] = ()) -> ll.Value:
        """lhs % rhs without sign; remainders of i64 constants are folded."""
        x, y = _i64_number(lhs), _i64_number(rhs)
        if x is not None and y is not None and x >= 0 and y > 0:
            return index_constant(x % y)
        return index_constant(0) if y == 1 else self._urem_text(lhs, rhs, flags=flags)

    def fneg(self, value: ll.Value, name: str = "", flags: Sequence[str] = ()) -> ll.Value:
        """-value, the sign bit flipped."""
        words = f"fneg {' '.join(flags)}" if flags else "fneg"
        return self.line(value.type, f"{words} {value.type} {value.get_reference()}")

    def select(
        self, cond: ll.Value, lhs: ll.Value, rhs: ll.Value, name: str = "", flags: Sequence[str] = ()
    ) -> ll.Value:
        """lhs where cond holds, else rhs."""
        words = f"select {' '.join(flags)}" if flags else "select"
        text = f"{words} {_typed(cond)}, {_typed(lhs)}, {_typed(rhs)}"
        return self.line(lhs.type, text)

    def load(
        self, ptr: ll.Value, name: str = "", align: int | None = None, typ: ll.Type | None = None
    ) -> ll.Value:
        """The value of type `typ` at ptr."""
        assert typ is not None, "pointers are opaque: a load says what it loads"
        suffix = "" if align is None else f", align {align}"
        return self.line(typ, f"load {typ}, ptr {ptr.get_reference()}{suffix}")

    def store(self, value: ll.Value, ptr: ll.Value, align: int | None = None) -> ll.Value:
        """*ptr = value."""
        suffix = "" if align is None else f", align {align}"
        return self.effect(f"store {_typed(value)}, ptr {ptr.get_reference()}{suffix}")

    def gep(
        self,
        ptr: ll.Value,
        indices: Sequence[ll.Value],
        inbounds: bool = False,
        name: str = "",
        source_etype: ll.Type | None = None,
    ) -> ll.Value:
        """The address `indices` elements of `source_etype` past ptr (or each of a vector of pointers)."""
        assert source_etype is not None, "pointers are opaque: an address says what it steps over"
        words = "getelementptr inbounds" if inbounds else "getelementptr"
        places = ", ".join([_typed(i) for i in indices])
        return self.line(ptr.type, f"{words} {source_etype}, {_typed(ptr)}, {places}")

    def extract_element(self, vector: ll.Value, idx: ll.Value, name: str = "") -> ll.Value:
        """One lane."""
        return self.line(vector.type.element, f"extractelement {_typed(vector)}, {_typed(idx)}")

    def insert_element(self, vector: ll.Value, value: ll.Value, idx: ll.Value, name: str = "") -> ll.Value:
        """The vector with one lane replaced."""
        return self.line(vector.type, f"insertelement {_typed(vector)}, {_typed(value)}, {_typed(idx)}")

    def shuffle_vector(self, vector1: ll.Value, vector2: ll.Value, mask: ll.Constant, name: str = "") -> ll.Value:
        """Lanes of two vectors in the order of the constant mask."""
        kind = _vector(vector1.type.element, mask.type.count)
        return self.line(kind, f"shufflevector {_typed(vector1)}, {_typed(vector2)}, {_typed(mask)}")

    def call(
        self,
        fn: Any,
        args: Sequence[ll.Value],
        name: str = "",
        cconv: str | None = None,
        tail: Any = False,
        fastmath: Sequence[str] = (),
        attrs: Sequence[str] = (),
        arg_attrs: Any = None,
    ) -> ll.Value:
        """fn(*args). Inline assembly and calls with attributes are llvmlite's."""
        if not isinstance(fn, ll.Function) or tail or attrs or arg_attrs:
            return super().call(fn, args, name, cconv, tail, fastmath, attrs, arg_attrs)
        kind = fn.function_type.return_type
        words = ["call", *fastmath, cconv or fn.calling_convention, str(kind)]
        text = " ".join([word for word in words if word])
        text = f"{text} {fn.get_reference()}({', '.join([_typed(a) for a in args])})"
        return self.effect(text) if isinstance(kind, ll.VoidType) else self.line(kind, text)


@functools.lru_cache(maxsize=256)
def _vector(element: ll.Type, lanes: int) -> ll.Type:
    return ll.VectorType(element, lanes)


def _typed(value: ll.Value) -> str:
    # A constant's own text is just this, and llvmlite keeps it.
    return str(value) if isinstance(value, ll.Constant) else f"{value.type} {value.get_reference()}"


def _common_type(opcode: str, lhs: ll.Value, rhs: ll.Value) -> ll.Type:
    kind, other = lhs.type, rhs.type
    assert kind is other or kind == other, f"operands of {opcode} are of one type, not {kind} and {other}"
    return kind


def _i64_number(value: ll.Value) -> int | None:
    """The number of an i64 constant, None for anything else."""
    if isinstance(value, ll.Constant) and value.type == _I64 and isinstance(value.constant, int):
        return value.constant
    return None
