"""What functions close over: cells, globals, defaults, decorators, partials, and functions reached in unusual ways."""
from __future__ import annotations

import contextlib
import functools
import operator
import types

import flambeau as fb
from tests.contract.harness import exact, same

FACTOR = 2.0
TABLE = {"factor": 2.0, "deep": {"list": [1.0, 2.0]}}
LATE: float


def ones():
    return fb.ones(2)


# -- cells ------------------------------------------------------------------------------------------------------------


@exact
def cell_number(compiled):
    k = 2.0
    f = compiled(lambda x: x * k)
    yield f(ones())
    k = 3.0
    yield f(ones())


@same
def cell_of_a_helper(compiled):
    k = 2.0

    def helper(x):
        return x * k

    f = compiled(lambda x: helper(x))
    yield f(ones())
    k = 3.0
    yield f(ones())


@same
def cell_three_functions_down(compiled):
    k = 2.0

    def a(x):
        def b(x):
            def c(x):
                return x * k

            return c(x)

        return b(x)

    f = compiled(lambda x: a(x))
    yield f(ones())
    k = 3.0
    yield f(ones())


@same
def helper_rebound(compiled):
    helper = lambda x: x * 2
    f = compiled(lambda x: helper(x))
    yield f(ones())
    helper = lambda x: x * 3
    yield f(ones())


@same
def helper_of_a_helper_rebound(compiled):
    inner = lambda x: x * 2
    outer = lambda x: inner(x) + 1
    f = compiled(lambda x: outer(x))
    yield f(ones())
    inner = lambda x: x * 3
    yield f(ones())


@same
def cell_of_a_function_in_a_list(compiled):
    k = 2.0
    functions = [lambda x: x * k, lambda x: x + k]

    def g(x):
        for function in functions:
            x = function(x)
        return x

    f = compiled(g)
    yield f(ones())
    k = 3.0
    yield f(ones())
    functions.pop()
    yield f(ones())


@same
def cell_of_a_function_in_a_dict(compiled):
    k = 2.0
    functions = {"f": lambda x: x * k}
    f = compiled(lambda x, name: functions[name](x))
    yield f(ones(), "f")
    k = 3.0
    yield f(ones(), "f")
    functions["f"] = lambda x: x * 10
    yield f(ones(), "f")


@same
def cell_of_a_function_given_as_argument(compiled):
    k = 2.0

    def helper(x):
        return x * k

    f = compiled(lambda g, x: g(x))
    yield f(helper, ones())
    k = 3.0
    yield f(helper, ones())


@same
def cell_of_a_function_in_an_argument_list(compiled):
    k = 2.0
    f = compiled(lambda gs, x: gs[0](x))
    g = lambda x: x * k
    yield f([g], ones())
    k = 3.0
    yield f([g], ones())


@same
def cell_of_a_function_returned_by_a_function(compiled):
    k = 2.0

    def chosen():
        return lambda x: x * k

    f = compiled(lambda x: chosen()(x))
    yield f(ones())
    k = 3.0
    yield f(ones())


@same
def cells_made_in_a_loop(compiled):
    fs = [compiled(lambda x, k=k: x * k) for k in (2.0, 3.0)]
    yield [f(ones()) for f in fs]
    late = [compiled(lambda x: x * k) for k in (2.0, 3.0)]
    yield [f(ones()) for f in late]


@same
def cell_set_through_cell_contents(compiled):
    k = 2.0

    def g(x):
        return x * k

    f = compiled(g)
    yield f(ones())
    g.__closure__[0].cell_contents = 3.0
    yield f(ones())


@same
def cell_that_is_empty_at_first(compiled):
    def g(x):
        try:
            return x * later
        except NameError:
            return x * 10

    f = compiled(g)
    yield f(ones())
    later = 3.0
    yield f(ones())


@same
def cell_deleted(compiled):
    k = 2.0

    def g(x):
        try:
            return x * k
        except NameError:
            return x * 10

    f = compiled(g)
    yield f(ones())
    del k
    yield f(ones())


