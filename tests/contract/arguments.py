"""Arguments and results: their facts that code may read, containers of all kinds, identity, aliasing, what is kept."""
from __future__ import annotations

import collections
import copy
import dataclasses
import types
import typing

import numpy as np

import flambeau as fb
from flambeau import nn
from tests.contract.harness import exact, leaf, register, same


def ones():
    return fb.ones(2)


# -- facts of tensors that Python may read ----------------------------------------------------------------------------

TENSORS = {
    "contiguous": lambda: fb.arange(6.0).view(2, 3),
    "transposed": lambda: fb.arange(6.0).view(3, 2).t(),
    "strided": lambda: fb.arange(12.0).view(2, 6)[:, ::2],
    "offset": lambda: fb.arange(8.0)[2:].view(2, 3),
    "expanded": lambda: fb.arange(3.0).expand(2, 3),
    "leaf": lambda: fb.arange(6.0).view(2, 3).clone().requires_grad_(),
    "recorded": lambda: fb.ones(2, 3, requires_grad=True) * 2,
    "parameter": lambda: nn.Parameter(fb.arange(6.0).view(2, 3).clone()),
    "detached": lambda: fb.ones(2, 3, requires_grad=True).detach(),
    "buffer_like": lambda: nn.Parameter(fb.ones(2, 3), requires_grad=False),
}
FACTS = {
    "is_contiguous": lambda x: x.is_contiguous(),
    "stride": lambda x: x.stride()[0] == 3,
    "stride_of_a_dim": lambda x: x.stride(1) == 1,
    "is_leaf": lambda x: x.is_leaf,
    "requires_grad": lambda x: x.requires_grad,
    "is_parameter": lambda x: isinstance(x, nn.Parameter),
    "type": lambda x: type(x) is fb.Tensor,
    "class_name": lambda x: type(x).__name__ == "Tensor",
    "grad_fn": lambda x: x.grad_fn is None,
    "is_view": lambda x: x._is_view(),
    "data_ptr": lambda x: x.data_ptr() % 2 == 0 if hasattr(x, "data_ptr") else True,
    "storage_offset": lambda x: x.storage_offset() == 0 if hasattr(x, "storage_offset") else True,
    "grad_is_none": lambda x: x.grad is None,
    "version": lambda x: x._version == 0,
    "viewable": lambda x: _viewable(x),
    "retains_grad": lambda x: x.retains_grad,
    "contiguous_is_itself": lambda x: x.contiguous() is x,
    "float_is_itself": lambda x: x.float() is x,
    "equality_with_itself": lambda x: x is x.view_as(x),
}


def _viewable(x):
    try:
        x.view(-1)
    except RuntimeError:
        return False
    return True


def _fact(read):
    def case(compiled):
        f = compiled(lambda x: x * 2 if read(x) else x * 3)
        for make in TENSORS.values():
            yield f(make())

    case.__module__ = __name__
    return case


def _captured_fact(read):
    def case(compiled):
        x = TENSORS["contiguous"]()
        f = compiled(lambda: x * 2 if read(x) else x * 3)
        yield f()
        for make in TENSORS.values():
            x = make()
            yield f()

    case.__module__ = __name__
    return case


for _name, _read in FACTS.items():
    register("same", _fact(_read), f"argument_{_name}")
    register("same", _captured_fact(_read), f"captured_{_name}")


@same
def view_of_strided_arguments(compiled):
    """view() raises for one layout and works for the other."""
    f = compiled(lambda x: x.view(6) * 2)
    yield f(fb.arange(6.0).view(2, 3))
    try:
        yield f(fb.arange(6.0).view(3, 2).t())
    except RuntimeError:
        yield "RuntimeError"


@same
def reshape_of_strided_arguments_and_a_write(compiled):
    """reshape() is a view for one layout and a copy for the other."""
    f = compiled(lambda x: x.reshape(6).add_(1).sum())
    for x in (fb.arange(6.0).view(2, 3), fb.arange(6.0).view(3, 2).t()):
        yield f(x)
        yield x


