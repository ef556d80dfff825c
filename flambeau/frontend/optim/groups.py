"""What a trace depends on of an optimizer: its groups and its state, in one node."""
from __future__ import annotations

from collections.abc import Callable, Iterable, Set
from typing import Any

from flambeau.frontend.heap import Scope
from flambeau.frontend.reads import is_user_class
from flambeau.frontend.scalars import is_runtime_number
from flambeau.frontend.state import Instance, Step, all_are, is_same
from flambeau.frontend.tensor import Tensor

_OWN = frozenset(["state", "param_groups"])


class OptimizerState(Instance):
    """Parameters and state by identity, hyperparameters by value, except numbers, which the framework's own steps read
    at every call. Code of the user's that names `param_groups` may look at those too; then they are guarded.
    State that a first step creates is adopted."""

    __slots__ = ("groups", "is_open", "is_strict", "kept", "state")

    def keys(self, scope: Scope, names: Set[str]) -> Iterable[str]:
        return [key for key in super().keys(scope, names) if key not in _OWN]

    def extend(self, scope: Scope, names: Set[str]) -> Iterable[Step]:
        is_first = self.fields is None
        found = list(super().extend(scope, names))
        if is_first:
            self.kept = [(group, dict(group), list(group["params"])) for group in self.object.param_groups]
            self.is_open = any(is_user_class(base) for base in type(self.object).__mro__)
        elif _LOOKING.isdisjoint(names):
            return found
        self.is_open = self.is_open or not _LOOKING.isdisjoint(scope.attributes)
        self.is_strict = not _LOOKING_AT_STATE.isdisjoint(scope.attributes)
        self.settle()
        for number, (group, held, _) in enumerate(self.kept):
            found += [(f".param_groups[{number}].{key}", value) for key, value in held.items() if key != "params"]
            del group
        return found

    def settle(self) -> None:
        """Take the state as it is now."""
        self.groups, self.state = self._groups(), self._state()

    def _groups(self) -> list[Any]:
        """The groups as a list of objects: whatever changes in them, one of these is another."""
        found: list[Any] = []
        for group in self.object.param_groups:
            found.append(group)
            found += group
            for key, value in group.items():
                if key == "params":
                    found += value
                elif self.is_open:
                    found.append(value)
                elif type(value) is float or is_runtime_number(value):
                    found += (type(value), bool(value == 0))
                elif type(value) is tuple and all(map(is_runtime_number, value)):
                    found += map(type, value)
                elif key not in _HINTS:
                    found.append(value)
        return found

    def _state(self) -> list[Any]:
        """Likewise for the state: what a step adds comes last."""
        found: list[Any] = []
        for p, state in self.object.state.items():
            found += (p, state, *state, *state.values())
        return found

    def differing(self) -> tuple[str, Any, Any] | None:
        found = super().differing()
        if found is not None:
            return found
        groups, state = self._groups(), self._state()
        if len(groups) != len(self.groups) or not all_are(groups, self.groups):
            return self._differing_group() or (".param_groups", self.groups, groups)
        if not self._may_become(state) or not all_are(state, self.state):
            return ".state", self.state, state
        return None

    def _may_become(self, state: list[Any]) -> bool:
        """State only grows, by tensors that a step made outside the trace, and only where no code looks at it."""
        added = state[len(self.state):]
        return len(state) >= len(self.state) and not (self.is_strict and added) and all(
            isinstance(value, (Tensor, dict, str)) for value in added)

    def _differing_group(self) -> tuple[str, Any, Any] | None:
        for number, (group, (then, held, _)) in enumerate(zip(self.object.param_groups, self.kept, strict=False)):
            for key, value in held.items():
                if group is then and key in group and is_same(value, group[key]) is False:
                    return f".param_groups[{number}].{key}", value, group[key]
        return None

    def pairs(self, other: Any) -> list[tuple[Any, Any]] | None:
        found = super().pairs(other)
        groups, state = self._groups(), self._state()
        if found is None or len(groups) != len(self.groups) or not self._may_become(state):
            return None
        return [*found, *zip(self.groups, groups, strict=True), *zip(self.state, state, strict=False)]

    def restore(self) -> None:
        super().restore()
        self.object.param_groups[:] = [group for group, _, _ in self.kept]
        for group, held, params in self.kept:
            group.clear()
            group.update(held)
            group["params"][:] = params

    def test(self, name: Callable[[Any], str]) -> list[str]:
        return [f"if {name(self)}.differing() is not None: return False"]


_LOOKING_AT_STATE = frozenset(["state", "state_dict", "_state_of"])
_LOOKING = _LOOKING_AT_STATE | {"param_groups"}
_HINTS = frozenset(["param_names", "foreach", "fused", "capturable"])         # they change nothing