@same
def cell_holds_tensor_then_number(compiled):
    k = fb.tensor(2.0)
    f = compiled(lambda x: x * k)
    yield f(ones())
    k = 3.0
    yield f(ones())
    k = fb.tensor([4.0, 5.0])
    yield f(ones())
    k = None
    try:
        yield f(ones())
    except TypeError:
        yield "TypeError"


@same
def cell_number_kinds(compiled):
    k = 1
    f = compiled(lambda x: (x * k, x / k, k))
    for k in (1, 1.0, True, 2, 2.0, -0.0, 0.5):
        yield f(ones())


@same
def cell_nan_stays(compiled):
    k = float("nan")
    f = compiled(lambda x: x * 2 if k != k else x * 3)
    yield f(ones())
    yield f(ones())
    k = 1.0
    yield f(ones())


@same
def cell_string(compiled):
    mode = "double"
    f = compiled(lambda x: x * 2 if mode == "double" else x * 3)
    yield f(ones())
    mode = "triple"
    yield f(ones())


@same
def cell_bytes_and_complex(compiled):
    k = b"ab"
    z = 1 + 2j
    f = compiled(lambda x: x * k[0] + z.imag)
    yield f(ones())
    k = b"cd"
    yield f(ones())
    z = 1 + 3j
    yield f(ones())


@same
def nonlocal_counter_outside(compiled):
    n = 0

    def bump():
        nonlocal n
        n += 1

    f = compiled(lambda x: x * n)
    for _ in range(3):
        bump()
        yield f(ones())


@same
def nonlocal_written_inside(compiled):
    n = 0

    def g(x):
        nonlocal n
        n = n + 1
        return x * n

    f = compiled(g)
    yield f(ones())
    yield f(ones())
    yield n


@same
def nonlocal_written_inside_to_the_same_value(compiled):
    mode = "train"

    def g(x):
        nonlocal mode
        mode = "train"
        return x * 2

    f = compiled(g)
    yield f(ones())
    mode = "eval"
    yield f(ones())
    yield mode


@same
def nonlocal_tensor_rebound_inside(compiled):
    h = fb.zeros(2)

    def g(x):
        nonlocal h
        h = h + x
        return h * 1

    f = compiled(g)
    yield f(ones())
    yield f(ones())
    yield h


@same
def nonlocal_set_and_restored(compiled):
    k = 2.0

    def g(x):
        nonlocal k
        old = k
        k = 5.0
        y = x * k
        k = old
        return y

    f = compiled(g)
    yield f(ones())
    yield k
    k = 7.0
    yield f(ones())
    yield k


# -- globals ----------------------------------------------------------------------------------------------------------


@exact
def global_number(compiled):
    global FACTOR
    FACTOR = 2.0
    f = compiled(lambda x: x * FACTOR)
    yield f(ones())
    FACTOR = 3.0
    yield f(ones())
    FACTOR = 2.0


@same
def global_through_globals_call(compiled):
    global FACTOR
    FACTOR = 2.0
    f = compiled(lambda x: x * globals()["FACTOR"])
    yield f(ones())
    FACTOR = 3.0
    yield f(ones())
    FACTOR = 2.0


@same
def global_through_eval(compiled):
    global FACTOR
    FACTOR = 2.0
    f = compiled(lambda x: x * eval("FACTOR"))
    yield f(ones())
    FACTOR = 3.0
    yield f(ones())
    FACTOR = 2.0


@same
def global_dict_deep(compiled):
    TABLE["deep"]["list"][1] = 2.0
    f = compiled(lambda x: x * TABLE["deep"]["list"][1])
    yield f(ones())
    TABLE["deep"]["list"][1] = 3.0
    yield f(ones())


@same
def global_missing_at_first(compiled):
    globals().pop("LATE", None)

    def g(x):
        try:
            return x * LATE
        except NameError:
            return x * 10

    f = compiled(g)
    yield f(ones())
    globals()["LATE"] = 3.0
    yield f(ones())
    del globals()["LATE"]
    yield f(ones())