@same
def contiguous_and_a_write(compiled):
    f = compiled(lambda x: x.contiguous().add_(1).sum())
    for x in (fb.arange(6.0).view(2, 3), fb.arange(6.0).view(3, 2).t()):
        yield f(x)
        yield x


@same
def float_and_a_write(compiled):
    f = compiled(lambda x: x.float().add_(1).sum())
    for x in (fb.ones(2), fb.ones(2, dtype=fb.float64), fb.ones(2, dtype=fb.int64)):
        yield f(x)
        yield x


@same
def requires_grad_changes(compiled):
    f = compiled(lambda x: x * 2)
    x = ones()
    yield f(x)
    x.requires_grad_()
    yield f(x)
    f(x).sum().backward()
    yield x
    x.requires_grad_(False)
    yield f(x)


@same
def captured_requires_grad_changes(compiled):
    w = ones()
    f = compiled(lambda x: x * w)
    yield f(ones())
    w.requires_grad_()
    yield f(ones())
    f(ones()).sum().backward()
    yield w
    w.requires_grad_(False)
    yield f(ones())


@same
def dtype_and_shape_of_captured_change(compiled):
    w = ones()
    f = compiled(lambda x: x * w)
    yield f(ones())
    w = fb.ones(2, dtype=fb.float64)
    yield f(ones())
    w = fb.ones(3, 2)
    yield f(ones())
    w = fb.ones(2, dtype=fb.int64)
    yield f(ones())


@same
def default_dtype_changes(compiled):
    f = compiled(lambda x: x * fb.ones(2) * fb.tensor(2.0))
    yield f(fb.ones(2, dtype=fb.int64))
    fb.set_default_dtype(fb.float64)
    yield f(fb.ones(2, dtype=fb.int64))
    fb.set_default_dtype(fb.float32)
    yield f(fb.ones(2, dtype=fb.int64))


@same
def grad_mode_changes(compiled):
    w = leaf(1.0, 2.0)
    f = compiled(lambda x: (x * w) if fb.is_grad_enabled() else (x * w * 2))
    yield f(ones())
    with fb.no_grad():
        yield f(ones())
    with fb.inference_mode():
        yield f(ones())
    yield f(ones())


@same
def number_of_threads_read(compiled):
    f = compiled(lambda x: x * fb.get_num_threads())
    before = fb.get_num_threads()
    yield f(ones()).sum().item() == 2 * before
    fb.set_num_threads(before + 1)
    yield f(ones()).sum().item() == 2 * (before + 1)
    fb.set_num_threads(before)


@same
def shape_arithmetic(compiled):
    f = compiled(lambda x: x * x.shape[0] + x.size(-1) + len(x) + x.numel() + x.ndim)
    for shape in ((2,), (3,), (2, 3), (3, 2), (2,)):
        yield f(fb.ones(*shape))


@same
def zero_size_and_zero_dim(compiled):
    f = compiled(lambda x: (x * 2, x.sum(), x.shape))
    for x in (fb.ones(0), fb.ones(()), fb.ones(1), fb.ones(0, 3), fb.ones(3, 0)):
        yield f(x)


# -- identity and aliasing --------------------------------------------------------------------------------------------


@same
def two_arguments_are_one(compiled):
    f = compiled(lambda a, b: a * 2 if a is b else a * 3)
    x, y = ones(), ones()
    yield f(x, y)
    yield f(x, x)
    yield f(y, x)


@same
def two_arguments_are_one_in_a_list(compiled):
    f = compiled(lambda values: values[0] * 2 if values[0] is values[1] else values[0] * 3)
    x, y = ones(), ones()
    yield f([x, y])
    yield f([x, x])


@same
def argument_is_captured(compiled):
    w = ones()
    f = compiled(lambda x: x * 2 if x is w else x * 3)
    yield f(ones())
    yield f(w)


