"""Containers that are read, changed between calls, and changed inside: of Python, of collections, and subclasses."""
from __future__ import annotations

import array
import collections
import copy
import heapq
import itertools
import queue
import types

import numpy as np

import flambeau as fb
from tests.contract.harness import register, same


def ones():
    return fb.ones(2)


# -- read, with an edit between calls ---------------------------------------------------------------------------------

EDITS = {
    # name: (how to make it, how it is read, the edits)
    "list_item": (lambda: [1.0, 2.0], lambda c: c[1], [lambda c: c.__setitem__(1, 5.0)]),
    "list_append": (lambda: [1.0, 2.0], lambda c: sum(c), [lambda c: c.append(3.0), lambda c: c.insert(0, 7.0)]),
    "list_order": (lambda: [1.0, 2.0], lambda c: c[0], [lambda c: c.reverse(), lambda c: c.sort()]),
    "list_slice": (lambda: [1.0, 2.0, 3.0], lambda c: sum(c[1:]), [lambda c: c.__setitem__(slice(1, 3), [9.0])]),
    "list_membership": (lambda: ["a"], lambda c: 2.0 if "b" in c else 3.0, [lambda c: c.append("b")]),
    "list_index": (lambda: ["a", "b"], lambda c: c.index("b"), [lambda c: c.insert(0, "b")]),
    "list_truth": (lambda: [], lambda c: 2.0 if c else 3.0, [lambda c: c.append(0)]),
    "list_min": (lambda: [3.0, 2.0], lambda c: min(c), [lambda c: c.append(1.0)]),
    "list_of_none": (lambda: [None], lambda c: 2.0 if c[0] is None else 3.0, [lambda c: c.__setitem__(0, 0)]),
    "list_copy": (lambda: [1.0, 2.0], lambda c: list(c)[1], [lambda c: c.__setitem__(1, 5.0)]),
    "list_unpacked": (lambda: [1.0, 2.0], lambda c: (lambda a, b: a + b)(*c), [lambda c: c.__setitem__(1, 5.0)]),
    "list_equality": (lambda: [1, 2], lambda c: 2.0 if c == [1, 2] else 3.0, [lambda c: c.append(1)]),
    "list_joined": (lambda: ["a"], lambda c: len(",".join(c)), [lambda c: c.append("bc")]),
    "tuple_of_list": (lambda: ([1.0], 2), lambda c: c[0][0], [lambda c: c[0].__setitem__(0, 5.0)]),
    "dict_item": (lambda: {"a": 1.0}, lambda c: c["a"], [lambda c: c.update(a=5.0)]),
    "dict_get": (lambda: {}, lambda c: c.get("a", 2.0), [lambda c: c.update(a=5.0), lambda c: c.clear()]),
    "dict_order": (lambda: {"a": 1.0, "b": 2.0}, lambda c: next(iter(c.values())),
                   [lambda c: c.update(a=c.pop("a"))]),
    "dict_keys": (lambda: {"a": 1.0}, lambda c: len("".join(c)), [lambda c: c.update(bcd=1)]),
    "dict_values": (lambda: {"a": 1.0}, lambda c: sum(c.values()), [lambda c: c.update(b=3.0)]),
    "dict_items": (lambda: {1: 2.0}, lambda c: sum(k * v for k, v in c.items()), [lambda c: c.update({3: 4.0})]),
    "dict_membership": (lambda: {"a": 1}, lambda c: 2.0 if "b" in c else 3.0, [lambda c: c.update(b=1)]),
    "dict_unpacked": (lambda: {"k": 2.0}, lambda c: (lambda k=1.0, n=1.0: k * n)(**c), [lambda c: c.update(n=5.0)]),
    "dict_merged": (lambda: {"k": 2.0}, lambda c: ({"k": 1.0, "n": 1.0} | c)["n"], [lambda c: c.update(n=5.0)]),
    "dict_popped_from_a_copy": (lambda: {"k": 2.0}, lambda c: dict(c).pop("k"), [lambda c: c.update(k=5.0)]),
    "dict_deep_copied": (lambda: {"k": [2.0]}, lambda c: copy.deepcopy(c)["k"][0], [lambda c: c["k"].insert(0, 5.0)]),
    "dict_of_tuples_as_keys": (lambda: {(1, 2): 2.0}, lambda c: c[(1, 2)], [lambda c: c.update({(1, 2): 5.0})]),
    "dict_of_numbers_as_keys": (lambda: {1: 2.0}, lambda c: c[1], [lambda c: c.update({1.0: 5.0})]),
    "set_membership": (lambda: {1, 2}, lambda c: 2.0 if 3 in c else 3.0, [lambda c: c.add(3), lambda c: c.discard(3)]),
    "set_length": (lambda: {1, 2}, lambda c: len(c), [lambda c: c.add(3)]),
    "set_algebra": (lambda: {1, 2}, lambda c: len(c & {2, 3}), [lambda c: c.add(3)]),
    "frozenset_in_list": (lambda: [frozenset({1})], lambda c: len(c[0]),
                          [lambda c: c.__setitem__(0, frozenset({1, 2}))]),
    "deque_item": (lambda: collections.deque([1.0, 2.0]), lambda c: c[0],
                   [lambda c: c.rotate(1), lambda c: c.appendleft(7.0)]),
    "deque_of_maximal_length": (lambda: collections.deque([1.0, 2.0], maxlen=2), lambda c: sum(c),
                                [lambda c: c.append(5.0)]),
    "defaultdict_item": (lambda: collections.defaultdict(float, a=2.0), lambda c: c["a"], [lambda c: c.update(a=5.0)]),
    "defaultdict_factory": (lambda: collections.defaultdict(lambda: 2.0, a=1.0), lambda c: c.default_factory(),
                            [lambda c: setattr(c, "default_factory", lambda: 5.0)]),
    "ordered_dict_order": (lambda: collections.OrderedDict(a=1.0, b=2.0), lambda c: next(iter(c.values())),
                           [lambda c: c.move_to_end("a")]),
    "counter": (lambda: collections.Counter("aab"), lambda c: c["a"], [lambda c: c.update("a")]),
    "counter_most_common": (lambda: collections.Counter("aab"), lambda c: len(c.most_common(1)[0][0] * c["b"]),
                            [lambda c: c.update("bbb")]),
    "chain_map": (lambda: collections.ChainMap({}, {"k": 2.0}), lambda c: c["k"],
                  [lambda c: c.maps[1].update(k=5.0), lambda c: c.maps[0].update(k=7.0)]),
    "user_dict": (lambda: collections.UserDict(k=2.0), lambda c: c["k"], [lambda c: c.update(k=5.0)]),
    "user_list": (lambda: collections.UserList([2.0]), lambda c: c[0], [lambda c: c.insert(0, 5.0)]),
    "user_string": (lambda: [collections.UserString("ab")], lambda c: len(c[0]),
                    [lambda c: setattr(c[0], "data", "abc")]),
    "namedtuple_of_lists": (lambda: collections.namedtuple("P", "a b")([2.0], 1), lambda c: c.a[0],
                            [lambda c: c.a.insert(0, 5.0)]),
    "byte_array": (lambda: bytearray(b"ab"), lambda c: c[0], [lambda c: c.__setitem__(0, 99)]),
    "array_of_doubles": (lambda: array.array("d", [2.0]), lambda c: c[0], [lambda c: c.__setitem__(0, 5.0)]),
    "memory_view": (lambda: memoryview(bytearray(b"ab")), lambda c: c[0], [lambda c: c.__setitem__(0, 99)]),
    "mapping_proxy": (lambda: (lambda d: (d, types.MappingProxyType(d)))({"k": 2.0}), lambda c: c[1]["k"],
                      [lambda c: c[0].update(k=5.0)]),
    "mapping_proxy_alone": (lambda: types.MappingProxyType({"k": [2.0]}), lambda c: c["k"][0],
                            [lambda c: c["k"].insert(0, 5.0)]),
    "dict_view": (lambda: (lambda d: (d, d.values()))({"k": 2.0}), lambda c: sum(c[1]), [lambda c: c[0].update(n=5.0)]),
    "dict_view_alone": (lambda: {"k": [2.0]}.values(), lambda c: sum(map(sum, c)),
                        [lambda c: next(iter(c)).append(3.0)]),
    "heap": (lambda: [3.0, 4.0], lambda c: c[0], [lambda c: heapq.heappush(c, 1.0)]),
    "queue": (lambda: _filled(queue.Queue(), 2.0), lambda c: c.queue[0], [lambda c: (c.get(), c.put(5.0))]),
    "queue_size": (lambda: _filled(queue.Queue(), 2.0), lambda c: c.qsize(), [lambda c: c.put(5.0)]),
    "numpy_small": (lambda: np.array([2.0, 3.0]), lambda c: float(c[1]), [lambda c: c.__setitem__(1, 5.0)]),
    "numpy_in_a_dict": (lambda: {"a": np.array([2.0])}, lambda c: float(c["a"][0]), [lambda c: c["a"].fill(5.0)]),
    "numpy_structured": (lambda: np.array([(1.0, 2)], dtype=[("a", "f8"), ("b", "i4")]), lambda c: float(c["a"][0]),
                         [lambda c: c["a"].fill(5.0)]),
    "numpy_of_objects": (lambda: np.array([[2.0], [3.0, 4.0]], dtype=object), lambda c: c[0][0],
                         [lambda c: c[0].insert(0, 5.0)]),
    "numpy_shape": (lambda: np.zeros((2, 3)), lambda c: c.shape[0], [lambda c: setattr(c, "shape", (3, 2))]),
    "range_in_a_list": (lambda: [range(3)], lambda c: len(c[0]), [lambda c: c.__setitem__(0, range(5))]),
    "slice_in_a_list": (lambda: [slice(0, 1)], lambda c: len([1, 2, 3][c[0]]),
                        [lambda c: c.__setitem__(0, slice(0, 2))]),
    "ellipsis_in_a_list": (lambda: [...], lambda c: 2.0 if c[0] is ... else 3.0, [lambda c: c.__setitem__(0, None)]),
    "type_in_a_list": (lambda: [int], lambda c: c[0](2.5), [lambda c: c.__setitem__(0, float)]),
    "dtype_in_a_list": (lambda: [fb.float32], lambda c: c[0].itemsize if hasattr(c[0], "itemsize") else len(str(c[0])),
                        [lambda c: c.__setitem__(0, fb.float64)]),
    "lists_thirty_deep": (lambda: _nested(30), lambda c: _innermost(c)[0],
                          [lambda c: _innermost(c).__setitem__(0, 5.0)]),
    "dicts_forty_deep": (lambda: _nested(40, lambda inner: {"a": inner}), lambda c: _innermost(c)[0],
                         [lambda c: _innermost(c).__setitem__(0, 5.0)]),
    "list_behind_a_large_list": (lambda: [[0] * 1200, [2.0]], lambda c: c[1][0], [lambda c: c[1].insert(0, 5.0)]),
    "list_that_holds_itself": (lambda: _cyclic([2.0]), lambda c: c[1][1][0], [lambda c: c.__setitem__(0, 5.0)]),
}


