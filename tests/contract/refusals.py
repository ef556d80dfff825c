"""What a refused trace leaves behind: nothing. Every effect is tried with every way a trace can end in an error."""
from __future__ import annotations

import array
import collections
import contextlib
import types

import flambeau as fb
from flambeau import nn, optim
from tests.contract.harness import Situation, check, leaf, register


def ones():
    return fb.ones(2)


# -- effects: (make the state, what the function does to it, what is seen) --------------------------------------------


def _module():
    m = nn.Linear(2, 2)
    nn.init.constant_(m.weight, 0.5)
    nn.init.zeros_(m.bias)
    return m


def _model_and_optimizer(make=lambda ps: optim.SGD(ps, lr=0.1, momentum=0.9)):
    m = _module()
    return types.SimpleNamespace(m=m, o=make(m.parameters()))


def _train(s, x):
    s.o.zero_grad()
    s.m(x).sum().backward()
    s.o.step()


def _optimizer_state(s):
    return [list(s.m.parameters()), [{k: v for k, v in g.items() if k != "params"} for g in s.o.param_groups],
            [dict(s.o.state[p]) if p in s.o.state else None for p in s.m.parameters()]]


def _by_hand(s, x):
    s.m(x).sum().backward()
    for p in s.m.parameters():
        p.data = p.data - 0.1 * p.grad


