"""Parameter groups, whose numbers are runtime numbers under trace, and what a trace depends on of an optimizer."""
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from itertools import chain, islice
from typing import Any

from flambeau.frontend.active import active
from flambeau.frontend.scalars import is_runtime_number, plain, settled
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.frontend.trace.guards.attributes import Instance
from flambeau.frontend.trace.guards.heap import Scope
from flambeau.frontend.trace.guards.markers import Stated
from flambeau.frontend.trace.guards.node import Node
from flambeau.frontend.trace.guards.reads import is_user_class
from flambeau.frontend.trace.guards.values import MISSING, Step, Way, all_are, is_same
from flambeau.ir.records import dataclass

_OWN = frozenset(["state", "param_groups"])


def decisive(group: dict[str, Any], key: str) -> Any:
    """A hyperparameter as it is, also under trace: one whose being zero decides what a step does. 0 for none."""
    return plain(dict.get(group, key, 0))


class Group(dict[str, Any], Stated):
    """A parameter group: a dict whose numbers are runtime numbers when a compiled function reads them, however it
    does, so that a schedule never recompiles."""

    def __getitem__(self, key: str) -> Any:
        value = super().__getitem__(key)
        tracer = active.tracer
        if tracer is None:
            return value
        if type(value) is tuple and value and all(map(is_runtime_number, value)):
            pair: Any = Part(self, key)
            return tuple([tracer.scalar(pair, f"{key}[{n}]") for n in range(len(value))])
        return tracer.scalar(self, key) if is_runtime_number(value) else value

    def get(self, key: str, default: Any = None) -> Any:
        return self[key] if key in self else default

    def __iter__(self) -> Iterator[str]:        # defined, `{**group}` and dict(group) ask for the values one by one
        return super().__iter__()

    def values(self) -> Any:
        return super().values() if active.tracer is None else [self[key] for key in self]

    def items(self) -> Any:
        return super().items() if active.tracer is None else [(key, self[key]) for key in self]

    def copy(self) -> dict[str, Any]:
        return dict(self.items())

    def _state_node(self, path: tuple[str, Way]) -> Node:
        return GroupState(self, path)


class Part:
    """`group["betas"]` as a dict of "betas[0]" and "betas[1]", looked up anew each time: the tuple may be replaced
    (OneCycleLR does)."""

    __slots__ = ("group", "key")

    def __init__(self, group: dict[str, Any], key: str):
        self.group, self.key = group, key

    def __getitem__(self, label: str) -> Any:
        return dict.__getitem__(self.group, self.key)[int(label[len(self.key) + 1:-1])]


def facts_of(group: dict[str, Any], with_numbers: bool) -> list[Any]:
    """A group as a list of objects: whatever changes in it, one of these is another. Of numbers that are read at each
    call only the type, and whether they are zero."""
    found: list[Any] = [group, *dict.keys(group)]
    for key, value in dict.items(group):
        if key == "params":
            found += value
        elif with_numbers:
            found.append(value)
        elif is_runtime_number(value):
            found += (type(settled(value)), bool(value == 0))
        elif type(value) is tuple and all(map(is_runtime_number, value)):
            found += [type(settled(number)) for number in value]
        elif key not in _HINTS:
            found.append(value)
    return found


class GroupState(Node):
    """A parameter group that code reaches without its optimizer."""

    __slots__ = ("facts", "held")

    def extend(self, scope: Scope, names: Set[str]) -> Iterable[Step]:
        if not hasattr(self, "held"):
            self.held, self.facts = dict(dict.items(self.object)), facts_of(self.object, False)
        return ()

    def differing(self) -> tuple[str, Any, Any] | None:
        now = facts_of(self.object, False)
        return None if len(now) == len(self.facts) and all_are(now, self.facts) else ("", self.facts, now)

    def pairs(self, other: Any) -> list[tuple[Any, Any]] | None:
        now = facts_of(other, False) if other is self.object else []
        return list(zip(self.facts, now, strict=True)) if len(now) == len(self.facts) else None

    def restore(self) -> None:
        self.object.clear()
        self.object.update(self.held)


