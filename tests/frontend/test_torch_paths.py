"""Modules where PyTorch's programs import from them, also those of which there is little."""

from __future__ import annotations

import importlib
import multiprocessing
import subprocess
import sys
from collections.abc import Callable

import pytest
import surface_table

import flambeau as fb
from flambeau.autograd import Variable, variable
from flambeau.multiprocessing import get_start_method
from flambeau.nn.parameter import Parameter
from flambeau.profiler import record_function
from flambeau.types import Device, Number
from flambeau.utils import model_zoo


def test_variables_are_tensors() -> None:
    x = fb.ones(2, requires_grad=True)
    assert Variable is variable.Variable and isinstance(x, Variable) and not isinstance(1.0, Variable)
    assert not Variable(x).requires_grad and Variable(x.detach(), requires_grad=True).is_leaf
    assert fb.compile(lambda x: Variable(x) * 2)(fb.ones(2)).tolist() == [2.0, 2.0]


def test_parts_with_names() -> None:
    @record_function("f")
    def f(x: fb.Tensor) -> fb.Tensor:
        with record_function("part"):
            return x + 1

    assert fb.compile(f)(fb.ones(1)).item() == f(fb.ones(1)).item() == 2


def test_one_process_and_one_device() -> None:
    assert not fb.distributed.is_available() and not fb.distributed.is_initialized() and not fb.onnx.is_in_onnx_export()
    model = fb.nn.DataParallel(fb.nn.Linear(2, 1), device_ids=[0])
    assert list(model.state_dict()) == ["module.weight", "module.bias"]
    assert fb.equal(fb.compile(model)(fb.ones(1, 2)), model.module(fb.ones(1, 2)))
    assert get_start_method() == multiprocessing.get_start_method()


@pytest.mark.parametrize("call", [lambda: fb.hub.load("a/b", "model"), lambda: model_zoo.load_url("https://a/b.pth")])
def test_nothing_is_downloaded(call: Callable[[], object]) -> None:
    with pytest.raises(fb.errors.UnsupportedError, match=r"fb\.load"):
        call()


def test_names_and_types() -> None:
    assert isinstance(1.5, Number) and isinstance("cpu", Device) and isinstance(Parameter(fb.ones(1)), fb.Tensor)
    x = fb.ones(2, 3)
    assert x[fb.newaxis].shape == (1, 2, 3) and isinstance(x.layout, fb.layout) and not fb.is_inference(x)
    assert isinstance(fb.channels_last, fb.memory_format)
    z = fb.complex(x, x)
    assert fb.equal(fb.adjoint(z), z.mH) and fb.equal(fb.adjoint(x), x.T)


@pytest.mark.parametrize("namespace", surface_table.namespaces())
def test_what_is_missing_says_so(namespace: str) -> None:
    owner = fb.Tensor if namespace == "torch.Tensor" else importlib.import_module(namespace.replace("torch", "flambeau", 1))
    for name in surface_table.namespaces()[namespace]:
        if not surface_table.has(namespace, name):
            with pytest.raises(NotImplementedError, match=name):
                getattr(owner, name)


def test_they_load_at_first_use() -> None:
    lazy = "distributed hub multiprocessing onnx profiler random types".split()
    code = f"import sys, flambeau; print([n for n in {lazy} if 'flambeau.' + n in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
