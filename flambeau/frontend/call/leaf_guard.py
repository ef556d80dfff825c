"""What an argument leaf must be, at every call, and what to say of one that is something else."""
from __future__ import annotations

from typing import Any

from flambeau.frontend.scalars import is_runtime_number, settled
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.frontend.trace.call_plan import Leaf
from flambeau.frontend.trace.guards.values import is_same


class LeafGuard:
    """Whether a leaf is what the plan says. expected: for a tensor, its type as it came last, which is the same object
    next time in all likelihood."""

    __slots__ = ("cls", "expected", "is_leaf", "kind", "name", "requires_grad")

    def __init__(self, leaf: Leaf):
        self.name, self.cls, self.expected = leaf.name, leaf.cls, leaf.expected
        self.kind: str = leaf.kind
        self.requires_grad, self.is_leaf = leaf.requires_grad, leaf.is_tape_leaf

    def holds(self, leaf: Any) -> bool:
        match self.kind:
            case "tensor":
                if type(leaf) is not self.cls or leaf._requires_grad is not self.requires_grad \
                        or (leaf._record is None) is not self.is_leaf:
                    return False
                if leaf._type is not self.expected:
                    if leaf._type != self.expected:
                        return False
                    self.expected = leaf._type
                return True
            case "number":
                return type(settled(leaf)) is self.expected and is_runtime_number(leaf)
            case "value":
                return bool(is_same(self.expected, settled(leaf)))
            case _:
                return leaf is self.expected

    def difference(self, leaf: Any) -> str:
        """In words: what was expected and what came."""
        if self.kind == "tensor":
            if not isinstance(leaf, Tensor):
                return f"{self.name} is {type(leaf).__name__}, was a tensor {self.expected}"
            if leaf._type != self.expected:
                return f"{self.name} is {leaf._type}, was {self.expected}"
            if type(leaf) is not self.cls:
                return f"{self.name} is a {type(leaf).__name__}, was a {self.cls.__name__}"
            if leaf._requires_grad is self.requires_grad:
                return f"{self.name} is {'a leaf' if leaf._record is None else 'no leaf'} of autograd"
            return f"{self.name} {'requires' if leaf._requires_grad else 'does not require'} grad"
        if self.kind == "number":
            if type(settled(leaf)) is self.expected:
                return f"{self.name} is {leaf}, an integer beyond 2**31, which is guarded by value"
            return f"{self.name} is {type(settled(leaf)).__name__}, was {self.expected.__name__}"
        if self.kind == "value":
            return f"{self.name} is {leaf!r}, was {self.expected!r}"
        return f"{self.name} is another {type(leaf).__name__}"

    def remedy(self, leaf: Any) -> str:
        """What the user can do about a leaf that keeps changing."""
        if self.kind == "tensor" and isinstance(leaf, Tensor):
            return "let sizes vary (dynamic=None or True, fb.mark_dynamic), or pad the tensors to a few shapes"
        if is_runtime_number(leaf):
            return f"the function looks at the number {self.name} (if, range(), int(), an index): compute with it instead"
        return f"pass the same {type(leaf).__name__} as {self.name} again, or tensors in its place"


__all__ = ["LeafGuard"]
