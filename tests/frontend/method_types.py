"""Writes flambeau/frontend/method_types.pyi: what `methods.py` attaches to Tensor, for type checkers and editors.

python tests/frontend/method_types.py
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import flambeau
from flambeau.frontend import methods
from flambeau.frontend.functions import inplace
from flambeau.frontend.tensor.tensor import Tensor

STUB = Path(flambeau.__file__).parent / "frontend" / "method_types.pyi"
HEAD = '''"""The methods of Tensor, for type checkers. Written by tests/frontend/method_types.py; see methods.py."""
# ruff: noqa: E501

from collections.abc import Iterator, Sequence
from typing import Any

from flambeau.frontend.functions.coerce import Dims, Number, TensorLike
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
BUILTINS = {"float", "int", "bool"}  # methods that hide the types of these names inside the class


def text() -> str:
    """The stub as it should be."""
    lines = [HEAD.rstrip("\n")]
    for name in sorted(names()):
        lines.append("    " + declaration(name, vars(Tensor)[name]))
    return "\n".join(lines) + "\n"


def names() -> set[str]:
    """Everything that attach() sets, besides operators that share one signature."""
    found = {name for group in methods.NAMES.values() for name in group} | OPERATORS | COMPARISONS
    for table in (
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
    parameters = list(signature.parameters.values())
    rest = [spelt(p) for p in parameters[1:]]
    for place, p in enumerate(parameters[1:]):
        if p.kind is p.KEYWORD_ONLY and "*" not in "".join(r[:1] for r in rest[:place]):
            rest.insert(place, "*")
            break
    returned = (
        "Any" if signature.return_annotation in (signature.empty, "Any") else str(signature.return_annotation)
    )
    return f"def {name}({', '.join(['self', *rest])}) -> {qualified(returned)}: ..."


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
    return annotation.replace("ValuesAndIndices", "Any")


if __name__ == "__main__":
    STUB.write_text(text(), encoding="utf-8")