@same
def global_shadows_a_builtin(compiled):
    globals().pop("len", None)
    f = compiled(lambda x: x * len([1, 2]))
    yield f(ones())
    globals()["len"] = lambda values: 10
    yield f(ones())
    del globals()["len"]
    yield f(ones())


@same
def global_written_inside(compiled):
    global FACTOR
    FACTOR = 2.0

    def g(x):
        global FACTOR
        FACTOR = FACTOR + 1
        return x * FACTOR

    f = compiled(g)
    yield f(ones())
    yield f(ones())
    yield FACTOR
    FACTOR = 2.0


@same
def global_made_inside(compiled):
    globals().pop("LATE", None)

    def g(x):
        global LATE
        LATE = 5.0
        return x * LATE

    f = compiled(g)
    yield f(ones())
    yield globals().get("LATE")
    globals()["LATE"] = 6.0
    yield f(ones())
    yield globals().get("LATE")
    del globals()["LATE"]


@same
def global_of_a_helper_two_calls_down(compiled):
    global FACTOR
    FACTOR = 2.0
    f = compiled(lambda x: _middle(x))
    yield f(ones())
    FACTOR = 3.0
    yield f(ones())
    FACTOR = 2.0


def _middle(x):
    return _lowest(x) + 1


def _lowest(x):
    return x * FACTOR


@same
def global_function_replaced(compiled):
    global _lowest
    plain = _lowest
    f = compiled(lambda x: _middle(x))
    yield f(ones())
    _lowest = lambda x: x * 100
    yield f(ones())
    _lowest = plain


@same
def global_read_in_a_comprehension(compiled):
    global FACTOR
    FACTOR = 2.0
    f = compiled(lambda x: sum([x * FACTOR * n for n in range(3)]))
    yield f(ones())
    FACTOR = 3.0
    yield f(ones())
    FACTOR = 2.0


@same
def code_in_exec_namespace(compiled):
    namespace = {"K": 2.0}
    exec("def g(x):\n    return x * K\n", namespace)
    f = compiled(namespace["g"])
    yield f(ones())
    namespace["K"] = 3.0
    yield f(ones())


@same
def function_with_globals_of_its_own(compiled):
    template = lambda x: x * FACTOR
    namespace = {"FACTOR": 2.0}
    f = compiled(types.FunctionType(template.__code__, namespace))
    yield f(ones())
    namespace["FACTOR"] = 3.0
    yield f(ones())


# -- defaults and attributes of functions -----------------------------------------------------------------------------


@same
def default_list_changed(compiled):
    def g(x, scales=[2.0]):
        return x * scales[0]

    f = compiled(g)
    yield f(ones())
    g.__defaults__[0][0] = 3.0
    yield f(ones())


@same
def default_number_of_a_helper_replaced(compiled):
    def helper(x, k=2.0):
        return x * k

    f = compiled(lambda x: helper(x))
    yield f(ones())
    helper.__defaults__ = (3.0,)
    yield f(ones())


@same
def keyword_default_of_a_helper_replaced(compiled):
    def helper(x, *, k=2.0):
        return x * k

    f = compiled(lambda x: helper(x))
    yield f(ones())
    helper.__kwdefaults__["k"] = 3.0
    yield f(ones())
    helper.__kwdefaults__ = {"k": 4.0}
    yield f(ones())


@same
def keyword_default_of_the_function_replaced(compiled):
    def g(x, *, k=2.0, mode="a"):
        return x * k if mode == "a" else x + k

    f = compiled(g)
    yield f(ones())
    g.__kwdefaults__["k"] = 3.0
    yield f(ones())
    g.__kwdefaults__["mode"] = "b"
    yield f(ones())


@same
def default_tensor_changed(compiled):
    scale = fb.tensor([2.0, 3.0])

    def g(x, scale=scale):
        return x * scale

    f = compiled(g)
    yield f(ones())
    scale.mul_(2)
    yield f(ones())
    g.__defaults__ = (fb.ones(2),)
    yield f(ones())