@same
def argument_in_a_captured_list(compiled):
    known = [ones(), ones()]
    f = compiled(lambda x: x * 2 if any(x is k for k in known) else x * 3)
    yield f(ones())
    yield f(known[1])


@same
def argument_as_a_key(compiled):
    w = ones()
    table = {w: 2.0}
    f = compiled(lambda x: x * table.get(x, 3.0))
    yield f(ones())
    yield f(w)


@same
def argument_in_a_set(compiled):
    w = ones()
    f = compiled(lambda a, b: a * len({a, b}))
    yield f(w, w)
    yield f(w, ones())


@same
def ids_of_arguments(compiled):
    f = compiled(lambda a, b: a * 2 if id(a) == id(b) else a * 3)
    x = ones()
    yield f(x, ones())
    yield f(x, x)


@same
def argument_written_while_it_is_captured(compiled):
    w = ones()

    def g(x):
        x.add_(1)
        return w * 2

    f = compiled(g)
    yield f(ones())
    yield w
    yield f(w)
    yield w


@same
def two_arguments_share_memory_and_one_is_written(compiled):
    def g(a, b):
        a.add_(1)
        return b * 2

    f = compiled(g)
    x = fb.arange(4.0)
    yield f(x.clone(), x)
    yield f(x, x)
    yield x
    yield f(x[:2], x[1:3])
    yield x


@same
def argument_is_a_view_of_captured_and_is_written(compiled):
    w = fb.arange(4.0)

    def g(x):
        x.mul_(2)
        return w.sum()

    f = compiled(g)
    yield f(ones())
    yield f(w[1:3])
    yield w


@same
def captured_tensor_and_its_view(compiled):
    w = fb.arange(4.0)
    v = w[1:3]

    def g(x):
        v.add_(x)
        return w * 1

    f = compiled(g)
    yield f(ones())
    w.zero_()
    yield f(ones())
    yield w, v


@same
def two_captured_views_overlap(compiled):
    w = fb.arange(4.0)
    a, b = w[:3], w[1:]

    def g(x):
        a.mul_(2)
        b.add_(x)
        return a.sum() + b.sum()

    f = compiled(g)
    yield f(fb.ones(3))
    yield f(fb.ones(3))
    yield w


@same
def captured_view_stops_sharing(compiled):
    w = fb.arange(4.0)
    v = w[1:3]

    def g(x):
        v.add_(x)
        return w * 1

    f = compiled(g)
    yield f(ones())
    v = fb.zeros(2)
    yield f(ones())
    yield w, v


@same
def captured_data_is_rebound(compiled):
    w = ones()
    f = compiled(lambda x: x * w)
    yield f(ones())
    w.data = ones() * 3
    yield f(ones())
    other = ones() * 5
    w.data = other
    other.mul_(2)
    yield f(ones())


@same
def captured_data_becomes_shared(compiled):
    w, v = ones(), ones() * 2

    def g(x):
        w.add_(x)
        return v * 1

    f = compiled(g)
    yield f(ones())
    v.data = w.data
    yield f(ones())
    yield w, v


@same
def argument_returned_is_itself(compiled):
    f = compiled(lambda x: (x, x * 2))
    x = ones()
    y, _ = f(x)
    yield y is x
    x.add_(1)
    yield y


@same
def captured_returned_is_itself(compiled):
    w = ones()
    f = compiled(lambda x: (w, x * w))
    y, _ = f(ones())
    yield y is w
    w = ones() * 2
    y, z = f(ones())
    yield y is w, z


@same
def result_twice(compiled):
    def g(x):
        y = x * 2
        return y, y, [y]

    f = compiled(g)
    a, b, (c,) = f(ones())
    yield a is b, b is c
    a.add_(1)
    yield b, c


