"""Modules where PyTorch's programs import from them, also those of which there is little."""

from __future__ import annotations

import importlib
import multiprocessing
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import surface_table

import flambeau as fb
from flambeau import nn
from flambeau.autograd import Variable, variable
from flambeau.functional import norm
from flambeau.multiprocessing import get_start_method
from flambeau.nn.modules.conv import LazyConv2d
from flambeau.nn.modules.flatten import Flatten
from flambeau.nn.modules.fold import Fold
from flambeau.nn.modules.pixelshuffle import PixelShuffle
from flambeau.nn.modules.transformer import _get_activation_fn, _get_clones
from flambeau.nn.parameter import Parameter
from flambeau.optim.optimizer import (
    _default_to_fused_or_foreach,
    _get_capturable_supported_devices,
    _get_value,
    _use_grad_for_differentiable,
)
from flambeau.profiler import record_function
from flambeau.types import Device, Number
from flambeau.utils import model_zoo
from flambeau.utils.checkpoint import get_device_states, set_device_states


def test_variables_are_tensors() -> None:
    x = fb.ones(2, requires_grad=True)
    assert Variable is variable.Variable and isinstance(x, Variable) and not isinstance(1.0, Variable)
    assert not Variable(x).requires_grad and Variable(x.detach(), requires_grad=True).is_leaf
    assert fb.compile(lambda x: Variable(x) * 2)(fb.ones(2)).tolist() == [2.0, 2.0]


def test_parts_of_transformers() -> None:
    assert _get_activation_fn("gelu") is fb.nn.functional.gelu
    assert len(_get_clones(fb.nn.Linear(1, 1), 3)) == 3


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
def test_nothing_is_downloaded(call: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", "/nowhere")
    with pytest.raises(fb.errors.UnsupportedError, match=r"fb\.load"):
        call()
    with pytest.raises(fb.errors.UnsupportedError, match="nothing is downloaded"):
        fb.hub.download_url_to_file("https://a/b.pth", "b.pth")


def test_files_that_lie_there_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert fb.hub.get_dir() == str(tmp_path / "hub") and fb.hub.HASH_REGEX.search("net-12ab.pth")
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    fb.save({"weight": fb.ones(2)}, tmp_path / "hub" / "checkpoints" / "net.pth")
    assert fb.hub.load_state_dict_from_url("https://a.org/b/net.pth?c=1")["weight"].tolist() == [1.0, 1.0]
    with fb.serialization.safe_globals([Path]):
        assert fb.hub.load_state_dict_from_url("https://a", tmp_path / "hub" / "checkpoints", file_name="net.pth")


def test_marks_and_checks() -> None:
    @fb.compile
    @fb.fx.wrap
    def f(x: fb.Tensor) -> fb.Tensor:
        fb._assert(x.shape[0] == 2, "two rows")
        fb._check(x.dim() == 1, lambda: f"a vector, not {x.dim()} dimensions")
        fb._check_is_size(x.shape[0], max=2)
        return x + 1

    assert f(fb.ones(2)).tolist() == [2.0, 2.0] and fb.fx.wrap("name") == "name"
    for wrong, error in ((fb.ones(3), AssertionError), (fb.ones(2, 2), RuntimeError)):
        with pytest.raises(error, match="two rows|a vector, not 2"):
            f(wrong)
    for name, kind in (("index", IndexError), ("value", ValueError), ("type", TypeError),
                       ("not_implemented", NotImplementedError)):
        with pytest.raises(kind, match="Expected cond to be True"):
            getattr(fb, f"_check_{name}")(False)
    with pytest.raises(TypeError, match="must be a bool"):
        fb._check(fb.ones(()) > 0)


class Old(fb.optim.Optimizer):
    """A step as optimizers that were copied out of PyTorch have it."""

    @_use_grad_for_differentiable
    def step(self, closure: object = None) -> None:
        assert _default_to_fused_or_foreach([], False) == (False, False) and not _get_capturable_supported_devices()
        for group in self.param_groups:
            for p in group["params"]:
                p.add_(p.grad, alpha=-group["lr"] * _get_value(fb.tensor(2.0)))


def test_an_optimizer_of_older_parts() -> None:
    p = fb.nn.Parameter(fb.ones(2))
    p.sum().backward()
    Old([p], {"lr": 0.25}).step()
    assert p.tolist() == [0.5, 0.5]


def test_where_else_they_are_imported_from() -> None:
    assert norm is fb.norm and fb.functional.einsum is fb.einsum
    assert (LazyConv2d, Flatten, Fold, PixelShuffle) == (nn.LazyConv2d, nn.Flatten, nn.Fold, nn.PixelShuffle)
    set_device_states(*get_device_states(fb.ones(2)))
    assert get_device_states(fb.ones(2)) == ([], []) and not fb.cuda._initialized


def test_programs_choose_their_way_by_the_version() -> None:
    version = fb.__version__
    assert "2.2" < version > (2, 9, 1) and version >= "1.13.1+cpu" and version < "2.14.0a0" and version != "2.13.0"
    assert version > "2.13.0rc1" and not version <= "2.13" and version == str(version) and version in {str(version)}
    assert version.split("+")[0] == "2.13.0" and fb.version.__version__ == version < "no version" and version != 2


def test_names_without_their_prefix() -> None:
    state = fb.nn.DataParallel(nn.Linear(2, 1)).state_dict()
    nn.modules.utils.consume_prefix_in_state_dict_if_present(state, "module.")
    nn.Linear(2, 1).load_state_dict(state)
    assert list(state) == ["weight", "bias"] and sorted(state._metadata) == [""]


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
    lazy = ("distributed functional fx hub jit multiprocessing onnx profiler random serialization torch_version "
            "types").split()
    code = f"import sys, flambeau; print([n for n in {lazy} if 'flambeau.' + n in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
