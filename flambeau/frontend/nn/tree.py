"""Walks over a tree of Modules, and the names its parameters get in traced graphs."""
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from flambeau.frontend.active import Tracer

if TYPE_CHECKING:
    from flambeau.frontend.nn.module import Module


def named_modules(root: Module, memo: set[Module] | None = None, prefix: str = "",
                  remove_duplicate: bool = True) -> Iterator[tuple[str, Module]]:
    """(dotted name, module) of root and everything below it, parents first."""
    memo = set() if memo is None else memo
    if root in memo:
        return
    if remove_duplicate:
        memo.add(root)
    yield prefix, root
    for name, child in root._modules.items():
        if child is not None:
            yield from named_modules(child, memo, joined(prefix, name), remove_duplicate)


def named_members(root: Module, members_of: Callable[[Module], Iterable[tuple[str, Any]]], prefix: str,
                  recurse: bool, remove_duplicate: bool) -> Iterator[tuple[str, Any]]:
    """(dotted name, member) for the parameters or buffers of root, each object once. None entries are left out."""
    modules = named_modules(root, None, prefix, remove_duplicate) if recurse else iter([(prefix, root)])
    seen: set[int] = set()
    for path, module in modules:
        for name, member in members_of(module):
            if member is None or id(member) in seen:
                continue
            if remove_duplicate:
                seen.add(id(member))
            yield joined(path, name), member


def joined(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


def name_state(tracer: Tracer, root: Module) -> None:
    """Label what the outermost module of a trace owns, so that graph inputs read `net.fc1.weight`.

    Inner modules are named with it, and are not named again when they are called."""
    label = type(root).__name__.lower()
    names = tracer.name_of
    for path, module in named_modules(root):
        names.setdefault(id(module), joined(label, path) if path else label)
        for members in (module._parameters, module._buffers):
            for name, tensor in members.items():
                if tensor is not None:
                    names.setdefault(id(tensor), joined(names[id(module)], name))


def described(root: Module) -> str:
    """PyTorch's nested form: one line per leaf module, children indented by two below `Name(`."""
    extra = root.extra_repr()
    lines = extra.split("\n") if extra else []
    children = [f"({name}): {_indented(repr(child))}" for name, child in root._modules.items()]
    title = root._get_name()
    if not children and len(lines) <= 1:
        return f"{title}({extra})"
    return f"{title}(\n  " + "\n  ".join([_indented(line) for line in lines] + children) + "\n)"


def _indented(text: str) -> str:
    return text.replace("\n", "\n  ")