def _filled(container, *values):
    for value in values:
        container.put(value)
    return container


def _nested(levels, wrap=lambda inner: [inner]):
    found = [2.0]
    for _ in range(levels):
        found = wrap(found)
    return found


def _innermost(container):
    while not isinstance(container, list) or not isinstance(container[0], float):
        container = container["a"] if isinstance(container, dict) else container[0]
    return container


def _cyclic(container):
    container.append(container)
    return container


def _edited(make, read, edits):
    def case(compiled):
        container = make()
        f = compiled(lambda x: x * read(container))
        yield f(ones())
        for edit in edits:
            edit(container)
            yield f(ones())

    case.__module__ = __name__
    return case


for _name, _entry in EDITS.items():
    register("same", _edited(*_entry), f"read_{_name}")


# -- changed inside ---------------------------------------------------------------------------------------------------

CHANGES = {
    # name: (how to make it, what the function does to it)
    "list_append": (lambda: [], lambda c, x: c.append(1)),
    "list_extend": (lambda: [1], lambda c, x: c.extend([2, 3])),
    "list_pop": (lambda: [1, 2, 3, 4], lambda c, x: c.pop()),
    "list_sort": (lambda: [3, 1, 2], lambda c, x: c.sort()),
    "list_item": (lambda: [0], lambda c, x: c.__setitem__(0, c[0] + 1)),
    "list_slice_deleted": (lambda: [1, 2, 3, 4], lambda c, x: c.__delitem__(slice(0, 1))),
    "list_clear": (lambda: [1], lambda c, x: c.clear()),
    "list_in_place_sum": (lambda: [[1]], lambda c, x: c[0].__iadd__([2])),
    "list_deep_in_a_dict": (lambda: {"a": [{"b": []}]}, lambda c, x: c["a"][0]["b"].append(1)),
    "dict_item": (lambda: {"n": 0}, lambda c, x: c.update(n=c["n"] + 1)),
    "dict_setdefault": (lambda: {}, lambda c, x: c.setdefault("a", 5)),
    "dict_pop": (lambda: {"a": 1, "b": 2}, lambda c, x: c.pop("a", None)),
    "dict_popitem": (lambda: {"a": 1, "b": 2, "c": 3}, lambda c, x: c.popitem()),
    "dict_of_shapes": (lambda: {}, lambda c, x: c.__setitem__(tuple(x.shape), 1)),
    "set_add": (lambda: set(), lambda c, x: c.add(len(c))),
    "set_discard": (lambda: {1, 2}, lambda c, x: c.discard(1)),
    "deque_append": (lambda: collections.deque(maxlen=3), lambda c, x: c.append(len(c))),
    "deque_rotate": (lambda: collections.deque([1, 2, 3]), lambda c, x: c.rotate(1)),
    "deque_popleft": (lambda: collections.deque([1, 2, 3]), lambda c, x: c.popleft()),
    "defaultdict_counts": (lambda: collections.defaultdict(int), lambda c, x: c.__setitem__("a", c["a"] + 1)),
    "defaultdict_read_makes": (lambda: collections.defaultdict(list), lambda c, x: c["a"]),
    "counter_update": (lambda: collections.Counter(), lambda c, x: c.update("ab")),
    "ordered_dict_move": (lambda: collections.OrderedDict(a=1, b=2, c=3),
                          lambda c, x: c.move_to_end(next(iter(c)))),
    "chain_map_set": (lambda: collections.ChainMap({}, {"n": 0}), lambda c, x: c.update(n=c["n"] + 1)),
    "user_dict_set": (lambda: collections.UserDict(n=0), lambda c, x: c.update(n=c["n"] + 1)),
    "byte_array_append": (lambda: bytearray(), lambda c, x: c.append(1)),
    "array_append": (lambda: array.array("i"), lambda c, x: c.append(1)),
    "queue_put": (lambda: queue.Queue(), lambda c, x: c.put(1)),
    "heap_push": (lambda: [], lambda c, x: heapq.heappush(c, -len(c))),
    "numpy_item": (lambda: np.zeros(2), lambda c, x: c.__setitem__(0, c[0] + 1)),
    "numpy_in_place": (lambda: np.zeros(2), lambda c, x: c.__iadd__(1)),
    "numpy_large": (lambda: np.zeros(5000), lambda c, x: c.__setitem__(4000, c[4000] + 1)),
    "list_of_tensors": (lambda: [], lambda c, x: c.append(x * 2)),
    "dict_of_tensors": (lambda: {}, lambda c, x: c.update(last=x * 2)),
    "deque_of_tensors": (lambda: collections.deque(maxlen=2), lambda c, x: c.append(x * 2)),
    "set_of_tensors": (lambda: set(), lambda c, x: c.add(x * 2)),
    "list_of_detached_tensors": (lambda: [], lambda c, x: c.append(x.detach())),
    "object_of_tensors": (lambda: types.SimpleNamespace(last=None), lambda c, x: setattr(c, "last", x * 2)),
    "large_list_append": (lambda: [0] * 1500, lambda c, x: c.append(1)),
    "large_dict_item": (lambda: dict.fromkeys(range(1500), 0), lambda c, x: c.update({1400: c[1400] + 1})),
}


