"""Attributes: of objects, classes, modules and namespaces, read in every way Python has."""
from __future__ import annotations

import argparse
import contextvars
import dataclasses
import enum
import sys
import threading
import types
import weakref

import flambeau as fb
from tests.contract.harness import exact, same


def ones():
    return fb.ones(2)


class Config:
    lr = 2.0

    class Model:
        width = 3.0


class Base:
    shared = 2.0

    def scaled(self, x):
        return x * self.shared


class Derived(Base):
    pass


# -- objects ----------------------------------------------------------------------------------------------------------


@exact
def attribute_of_an_object(compiled):
    class Box:
        def __init__(self):
            self.k = 2.0

    box = Box()
    f = compiled(lambda x: x * box.k)
    yield f(ones())
    box.k = 3.0
    yield f(ones())


@same
def attribute_five_objects_down(compiled):
    class Box:
        def __init__(self, k):
            self.k = k

    box = Box(Box(Box(Box(Box(2.0)))))
    f = compiled(lambda x: x * box.k.k.k.k.k)
    yield f(ones())
    box.k.k.k.k.k = 3.0
    yield f(ones())


@same
def attribute_thirty_objects_down(compiled):
    class Box:
        def __init__(self, inner):
            self.inner = inner

    lowest = box = Box(2.0)
    for _ in range(30):
        box = Box(box)

    def g(x):
        node = box
        while isinstance(node, Box):
            node = node.inner
        return x * node

    f = compiled(g)
    yield f(ones())
    lowest.inner = 3.0
    yield f(ones())


@same
def attribute_through_methods_of_nested_objects(compiled):
    class Inner:
        def __init__(self):
            self.k = 2.0

        def get(self):
            return self.k

    class Middle:
        def __init__(self):
            self.inner = Inner()

        def get(self):
            return self.inner.get()

    class Outer:
        def __init__(self):
            self.middle = Middle()

        def get(self):
            return self.middle.get()

    outer = Outer()
    f = compiled(lambda x: x * outer.get())
    yield f(ones())
    outer.middle.inner.k = 3.0
    yield f(ones())


@same
def attribute_added_later(compiled):
    class Box:
        pass

    box = Box()
    f = compiled(lambda x: x * getattr(box, "k", 2.0))
    yield f(ones())
    box.k = 3.0
    yield f(ones())
    del box.k
    yield f(ones())


@same
def hasattr_decides(compiled):
    box = types.SimpleNamespace()
    f = compiled(lambda x: x * 2 if hasattr(box, "k") else x * 3)
    yield f(ones())
    box.k = None
    yield f(ones())


@same
def attribute_through_vars(compiled):
    box = types.SimpleNamespace(k=2.0)
    f = compiled(lambda x: x * vars(box)["k"])
    yield f(ones())
    box.k = 3.0
    yield f(ones())


@same
def attribute_through_dict_of_an_object(compiled):
    class Box:
        def __init__(self):
            self.k = 2.0

    box = Box()
    f = compiled(lambda x: x * box.__dict__["k"])
    yield f(ones())
    box.__dict__["k"] = 3.0
    yield f(ones())


@same
def attribute_under_a_computed_name(compiled):
    box = types.SimpleNamespace(a=2.0, b=3.0)
    names = ["a"]
    f = compiled(lambda x: x * getattr(box, names[0]))
    yield f(ones())
    names[0] = "b"
    yield f(ones())
    box.b = 4.0
    yield f(ones())


@same
def object_attributes_iterated(compiled):
    box = types.SimpleNamespace(a=2.0, b=3.0)
    f = compiled(lambda x: x * sum(vars(box).values()))
    yield f(ones())
    box.c = 4.0
    yield f(ones())


@same
def class_of_an_object_replaced(compiled):
    class A:
        def scale(self, x):
            return x * 2

    class B:
        def scale(self, x):
            return x * 3

    box = A()
    f = compiled(lambda x: box.scale(x))
    yield f(ones())
    box.__class__ = B
    yield f(ones())


