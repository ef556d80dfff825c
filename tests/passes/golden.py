"""Golden files: graphs before and after passes, side by side.

    // passes: simplify
    // up to: regrouped sums          (only where sums may be regrouped: results agree to rounding, else bit by bit)

    graph @name { ... }
    // becomes
    graph @name { ... }
    // ----
    graph @next { ... }
    ...

A file with a line `// target: avx2` holds kernels on its right side, or on both: see `golden_kernels`. An input labelled
"index" is given numbers from 0 to 2.
"""
from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flambeau.errors import KernelError
from flambeau.ir import dtypes as dt
from flambeau.ir.dtypes import to_compute, to_storage
from flambeau.ir.graph import Graph, Value
from flambeau.ir.graph.interpreter import interpret
from flambeau.ir.graph.parser import parse
from flambeau.ir.ops.sampling import SPECIAL, draw
from flambeau.ir.types import TensorType
from flambeau.passes.cpu.pipeline import CPU_PASSES
from flambeau.passes.pipeline import Pass

DIRECTORY = Path(__file__).parent.parent / "golden"
BECOMES, NEXT = "// becomes\n", "// ----\n"


@dataclass
class Case:
    name: str
    before: str
    after: str


@dataclass
class GoldenFile:
    path: Path
    head: str                               # the comments at the top
    cases: list[Case]

    @property
    def passes(self) -> list[Pass]:
        (names,) = re.findall(r"^// passes: (.*)$", self.head, re.MULTILINE)
        known = {p.name: p for p in CPU_PASSES}
        return [known[name.strip()] for name in names.split(",")]

    @property
    def is_exact(self) -> bool:
        return "// up to: regrouped sums" not in self.head

    @property
    def holds_kernels(self) -> bool:
        return "// target: " in self.head

    def write(self) -> None:
        cases = NEXT.join(f"{case.before}{BECOMES}{case.after}" for case in self.cases)
        self.path.write_text(f"{self.head}\n{cases}", encoding="utf-8")


def read(path: Path) -> GoldenFile:
    head, _, rest = path.read_text(encoding="utf-8").partition("\n\n")
    cases = []
    for text in rest.split(NEXT):
        before, _, after = text.partition(BECOMES)
        (name,) = re.findall(r"^\w+ @(\w+)", before, re.MULTILINE)[:1]
        cases.append(Case(name, before, after))
    return GoldenFile(path, head + "\n", cases)


def golden_files(*, of_kernels: bool = False) -> list[GoldenFile]:
    """The files of passes from graph to graph, or those that hold kernels."""
    files = [read(path) for path in sorted(DIRECTORY.rglob("*.txt"))]
    return [file for file in files if file.holds_kernels == of_kernels]


def with_numbers(text: str) -> Graph:
    """The graph with symbolic sizes replaced: B by 3, T by 2."""
    return parse(re.sub(r"\bT\b(?=[],*+)])", "2", re.sub(r"\bB\b(?=[],*+)])", "3", text)))


def draws(inputs: Sequence[Value]) -> Iterator[list[np.ndarray]]:
    """Operands: ordinary ones, small whole numbers, and special floats in every order; indices within 0 to 2."""
    for arrays in _draws([v.type for v in inputs]):
        yield [array % array.dtype.type(3) if v.node.op.label == "index" else array         # type: ignore[attr-defined]
               for v, array in zip(inputs, arrays, strict=True)]


def _draws(types: Sequence[TensorType]) -> Iterator[list[np.ndarray]]:
    yield [draw(t, seed=i) for i, t in enumerate(types)]
    yield [draw(t, ((-3.0, 3.0),), seed=7 + i).round() if t.dtype in (dt.f32, dt.f64) else draw(t, seed=9 + i)
           for i, t in enumerate(types)]
    for turn in range(len(SPECIAL)):
        yield [special(t, turn * (i + 1)) for i, t in enumerate(types)]


def special(type: TensorType, turn: int) -> np.ndarray:
    if not type.dtype.is_floating_point:
        return draw(type, seed=turn)
    values = np.resize(np.roll(SPECIAL, turn), type.static_shape)
    with np.errstate(over="ignore"):
        return to_storage(values.astype(type.dtype.compute), type.dtype)


def results(graph: Graph, inputs: Sequence[np.ndarray]) -> list[np.ndarray] | str:
    """Outputs and writes in the compute dtype, or the message of the error that evaluation is."""
    try:
        with np.errstate(all="ignore"):
            outputs, writes = interpret(graph, inputs)
    except KernelError as error:
        return error.message
    return [to_compute(a, v.dtype) for a, v in zip((*outputs, *writes), graph.roots(), strict=True)]


def assert_same_results(found: Graph, wanted: Graph, exact: bool = True, terms: int = 64) -> None:
    """Both graphs give the same on random and on special inputs: every number and the sign of every zero, or, where
    sums are regrouped, to rounding (2 * terms * eps of the largest number; and only finite numbers compare)."""
    for inputs in draws(wanted.inputs):
        left, right = results(found, inputs), results(wanted, inputs)
        if isinstance(left, str) or isinstance(right, str):
            assert left == right
            continue
        assert_close(left, right, wanted, inputs, exact, terms)


def assert_close(found: Sequence[np.ndarray], expected: Sequence[np.ndarray], graph: Graph,
                 inputs: Sequence[np.ndarray], exact: bool, terms: int) -> None:
    """What `graph` gives on `inputs` was found as expected: see `assert_same_results`."""
    for a, b, value in zip(found, expected, graph.roots(), strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        if exact or not value.dtype.is_floating_point:
            np.testing.assert_array_equal(a, b)
            if value.dtype.is_floating_point:
                is_number = ~np.isnan(b)
                np.testing.assert_array_equal(np.signbit(a)[is_number], np.signbit(b)[is_number])
        elif b.size and np.isfinite(b).all() and all(np.isfinite(to_compute(x, v.dtype)).all()
                                                     for x, v in zip(inputs, graph.inputs, strict=True)):
            eps = 2.0**-7 if value.dtype is dt.bf16 else float(np.finfo(b.dtype).eps)
            scale = max(float(np.abs(array.astype(np.float64)).max(initial=0.0)) for array in (b, *inputs)
                        if array.dtype.kind == "f")
            np.testing.assert_allclose(a, b, rtol=0, atol=2 * terms * eps * max(scale, 1.0))
