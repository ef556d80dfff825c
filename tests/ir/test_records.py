"""`ir.records.dataclass` makes what the standard library's makes."""
from __future__ import annotations

import copy
import dataclasses
import functools
import inspect
import pickle
from collections.abc import Callable
from dataclasses import field
from typing import Any, ClassVar

import pytest

from flambeau.ir import records


def declare(dataclass: Callable[..., Any]) -> dict[str, Any]:
    """The same classes, made with one or the other."""

    @dataclass(frozen=True)
    class Empty:
        """Nothing."""

        kind: ClassVar[str] = "empty"

    @dataclass(frozen=True)
    class Plain:
        """Two fields."""

        a: int
        b: tuple[int, ...] = (1, 2)

    @dataclass
    class Open:
        a: int
        made: list[int] = field(default_factory=list)

        def __post_init__(self) -> None:
            self.made.append(self.a)

    @dataclass(frozen=True, slots=True)
    class Slots:
        """In slots."""

        a: int
        hidden: int = field(default=0, repr=False)
        aside: int = field(default=0, compare=False, kw_only=True)

    @dataclass(frozen=True, eq=False)
    class Identical:
        """Compared as objects are."""

        a: int = 0

    @dataclass(frozen=True)
    class Spoken:
        """Says some of it itself."""

        a: int

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Spoken) and self.a % 2 == other.a % 2

        def __repr__(self) -> str:
            return "spoken"

    @dataclass(frozen=True)
    class Derived(Plain):
        """A field more."""

        c: str = ""

    @dataclasses.dataclass(frozen=True)
    class Strange(Plain):
        """Of somebody else, who derives from ours."""

        c: str = ""

    @dataclass(frozen=True)
    class Nested:
        """Holds itself."""

        inner: list[Any] = field(default_factory=list)

    class Free(Plain):
        """Not a dataclass itself: it may have attributes of its own."""

    return {each.__name__: each for each in (Empty, Plain, Open, Slots, Identical, Spoken, Derived, Strange, Nested, Free)}


OURS, THEIRS = declare(records.dataclass), declare(dataclasses.dataclass)
CALLS: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("Empty", (), {}), ("Plain", (1,), {}), ("Plain", (1, (3,)), {}), ("Plain", (), {"b": (), "a": 2}), ("Open", (1,), {}),
    ("Open", (1, [5]), {}), ("Slots", (1,), {}), ("Slots", (1, 2), {"aside": 3}), ("Identical", (), {}),
    ("Spoken", (3,), {}), ("Derived", (1,), {"c": "x"}), ("Strange", (1,), {"c": "x"}), ("Nested", (), {}),
    ("Free", (4,), {}),
]
MISTAKES: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("Empty", (1,), {}), ("Plain", (), {}), ("Plain", (1, 2, 3), {}), ("Plain", (1,), {"c": 1}), ("Slots", (1, 2, 3), {}),
]


def outcome(run: Callable[[], Any]) -> Any:
    try:
        return run()
    except Exception as error:
        return type(error), str(error)


def facts(classes: dict[str, Any], name: str, positional: tuple[Any, ...], named: dict[str, Any]) -> list[Any]:
    kind = classes[name]
    one, other = (kind(*copy.deepcopy(positional), **named) for _ in range(2))
    values = [(each.name, getattr(one, each.name)) for each in dataclasses.fields(one)]
    found = [
        repr(one), one == other, one == (1,), one != other, values, kind.__match_args__, str(inspect.signature(kind)),
        outcome(lambda: hash(one) == hash(other)), kind.__hash__ is None, dataclasses.asdict(one),
        kind.__init__.__qualname__, dataclasses.astuple(copy.copy(one)), repr(copy.deepcopy(one)),
        repr(dataclasses.replace(one, **dict(values[:1]))),
    ]
    names = ["a", "new"] if hasattr(one, "__dict__") else ["a"]
    changes = [functools.partial(setattr, one, n, 5) for n in names] + [functools.partial(delattr, one, "a")]
    return [*found, *map(outcome, changes), outcome(lambda: vars(one))]