@same
def dict_of_an_object_replaced(compiled):
    class Box:
        pass

    box = Box()
    box.k = 2.0
    f = compiled(lambda x: x * box.k)
    yield f(ones())
    box.__dict__ = {"k": 3.0}
    yield f(ones())


@same
def object_in_a_list_in_an_object(compiled):
    class Box:
        def __init__(self, k):
            self.k = k

    box = Box([Box(2.0), Box({"a": Box(3.0)})])
    f = compiled(lambda x: x * box.k[0].k + box.k[1].k["a"].k)
    yield f(ones())
    box.k[1].k["a"].k = 5.0
    yield f(ones())


@same
def object_as_argument(compiled):
    class Box:
        def __init__(self, k):
            self.k = k

    box = Box(Box(Box(Box(2.0))))
    f = compiled(lambda box, x: x * box.k.k.k.k)
    yield f(box, ones())
    box.k.k.k.k = 3.0
    yield f(box, ones())


@same
def object_with_a_method_as_argument(compiled):
    class Box:
        def __init__(self, k):
            self.inner = types.SimpleNamespace(more=types.SimpleNamespace(k=k))

        def scale(self, x):
            return x * self.inner.more.k

    box = Box(2.0)
    f = compiled(lambda box, x: box.scale(x))
    yield f(box, ones())
    box.inner.more.k = 3.0
    yield f(box, ones())


@same
def cyclic_objects(compiled):
    class Node:
        def __init__(self, k):
            self.k, self.next = k, self

    a, b = Node(2.0), Node(3.0)
    a.next, b.next = b, a
    f = compiled(lambda x: x * a.k * a.next.next.next.k)
    yield f(ones())
    b.k = 5.0
    yield f(ones())
    a.next = a
    yield f(ones())


@same
def linked_list_walked(compiled):
    class Node:
        def __init__(self, k, rest=None):
            self.k, self.rest = k, rest

    head = Node(1.0, Node(2.0, Node(3.0)))

    def g(x):
        node = head
        while node is not None:
            x = x * node.k
            node = node.rest
        return x

    f = compiled(g)
    yield f(ones())
    head.rest.rest.rest = Node(4.0)
    yield f(ones())
    head.rest.k = 5.0
    yield f(ones())


@same
def large_object_and_a_number(compiled):
    """A vocabulary of 1,200 entries beside the number that matters."""
    class Model:
        def __init__(self):
            self.vocabulary = {f"word{n}": n for n in range(1200)}
            self.scale = 2.0

    model = Model()
    f = compiled(lambda x: x * model.scale)
    yield f(ones())
    model.scale = 5.0
    yield f(ones())


@same
def entry_of_a_large_table(compiled):
    table = {f"word{n}": n for n in range(1200)}
    f = compiled(lambda x: x * table["word1100"])
    yield f(ones())
    table["word1100"] = 7
    yield f(ones())


@same
def entry_of_a_large_list(compiled):
    scales = [float(n) for n in range(3000)]
    f = compiled(lambda x: x * scales[2500])
    yield f(ones())
    scales[2500] = 7.0
    yield f(ones())


@same
def length_of_a_large_table(compiled):
    table = {f"word{n}": n for n in range(1200)}
    f = compiled(lambda x: x * len(table))
    yield f(ones())
    table["more"] = 1
    yield f(ones())


@same
def sum_of_a_large_list(compiled):
    scales = [1.0] * 2000
    f = compiled(lambda x: x * sum(scales))
    yield f(ones())
    scales[1999] = 2.0
    yield f(ones())


# -- slots, properties, descriptors -----------------------------------------------------------------------------------


@same
def slots(compiled):
    class Box:
        __slots__ = ("k",)

    box = Box()
    box.k = 2.0
    f = compiled(lambda x: x * box.k)
    yield f(ones())
    box.k = 3.0
    yield f(ones())


