"""Namespaces -> pages: every public name with its signature, its docstring, and what docs/surface.md measured of it.

Names are looked up in the imported package, not in its files: most functions are made from rows of tables.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flambeau as fb
from flambeau.frontend.call.compile import CompiledFunction

# page -> (its namespaces, what they are). A namespace is a module under flambeau; "" is flambeau itself.
PAGES: dict[str, tuple[str, str]] = {
    "fb": ("", "Tensors and functions of them"),
    "tensor": ("Tensor", "The methods of a tensor"),
    "compile": ("compile", "Compiled functions"),
    "autograd": ("autograd", "Derivatives of eager and compiled code"),
    "func": ("func", "Transforms of functions"),
    "nn": ("nn", "Modules"),
    "nn_functional": ("nn.functional", "What Modules compute, as functions"),
    "nn_init": ("nn.init", "First values of parameters"),
    "nn_utils": ("nn.utils", "Clipping, norms of weights, vectors of parameters"),
    "optim": ("optim", "Optimizers"),
    "lr_scheduler": ("optim.lr_scheduler", "Schedules of learning rates"),
    "data": ("utils.data", "Data sets, samplers and loaders"),
    "linalg": ("linalg", "Linear algebra"),
    "fft": ("fft", "Fourier transforms"),
    "special": ("special", "Special functions"),
    "distributions": ("distributions", "Probability distributions"),
    "random": ("random", "The generator's state"),
    "amp": ("amp", "Mixed precision"),
    "checkpoint": ("utils.checkpoint", "Recomputing in place of keeping"),
    "cuda": ("cuda", "GPUs"),
    "backends": ("backends", "Backends of the compiler, and their settings"),
    "compiler": ("compiler", "The compiler's stages"),
    "ir": ("ir", "Graphs, their text, drawings and meaning"),
    "profiler": ("profiler", "PyTorch's names for profiles"),
    "config": ("config", "Settings"),
    "errors": ("errors", "Errors and warnings"),
}
QUIET = frozenset("forward extra_repr".split())         # methods of every Module: its own docstring says what they do


@dataclass(frozen=True)
class Entry:
    """One object: its names (the first is its own), and how it is called."""

    names: tuple[str, ...]
    value: Any


def reference_pages(surface: Path) -> dict[str, str]:
    """Name of a page -> its text, the index of all of them included."""
    works = measured(surface)
    pages = {page: namespace_page(namespace, title, works) for page, (namespace, title) in PAGES.items()}
    rows = "".join(f"| [`{_dotted(namespace)}`]({page}.md) | {title} |\n" for page, (namespace, title) in PAGES.items())
    tree = "\n".join(PAGES)
    pages["index"] = ("# API reference\n\nFrom the docstrings. What each function takes, whether it compiles, has a "
                      "derivative and is batched stands with it, and for all of them in [one table](../surface.md).\n\n"
                      f"| | |\n|---|---|\n{rows}\n```{{toctree}}\n:hidden:\n\n{tree}\n```\n")
    return pages


def measured(surface: Path) -> dict[str, str]:
    """Function -> what came of PyTorch's samples of it, in words, from the rows of docs/surface.md."""
    works = {}
    for line in surface.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if len(cells) == 8 and cells[0].startswith("`"):
            words = [f"dtypes: {cells[1]}"] + [
                f"{what}: {cell}" for what, cell in zip(("compiled", "derivative", "batching"), cells[2:5], strict=True)
                if cell != "-"]
            works.update(dict.fromkeys(re.findall(r"`([^`]*)`", cells[0]), " · ".join(words)))
    return works


