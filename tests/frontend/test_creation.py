"""Tensors from data and from nothing; dtypes, devices, NumPy."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from against_torch import check, ours, theirs

import flambeau as fb


def test_from_numpy_shares_memory_whatever_the_strides() -> None:
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    for view in (array, array.T, array[::2, 1:], array[::-1]):
        t = fb.from_numpy(view)
        t.add_(1)
        assert np.shares_memory(t.numpy(), array) and np.array_equal(t.numpy(), view)
    before = array.copy()
    fb.from_numpy(array.T)[1].mul_(2)
    assert np.array_equal(array[:, 1], before[:, 1] * 2)


@pytest.mark.parametrize(("data", "dtype"), [([1, 300], fb.uint8), (-129, fb.int8), ([[2**31]], fb.int32),
                                             (2**63, None), ([0, -256], fb.uint8), (2**63, fb.int64)])
def test_integers_that_do_not_fit_raise(data: Any, dtype: Any) -> None:
    with pytest.raises(RuntimeError, match="range"):
        fb.tensor(data, dtype=dtype)


def test_integers_that_fit_and_arrays_are_taken() -> None:
    assert fb.tensor([255, -1], dtype=fb.uint8).tolist() == [255, 255]      # negative ones wrap, as in PyTorch
    assert fb.tensor(2**63, dtype=fb.uint64).item() == 2**63
    assert fb.tensor([], dtype=fb.int8).shape == (0,) and fb.tensor([300], dtype=fb.float16).item() == 300
    assert fb.tensor(np.array([300]), dtype=fb.uint8).tolist() == [44]


def test_constants_have_pytorchs_names() -> None:
    assert fb.tensor([fb.inf, -fb.inf, fb.nan]).isfinite().any().item() is False
    assert 3.14 < fb.pi < 3.15 and 2.71 < fb.e < 2.72


def test_tensor_copies_and_as_tensor_shares() -> None:
    array = np.ones(3, np.float32)
    copied, shared = fb.tensor(array), fb.as_tensor(array)
    array[0] = 5
    assert copied.tolist() == [1, 1, 1] and shared.tolist() == [5, 1, 1]
    assert fb.as_tensor(copied) is copied and fb.as_tensor(array, dtype=fb.float64).dtype is fb.float64


def test_from_numpy_refuses_what_has_no_dtype() -> None:
    for bad in (np.zeros(2, np.clongdouble), np.array(["a"]), np.zeros(2, np.uint16), [1, 2]):
        with pytest.raises(TypeError):
            fb.from_numpy(bad)
    with pytest.raises(TypeError):
        fb.tensor(["a"])
    with pytest.raises(ValueError):
        fb.tensor([[1, 2], [3]])


def test_read_only_arrays_are_not_written() -> None:
    array = np.zeros(3, np.float32)
    array.flags.writeable = False
    with pytest.raises(RuntimeError):
        fb.from_numpy(array).add_(1)


def test_numpy_gives_a_view_and_bfloat16_a_float32_copy() -> None:
    t = fb.zeros(2)
    t.numpy()[0] = 3
    assert t.tolist() == [3, 0]
    assert fb.ones(2, dtype=fb.bfloat16).numpy().dtype == np.float32
    assert np.asarray(fb.ones(2)).tolist() == [1, 1]


def test_results_own_writable_memory() -> None:
    for t in (
        fb.full((), 2.0),
        fb.zeros(3),
        fb.ones(2, 2),
        fb.arange(3),
        fb.eye(2),
        fb.zeros(2) + 1,
        fb.tensor(1.0),
    ):
        t.add_(1)
    assert fb.zeros(2).tolist() == [0, 0] and fb.full((), 2.0).item() == 2.0


def test_default_dtype_is_followed_and_restored() -> None:
    try:
        fb.set_default_dtype(fb.float64)
        assert fb.tensor([1.0]).dtype is fb.zeros(1).dtype is fb.rand(1).dtype is fb.float64
        assert (fb.tensor([1]) / 2).dtype is fb.float64
    finally:
        fb.set_default_dtype(fb.float32)
    with pytest.raises(TypeError):
        fb.set_default_dtype(fb.int64)


def test_devices_other_than_the_cpu_are_refused() -> None:
    x = fb.ones(2)
    assert x.to("cpu") is x and x.cpu() is x and x.device == "cpu"
    for ask in (lambda: x.to("cuda"), lambda: fb.zeros(2, device="cuda:0"), lambda: x.cuda()):
        with pytest.raises(NotImplementedError, match="cuda"):
            ask()


def test_printing_follows_pytorch() -> None:
    assert repr(fb.tensor([1, 2])) == "tensor([1, 2])"
    assert "requires_grad=True" in repr(fb.ones(2, requires_grad=True))
    assert "dtype=flambeau.float64" in repr(fb.ones(2, dtype=fb.float64))
    assert f"{fb.tensor(2.5):.2f}" == "2.50"


def test_tensors_are_compared_by_element_but_hashed_by_identity() -> None:
    x, y = fb.tensor([1, 2]), fb.tensor([1, 3])
    assert (x == y).tolist() == [True, False] and {x: 1}[x] == 1
    assert (x == None) is False and (x != "a") is True  # noqa: E711
    assert 2 in x and 7 not in x


def test_import_is_light() -> None:
    """Neither numba nor llvmlite is imported before something is compiled, nor nn and optim before they are used."""
    code = (
        "import sys, flambeau; "
        "print([m for m in ('numba', 'llvmlite', 'flambeau.nn', 'flambeau.optim', 'scipy', 'torch') if m in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert found.stdout.strip() == "[]"


def test_unknown_attribute_of_the_package_is_named() -> None:
    with pytest.raises(AttributeError, match="no_such_thing"):
        _ = fb.no_such_thing
    assert {"compile", "nn", "Tensor", "zeros"} <= set(dir(fb))


# -- against PyTorch --------------------------------------------------------------------------------------------------


@pytest.mark.torch
@pytest.mark.parametrize(
    "data",
    [
        1,
        2.5,
        True,
        [1, 2],
        [1.5, 2],
        [[True], [False]],
        [],
        [[]],
        (1, (2,))[0],
        2**40,
        np.float64(3),
        np.ones((2, 2), np.float16),
        [np.float32(1)],
    ],
    ids=str,
)
def test_tensor_infers_dtypes_alike(data: Any) -> None:
    a, b = fb.tensor(data), theirs().tensor(data)
    assert (
        a.dtype.torch_name == str(b.dtype)[6:]
        and tuple(a.shape) == tuple(b.shape)
        and a.tolist() == b.tolist()
    )


@pytest.mark.torch
@pytest.mark.parametrize(
    "make",
    [
        lambda lib: lib.zeros(2, 3),
        lambda lib: lib.ones((2, 3), dtype=lib.int64),
        lambda lib: lib.full((2,), 3.5),
        lambda lib: lib.full((2,), 3),
        lambda lib: lib.full((), True),
        lambda lib: lib.eye(3),
        lambda lib: lib.eye(2, 4, dtype=lib.int32),
        lambda lib: lib.arange(5),
        lambda lib: lib.arange(1, 10, 3),
        lambda lib: lib.arange(0, 1, 0.1),
        lambda lib: lib.arange(5, 0, -2),
        lambda lib: lib.arange(3.0),
        lambda lib: lib.arange(3, dtype=lib.float16),
        lambda lib: lib.arange(0),
        lambda lib: lib.linspace(0, 1, 7),
        lambda lib: lib.linspace(-3, 3, 1),
        lambda lib: lib.logspace(0, 2, 3),
        lambda lib: lib.zeros_like(lib.ones(2, dtype=lib.int64)),
        lambda lib: lib.ones_like(lib.ones(2), dtype=lib.float64),
        lambda lib: lib.full_like(lib.ones(2, 2), 7),
        lambda lib: lib.zeros(0, 3),
        lambda lib: lib.ones(2, dtype=lib.float64).new_zeros(3),
        lambda lib: lib.ones(2).new_full((1,), 4),
        lambda lib: lib.ones(2).new_tensor([1, 2]),
        lambda lib: lib.ones(2).new_ones((2, 2), dtype=lib.int64),
        lambda lib: lib.tensor([1.7, -1.7, 300.0]).to(lib.int64),
        lambda lib: lib.tensor([1, 0, 2]).bool(),
        lambda lib: lib.tensor([1.5]).half().double(),
        lambda lib: lib.tensor([1.2345678]).bfloat16(),
        lambda lib: lib.tensor([300, -1]).to(lib.uint8),
        lambda lib: lib.tensor([1, 2]).to(lib.ones(1)),
        lambda lib: lib.tensor(2**31).int(),
        lambda lib: lib.tensor([1, 2]).type_as(lib.ones(1, dtype=lib.float64)),
        lambda lib: lib.tensor([1.0, 2.0], dtype=lib.int32),
    ],
)
def test_creation_agrees(make: Callable[..., Any]) -> None:
    check(lambda lib: make(lib), gradients=False)


@pytest.mark.torch
@pytest.mark.parametrize(
    ("case", "error"),
    [
        (lambda lib: lib.zeros(-1), RuntimeError),
        (lambda lib: lib.zeros(2.5), TypeError),
        (lambda lib: lib.arange(0, 5, 0), RuntimeError),
        (lambda lib: lib.arange(5, 0), RuntimeError),
        (lambda lib: lib.ones(2).size(3), IndexError),
        (lambda lib: lib.Tensor.no, AttributeError),
    ],
)
def test_errors_have_pytorchs_types(case: Callable[..., Any], error: Any) -> None:
    with pytest.raises(error):
        case(theirs())
    with pytest.raises(error):
        case(ours)


@pytest.mark.torch
def test_limits_of_dtypes_agree() -> None:
    torch = theirs()
    for name in ("float16", "bfloat16", "float32", "float64"):
        a, b = fb.finfo(getattr(fb, name)), torch.finfo(getattr(torch, name))
        assert (a.eps, a.max, a.min, a.tiny, a.bits) == (b.eps, b.max, b.min, b.tiny, b.bits)
    for name in ("int8", "int64", "uint8"):
        a, b = fb.iinfo(getattr(fb, name)), torch.iinfo(getattr(torch, name))
        assert (a.max, a.min, a.bits) == (b.max, b.min, b.bits)