@same
def mangled_slots(compiled):
    class Box:
        __slots__ = ("__k",)

        def __init__(self):
            self.__k = 2.0

        def get(self):
            return self.__k

        def set(self, k):
            self.__k = k

    box = Box()
    f = compiled(lambda x: x * box.get())
    yield f(ones())
    box.set(3.0)
    yield f(ones())


@same
def inherited_slots(compiled):
    class A:
        __slots__ = ("k",)

    class B(A):
        __slots__ = ("n",)

    box = B()
    box.k, box.n = 2.0, 1
    f = compiled(lambda x: x * box.k * box.n)
    yield f(ones())
    box.k = 3.0
    yield f(ones())


@same
def mangled_attribute(compiled):
    class Box:
        def __init__(self):
            self.__k = 2.0

        def get(self):
            return self.__k

        def set(self, k):
            self.__k = k

    box = Box()
    f = compiled(lambda x: x * box.get())
    yield f(ones())
    box.set(3.0)
    yield f(ones())


@same
def mangled_class_attribute(compiled):
    class Box:
        __k = 2.0

        def get(self):
            return self.__k

        @classmethod
        def set(cls, k):
            cls.__k = k

    box = Box()
    f = compiled(lambda x: x * box.get())
    yield f(ones())
    Box.set(3.0)
    yield f(ones())


@same
def property_reads_a_cell(compiled):
    k = 2.0

    class Box:
        @property
        def scale(self):
            return k

    box = Box()
    f = compiled(lambda x: x * box.scale)
    yield f(ones())
    k = 3.0
    yield f(ones())


@same
def property_of_a_lambda(compiled):
    k = 2.0

    class Box:
        scale = property(lambda self: k)

    box = Box()
    f = compiled(lambda x: x * box.scale)
    yield f(ones())
    k = 3.0
    yield f(ones())


@same
def property_replaced(compiled):
    class Box:
        @property
        def scale(self):
            return 2.0

    box = Box()
    f = compiled(lambda x: x * box.scale)
    yield f(ones())
    Box.scale = property(lambda self: 3.0)
    yield f(ones())


@same
def property_becomes_a_value(compiled):
    class Box:
        @property
        def scale(self):
            return 2.0

    box = Box()
    f = compiled(lambda x: x * box.scale)
    yield f(ones())
    Box.scale = 3.0
    yield f(ones())


@same
def property_reads_private_attribute(compiled):
    class Box:
        def __init__(self):
            self._scale = 2.0

        @property
        def scale(self):
            return self._scale

        @scale.setter
        def scale(self, value):
            self._scale = value

    box = Box()
    f = compiled(lambda x: x * box.scale)
    yield f(ones())
    box.scale = 3.0
    yield f(ones())


@same
def cached_property(compiled):
    import functools

    class Box:
        base = 2.0

        @functools.cached_property
        def scale(self):
            return self.base * 2

    box = Box()
    f = compiled(lambda x: x * box.scale)
    yield f(ones())
    del box.scale
    box.base = 3.0
    yield f(ones())


@same
def cached_property_filled_before(compiled):
    import functools

    class Box:
        base = 2.0

        @functools.cached_property
        def scale(self):
            return self.base * 2

    box = Box()
    box.scale
    f = compiled(lambda x: x * box.scale)
    yield f(ones())
    box.__dict__["scale"] = 7.0
    yield f(ones())


@same
def descriptor_with_its_own_storage(compiled):
    class Stored:
        def __init__(self):
            self.value_of = weakref.WeakKeyDictionary()

        def __get__(self, owner, kind=None):
            return self if owner is None else self.value_of[owner]

        def __set__(self, owner, value):
            self.value_of[owner] = value

    class Box:
        k = Stored()

    box = Box()
    box.k = 2.0
    f = compiled(lambda x: x * box.k)
    yield f(ones())
    box.k = 3.0
    yield f(ones())


