"""einops' layers: ours where PyTorch isn't loaded, PyTorch's where it is, which our Modules adopt."""
from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import flambeau as fb
from flambeau import nn

einops = pytest.importorskip("einops")
MIX = {"weight_shape": "g c d", "bias_shape": "g d", "g": 2, "c": 3, "d": 4}

# A model of a program that says torch, in a process without PyTorch; {first} is how it comes by the name.
PROGRAM = """
import sys
{first}
import torch.nn.functional as F
from torch import nn
from einops import pack, rearrange, repeat, unpack
from einops.layers.torch import EinMix, Rearrange, Reduce

class Attend(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.to_qkv, self.split = nn.Linear(dim, dim * 3), Rearrange("b n (k h d) -> k b h n d", k=3, h=2)

    def forward(self, x):
        x, sizes = pack([x, repeat(x.mean(1), "b d -> b 1 d")], "b * d")
        q, k, v = self.split(self.to_qkv(x))
        return unpack(rearrange(F.scaled_dot_product_attention(q, k, v), "b h n d -> b n (h d)"), sizes, "b * d")[0]

torch.manual_seed(0)
net = nn.Sequential(Rearrange("b c (h p) (w q) -> b (h w) (p q c)", p=2, q=2), nn.Linear(12, 6), Attend(6),
                    Reduce("b n d -> b d", "mean"), EinMix("b (g c) -> b (g d)", weight_shape="g c d", g=2, c=3, d=1))
x = torch.randn(2, 3, 4, 4)
y, z = net(x), torch.compile(net)(x)
y.sum().backward()
print(torch.__name__, y.shape == (2, 2), torch.allclose(y, z, atol=1e-6), net[4].weight.grad is not None,
      isinstance(net[0], Rearrange), [name for name in sys.modules if name.startswith("torch._")])
"""


@pytest.mark.parametrize("first", [
    "sys.modules['torch'] = None; import flambeau as torch",
    "import flambeau as torch",
    "import flambeau, flambeau.nn; sys.modules |= {'torch': flambeau, 'torch.nn': flambeau.nn}; import torch",
])
def test_a_program_without_pytorch(first: str) -> None:
    text = PROGRAM.replace("{first}", first)
    if " as torch" in first:
        text = text.replace("import torch.nn", "import flambeau.nn").replace("from torch import", "from flambeau import")
    path = [str(Path(fb.__file__).parent.parent)]
    done = subprocess.run([sys.executable, "-c", f"import sys; sys.path[:0] = {path!r}\n{text}"], capture_output=True,
                          text=True, timeout=120, check=False)
    assert done.stdout.split("\n")[0] == "flambeau True True True True []", done.stderr


def layers_of(module: Any) -> list[Any]:
    return [module.Rearrange("b (h w) c -> b c h w", h=2), module.Reduce("b c h w -> b c", "max"),
            module.EinMix("b (g c) -> b (g d)", **MIX)]


def test_ours_are_modules() -> None:
    import einops.layers.flambeau as ours

    import flambeau.einops as face

    x = fb.randn(2, 4, 6)
    net = nn.Sequential(*layers_of(ours))
    assert face.Rearrange is ours.Rearrange and all(isinstance(layer, nn.Module) for layer in net)
    assert list(net.state_dict()) == ["2.weight", "2.bias"]
    for again in (copy.deepcopy(net), pickle.loads(pickle.dumps(net)), fb.compile(net)):
        np.testing.assert_allclose(again(x).tolist(), net(x).tolist(), rtol=1e-5)


@pytest.mark.torch
def test_layers_of_pytorch_are_adopted() -> None:
    torch = pytest.importorskip("torch")
    import einops.layers.flambeau as ours
    import einops.layers.torch as theirs

    given = layers_of(theirs)
    assert all(isinstance(layer, torch.nn.Module) for layer in given)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.split = None
            self.split, self.rest = given[0], nn.ModuleList([given[1]])
            self.rest.insert(1, given[2])
            self.named = nn.ModuleDict({"split": given[0]})
            self.plain = [theirs.Rearrange("a b -> b a")]

        def forward(self, x: Any) -> Any:
            x = self.split(x)
            for layer in self.rest:
                x = layer(x)
            return self.plain[0](x)

    net, x = Net(), np.random.default_rng(0).normal(size=(2, 4, 6)).astype(np.float32)
    found = [net.split, *net.rest]
    assert [type(layer) for layer in found] == [ours.Rearrange, ours.Reduce, ours.EinMix]
    assert net.named["split"] is net.split
    expected = torch.nn.Sequential(*given, *net.plain)(torch.from_numpy(x)).tolist()
    for f in (net, fb.compile(net)):
        np.testing.assert_allclose(f(fb.from_numpy(x)).tolist(), expected, rtol=1e-5, atol=1e-6)
    assert list(net.state_dict()) == ["rest.1.weight", "rest.1.bias"]
    with pytest.raises(TypeError, match="Linear is not a Module subclass"):
        nn.Sequential(torch.nn.Linear(1, 1))


@pytest.mark.torch
def test_a_name_that_was_imported_before_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "einops.layers.torch", raising=False)
    from einops.layers.torch import Rearrange

    early = Rearrange("a b -> b a")
    assert isinstance(early, nn.Module) and isinstance(early, Rearrange)
    assert type(early) is not type("Derived", (Rearrange,), {})("a b -> b a")
    monkeypatch.setitem(sys.modules, "torch", torch)
    late = Rearrange("a b -> b a")
    assert isinstance(late, torch.nn.Module) and isinstance(late, Rearrange)
    assert torch.nn.Sequential(late)(torch.zeros(2, 3)).shape == (3, 2)
    assert nn.Sequential(late, early, copy.deepcopy(early))(fb.zeros(2, 3)).shape == (3, 2)
