"""What containers of modules and parameters do, as in PyTorch: the same program runs in both and says the same."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest

import flambeau as fb
from flambeau import nn

Program = Callable[[Any], Any]


def shapes(module: Any) -> list[tuple[str, tuple[int, ...]]]:
    return [(name, tuple(p.shape)) for name, p in module.named_parameters()]


def three(lib: Any) -> Any:
    return lib.nn.Sequential(lib.nn.ReLU(), lib.nn.Tanh(), lib.nn.Sigmoid())


def named(lib: Any) -> Any:
    return lib.nn.Sequential(OrderedDict(a=lib.nn.ReLU(), b=lib.nn.Tanh()))


def changed(module: Any, *statements: str, **names: Any) -> Any:
    for statement in statements:
        exec(statement, {"m": module, **names})
    return module


def parameters(lib: Any) -> Any:
    return lib.nn.ParameterList([lib.ones(2), lib.nn.Parameter(lib.zeros(1)), 5])


def by_name(lib: Any) -> Any:
    return lib.nn.ParameterDict({"b": lib.ones(2), "a": lib.nn.Parameter(lib.zeros(1)), "c": 5})


SAME: list[Program] = [
    lambda lib: three(lib) * 2, lambda lib: 2 * three(lib), lambda lib: three(lib) + named(lib),
    lambda lib: changed(three(lib), "m += other; m *= 2", other=named(lib)),
    lambda lib: changed(three(lib), "m.insert(1, e); m.insert(-1, e); m.extend([e]); m[0] = e", e=lib.nn.ELU()),
    lambda lib: [three(lib).pop(0), three(lib).pop(-1), three(lib)[-1:], named(lib)[0:1]],
    lambda lib: changed(three(lib), "del m[0:2]", "m.append(e)", e=lib.nn.ELU()),
    lambda lib: changed(lib.nn.ModuleList(three(lib)), "m += [e]; m.insert(0, e); del m[1:3]", e=lib.nn.ELU()),
    lambda lib: [lib.nn.ModuleList(three(lib)) + list(named(lib)), lib.nn.ModuleList(three(lib)).pop(1)],
    lambda lib: changed(lib.nn.ModuleDict({"x": lib.nn.ReLU()}), "m.update([['b', e]]); m.update(m); m.pop('x')",
                        e=lib.nn.ELU()),
    lambda lib: [n for n in dir(three(lib)) + dir(parameters(lib)) if n.isdigit()],
    lambda lib: [shapes(parameters(lib)), parameters(lib)[2], shapes(parameters(lib)[0:2])],
    lambda lib: list(parameters(lib).state_dict()),
    lambda lib: shapes(changed(parameters(lib), "m.append(v); m += [v]; m[0] = v; m.extend([v])", v=lib.ones(3))),
    lambda lib: [len(parameters(lib)), repr(parameters(lib)).replace("torch.", "").replace("flambeau.", "")],
    lambda lib: [shapes(by_name(lib)), list(by_name(lib)), list(reversed(by_name(lib))), list(by_name(lib).state_dict())],
    lambda lib: [by_name(lib).pop("c"), by_name(lib).popitem()[0], by_name(lib).get("z", 3), by_name(lib).setdefault("z")],
    lambda lib: [shapes(by_name(lib) | {"w": lib.ones(3)}), shapes(by_name(lib).fromkeys(["x", "y"], lib.ones(1)))],
    lambda lib: [shapes(by_name(lib).copy()), sorted({"w": 1} | by_name(lib)), "b" in by_name(lib), len(by_name(lib))],
    lambda lib: shapes(changed(by_name(lib), "m |= {'n': v}; m.update([('q', v)]); del m['b']", v=lib.ones(1))),
    lambda lib: list(changed(by_name(lib), "m.clear()").keys()),
    lambda lib: repr(by_name(lib)).replace("torch.", "").replace("flambeau.", ""),
    lambda lib: [isinstance(lib.nn.Buffer(lib.ones(1)), lib.nn.Buffer), isinstance(lib.ones(1), lib.nn.Buffer)],
    lambda lib: list(changed(three(lib), "m.x = b(o); m.y = b(o, persistent=False); m.x = o", o=lib.ones(1),
                             b=lib.nn.Buffer).state_dict()),
]
REFUSED: list[tuple[Program, type[Exception]]] = [
    (lambda lib: three(lib) * 0, ValueError), (lambda lib: three(lib) * "a", TypeError),
    (lambda lib: three(lib) + list(named(lib)), ValueError), (lambda lib: three(lib).append(3), TypeError),
    (lambda lib: three(lib).insert(9, lib.nn.ReLU()), IndexError), (lambda lib: three(lib)[5], IndexError),
    (lambda lib: lib.nn.ModuleList().extend(3), TypeError), (lambda lib: lib.nn.ModuleDict().pop("x"), KeyError),
    (lambda lib: lib.nn.ModuleDict().update([("b",)]), ValueError), (lambda lib: lib.nn.ModuleDict().update(3), TypeError),
    (lambda lib: parameters(lib)[3], IndexError), (lambda lib: parameters(lib)(), RuntimeError),
    (lambda lib: parameters(lib).extend(lib.ones(2)), TypeError), (lambda lib: lib.nn.ParameterList(3), TypeError),
    (lambda lib: lib.nn.ParameterList([lib.ones(1).long()]), RuntimeError),
    (lambda lib: changed(parameters(lib), "m[0] = 'a'"), TypeError),
    (lambda lib: by_name(lib)["z"], AttributeError), (lambda lib: changed(by_name(lib), "del m['z']"), KeyError),
    (lambda lib: by_name(lib).update([("a",)]), ValueError), (lambda lib: by_name(lib).update(3), TypeError),
    (lambda lib: lib.nn.ParameterDict({"x.y": lib.ones(1)}), KeyError),
    (lambda lib: changed(three(lib), "m.e = 3; m.e = b", b=lib.nn.Buffer(lib.ones(1))), KeyError),
]


@pytest.mark.torch
@pytest.mark.parametrize("program", SAME)
def test_containers_agree(program: Program) -> None:
    import torch

    assert repr(program(fb)) == repr(program(torch))


@pytest.mark.torch
@pytest.mark.parametrize(("program", "error"), REFUSED)
def test_errors_have_pytorchs_types(program: Program, error: type[Exception]) -> None:
    import torch

    for lib in (fb, torch):
        with pytest.raises(error):
            program(lib)


def test_members_are_state_of_a_compiled_function() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.seen = nn.Buffer(fb.zeros(()))
            self.scale = nn.ParameterDict({"w": fb.ones(2)})
            self.rows = nn.ParameterList([fb.ones(2), fb.ones(2)])

        def forward(self, x: fb.Tensor) -> fb.Tensor:
            self.seen.add_(1)
            return (x * self.scale["w"]).sum() + sum((row * x).sum() for row in self.rows)

    net = Net()
    step = fb.compile(net)
    assert step(fb.ones(2)).item() == 6
    net.rows[1] = fb.zeros(2)
    step(fb.ones(2)).backward()
    assert net.seen.item() == 2 and net.scale["w"].grad.tolist() == [1, 1]
    twin = copy.deepcopy(net)
    assert twin.seen.persistent and list(twin.state_dict()) == list(net.state_dict())


def test_classes_are_where_pytorch_keeps_them() -> None:
    from flambeau.nn.modules.activation import PReLU
    from flambeau.nn.modules.container import Container, ParameterDict
    from flambeau.nn.modules.dropout import _DropoutNd
    from flambeau.nn.modules.loss import _Loss, _WeightedLoss
    from flambeau.nn.modules.utils import _pair, _triple

    assert (PReLU, ParameterDict) == (nn.PReLU, nn.ParameterDict)
    assert issubclass(nn.NLLLoss, _WeightedLoss) and issubclass(nn.MSELoss, _Loss) and issubclass(nn.Dropout, _DropoutNd)
    assert (_pair(3), _pair([1, 2]), _triple("a")) == ((3, 3), (1, 2), ("a",))
    assert list(Container(a=nn.ReLU())._modules) == ["a"]