@same
def descriptor_with_a_private_name(compiled):
    class Positive:
        def __set_name__(self, owner, name):
            self.name = "_" + name

        def __get__(self, owner, kind=None):
            return getattr(owner, self.name)

        def __set__(self, owner, value):
            setattr(owner, self.name, abs(value))

    class Box:
        k = Positive()

    box = Box()
    box.k = -2.0
    f = compiled(lambda x: x * box.k)
    yield f(ones())
    box.k = -3.0
    yield f(ones())


@same
def descriptor_state_on_the_descriptor(compiled):
    class Constant:
        value = 2.0

        def __get__(self, owner, kind=None):
            return self.value

    class Box:
        k = Constant()

    box = Box()
    f = compiled(lambda x: x * box.k)
    yield f(ones())
    vars(Box)["k"].value = 3.0
    yield f(ones())


@same
def getattr_method(compiled):
    class Box:
        def __init__(self):
            self.table = {"k": 2.0}

        def __getattr__(self, name):
            try:
                return self.__dict__["table"][name]
            except KeyError:
                raise AttributeError(name) from None

    box = Box()
    f = compiled(lambda x: x * box.k)
    yield f(ones())
    box.table["k"] = 3.0
    yield f(ones())
    box.k = 4.0
    yield f(ones())


@same
def getattribute_method(compiled):
    class Box:
        def __init__(self):
            self.k = 2.0
            self.n = 1.0

        def __getattribute__(self, name):
            found = object.__getattribute__(self, name)
            return found * object.__getattribute__(self, "n") if name == "k" else found

    box = Box()
    f = compiled(lambda x: x * box.k)
    yield f(ones())
    box.n = 3.0
    yield f(ones())


@same
def getattr_of_a_module_function(compiled):
    module = types.ModuleType("settings_made_here")
    module.table = {"k": 2.0}
    module.__getattr__ = lambda name: module.table[name]
    f = compiled(lambda x: x * module.k)
    yield f(ones())
    module.table["k"] = 3.0
    yield f(ones())


@same
def attribute_dict(compiled):
    """A dict whose keys are attributes, as configuration libraries have it."""
    class AttrDict(dict):
        def __getattr__(self, name):
            try:
                return self[name]
            except KeyError:
                raise AttributeError(name) from None

        def __setattr__(self, name, value):
            self[name] = value

    config = AttrDict(model=AttrDict(width=2.0))
    f = compiled(lambda x: x * config.model.width)
    yield f(ones())
    config.model.width = 3.0
    yield f(ones())
    config["model"]["width"] = 4.0
    yield f(ones())


# -- classes ----------------------------------------------------------------------------------------------------------


@exact
def class_attribute(compiled):
    Config.lr = 2.0
    f = compiled(lambda x: x * Config.lr)
    yield f(ones())
    Config.lr = 3.0
    yield f(ones())


@same
def class_attribute_of_a_nested_class(compiled):
    Config.Model.width = 3.0
    f = compiled(lambda x: x * Config.Model.width)
    yield f(ones())
    Config.Model.width = 4.0
    yield f(ones())


@same
def class_attribute_through_an_instance(compiled):
    class Box:
        k = 2.0

    box = Box()
    f = compiled(lambda x: x * box.k)
    yield f(ones())
    Box.k = 3.0
    yield f(ones())
    box.k = 4.0
    yield f(ones())
    del box.k
    yield f(ones())


@same
def class_attribute_through_self(compiled):
    Base.shared = 2.0
    thing = Derived()
    f = compiled(lambda x: thing.scaled(x))
    yield f(ones())
    Base.shared = 3.0
    yield f(ones())
    Derived.shared = 4.0
    yield f(ones())
    del Derived.shared
    yield f(ones())