_IS_THERE: Any = type("IsThere", (), {"__slots__": ()})()       # the key of an entry that says there is a dict at all


@dataclass(frozen=True, slots=True)
class Entry:
    """A part of an optimizer's state: `state[parameter][key]`."""

    parameter: Tensor
    key: Any


class OptimizerState(Instance):
    """Parameters and state by identity, hyperparameters by value, except numbers, which are read at every call. In a
    group that is a plain dict of the user's, code that names `param_groups`, or is an optimizer itself, reads them as
    they are; then they are guarded too. State that a first step creates is adopted."""

    __slots__ = ("groups", "is_open", "is_strict", "kept", "seen", "state_keys", "state_values", "states")

    def keys(self, scope: Scope, names: Set[str]) -> Iterable[str]:
        return [key for key in super().keys(scope, names) if key not in _OWN]

    def extend(self, scope: Scope, names: Set[str]) -> Iterable[Step]:
        is_first = self.scope is None
        found = list(super().extend(scope, names))
        if is_first:
            self.kept = [(group, dict(dict.items(group)), list(group["params"])) for group in self.object.param_groups]
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
        """Take the state as it is now; what calls will put there, when they have."""
        states = self.object.state
        self.groups = self._groups()
        self._note_groups()
        if hasattr(self, "states") and not self._only_grew():
            return
        self.states = {parameter: len(state) for parameter, state in states.items()}
        self.state_keys = list(chain.from_iterable(states.values()))
        self.state_values = self._values()

    def _values(self) -> list[Any]:
        """All that the state holds, in order, but for entries that calls bind anew."""
        states = self.object.state
        if not self.free:
            return list(chain.from_iterable(map(dict.values, states.values())))
        return [MISSING if Entry(parameter, key) in self.free else value
                for parameter, state in states.items() for key, value in state.items()]

    def _groups(self) -> list[Any]:
        return list(chain.from_iterable(
            facts_of(group, self.is_open and type(group) is not Group) for group in self.object.param_groups))

    def differing(self) -> tuple[str, Any, Any] | None:
        found = super().differing()
        if found is not None:
            return found
        if not self._has_same_groups():
            groups = self._groups()
            if len(groups) != len(self.groups) or not all_are(groups, self.groups):
                return self._differing_group() or (".param_groups", self.groups, groups)
            self._note_groups()
        if not self._has_same_state() and not self._only_grew():
            return ".state", None, self.object.state
        return None

    def changed(self) -> list[tuple[Any, Any, Any]]:
        """Also entries of the state that a step of the user's put there or replaced. Nothing can be put where the groups
        changed too, or where a tensor made outside the trace is an entry: calls would not find its first value."""
        then = self._entries(dict(self._held_states()))
        now = self._entries(self.object.state)
        groups = self._groups()
        if len(groups) != len(self.groups) or not all_are(groups, self.groups) or any(
                isinstance(value, Tensor) and value._storage.trace is None and entry not in then
                for entry, value in now.items()):
            return []
        return super().changed() + [(entry, then.get(entry, MISSING), now.get(entry, MISSING))
                                    for entry in {**then, **now} if then.get(entry, MISSING) is not now.get(entry, MISSING)]

    @staticmethod
    def _entries(states: Mapping[Tensor, dict[Any, Any]]) -> dict[Entry, Any]:
        return {Entry(parameter, key): value for parameter, held in states.items()
                for key, value in [(_IS_THERE, True), *held.items()]}

    def get(self, part: Any) -> Any:
        if not isinstance(part, Entry):
            return super().get(part)
        held = self.object.state.get(part.parameter)
        return MISSING if held is None else part.key is _IS_THERE or held.get(part.key, MISSING)

    def put(self, part: Any, value: Any) -> None:
        states = self.object.state
        if not isinstance(part, Entry):
            super().put(part, value)
        elif value is MISSING:
            (states if part.key is _IS_THERE else states.get(part.parameter, {})).pop(
                part.parameter if part.key is _IS_THERE else part.key, None)
        else:
            held = states.setdefault(part.parameter, {})
            if part.key is not _IS_THERE:
                held[part.key] = value

    def release(self, parts: frozenset[Any]) -> None:
        super().release(parts)
        self.state_values = [MISSING if Entry(parameter, key) in self.free else value
                             for parameter, held in self._held_states() for key, value in held.items()]

    def label_of(self, part: Any) -> str:
        return f".state[...][{part.key!r}]" if isinstance(part, Entry) else super().label_of(part)

    def _note_groups(self) -> None:
        self.seen = [(group, len(group), list(dict.keys(group)), list(dict.values(group)), group["params"],
                      list(group["params"])) for group in self.object.param_groups]

    def _has_same_groups(self) -> bool:
        """Not even a number is another object than when this was last looked at."""
        groups = self.object.param_groups
        return len(groups) == len(self.seen) and all(
            now is group and len(now) == count and all_are(dict.keys(now), keys) and all_are(dict.values(now), values)
            and len(params) == len(held) and all_are(params, held)
            for now, (group, count, keys, values, params, held) in zip(groups, self.seen, strict=True))

    def _has_same_state(self) -> bool:
        """Entry for entry the same objects, in the same order."""
        states = self.object.state
        return (len(states) == len(self.states) and list(chain.from_iterable(states.values())) == self.state_keys
                and all_are(states, self.states) and all_are(self._values(), self.state_values))

    def _only_grew(self) -> bool:
        """State grows by tensors that a step made outside the trace, which matter only where code looks at the
        state."""
        states = self.object.state
        if self.is_strict or any(parameter not in states for parameter in self.states):
            return False
        for parameter, held in self._held_states():
            if any(states[parameter].get(key) is not value for key, value in held.items() if value is not MISSING):
                return False
        known = set(map(id, self.state_values))
        return all(id(value) in known or isinstance(value, Tensor) and value._storage.trace is None
                   for state in states.values() for value in state.values())

    def _held_states(self) -> Iterator[tuple[Tensor, dict[str, Any]]]:
        entries = zip(self.state_keys, self.state_values, strict=True)
        for parameter, count in self.states.items():
            yield parameter, dict(islice(entries, count))

    def _differing_group(self) -> tuple[str, Any, Any] | None:
        for number, (group, (then, held, _)) in enumerate(zip(self.object.param_groups, self.kept, strict=False)):
            for key, value in held.items():
                if group is then and key in group and is_same(value, dict.__getitem__(group, key)) is False:
                    return f".param_groups[{number}].{key}", value, dict.__getitem__(group, key)
        return None

    def pairs(self, other: Any) -> list[tuple[Any, Any]] | None:
        found, groups, states = super().pairs(other), self._groups(), self.object.state
        if found is None or len(groups) != len(self.groups):
            return None
        found += zip(self.groups, groups, strict=True)
        if self._only_grew():
            return found
        if list(states) != list(self.states) or list(chain.from_iterable(states.values())) != self.state_keys:
            return None
        return [*found, *zip(self.state_values, self._values(), strict=True)]

    def restore(self) -> None:
        super().restore()
        self.object.param_groups[:] = [group for group, _, _ in self.kept]
        for group, held, params in self.kept:
            group.clear()
            group.update(held)
            group["params"][:] = params
        states = self.object.state
        for parameter in [p for p in states if p not in self.states]:
            del states[parameter]
        for parameter, held in self._held_states():
            free = {key: states[parameter].get(key) for key, value in held.items() if value is MISSING}
            states[parameter].clear()
            states[parameter].update({**held, **free})

    def test(self, name: Callable[[Any], str]) -> list[str]:
        return [f"if {name(self)}.differing() is not None: return False"]


_LOOKING_AT_STATE = frozenset(["state", "state_dict", "_state_of"])
_LOOKING = _LOOKING_AT_STATE | {"param_groups"}
_HINTS = frozenset(["param_names", "foreach", "fused", "capturable"])         # they change nothing
