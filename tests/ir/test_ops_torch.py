"""Meanings and derivatives of the larger ops against PyTorch."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from op_harness import gradients, new_graph

from flambeau.ir import dtypes, ops
from flambeau.ir.graph.interpreter import interpret
from flambeau.ir.op import OPS, Op
from flambeau.ir.types import TensorType

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch


def with_gradients(op: Op, arrays: list[np.ndarray], weight: np.ndarray) -> list[np.ndarray]:
    """[first result, gradient by each operand] of sum(weight * op(arrays)), in f64."""
    b, inputs = new_graph([TensorType(a.shape, dtypes.f64) for a in arrays])
    results = b.emit(op, *inputs)
    y = results[0] if isinstance(results, tuple) else results
    loss = b.sum(b.mul(y, b.constant(weight, dtypes.f64)), range(len(y.shape)))
    b.graph.outputs = [y, *gradients(b, loss, inputs)]
    return list(interpret(b.graph, arrays)[0])


def torch_with_gradients(function: Any, arrays: list[np.ndarray]) -> tuple[list[np.ndarray], np.ndarray]:
    """The same of a torch function, and the weight it used. Of some it has no derivative: then the result alone."""
    operands = [torch.tensor(a, requires_grad=True) for a in arrays]
    y = function(*operands)
    weight = np.random.default_rng(3).standard_normal(tuple(y.shape))
    if not y.requires_grad:
        return [y.numpy()], weight
    (y * torch.tensor(weight)).sum().backward()
    return [y.detach().numpy(), *[x.grad.numpy() for x in operands]], weight


def assert_same(op: Op, function: Any, *shapes: tuple[int, ...], transposed: bool = False) -> None:
    rng = np.random.default_rng(sum(map(sum, shapes)))
    arrays = [rng.standard_normal(shape) for shape in shapes]
    expected, weight = torch_with_gradients(function, arrays)
    if transposed:          # the op works channels last; torch's arrays are channels first
        arrays[0], weight = np.moveaxis(arrays[0], 1, -1), np.moveaxis(weight, 1, -1)
        expected[:2] = [np.moveaxis(x, 1, -1) for x in expected[:2]]
        arrays[1:] = [np.moveaxis(w, (0, 1), (-1, -2)) for w in arrays[1:]]
        expected[2:] = [np.moveaxis(w, (0, 1), (-1, -2)) for w in expected[2:]]
    for found, wanted in zip(with_gradients(op, arrays, weight), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize(("x", "w", "stride", "padding", "dilation", "groups"), [
    ((2, 3, 9, 8), (4, 3, 3, 2), (1, 1), (0, 0), (1, 1), 1),
    ((1, 4, 9, 11), (6, 2, 3, 3), (2, 3), (1, 2), (1, 1), 2),
    ((2, 6, 7, 7), (6, 1, 3, 3), (1, 1), (1, 1), (1, 1), 6),
    ((1, 3, 12, 12), (2, 3, 3, 3), (2, 1), (2, 2), (2, 3), 1),
])
def test_convolution(layout: str, x: Any, w: Any, stride: Any, padding: Any, dilation: Any, groups: int) -> None:
    op = ops.Conv2d(stride, ((padding[0],) * 2, (padding[1],) * 2), dilation, groups, layout)
    assert_same(op, lambda x, w: torch.nn.functional.conv2d(x, w, None, stride, padding, dilation, groups), x, w,
                transposed=layout == "NHWC")


@pytest.mark.parametrize("layout", ["NCDHW", "NDHWC"])
@pytest.mark.parametrize(("x", "w", "stride", "padding", "dilation", "groups"), [
    ((2, 3, 5, 6, 4), (4, 3, 2, 3, 2), (1, 1, 1), (0, 0, 0), (1, 1, 1), 1),
    ((1, 4, 6, 5, 8), (6, 2, 2, 3, 3), (2, 1, 3), (1, 2, 0), (1, 2, 1), 2),
])
def test_convolution_of_volumes(layout: str, x: Any, w: Any, stride: Any, padding: Any, dilation: Any,
                                groups: int) -> None:
    op = ops.Conv3d(stride, tuple([(p, p) for p in padding]), dilation, groups, layout)
    assert_same(op, lambda x, w: torch.nn.functional.conv3d(x, w, None, stride, padding, dilation, groups), x, w,
                transposed=layout == "NDHWC")


POOLS = [
    # x, kernel, stride, padding, ceil_mode
    ((2, 3, 8, 6), (2, 2), (2, 2), (0, 0), False),
    ((1, 2, 9, 7), (3, 3), (2, 2), (1, 1), False),
    ((1, 2, 8, 9), (3, 2), (2, 2), (1, 0), True),
    ((1, 2, 7, 7), (3, 3), (3, 2), (1, 1), True),
    ((1, 1, 11, 11), (5, 5), (1, 2), (2, 2), False),
    ((1, 1, 5, 6), (2, 2), (3, 3), (1, 1), True),
]


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize(("x", "kernel", "stride", "padding", "ceil_mode"), POOLS)
@pytest.mark.parametrize("dilation", [(1, 1), (2, 1)])
def test_max_pool(layout: str, x: Any, kernel: Any, stride: Any, padding: Any, ceil_mode: bool, dilation: Any) -> None:
    op = ops.MaxPool2d(kernel, stride, ((padding[0],) * 2, (padding[1],) * 2), dilation, layout, ceil_mode)
    pool = torch.nn.functional.max_pool2d
    assert_same(op, lambda x: pool(x, kernel, stride, padding, dilation, ceil_mode), x, transposed=layout == "NHWC")
    if layout == "NCHW":
        image = np.random.default_rng(0).standard_normal(x)
        _, expected = pool(torch.tensor(image), kernel, stride, padding, dilation, ceil_mode, return_indices=True)
        np.testing.assert_array_equal(op.evaluate(image)[1], expected.numpy())


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize(("x", "kernel", "stride", "padding", "ceil_mode"), POOLS)
@pytest.mark.parametrize(("include", "divisor"), [(True, None), (False, None), (True, 5)])
def test_avg_pool(layout: str, x: Any, kernel: Any, stride: Any, padding: Any, ceil_mode: bool, include: bool,
                  divisor: int | None) -> None:
    op = ops.AvgPool2d(kernel, stride, ((padding[0],) * 2, (padding[1],) * 2), ceil_mode, include, divisor, layout)
    assert_same(op, lambda x: torch.nn.functional.avg_pool2d(x, kernel, stride, padding, ceil_mode, include, divisor),
                x, transposed=layout == "NHWC")


def test_softmax_and_normalize() -> None:
    assert_same(ops.Softmax(1), lambda x: torch.softmax(x, 1), (3, 7))
    assert_same(ops.LogSoftmax(0), lambda x: torch.log_softmax(x, 0), (5, 2))
    assert_same(ops.Normalize((1, 2), 1e-5), lambda x: torch.nn.functional.layer_norm(x, x.shape[1:]), (3, 4, 5))


UNARY = {"gelu_tanh": lambda x: torch.nn.functional.gelu(x, approximate="tanh"), "gelu": torch.nn.functional.gelu,
         "silu": torch.nn.functional.silu, "root": torch.sqrt}
WITHOUT_DERIVATIVE = {f"{name}{n}" for n in (0, 1) for name in (
    "bessel_j", "bessel_y", "modified_bessel_k", "scaled_modified_bessel_k")} | {"spherical_bessel_j0"}
ROUGH = {"digamma": 1e-8}          # PyTorch's trigamma has nine digits


@pytest.mark.parametrize("name", [n for n, op in OPS.items() if isinstance(op, ops.Elementwise) and op.arity == 1
                                  and any(op.partials)])
def test_elementwise_of_one_operand(name: str) -> None:
    op, function = OPS[name], UNARY.get(name) or getattr(torch, name, None) or getattr(torch.special, name)
    sample = next(s for s in op.samples() if s.types[0].dtype is dtypes.f64)
    expected, weight = torch_with_gradients(function, [sample.operands[0]])
    assert isinstance(op, Op)
    assert len(expected) == 2 or name in WITHOUT_DERIVATIVE
    found = with_gradients(op, [sample.operands[0]], weight)[:len(expected)]
    for ours, wanted, rtol in zip(found, expected, (1e-11, ROUGH.get(name, 1e-11))[:len(expected)], strict=True):
        np.testing.assert_allclose(ours, wanted, rtol=rtol, atol=1e-13)


@pytest.mark.parametrize("name", ["add", "sub", "mul", "div", "remainder", "fmod", "pow", "maximum",
                                  "minimum", "atan2"])
def test_elementwise_of_two_operands(name: str) -> None:
    op = OPS[name]
    assert isinstance(op, Op)
    sample = next(s for s in op.samples() if s.types[0].dtype is dtypes.f64)
    arrays = list(sample.operands)
    expected, weight = torch_with_gradients(getattr(torch, name), arrays)
    for found, wanted in zip(with_gradients(op, arrays, weight), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("name", ["sign", "relu", "floor", "round", "exp", "log", "sqrt", "rsqrt", "tanh", "sigmoid",
                                  "erf", "atan", "asinh", "log1p", "expm1", "trunc", "abs", "isnan", "isinf", "lgamma"])
def test_special_values(name: str) -> None:
    x = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 1e300, -1e300, 1.7e308, -1.7e308])
    np.testing.assert_allclose(OPS[name].evaluate(x), getattr(torch, name)(torch.tensor(x)).numpy(), rtol=1e-14)


@pytest.mark.parametrize("name", ["remainder", "fmod", "floor_divide", "pow", "maximum",
                                  "minimum", "atan2"])
def test_special_values_of_two_operands(name: str) -> None:
    one = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 2.5, -2.5])
    x, y = (np.ascontiguousarray(a).ravel() for a in np.meshgrid(one, one))
    expected = getattr(torch, name)(torch.tensor(x), torch.tensor(y)).numpy()
    found = np.asarray(OPS[name].evaluate(x, y))
    differ = ~((found == expected) | (np.isnan(found) & np.isnan(expected)) | np.isclose(found, expected, rtol=1e-14))
    assert not differ.any(), [(a, b, f, e) for a, b, f, e in zip(x[differ], y[differ], found[differ], expected[differ],
                                                                 strict=True)]
