"""Module as a tree: registration, walks, modes, state_dict, hooks, repr."""

from __future__ import annotations

import copy
import pickle
from collections import OrderedDict
from collections.abc import Callable

import numpy as np
import pytest

import flambeau as fb
from flambeau import nn
from flambeau.frontend.epoch import epoch


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(3, 4)
        self.drop = nn.Dropout(0.5)
        self.block = nn.Sequential(nn.Linear(4, 4, bias=False), nn.ReLU())
        self.register_buffer("scale", fb.tensor([2.0]))
        self.register_buffer("scratch", fb.zeros(2), persistent=False)
        self.width = 4

    def forward(self, x: fb.Tensor) -> fb.Tensor:
        return self.block(self.drop(self.fc1(x))) * self.scale


NAMES = ["fc1.weight", "fc1.bias", "block.0.weight"]


def test_parameters_are_found_in_order_of_registration() -> None:
    net = Net()
    assert [name for name, _ in net.named_parameters()] == NAMES
    assert [tuple(p.shape) for p in net.parameters()] == [(4, 3), (4,), (4, 4)]
    assert [name for name, _ in net.named_parameters(prefix="net", recurse=False)] == []
    assert [name for name, _ in net.named_parameters(prefix="net")][0] == "net.fc1.weight"


def test_a_shared_parameter_is_found_once() -> None:
    net = Net()
    net.tied = net.fc1
    assert [name for name, _ in net.named_parameters()] == NAMES
    assert len([name for name, _ in net.named_parameters(remove_duplicate=False)]) == 5
    assert [name for name, _ in net.named_children()] == ["fc1", "drop", "block"]
    assert "tied.weight" in net.state_dict()


def test_modules_and_buffers_are_found() -> None:
    net = Net()
    assert [name for name, _ in net.named_modules()] == ["", "fc1", "drop", "block", "block.0", "block.1"]
    assert [name for name, _ in net.named_buffers()] == ["scale", "scratch"]
    assert len(list(net.modules())) == 6
    assert net.get_submodule("block.0") is net.block[0]
    assert net.get_submodule("") is net
    assert net.get_parameter("block.0.weight") is net.block[0].weight
    assert net.get_buffer("scale") is net.scale


@pytest.mark.parametrize("get", ["get_submodule", "get_parameter", "get_buffer"])
def test_a_path_that_breaks_is_named(get: str) -> None:
    with pytest.raises(AttributeError, match="missing"):
        getattr(Net(), get)("block.missing")


def test_unknown_attribute_names_the_class() -> None:
    with pytest.raises(AttributeError, match="'Net' object has no attribute 'fc3'"):
        Net().fc3
    assert not hasattr(Net(), "fc3")


def test_forgotten_super_init_is_an_error() -> None:
    class Forgetful(nn.Module):
        def __init__(self) -> None:
            self.fc = nn.Linear(1, 1)

    with pytest.raises(AttributeError, match="before Module.__init__"):
        Forgetful()


def test_assigning_moves_a_name_between_registries() -> None:
    net = Net()
    net.width = nn.Parameter(fb.zeros(1))
    assert "width" in net._parameters
    assert "width" not in net.__dict__
    net.width = nn.ReLU()
    assert "width" in net._modules
    assert "width" not in net._parameters
    del net.width
    assert not hasattr(net, "width")


@pytest.mark.parametrize(("name", "message"), [("weight", "nn.Parameter or None"), ("child", "nn.Module or None"),
                                               ("buffer", "nn.Tensor or None")])
def test_registered_names_keep_their_kind(name: str, message: str) -> None:
    module = nn.Module()
    module.weight = nn.Parameter(fb.zeros(1))
    module.child = nn.ReLU()
    module.register_buffer("buffer", fb.zeros(1))
    with pytest.raises(TypeError, match=message):
        setattr(module, name, 3)
    setattr(module, name, None)
    assert getattr(module, name) is None
    assert list(module.parameters()) == [] or name != "weight"


