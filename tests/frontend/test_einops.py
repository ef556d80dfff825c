"""einops on our tensors: as on NumPy's arrays, eager, compiled and differentiated, in a folder of the user's too."""
from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import flambeau as fb
from flambeau import nn

einops = pytest.importorskip("einops")

CASES = {
    "rearrange": (lambda e, x: e.rearrange(x, "b (h w) c -> b c h w", h=2), True),
    "split": (lambda e, x: e.rearrange(x, "b t (n d) -> (b n) t d", n=2), True),
    "squeeze": (lambda e, x: e.rearrange(x, "b t c -> b t () c"), True),
    "several": (lambda e, x: e.rearrange([x, x], "k b t c -> b t (k c)"), True),
    "mean": (lambda e, x: e.reduce(x, "b t c -> b c", "mean"), True),
    "pooled": (lambda e, x: e.reduce(x, "b (t k) c -> b t c", "max", k=2), True),
    "product": (lambda e, x: e.reduce(x, "b t c -> b", "prod"), True),
    "sum": (lambda e, x: e.reduce(x, "b t c -> ", "sum"), True),
    "least": (lambda e, x: e.reduce(x, "b t c -> b 1 1", "min"), True),
    "any": (lambda e, x: e.reduce(x > 1, "b t c -> b", "any"), False),
    "repeat": (lambda e, x: e.repeat(x, "b t c -> b t c r", r=3), True),
    "tiled": (lambda e, x: e.repeat(x, "b t c -> b (r t) c", r=2), True),
    "einsum": (lambda e, x: e.einsum(x, x, "b t c, b s c -> b t s"), True),
    "packed": (lambda e, x: e.pack([x, x[:, 0]], "b * c")[0], True),
    "unpacked": (lambda e, x: e.unpack(x, [[2], [2]], "b * c")[1], True),
}


@pytest.mark.parametrize("name", CASES)
def test_functions(name):
    function, is_differentiable = CASES[name]
    array = np.random.default_rng(0).normal(size=(2, 4, 6)).astype(np.float32)
    expected = function(einops, array)
    x = fb.from_numpy(array)
    compiled = fb.compile(lambda x: function(einops, x))
    for found in (function(einops, x), compiled(x), compiled(x)):
        assert found.shape == expected.shape
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5)
    assert len(compiled.signatures) == 1
    if is_differentiable:
        grads = []
        for f in (lambda x: function(einops, x), compiled):
            leaf = x.clone().requires_grad_()
            (f(leaf) ** 2).sum().backward()
            grads.append(leaf.grad)
        np.testing.assert_allclose(grads[1].numpy(), grads[0].numpy(), rtol=1e-4)


def test_shape_and_layers():
    from flambeau.einops import EinMix, Rearrange, Reduce

    fb.manual_seed(0)
    x = fb.randn(2, 4, 6)
    assert einops.parse_shape(x, "b t c") == {"b": 2, "t": 4, "c": 6}
    net = nn.Sequential(Rearrange("b (h w) c -> b c h w", h=2), nn.Conv2d(6, 6, 1), Reduce("b c h w -> b c", "max"),
                        EinMix("b (g c) -> b (g d)", weight_shape="g c d", bias_shape="g d", g=2, c=3, d=4))
    compiled = fb.compile(net)
    assert net(x).shape == (2, 8) and fb.allclose(net(x), compiled(x), atol=1e-6)
    assert len(list(net.parameters())) == 4 and repr(net[0]) == "Rearrange('b (h w) c -> b c h w', h=2)"


@pytest.mark.parametrize("first", ["flambeau", "folder.einops"])
def test_a_copy_in_the_users_folder(tmp_path, first):
    copied = tmp_path / "folder" / "einops"
    copied.mkdir(parents=True)
    (tmp_path / "folder" / "__init__.py").touch()
    for file in Path(einops.__file__).parent.glob("*.py"):
        text = file.read_text(encoding="utf-8").replace("from einops.", "from folder.einops.")
        (copied / file.name).write_text(text.replace("from einops import", "from folder.einops import"), encoding="utf-8")
    (tmp_path / "program.py").write_text(f"import {first}\n" + """
import flambeau as fb
from folder.einops import rearrange, reduce
step = fb.compile(lambda x: reduce(rearrange(x, "a (b c) -> b a c", b=2), "b a c -> b", "sum"))
for n in range(3):
    print(step(fb.ones(2, 4) * n).tolist(), len(step.signatures))
""", encoding="utf-8")
    path = [str(tmp_path), str(Path(fb.__file__).parent.parent)]
    code = f"import sys; sys.path[:0] = {path!r}; import runpy; runpy.run_path({str(tmp_path / 'program.py')!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.splitlines() == ["[0.0, 0.0] 1", "[4.0, 4.0] 1", "[8.0, 8.0] 1"], done.stderr
