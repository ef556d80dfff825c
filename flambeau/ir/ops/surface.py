"""How users meet an elementwise op: data, from which the frontend makes `fb.NAME`, the methods, their stubs and a page of
the documentation."""
from __future__ import annotations

from flambeau.ir.records import dataclass


@dataclass(frozen=True)
class Surface:
    """What a row says of the function that users call.

    Operands are broadcast and promoted by the op's domain: where it takes floats alone, integers and bools become the
    default float; where it takes bools alone, numbers are asked whether they differ from 0; else all take their common
    dtype.

    - `doc`: what it gives, in one sentence without its end, which the rest of the docstring follows.
    - `elsewhere`: what stands in for the op where it does not take the dtype: the name of another op, a bool that is the
      answer of all elements, or the name of a dtype to cast to first. "": nothing does, which is an error.
    - `name`, where it is not the op's; `aliases`: further names of function and methods.
    - `parameters`: names of the operands.
    - `is_method`: `x.NAME()`; `is_in_place`: `x.NAME_()`.
    - `special`: names in `fb.special`. `is_special`: in `fb.special` alone, and so no method either.
    """

    doc: str
    elsewhere: str | bool = ""
    name: str = ""
    aliases: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ("input", "other")
    is_method: bool = True
    is_in_place: bool = True
    special: tuple[str, ...] = ()
    is_special: bool = False