@same
def code_of_a_helper_replaced(compiled):
    def helper(x):
        return x * 2

    def other(x):
        return x * 3

    f = compiled(lambda x: helper(x))
    yield f(ones())
    helper.__code__ = other.__code__
    yield f(ones())


@same
def attribute_of_a_function(compiled):
    def helper(x):
        return x * helper.k

    helper.k = 2.0
    f = compiled(lambda x: helper(x))
    yield f(ones())
    helper.k = 3.0
    yield f(ones())


@same
def attribute_of_the_function_itself(compiled):
    def g(x):
        return x * g.k

    g.k = 2.0
    f = compiled(g)
    yield f(ones())
    g.k = 3.0
    yield f(ones())


@same
def attribute_of_a_function_counts(compiled):
    def helper(x):
        helper.calls += 1
        return x * helper.calls

    helper.calls = 0
    f = compiled(lambda x: helper(x))
    yield f(ones())
    yield f(ones())
    yield helper.calls


@same
def name_of_a_function_is_read(compiled):
    def helper(x):
        return x

    f = compiled(lambda x: x * len(helper.__name__))
    yield f(ones())
    helper.__name__ = "a"
    yield f(ones())


# -- decorators -------------------------------------------------------------------------------------------------------


@same
def helper_under_no_grad(compiled):
    k = 2.0

    @fb.no_grad()
    def helper(x):
        return x * k

    f = compiled(lambda x: helper(x))
    yield f(ones())
    k = 3.0
    yield f(ones())


@same
def function_itself_under_no_grad(compiled):
    k = 2.0

    @compiled
    @fb.no_grad()
    def f(x):
        return x * k

    yield f(ones())
    k = 3.0
    yield f(ones())


@same
def function_under_enable_grad_and_inference_mode(compiled):
    k = 2.0

    @fb.enable_grad()
    def a(x):
        return x * k

    @fb.inference_mode()
    def b(x):
        return x * k

    f = compiled(lambda x: a(x) + b(x))
    yield f(ones())
    k = 3.0
    yield f(ones())


@same
def helper_under_two_decorators(compiled):
    k, shift = 2.0, 1.0

    def shifted(function):
        @functools.wraps(function)
        def wrapper(x):
            return function(x) + shift

        return wrapper

    @shifted
    @fb.no_grad()
    def helper(x):
        return x * k

    f = compiled(lambda x: helper(x))
    yield f(ones())
    shift = 5.0
    yield f(ones())
    k = 3.0
    yield f(ones())


@same
def helper_under_lru_cache(compiled):
    k = 2.0

    @functools.lru_cache
    def scale(n):
        return n * k

    f = compiled(lambda x: x * scale(3))
    yield f(ones())
    k = 5.0
    scale.cache_clear()
    yield f(ones())


@same
def helper_under_contextmanager(compiled):
    k = 2.0

    @contextlib.contextmanager
    def scaled():
        yield k

    def g(x):
        with scaled() as s:
            return x * s

    f = compiled(g)
    yield f(ones())
    k = 3.0
    yield f(ones())


@same
def context_manager_object(compiled):
    class Scaled:
        k = 2.0

        def __enter__(self):
            return self.k

        def __exit__(self, *exc):
            return False

    scaled = Scaled()

    def g(x):
        with scaled as s:
            return x * s

    f = compiled(g)
    yield f(ones())
    scaled.k = 3.0
    yield f(ones())


@same
def with_suppress(compiled):
    table = {"a": 2.0}

    def g(x):
        with contextlib.suppress(KeyError):
            return x * table["b"]
        return x * table["a"]

    f = compiled(g)
    yield f(ones())
    table["a"] = 3.0
    yield f(ones())
    table["b"] = 5.0
    yield f(ones())


@same
def helper_under_nullcontext(compiled):
    k = 2.0
    contexts = {"now": contextlib.nullcontext(2.0)}

    def g(x):
        with contexts["now"] as s:
            return x * s * k

    f = compiled(g)
    yield f(ones())
    k = 3.0
    yield f(ones())
    contexts["now"] = contextlib.nullcontext(5.0)
    yield f(ones())