EFFECTS = {
    "list_append": (lambda: [], lambda s, x: s.append(x * 2), lambda s: list(s)),
    "list_item": (lambda: [0, 1], lambda s, x: s.__setitem__(0, x.sum()), lambda s: list(s)),
    "list_pop": (lambda: [1, 2], lambda s, x: s.pop(), lambda s: list(s)),
    "list_of_numbers": (lambda: [1], lambda s, x: s.append(2), lambda s: list(s)),
    "list_cleared_and_filled": (lambda: [1, 2], lambda s, x: (s.clear(), s.append(x)), lambda s: list(s)),
    "list_sorted": (lambda: [3, 1, 2], lambda s, x: s.sort(), lambda s: list(s)),
    "list_in_a_dict": (lambda: {"a": {"b": []}}, lambda s, x: s["a"]["b"].append(x), lambda s: s),
    "dict_item": (lambda: {"a": 1}, lambda s, x: s.update(a=x * 2, b=2), lambda s: dict(s)),
    "dict_pop": (lambda: {"a": 1, "b": 2}, lambda s, x: s.pop("a"), lambda s: dict(s)),
    "dict_order": (lambda: {"a": 1, "b": 2}, lambda s, x: s.update(a=s.pop("a")), lambda s: dict(s)),
    "set_add": (lambda: {1}, lambda s, x: s.add(2), lambda s: sorted(s)),
    "deque_append": (lambda: collections.deque([1], maxlen=2), lambda s, x: (s.append(x), s.append(2)),
                     lambda s: list(s)),
    "defaultdict": (lambda: collections.defaultdict(list), lambda s, x: s["a"].append(x), lambda s: dict(s)),
    "counter": (lambda: collections.Counter(a=1), lambda s, x: s.update("ab"), lambda s: dict(s)),
    "array": (lambda: array.array("i", [1]), lambda s, x: s.append(2), lambda s: list(s)),
    "byte_array": (lambda: bytearray(b"a"), lambda s, x: s.append(2), lambda s: list(s)),
    "attribute": (lambda: types.SimpleNamespace(last=None), lambda s, x: setattr(s, "last", x * 2), lambda s: vars(s)),
    "attribute_made": (lambda: types.SimpleNamespace(), lambda s, x: setattr(s, "last", x * 2), lambda s: vars(s)),
    "attribute_deleted": (lambda: types.SimpleNamespace(a=1), lambda s, x: delattr(s, "a"), lambda s: vars(s)),
    "attribute_deep": (lambda: types.SimpleNamespace(a=types.SimpleNamespace(b=types.SimpleNamespace(c=1))),
                       lambda s, x: setattr(s.a.b, "c", x * 2), lambda s: vars(s.a.b)),
    "attribute_counts": (lambda: types.SimpleNamespace(n=0), lambda s, x: setattr(s, "n", s.n + 1), lambda s: vars(s)),
    "slots": (lambda: _Slotted(), lambda s, x: setattr(s, "k", x * 2), lambda s: s.k),
    "class_attribute": (lambda: type("Made", (), {"k": 1}), lambda s, x: setattr(s, "k", x * 2), lambda s: s.k),
    "function_attribute": (lambda: _with_attribute(), lambda s, x: setattr(s, "last", x * 2), lambda s: vars(s)),
    "module_attribute": (_module, lambda s, x: setattr(s, "last", x * 2), lambda s: getattr(s, "last", None)),
    "module_attribute_overwritten": (lambda: _with(_module(), last=1), lambda s, x: setattr(s, "last", x.sum()),
                                     lambda s: s.last),
    "module_parameter_made": (_module, lambda s, x: setattr(s, "extra", nn.Parameter(fb.ones(2))),
                              lambda s: sorted(n for n, _ in s.named_parameters())),
    "module_parameter_replaced": (_module, lambda s, x: setattr(s, "weight", nn.Parameter(fb.ones(2, 2))),
                                  lambda s: list(s.parameters())),
    "module_parameter_of_a_traced_value": (_module,
                                           lambda s, x: setattr(s, "weight", nn.Parameter(s.weight.detach() * 2)),
                                           lambda s: list(s.parameters())),
    "module_buffer_made": (_module, lambda s, x: s.register_buffer("seen", x * 2), lambda s: s.state_dict()),
    "module_buffer_rebound": (lambda: _with_buffer(), lambda s, x: setattr(s, "k", s.k + x), lambda s: s.state_dict()),
    "module_buffer_written": (lambda: _with_buffer(), lambda s, x: s.k.add_(x), lambda s: s.state_dict()),
    "module_submodule_added": (_module, lambda s, x: setattr(s, "more", nn.ReLU()),
                               lambda s: [n for n, _ in s.named_children()]),
    "module_submodule_deleted": (lambda: nn.Sequential(nn.ReLU(), nn.Tanh()), lambda s, x: s.__delitem__(0), len),
    "module_mode": (lambda: nn.Sequential(nn.Dropout(0.5)), lambda s, x: s.eval(),
                    lambda s: [s.training, s[0].training]),
    "module_frozen": (_module, lambda s, x: s.requires_grad_(False), lambda s: [p.requires_grad for p in s.parameters()]),
    "module_converted": (_module, lambda s, x: s.double(), lambda s: list(s.parameters())),
    "module_hook_added": (_module, lambda s, x: s.register_forward_hook(lambda m, a, o: o * 2),
                          lambda s: len(s._forward_hooks)),
    "module_initialized": (_module, lambda s, x: nn.init.constant_(s.weight, 3.0), lambda s: list(s.parameters())),
    "module_loaded": (_module, lambda s, x: s.load_state_dict({k: v * 2 for k, v in s.state_dict().items()}),
                      lambda s: list(s.parameters())),
    "tensor_written": (lambda: fb.arange(2.0), lambda s, x: s.add_(x), lambda s: s),
    "tensor_item_written": (lambda: fb.arange(2.0), lambda s, x: s.__setitem__(0, x[0] * 5), lambda s: s),
    "tensor_view_written": (lambda: fb.arange(4.0), lambda s, x: s[1:3].mul_(x + 1), lambda s: s),
    "tensor_data": (lambda: leaf(1.0, 2.0), lambda s, x: setattr(s, "data", s.data * 2 - x), lambda s: s),
    "tensor_grad_assigned": (lambda: leaf(1.0, 2.0), lambda s, x: setattr(s, "grad", x * 2), lambda s: s),
    "tensor_grad_cleared": (lambda: _with_grad(), lambda s, x: setattr(s, "grad", None), lambda s: s),
    "tensor_grad_accumulated": (lambda: _with_grad(), lambda s, x: (s * x).sum().backward(), lambda s: s),
    "tensor_grad_made": (lambda: leaf(1.0, 2.0), lambda s, x: (s * x).sum().backward(), lambda s: s),
    "tensor_grad_written": (lambda: _with_grad(), lambda s, x: s.grad.mul_(3), lambda s: s),
    "tensor_attribute": (lambda: fb.ones(2), lambda s, x: setattr(s, "mark", x * 2), lambda s: getattr(s, "mark", None)),
    "tensor_requires_grad": (lambda: fb.ones(2), lambda s, x: s.requires_grad_(), lambda s: s),
    "tensor_hook": (lambda: leaf(1.0, 2.0), lambda s, x: s.register_hook(lambda g: g * 3), lambda s: _gradient(s)),
    "optimizer_step": (_model_and_optimizer, _train, _optimizer_state),
    "optimizer_adam": (lambda: _model_and_optimizer(lambda ps: optim.Adam(ps, lr=0.1)), _train, _optimizer_state),
    "optimizer_rate": (_model_and_optimizer, lambda s, x: s.o.param_groups[0].update(lr=0.5), _optimizer_state),
    "optimizer_rate_tensor": (_model_and_optimizer, lambda s, x: s.o.param_groups[0].update(lr=x.sum()),
                              _optimizer_state),
    "optimizer_group_added": (_model_and_optimizer, lambda s, x: s.o.add_param_group({"params": [leaf(1.0)]}),
                              lambda s: len(s.o.param_groups)),
    "optimizer_groups_emptied": (_model_and_optimizer, lambda s, x: s.o.param_groups.clear(),
                                 lambda s: len(s.o.param_groups)),
    "optimizer_state_entry": (_model_and_optimizer, lambda s, x: s.o.state[s.m.bias].update(m=x * 2), _optimizer_state),
    "optimizer_zero_grad": (lambda: _trained(), lambda s, x: s.o.zero_grad(), _optimizer_state),
    "scheduler_step": (lambda: _with_scheduler(), lambda s, x: s.scheduler.step(),
                       lambda s: [s.o.param_groups[0]["lr"], s.scheduler.last_epoch, s.scheduler.get_last_lr()]),
    "training_by_hand": (_model_and_optimizer, _by_hand, lambda s: list(s.m.parameters())),
    "random_draw": (lambda: fb.Generator().manual_seed(1), lambda s, x: fb.rand(2, generator=s),
                    lambda s: s.get_state()),
    "default_random_draw": (lambda: fb.default_generator if hasattr(fb, "default_generator") else fb.Generator(),
                            lambda s, x: fb.rand(2), lambda s: s.get_state()),
    "random_seed": (lambda: fb.Generator().manual_seed(1), lambda s, x: s.manual_seed(5), lambda s: s.get_state()),
    "grad_mode": (lambda: None, lambda s, x: fb.set_grad_enabled(False), lambda s: _grad_mode()),
    "default_dtype": (lambda: None, lambda s, x: fb.set_default_dtype(fb.float64), lambda s: _default_dtype()),
    "nested_lists_and_objects": (lambda: types.SimpleNamespace(a=[types.SimpleNamespace(b={"c": [1]})]),
                                 lambda s, x: s.a[0].b["c"].append(x), lambda s: s.a[0].b),
    "large_dict": (lambda: dict.fromkeys(range(1200), 0), lambda s, x: s.update({1100: x}), lambda s: s[1100]),
    "large_list": (lambda: [0] * 1200, lambda s, x: s.append(x), lambda s: len(s)),
    "two_states_at_once": (lambda: ([], {}), lambda s, x: (s[0].append(x), s[1].update(a=x)), lambda s: list(s)),
    "running_statistics": (lambda: nn.BatchNorm1d(2), lambda s, x: s(fb.arange(4.0).view(2, 2)),
                           lambda s: s.state_dict()),
    "memo": (lambda: _Memo(), lambda s, x: s(x), lambda s: len(s.known)),
}


