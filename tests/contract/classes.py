"""Methods: replaced on classes and instances, inherited, special ones, static and class methods."""
from __future__ import annotations

import abc
import functools
import types

import flambeau as fb
from tests.contract.harness import exact, same


def ones():
    return fb.ones(2)


@exact
def method_reads_self(compiled):
    class Scaler:
        def __init__(self):
            self.k = 2.0

        def __call__(self, x):
            return x * self.k

    scaler = Scaler()
    f = compiled(scaler)
    yield f(ones())
    scaler.k = 3.0
    yield f(ones())


@same
def bound_method_is_compiled(compiled):
    class Scaler:
        k = 2.0

        def scale(self, x):
            return x * self.k

    scaler = Scaler()
    f = compiled(scaler.scale)
    yield f(ones())
    scaler.k = 3.0
    yield f(ones())
    del scaler.k
    Scaler.k = 4.0
    yield f(ones())


@same
def decorated_method(compiled):
    class Scaler:
        def __init__(self, k):
            self.k = k

        @compiled
        def scale(self, x):
            return x * self.k

    a, b = Scaler(2.0), Scaler(3.0)
    yield a.scale(ones()), b.scale(ones())
    a.k = 5.0
    yield a.scale(ones()), b.scale(ones())


@same
def decorated_static_and_class_methods(compiled):
    k = 2.0

    class Scaler:
        by = 3.0

        @staticmethod
        @compiled
        def fixed(x):
            return x * k

        @classmethod
        @compiled
        def shared(cls, x):
            return x * cls.by

    scaler = Scaler()
    yield scaler.fixed(ones()), scaler.shared(ones())
    k = 4.0
    Scaler.by = 5.0
    yield scaler.fixed(ones()), scaler.shared(ones())


@same
def method_replaced_on_the_class(compiled):
    class Scaler:
        def scale(self, x):
            return x * 2

    scaler = Scaler()
    f = compiled(lambda x: scaler.scale(x))
    yield f(ones())
    Scaler.scale = lambda self, x: x * 3
    yield f(ones())


@same
def method_replaced_on_the_class_of_self(compiled):
    class Scaler:
        def inner(self, x):
            return x * 2

        def scale(self, x):
            return self.inner(x)

    scaler = Scaler()
    f = compiled(scaler.scale)
    yield f(ones())
    Scaler.inner = lambda self, x: x * 3
    yield f(ones())


@same
def method_replaced_on_the_instance(compiled):
    class Scaler:
        def scale(self, x):
            return x * 2

    scaler = Scaler()
    f = compiled(lambda x: scaler.scale(x))
    yield f(ones())
    scaler.scale = types.MethodType(lambda self, x: x * 3, scaler)
    yield f(ones())
    del scaler.scale
    yield f(ones())


@same
def method_replaced_on_a_base(compiled):
    class Base:
        def scale(self, x):
            return x * 2

    class Scaler(Base):
        def scale(self, x):
            return super().scale(x) + 1

    scaler = Scaler()
    f = compiled(lambda x: scaler.scale(x))
    yield f(ones())
    Base.scale = lambda self, x: x * 3
    yield f(ones())


@same
def method_added_in_a_subclass(compiled):
    class Base:
        def scale(self, x):
            return x * 2

    class Scaler(Base):
        pass

    scaler = Scaler()
    f = compiled(lambda x: scaler.scale(x))
    yield f(ones())
    Scaler.scale = lambda self, x: x * 3
    yield f(ones())
    del Scaler.scale
    yield f(ones())


@same
def call_method_replaced(compiled):
    class Scaler:
        def __call__(self, x):
            return x * 2

    scaler = Scaler()
    f = compiled(lambda x: scaler(x))
    yield f(ones())
    Scaler.__call__ = lambda self, x: x * 3
    yield f(ones())


@same
def static_method_reads_a_cell(compiled):
    k = 2.0

    class Scaler:
        @staticmethod
        def scale(x):
            return x * k

    f = compiled(lambda x: Scaler.scale(x))
    yield f(ones())
    k = 3.0
    yield f(ones())


