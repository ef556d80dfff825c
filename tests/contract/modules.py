"""Modules: modes, submodules, parameters and buffers edited between calls, at any depth; forward methods that do things."""
from __future__ import annotations

import copy
import functools
import math
import pickle
import types

import flambeau as fb
import flambeau.nn.functional as F
from flambeau import nn
from tests.contract.harness import exact, register, same


def row():
    return fb.ones(1, 2)


class Wrapper(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x)


def wrapped(inner, levels):
    for _ in range(levels):
        inner = Wrapper(inner)
    return inner


class Scale(nn.Module):
    def __init__(self, k=2.0):
        super().__init__()
        self.k = k

    def forward(self, x):
        return x * self.k


# -- modes and attributes, at depth -----------------------------------------------------------------------------------


def _mode_at_depth(levels):
    def case(compiled):
        dropout = nn.Dropout(0.5)
        m = wrapped(dropout, levels)
        f = compiled(m)
        yield f(fb.ones(8))
        m.eval()
        yield f(fb.ones(8))
        dropout.train()
        yield f(fb.ones(8))

    return case


def _attribute_at_depth(levels):
    def case(compiled):
        scale = Scale()
        f = compiled(wrapped(scale, levels))
        yield f(row())
        scale.k = 3.0
        yield f(row())

    return case


def _layer_swapped_at_depth(levels):
    def case(compiled):
        holder = nn.Sequential(nn.ReLU())
        f = compiled(wrapped(holder, levels))
        yield f(row())
        holder[0] = nn.Tanh()
        yield f(row())
        holder[0] = Scale(5.0)
        yield f(row())

    return case


def _settings_at_depth(levels):
    def case(compiled):
        class Configured(nn.Module):
            def __init__(self, settings):
                super().__init__()
                self.settings = settings

            def forward(self, x):
                return x * self.settings["k"][0]

        settings = {"k": [2.0]}
        f = compiled(wrapped(Configured(settings), levels))
        yield f(row())
        settings["k"][0] = 3.0
        yield f(row())

    return case


def _buffer_replaced_at_depth(levels):
    def case(compiled):
        class Buffered(nn.Module):
            def __init__(self):
                super().__init__()
                self.register_buffer("k", fb.tensor(2.0))

            def forward(self, x):
                return x * self.k

        buffered = Buffered()
        f = compiled(wrapped(buffered, levels))
        yield f(row())
        buffered.k = fb.tensor(3.0)
        yield f(row())
        buffered.k.fill_(4.0)
        yield f(row())

    return case


for _levels in (0, 1, 10, 23, 24, 25, 60):
    for _name, _make in (("mode", _mode_at_depth), ("attribute", _attribute_at_depth),
                         ("layer_swapped", _layer_swapped_at_depth), ("settings", _settings_at_depth),
                         ("buffer_replaced", _buffer_replaced_at_depth)):
        _case = _make(_levels)
        _case.__module__ = __name__
        register("same", _case, f"{_name}_{_levels}_levels_down")


def _beside(many):
    """An object that holds much, and the network that matters."""
    def case(compiled):
        class Model:
            def __init__(self):
                self.vocabulary = many()
                self.scale = 2.0
                self.net = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))

            def __call__(self, x):
                return self.net(x) * self.scale

        model = Model()
        f = compiled(lambda x: model(x))
        yield f(row())
        model.net.eval()
        yield f(row())
        model.scale = 5.0
        yield f(row())
        model.net[0] = nn.Linear(2, 2)
        yield f(row())
        with fb.no_grad():
            model.net[0].weight.fill_(1.0)
        yield f(row())

    case.__module__ = __name__
    return case


for _name, _many in (
    ("a_vocabulary", lambda: {f"word{n}": n for n in range(1200)}),
    ("a_long_list", lambda: list(range(1500))),
    ("a_list_of_lists", lambda: [[n, [n]] for n in range(800)]),
    ("many_objects", lambda: [types.SimpleNamespace(n=n, k={"n": n}) for n in range(600)]),
    ("many_tensors", lambda: [fb.zeros(1) for _ in range(1100)]),
    ("a_set_of_words", lambda: {f"word{n}" for n in range(1200)}),
):
    register("same", _beside(_many), f"network_beside_{_name}")


