"""Kernel -> Kernel. Addresses that divide an index and put it together again lose the division.

    %q = floordiv %i, 64; %r = mod %i, 64; load x[%q*32768 + %r*512]   ->   load x[%i*512]

A reshape whose result is read at an index that does not split exactly leaves such pairs. `affine` values that an address
reads become part of it, and what nothing reads any more goes.
"""
from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from flambeau.ir.kernel import Address, Instr, Kernel, Stage
from flambeau.ir.kernel.dataflow import address_values, values_read
from flambeau.passes.lowering.loops import AFFINE

__all__ = ["undivide"]

K = TypeVar("K", bound=Kernel)


def undivide(kernel: K) -> K:
    """The kernel, `affine` values not yet expanded."""
    if not any(instr.op == "mod" for instr in kernel.instrs()):
        return kernel
    return kernel.with_code(_without_unread(_Undivider().run(kernel.code)))


class _Undivider:
    def __init__(self) -> None:
        self.instr_of: dict[int, Instr] = {}

    def run(self, stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
        made = []
        for stage in stages:
            body = []
            for instr in stage.body:
                if isinstance(instr.attr, Address):
                    instr = replace(instr, attr=self.simplified(instr.attr))
                self.instr_of[instr.id] = instr
                body.append(instr)
            stores = tuple([replace(s, address=self.simplified(s.address)) for s in stage.stores])
            made.append(replace(stage, body=tuple(body), stores=stores))
        return tuple(made)

    def simplified(self, address: Address) -> Address:
        """The address without pairs of quotient and remainder, and without `affine` values."""
        while True:
            found = self._step(address)
            if found is None:
                return address
            address = found

    def _step(self, address: Address) -> Address | None:
        for value, stride in address.dynamic:
            instr = self.instr_of.get(value)
            if instr is None:
                continue
            rest = tuple([term for term in address.dynamic if term[0] != value])
            if instr.op == AFFINE and isinstance(instr.attr, Address):
                return _plus(replace(address, dynamic=rest), instr.attr, stride)
            if instr.op == "mod":
                quotient = self._quotient(rest, instr, stride)
                if quotient is not None:
                    rest = tuple([term for term in rest if term[0] != quotient])
                    return _plus(replace(address, dynamic=rest), Address(-1, 0, (), ((instr.operands[0], 1),)), stride)
        return None

    def _quotient(self, terms: tuple[tuple[int, int], ...], remainder: Instr, stride: int) -> int | None:
        """The quotient among the terms that belongs to the remainder, if its stride is the divisor's share."""
        divisor = self.instr_of.get(remainder.operands[1])
        if divisor is None or divisor.op != "const" or not isinstance(divisor.attr, int):
            return None
        for value, its_stride in terms:
            instr = self.instr_of.get(value)
            if (instr is not None and instr.op == "floordiv" and instr.operands == remainder.operands
                    and its_stride == stride * divisor.attr):
                return value
        return None


def _plus(address: Address, more: Address, factor: int) -> Address:
    """The address moved on by `factor` times another's offset and terms."""
    strides, dynamic = dict(address.known_strides), dict(address.dynamic)
    for terms, added in ((strides, more.known_strides), (dynamic, more.dynamic)):
        for key, stride in added:
            terms[key] = terms.get(key, 0) + factor * stride
    return replace(address, offset=address.offset + factor * more.offset,
                   strides=tuple(sorted((d, s) for d, s in strides.items() if s)),
                   dynamic=tuple(sorted((v, s) for v, s in dynamic.items() if s)))


def _without_unread(stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
    """Without instructions whose value nothing reads; checks stay."""
    read: set[int] = set()
    made = []
    for stage in reversed(stages):
        read.update(store.value for store in stage.stores)
        read.update(value for store in stage.stores for value in address_values(store.address))
        read.update(reduction.value for reduction in stage.reductions)
        body: list[Instr] = []
        for instr in reversed(stage.body):
            if instr.id in read or instr.op == "check":
                read.update(values_read(instr))
                body.append(instr)
        made.append(replace(stage, body=tuple(reversed(body))))
    return tuple(reversed(made))
