"""Refusals that user code swallows: an error of the tracer inside try/except still ends the trace; values of traced
tensors that Python asks for in roundabout ways."""
from __future__ import annotations

import contextlib
import copy
import logging
import pickle
import warnings

import numpy as np

import flambeau as fb
from flambeau import nn
from tests.contract.harness import leaf, register, same


def ones():
    return fb.ones(2)


ASKS = {
    "if": lambda x: 1.0 if x.sum() > 0 else 2.0,
    "bool": lambda x: bool(x.sum() > 0),
    "not": lambda x: not x.sum(),
    "and": lambda x: (x.sum() > 0) and 3.0,
    "float": lambda x: float(x.sum()),
    "int": lambda x: int(x.sum()),
    "complex": lambda x: complex(x.sum()).real,
    "index": lambda x: [1.0, 2.0, 3.0, 4.0][x.sum().long()],
    "range": lambda x: len(range(x.sum().long())),
    "item": lambda x: x.sum().item(),
    "tolist": lambda x: x.tolist()[0],
    "numpy": lambda x: float(x.numpy()[0]),
    "array": lambda x: float(np.asarray(x)[0]),
    "repr": lambda x: len(repr(x)),
    "str": lambda x: len(str(x)),
    "format": lambda x: len(f"{x.sum()}"),
    "format_spec": lambda x: len(f"{x.sum():.3f}"),
    "percent": lambda x: len("%s" % x),
    "percent_f": lambda x: len("%.3f" % x.sum()),
    "print_to_a_string": lambda x: len("{}".format(x)),
    "round": lambda x: round(x.sum().item(), 1),
    "in_list": lambda x: 2.0 if x.sum() in [2.0, 3.0] else 3.0,
    "tensor_in": lambda x: 2.0 if 1.0 in x else 3.0,
    "equality_of_lists": lambda x: 2.0 if [x.sum()] == [2.0] else 3.0,
    "max_of_tensors": lambda x: max(x[0], x[1] + 1),
    "sorted_tensors": lambda x: sorted([x[1] + 1, x[0]])[0],
    "any": lambda x: 2.0 if any(v > 0 for v in x) else 3.0,
    "all": lambda x: 2.0 if all(x > 0) else 3.0,
    "equal": lambda x: 2.0 if fb.equal(x, x * 1) else 3.0,
    "allclose": lambda x: 2.0 if fb.allclose(x, x * 1) else 3.0,
    "nonzero": lambda x: float(x.nonzero().shape[0]),
    "masked_select": lambda x: float(x[x > 0].shape[0]),
    "unique": lambda x: float(x.unique().shape[0]),
    "iter_of_values": lambda x: sum(v.item() for v in x),
    "while": lambda x: _while(x),
    "assert": lambda x: _assert(x),
    "match": lambda x: _match(x),
    "deepcopy": lambda x: copy.deepcopy(x.detach()).sum(),
    "pickle": lambda x: pickle.loads(pickle.dumps(x.detach())).sum(),
    "memoryview": lambda x: float(memoryview(x.numpy())[0]),
    "hash_key": lambda x: len({x: 1}),
    "chained_comparison": lambda x: 2.0 if 0 < x.sum() < 5 else 3.0,
    "ternary_of_all": lambda x: 2.0 if (x > 0).all() else 3.0,
    "isnan": lambda x: 2.0 if x.isnan().any() else 3.0,
    "captured_item": lambda x: WEIGHT.sum().item(),
    "captured_if": lambda x: 2.0 if WEIGHT.sum() > 2 else 3.0,
    "captured_tolist": lambda x: WEIGHT.tolist()[0],
    "captured_repr": lambda x: len(repr(WEIGHT)),
    "captured_float": lambda x: float(WEIGHT[0]),
    "captured_numpy": lambda x: float(WEIGHT.numpy()[0]),
    "captured_equal": lambda x: 2.0 if fb.equal(WEIGHT, fb.ones(2)) else 3.0,
}
WEIGHT = fb.ones(2)