@same
def vocabulary_inside_the_module(compiled):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.vocabulary = {f"word{n}": n for n in range(1200)}
            self.net = nn.Dropout(0.5)
            self.scale = 2.0

        def forward(self, x):
            return self.net(x) * self.scale * self.vocabulary["word7"]

    m = Model()
    f = compiled(m)
    yield f(row())
    m.eval()
    yield f(row())
    m.scale = 3.0
    yield f(row())
    m.vocabulary["word7"] = 1
    yield f(row())
    m.vocabulary["word1100"] = 1
    yield f(row())


@same
def two_hundred_layers(compiled):
    m = nn.Sequential(*[Scale(1.0) for _ in range(200)])
    f = compiled(m)
    yield f(row())
    m[199].k = 3.0
    yield f(row())
    m[150] = nn.Tanh()
    yield f(row())


@same
def wide_tree(compiled):
    m = nn.ModuleList([nn.ModuleList([Scale(1.0) for _ in range(20)]) for _ in range(60)])

    def g(x):
        for inner in m:
            x = inner[19](x)
        return x

    f = compiled(g)
    yield f(row())
    m[59][19].k = 3.0
    yield f(row())


# -- the tree edited --------------------------------------------------------------------------------------------------


@exact
def eval_and_train(compiled):
    m = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5), nn.BatchNorm1d(2))
    f = compiled(m)
    for mode in (True, False, True, False):
        m.train(mode)
        yield f(fb.arange(8.0).view(4, 2))
        yield m[2].running_mean


@same
def dropout_probability_changes(compiled):
    m = nn.Dropout(0.5)
    f = compiled(m)
    for p in (0.5, 0.0, 0.9, 1.0, 0.5):
        m.p = p
        yield f(fb.ones(8))


@same
def layer_replaced_by_attribute(compiled):
    m = wrapped(nn.ReLU(), 1)
    f = compiled(m)
    yield f(-row())
    m.inner = nn.Tanh()
    yield f(-row())
    m.inner = nn.Identity()
    yield f(-row())


@same
def sequential_edited(compiled):
    m = nn.Sequential(Scale(2.0), Scale(3.0))
    f = compiled(m)
    yield f(row())
    m.append(Scale(5.0))
    yield f(row())
    del m[0]
    yield f(row())
    m.insert(0, Scale(7.0)) if hasattr(m, "insert") else m.append(Scale(7.0))
    yield f(row())
    m[0] = nn.Identity()
    yield f(row())


@same
def module_list_edited(compiled):
    layers = nn.ModuleList([Scale(2.0)])

    def g(x):
        for layer in layers:
            x = layer(x)
        return x * len(layers)

    f = compiled(g)
    yield f(row())
    layers.append(Scale(3.0))
    yield f(row())
    layers[0] = Scale(10.0)
    yield f(row())
    layers.extend([Scale(2.0)])
    yield f(row())


@same
def module_dict_edited(compiled):
    heads = nn.ModuleDict({"a": Scale(2.0), "b": Scale(3.0)})
    choice = ["a"]
    f = compiled(lambda x: heads[choice[0]](x) * len(heads))
    yield f(row())
    choice[0] = "b"
    yield f(row())
    heads["b"] = Scale(7.0)
    yield f(row())
    heads.pop("a")
    yield f(row())


@same
def parameter_list_edited(compiled):
    ps = nn.ParameterList([nn.Parameter(fb.ones(2))])
    f = compiled(lambda x: sum([x * p for p in ps]))
    yield f(row())
    ps.append(nn.Parameter(fb.ones(2) * 3))
    yield f(row())
    ps[0] = nn.Parameter(fb.ones(2) * 5)
    yield f(row())