def namespace_page(namespace: str, title: str, works: dict[str, str]) -> str:
    parts = [f"# {_dotted(namespace)}\n\n{title}.\n"]
    if namespace == "compile":
        parts.append(_entry(Entry((_dotted("compile"),), fb.compile), works))
        parts.append(_entry(Entry((_dotted("CompiledFunction"),), CompiledFunction), works))
        return "\n".join(parts)
    owner = fb.Tensor if namespace == "Tensor" else importlib.import_module(f"flambeau.{namespace}".rstrip("."))
    if inspect.ismodule(owner) and owner.__doc__ and namespace:
        parts.append(markdown(inspect.getdoc(owner) or "") + "\n")
    parts += [_entry(entry, works) for entry in entries(owner, namespace)]
    return "\n".join(parts)


def entries(owner: Any, namespace: str) -> list[Entry]:
    """What is called in a module, or in Tensor, by name; names of one object are one entry."""
    found: dict[int, tuple[Any, list[str]]] = {}
    for name in sorted(getattr(owner, "__all__", None) or dir(owner), key=str.lower):
        value = inspect.getattr_static(owner, name, None) if inspect.isclass(owner) else getattr(owner, name, None)
        if not name.startswith("_") and _is_entry(value) and value is not fb.compile:     # has a page of its own
            found.setdefault(id(value), (value, []))[1].append(name)
    return [Entry(tuple(f"{_dotted(namespace)}.{name}" for name in _own_first(value, names)), value)
            for value, names in found.values()]


def _own_first(value: Any, names: list[str]) -> list[str]:
    return sorted(names, key=lambda name: (name != getattr(value, "__name__", ""), name))


def _is_entry(value: Any) -> bool:
    if inspect.ismodule(value) or value is None or type(value).__module__ == "typing":
        return False
    return isinstance(value, property) or callable(value)


def _dotted(namespace: str) -> str:
    return f"fb.{namespace}".rstrip(".")


# -- an entry ---------------------------------------------------------------------------------------------------------


def _entry(entry: Entry, works: dict[str, str]) -> str:
    first, *others = entry.names
    if inspect.isclass(entry.value):
        return _class(first, others, entry.value)
    lines = [f"Also {', '.join(f'`{name}`' for name in others)}."] if others else []
    row = works.get(first.removeprefix("fb.").removeprefix("Tensor."))
    if row:
        lines.append(f"```{{rst-class}} works\n```\n\n{row}")
    kind = "py:property" if isinstance(entry.value, property) else (
        "py:method" if first.startswith("fb.Tensor.") else "py:function")
    return directive(kind, first, entry.value, "\n\n".join([markdown(in_full(doc(entry.value))), *lines]))


def _class(first: str, others: list[str], cls: type) -> str:
    body = [markdown(in_full(doc(cls)))] + ([f"Also {', '.join(f'`{name}`' for name in others)}."] if others else [])
    if first != "fb.Tensor":            # which has a page of its own
        body += [directive("py:property" if isinstance(value, property) else "py:method", f"{first}.{name}", value,
                           markdown(doc(value)), depth=3) for name, value in own_methods(cls)]
    return directive("py:class", first, cls, "\n\n".join(body), depth=4)


def own_methods(cls: type) -> Iterator[tuple[str, Any]]:
    """Public methods and properties that the class, not what it inherits from, says something about."""
    for name, value in sorted(vars(cls).items()):
        plain = value.__func__ if isinstance(value, (classmethod, staticmethod)) else value
        described = isinstance(plain, property | functools.cached_property) or inspect.isfunction(plain)
        if not name.startswith("_") and name not in QUIET and described and doc(plain):
            yield name, property(plain.func, doc=plain.__doc__) if isinstance(plain, functools.cached_property) else plain


def directive(kind: str, name: str, value: Any, body: str, depth: int = 3) -> str:
    colons = ":" * depth
    shown = name if kind == "py:property" else name + signature(_out_of_place(value))
    return f"{colons}{{{kind}}} {shown}\n\n{body}\n{colons}\n"


