"""Writes what follows from the rows of elementwise ops and from `methods.py`: the stubs of Tensor's methods, of
`functions/pointwise.py` and of `fb.special`, for type checkers and editors, and docs/elementwise.md.

python tests/frontend/generated.py
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import flambeau
from flambeau.frontend import methods
from flambeau.frontend.functions import inplace, rows
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir.dtypes import DTYPES
from flambeau.ir.op import OPS
from flambeau.ir.ops.families import Elementwise
from flambeau.ir.ops.surface import Surface

PACKAGE = Path(flambeau.__file__).parent
HEAD = '''"""The methods of Tensor, for type checkers. Written by tests/frontend/generated.py; see methods.py."""
# ruff: noqa: E501

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from flambeau.frontend.functions.coerce import Dims, Number, TensorLike
from flambeau.frontend.functions.decompositions import Svd, TriangularSolution
from flambeau.frontend.functions.factorizations import QrFactors, Reflections
from flambeau.frontend.functions.matrix_functions import SignAndLog
from flambeau.frontend.functions.reductions import LeastAndGreatest
from flambeau.frontend.random import Generator
from flambeau.frontend.tape.autograd import Hook
from flambeau.frontend.tape.gradient_hooks import HookHandle
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir.dtypes import DType

_float = float
_int = int
_bool = bool

class TensorMethods:
'''
OPERATORS = {f"__{side}{name}__" for name in methods.BINARY for side in ("", "r", "i")} | {"__matmul__"}
COMPARISONS = {f"__{name}__" for name in methods.COMPARISONS}
SPECIAL = {
    "__reduce_ex__": "def __reduce_ex__(self, protocol: Any = ...) -> tuple[Any, ...]: ...",
    "data": "data: Tensor",
    "is_cuda": "is_cuda: _bool",
    "itemsize": "itemsize: _int",
    "retains_grad": "retains_grad: _bool",
    "type": "type: Any",
    "where": "def where(self, condition: Tensor, other: TensorLike) -> Tensor: ...",
}
NAMED = {"ValuesAndIndices", "MantissaAndExponent", "Histogram"}  # results that stubs know as tuples
BUILTINS = {"float", "int", "bool"}  # methods that hide the types of these names inside the class


def method_stub() -> str:
    lines = [HEAD.rstrip("\n")]
    for name in sorted(names()):
        lines.append("    " + declaration(name, vars(Tensor)[name]))
    return "\n".join(lines) + "\n"


def names() -> set[str]:
    """Everything that attach() sets, besides operators that share one signature."""
    found = OPERATORS | COMPARISONS
    for table in (
        methods.FUNCTIONS,
        methods.RENAMED,
        methods.CONVERSIONS,
        inplace.METHODS,
        methods.distributions.METHODS,
        methods.OTHERS,
    ):
        found |= set(table)
    return found | {f"__{name}__" for name in methods.UNARY}


def declaration(name: str, value: Any) -> str:
    if name in SPECIAL:
        return SPECIAL[name]
    if isinstance(value, property):
        return f"{name}: Tensor"
    if not callable(value):
        return f"{name}: {type(value).__name__}"
    if name in OPERATORS:
        return f"def {name}(self, other: TensorLike) -> Tensor: ..."
    if name in COMPARISONS:
        narrower = (
            "  # type: ignore[override]" if name in ("__eq__", "__ne__") else ""
        )  # object's take anything
        return f"def {name}(self, other: Any) -> Tensor: ...{narrower}"
    signature = inspect.signature(value)
    rest = listed(list(signature.parameters.values())[1:])
    returned = (
        "Any" if signature.return_annotation in (signature.empty, "Any") else str(signature.return_annotation)
    )
    return f"def {name}({', '.join(['self', *rest])}) -> {qualified(returned)}: ..."


def listed(parameters: list[inspect.Parameter]) -> list[str]:
    """Parameters as a stub lists them."""
    rest = [spelt(p) for p in parameters]
    for place, p in enumerate(parameters):
        if p.kind is p.KEYWORD_ONLY and "*" not in "".join(r[:1] for r in rest[:place]):
            rest.insert(place, "*")
            break
    return rest


def spelt(p: inspect.Parameter) -> str:
    """One parameter: `name: annotation = ...`."""
    stars = {p.VAR_POSITIONAL: "*", p.VAR_KEYWORD: "**"}.get(p.kind, "")
    annotation = "Any" if p.annotation is p.empty else qualified(str(p.annotation))
    return f"{stars}{p.name}: {annotation}" + (" = ..." if p.default is not p.empty else "")


def qualified(annotation: str) -> str:
    """An annotation whose builtin types stay builtin although the class has methods of those names."""
    for name in sorted(BUILTINS):
        annotation = annotation.replace(f"{name} ", f"_{name} ").replace(f"{name},", f"_{name},")
        annotation = annotation.replace(f"{name}]", f"_{name}]")
        if annotation == name or annotation.endswith(f" {name}"):
            annotation = annotation[: -len(name)] + f"_{name}"
    return "Any" if annotation in NAMED else annotation


# -- functions --------------------------------------------------------------------------------------------------------

FUNCTION_HEAD = '''"""{what}. Written by tests/frontend/generated.py; see ir.ops.surface."""
# ruff: noqa: E501

from flambeau.frontend.functions.coerce import TensorLike
from flambeau.frontend.tensor.tensor import Tensor

'''
SPECIAL_HEAD = FUNCTION_HEAD.replace("import TensorLike", "import Dims, TensorLike").rstrip("\n") + '''
from flambeau.ir.dtypes import DType

_float = float
_int = int
_bool = bool
'''


def function_stub(what: str, functions: dict[str, Any], head: str = FUNCTION_HEAD) -> str:
    """Signatures and documentation of functions, by name."""
    lines = [head.format(what=what).rstrip("\n"), ""]
    for name, function in sorted(functions.items()):
        parameters = ", ".join(listed(list(inspect.signature(function).parameters.values())))
        lines.append(f'def {name}({parameters}) -> Tensor:\n    """{function.__doc__}"""')
    return "\n".join(lines) + "\n"


# -- the page ---------------------------------------------------------------------------------------------------------

PAGE = """# Elementwise functions