@same
def results_are_kept_across_calls(compiled):
    f = compiled(lambda x: x * 2)
    kept = [f(ones() * n) for n in range(5)]
    yield kept
    kept[0].zero_()
    yield f(ones()), kept


@same
def result_changed_and_given_back(compiled):
    f = compiled(lambda x: x * 2)
    x = ones()
    for _ in range(4):
        x = f(x)
        x.add_(1)
        yield x


@same
def result_of_constant(compiled):
    f = compiled(lambda x: (fb.zeros(2), fb.arange(3), x * 2))
    a = f(ones())[0]
    a.add_(7)
    yield a
    yield f(ones())


@same
def captured_view_returned(compiled):
    """A view of captured state that is returned is a copy, as documented; its values are right."""
    w = fb.arange(4.0)
    f = compiled(lambda x: (w[1:3] * 1, x + w[:2]))
    yield f(ones())
    w.add_(1)
    yield f(ones())


@same
def same_leaf_twice(compiled):
    def g(a, b):
        return a * b + a

    f = compiled(g)
    w, v = leaf(1.0, 2.0), leaf(3.0, 4.0)
    f(w, v).sum().backward()
    yield w, v
    w.grad = v.grad = None
    f(w, w).sum().backward()
    yield w
    f(v, w).sum().backward()
    yield w, v


@same
def same_leaf_twice_backward_inside(compiled):
    def g(a, b):
        (a * b + a).sum().backward()

    f = compiled(g)
    w, v = leaf(1.0, 2.0), leaf(3.0, 4.0)
    f(w, v)
    yield w, v
    w.grad = v.grad = None
    f(w, w)
    yield w


@same
def leaf_as_argument_and_captured(compiled):
    w = leaf(1.0, 2.0)
    f = compiled(lambda x: x * w * w)
    f(w).sum().backward()
    yield w
    w.grad = None
    v = leaf(1.0, 1.0)
    f(v).sum().backward()
    yield w, v


# -- containers of arguments and results ------------------------------------------------------------------------------


@same
def dataclass_argument(compiled):
    @dataclasses.dataclass
    class Batch:
        x: typing.Any
        scale: float = 1.0
        tags: tuple = ()
        meta: dict = dataclasses.field(default_factory=dict)

    f = compiled(lambda b: b.x * b.scale + len(b.tags) + b.meta.get("shift", 0.0))
    yield f(Batch(ones(), 2.0))
    yield f(Batch(ones(), 3.0))
    yield f(Batch(ones(), 3.0, ("a",)))
    yield f(Batch(ones(), 3.0, ("a",), {"shift": 1.0}))
    yield f(Batch(ones(), 3.0, ("a",), {"shift": 2.0}))


@same
def dataclass_result(compiled):
    @dataclasses.dataclass
    class Output:
        logits: typing.Any
        loss: typing.Any = None
        step: int = 0

    f = compiled(lambda x, n: Output(x * n, step=n))
    for n in (1, 2):
        out = f(ones(), n)
        yield type(out).__name__, out.logits, out.loss, out.step
    yield f(ones(), 1) is not f(ones(), 1)


@same
def dataclass_with_post_init(compiled):
    @dataclasses.dataclass
    class Pair:
        a: typing.Any
        b: typing.Any = None

        def __post_init__(self):
            if self.b is None:
                self.b = self.a * 2

    f = compiled(lambda p: Pair(p.a + p.b))
    out = f(Pair(ones()))
    yield out.a, out.b
    out = f(Pair(ones(), ones() * 5))
    yield out.a, out.b


@same
def frozen_dataclass_argument(compiled):
    @dataclasses.dataclass(frozen=True)
    class Settings:
        k: float
        mode: str = "mul"

    f = compiled(lambda s, x: x * s.k if s.mode == "mul" else x + s.k)
    for settings in (Settings(2.0), Settings(3.0), Settings(3.0, "add"), Settings(4.0, "add")):
        yield f(settings, ones())