@same
def class_attribute_through_type_of_self(compiled):
    class Box:
        k = 2.0

        def scale(self, x):
            return x * type(self).k

    box = Box()
    f = compiled(lambda x: box.scale(x))
    yield f(ones())
    Box.k = 3.0
    yield f(ones())


@same
def class_attribute_through_dunder_class(compiled):
    class Box:
        k = 2.0

        def scale(self, x):
            return x * __class__.k * self.__class__.k

    box = Box()
    f = compiled(lambda x: box.scale(x))
    yield f(ones())
    Box.k = 3.0
    yield f(ones())


@same
def class_attribute_that_is_a_container(compiled):
    class Box:
        table = {"k": [2.0]}

    box = Box()
    f = compiled(lambda x: x * box.table["k"][0])
    yield f(ones())
    Box.table["k"][0] = 3.0
    yield f(ones())


@same
def class_attribute_that_is_a_lambda(compiled):
    k = 2.0

    class Box:
        scale = lambda self, x: x * k

    box = Box()
    f = compiled(lambda x: box.scale(x))
    yield f(ones())
    k = 3.0
    yield f(ones())


@same
def class_attribute_of_the_class_of_an_argument(compiled):
    class Box:
        k = 2.0

    f = compiled(lambda box, x: x * box.k)
    box = Box()
    yield f(box, ones())
    Box.k = 3.0
    yield f(box, ones())


@same
def class_as_argument(compiled):
    class Box:
        k = 2.0

    f = compiled(lambda kind, x: x * kind.k)
    yield f(Box, ones())
    Box.k = 3.0
    yield f(Box, ones())


@same
def class_in_a_container(compiled):
    class Box:
        k = 2.0

    kinds = {"box": Box}
    f = compiled(lambda x: x * kinds["box"].k)
    yield f(ones())
    Box.k = 3.0
    yield f(ones())


@same
def class_in_an_object(compiled):
    class Settings:
        k = 2.0

    class Box:
        settings = Settings

    box = Box()
    f = compiled(lambda x: x * box.settings.k)
    yield f(ones())
    Settings.k = 3.0
    yield f(ones())


@same
def class_attribute_added_in_a_subclass(compiled):
    class A:
        k = 2.0

    class B(A):
        pass

    f = compiled(lambda x: x * B.k)
    yield f(ones())
    B.k = 3.0
    yield f(ones())
    del B.k
    A.k = 5.0
    yield f(ones())


@same
def bases_of_a_class_replaced(compiled):
    class A:
        k = 2.0

    class B:
        k = 3.0

    class C(A):
        pass

    box = C()
    f = compiled(lambda x: x * box.k)
    yield f(ones())
    C.__bases__ = (B,)
    yield f(ones())


@same
def metaclass_attribute(compiled):
    class Meta(type):
        k = 2.0

    class Box(metaclass=Meta):
        pass

    f = compiled(lambda x: x * Box.k)
    yield f(ones())
    Meta.k = 3.0
    yield f(ones())
    Box.k = 4.0
    yield f(ones())


@same
def metaclass_property(compiled):
    class Meta(type):
        def __init__(cls, *args):
            super().__init__(*args)
            cls._k = 2.0

        @property
        def k(cls):
            return cls._k

        @k.setter
        def k(cls, value):
            cls._k = value

    class Box(metaclass=Meta):
        pass

    f = compiled(lambda x: x * Box.k)
    yield f(ones())
    Box.k = 3.0
    yield f(ones())


@same
def metaclass_getattr(compiled):
    class Meta(type):
        table = {"k": 2.0}

        def __getattr__(cls, name):
            return Meta.table[name]

    class Box(metaclass=Meta):
        pass

    f = compiled(lambda x: x * Box.k)
    yield f(ones())
    Meta.table["k"] = 3.0
    yield f(ones())


@same
def metaclass_getitem(compiled):
    class Registry(type):
        table = {"k": 2.0}

        def __getitem__(cls, name):
            return cls.table[name]

    class Box(metaclass=Registry):
        pass

    f = compiled(lambda x: x * Box["k"])
    yield f(ones())
    Registry.table["k"] = 3.0
    yield f(ones())


