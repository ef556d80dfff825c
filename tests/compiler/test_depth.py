"""What compiling takes grows with the depth of a network, not with its square, and equal layers are lowered once."""
from __future__ import annotations

from functools import cache

import pytest
from call_counts import python_calls

import flambeau as fb
import flambeau.nn.functional as F
from flambeau import nn, optim
from flambeau.compiler import compile_graph
from flambeau.ir.graph import Graph
from flambeau.passes.lowering import lower as lowering


@cache
def train_step(depth: int, differs: int = -1) -> Graph:
    """Of a residual network, traced. differs: a layer with another constant."""
    class Block(nn.Module):
        def __init__(self, scale: float):
            super().__init__()
            self.norm, self.linear, self.scale = nn.LayerNorm(8), nn.Linear(8, 8), scale

        def forward(self, x: fb.Tensor) -> fb.Tensor:
            return x + F.gelu(self.linear(self.norm(x))) * self.scale

    model = nn.Sequential(*[Block(0.25 if number == differs else 0.5) for number in range(depth)])
    optimizer = optim.AdamW(model.parameters(), lr=0.01)

    @fb.compile
    def step(x: fb.Tensor) -> fb.Tensor:
        optimizer.zero_grad()
        loss = (model(x) ** 2).mean()
        loss.backward()
        optimizer.step()
        return loss

    step(fb.ones(4, 8))
    return step.signatures[0].traced.graph


def test_work_grows_with_depth() -> None:
    """Between 4 and 8 layers as much as between 8 and 12. All code is known: LLVM has nothing to do."""
    for depth in (4, 8, 12):
        compile_graph(train_step(depth))
    four, eight, twelve = (python_calls(lambda depth=depth: compile_graph(train_step(depth))) for depth in (4, 8, 12))
    assert twelve - eight < 1.1 * (eight - four)


@pytest.mark.parametrize("differs", [-1, 3])
def test_equal_layers_are_lowered_once(monkeypatch: pytest.MonkeyPatch, differs: int) -> None:
    lowered = []
    monkeypatch.setattr(lowering, "lower_fusion", lambda node, name, plain=lowering.lower_fusion: (
        lowered.append(name), plain(node, name))[1])

    def count(graph: Graph) -> int:
        lowered.clear()
        compile_graph(graph)
        return len(lowered)

    assert count(train_step(12)) == count(train_step(8))
    assert (count(train_step(8, differs)) > count(train_step(8))) == (differs >= 0)