def _state(container):
    if isinstance(container, queue.Queue):
        return list(container.queue)
    if isinstance(container, types.SimpleNamespace):
        return vars(container)
    if isinstance(container, set):
        return len(container) if any(isinstance(v, fb.Tensor) for v in container) else sorted(container)
    if isinstance(container, (collections.deque, collections.UserDict, collections.ChainMap)):
        return type(container)(container) and (dict(container) if hasattr(container, "keys") else list(container))
    return container if isinstance(container, (list, dict)) else list(container)


def _changed(make, change):
    def case(compiled):
        container = make()

        def g(x):
            change(container, x)
            return x + 1

        f = compiled(g)
        for n in range(2):
            yield f(ones() * n)
            yield _state(container)

    case.__module__ = __name__
    return case


def _changed_argument(make, change):
    def case(compiled):
        container = make()

        def g(container, x):
            change(container, x)
            return x + 1

        f = compiled(g)
        for n in range(2):
            yield f(container, ones() * n)
            yield _state(container)

    case.__module__ = __name__
    return case


for _name, _entry in CHANGES.items():
    register("same", _changed(*_entry), f"changed_{_name}")
    register("same", _changed_argument(*_entry), f"argument_changed_{_name}")


# -- made inside ------------------------------------------------------------------------------------------------------