@same
def object_argument_made_anew(compiled):
    class Settings:
        def __init__(self, k):
            self.k = k

    f = compiled(lambda s, x: x * s.k)
    for k in (2.0, 3.0, 2.0):
        yield f(Settings(k), ones())


@same
def namespace_argument(compiled):
    f = compiled(lambda s, x: x * s.k * s.deep.k)
    for k in (2.0, 3.0):
        yield f(types.SimpleNamespace(k=k, deep=types.SimpleNamespace(k=k)), ones())


@same
def none_and_missing_tensors(compiled):
    f = compiled(lambda x, mask=None, bias=None: (x if mask is None else x * mask) + (0 if bias is None else bias))
    yield f(ones())
    yield f(ones(), fb.zeros(2))
    yield f(ones(), None, ones())
    yield f(ones(), fb.ones(2), fb.ones(2))
    yield f(ones(), bias=2.0)


@same
def nested_containers(compiled):
    f = compiled(lambda c: {"out": [c["a"][0] * c["b"]["c"], (c["d"],)]})
    yield f({"a": [ones()], "b": {"c": 2.0}, "d": None})
    yield f({"a": [ones()], "b": {"c": 3.0}, "d": "x"})
    yield f({"d": "x", "b": {"c": 3.0}, "a": [ones()]})


@same
def order_of_a_dict_argument(compiled):
    f = compiled(lambda d: [v * n for n, v in enumerate(d.values())])
    yield f({"a": ones(), "b": ones() * 2})
    yield f({"b": ones() * 2, "a": ones()})


@same
def order_of_a_dict_result(compiled):
    f = compiled(lambda x, flip: {"b": x, "a": x * 2} if flip else {"a": x * 2, "b": x})
    yield list(f(ones(), True))
    yield list(f(ones(), False))


@same
def keys_of_different_types(compiled):
    f = compiled(lambda d: d[1] * 2 if type(next(iter(d))) is int else d[1] * 3)
    yield f({1: ones()})
    yield f({1.0: ones()})
    yield f({True: ones()})


@same
def keys_that_are_returned(compiled):
    f = compiled(lambda d: [str(k) for k in d])
    yield f({1: ones()})
    yield f({1.0: ones()})
    yield f({True: ones()})
    yield f({"1": ones()})


@same
def list_and_tuple_are_told_apart(compiled):
    f = compiled(lambda v: v[0] * 2 if isinstance(v, list) else v[0] * 3)
    yield f([ones()])
    yield f((ones(),))


@same
def dict_kinds_are_told_apart(compiled):
    f = compiled(lambda d: d["a"] * 2 if type(d) is dict else d["a"] * 3)
    yield f({"a": ones()})
    yield f(collections.OrderedDict(a=ones()))
    yield f(collections.defaultdict(int, a=ones()))


@same
def empty_containers(compiled):
    f = compiled(lambda v, x: x * (len(v) + 1) if v else x)
    for v in ([], (), {}, [ones()], {"a": 1}, [[]], None, ""):
        yield f(v, ones())


@same
def strings_decide(compiled):
    f = compiled(lambda x, mode: x * 2 if mode == "double" else x * 3)
    for mode in ("double", "triple", "double", ""):
        yield f(ones(), mode)


@same
def string_is_returned(compiled):
    f = compiled(lambda x, name: {name: x, "name": name.upper()})
    for name in ("a", "b"):
        yield f(ones(), name)


@same
def dtype_and_size_as_arguments(compiled):
    f = compiled(lambda x, dtype, shape: x.to(dtype).reshape(shape))
    for dtype, shape in ((fb.float64, (2, 1)), (fb.int32, (1, 2)), (fb.float64, (1, 2)), (fb.float16, fb.Size((2,)))):
        yield f(ones(), dtype, shape)


