"""`utils._pytree`: nested lists, tuples, dicts and namedtuples as leaves and a structure. Everything else is a leaf."""
from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Callable
from typing import Any

from flambeau.frontend.pytree import Entries, Structure, entries_of, flatten, unflatten
from flambeau.ir.records import dataclass

PyTree = Any
_KINDS = frozenset({tuple, list, dict, OrderedDict, defaultdict})
Leaf = Callable[[Any], bool]


@dataclass(frozen=True)
class TreeSpec:
    """How the leaves of a tree nest. Equal specs are of trees of one shape."""

    structure: Structure | None
    num_leaves: int

    def unflatten(self, leaves: Any) -> Any:
        """The tree with other leaves. Raises ValueError for another number of them."""
        found = list(leaves)
        if len(found) != self.num_leaves:
            raise ValueError(f"unflatten: the tree has {self.num_leaves} leaves, got {len(found)}")
        return unflatten(self.structure, found)

    def is_leaf(self) -> bool:
        """Whether the tree is a leaf itself."""
        return self.structure is None


def tree_flatten(tree: Any, is_leaf: Leaf | None = None) -> tuple[list[Any], TreeSpec]:
    """(leaves, how they nest). is_leaf: what else is taken as a leaf."""
    def entries(node: Any) -> Entries | None:
        if is_leaf is not None and is_leaf(node):
            return None
        return entries_of(node) if type(node) in _KINDS or _is_namedtuple(node) else None

    leaves, _, structure = flatten(tree, entries=entries)
    return leaves, TreeSpec(structure, len(leaves))


def _is_namedtuple(node: Any) -> bool:
    return isinstance(node, tuple) and hasattr(node, "_fields")


def tree_unflatten(leaves: Any, treespec: TreeSpec) -> Any:
    """The tree of these leaves."""
    return treespec.unflatten(leaves)


def tree_leaves(tree: Any, is_leaf: Leaf | None = None) -> list[Any]:
    """The leaves, in order."""
    return tree_flatten(tree, is_leaf)[0]


def tree_structure(tree: Any, is_leaf: Leaf | None = None) -> TreeSpec:
    """How the leaves nest."""
    return tree_flatten(tree, is_leaf)[1]


def tree_map(func: Callable[..., Any], tree: Any, *rests: Any, is_leaf: Leaf | None = None) -> Any:
    """The tree of what func gives for each leaf, with the leaves of the other trees beside it. Raises ValueError for
    trees that nest in another way."""
    leaves, spec = tree_flatten(tree, is_leaf)
    columns = [leaves]
    for rest in rests:
        others, other = tree_flatten(rest, is_leaf)
        if other != spec:
            raise ValueError("tree_map: the trees nest in different ways")
        columns.append(others)
    return spec.unflatten(map(func, *columns))


def tree_map_(func: Callable[..., Any], tree: Any, *rests: Any, is_leaf: Leaf | None = None) -> Any:
    """The tree as it is, once func was called with each leaf."""
    tree_map(func, tree, *rests, is_leaf=is_leaf)
    return tree


def tree_map_only(kind: Any, func: Callable[[Any], Any], tree: Any, is_leaf: Leaf | None = None) -> Any:
    """tree_map() of the leaves of a type, or of types; the others stay."""
    return tree_map(lambda leaf: func(leaf) if isinstance(leaf, kind) else leaf, tree, is_leaf=is_leaf)


def tree_all(pred: Callable[[Any], bool], tree: Any, is_leaf: Leaf | None = None) -> bool:
    """Whether something holds of all leaves."""
    return all(map(pred, tree_leaves(tree, is_leaf)))


def tree_any(pred: Callable[[Any], bool], tree: Any, is_leaf: Leaf | None = None) -> bool:
    """Whether something holds of any leaf."""
    return any(map(pred, tree_leaves(tree, is_leaf)))


__all__ = ["PyTree", "TreeSpec", "tree_all", "tree_any", "tree_flatten", "tree_leaves", "tree_map", "tree_map_",
           "tree_map_only", "tree_structure", "tree_unflatten"]