@same
def containers_made_inside_are_new_each_call(compiled):
    def g(x):
        return [x * 2], {"a": x + 1}, (x,)

    f = compiled(g)
    a, b = f(ones()), f(ones())
    yield a[0] is not b[0], a[1] is not b[1]
    a[0].append(1)
    a[1]["b"] = 1
    yield f(ones())


MADE = {
    "set": lambda x: {1, 2},
    "deque": lambda x: collections.deque([1, 2]),
    "array": lambda x: array.array("d", [1.0]),
    "bytearray": lambda x: bytearray(b"a"),
    "defaultdict": lambda x: collections.defaultdict(list, a=[1]),
    "namespace": lambda x: types.SimpleNamespace(a=1),
    "nested_list": lambda x: [[1, [2]]],
    "numpy": lambda x: np.zeros(2),
    "counter": lambda x: collections.Counter("ab"),
    "ordered_dict": lambda x: collections.OrderedDict(a=[1]),
    "list_in_a_tuple": lambda x: ([1], {"a": [2]}),
    "object_with_a_list": lambda x: types.SimpleNamespace(values=[x * 2]),
}


def _spoil(value):
    """Change a result as its owner may."""
    if isinstance(value, set):
        value.add(9)
    elif isinstance(value, (collections.deque, array.array, bytearray, list)):
        value.append(9)
    elif isinstance(value, types.SimpleNamespace):
        vars(value)["b"] = 9
    elif isinstance(value, np.ndarray):
        value += 9
    elif isinstance(value, dict):
        value["z"] = 9
    elif isinstance(value, tuple):
        value[0].append(9)


