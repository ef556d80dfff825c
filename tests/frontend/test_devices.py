"""The backend follows from the device of the tensors: a second device, whose memory is the host's, stands in for others."""
from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

import flambeau as fb
from flambeau.backends import BuiltKernel, InterpretBackend, backend_on, registry
from flambeau.compiler import compile_graph, register_backend
from flambeau.errors import UnsupportedError
from flambeau.frontend.tensor.storage import Storage
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import dtypes as dt
from flambeau.ir import parse
from flambeau.ir.kernel import Kernel
from flambeau.ir.target import Target
from flambeau.ir.types import TensorType
from flambeau.runtime.executable import Executable
from flambeau.runtime.interpreted import InterpretedExecutable


class Npu(InterpretBackend):
    """Counts the kernels that it builds."""

    def __init__(self) -> None:
        super().__init__()
        self.built = 0

    def build(self, kernels: Sequence[Kernel], target: Target) -> list[BuiltKernel]:
        self.built += len(kernels)
        return super().build(kernels, target)


@pytest.fixture
def npu(monkeypatch: pytest.MonkeyPatch) -> Iterator[Npu]:
    monkeypatch.setattr(registry, "_BACKENDS", dict(registry._BACKENDS))
    monkeypatch.setattr(registry, "_NAME_ON", dict(registry._NAME_ON))
    backend = Npu()
    register_backend("npu compiler", backend, device="npu")
    yield backend


def on(device: str, *numbers: float) -> Tensor:
    array = np.array(numbers, np.float32)
    return Tensor._make(Storage(array), TensorType(array.shape, dt.f32, device), array)


def this_line() -> str:
    return "test_devices.py:"


def test_backend_is_the_one_of_the_tensors_device(npu: Npu) -> None:
    @fb.compile
    def double(x: Tensor) -> Tensor:
        return x + x

    here, there = double(on("cpu", 1, 2)), double(on("npu", 1, 2))
    assert here.tolist() == there.tolist() == [2.0, 4.0]
    assert (here.device, there.device) == ("cpu", "npu") and npu.built == 1
    kinds = [type(s.compiled.executable) for s in double.signatures]
    assert kinds == [Executable, InterpretedExecutable]
    assert double(on("npu", 3, 4)).tolist() == [6.0, 8.0] and len(double.signatures) == 2
    assert "@npu" in double.ir("graph")


def test_numbered_devices_have_the_backend_of_their_kind(npu: Npu) -> None:
    assert backend_on("npu:1") is npu
    assert fb.compile(lambda x: x + x)(on("npu:1", 1)).device == "npu:1" and npu.built == 1


def test_backend_by_name_or_object_takes_precedence(npu: Npu) -> None:
    mine = Npu()
    for backend in ("cpu", mine):
        made = fb.compile(lambda x: x + x, backend=backend)
        assert made(on("npu", 1, 2)).tolist() == [2.0, 4.0]
    assert npu.built == 0 and mine.built == 1
    assert fb.compile(lambda x: x * x, backend="npu compiler")(on("cpu", 3)).tolist() == [9.0] and npu.built == 1


def test_derivative_is_compiled_for_the_device_of_the_function(npu: Npu) -> None:
    x = on("npu", 1, 2)
    x.requires_grad_()
    square = fb.compile(lambda x: x * x)
    square(x).backward(on("npu", 1, 10))
    assert x.grad is not None and x.grad.tolist() == [2.0, 40.0]
    (signature,) = square.signatures
    assert len(signature.parts) == 2
    assert all(isinstance(part.executable, InterpretedExecutable) for part in signature.parts)


def test_function_without_tensors_is_compiled_for_the_cpu() -> None:
    made = fb.compile(lambda: fb.ones(2) + 1)
    assert made().tolist() == [2.0, 2.0] and isinstance(made.signatures[0].compiled.executable, Executable)


def test_arguments_on_two_devices_are_named_with_the_line(npu: Npu) -> None:
    @fb.compile
    def add(x: Tensor, others: dict[str, Tensor]) -> Tensor:
        return x + others["bias"]

    with pytest.raises(UnsupportedError, match=r"argument 1\['bias'\] lies on 'npu', but argument 0 on 'cpu'") as e:
        add(on("cpu", 1), {"bias": on("npu", 1)})
    assert e.value.where is not None and this_line() in e.value.where
    assert e.value.hint == "move argument 1['bias'] there with to('cpu')"
    assert add(on("npu", 1), {"bias": on("npu", 1)}).tolist() == [2.0]


def test_captured_tensor_on_another_device_is_named_with_the_line(npu: Npu) -> None:
    weight = on("npu", 1)

    @fb.compile
    def apart(x: Tensor) -> tuple[Tensor, Tensor]:
        return x + x, weight + weight

    with pytest.raises(UnsupportedError, match=r"captured0 lies on 'npu', but arg\[0\] on 'cpu'") as e:
        apart(on("cpu", 1))
    line = apart.function.__code__.co_firstlineno + 2
    assert e.value.where is not None and f"test_devices.py:{line}" in e.value.where

    with pytest.raises(RuntimeError, match="Expected all tensors to be on the same device, but found at least two devices"):
        fb.compile(lambda x: x + weight)(on("cpu", 1))


def test_device_without_a_backend_is_named_with_those_there_are() -> None:
    with pytest.raises(UnsupportedError, match="no backend computes on device 'tpu'; devices are cpu") as e:
        fb.compile(lambda x: x + x)(on("tpu", 1))
    assert e.value.where is not None and this_line() in e.value.where
    assert e.value.hint is not None and "device='tpu'" in e.value.hint


GRAPH = 'graph @main {{\n  %0 = input arg "x" : f32[2]{}\n  %1 = input arg "y" : f32[2]{}\n  return %0, %1\n}}\n'


def test_graph_is_compiled_for_the_device_of_its_inputs(npu: Npu) -> None:
    assert isinstance(compile_graph(parse(GRAPH.format("@npu", "@npu"))).executable, InterpretedExecutable)
    assert isinstance(compile_graph(parse(GRAPH.format("", ""))).executable, Executable)
    with pytest.raises(UnsupportedError, match="y lies on 'npu', but x on 'cpu'"):
        compile_graph(parse(GRAPH.format("", "@npu")))


def test_device_can_be_taken_over(npu: Npu) -> None:
    other = Npu()
    register_backend("better", other, device="npu")
    assert backend_on("npu") is other


def negated(x: Tensor) -> Tensor:
    return -x


def test_copies_of_a_function_follow_the_device_too(npu: Npu) -> None:
    made = fb.compile(negated)
    for twin in (copy.deepcopy(made), pickle.loads(pickle.dumps(made)), fb.compile(made)):
        assert twin(on("npu", 1)).tolist() == [-1.0]
        assert isinstance(twin.signatures[0].compiled.executable, InterpretedExecutable)