@same
def registry_of_subclasses(compiled):
    class Plugin:
        def scale(self, x):
            return x * 2

    f = compiled(lambda x: x * len(Plugin.__subclasses__()))
    yield f(ones())

    class Another(Plugin):
        pass

    yield f(ones())
    yield Another.__name__


@same
def singleton_instance(compiled):
    class Settings:
        _instance = None

        @classmethod
        def get(cls):
            if cls._instance is None:
                cls._instance = cls()
                cls._instance.k = 2.0
            return cls._instance

    Settings.get()
    f = compiled(lambda x: x * Settings.get().k)
    yield f(ones())
    Settings.get().k = 3.0
    yield f(ones())
    Settings._instance = types.SimpleNamespace(k=4.0)
    yield f(ones())


@same
def borg(compiled):
    class Borg:
        state = {"k": 2.0}

        def __init__(self):
            self.__dict__ = self.state

    a, b = Borg(), Borg()
    f = compiled(lambda x: x * a.k)
    yield f(ones())
    b.k = 3.0
    yield f(ones())


# -- dataclasses, enums, namedtuples, namespaces ----------------------------------------------------------------------


@same
def dataclass_in_a_cell(compiled):
    @dataclasses.dataclass
    class Inner:
        k: float = 2.0

    @dataclasses.dataclass
    class Settings:
        inner: Inner = dataclasses.field(default_factory=Inner)
        mode: str = "a"

    settings = Settings()
    f = compiled(lambda x: x * settings.inner.k if settings.mode == "a" else x)
    yield f(ones())
    settings.inner.k = 3.0
    yield f(ones())
    settings.mode = "b"
    yield f(ones())
    settings = Settings(Inner(5.0))
    yield f(ones())


@same
def frozen_dataclass_replaced(compiled):
    @dataclasses.dataclass(frozen=True)
    class Settings:
        k: float
        tags: tuple = ()

    settings = Settings(2.0)
    f = compiled(lambda x: x * settings.k + len(settings.tags))
    yield f(ones())
    settings = dataclasses.replace(settings, k=3.0)
    yield f(ones())
    settings = dataclasses.replace(settings, tags=("a",))
    yield f(ones())


@same
def frozen_dataclass_with_a_list(compiled):
    @dataclasses.dataclass(frozen=True)
    class Settings:
        scales: list

    settings = Settings([2.0])
    f = compiled(lambda x: x * settings.scales[0])
    yield f(ones())
    settings.scales[0] = 3.0
    yield f(ones())


@same
def dataclass_class_variable(compiled):
    @dataclasses.dataclass
    class Settings:
        k: float = 2.0

    settings = Settings()
    f = compiled(lambda x: x * settings.extra if hasattr(settings, "extra") else x * settings.k)
    yield f(ones())
    Settings.extra = 5.0
    yield f(ones())


@same
def dataclass_with_an_attribute_beside_its_fields(compiled):
    @dataclasses.dataclass
    class Settings:
        k: float = 2.0

    settings = Settings()
    settings.extra = 1.0
    f = compiled(lambda x: x * settings.extra)
    yield f(ones())
    settings.extra = 3.0
    yield f(ones())


@same
def dataclass_method_reads_fields(compiled):
    @dataclasses.dataclass
    class Schedule:
        start: float = 1.0
        step: int = 0

        def value(self):
            return self.start * 0.5 ** self.step

    schedule = Schedule()
    f = compiled(lambda x: x * schedule.value())
    for step in range(3):
        schedule.step = step
        yield f(ones())