@same
def modules_in_a_plain_list(compiled):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = [nn.Linear(2, 2), nn.Dropout(0.5)]

        def forward(self, x):
            for layer in self.layers:
                x = layer(x)
            return x

    m = Model()
    f = compiled(m)
    yield f(row())
    m.eval()
    yield f(row())
    m.layers[1].eval()
    yield f(row())
    m.layers.append(Scale(3.0))
    yield f(row())


@same
def modules_in_a_dict_of_tuples(compiled):
    layers = {"a": (nn.Dropout(0.5), {"b": [Scale(2.0)]})}
    f = compiled(lambda x: layers["a"][1]["b"][0](layers["a"][0](x)))
    yield f(fb.ones(4))
    layers["a"][0].eval()
    yield f(fb.ones(4))
    layers["a"][1]["b"][0].k = 3.0
    yield f(fb.ones(4))


@same
def module_in_a_namespace_in_a_module(compiled):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.parts = types.SimpleNamespace(body=types.SimpleNamespace(net=nn.Dropout(0.5)))

        def forward(self, x):
            return self.parts.body.net(x)

    m = Model()
    f = compiled(m)
    yield f(fb.ones(4))
    m.parts.body.net.eval()
    yield f(fb.ones(4))
    m.parts.body.net = Scale(2.0)
    yield f(fb.ones(4))


@same
def parameter_replaced(compiled):
    m = nn.Linear(2, 2)
    f = compiled(m)
    yield f(row())
    m.weight = nn.Parameter(fb.ones(2, 2))
    yield f(row())
    m.bias = None
    yield f(row())
    m.weight = nn.Parameter(fb.ones(3, 2))
    yield f(row())


@same
def parameter_data_replaced(compiled):
    m = nn.Linear(2, 2)
    f = compiled(m)
    yield f(row())
    m.weight.data = fb.ones(2, 2)
    yield f(row())
    m.weight.data.mul_(2)
    yield f(row())
    m.weight.data = fb.ones(2, 2).t()
    yield f(row())
    m.weight.data = fb.arange(8.0).view(4, 2)[::2]
    yield f(row())


@same
def parameter_deleted_and_registered_again(compiled):
    m = nn.Linear(2, 2)
    f = compiled(m)
    yield f(row())
    weight = m.weight
    del m.weight
    m.register_buffer("weight", weight.detach() * 2)
    yield f(row())