@same
def static_method_through_an_instance(compiled):
    k = 2.0

    class Scaler:
        @staticmethod
        def scale(x):
            return x * k

    scaler = Scaler()
    f = compiled(lambda x: scaler.scale(x))
    yield f(ones())
    k = 3.0
    yield f(ones())


@same
def static_method_replaced(compiled):
    class Scaler:
        @staticmethod
        def scale(x):
            return x * 2

    f = compiled(lambda x: Scaler.scale(x))
    yield f(ones())
    Scaler.scale = staticmethod(lambda x: x * 3)
    yield f(ones())


@same
def class_method_reads_class_attribute(compiled):
    class Scaler:
        k = 2.0

        @classmethod
        def scale(cls, x):
            return x * cls.k

    class Other(Scaler):
        pass

    f = compiled(lambda x: Other.scale(x))
    yield f(ones())
    Scaler.k = 3.0
    yield f(ones())
    Other.k = 4.0
    yield f(ones())


@same
def class_method_reads_a_cell(compiled):
    k = 2.0

    class Scaler:
        @classmethod
        def scale(cls, x):
            return x * k

    f = compiled(lambda x: Scaler.scale(x))
    yield f(ones())
    k = 3.0
    yield f(ones())


@same
def method_under_no_grad(compiled):
    k = 2.0

    class Scaler:
        @fb.no_grad()
        def scale(self, x):
            return x * k

    scaler = Scaler()
    f = compiled(lambda x: scaler.scale(x))
    yield f(ones())
    k = 3.0
    yield f(ones())


@same
def method_under_a_users_decorator(compiled):
    k, shift = 2.0, 1.0

    def shifted(method):
        @functools.wraps(method)
        def wrapper(self, x):
            return method(self, x) + shift

        return wrapper

    class Scaler:
        @shifted
        def scale(self, x):
            return x * k

    scaler = Scaler()
    f = compiled(lambda x: scaler.scale(x))
    yield f(ones())
    k = 3.0
    yield f(ones())
    shift = 5.0
    yield f(ones())


@same
def method_looked_up_by_name(compiled):
    class Scaler:
        k = 2.0

        def double(self, x):
            return x * self.k

        def triple(self, x):
            return x * self.k * 1.5

    scaler = Scaler()
    choice = {"name": "double"}
    f = compiled(lambda x: getattr(scaler, choice["name"])(x))
    yield f(ones())
    choice["name"] = "triple"
    yield f(ones())
    scaler.k = 4.0
    yield f(ones())


@same
def unbound_method(compiled):
    class Scaler:
        def __init__(self):
            self.k = 2.0

        def scale(self, x):
            return x * self.k

    scaler = Scaler()
    f = compiled(lambda x: Scaler.scale(scaler, x))
    yield f(ones())
    scaler.k = 3.0
    yield f(ones())


@same
def bound_method_kept_in_a_dict(compiled):
    class Scaler:
        def __init__(self):
            self.k = 2.0

        def scale(self, x):
            return x * self.k

    scaler = Scaler()
    table = {"scale": scaler.scale}
    f = compiled(lambda x: table["scale"](x))
    yield f(ones())
    scaler.k = 3.0
    yield f(ones())


@same
def bound_method_given_as_argument(compiled):
    class Scaler:
        def __init__(self):
            self.k = 2.0

        def scale(self, x):
            return x * self.k

    scaler = Scaler()
    f = compiled(lambda g, x: g(x))
    yield f(scaler.scale, ones())
    scaler.k = 3.0
    yield f(scaler.scale, ones())


@same
def operators_of_a_class(compiled):
    class Scale:
        def __init__(self, k):
            self.k = k

        def __matmul__(self, x):
            return x * self.k

        def __rmul__(self, x):
            return x + self.k

        def __getitem__(self, n):
            return self.k * n

        def __neg__(self):
            return -self.k

    scale = Scale(2.0)
    f = compiled(lambda x: (scale @ x) + scale[3] + (-scale))
    yield f(ones())
    scale.k = 3.0
    yield f(ones())
    Scale.__neg__ = lambda self: 100.0
    yield f(ones())