@pytest.mark.parametrize(("name", "positional", "named"), CALLS)
def test_objects_are_those_of_the_standard_library(name: str, positional: tuple[Any, ...], named: dict[str, Any]) -> None:
    assert facts(OURS, name, positional, named) == facts(THEIRS, name, positional, named)


@pytest.mark.parametrize(("name", "positional", "named"), MISTAKES)
def test_mistakes_are_those_of_the_standard_library(name: str, positional: tuple[Any, ...], named: dict[str, Any]) -> None:
    found, expected = (outcome(lambda kind=classes[name]: kind(*positional, **named)) for classes in (OURS, THEIRS))
    assert found == expected and found[0] is TypeError


def test_an_object_that_holds_itself_prints() -> None:
    for classes in (OURS, THEIRS):
        nested = classes["Nested"]()
        nested.inner.append(nested)
        assert repr(nested).endswith(".Nested(inner=[...])")


def test_what_is_not_frozen_does_not_derive_from_what_is() -> None:
    for make in (records.dataclass, dataclasses.dataclass):
        with pytest.raises(TypeError, match="cannot inherit non-frozen dataclass from a frozen one"):
            make(type("Thawed", (OURS["Plain"],), {"__annotations__": {"d": "int"}}))


@pytest.mark.skipif(records.dataclass is dataclasses.dataclass, reason="the standard library's")
def test_what_the_stand_in_does_not_know_is_refused() -> None:
    with pytest.raises(AssertionError, match="Late has a field outside of __init__"):
        @records.dataclass
        class Late:
            a: int = field(init=False)
    with pytest.raises(TypeError, match="order"):
        records.dataclass(order=True)(type("Ordered", (), {}))


@pytest.mark.skipif(records.dataclass is dataclasses.dataclass, reason="the standard library's")
def test_methods_are_compiled_when_the_first_is_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[tuple[Any, ...]]()
    codes = records._codes
    monkeypatch.setattr(records, "_codes", lambda *shape: asked.append(shape) or codes(*shape))
    kind = declare(records.dataclass)["Derived"]
    assert not asked
    assert kind(1) == kind(1) and hash(kind(1)) == hash(kind(1)) and len(asked) == 1
    assert inspect.isfunction(vars(kind)["__init__"]) and not inspect.isfunction(vars(kind.__base__)["__init__"])


@pytest.mark.skipif(records.dataclass is dataclasses.dataclass, reason="the standard library's")
def test_classes_of_as_many_fields_share_what_is_compiled() -> None:
    def made(names: str, **options: Any) -> Any:
        fields = dict.fromkeys(names.split(), "int")
        kind = records.dataclass(**options)(type("Made", (), {"__annotations__": fields, "__module__": __name__}))
        values = dict(zip(fields, range(len(fields)), strict=True))
        assert kind(**values) == kind(*values.values()) and all(getattr(kind(**values), n) == v for n, v in values.items())
        return kind

    made("first second third", frozen=True)
    before = records._codes.cache_info().misses
    kinds = [made("x y z", frozen=True), made("_1 _0 _2", frozen=True), made("self_ other hash", frozen=True)]
    assert records._codes.cache_info().misses == before
    assert [hash(kind(1, 2, 3)) for kind in kinds] == [hash((1, 2, 3))] * 3
    made("_1 _0 _2")


@pytest.mark.skipif(records.dataclass is dataclasses.dataclass, reason="the standard library's")
def test_what_has_no_default_comes_first() -> None:
    @records.dataclass
    class Late:
        a: int = 0
        b: int

    with pytest.raises(TypeError, match="Late: an argument without a default follows 'a'"):
        Late(1, 2)


@records.dataclass(frozen=True)
class Pickled:
    """At the top of a module."""

    a: int
    b: tuple[int, ...] = ()


@records.dataclass(frozen=True, slots=True)
class PickledSlots:
    a: int
    b: tuple[int, ...] = ()


@pytest.mark.parametrize("kind", [Pickled, PickledSlots])
def test_pickles(kind: Any) -> None:
    one = kind(3, (1, 2))
    assert pickle.loads(pickle.dumps(one)) == one