def test_a_plain_tensor_is_a_plain_attribute_but_fills_a_buffer() -> None:
    net = Net()
    net.constant = fb.zeros(3)
    assert "constant" not in net.state_dict()
    net.scale = fb.ones(1)
    assert net.state_dict()["scale"].item() == 1


@pytest.mark.parametrize("name", ["a.b", ""])
def test_bad_names_are_refused(name: str) -> None:
    with pytest.raises(KeyError):
        nn.Module().register_buffer(name, None)
    with pytest.raises(KeyError):
        nn.Module().add_module(name, None)
    with pytest.raises(KeyError):
        nn.Module().register_parameter(name, None)


def test_a_taken_name_is_refused() -> None:
    with pytest.raises(KeyError, match="already exists"):
        Net().register_buffer("width", fb.zeros(1))
    with pytest.raises(KeyError, match="already exists"):
        Net().add_module("forward", nn.ReLU())


def test_a_computed_tensor_is_no_parameter() -> None:
    module = nn.Module()
    with pytest.raises(TypeError, match="nn.Parameter or None"):
        module.register_parameter("w", fb.zeros(1))  # type: ignore[arg-type]


def test_train_and_eval_reach_every_module() -> None:
    net = Net()
    assert net.training and net.eval() is net
    assert not any(m.training for m in net.modules())
    net.train()
    assert all(m.training for m in net.modules())
    with pytest.raises(ValueError, match="boolean"):
        net.train("yes")  # type: ignore[arg-type]


def test_every_change_bumps_the_epoch() -> None:
    net = Net()

    def changes(change: Callable[[], object]) -> bool:
        before = epoch.value
        change()
        return epoch.value > before

    assert changes(lambda: setattr(net, "width", 5))
    assert not changes(lambda: setattr(net, "width", net.width))
    assert not changes(net.train)
    assert changes(net.eval)
    assert changes(lambda: net.requires_grad_(False))
    assert changes(lambda: setattr(net, "fc1", nn.Linear(3, 4)))
    assert changes(lambda: net.__delattr__("drop"))
    assert changes(lambda: net.register_forward_hook(lambda *_: None).remove())
    assert changes(lambda: net.block.append(nn.ReLU()))
    assert changes(lambda: net.fc1.double())


def test_requires_grad_and_zero_grad() -> None:
    net = Net().eval()
    net(fb.ones(2, 3)).sum().backward()
    assert all(p.grad is not None for p in net.parameters())
    net.zero_grad(set_to_none=False)
    assert all(p.grad.numpy().sum() == 0 for p in net.parameters())
    net.zero_grad()
    assert all(p.grad is None for p in net.parameters())
    net.requires_grad_(False)
    assert not any(p.requires_grad for p in net.parameters())


def test_apply_visits_children_first() -> None:
    seen: list[str] = []
    Net().apply(lambda m: seen.append(type(m).__name__))
    assert seen == ["Linear", "Dropout", "Linear", "ReLU", "Sequential", "Net"]


def test_conversions_keep_the_parameter_objects() -> None:
    net = Net()
    before = list(net.parameters())
    values = before[0].detach().numpy().copy()
    net.register_buffer("count", fb.tensor(3))
    assert net.double() is net
    assert all(a is b for a, b in zip(before, net.parameters(), strict=True))
    assert {p.dtype for p in net.parameters()} == {fb.float64}
    assert net.scale.dtype is fb.float64
    assert net.count.dtype is fb.int64
    np.testing.assert_array_equal(before[0].detach().numpy(), values)
    assert before[0].requires_grad
    assert net.to("cpu", fb.float32).fc1.weight.dtype is fb.float32
    with pytest.raises(TypeError, match="floating point"):
        net.to(fb.int64)


def test_forward_is_required() -> None:
    with pytest.raises(NotImplementedError, match="forward"):
        nn.Module()(1)


def test_repr_is_nested() -> None:
    assert repr(Net()) == (
        "Net(\n"
        "  (fc1): Linear(in_features=3, out_features=4, bias=True)\n"
        "  (drop): Dropout(p=0.5, inplace=False)\n"
        "  (block): Sequential(\n"
        "    (0): Linear(in_features=4, out_features=4, bias=False)\n"
        "    (1): ReLU()\n"
        "  )\n"
        ")")