Written by `tests/frontend/generated.py` from the rows of [`ir/ops/elementwise.py`](../flambeau/ir/ops/elementwise.py)
and the files beside it. Operands are broadcast and promoted to one dtype by PyTorch's rules. "floats": integers and
bools become the default float dtype first. x.f is the method, x.f_ the one that overwrites x.

| function | gives | takes | methods | derivative |
|---|---|---|---|---|
"""
TAKES = {"float": "floats", "number": "numbers", "int": "integers", "bool": "x != 0", "int|bool": "integers, bools",
         "any": "all"}


def page() -> str:
    table = sorted(rows.rows(), key=lambda row: row[1].name or row[0].name)
    return PAGE + "".join(page_row(op, surface) for op, surface in table)


def page_row(op: Elementwise, surface: Surface) -> str:
    name = surface.name or op.name
    called = [] if surface.is_special else [f"fb.{n}" for n in (name, *surface.aliases)]
    called += [f"fb.special.{n}" for n in (*surface.special, *[name] * surface.is_special)]
    methods = [m for m, has in (("x.f", surface.is_method), ("x.f_", surface.is_method and surface.is_in_place))
               if has and not surface.is_special]
    derivative = "-" if op.is_test or not any(op.partials) else "yes"
    cells = (", ".join(f"`{n}({', '.join(surface.parameters[:op.arity])})`" if i == 0 else f"`{n}`"
                       for i, n in enumerate(called)),
             surface.doc, takes(op, surface), ", ".join(methods) or "-", derivative)
    return "| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |\n"


def takes(op: Elementwise, surface: Surface) -> str:
    said = TAKES[op.domain]
    match surface.elsewhere:
        case "":
            return said
        case bool() as answer:
            return f"{said}; others are {answer}"
        case "stop_gradient":
            return f"{said}; others unchanged"
        case dtype if dtype in DTYPES:
            return f"{said}; bools as {DTYPES[dtype].torch_name}"
        case op_name:
            assert op_name in OPS
            return f"{said}; bools by {op_name}"


# -- the files --------------------------------------------------------------------------------------------------------


def files() -> dict[Path, str]:
    """What stands in each file."""
    return {
        PACKAGE / "frontend" / "method_types.pyi": method_stub(),
        PACKAGE / "frontend" / "functions" / "pointwise.pyi": function_stub(
            "A function for each elementwise op", rows.FUNCTIONS),
        PACKAGE / "special.pyi": function_stub(
            "`fb.special`: functions of mathematics", flambeau.special.SPECIAL, SPECIAL_HEAD),
        PACKAGE.parent / "docs" / "elementwise.md": page(),
    }


if __name__ == "__main__":
    for path, text in files().items():
        path.write_text(text, encoding="utf-8")