def _made(make):
    def case(compiled):
        f = compiled(lambda x: (x * 2, make(x)))
        _, first = f(ones())
        _spoil(first)
        _, second = f(ones())
        yield sorted(vars(second)) if isinstance(second, types.SimpleNamespace) else repr(second)
        yield first is second

    case.__module__ = __name__
    return case


for _name, _make in MADE.items():
    register("same", _made(_make), f"made_inside_{_name}")


def _made_with_a_number(wrap, read):
    def case(compiled):
        f = compiled(lambda x, n: (x * n, wrap(n)))
        for n in (2.0, 3.0, 3.5):
            _, made = f(ones(), n)
            yield read(made)

    case.__module__ = __name__
    return case


for _name, _wrap, _read in (
    ("list", lambda n: [n, n * 2], lambda c: c),
    ("dict", lambda n: {"n": n}, lambda c: c),
    ("tuple", lambda n: (n, 1), lambda c: c),
    ("set", lambda n: {n}, lambda c: sorted(c)),
    ("deque", lambda n: collections.deque([n]), lambda c: list(c)),
    ("array", lambda n: array.array("d", [n]), lambda c: list(c)),
    ("namespace", lambda n: types.SimpleNamespace(n=n), lambda c: c.n),
    ("defaultdict", lambda n: collections.defaultdict(float, n=n), lambda c: c["n"]),
    ("namedtuple", lambda n: collections.namedtuple("P", "a")(n), lambda c: c.a),
    ("slice", lambda n: slice(0, n), lambda c: c.stop),
    ("key", lambda n: {n: 1}, lambda c: list(c)),
    ("frozenset", lambda n: frozenset([n]), lambda c: sorted(c)),
    ("counter", lambda n: collections.Counter(a=n), lambda c: c["a"]),
    ("numpy", lambda n: np.array([n]), lambda c: c.tolist()),
    ("complex", lambda n: complex(n, 1), lambda c: c),
    ("string", lambda n: f"{n}", lambda c: c),
    ("repr", lambda n: repr(n), lambda c: c),
    ("percent", lambda n: "%r %s %.2f" % (n, n, n), lambda c: c),
    ("zip", lambda n: list(zip([n], [1])), lambda c: c),
    ("nested", lambda n: [{"a": (n, [n])}], lambda c: c),
):
    register("same", _made_with_a_number(_wrap, _read), f"made_inside_with_a_number_{_name}")