def doc(value: Any) -> str:
    """The object's own docstring: what a class inherits from its base, or `object`, says nothing of it."""
    text = vars(value).get("__doc__") if inspect.isclass(value) else getattr(value, "__doc__", None)
    return inspect.cleandoc(text) if isinstance(text, str) and not _is_made(value, text) else ""


def in_full(text: str) -> str:
    """A docstring that is another function's name ("transpose()."), with what that one's says."""
    other = re.fullmatch(r"`?(?:fb\.)?([\w.]+?)`?(?:\(\))?\.", text)
    for place in ("", "nn.functional.", "Tensor.") if other else ():
        try:
            said = doc(functools.reduce(getattr, f"{place}{other[1]}".split("."), fb))
        except (AttributeError, NotImplementedError):
            continue
        return f"As `fb.{place}{other[1]}`: {said[:1].lower() if said[1:2].islower() else said[:1]}{said[1:]}"
    return text


def _is_made(value: Any, text: str) -> bool:
    """Whether dataclasses wrote it: the signature again."""
    return inspect.isclass(value) and text.startswith(f"{value.__name__}(")


def signature(value: Callable[..., Any]) -> str:
    """(parameters) without annotations, which the docstring says in words; "(...)" where Python knows none."""
    try:
        found = inspect.signature(value)
    except (TypeError, ValueError):
        return "(...)"
    parameters = [p for p in found.parameters.values() if p.name != "self"]
    words: list[str] = []
    for before, p in zip([None, *parameters], parameters, strict=False):
        if p.kind is p.KEYWORD_ONLY and (before is None or before.kind not in (p.KEYWORD_ONLY, p.VAR_POSITIONAL)):
            words.append("*")
        if before is not None and before.kind is p.POSITIONAL_ONLY and p.kind is not p.POSITIONAL_ONLY:
            words.append("/")
        words.append({p.VAR_POSITIONAL: "*", p.VAR_KEYWORD: "**"}.get(p.kind, "") + p.name + _default(p))
    if parameters and parameters[-1].kind is inspect.Parameter.POSITIONAL_ONLY:
        words.append("/")
    return f"({', '.join(words)})"


def _out_of_place(value: Any) -> Any:
    """What takes the arguments of `relu_`: those of `relu`, whatever wraps it."""
    name = getattr(value, "__name__", "")
    if name.endswith("_") and "in place" in (value.__doc__ or ""):
        return next((f for f in (getattr(fb.Tensor, name[:-1], None), getattr(fb, name[:-1], None)) if f), value)
    return value


def _default(parameter: inspect.Parameter) -> str:
    value = parameter.default
    if value is parameter.empty:
        return ""
    plain = isinstance(value, bool | int | float | str | tuple | list | dict) or value is None
    if plain and " at 0x" not in repr(value):
        return f"={value!r}"
    return f"={getattr(value, '__name__', None) or (value if isinstance(value, fb.dtype) else '...')}"


# -- docstrings -------------------------------------------------------------------------------------------------------


def markdown(text: str) -> str:
    """A docstring as Markdown: prose with what Markdown would take for marks escaped, indented blocks as code."""
    blocks, code = [], False
    for line in text.splitlines():
        indented = line.startswith(("    ", ">>> "))
        if indented and not code and (not blocks or not blocks[-1].strip()):
            blocks.append("```text")
            code = True
        elif code and line.strip() and not indented:
            while not blocks[-1].strip():
                blocks.pop()
            blocks += ["```", ""]
            code = False
        blocks.append(line.removeprefix("    ") if code else _escaped(line))
    return "\n".join(blocks + ["```"] * code)


def _escaped(line: str) -> str:
    pieces = re.split(r"(`+[^`]*`+)", line)
    prose = [re.sub(r"([\\*_<\[|{$#])", r"\\\1", piece) if n % 2 == 0 else piece for n, piece in enumerate(pieces)]
    joined = "".join(prose)
    return re.sub(r"^(\s*)\\\* ", r"\1* ", joined)