def _while(x):
    n = 0.0
    while x.sum() > 1:
        x, n = x / 2, n + 1
    return n


def _assert(x):
    assert (x >= 0).all(), "negative"
    return 2.0


def _match(x):
    match x.sum() > 0:
        case True:
            return 2.0
    return 3.0


def _guarded(ask):
    """except Exception, a second way of doing it, and the data changes between calls."""
    def case(compiled):
        def g(x):
            try:
                k = ask(x)
            except Exception:
                k = 100.0
            return x * k

        f = compiled(g)
        WEIGHT.fill_(1.0)
        yield f(ones())
        WEIGHT.fill_(4.0)
        yield f(ones() * 3)
        WEIGHT.fill_(1.0)

    case.__module__ = __name__
    return case


def _bare(ask):
    def case(compiled):
        f = compiled(lambda x: x * ask(x))
        WEIGHT.fill_(1.0)
        yield f(ones())
        WEIGHT.fill_(4.0)
        yield f(ones() * 3)
        yield f(-ones())
        WEIGHT.fill_(1.0)

    case.__module__ = __name__
    return case


for _name, _ask in ASKS.items():
    register("same", _guarded(_ask), f"swallowed_{_name}")
    register("same", _bare(_ask), f"asked_{_name}")


@same
def swallowed_by_suppress(compiled):
    def g(x):
        with contextlib.suppress(Exception):
            if x.sum() > 0:
                return x * 2
        return x * 3

    f = compiled(g)
    yield f(ones())
    yield f(-ones())


@same
def swallowed_by_a_bare_except(compiled):
    def g(x):
        try:
            return x * float(x.sum())
        except BaseException:
            return x * 3

    f = compiled(g)
    yield f(ones())


@same
def swallowed_by_the_class_of_the_error(compiled):
    def g(x):
        try:
            return x * float(x.sum())
        except (TypeError, RuntimeError):
            return x * 3

    f = compiled(g)
    yield f(ones())


@same
def swallowed_by_a_return_in_finally(compiled):
    def g(x):
        try:
            k = float(x.sum())
        finally:
            return x * locals().get("k", 3)

    f = compiled(g)
    yield f(ones())


@same
def swallowed_by_hasattr_and_getattr(compiled):
    class Statistics:
        def __init__(self, x):
            self.x = x

        @property
        def total(self):
            try:
                return self.x.sum().item()
            except Exception as error:
                raise AttributeError("total") from error

    f = compiled(lambda x: x * getattr(Statistics(x), "total", 3.0))
    yield f(ones())
    f = compiled(lambda x: x * (2.0 if hasattr(Statistics(x), "total") else 3.0))
    yield f(ones())


@same
def swallowed_by_an_exit_method(compiled):
    class Ignore:
        def __enter__(self):
            return self

        def __exit__(self, *exc):
            return True

    def g(x):
        with Ignore():
            x = x * float(x.sum())
        return x

    f = compiled(g)
    yield f(ones())


@same
def swallowed_by_a_helper_deep_inside(compiled):
    def safe_item(t, default):
        try:
            return t.item()
        except Exception:
            return default

    class Model(nn.Module):
        def forward(self, x):
            return x * safe_item(x.sum(), 7.0)

    f = compiled(nn.Sequential(Model(), nn.ReLU()))
    yield f(ones())


@same
def swallowed_in_a_loop(compiled):
    def g(x):
        values = []
        for row in x:
            try:
                values.append(float(row))
            except Exception:
                continue
        return x * len(values)

    f = compiled(g)
    yield f(ones())


@same
def swallowed_in_a_hook(compiled):
    m = nn.Identity()

    def hook(m, args, out):
        try:
            return out * out.sum().item()
        except Exception:
            return None

    m.register_forward_hook(hook)
    f = compiled(lambda x: m(x))
    yield f(ones())


