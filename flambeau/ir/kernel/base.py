"""What every kernel is, whatever it computes: params, a text, rules and a meaning. Each kind of kernel is a subclass.

A kernel speaks for itself: it tells a printer its lines, reads them from a parser, shows a checker what it does, and
runs on a machine made of NumPy arrays. What is common to all, this file and those four do; so a new kind of kernel is
one class (`flambeau.kinds` ties it to the ops it computes and to the backends that run it).

Much of the house asks only for `code`, the stages of scalar instructions that a kernel runs, and rewrites them with
`map`. A kernel without any, such as one that calls a library, is taken as a whole.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from flambeau.ir.kernel.coverage import coverage_mistake
from flambeau.ir.kernel.grammar import Address, Extent, Instr, Param, Stage, Store
from flambeau.ir.records import dataclass

if TYPE_CHECKING:
    from flambeau.ir.kernel.interpreter import Machine
    from flambeau.ir.kernel.parser import Parser
    from flambeau.ir.kernel.text import Printer
    from flambeau.ir.kernel.verifier import Checker

__all__ = ["Kernel", "map_address", "map_stage"]


@dataclass(frozen=True)
class Kernel:
    """A subclass is a frozen dataclass with fields of its own, of the types that `Attr` and `Param` are made of, so that
    `kernel_key` can tell kernels apart. It declares `keyword` and defines `lines`, `read`, `check` and `run`."""

    keyword: ClassVar[str]                              # what its text starts with: the name of its kind
    schedules: ClassVar[Mapping[str, type]] = {}        # dataclasses that say how it runs, by what their text begins with
    takes_sizes: ClassVar[bool] = False                 # extents may be the names of runtime sizes
    messages: ClassVar[Mapping[int, str]] = {}          # statuses of its own that it may end with; "{0}": a detail

    name: str
    params: tuple[Param, ...]
    extents: tuple[Extent, ...]                         # of the dims it walks
    schedule: Any = field(default=None, kw_only=True)
    residues: tuple[tuple[str, int, int], ...] = field(default=(), kw_only=True)    # (runtime number, modulus, residue)
    locations: tuple[str, ...] = field(default=(), compare=False, kw_only=True)     # the user lines it computes

    @property
    def sizes(self) -> tuple[str, ...]:
        """Names of the runtime numbers, in the order of the ABI's `sizes`: extents, then those that `numbers` tells of."""
        found: list[object] = [*self.extents, *[number for p in self.params for number in (p.first, p.elements)]]
        found += [stride for address in self.addresses() for _, stride in address.strides]
        found += [instr.attr for instr in self.instrs() if instr.op == "const"]
        found += [getattr(self.schedule, block, None) for block in ("block", "m_block", "n_block")]
        return tuple(dict.fromkeys(name for name in found if isinstance(name, str)))

    def renamed(self, name: str) -> Self:
        """The same kernel under another name, and what was worked out about it."""
        made = object.__new__(type(self))
        made.__dict__.update(self.__dict__, name=name)
        return made

    # What it says of itself

    def lines(self, printer: Printer) -> Iterator[str]:
        """Its text between the params and the schedule, indented by two."""
        raise NotImplementedError(f"{self.keyword}: no text")

    @classmethod
    def read(cls, parser: Parser, name: str) -> Self:
        """The inverse of `lines`; `parser.params` are known. The schedule and the locations are read by the caller."""
        raise NotImplementedError(f"{cls.keyword}: no text to read")

    def check(self, checker: Checker) -> None:
        """Its own rules, by `checker.fail(what is wrong)`. Params and extents have been checked. Every param that it
        writes goes into `checker.stored`."""
        raise NotImplementedError(f"{self.keyword}: no rules")

    def storing_mistake(self, number: int) -> str:
        """What is wrong with the stores to result `number`: elements that none reaches or several do; or "". Asked after
        `check`, which sees to what no code stores."""
        return coverage_mistake(self, number) if self.code else ""

    def run(self, machine: Machine) -> None:
        """Its meaning, on the machine's buffers. Raises KernelError where it would end with a nonzero status."""
        raise NotImplementedError(f"{self.keyword}: no meaning")

    # Its scalar code, if it has any

    @property
    def code(self) -> tuple[Stage, ...]:
        """The stages of scalar instructions that it runs."""
        return ()

    def with_code(self, code: Sequence[Stage]) -> Self:
        """The same kernel with these stages."""
        assert not code, f"a {self.keyword} kernel has no scalar code"
        return self

    @property
    def parallel(self) -> tuple[int, ...]:
        """Dims whose points its code may run on in any order."""
        return ()

    def walked(self, stage: Stage) -> tuple[int, ...]:
        """The dims at whose points a stage of its code runs."""
        return (*self.parallel, *stage.dims)

    def instrs(self) -> Iterator[Instr]:
        for stage in self.code:
            yield from stage.body

    @property
    def product_flops(self) -> int:
        """Floating-point operations besides those of its scalar code: of the sums of products that it is made for."""
        return 0

    def addresses(self) -> Iterator[Address]:
        """Every address it loads from or stores to, in order."""
        for stage in self.code:
            yield from (i.attr for i in stage.body if isinstance(i.attr, Address))
            yield from (store.address for store in stage.stores)

    def map(self, *, address: Callable[[Address], Address] | None = None, value: Callable[[int], int] | None = None,
            dim: Callable[[int], int | None] | None = None) -> Self:
        """The kernel with every address, value id or dim number replaced; see `map_stage`. `extents` stay as they are."""
        return self.with_code([map_stage(stage, address=address, value=value, dim=dim) for stage in self.code])

    # What memory planning asks

    @property
    def can_fail(self) -> bool:
        """Whether it may end with a nonzero status."""
        return bool(self.messages) or any(instr.op == "check" for instr in self.instrs())

    def reads_beside_packing(self, operand: int) -> bool:
        """Whether more of the kernel than the phase that packs this operand reads it."""
        return [address.buffer for address in self.addresses()].count(operand) != 1

    def may_share(self, read: int, written: int) -> bool:
        """Whether result `written` may lie in the memory of operand `read`, which is as long. Here: its code stores each
        element where it loaded it, and no later stage loads it again."""
        stored = [(number, store) for number, stage in enumerate(self.code) for store in stage.stores
                  if store.address.buffer == written]
        if not stored or any(store.combine != "set" or store.address != stored[0][1].address for _, store in stored):
            return False
        first, place = stored[0][0], stored[0][1].address
        if place.dynamic or place.guard is not None:
            return False
        for number, stage in enumerate(self.code):
            for instr in stage.body:
                if isinstance(instr.attr, Address) and instr.attr.buffer == read:
                    same = (instr.attr.offset, instr.attr.strides) == (place.offset, place.strides)
                    if not same or instr.attr.dynamic or instr.attr.guard is not None or number > first:
                        return False
        return True