@same
def dataclass_fields_iterated(compiled):
    @dataclasses.dataclass
    class Losses:
        a: float = 1.0
        b: float = 2.0

    losses = Losses()
    f = compiled(lambda x: x * sum(getattr(losses, f.name) for f in dataclasses.fields(losses)))
    yield f(ones())
    losses.b = 5.0
    yield f(ones())
    f = compiled(lambda x: x * sum(dataclasses.astuple(losses)))
    yield f(ones())
    losses.a = 7.0
    yield f(ones())


@same
def dataclass_with_slots(compiled):
    @dataclasses.dataclass(slots=True)
    class Settings:
        k: float = 2.0

    settings = Settings()
    f = compiled(lambda x: x * settings.k)
    yield f(ones())
    settings.k = 3.0
    yield f(ones())


@same
def enum_member(compiled):
    class Mode(enum.Enum):
        DOUBLE = 2.0
        TRIPLE = 3.0

    mode = Mode.DOUBLE
    f = compiled(lambda x: x * mode.value if mode is Mode.DOUBLE else x + mode.value)
    yield f(ones())
    mode = Mode.TRIPLE
    yield f(ones())


@same
def enum_as_argument(compiled):
    class Mode(enum.Enum):
        DOUBLE = 2.0
        TRIPLE = 3.0

    class Level(enum.IntEnum):
        LOW = 1
        HIGH = 2

    class Name(str, enum.Enum):
        A = "a"
        B = "b"

    class Flags(enum.Flag):
        X = enum.auto()
        Y = enum.auto()

    f = compiled(lambda x, m: x * m.value if isinstance(m.value, (int, float)) else x * len(m.value) + ord(m.value))
    for m in (Mode.DOUBLE, Mode.TRIPLE, Level.LOW, Level.HIGH, Name.A, Name.B, Flags.X, Flags.X | Flags.Y):
        yield f(ones(), m)


@same
def enum_member_with_an_attribute(compiled):
    class Mode(enum.Enum):
        A = 1
        B = 2

    Mode.A.scale = 2.0
    f = compiled(lambda x: x * Mode.A.scale)
    yield f(ones())
    Mode.A.scale = 3.0
    yield f(ones())


@same
def argparse_namespace(compiled):
    args = argparse.Namespace(k=2.0, nested=argparse.Namespace(k=3.0))
    f = compiled(lambda x: x * args.k + args.nested.k)
    yield f(ones())
    args.k = 4.0
    yield f(ones())
    args.nested.k = 5.0
    yield f(ones())


@same
def simple_namespace_deep(compiled):
    box = types.SimpleNamespace(a=types.SimpleNamespace(b=types.SimpleNamespace(c=types.SimpleNamespace(k=2.0))))
    f = compiled(lambda x: x * box.a.b.c.k)
    yield f(ones())
    box.a.b.c.k = 3.0
    yield f(ones())


@same
def module_object(compiled):
    module = types.ModuleType("settings_made_here")
    module.k = 2.0
    f = compiled(lambda x: x * module.k)
    yield f(ones())
    module.k = 3.0
    yield f(ones())


@same
def module_through_getattr(compiled):
    module = types.ModuleType("settings_made_here")
    module.k = 2.0
    f = compiled(lambda x: x * getattr(module, "k"))
    yield f(ones())
    module.k = 3.0
    yield f(ones())


@same
def module_as_argument(compiled):
    module = types.ModuleType("settings_made_here")
    module.k = 2.0
    f = compiled(lambda m, x: x * m.k)
    yield f(module, ones())
    module.k = 3.0
    yield f(module, ones())


@same
def module_through_sys_modules(compiled):
    module = sys.modules["settings_made_here"] = types.ModuleType("settings_made_here")
    module.k = 2.0
    f = compiled(lambda x: x * sys.modules["settings_made_here"].k)
    yield f(ones())
    module.k = 3.0
    yield f(ones())
    del sys.modules["settings_made_here"]


@same
def this_module_by_its_name(compiled):
    Config.lr = 2.0
    f = compiled(lambda x: x * sys.modules[__name__].Config.lr)
    yield f(ones())
    Config.lr = 3.0
    yield f(ones())