# -- subclasses -------------------------------------------------------------------------------------------------------


@same
def list_subclass_with_an_attribute(compiled):
    class Scales(list):
        k = 1.0

    scales = Scales([2.0])
    scales.k = 3.0
    f = compiled(lambda x: x * scales[0] * scales.k)
    yield f(ones())
    scales.k = 5.0
    yield f(ones())


@same
def list_subclass_with_a_getitem(compiled):
    class Clamped(list):
        by = 1.0

        def __getitem__(self, n):
            return super().__getitem__(min(n, len(self) - 1)) * self.by

    scales = Clamped([2.0, 3.0])
    f = compiled(lambda x: x * scales[7])
    yield f(ones())
    scales.append(4.0)
    yield f(ones())
    scales.by = 2.0
    yield f(ones())


@same
def dict_subclass_with_missing(compiled):
    class Defaults(dict):
        fallback = 2.0

        def __missing__(self, key):
            return self.fallback

    table = Defaults()
    f = compiled(lambda x: x * table["k"])
    yield f(ones())
    table.fallback = 3.0
    yield f(ones())
    table["k"] = 4.0
    yield f(ones())


@same
def dict_subclass_as_argument(compiled):
    class Settings(dict):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.scale = 1.0

    settings = Settings(k=fb.ones(2))
    settings.scale = 2.0
    f = compiled(lambda s: s["k"] * s.scale)
    yield f(settings)
    settings.scale = 3.0
    yield f(settings)
    yield f(Settings(k=fb.ones(2)))


@same
def tuple_subclass_as_argument(compiled):
    class Pair(tuple):
        pass

    a, b = Pair([ones()]), Pair([ones()])
    a.scale, b.scale = 2.0, 3.0
    f = compiled(lambda p: p[0] * p.scale)
    yield f(a)
    yield f(b)