@same
def slices_as_arguments(compiled):
    f = compiled(lambda x, s: x[s])
    for s in (slice(0, 2), slice(1, None), slice(None, None, 2), slice(0, 2), 1, (slice(0, 1),), None, ...):
        yield f(fb.arange(4.0), s)


@same
def slice_with_numbers_argument(compiled):
    f = compiled(lambda x, a, b: x[a:b])
    for a, b in ((0, 2), (1, 3), (None, -1), (1, None), (-2, 4)):
        yield f(fb.arange(4.0), a, b)


@same
def range_and_type_and_function_arguments(compiled):
    f = compiled(lambda x, r, t, g: g(x) * sum(r) * t(2.5))
    for r, t, g in ((range(3), int, fb.sin), (range(4), int, fb.sin), (range(4), float, fb.sin),
                    (range(4), float, fb.cos)):
        yield f(ones(), r, t, g)


@same
def module_argument(compiled):
    a, b = nn.Linear(2, 2), nn.Linear(2, 2)
    f = compiled(lambda m, x: m(x))
    yield f(a, ones())
    yield f(b, ones())
    a.weight.data = b.weight.data
    yield f(a, ones())
    yield f(nn.ReLU(), ones())


@same
def list_of_modules_argument(compiled):
    a, b = nn.Linear(2, 2), nn.Linear(2, 2)

    def g(ms, x):
        for m in ms:
            x = m(x)
        return x

    f = compiled(g)
    yield f([a], ones())
    yield f([a, b], ones())
    yield f([b, a], ones())


@same
def list_argument_changed_inside(compiled):
    def g(values):
        values.append(values[0] * 2)
        return values[-1]

    f = compiled(g)
    values = [ones()]
    yield f(values)
    yield values


@same
def dict_argument_changed_inside(compiled):
    def g(batch):
        batch["y"] = batch["x"] * 2
        return batch["y"]

    f = compiled(g)
    batch = {"x": ones()}
    yield f(batch)
    yield batch


@same
def dict_argument_popped_inside(compiled):
    def g(batch):
        scale = batch.pop("scale")
        return batch["x"] * scale

    f = compiled(g)
    for scale in (2.0, 3.0):
        batch = {"x": ones(), "scale": scale}
        yield f(batch)
        yield batch


@same
def keyword_dict_changed_inside(compiled):
    def g(**batch):
        scale = batch.pop("scale")
        batch["y"] = batch["x"] * scale
        return batch

    f = compiled(g)
    for scale in (2.0, 3.0):
        yield f(x=ones(), scale=scale)


@same
def list_argument_is_returned(compiled):
    f = compiled(lambda values: values)
    values = [ones(), 2]
    out = f(values)
    yield out
    yield out is values


@same
def list_argument_sorted_inside(compiled):
    def g(names, x):
        names.sort()
        return x * len(names[0])

    f = compiled(g)
    names = ["bbb", "aa"]
    yield f(names, ones())
    yield names


@same
def numpy_argument(compiled):
    f = compiled(lambda x, a: x * fb.from_numpy(a))
    a = np.ones(2, np.float32)
    yield f(ones(), a)
    a *= 3
    yield f(ones(), a)


@same
def numpy_in_a_dict_argument(compiled):
    f = compiled(lambda d: d["x"] * float(d["a"][0]))
    a = np.ones(2, np.float32)
    yield f({"x": ones(), "a": a})
    a *= 3
    yield f({"x": ones(), "a": a})


@same
def foreign_tensor_argument(compiled):
    """Anything that speaks DLPack, made from NumPy here."""
    class Foreign:
        def __init__(self, array):
            self.array = array

        def __dlpack__(self, **kwargs):
            return self.array.__dlpack__(**kwargs)

        def __dlpack_device__(self):
            return self.array.__dlpack_device__()

    f = compiled(lambda x, a: x * fb.from_dlpack(a) if hasattr(fb, "from_dlpack") else x)
    array = np.ones(2, np.float32)
    yield f(ones(), Foreign(array))
    array *= 3
    yield f(ones(), Foreign(array))


