"""Stages of scalar code -> lines: instructions, loads and stores, index arithmetic. What all kinds of kernel share."""
from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from flambeau.codegen.cuda import expressions as ex
from flambeau.codegen.cuda.text import KernelText, Writer
from flambeau.ir import dtypes as dt
from flambeau.ir.dtypes import DType
from flambeau.ir.kernel import Address, Extent, Instr, Kernel, Stage, Store
from flambeau.ir.kernel.scalar import STATUS_INT_DIVISION

__all__ = ["Code", "stored_type"]

_DIVIDING = frozenset({"floordiv", "mod", "fmod", "truncdiv"})


class Code:
    """Lines of one kernel. Values are `v<id>`, dims `i<dim>`, buffers `b<param>`, runtime sizes `n_<name>`.

    active: a condition, where threads run along that have no point of their own and touch no memory."""

    def __init__(self, kernel: Kernel, w: Writer):
        self.kernel, self.w = kernel, w
        self.active: str | None = None
        self.acc = ""                                   # what the sum of a contraction is called
        self.dtypes: dict[int, DType] = {}
        self.scratch: list[tuple[str, str, int]] = []   # (name, type, elements) of buffers beside the kernel's params
        self.checked: str | None = None                 # false where a check of this stage failed
        self.size_name = {size: f"n_{size}" for size in kernel.sizes}
        biggest = max([p.elements for p in kernel.params if isinstance(p.elements, int)], default=0)
        points = math.prod([e for e in kernel.extents if isinstance(e, int)])
        self.index = "int64" if kernel.sizes or max(biggest, points) >= 1 << 31 else "uint32"

    def cast(self, text: str) -> str:
        """An index, narrow again."""
        return f"{self.index}({text})"

    def product(self, extents: Sequence[Extent]) -> str:
        """Of extents, as an expression."""
        known = math.prod([e for e in extents if isinstance(e, int)])
        names = [self.size_name[e] for e in extents if isinstance(e, str)]
        return " * ".join([*([str(known)] if known != 1 or not names else []), *names])

    @contextmanager
    def head(self, name: str) -> Iterator[None]:
        """The lines of function `name`, under what is said of its params and where it comes from."""
        kernel = self.kernel
        for number, param in enumerate(kernel.params):
            self.w.line(f"# b{number}: {param.role} {param.name}, {param.dtype}[{param.elements}]")
        for location in kernel.locations:
            self.w.line(f"# {location}")
        buffers = [*[f"b{number}" for number in range(len(kernel.params))], *[each for each, _, _ in self.scratch]]
        with self.w.block(f"def {name}({', '.join(['status', *buffers, *self.size_name.values()])}):"):
            yield

    def finished(self, name: str, extents: tuple[Extent, ...], points: int, threads: int) -> KernelText:
        """The text, and how it is launched."""
        types = ("int64*", *[f"{stored_type(p.dtype)}*" for p in self.kernel.params],
                 *[f"{kind}*" for _, kind, _ in self.scratch], *["int64"] * len(self.size_name))
        elements = (*[p.elements for p in self.kernel.params], *[count for _, _, count in self.scratch])
        return KernelText(name, self.w.text(), types, elements, extents, points, threads, tuple(self.size_name))

    def split(self, flat: str, dims: Sequence[int]) -> None:
        """`i<dim>` for each dim, from their row-major number."""
        extents = self.kernel.extents
        wanted = [d for d in dims if extents[d] != 1]
        if not wanted:
            return
        for position, dim in enumerate(wanted):
            inner = self.product([extents[d] for d in wanted[position + 1:]])
            text = flat if inner == "1" or position == len(wanted) - 1 else f"{flat} // ({inner})"
            if position:
                text = f"{text} % {self.product([extents[dim]])}"
            self.w.line(f"i{dim} = {text if text == flat else self.cast(text)}")

    def body(self, stage: Stage) -> None:
        self.checked = None
        self.instrs(stage.body)

    def instrs(self, body: Sequence[Instr]) -> None:
        for instr in body:
            self.instr(instr)

    def instr(self, instr: Instr) -> None:
        w, operands = self.w, [f"v{v}" for v in instr.operands]
        self.dtypes[instr.id] = instr.dtype
        of = self.dtypes[instr.operands[-1]] if instr.operands else instr.dtype
        name = f"v{instr.id}"
        match instr.op:
            case "const":
                w.line(f"{name} = {ex.constant(instr.attr, instr.dtype)}")                  # type: ignore[arg-type]
            case "index":
                text = f"i{instr.attr}" if self.kernel.extents[instr.attr] != 1 else "0"    # type: ignore[index]
                w.line(f"{name} = int64({text})")
            case "load":
                self.load(name, instr)
            case "acc":
                w.line(f"{name} = {self.acc}")
            case "cast":
                w.line(f"{name} = {ex.cast(operands[0], of, instr.dtype)}")
            case "check":
                w.line(f"{name} = {operands[0]}")
                self.require(name, operands[1], instr.attr)                                 # type: ignore[arg-type]
            case _:
                if instr.op in _DIVIDING and of.is_integer:
                    zero = ex.constant(0, of)
                    w.line(f"{name}_ok = {operands[1]} != {zero}")
                    self.require(f"{name}_ok", "0", STATUS_INT_DIVISION)
                    w.line(f"{name}_by = {operands[1]} if {name}_ok else {ex.constant(1, of)}")
                    operands[1] = f"{name}_by"
                w.line(f"{name} = {ex.expression(instr.op, of, operands, instr.attr)}")

    def require(self, fine: str, detail: str, status: int) -> None:
        """Report where `fine` is false; what comes after loads and stores nothing there."""
        with self.w.block(f"if {f'{self.active} and ' if self.active else ''}not {fine}:"):
            self.w.line(f"report(status, {status}, {detail})")
        if self.checked is not None:
            self.w.line(f"{fine}_too = {fine} & {self.checked}")
            fine = f"{fine}_too"
        self.checked = fine

    # memory

    def load(self, name: str, instr: Instr) -> None:
        address, dtype = instr.attr, instr.dtype
        assert isinstance(address, Address)
        text = self.element(address)
        guards = self.guards(address)
        if not guards:
            self.w.line(f"{name} = {text}")
            return
        self.w.line(f"{name} = {ex.constant(False if dtype is dt.bool_ else 0, dtype)}")
        with self.w.block(f"if {' & '.join(guards)}:"):
            self.w.line(f"{name} = {text}")

    def element(self, address: Address) -> str:
        """What lies at an address, as its dtype is computed."""
        return ex.loaded(f"b{address.buffer}[{self.place_of(address)}]", self.kernel.params[address.buffer].dtype)

    def guards(self, address: Address) -> list[str]:
        """Conditions under which something may be loaded from, or stored to, an address."""
        guards = [f"v{address.guard}"] if address.guard is not None else []
        if address.dynamic and self.checked is not None:
            guards.append(self.checked)
        return [*guards, *([self.active] if self.active else [])]

    def stores(self, stores: Sequence[Store], also: Sequence[str] = ()) -> None:
        """also: further conditions."""
        for store in stores:
            address, dtype = store.address, self.kernel.params[store.address.buffer].dtype
            value = f"v{store.value}"
            place = f"b{address.buffer}[{self.place_of(address)}]"
            guards = [*self.guards(address), *also]
            if store.combine == "add":
                value = ex.expression("add", dtype, [self.element(address), value])
            value = ex.stored(value, dtype)
            if guards:
                with self.w.block(f"if {' & '.join(guards)}:"):
                    self.w.line(f"{place} = {value}")
            else:
                self.w.line(f"{place} = {value}")

    def place_of(self, address: Address) -> str:
        """The number of an element."""
        terms = [_times(f"i{dim}", stride) for dim, stride in address.known_strides if self.kernel.extents[dim] != 1]
        if address.offset or not (terms or address.dynamic):
            terms.append(str(address.offset))
        static = " + ".join(terms)
        if not address.dynamic:
            return static if static.isidentifier() or static.isdigit() else self.cast(static)
        moving = [_times(f"v{value}", stride) for value, stride in address.dynamic]
        return " + ".join([*moving, *([f"int64({static})"] if static else [])])


def _times(name: str, factor: int) -> str:
    return name if factor == 1 else f"{name} * {factor}"


def stored_type(dtype: DType) -> str:
    """What lies in memory."""
    if dtype in (dt.f16, dt.bf16):
        return "uint16"
    return "uint8" if dtype is dt.bool_ else ex.numba_type(dtype)