class _Slotted:
    __slots__ = ("k",)

    def __init__(self):
        self.k = 1


class _Memo:
    """A cache by shape, of something computed from a traced tensor."""

    def __init__(self):
        self.known = {}

    def __call__(self, x):
        if x.shape not in self.known:
            self.known[x.shape] = x * 2
        return self.known[x.shape]


def _with(thing, **attributes):
    for name, value in attributes.items():
        setattr(thing, name, value)
    return thing


def _with_attribute():
    def function():
        pass

    function.last = None
    return function


def _with_buffer():
    m = nn.Identity()
    m.register_buffer("k", fb.ones(2))
    return m


def _with_grad():
    w = leaf(1.0, 2.0)
    w.grad = fb.tensor([5.0, 6.0])
    return w


def _gradient(w):
    w.grad = None
    (w * 1).sum().backward()
    found, w.grad = w.grad, None
    return found


def _trained():
    s = _model_and_optimizer()
    _train(s, fb.ones(1, 2))
    s.m(fb.ones(1, 2)).sum().backward()
    return s


def _with_scheduler():
    s = _model_and_optimizer()
    s.scheduler = optim.lr_scheduler.StepLR(s.o, 1, 0.5)
    return s


def _grad_mode():
    found = fb.is_grad_enabled()
    fb.set_grad_enabled(True)
    return found


def _default_dtype():
    found = fb.get_default_dtype()
    fb.set_default_dtype(fb.float32)
    return found


# -- ways to end ------------------------------------------------------------------------------------------------------


def _asks_for_a_value(x):
    if x.sum() > 0:
        return x
    return -x


def _raises(x):
    raise ValueError("the user's own")


def _fails_in_an_op(x):
    return x @ fb.ones(7, 7)


def _asks_for_an_item(x):
    return x.sum().item()


def _names_what_is_missing(x):
    return x * not_defined_anywhere  # noqa: F821