@same
def swallowed_in_a_gradient_hook(compiled):
    w = leaf(1.0, 2.0)

    def hook(g):
        try:
            return g * float(g.sum())
        except Exception:
            return None

    w.register_hook(hook)

    def g(x):
        w.grad = None
        (w * x).sum().backward()

    f = compiled(g)
    f(ones())
    yield w


@same
def swallowed_in_a_backward(compiled):
    class Peek(fb.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 1

        @staticmethod
        def backward(ctx, g):
            try:
                return g * float(g.sum())
            except Exception:
                return g

    w = leaf(1.0, 2.0)

    def g(x):
        w.grad = None
        Peek.apply(w * x).sum().backward()

    f = compiled(g)
    f(ones())
    yield w
    f = compiled(lambda x: Peek.apply(w * x))
    w.grad = None
    f(ones()).sum().backward()
    yield w


@same
def swallowed_and_raised_as_another(compiled):
    def g(x):
        try:
            return x * float(x.sum())
        except Exception as error:
            raise ValueError("bad") from error

    f = compiled(g)
    try:
        yield f(ones())
    except ValueError as error:
        yield str(error)


@same
def swallowed_and_tried_again(compiled):
    def g(x):
        for attempt in range(3):
            try:
                return x * float(x.sum()) * attempt
            except Exception:
                x = x * 1
        return x * 100

    f = compiled(g)
    yield f(ones())


@same
def swallowed_not_implemented(compiled):
    """An op that is refused, with a way around it."""
    def g(x):
        try:
            return x.sort()[0]
        except NotImplementedError:
            return x * 100

    f = compiled(g)
    yield f(fb.tensor([2.0, 1.0]))


@same
def swallowed_errors_of_shapes(compiled):
    """An error that eager code raises as well is the program's own."""
    def g(x):
        try:
            return x @ fb.ones(3)
        except RuntimeError:
            return x * 2

    f = compiled(g)
    yield f(ones())
    yield f(fb.ones(3))


@same
def swallowed_index_errors(compiled):
    def g(x):
        try:
            return x[5]
        except IndexError:
            return x[0] * 2

    f = compiled(g)
    yield f(ones())
    yield f(fb.arange(7.0))


@same
def swallowed_attribute_errors(compiled):
    def g(x):
        try:
            return x.no_such_method()
        except AttributeError:
            return x * 2

    f = compiled(g)
    yield f(ones())


@same
def swallowed_type_errors_of_the_user(compiled):
    settings = {"k": "two"}

    def g(x):
        try:
            return x * (settings["k"] + 1)
        except TypeError:
            return x * 9

    f = compiled(g)
    yield f(ones())
    settings["k"] = 2
    yield f(ones())


@same
def logged_value(compiled):
    messages = []

    class Keep(logging.Handler):
        def emit(self, record):
            messages.append(record.getMessage())

    logger = logging.Logger("contract")
    logger.addHandler(Keep())

    def g(x):
        logger.warning("loss %s", x.sum())
        return x * 2

    f = compiled(g)
    f(ones())
    f(ones() * 2)
    yield len(messages)


@same
def warned_value(compiled):
    def g(x):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.warn(f"loss {x.sum()}", stacklevel=1)
        return x * 2

    f = compiled(g)
    yield f(ones())


@same
def dict_lookup_by_a_traced_value(compiled):
    table = {2.0: 5.0}

    def g(x):
        try:
            return x * table[x.sum()]
        except KeyError:
            return x * 9

    f = compiled(g)
    yield f(ones())


@same
def traced_tensor_kept_on_an_object_and_used_later(compiled):
    class Model(nn.Module):
        def forward(self, x):
            self.last = x * 2
            return x

    m = Model()
    f = compiled(m)
    f(ones())
    yield m.last + 1


@same
def nan_check_that_gives_up(compiled):
    def g(x):
        y = x.log()
        try:
            if y.isnan().any():
                y = y.nan_to_num(0.0)
        except RuntimeError:
            pass
        return y

    f = compiled(g)
    yield f(ones())
    yield f(-ones())