def map_stage(stage: Stage, *, address: Callable[[Address], Address] | None = None,
              value: Callable[[int], int] | None = None, dim: Callable[[int], int | None] | None = None) -> Stage:
    """The stage with parts of it replaced: dim numbers (None: the dim goes, and every stride along it), then value ids,
    then whole addresses. Asked in the order of the code, operands before what they make.

        dim={0: 2, 1: 1}.get, value={3: 1, 7: 0}.get:   %7 = load x[%i0*4 + %3]  ->  %0 = load x[%i2*4 + %1]
    """

    def rewritten(instr: Instr) -> Instr:
        if value is None and not isinstance(instr.attr, Address) and (dim is None or instr.op != "index"):
            return instr
        operands = instr.operands if value is None else tuple([value(v) for v in instr.operands])
        attr = instr.attr
        if isinstance(attr, Address):
            attr = map_address(attr, address=address, value=value, dim=dim)
        elif instr.op == "index" and dim is not None:
            assert isinstance(attr, int), f"%{instr.id}: an index needs a dim"
            attr = dim(attr)
            assert attr is not None, f"%{instr.id} is the index of a dim that goes"
        return Instr(instr.id if value is None else value(instr.id), instr.op, instr.dtype, operands, attr)

    dims = stage.dims if dim is None else tuple([new for d in stage.dims if (new := dim(d)) is not None])
    body = tuple([rewritten(instr) for instr in stage.body])
    stores = tuple([Store(map_address(s.address, address=address, value=value, dim=dim),
                          s.value if value is None else value(s.value), s.combine) for s in stage.stores])
    reductions = stage.reductions if value is None else tuple(
        [replace(r, value=value(r.value), id=value(r.id)) for r in stage.reductions])
    return Stage(dims, body, reductions, stores)


def map_address(old: Address, *, address: Callable[[Address], Address] | None = None,
                value: Callable[[int], int] | None = None, dim: Callable[[int], int | None] | None = None) -> Address:
    """One address, as `map_stage` replaces it."""
    if dim is not None:
        strides = [(new, stride) for d, stride in old.strides if (new := dim(d)) is not None]
        old = replace(old, strides=tuple(sorted(strides)))
    if value is not None and (old.dynamic or old.guard is not None):
        old = replace(old, dynamic=tuple([(value(v), stride) for v, stride in old.dynamic]),
                      guard=None if old.guard is None else value(old.guard))
    return old if address is None else address(old)
