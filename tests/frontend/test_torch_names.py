"""PyTorch's other names for what is there: `out=`, old constructors, facts of tensors, methods that change a shape."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

import flambeau as fb
import flambeau.backends.cudnn as cudnn
from flambeau.utils.data import DataLoader


@pytest.mark.parametrize("is_compiled", [False, True])
def test_results_are_written_over_what_is_given(is_compiled: bool) -> None:
    def f(x: fb.Tensor, out: fb.Tensor, wide: fb.Tensor, values: fb.Tensor, places: fb.Tensor) -> Any:
        found = fb.exp(x, out=out)
        fb.add(x, 1, out=wide)
        fb.sort(x, out=(values, places))
        return found is out

    x, out, wide = fb.tensor([3.0, 1.0, 2.0]), fb.zeros(3), fb.zeros(3, dtype=fb.float64)
    values, places = fb.zeros(3), fb.zeros(3, dtype=fb.int64)
    assert (fb.compile(f) if is_compiled else f)(x, out, wide, values, places)
    np.testing.assert_allclose(out.numpy(), np.exp([3, 1, 2]), rtol=1e-6)
    assert wide.tolist() == [4.0, 2.0, 3.0] and values.tolist() == [1.0, 2.0, 3.0] and places.tolist() == [1, 2, 0]


def test_an_out_that_does_not_fit() -> None:
    x = fb.ones(3)
    assert fb.exp(x, out=fb.empty(0)).shape == (3,) and fb.zeros(2, 3, out=fb.empty(0)).shape == (2, 3)
    with pytest.warns(UserWarning, match="resized"):
        assert fb.exp(x, out=fb.ones(2)).shape == (3,)
    with pytest.raises(RuntimeError, match="can't be cast"):
        fb.exp(x, out=fb.ones(3, dtype=fb.int64))
    with pytest.raises(RuntimeError, match="don't support automatic differentiation"):
        fb.exp(fb.ones(3, requires_grad=True), out=fb.ones(3))
    with pytest.raises(TypeError, match="'out' must be"):
        fb.exp(x, out=3)
    with pytest.raises(fb.errors.ShapeError, match="can't change the shape"):
        fb.compile(lambda x, out: fb.exp(x, out=out))(x, fb.ones(2))


def test_old_constructors() -> None:
    assert fb.Tensor(2, 3).shape == (2, 3) and fb.Tensor([1, 2]).dtype is fb.float32 and fb.Tensor().shape == (0,)
    assert fb.LongTensor([1, 2]).tolist() == [1, 2] and fb.FloatTensor(2).shape == (2,)
    assert isinstance(fb.ones(2), fb.FloatTensor) and not isinstance(fb.ones(2), fb.LongTensor)
    assert fb.ones(2).type(fb.float64).dtype is fb.float64 and fb.ones(2, dtype=fb.int64).new(3).dtype is fb.int64
    for kind in (fb.DoubleTensor, "torch.DoubleTensor", fb.float64):
        compiled = fb.compile(lambda x, kind=kind: x.type(kind))
        assert fb.ones(2).type(kind).dtype is compiled(fb.ones(2)).dtype is fb.float64
    assert fb.arange(2).type(fb.Tensor).dtype is fb.arange(2).type("torch.Tensor").dtype is fb.float32
    fb.set_default_tensor_type(fb.DoubleTensor)
    assert fb.ones(1).dtype is fb.float64
    fb.set_default_tensor_type("torch.FloatTensor")
    with pytest.raises(TypeError, match="expected LongTensor"):
        fb.LongTensor(fb.ones(2))


def test_devices() -> None:
    device = fb.device("cuda:1")
    assert (device.type, device.index, str(device), repr(device)) == ("cuda", 1, "cuda:1", "device(type='cuda', index=1)")
    assert fb.device("cuda", 1) is device and pickle.loads(pickle.dumps(device)) is device
    assert fb.ones(2).device.type == "cpu" and isinstance(fb.ones(2).device, fb.device)
    with fb.device("cpu"):
        assert fb.ones(1).device == fb.device("cpu")
    for wrong in ("cuda:x", "tpu"):
        with pytest.raises(RuntimeError, match="device"):
            fb.device(wrong)
    with pytest.raises(fb.errors.UnsupportedError, match="not available"):
        fb.ones(2, device="cuda")
    assert not fb.cuda.is_available() and fb.cuda.device_count() == 0 and not fb.backends.mps.is_available()
    assert fb.accelerator.current_accelerator() is None and not fb.accelerator.is_available() and fb.cpu.is_available()
    with pytest.raises(RuntimeError, match="accelerator"):
        fb.accelerator.synchronize()
    with fb.cpu.amp.autocast():
        assert fb.mm(fb.ones(1, 1), fb.ones(1, 1)).dtype is fb.bfloat16


def test_flags_that_decide_nothing_can_be_set() -> None:
    cudnn.benchmark = True
    fb.use_deterministic_algorithms(True)
    assert fb.are_deterministic_algorithms_enabled()
    fb.use_deterministic_algorithms(False)
    with pytest.raises(RuntimeError, match="highest"):
        fb.set_float32_matmul_precision("best")
    assert fb.zeros(2, layout=fb.strided, pin_memory=True).clone(memory_format=fb.channels_last).layout is fb.strided
    with pytest.raises(NotImplementedError, match="strided"):
        fb.zeros(2, layout=fb.sparse_coo)
    assert DataLoader is fb.data.DataLoader


def test_tf32_is_one_setting_of_two_names() -> None:
    with fb.config.set(tf32=False):
        assert fb.get_float32_matmul_precision() == "highest" and fb.backends.cuda.matmul.allow_tf32 is False
        fb.backends.cuda.matmul.allow_tf32 = True
        assert fb.get_float32_matmul_precision() == "high"
        fb.set_float32_matmul_precision("highest")
        assert fb.backends.cuda.matmul.allow_tf32 is False
        fb.set_float32_matmul_precision("medium")
        assert (fb.get_float32_matmul_precision(), fb.backends.cuda.matmul.allow_tf32) == ("medium", True)


def test_printing() -> None:
    fb.set_printoptions(precision=2)
    assert repr(fb.tensor([1 / 3])) == "tensor([0.33])"
    fb.set_printoptions(profile="default")
    assert repr(fb.tensor([1 / 3])) == "tensor([0.3333])"


def test_facts() -> None:
    x = fb.ones(2, 3)
    assert x.is_cpu and not (x.is_sparse or x.is_quantized or x.is_xpu or x.is_meta) and x.get_device() == -1
    assert x.is_signed() and x.is_same_size(fb.zeros(2, 3)) and x.is_set_to(x) and not x.is_set_to(x.clone())
    assert x.untyped_storage().data_ptr() == x[1].untyped_storage().data_ptr() and x.storage().size() == 6
    assert fb.is_nonzero(fb.tensor(2.0)) and not fb.is_nonzero(fb.tensor(0))
    with pytest.raises(RuntimeError, match="more than one value"):
        x.is_nonzero()


@pytest.mark.parametrize("is_compiled", [False, True])
def test_methods_that_change_the_shape(is_compiled: bool) -> None:
    def f(x: fb.Tensor) -> tuple[fb.Tensor, ...]:
        y = x * 2
        y.unsqueeze_(0).transpose_(1, 2)
        y.add_(1)
        z = (x * 3).t_()
        z[0] = 0
        return y, z, x.clone().squeeze_()

    x = fb.arange(6.0).reshape(2, 3)
    y, z, same = (fb.compile(f) if is_compiled else f)(x)
    np.testing.assert_array_equal(y.numpy(), (x.numpy() * 2 + 1).T[None])
    expected = (x.numpy() * 3).T.copy()
    expected[0] = 0
    np.testing.assert_array_equal(z.numpy(), expected)
    assert same.shape == (2, 3)


def test_gradients_follow_a_shape_that_changed() -> None:
    x = fb.arange(6.0).reshape(2, 3).requires_grad_()
    y = x * 2
    y.t_()
    (y * fb.arange(6.0).reshape(3, 2)).sum().backward()
    assert x.grad is not None and x.grad.tolist() == [[0.0, 4.0, 8.0], [2.0, 6.0, 10.0]]
    with pytest.raises(RuntimeError, match="leaf"):
        x.t_()
    with pytest.raises(fb.errors.TraceError, match="unsqueeze_"):
        fb.compile(lambda x: x.unsqueeze_(0))(fb.ones(2))


def test_resizing() -> None:
    x = fb.arange(6.0)
    y = x[:2]
    assert x.resize_(2, 3).tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]] and y.tolist() == [0.0, 1.0]
    assert x.resize_(2).tolist() == [0.0, 1.0] and x.resize_(3, 1).shape == (3, 1)
    assert x.resize_as_(fb.ones(2, 2)).shape == (2, 2) and x.set_(fb.ones(4)).tolist() == [1.0] * 4


def test_functions_in_place_and_copies_of_views() -> None:
    x = fb.tensor([-1.0, 4.0])
    assert fb.abs_(x) is x and fb.sqrt_(x).tolist() == [1.0, 2.0]
    y = fb.ones(2, 3)
    fb.unsqueeze_copy(y, 0).zero_(), fb.slice_copy(y, 1, 0, 2).zero_(), fb.view_copy(y, (3, 2)).zero_()
    assert y.sum().item() == 6 and [t.shape for t in fb.split_copy(y, 1)] == [(1, 3)] * 2
    assert [t.shape[1] for t in y.split_with_sizes([1, 2], 1)] == [1, 2]
    assert fb.ones(2, 3, 4).sum_to_size(3, 1).tolist() == [[8.0]] * 3


def test_what_is_missing_says_so() -> None:
    assert not hasattr(fb, "sparse_coo_tensor") and not hasattr(fb.ones(1), "to_sparse")
    with pytest.raises(NotImplementedError, match="sparse_coo_tensor"):
        fb.sparse_coo_tensor
    with pytest.raises(NotImplementedError, match="to_sparse"):
        fb.ones(1).to_sparse()


def test_close_or_not() -> None:
    close = fb.testing.assert_close
    close(fb.ones(2), fb.ones(2) + 1e-7)
    close({"a": [1.0, fb.zeros(1)]}, {"a": [1.0, fb.zeros(1)]})
    for actual, expected, match in ((fb.ones(2), fb.ones(3), "shape"), (fb.ones(1), fb.ones(1).double(), "dtype"),
                                    (fb.ones(2), fb.tensor([1.0, 2.0]), "1 / 2"), ([1], [1, 2], "length")):
        with pytest.raises(AssertionError, match=match):
            close(actual, expected)