@same
def array_interface_argument(compiled):
    class Foreign:
        def __init__(self, array):
            self.array = array

        def __array__(self, dtype=None, copy=None):
            return np.asarray(self.array, dtype)

    f = compiled(lambda x, a: x * fb.tensor(np.asarray(a)))
    foreign = Foreign(np.ones(2, np.float32))
    yield f(ones(), foreign)
    foreign.array *= 3
    yield f(ones(), foreign)


@same
def argument_copied_inside(compiled):
    f = compiled(lambda d: copy.copy(d)["x"] * copy.deepcopy(d["scales"])[0])
    scales = [2.0]
    yield f({"x": ones(), "scales": scales})
    scales[0] = 3.0
    yield f({"x": ones(), "scales": scales})


@same
def typed_and_bytes_arguments(compiled):
    f = compiled(lambda x, b: x * sum(b))
    for b in (b"ab", b"cd", bytearray(b"ab"), (1, 2), range(3)):
        yield f(ones(), b)


@same
def class_argument(compiled):
    f = compiled(lambda x, kind: kind()(x))
    for kind in (nn.ReLU, nn.Tanh, nn.ReLU):
        yield f(-ones(), kind)


@same
def exception_argument(compiled):
    f = compiled(lambda x, e: x * len(e.args))
    yield f(ones(), ValueError("a"))
    yield f(ones(), ValueError("a", "b"))


@same
def many_leaves(compiled):
    f = compiled(lambda values: sum(values))
    yield f([fb.ones(1)] * 1 + [fb.ones(1) for _ in range(50)])
    yield f([fb.ones(1) for _ in range(51)] + [fb.ones(1)])


@same
def many_numbers_argument(compiled):
    f = compiled(lambda x, values: x * values[1100])
    values = [float(n) for n in range(1200)]
    yield f(ones(), values)
    values[1100] = 2.0
    yield f(ones(), values)


@same
def many_strings_argument(compiled):
    f = compiled(lambda x, values: x * len(values[1100]))
    values = ["a"] * 1200
    yield f(ones(), values)
    values[1100] = "abc"
    yield f(ones(), values)


@same
def deep_argument(compiled):
    def nested(k):
        found = {"k": k}
        for _ in range(30):
            found = {"inner": found}
        return found

    def g(d, x):
        while "inner" in d:
            d = d["inner"]
        return x * len(d["k"])

    f = compiled(g)
    yield f(nested("a"), ones())
    yield f(nested("ab"), ones())


@exact
def mutable_default_of_the_function(compiled):
    def g(x, scales=(1.0, 2.0)):
        return x * scales[0] + scales[1]

    f = compiled(g)
    yield f(ones())
    yield f(ones(), (3.0, 4.0))
    yield f(ones(), [5.0, 6.0])


@same
def closure_and_argument_of_one_container(compiled):
    shared = {"k": [2.0]}
    f = compiled(lambda d, x: x * d["k"][0] + shared["k"][0])
    yield f(shared, ones())
    shared["k"][0] = 3.0
    yield f(shared, ones())
    yield f({"k": [7.0]}, ones())


@same
def container_is_a_captured_one(compiled):
    shared = {"k": 2.0}
    f = compiled(lambda d, x: x * 2 if d is shared else x * 3)
    yield f(shared, ones())
    yield f({"k": 2.0}, ones())


@same
def two_lists_are_one(compiled):
    f = compiled(lambda a, b: a[0] * 2 if a is b else a[0] * 3)
    v = [ones()]
    yield f(v, v)
    yield f(v, list(v))


@same
def object_arguments_are_one(compiled):
    class Box:
        def __init__(self, k):
            self.k = k

    f = compiled(lambda a, b, x: x * a.k if a is b else x + b.k)
    a, b = Box(2.0), Box(2.0)
    yield f(a, a, ones())
    yield f(a, b, ones())