ENDS = {"value_asked": _asks_for_a_value, "users_error": _raises, "error_in_an_op": _fails_in_an_op,
        "item_asked": _asks_for_an_item, "name_error": _names_what_is_missing, "no_error": lambda x: x + 1}


def _intact(make, change, see, end):
    """Run eagerly, the end of the trace is left out: what an eager call does before it is not the question here."""
    def case():
        state = make()

        def g(x):
            change(state, x)
            return end(x)

        return Situation(g, (ones(),), lambda: see(state))

    case.__module__ = __name__
    return case


for _effect, _parts in EFFECTS.items():
    for _end, _function in ENDS.items():
        if _end in ("value_asked", "users_error", "no_error") or _effect in (
                "list_append", "dict_item", "attribute", "module_attribute", "tensor_written", "tensor_data",
                "optimizer_step", "module_parameter_made", "optimizer_rate_tensor", "tensor_grad_accumulated"):
            register("intact", _intact(*_parts, _function), f"{_effect}_then_{_end}")


# -- what must still work afterwards ----------------------------------------------------------------------------------


@check
def eager_code_works_after_a_refusal():
    w = leaf(1.0, 2.0)

    def g(x):
        if (w * x).sum() > 0:
            return x
        return -x

    with contextlib.suppress(fb.errors.FlambeauError):
        fb.compile(g)(ones())
    y = (w * 3).sum()
    y.backward()
    assert w.grad.tolist() == [3.0, 3.0]
    assert g(ones()).tolist() == [1.0, 1.0]


@check
def another_function_compiles_after_a_refusal():
    def g(x):
        raise ValueError

    with contextlib.suppress(ValueError):
        fb.compile(g)(ones())
    assert fb.compile(lambda x: x * 2)(ones()).tolist() == [2.0, 2.0]


@check
def the_same_function_compiles_once_it_can():
    settings = {"bad": True}

    @fb.compile
    def f(x):
        return x * float(x.sum()) if settings["bad"] else x * 2

    for _ in range(2):
        with contextlib.suppress(fb.errors.FlambeauError):
            f(ones())
    settings["bad"] = False
    assert f(ones()).tolist() == [2.0, 2.0]
    settings["bad"] = True
    try:
        f(ones())
    except fb.errors.FlambeauError:
        pass
    else:
        raise AssertionError("not refused again")
    settings["bad"] = False
    assert f(ones()).tolist() == [2.0, 2.0]


@check
def a_refused_signature_leaves_the_others():
    @fb.compile
    def f(x, n):
        return x * float(x.sum()) if n > 5 else x * n

    assert f(ones(), 2).tolist() == [2.0, 2.0]
    with contextlib.suppress(fb.errors.FlambeauError):
        f(ones(), 7)
    assert f(ones(), 2).tolist() == [2.0, 2.0]
    assert f(ones(), 3).tolist() == [3.0, 3.0]


@check
def a_refusal_says_the_line():
    def g(x):
        return x * float(x.sum())

    try:
        fb.compile(g)(ones())
    except fb.errors.TraceError as error:
        assert "float(x.sum())" in str(error), error
    else:
        raise AssertionError("not refused")


@check
def a_refusal_deep_in_a_module_leaves_training_possible():
    class Peeking(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(2, 2)
            self.peek = True

        def forward(self, x):
            h = self.fc(x)
            self.last = h
            if self.peek and h.sum() > 1e9:
                return h * 2
            return h

    fb.manual_seed(0)
    m = Peeking()
    o = optim.Adam(m.parameters(), lr=0.1)

    def step(x):
        o.zero_grad()
        loss = m(x).pow(2).sum()
        loss.backward()
        o.step()
        return loss.detach()

    f = fb.compile(step)
    with contextlib.suppress(fb.errors.FlambeauError):
        f(fb.ones(1, 2))
    first = step(fb.ones(1, 2)).item()
    second = step(fb.ones(1, 2)).item()
    assert second < first, (first, second)
    assert all(p.grad is not None for p in m.parameters())


@check
def a_refusal_in_a_nested_compiled_function():
    inner = fb.compile(lambda x: x * float(x.sum()))
    outer = fb.compile(lambda x: inner(x) + 1)
    for _ in range(2):
        try:
            outer(ones())
        except fb.errors.FlambeauError:
            pass
        else:
            raise AssertionError("not refused")
    assert fb.compile(lambda x: x + 1)(ones()).tolist() == [2.0, 2.0]


@check
def a_keyboard_interrupt_while_tracing():
    log = []

    def g(x):
        log.append(x * 2)
        raise KeyboardInterrupt

    try:
        fb.compile(g)(ones())
    except KeyboardInterrupt:
        pass
    assert log == [], log
    assert (fb.ones(2) + 1).tolist() == [2.0, 2.0]