@same
def helper_under_a_class_decorator(compiled):
    k = 2.0

    class Wrapped:
        def __init__(self, function):
            self.function, self.times = function, 1

        def __call__(self, x):
            for _ in range(self.times):
                x = self.function(x)
            return x

    @Wrapped
    def helper(x):
        return x * k

    f = compiled(lambda x: helper(x))
    yield f(ones())
    k = 3.0
    yield f(ones())
    helper.times = 2
    yield f(ones())


@same
def decorator_replaces_wrapped_function(compiled):
    def plain(function):
        @functools.wraps(function)
        def wrapper(x):
            return wrapper.__wrapped__(x)

        return wrapper

    @plain
    def helper(x):
        return x * 2

    f = compiled(lambda x: helper(x))
    yield f(ones())
    helper.__wrapped__ = lambda x: x * 3
    yield f(ones())


@same
def singledispatch_registry(compiled):
    @functools.singledispatch
    def scaled(kind, x):
        return x * 2

    f = compiled(lambda x: scaled("a", x))
    yield f(ones())
    scaled.register(str, lambda kind, x: x * 3)
    yield f(ones())


@same
def partial_of_a_helper(compiled):
    k = 2.0
    scaled = functools.partial(lambda x, by: x * by * k, by=3.0)
    f = compiled(lambda x: scaled(x))
    yield f(ones())
    k = 5.0
    yield f(ones())
    scaled.keywords["by"] = 4.0
    yield f(ones())


@same
def partial_is_compiled(compiled):
    k = 2.0
    settings = {"by": 3.0}
    f = compiled(functools.partial(lambda settings, x: x * settings["by"] * k, settings))
    yield f(ones())
    settings["by"] = 4.0
    yield f(ones())
    k = 5.0
    yield f(ones())


@same
def partial_of_a_method(compiled):
    class Scaler:
        def __init__(self):
            self.k = 2.0

        def scale(self, x, n):
            return x * self.k * n

    scaler = Scaler()
    double = functools.partial(scaler.scale, n=2)
    f = compiled(lambda x: double(x))
    yield f(ones())
    scaler.k = 3.0
    yield f(ones())


@same
def partial_method(compiled):
    class Scaler:
        k = 2.0

        def scale(self, x, n):
            return x * self.k * n

        double = functools.partialmethod(scale, n=2)

    scaler = Scaler()
    f = compiled(lambda x: scaler.double(x))
    yield f(ones())
    scaler.k = 3.0
    yield f(ones())
    Scaler.double = functools.partialmethod(Scaler.scale, n=5)
    yield f(ones())


@same
def attrgetter(compiled):
    box = types.SimpleNamespace(k=2.0, inner=types.SimpleNamespace(k=3.0))
    get, deep = operator.attrgetter("k"), operator.attrgetter("inner.k")
    f = compiled(lambda x: x * get(box) + deep(box))
    yield f(ones())
    box.k = 4.0
    yield f(ones())
    box.inner.k = 5.0
    yield f(ones())


@same
def itemgetter(compiled):
    table = {"k": 2.0}
    get = operator.itemgetter("k")
    f = compiled(lambda x: x * get(table))
    yield f(ones())
    table["k"] = 3.0
    yield f(ones())


@same
def methodcaller(compiled):
    class Scaler:
        def __init__(self):
            self.k = 2.0

        def get(self):
            return self.k

    scaler = Scaler()
    get = operator.methodcaller("get")
    f = compiled(lambda x: x * get(scaler))
    yield f(ones())
    scaler.k = 3.0
    yield f(ones())


@same
def reduce_map_and_filter(compiled):
    k = 2.0
    steps = [1.0, 2.0, 3.0]

    def g(x):
        scales = map(lambda s: s * k, filter(lambda s: s > k - 1, steps))
        return functools.reduce(lambda a, s: a * s, scales, x)

    f = compiled(g)
    yield f(ones())
    k = 3.0
    yield f(ones())
    steps.append(4.0)
    yield f(ones())


