"""Random object graphs, functions that read random paths through them, and changes between calls: what the tests of
guards hold compiled functions to."""
from __future__ import annotations

import collections
import contextvars
import copy
import dataclasses
import functools
import random
import types

import flambeau as fb

NAMES = ("a", "b", "c")                 # that programs read
OTHERS = ("u", "v")                     # that none reads


class Thing:
    """An object with a __dict__, a property and methods that read it."""

    shared = 3.0

    def method(self):
        return self.a

    @property
    def made(self):
        return self.b

    def __getitem__(self, key):
        return self.__dict__[key]


class Kin(Thing):
    """The same, where methods say another thing."""

    def method(self):
        return super().method()


class Slotted:
    __slots__ = (*NAMES, *OTHERS)


@dataclasses.dataclass
class Record:
    a: object = 1.0
    b: object = 2.0
    c: object = 3.0


Row = collections.namedtuple("Row", NAMES)


class Graph:
    """objects: everything that can be changed, with its kind."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.objects = []
        self.globals = {"__name__": "guard_program", "key": "a", "fb": fb, "__builtins__": __builtins__}
        self.lines = []
        self.log = []
        self.is_open = False            # it may read any attribute

    def number(self):
        return self.random.choice([0.5, 1.0, 2.0, 3.0, 4, True])

    def make(self, depth):
        """(object, an expression with {} for the object that gives a number)."""
        if depth == 0 or self.random.random() < 0.1:
            return self.number(), "{}"
        kind = self.random.choice(_KINDS)
        children = {name: self.make(depth - 1) for name in NAMES}
        values = {name: child for name, (child, _) in children.items()}
        name = self.random.choice(NAMES)
        made, steps = kind(self, values, name)
        self.objects.append(made)
        step, name = self.random.choice(steps)
        self.is_open |= kind is _thing and step.startswith("{}[") or "key)" in step or "vars(" in step
        return made, "{}" if step is None else children[name][1].replace("{}", step) if name else step

    def program(self):
        """Source of a function of x that reads a few paths."""
        terms, body = [], []
        for n in range(self.random.randint(1, 4)):
            value, path = self.make(self.random.randint(1, 3))
            root = f"g{n}"
            self.globals[root] = value
            style = self.random.randrange(4)
            if style == 0:
                terms.append(path.replace("{}", root))
            elif style == 1:
                self.lines.append(f"def h{n}(o): return " + path.replace("{}", "o"))
                terms.append(f"h{n}({root})")
            elif style == 2:
                self.lines += [f"def make{n}(o):", "    return lambda: " + path.replace("{}", "o")]
                self.lines.append(f"h{n} = make{n}({root})")
                terms.append(f"h{n}()")
            else:
                body.append(f"q{n} = {root}")
                terms.append(path.replace("{}", f"q{n}"))
        self.lines.append("def f(x):\n" + "".join(f"    {line}\n" for line in body)
                          + "    return " + " + ".join(f"x * ({t})" for t in terms))
        source = "\n".join(self.lines)
        exec(compile(source, "<guard program>", "exec"), self.globals)
        return source, self.globals["f"]

    def change(self):
        """Change something; True when it is nothing that the program can see."""
        target = self.random.choice([self.globals, *self.objects] if self.objects else [self.globals])
        change = self.random.choice(_CHANGES)
        try:
            return bool(change(self, target))
        except (AttributeError, TypeError, IndexError, KeyError, ValueError, RuntimeError):
            return False

    def note(self, what, target):
        where = self.objects.index(target) if any(target is o for o in self.objects) else "globals"
        self.log.append(f"{what} of object {where}: {type(target).__name__}")


def _of_attributes(make):
    def kind(graph, values, name):
        made = make(values)
        return made, [(f"{{}}.{name}", name), (f"getattr({{}}, {name!r})", name), ("getattr({}, key)", "a"),
                      (f"getattr({{}}, 'no' + {name!r}, 2.0)", None), (f"(1.0 if hasattr({{}}, {name!r}) else 2.0)", None)]
    return kind


def _set_all(made, values):
    for name, value in values.items():
        setattr(made, name, value)
    return made


def _thing(graph, values, name):
    made = _set_all(graph.random.choice([Thing, Kin])(), values)
    return made, [(f"{{}}.{name}", name), ("{}.method()", "a"), ("{}.made", "b"), (f"{{}}[{name!r}]", name),
                  ("getattr({}, key)", "a"), ("{}.shared", None), (f"vars({{}})[{name!r}]", name),
                  ("getattr({}, 'd', 2.0)", None), ("type({}).shared", None)]


def _class(graph, values, name):
    base = type("Base", (), {"__module__": "guard_program", "a": values["a"]})
    made = type("Made", (base,), {"__module__": "guard_program", "b": values["b"], "c": values["c"]})
    return made, [(f"{{}}.{name}", name), (f"{{}}().{name}", name), ("getattr({}, 'd', 2.0)", None)]


def _module(graph, values, name):
    made = _set_all(types.ModuleType("guard_program_module"), values)
    return made, [(f"{{}}.{name}", name), ("getattr({}, 'd', 2.0)", None), ("getattr({}, key)", "a")]


def _dict(graph, values, name):
    made = graph.random.choice([dict, collections.OrderedDict, lambda v: collections.defaultdict(float, v),
                                types.MappingProxyType, collections.UserDict, collections.ChainMap])(dict(values))
    return made, [(f"{{}}[{name!r}]", name), (f"{{}}.get({name!r})", name), ("{}.get('d', 2.0)", None), ("len({})", None),
                  ("(3.0 if next(iter({})) == 'a' else 1.0)", None)]


def _sequence(graph, values, name):
    made = graph.random.choice([list, tuple, collections.deque])(values.values())
    at = NAMES.index(name)
    return made, [(f"{{}}[{at}]", name), (f"{{}}[{at - 3}]", name), ("len({})", None)]


def _set(graph, values, name):
    made = graph.random.choice([set, frozenset])([graph.number(), graph.number()])
    return made, [("sum({})", None), ("len({})", None), ("(2.0 if 3.0 in {} else 1.0)", None)]


def _call(graph, values, name):
    value = values["a"]
    made = graph.random.choice([
        lambda: functools.partial(lambda o: o, value), lambda: (lambda: value), lambda: (lambda o=value: o),
        lambda: Holder(value).get, lambda: functools.wraps(Holder.get)(lambda: value)])()
    return made, [("{}()", "a"), ("getattr({}, 'd', 2.0)", None)]


_DATA = (types.SimpleNamespace, collections.UserDict, collections.ChainMap)       # guarded as a whole


class Holder:
    def __init__(self, value):
        self.value = value

    def get(self):
        return self.value


def _variable(graph, values, name):
    made = contextvars.ContextVar("variable")
    made.set(values["a"])
    return made, [("{}.get()", "a")]


_KINDS = [_thing, _thing, _class, _module, _dict, _dict, _sequence, _sequence, _set, _call, _variable,
          _of_attributes(lambda v: _set_all(Slotted(), v)), _of_attributes(lambda v: Record(**v)),
          _of_attributes(lambda v: types.SimpleNamespace(**v)), _of_attributes(lambda v: Row(**v))]


def _unrelated(graph, target):
    graph.note("unread attribute", target)
    if isinstance(target, (dict, list)) or target is graph.globals:
        graph.globals["unread"] = graph.random.random()
        return True
    setattr(target, graph.random.choice(OTHERS), graph.random.random())
    return not graph.is_open and not isinstance(target, _DATA)


def _set_name(graph, target):
    graph.note("name set", target)
    name = graph.random.choice([*NAMES, "d", "noa", "shared", "method"])
    if isinstance(target, collections.abc.MutableMapping):
        target["key" if target is graph.globals else name] = "b" if target is graph.globals else graph.number()
    else:
        setattr(target, name, (lambda: 7.0) if name == "method" else graph.number())


def _delete_name(graph, target):
    graph.note("name deleted", target)
    name = graph.random.choice(NAMES)
    if isinstance(target, collections.abc.MutableMapping):
        del target[name]
    else:
        delattr(target, name)
    if graph.random.random() < 0.5:
        _set_name(graph, target)


def _in_order(graph, target):
    graph.note("order", target)
    if isinstance(target, collections.OrderedDict):
        target.move_to_end(next(iter(target)))
    elif isinstance(target, dict) and target is not graph.globals:
        key = next(iter(target))
        target[key] = target.pop(key)
    else:
        target.rotate(1)


def _contents(graph, target):
    graph.note("contents", target)
    match graph.random.randrange(4):
        case 0:
            target.append(graph.number())
        case 1:
            target.pop()
        case 2:
            target[graph.random.randrange(3)] = graph.number()
        case 3:
            target.add(graph.number())


def _equal(graph, target):
    """Everything that a container holds is replaced by its copy."""
    graph.note("equal parts", target)
    for key, value in list(target.items() if isinstance(target, dict) else vars(target).items()):
        if type(value) in (list, dict, set, tuple, Record, collections.deque, collections.OrderedDict):
            made = copy.copy(value)
            graph.objects.append(made)
            if isinstance(target, dict):
                target[key] = made
            else:
                setattr(target, key, made)
    return target is not graph.globals or True


def _kind(graph, target):
    graph.note("class", target)
    target.__class__ = Kin if type(target) is Thing else Thing


def _function(graph, target):
    graph.note("function", target)
    if isinstance(target, types.FunctionType) and target.__defaults__:
        target.__defaults__ = (graph.number(),)
    elif isinstance(target, types.FunctionType) and target.__closure__:
        target.__closure__[0].cell_contents = graph.number()
    elif isinstance(target, contextvars.ContextVar):
        target.set(graph.number())
    else:
        target.__self__.value = graph.number()


def _of_class(graph, target):
    graph.note("attribute of the class", target)
    Thing.shared = graph.number()


_CHANGES = [_unrelated, _unrelated, _set_name, _set_name, _set_name, _delete_name, _in_order, _contents, _contents, _equal,
            _kind, _function, _of_class]


def run(seed):
    """None, or what went wrong."""
    graph = Graph(seed)
    source, function = graph.program()
    compiled = fb.compile(function, recompile_limit=1000)
    x = fb.tensor([1.0, 2.0])
    for _ in range(6):
        expected, found = _result(function, x), _result(compiled, x)
        if found != expected:
            return _told(seed, source, graph, f"gave {found}, eager code {expected}")
        count = len(compiled.signatures)
        if _result(compiled, x) != expected or len(compiled.signatures) != count:
            return _told(seed, source, graph, "did not hit at once")
        if graph.change():
            after = _result(compiled, x)
            if after != expected:
                return _told(seed, source, graph, f"gave {after} after a change of nothing that it reads")
            if len(compiled.signatures) != count:
                return _told(seed, source, graph, f"was compiled again: {compiled.signatures[-1].reason}")
    return None


def _result(function, x):
    try:
        return function(x).tolist()
    except (AttributeError, KeyError, IndexError, TypeError, StopIteration, ValueError) as error:
        if isinstance(error, fb.errors.FlambeauError):
            return repr(error)
        return type(error).__name__


def _told(seed, source, graph, what):
    changes = "\n".join(graph.log)
    return f"seed {seed}: the compiled function {what}\n{source}\nobjects: {graph.objects}\nchanges:\n{changes}"
