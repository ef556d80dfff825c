"""What programs mark for TorchScript stays what it is."""
from __future__ import annotations

import pytest

import flambeau as fb
from flambeau import nn
from flambeau.jit.annotations import List


class Marked(nn.Module):
    __constants__ = ["scale"]
    sizes: fb.jit.Final[List[int]]

    def __init__(self):
        super().__init__()
        self.scale = fb.jit.Attribute(2.0, float)

    @fb.jit.ignore
    def shifted(self, x):
        return x + 1

    @fb.jit.ignore(drop=True)
    def dropped(self, x):
        return x

    @fb.jit.unused
    @fb.jit.export
    def exported(self, x):
        return self.dropped(x)

    def forward(self, x):
        if fb.jit.is_scripting() or fb.jit.is_tracing():
            raise AssertionError
        return self.exported(self.shifted(x)) * fb.jit.annotate(float, self.scale)


@pytest.mark.parametrize("decorator", [fb.jit.script, fb.jit.trace, fb.compile])
def test_marks_change_nothing(decorator):
    assert decorator(Marked())(fb.ones(2)).tolist() == [4.0, 4.0]
    assert fb.jit.isinstance([], list) and issubclass(fb.jit.ScriptModule, nn.Module)