@same
def buffers_registered_again(compiled):
    class Buffered(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("k", fb.tensor(2.0))

        def forward(self, x):
            return x if self.k is None else x * self.k

    m = Buffered()
    f = compiled(m)
    yield f(row())
    m.register_buffer("k", fb.tensor(3.0))
    yield f(row())
    m.k = None
    yield f(row())
    m._buffers["k"] = fb.tensor(5.0)
    yield f(row())


@same
def registries_edited_directly(compiled):
    m = nn.Sequential(Scale(2.0), Scale(3.0))
    f = compiled(m)
    yield f(row())
    m._modules["1"] = Scale(7.0)
    yield f(row())
    m._modules.pop("0")
    yield f(row())
    m._modules |= {"2": Scale(11.0)}
    yield f(row())
    m._modules.setdefault("3", Scale(13.0))
    yield f(row())


@same
def attributes_set_behind_the_back(compiled):
    m = Scale(2.0)
    f = compiled(m)
    yield f(row())
    m.__dict__["k"] = 3.0
    yield f(row())
    object.__setattr__(m, "k", 4.0)
    yield f(row())
    vars(m).update(k=5.0)
    yield f(row())


@same
def training_set_behind_the_back(compiled):
    m = nn.Dropout(0.5)
    f = compiled(m)
    yield f(fb.ones(4))
    m.__dict__["training"] = False
    yield f(fb.ones(4))
    m.training = True
    yield f(fb.ones(4))


@same
def weights_tied_and_untied(compiled):
    a, b = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
    f = compiled(lambda x: b(a(x)))
    yield f(row())
    b.weight = a.weight
    yield f(row())
    with fb.no_grad():
        a.weight.fill_(1.0)
    yield f(row())
    b.weight = nn.Parameter(fb.ones(2, 2) * 3)
    yield f(row())


@same
def state_dict_loaded(compiled):
    a, b = nn.Linear(2, 2), nn.Linear(2, 2)
    f = compiled(a)
    yield f(row())
    a.load_state_dict(b.state_dict())
    yield f(row())
    a.load_state_dict({k: v * 2 for k, v in b.state_dict().items()})
    yield f(row())


@same
def converted_to_double_and_half(compiled):
    m = nn.Linear(2, 2)
    f = compiled(m)
    yield f(row())
    m.double()
    yield f(row().double())
    m.half()
    yield f(row().half())
    m.float()
    yield f(row())


@same
def requires_grad_switched(compiled):
    m = nn.Linear(2, 2)
    f = compiled(m)
    yield f(row())
    m.requires_grad_(False)
    yield f(row())
    m.bias.requires_grad_(True)
    yield f(row())


@same
def apply_initialization_between_calls(compiled):
    m = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    f = compiled(m)
    yield f(row())

    def ones(module):
        if isinstance(module, nn.Linear):
            nn.init.constant_(module.weight, 1.0)
            nn.init.zeros_(module.bias)

    m.apply(ones)
    yield f(row())


@same
def forward_replaced_on_the_instance(compiled):
    m = Scale(2.0)
    f = compiled(lambda x: m(x))
    yield f(row())
    m.forward = lambda x: x * 10
    yield f(row())
    m.forward = functools.partial(Scale.forward, m)
    yield f(row())


@same
def forward_of_a_compiled_module_replaced(compiled):
    m = Scale(2.0)
    f = compiled(m)
    yield f(row())
    m.forward = lambda x: x * 10
    yield f(row())


@same
def forward_replaced_on_the_class(compiled):
    class Mine(nn.Module):
        def forward(self, x):
            return x * 2

    m = Mine()
    f = compiled(lambda x: m(x))
    yield f(row())
    Mine.forward = lambda self, x: x * 3
    yield f(row())


@same
def forward_replaced_on_a_framework_class(compiled):
    plain = nn.ReLU.forward
    m = nn.ReLU()
    f = compiled(lambda x: m(x))
    yield f(-row())
    nn.ReLU.forward = lambda self, x: x * 3
    try:
        yield f(-row())
    finally:
        nn.ReLU.forward = plain
    yield f(-row())


@same
def class_of_a_module_replaced(compiled):
    class Triple(Scale):
        def forward(self, x):
            return x * self.k * 3

    m = Scale(2.0)
    f = compiled(m)
    yield f(row())
    m.__class__ = Triple
    yield f(row())


@same
def class_attribute_of_a_module(compiled):
    class Mine(nn.Module):
        k = 2.0
        table = {"n": [1.0]}

        def forward(self, x):
            return x * self.k * self.table["n"][0]

    m = Mine()
    f = compiled(m)
    yield f(row())
    Mine.k = 3.0
    yield f(row())
    Mine.table["n"][0] = 5.0
    yield f(row())
    m.k = 7.0
    yield f(row())


@same
def functional_replaced(compiled):
    """A function of a module of functions, monkeypatched."""
    plain = F.relu
    f = compiled(lambda x: F.relu(x))
    yield f(-row())
    F.relu = lambda x: x * 3
    try:
        yield f(-row())
    finally:
        F.relu = plain
    yield f(-row())


@same
def function_of_the_package_replaced(compiled):
    plain = fb.sin
    f = compiled(lambda x: fb.sin(x))
    yield f(row())
    fb.sin = lambda x: x * 3
    try:
        yield f(row())
    finally:
        fb.sin = plain
    yield f(row())


@same
def activation_function_attribute(compiled):
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.activation = F.relu
            self.fc = nn.Linear(2, 2)

        def forward(self, x):
            return self.activation(self.fc(x))

    m = Block()
    f = compiled(m)
    yield f(row())
    m.activation = F.gelu
    yield f(row())
    m.activation = lambda x: x * 10
    yield f(row())


@same
def activation_by_name(compiled):
    class Block(nn.Module):
        table = {"relu": F.relu, "tanh": fb.tanh}

        def __init__(self):
            super().__init__()
            self.activation = "relu"

        def forward(self, x):
            return self.table[self.activation](x)

    m = Block()
    f = compiled(m)
    yield f(-row())
    m.activation = "tanh"
    yield f(-row())
    Block.table["tanh"] = fb.sigmoid
    yield f(-row())


@same
def settings_object_of_the_model(compiled):
    class Config:
        def __init__(self):
            self.scale = 2.0
            self.attention = types.SimpleNamespace(heads=types.SimpleNamespace(temperature=1.0))

    class Block(nn.Module):
        def __init__(self, config):
            super().__init__()
            self.config = config

        def forward(self, x):
            return x * self.config.scale / self.config.attention.heads.temperature

    config = Config()
    f = compiled(nn.Sequential(Block(config), Block(config)))
    yield f(row())
    config.scale = 3.0
    yield f(row())
    config.attention.heads.temperature = 4.0
    yield f(row())


@same
def property_of_a_module(compiled):
    k = 2.0

    class Block(nn.Module):
        @property
        def scale(self):
            return k

        def forward(self, x):
            return x * self.scale

    f = compiled(Block())
    yield f(row())
    k = 3.0
    yield f(row())


@same
def super_forward(compiled):
    class Base(nn.Module):
        def forward(self, x):
            return x * 2

    class Child(Base):
        def forward(self, x):
            return super().forward(x) + 1

    m = Child()
    f = compiled(m)
    yield f(row())
    Base.forward = lambda self, x: x * 3
    yield f(row())


@same
def module_getattr_of_the_users(compiled):
    class Proxy(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def __getattr__(self, name):
            try:
                return super().__getattr__(name)
            except AttributeError:
                return getattr(super().__getattr__("inner"), name)

        def forward(self, x):
            return self.inner(x) * self.k

    m = Proxy(Scale(2.0))
    f = compiled(m)
    yield f(row())
    m.inner.k = 3.0
    yield f(row())


@same
def modules_counted_inside(compiled):
    m = nn.Sequential(nn.ReLU(), nn.ReLU())
    f = compiled(lambda x: x * sum(1 for _ in m.modules()) * len(list(m.parameters())) + len(m.state_dict()))
    yield f(row())
    m.append(nn.Linear(2, 2))
    yield f(row())


@same
def named_parameters_decide(compiled):
    m = nn.Linear(2, 2)
    f = compiled(lambda x: sum([p.sum() * len(n) for n, p in m.named_parameters() if p.requires_grad], x))
    yield f(row())
    m.bias.requires_grad_(False)
    yield f(row())
    m.register_parameter("extra", nn.Parameter(fb.ones(1)))
    yield f(row())


@same
def lazy_parameter(compiled):
    class Lazy(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = None

        def forward(self, x):
            if self.weight is None:
                self.weight = nn.Parameter(fb.ones(x.shape[-1]))
            return x * self.weight

    m = Lazy()
    f = compiled(m)
    yield f(row())
    yield f(row() * 2)
    yield list(m.parameters())


@same
def lazy_buffer(compiled):
    class Lazy(nn.Module):
        def forward(self, x):
            if not hasattr(self, "positions"):
                self.register_buffer("positions", fb.arange(x.shape[-1]).float())
            return x + self.positions

    m = Lazy()
    f = compiled(m)
    yield f(row())
    yield f(row() * 2)
    yield len(list(m.buffers()))


@same
def lazy_mask_of_the_sequence(compiled):
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.mask = None

        def forward(self, x):
            n = x.shape[0]
            if self.mask is None or self.mask.shape[0] != n:
                self.mask = fb.ones(n, n).tril()
            return self.mask @ x

    m = Masked()
    f = compiled(m)
    for n in (2, 3, 2):
        yield f(fb.ones(n, 1))
        yield f(fb.ones(n, 1))


@same
def moving_average_as_attribute(compiled):
    class Average(nn.Module):
        def __init__(self):
            super().__init__()
            self.ema = fb.zeros(2)

        def forward(self, x):
            self.ema = self.ema * 0.5 + x.detach().mean(0) * 0.5
            return x - self.ema

    m = Average()
    f = compiled(m)
    for n in range(3):
        yield f(row() * n)
        yield m.ema


@same
def moving_average_as_registered_buffer_rebound(compiled):
    class Average(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("ema", fb.zeros(2))

        def forward(self, x):
            self.ema = self.ema * 0.5 + x.detach().mean(0) * 0.5
            return x - self.ema

    m = Average()
    f = compiled(m)
    for n in range(3):
        yield f(row() * n)
        yield m.ema


@same
def hidden_state_as_attribute(compiled):
    class Cell(nn.Module):
        def __init__(self):
            super().__init__()
            self.h = None

        def forward(self, x):
            self.h = x if self.h is None else self.h * 0.5 + x
            return self.h

    m = Cell()
    f = compiled(m)
    for n in range(3):
        yield f(row() * n)
    yield m.h
    m.h = None
    yield f(row())


@same
def counter_in_forward(compiled):
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.calls = 0

        def forward(self, x):
            self.calls += 1
            return x * self.calls

    m = Counting()
    f = compiled(m)
    for _ in range(3):
        yield f(row())
    yield m.calls


@same
def counter_in_a_deep_forward(compiled):
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.stats = {"calls": {"n": 0}}

        def forward(self, x):
            self.stats["calls"]["n"] += 1
            return x

    m = Counting()
    f = compiled(wrapped(m, 30))
    f(row())
    f(row())
    yield m.stats["calls"]["n"]


@same
def buffer_counter_in_place(compiled):
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("calls", fb.zeros((), dtype=fb.int64))

        def forward(self, x):
            self.calls += 1
            return x * self.calls

    m = Counting()
    f = compiled(m)
    for _ in range(3):
        yield f(row())
    yield m.calls


@same
def train_called_inside(compiled):
    m = nn.Dropout(0.5)

    def g(x):
        m.eval()
        y = m(x)
        m.train()
        return y

    f = compiled(g)
    yield f(fb.ones(4))
    yield m.training
    m.eval()
    yield f(fb.ones(4))
    yield m.training


@same
def train_left_changed_inside(compiled):
    m = nn.Dropout(0.5)

    def g(x):
        m.eval()
        return m(x)

    f = compiled(g)
    yield f(fb.ones(4))
    yield m.training
    m.train()
    yield f(fb.ones(4))
    yield m.training


@same
def modules_override_train(compiled):
    class Frozen(nn.Module):
        def __init__(self):
            super().__init__()
            self.dropout = nn.Dropout(0.5)

        def train(self, mode=True):
            super().train(False)
            return self

        def forward(self, x):
            return self.dropout(x)

    m = nn.Sequential(Frozen())
    f = compiled(m)
    yield f(fb.ones(4))
    m.train()
    yield f(fb.ones(4))
    m[0].dropout.train()
    yield f(fb.ones(4))


@same
def module_made_inside(compiled):
    def g(x):
        m = nn.Linear(2, 2)
        nn.init.constant_(m.weight, 0.5)
        nn.init.zeros_(m.bias)
        return m(x)

    f = compiled(g)
    yield f(row())
    yield f(row() * 2)


@same
def module_made_inside_with_random_weights(compiled):
    def g(x):
        return nn.Linear(2, 2)(x)

    f = compiled(g)
    yield f(row())
    yield f(row())


@same
def loss_module_settings(compiled):
    loss = nn.CrossEntropyLoss(reduction="sum")
    f = compiled(lambda x, y: loss(x, y))
    x, y = fb.arange(6.0).view(2, 3), fb.tensor([0, 2])
    yield f(x, y)
    loss.reduction = "mean"
    yield f(x, y)
    loss.label_smoothing = 0.5
    yield f(x, y)
    loss.weight = fb.tensor([1.0, 2.0, 3.0])
    yield f(x, y)
    loss.ignore_index = 2
    yield f(x, y)


@same
def layer_settings(compiled):
    norm, pool = nn.LayerNorm(2), nn.AvgPool2d(2)
    f = compiled(lambda x, image: (norm(x), pool(image)))
    x, image = fb.arange(2.0), fb.arange(16.0).view(1, 1, 4, 4)
    yield f(x, image)
    norm.eps = 1.0
    yield f(x, image)
    pool.kernel_size = 4
    pool.stride = 4
    yield f(x, image)


@same
def convolution_settings(compiled):
    m = nn.Conv2d(1, 1, 3, padding=1)
    f = compiled(m)
    x = fb.arange(25.0).view(1, 1, 5, 5)
    yield f(x)
    m.stride = (2, 2)
    yield f(x)
    m.padding = (0, 0)
    yield f(x)


@same
def batch_norm_settings(compiled):
    m = nn.BatchNorm1d(2)
    f = compiled(m)
    x = fb.arange(8.0).view(4, 2)
    yield f(x), m.running_mean
    m.momentum = 0.9
    yield f(x), m.running_mean
    m.momentum = None
    yield f(x), m.running_mean
    m.track_running_stats = False
    yield f(x), m.running_mean
    m.eval()
    yield f(x), m.running_mean


@same
def compiled_module_is_copied(compiled):
    m = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))
    f = compiled(m)
    f(row())
    g = copy.deepcopy(f)
    with fb.no_grad():
        for p in m.parameters():
            p.zero_()
    yield f(row())
    g.eval()
    yield g(row()).shape
    yield [p.sum().item() != 0 for p in g.parameters()]
    yield m[1].training


@same
def compiled_module_is_pickled(compiled):
    m = nn.Linear(2, 2)
    f = compiled(m)
    f(row())
    g = pickle.loads(pickle.dumps(f))
    yield g(row())
    with fb.no_grad():
        m.weight.zero_()
    yield f(row()), g(row())


@same
def compiled_module_attributes_pass_through(compiled):
    m = Scale(2.0)
    f = compiled(m)
    yield f(row())
    f.k = 3.0
    yield f(row())
    yield m.k
    m.k = 4.0
    yield f.k
    f.eval()
    yield m.training
    f.inner = Scale(1.0)
    yield len(list(m.children()))


@same
def compiled_module_inside_another(compiled):
    inner = Scale(2.0)
    m = nn.Sequential(compiled(inner), Scale(3.0))
    f = compiled(m)
    yield f(row())
    inner.k = 5.0
    yield f(row())
    yield m(row())


@same
def compiled_forward_method(compiled):
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.k = 2.0
            self.dropout = nn.Dropout(0.5)

        @compiled
        def forward(self, x):
            return self.dropout(x) * self.k

    a, b = Block(), Block()
    yield a(fb.ones(4)), b(fb.ones(4))
    a.k = 3.0
    b.eval()
    yield a(fb.ones(4)), b(fb.ones(4))


@same
def embedding_and_attention(compiled):
    embedding, attention = nn.Embedding(5, 4), nn.MultiheadAttention(4, 2, dropout=0.5, batch_first=True)

    def g(ids):
        x = embedding(ids)
        return attention(x, x, x, need_weights=False)[0]

    f = compiled(g)
    ids = fb.tensor([[0, 1, 4]])
    yield f(ids)
    attention.eval()
    yield f(ids)
    attention.num_heads, attention.head_dim = 1, 4
    yield f(ids)


@same
def parametrization_by_a_property(compiled):
    class Positive(nn.Linear):
        def forward(self, x):
            return F.linear(x, self.weight.exp() * self.gain, self.bias)

        @property
        def gain(self):
            return math.sqrt(self.fan)

        fan = 4.0

    m = Positive(2, 2)
    f = compiled(m)
    yield f(row())
    Positive.fan = 9.0
    yield f(row())
    m.fan = 16.0
    yield f(row())


@same
def weight_norm_by_hand(compiled):
    class WeightNorm(nn.Module):
        def __init__(self, module):
            super().__init__()
            self.module = module
            self.g = nn.Parameter(module.weight.detach().norm(dim=1, keepdim=True))
            self.v = nn.Parameter(module.weight.detach().clone())
            del module.weight

        def forward(self, x):
            self.module.weight = self.g * self.v / self.v.norm(dim=1, keepdim=True)
            return self.module(x)

    m = WeightNorm(nn.Linear(2, 2))
    f = compiled(m)
    yield f(row())
    with fb.no_grad():
        m.g.mul_(2)
    yield f(row())


@same
def low_rank_adapter_added(compiled):
    class Adapted(nn.Module):
        def __init__(self, base):
            super().__init__()
            self.base = base
            self.down, self.up = nn.Linear(2, 1, bias=False), nn.Linear(1, 2, bias=False)
            self.scale = 1.0

        def forward(self, x):
            return self.base(x) + self.up(self.down(x)) * self.scale

    m = nn.Sequential(nn.Linear(2, 2))
    f = compiled(m)
    yield f(row())
    m[0] = Adapted(m[0])
    yield f(row())
    m[0].scale = 0.0
    yield f(row())
    m[0] = m[0].base
    yield f(row())


@same
def stochastic_depth(compiled):
    class Residual(nn.Module):
        def __init__(self, p):
            super().__init__()
            self.p = p

        def forward(self, x):
            if not self.training or self.p == 0.0:
                return x * 2
            keep = fb.rand(x.shape[0], 1) >= self.p
            return x + x * keep

    m = nn.Sequential(Residual(0.0), Residual(0.5))
    f = compiled(m)
    yield f(fb.ones(4, 2))
    m[0].p = 0.9
    yield f(fb.ones(4, 2))
    m.eval()
    yield f(fb.ones(4, 2))


@same
def early_exit_by_a_setting(compiled):
    class Stack(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList([Scale(2.0) for _ in range(4)])
            self.depth = 4

        def forward(self, x):
            for layer in self.layers[:self.depth]:
                x = layer(x)
            return x

    m = Stack()
    f = compiled(m)
    for depth in (4, 2, 3):
        m.depth = depth
        yield f(row())


@same
def teacher_in_a_cell(compiled):
    student, teacher = nn.Linear(2, 2), nn.Linear(2, 2)
    teacher.eval()

    def g(x):
        with fb.no_grad():
            target = teacher(x)
        return F.mse_loss(student(x), target)

    f = compiled(g)
    yield f(row())
    teacher = nn.Linear(2, 2)
    yield f(row())
    teacher.load_state_dict(student.state_dict())
    yield f(row())


@same
def module_equality_and_membership(compiled):
    a, b = Scale(2.0), Scale(3.0)
    frozen = {a}
    f = compiled(lambda x: sum(m(x) for m in (a, b) if m not in frozen))
    yield f(row())
    frozen.clear()
    yield f(row())
    frozen.add(b)
    yield f(row())


@same
def same_module_registered_twice(compiled):
    shared = Scale(2.0)
    m = nn.Sequential(shared, shared)
    f = compiled(m)
    yield f(row())
    shared.k = 3.0
    yield f(row())
    m[1] = Scale(5.0)
    yield f(row())


@same
def extra_state_in_a_plain_tensor_attribute(compiled):
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.mask = fb.ones(2)

        def forward(self, x):
            return x * self.mask

    m = Masked()
    f = compiled(m)
    yield f(row())
    m.mask[0] = 0.0
    yield f(row())
    m.mask = fb.tensor([5.0, 6.0])
    yield f(row())
    m.mask = None
    try:
        yield f(row())
    except TypeError:
        yield "TypeError"