# -- variables of contexts and threads, weak references ---------------------------------------------------------------


@same
def context_variable(compiled):
    k = contextvars.ContextVar("k", default=2.0)
    f = compiled(lambda x: x * k.get())
    yield f(ones())
    k.set(3.0)
    yield f(ones())


@same
def context_variable_reset(compiled):
    k = contextvars.ContextVar("k", default=2.0)
    f = compiled(lambda x: x * k.get())
    token = k.set(3.0)
    yield f(ones())
    k.reset(token)
    yield f(ones())


@same
def context_variable_set_inside(compiled):
    k = contextvars.ContextVar("k", default=2.0)

    def g(x):
        k.set(k.get() + 1)
        return x * k.get()

    f = compiled(g)
    yield f(ones())
    yield f(ones())
    yield k.get()


@same
def thread_local(compiled):
    local = threading.local()
    local.k = 2.0
    f = compiled(lambda x: x * local.k)
    yield f(ones())
    local.k = 3.0
    yield f(ones())


@same
def thread_local_in_another_thread(compiled):
    local = threading.local()
    local.k = 2.0
    f = compiled(lambda x: x * getattr(local, "k", 10.0))
    yield f(ones())
    found = []
    thread = threading.Thread(target=lambda: found.append(f(ones())))
    thread.start()
    thread.join()
    yield found[0]


@same
def weak_reference(compiled):
    class Box:
        def __init__(self, k):
            self.k = k

    box = Box(2.0)
    reference = weakref.ref(box)
    f = compiled(lambda x: x * (10.0 if reference() is None else reference().k))
    yield f(ones())
    box.k = 3.0
    yield f(ones())


@same
def weak_value_dictionary(compiled):
    class Box:
        def __init__(self, k):
            self.k = k

    box = Box(2.0)
    table = weakref.WeakValueDictionary(box=box)
    f = compiled(lambda x: x * table["box"].k)
    yield f(ones())
    box.k = 3.0
    yield f(ones())
    other = table["box"] = Box(5.0)
    yield f(ones())
    yield other.k


@same
def weak_proxy(compiled):
    class Box:
        def __init__(self, k):
            self.k = k

    box = Box(2.0)
    proxy = weakref.proxy(box)
    f = compiled(lambda x: x * proxy.k)
    yield f(ones())
    box.k = 3.0
    yield f(ones())


@same
def attribute_written_inside(compiled):
    box = types.SimpleNamespace(k=1.0)

    def g(x):
        box.k = box.k * 2
        return x * box.k

    f = compiled(g)
    yield f(ones())
    yield f(ones())
    yield box.k


@same
def attribute_written_inside_on_a_deep_object(compiled):
    box = types.SimpleNamespace(a=types.SimpleNamespace(b=types.SimpleNamespace(c=types.SimpleNamespace(n=0))))

    def g(x):
        box.a.b.c.n += 1
        return x

    f = compiled(g)
    f(ones())
    f(ones())
    yield box.a.b.c.n


@same
def attribute_made_inside(compiled):
    box = types.SimpleNamespace()

    def g(x):
        box.last = 5
        return x

    f = compiled(g)
    f(ones())
    yield getattr(box, "last", None)
    box.last = 6
    f(ones())
    yield getattr(box, "last", None)


@same
def class_attribute_counts(compiled):
    class Box:
        n = 0

        def scale(self, x):
            Box.n += 1
            return x

    box = Box()
    f = compiled(lambda x: box.scale(x))
    f(ones())
    f(ones())
    yield Box.n


@same
def attribute_set_and_restored(compiled):
    box = types.SimpleNamespace(k=2.0)

    def g(x):
        old, box.k = box.k, 10.0
        y = x * box.k
        box.k = old
        return y

    f = compiled(g)
    yield f(ones())
    box.k = 3.0
    yield f(ones())
    yield box.k