# -- state_dict ---------------------------------------------------------------------------------------------------


def test_state_dict_round_trip_is_in_place() -> None:
    net, other = Net(), Net()
    assert list(net.state_dict()) == ["scale", *NAMES]
    weight = other.fc1.weight
    result = other.load_state_dict(net.state_dict())
    assert other.fc1.weight is weight
    assert repr(result) == "<All keys matched successfully>"
    for key, value in other.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), net.state_dict()[key].numpy())
    assert weight.numpy is not None
    assert weight.detach().numpy() is not net.fc1.weight.detach().numpy()


def test_state_dict_shares_memory() -> None:
    net = Net()
    net.state_dict()["scale"].fill_(7)
    assert net.scale.item() == 7
    assert not net.state_dict()["fc1.weight"].requires_grad
    assert net.state_dict(keep_vars=True)["fc1.weight"] is net.fc1.weight


def test_missing_and_unexpected_keys_and_sizes_are_listed() -> None:
    state = dict(Net().state_dict())
    state["extra"] = state.pop("scale")
    state["fc1.weight"] = fb.zeros(4, 2)
    with pytest.raises(RuntimeError) as error:
        Net().load_state_dict(state)
    message = str(error.value)
    assert "Error(s) in loading state_dict for Net" in message
    assert 'Missing key(s) in state_dict: "scale"' in message
    assert 'Unexpected key(s) in state_dict: "extra"' in message
    assert "size mismatch for fc1.weight: copying a param with shape" in message
    del state["fc1.weight"]
    missing, unexpected = Net().load_state_dict(state, strict=False)
    assert missing == ["scale", "fc1.weight"]
    assert unexpected == ["extra"]


def test_ndarrays_load_too_and_convert() -> None:
    layer = nn.Linear(2, 1)
    layer.load_state_dict({"weight": np.array([[1.0, 2.0]]), "bias": np.array([3.0])})
    assert layer.weight.dtype is fb.float32
    assert layer(fb.tensor([1.0, 1.0])).tolist() == [6.0]


def test_assign_takes_the_given_tensors() -> None:
    layer, value = nn.Linear(2, 1, bias=False), fb.zeros(1, 2)
    layer.load_state_dict({"weight": value}, assign=True)
    assert isinstance(layer.weight, nn.Parameter)
    value.fill_(4)
    assert layer.weight.tolist() == [[4.0, 4.0]]


def test_deepcopy_and_pickle_are_independent() -> None:
    net = Net()
    for made in (copy.deepcopy(net), pickle.loads(pickle.dumps(net.fc1))):
        layer = made.fc1 if isinstance(made, Net) else made
        assert isinstance(layer.weight, nn.Parameter)
        assert layer.weight.requires_grad
        np.testing.assert_array_equal(layer.weight.detach().numpy(), net.fc1.weight.detach().numpy())
        with fb.no_grad():
            layer.weight.zero_()
        assert net.fc1.weight.detach().numpy().any()


# -- hooks --------------------------------------------------------------------------------------------------------


def test_hooks_see_and_replace() -> None:
    layer, seen = nn.Identity(), []
    before = layer.register_forward_pre_hook(lambda module, args: (args[0] + 1,))
    after = layer.register_forward_hook(lambda module, args, y: seen.append((module, args[0].item())) or y * 10)
    assert layer(fb.tensor(1.0)).item() == 20
    assert seen == [(layer, 2.0)]
    before.remove()
    assert layer(fb.tensor(1.0)).item() == 10
    after.remove()
    after.remove()
    assert layer(fb.tensor(1.0)).item() == 1


def test_hooks_run_in_order_and_with_kwargs() -> None:
    layer, seen = nn.Identity(), []
    layer.register_forward_hook(lambda *_: seen.append("first"))
    layer.register_forward_hook(lambda *_: seen.append("before"), prepend=True)
    with layer.register_forward_pre_hook(lambda m, args, kw: (args, {"input": kw["input"] * 2}), with_kwargs=True):
        assert layer(input=fb.tensor(3.0)).item() == 6
    assert seen == ["before", "first"]
    assert layer(input=fb.tensor(3.0)).item() == 3