@same
def sorted_by_a_key(compiled):
    sign = 1
    scales = [3.0, 1.0, 2.0]
    f = compiled(lambda x: x * sorted(scales, key=lambda s: sign * s)[0])
    yield f(ones())
    sign = -1
    yield f(ones())
    scales[0] = 9.0
    yield f(ones())


@same
def exit_stack(compiled):
    k = 2.0
    log = []

    def g(x):
        with contextlib.ExitStack() as stack:
            stack.callback(lambda: None)
            stack.enter_context(fb.no_grad())
            return x * k

    f = compiled(g)
    yield f(ones())
    k = 3.0
    yield f(ones())
    yield log


@same
def generator_function_helper(compiled):
    k = 2.0

    def scales(n):
        for i in range(n):
            yield i * k

    f = compiled(lambda x: sum(x * s for s in scales(3)))
    yield f(ones())
    k = 3.0
    yield f(ones())


@same
def recursion(compiled):
    k = 2.0

    def power(x, n):
        return x if n == 0 else power(x, n - 1) * k

    f = compiled(lambda x, n: power(x, n))
    yield f(ones(), 3)
    k = 3.0
    yield f(ones(), 3)
    yield f(ones(), 2)


@same
def compiled_helper_inside_compiled(compiled):
    k = 2.0
    inner = compiled(lambda x: x * k)
    f = compiled(lambda x: inner(x) + 1)
    yield f(ones())
    k = 3.0
    yield f(ones())
    yield inner(ones())


@same
def lambda_as_default_argument(compiled):
    k = 2.0

    def g(x, scale=lambda x: x * k):
        return scale(x)

    f = compiled(g)
    yield f(ones())
    k = 3.0
    yield f(ones())


@same
def callback_in_nested_settings(compiled):
    k = 2.0
    settings = {"loss": {"reduce": [lambda x: x * k]}}
    f = compiled(lambda x: settings["loss"]["reduce"][0](x))
    yield f(ones())
    k = 3.0
    yield f(ones())


@same
def function_attached_to_a_class_under_another_name(compiled):
    k = 2.0

    def anything(self, x):
        return x * k

    class Box:
        pass

    Box.scale = anything
    box = Box()
    f = compiled(lambda x: box.scale(x))
    yield f(ones())
    k = 3.0
    yield f(ones())


@same
def function_attached_to_an_instance(compiled):
    k = 2.0

    class Box:
        pass

    box = Box()
    box.scale = lambda x: x * k
    f = compiled(lambda x: box.scale(x))
    yield f(ones())
    k = 3.0
    yield f(ones())
    box.scale = lambda x: x * 10
    yield f(ones())


@same
def closure_through_method_type(compiled):
    k = 2.0
    scale = types.MethodType(lambda self, x: x * self["k"] * k, {"k": 1.0})
    f = compiled(lambda x: scale(x))
    yield f(ones())
    k = 3.0
    yield f(ones())
    scale.__self__["k"] = 2.0
    yield f(ones())


@same
def class_made_inside_the_function(compiled):
    k = 2.0

    def g(x):
        class Scaler:
            by = k

            def __call__(self, x):
                return x * self.by * k

        return Scaler()(x)

    f = compiled(g)
    yield f(ones())
    k = 3.0
    yield f(ones())


@same
def exception_decides(compiled):
    table = {"a": 2.0}

    def g(x):
        try:
            return x * table["b"]
        except KeyError:
            return x * table["a"]
        finally:
            pass

    f = compiled(g)
    yield f(ones())
    table["b"] = 5.0
    yield f(ones())


@same
def walrus_and_conditional(compiled):
    k = 2.0
    f = compiled(lambda x: x * s if (s := k * 2) > 5 else x + s)
    yield f(ones())
    k = 3.0
    yield f(ones())


@same
def match_statement(compiled):
    shape = ("circle", 2.0)

    def g(x):
        match shape:
            case ("circle", r):
                return x * r
            case ("square", side):
                return x + side
            case _:
                return x

    f = compiled(g)
    yield f(ones())
    shape = ("square", 2.0)
    yield f(ones())
    shape = None
    yield f(ones())