@same
def abstract_class_and_registration(compiled):
    class Loss(abc.ABC):
        weight = 1.0

        @abc.abstractmethod
        def compute(self, x): ...

        def __call__(self, x):
            return self.compute(x) * self.weight

    class Square(Loss):
        def compute(self, x):
            return x * x

    loss = Square()
    f = compiled(lambda x: loss(x))
    yield f(ones() * 3)
    Loss.weight = 2.0
    yield f(ones() * 3)
    Square.compute = lambda self, x: x
    yield f(ones() * 3)


@same
def mixins_and_the_order_of_bases(compiled):
    class A:
        def scale(self, x):
            return x * 2

    class B:
        def scale(self, x):
            return x * 3

    class AB(A, B):
        pass

    class Both(AB):
        def scale(self, x):
            return super().scale(x) + 1

    both = Both()
    f = compiled(lambda x: both.scale(x))
    yield f(ones())
    del A.scale
    yield f(ones())


@same
def isinstance_decides(compiled):
    class A:
        pass

    class B(A):
        pass

    holder = [A()]
    f = compiled(lambda x: x * 2 if isinstance(holder[0], B) else x * 3)
    yield f(ones())
    holder[0] = B()
    yield f(ones())


@same
def isinstance_through_a_virtual_base(compiled):
    class Shape(abc.ABC):
        pass

    class Square:
        pass

    square = Square()
    f = compiled(lambda x: x * 2 if isinstance(square, Shape) else x * 3)
    yield f(ones())
    Shape.register(Square)
    yield f(ones())


@same
def init_subclass_registry(compiled):
    class Plugin:
        registry: dict = {}

        def __init_subclass__(cls, **kwargs):
            super().__init_subclass__(**kwargs)
            Plugin.registry[cls.__name__] = cls

    class Double(Plugin):
        k = 2.0

    f = compiled(lambda x: x * sum(c.k for c in Plugin.registry.values()))
    yield f(ones())

    class Triple(Plugin):
        k = 3.0

    yield f(ones())
    Double.k = 10.0
    yield f(ones())
    yield Triple.__name__


@same
def new_method_and_factory(compiled):
    k = 2.0

    class Scaler:
        def __new__(cls):
            made = super().__new__(cls)
            made.k = k
            return made

    f = compiled(lambda x: x * Scaler().k)
    yield f(ones())
    k = 3.0
    yield f(ones())


@same
def object_made_inside_reads_class_default(compiled):
    class Scaler:
        default = 2.0

        def __init__(self):
            self.k = self.default

        def scale(self, x):
            return x * self.k

    f = compiled(lambda x: Scaler().scale(x))
    yield f(ones())
    Scaler.default = 3.0
    yield f(ones())


@same
def object_made_inside_is_returned(compiled):
    class Result:
        def __init__(self, value, n):
            self.value, self.n = value, n

    f = compiled(lambda x, n: Result(x * n, n))
    for n in (2.0, 3.0):
        result = f(ones(), n)
        yield result.value, result.n


@same
def instances_counted_by_the_class(compiled):
    class Scaler:
        made = 0

        def __init__(self):
            type(self).made += 1

    def g(x):
        Scaler()
        return x

    f = compiled(g)
    f(ones())
    f(ones())
    yield Scaler.made


@same
def slots_object_made_inside_with_a_number(compiled):
    class Pair:
        __slots__ = ("a", "b")

        def __init__(self, a, b):
            self.a, self.b = a, b

    f = compiled(lambda x, n: Pair(x * n, n * 2))
    for n in (2.0, 3.0):
        pair = f(ones(), n)
        yield pair.a, pair.b


@same
def monkeypatched_framework_method(compiled):
    """A method added to Tensor, as extension packages do."""
    k = 2.0

    def scaled(self):
        return self * k

    fb.Tensor.scaled = scaled
    try:
        f = compiled(lambda x: x.scaled())
        yield f(ones())
        k = 3.0
        yield f(ones())
        fb.Tensor.scaled = lambda self: self * 100
        yield f(ones())
    finally:
        del fb.Tensor.scaled


@same
def tensor_subclass(compiled):
    class Image(fb.Tensor):
        pass

    image = fb.ones(2)
    try:
        image.__class__ = Image
    except TypeError:
        yield "refused eagerly"
        return
    f = compiled(lambda x: x * 2 if isinstance(x, Image) else x * 3)
    yield f(image)
    yield f(ones())