# -- Parameter ----------------------------------------------------------------------------------------------------


def test_parameter_shares_memory_and_is_a_leaf() -> None:
    data = fb.zeros(2, 2)
    parameter = nn.Parameter(data)
    data.fill_(3)
    assert parameter.tolist() == [[3, 3], [3, 3]]
    assert parameter.requires_grad and parameter.is_leaf and isinstance(parameter, fb.Tensor)
    assert not nn.Parameter(fb.tensor([1]), requires_grad=False).requires_grad
    assert repr(nn.Parameter(fb.zeros(1))).startswith("Parameter containing:\ntensor([0.")
    assert type(parameter + 1) is fb.Tensor
    with pytest.raises(TypeError, match="must be a Tensor"):
        nn.Parameter([1.0])  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="floating-point"):
        nn.Parameter(fb.tensor([1]))


# -- containers ---------------------------------------------------------------------------------------------------


def test_sequential_slices_appends_and_names() -> None:
    a, b, c = nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1)
    net = nn.Sequential(a, b, c)
    assert len(net) == 3 and net[0] is a and net[-1] is c and list(net) == [a, b, c]
    assert isinstance(net[1:], nn.Sequential) and list(net[1:]) == [b, c]
    assert net.append(nn.Tanh()) is net and len(net) == 4
    net[1] = nn.GELU()
    del net[3]
    assert [type(m).__name__ for m in net] == ["Linear", "GELU", "Linear"]
    del net[0]
    assert [name for name, _ in net.named_children()] == ["0", "1"]
    net.insert(0, a)
    assert [name for name, _ in net.named_parameters()] == ["0.weight", "0.bias", "2.weight", "2.bias"]
    named = nn.Sequential(OrderedDict(first=a, second=c))
    assert named.first is a and [name for name, _ in named.named_children()] == ["first", "second"]
    with pytest.raises(IndexError):
        net[3]


def test_module_list_registers_and_prints_runs() -> None:
    layers = nn.ModuleList([nn.Linear(1, 2) for _ in range(3)])
    layers += [nn.ReLU()]
    assert len(list(layers.parameters())) == 6
    assert repr(layers) == ("ModuleList(\n  (0-2): 3 x Linear(in_features=1, out_features=2, bias=True)\n"
                            "  (3): ReLU()\n)")
    assert len(layers[:2]) == 2 and len(layers + nn.ModuleList([nn.ReLU()])) == 5
    assert type(layers.pop()).__name__ == "ReLU" and len(layers) == 3
    with pytest.raises(NotImplementedError):
        layers(1)


def test_module_dict_and_parameter_list() -> None:
    modules = nn.ModuleDict({"a": nn.Linear(1, 1), "b": nn.ReLU()})
    assert list(modules) == ["a", "b"] and "a" in modules and len(modules) == 2
    modules["c"] = nn.Tanh()
    assert isinstance(modules.pop("b"), nn.ReLU) and list(modules.keys()) == ["a", "c"]
    assert [name for name, _ in modules.named_parameters()] == ["a.weight", "a.bias"]
    parameters = nn.ParameterList([fb.zeros(2), nn.Parameter(fb.ones(1))])
    assert all(isinstance(p, nn.Parameter) for p in parameters) and len(parameters) == 2
    assert list(parameters.state_dict()) == ["0", "1"]
    assert "(0): Parameter containing: [flambeau.float32 of size 2]" in repr(parameters)


def test_train_and_eval_go_through_children_and_what_they_override() -> None:
    class Alone(nn.Module):
        def modules(self):
            return iter(())

    class Frozen(nn.Module):
        def train(self, mode: bool = True):
            return super().train(False)

    net = nn.Sequential(Alone(), Frozen(), nn.Dropout())
    net.train()
    assert [m.training for m in net] == [True, False, True]
    net.eval()
    assert [m.training for m in net] == [False, False, False]
    assert not Alone().eval().training