@same
def namedtuple_as_argument(compiled):
    point = collections.namedtuple("point", "x y")
    f = compiled(lambda p: point(p.x * p.y, p.x))
    yield f(point(ones(), 2.0))
    yield f(point(ones(), 3.0))
    yield type(f(point(ones(), 3.0))).__name__


@same
def object_with_getitem(compiled):
    class Table:
        def __init__(self):
            self.rows = {"k": [2.0]}

        def __getitem__(self, name):
            return self.rows[name][0]

        def __len__(self):
            return len(self.rows)

        def __contains__(self, name):
            return name in self.rows

        def __iter__(self):
            return iter(self.rows)

        def __bool__(self):
            return "off" not in self.rows

    table = Table()
    f = compiled(lambda x: x * table["k"] * len(table) + (1 if "n" in table else 0) + len(list(table))
                 if table else x)
    yield f(ones())
    table.rows["k"][0] = 3.0
    yield f(ones())
    table.rows["n"] = [1.0]
    yield f(ones())
    table.rows["off"] = [1.0]
    yield f(ones())


@same
def object_with_comparison_and_hash(compiled):
    class Key:
        def __init__(self, n):
            self.n = n

        def __eq__(self, other):
            return self.n == other.n

        def __hash__(self):
            return hash(self.n)

    table = {Key(1): 2.0, Key(2): 3.0}
    key = Key(1)
    f = compiled(lambda x: x * table[key])
    yield f(ones())
    key.n = 2
    yield f(ones())


@same
def number_subclass(compiled):
    class Celsius(float):
        unit = "C"

    k = Celsius(2.0)
    f = compiled(lambda x: x * k)
    yield f(ones())
    k = Celsius(3.0)
    yield f(ones())


@same
def string_subclass(compiled):
    class Name(str):
        pass

    name = Name("ab")
    name.scale = 2.0
    f = compiled(lambda x: x * len(name) * name.scale)
    yield f(ones())
    name.scale = 3.0
    yield f(ones())
    name = Name("abc")
    name.scale = 3.0
    yield f(ones())


@same
def object_with_number_protocols(compiled):
    class Scale:
        def __init__(self, k):
            self.k = k

        def __mul__(self, other):
            return self.k * other

        def __float__(self):
            return float(self.k)

        def __index__(self):
            return int(self.k)

    scale = Scale(2)
    f = compiled(lambda x: (scale * x, x + float(scale), x * [1.0, 2.0, 3.0, 4.0][scale]))
    yield f(ones())
    scale.k = 3
    yield f(ones())


@same
def list_of_tensors_in_a_cell(compiled):
    tensors = [fb.ones(2), fb.ones(2) * 2]

    def g(x):
        for t in tensors:
            x = x + t
        return x

    f = compiled(g)
    yield f(ones())
    tensors[0].mul_(5)
    yield f(ones())
    tensors[0] = fb.zeros(2)
    yield f(ones())
    tensors.append(fb.ones(2))
    yield f(ones())


@same
def dict_of_tensors_swapped(compiled):
    tensors = {"a": fb.ones(2), "b": fb.ones(2) * 2}
    f = compiled(lambda x: x * tensors["a"] - tensors["b"])
    yield f(ones())
    tensors["a"], tensors["b"] = tensors["b"], tensors["a"]
    yield f(ones())


@same
def cache_of_tensors_by_shape(compiled):
    """Positional encodings that are kept by length."""
    cache = {}

    def positions(n):
        if n not in cache:
            cache[n] = fb.arange(n).float()
        return cache[n]

    f = compiled(lambda x: x + positions(x.shape[0]))
    for n in (2, 3, 2):
        yield f(fb.ones(n))
        yield f(fb.ones(n))


@same
def iterator_over_a_chain_of_lists(compiled):
    a, b = [1.0], [2.0]
    f = compiled(lambda x: x * sum(itertools.chain(a, b)))
    yield f(ones())
    b.append(5.0)
    yield f(ones())
