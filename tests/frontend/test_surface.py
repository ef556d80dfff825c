"""Names, keywords and forms of call, as PyTorch users write them."""

from __future__ import annotations

import importlib
import inspect
import re
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import flambeau as fb
import flambeau.nn.functional as F

x = fb.arange(6.0).reshape(2, 3)
i = fb.tensor([1, 0])

SAME: list[tuple[Callable[[], Any], Callable[[], Any]]] = [
    (lambda: x.sum(axis=0), lambda: x.sum(0)),
    (lambda: x.sum(0, keepdims=True), lambda: x.sum(0, keepdim=True)),
    (lambda: fb.sum(input=x, axis=(0, 1)), lambda: x.sum()),
    (lambda: x.mean(axis=1, keepdims=True), lambda: x.mean(1, True)),
    (lambda: x.max(axis=1).values, lambda: x.max(1).values),
    (lambda: x.argmax(axis=1), lambda: x.argmax(1)),
    (lambda: x.softmax(axis=1), lambda: x.softmax(1)),
    (lambda: F.softmax(x, axis=1), lambda: x.softmax(1)),
    (lambda: x.cumsum(axis=1), lambda: x.cumsum(1)),
    (lambda: x.std(axis=1), lambda: x.std(1)),
    (lambda: x.unsqueeze(axis=0), lambda: x[None]),
    (lambda: x[None].squeeze(axis=0), lambda: x),
    (lambda: fb.cat([x, x], axis=1), lambda: fb.cat([x, x], 1)),
    (lambda: fb.stack([x, x], axis=1), lambda: fb.stack([x, x], 1)),
    (lambda: x.index_select(axis=0, index=i), lambda: x.index_select(0, i)),
    (lambda: x.swapaxes(axis0=0, axis1=1), lambda: x.T),
    (lambda: x.flip(dims=(0,)), lambda: x.flip(0)),
    (lambda: fb.flip(x, dims=[0, 1]), lambda: x.flip(0, 1)),
    (lambda: x.permute(dims=(1, 0)), lambda: x.permute(1, 0)),
    (lambda: x.permute([1, 0]), lambda: x.permute(1, 0)),
    (lambda: x.reshape(shape=(3, 2)), lambda: x.reshape(3, 2)),
    (lambda: x.view(size=[3, 2]), lambda: x.view(3, 2)),
    (lambda: x.repeat(repeats=(2, 1)), lambda: x.repeat(2, 1)),
    (lambda: x.tile(dims=(2,)), lambda: x.tile(2)),
    (lambda: x[:1].expand(size=(4, -1)), lambda: x[:1].expand(4, -1)),
    (lambda: fb.zeros(size=(2,)), lambda: fb.zeros(2)),
    (lambda: fb.zeros([2]), lambda: fb.zeros(2)),
    (lambda: fb.zeros(x.shape), lambda: fb.zeros(2, 3)),
    (lambda: fb.ones(2, dtype=None), lambda: fb.ones(2)),
    (lambda: x.new_zeros(size=(2,)), lambda: fb.zeros(2)),
    (lambda: fb.arange(end=3), lambda: fb.arange(3)),
    (lambda: fb.arange(start=1, end=3), lambda: fb.arange(1, 3)),
    (lambda: fb.full(size=(2,), fill_value=3), lambda: fb.full((2,), 3)),
    (lambda: x.add(other=2), lambda: x + 2),
    (lambda: fb.add(input=x, other=2), lambda: x + 2),
    (lambda: fb.diag_embed(x, dim1=0, dim2=2), lambda: fb.diag_embed(x).permute(1, 0, 2)),
    (lambda: x.to(float), lambda: x.to(fb.float64)),
    (lambda: x.to(dtype=int), lambda: x.to(fb.int64)),
    (lambda: x.type(fb.float64), lambda: x.to(fb.float64)),
    (lambda: x.type("torch.DoubleTensor"), lambda: x.to(fb.float64)),
    (lambda: x.sum(dtype=float), lambda: x.sum(dtype=fb.float64)),
    (lambda: fb.tensor([1, 0], dtype=bool), lambda: fb.tensor([True, False])),
    (lambda: x.new_tensor([1], dtype=int), lambda: fb.tensor([1])),
]


@pytest.mark.parametrize("number", range(len(SAME)))
def test_forms_of_call_that_mean_the_same(number: int) -> None:
    spelled, plain = SAME[number]
    for run in (spelled, fb.compile(spelled)):
        found, wanted = run(), plain()
        assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
        np.testing.assert_allclose(found.tolist(), wanted.tolist(), rtol=1e-6)


@pytest.mark.parametrize(("python", "dtype"), [(float, fb.float64), (int, fb.int64), (bool, fb.bool)])
def test_python_types_are_dtypes_wherever_one_is_taken(python: Any, dtype: fb.dtype) -> None:
    made = [fb.ones(2, dtype=python), fb.zeros_like(x, dtype=python), fb.full((2,), 1, dtype=python),
            fb.eye(2, dtype=python), x.to(python), fb.as_tensor([1], dtype=python), fb.as_tensor([1], python),
            x.new_full((2,), 1, python), fb.asarray([1], dtype=python)]
    assert [t.dtype for t in made] == [dtype] * len(made)
    assert fb.nn.Linear(2, 2).to(float).weight.dtype is fb.float64
    assert fb.nn.Linear(2, 2, dtype=float).weight.dtype is fb.float64


@pytest.mark.parametrize("wrong", ["float32", np.float32, np.dtype("float32"), 3, complex])
def test_other_types_are_no_dtypes(wrong: Any) -> None:
    for function in (lambda: fb.zeros(2, dtype=wrong), lambda: x.sum(dtype=wrong), lambda: x.to(dtype=wrong),
                     lambda: fb.tensor([1], dtype=wrong), lambda: x.new_zeros(2, dtype=wrong)):
        with pytest.raises(TypeError, match="argument 'dtype' must be a flambeau dtype"):
            function()


def test_a_tensor_names_its_type() -> None:
    assert x.type() == "flambeau.FloatTensor" and fb.tensor(1).type() == "flambeau.LongTensor"
    with pytest.raises(ValueError, match="invalid type"):
        x.type("no such")


def test_view_of_another_dtype_shares_memory() -> None:
    t = fb.tensor([1.0, -2.0])
    bits = t.view(fb.int32)
    assert bits.tolist() == [1065353216, -1073741824]
    bits[0] = 0
    assert t.tolist() == [0.0, -2.0]
    assert t.view(fb.int16).shape == (4,) and fb.zeros(2, 4, dtype=fb.int16).view(dtype=fb.int32).shape == (2, 2)
    assert t.view(fb.bfloat16).shape == (4,) and t.view(t.dtype).tolist() == t.tolist()
    with pytest.raises(RuntimeError, match="don't divide"):
        fb.zeros(2, 3, dtype=fb.int16).view(fb.int32)
    with pytest.raises(fb.errors.UnsupportedError, match=r"view\(dtype\)"):
        fb.compile(lambda t: t.view(fb.int32))(t)


def test_sort_takes_an_axis() -> None:
    assert x.sort(axis=1, descending=True).indices.tolist() == [[2, 1, 0]] * 2


def test_randint_takes_its_size_by_name() -> None:
    assert fb.randint(5, size=(2,)).shape == (2,) and fb.randint(5, (2,)).shape == (2,)
    assert fb.randint(3, 5, size=(2, 2)).min().item() >= 3
    assert fb.randint(high=5, low=4, size=(3,)).tolist() == [4, 4, 4]
    with pytest.raises(TypeError, match="'size' is missing"):
        fb.randint(5)


def test_devices_other_than_the_cpu_are_refused_by_name() -> None:
    layer = fb.nn.Linear(2, 2)
    assert layer.cpu() is layer and layer.to("cpu") is layer
    for function in (lambda: layer.cuda(), lambda: layer.to("cuda"), lambda: x.cuda(), lambda: x.to("cuda:0"),
                     lambda: fb.zeros(2, device="cuda"), lambda: fb.nn.Linear(2, 2, device="cuda")):
        with pytest.raises(fb.errors.UnsupportedError, match="'cuda"):
            function()


# -- index tensors ----------------------------------------------------------------------------------------------------


def _both(function: Callable[..., fb.Tensor], *args: Any) -> Any:
    eager, compiled = function(*args), fb.compile(function)(*args)
    assert eager.tolist() == compiled.tolist() and eager.shape == compiled.shape
    return eager.tolist()


def test_0d_index_tensors_count_as_one_index() -> None:
    k = fb.tensor(1)
    v = fb.tensor([10.0, 20.0, 30.0])
    assert _both(lambda v, k: v.index_select(0, k), v, k) == [20.0]
    assert _both(lambda x, k: x.index_select(1, k), x, k) == [[1.0], [4.0]]
    assert _both(lambda v, k: v.gather(0, k), v, k) == 20.0
    assert _both(lambda v, k: v.index_add(0, k, fb.tensor([5.0])), v, k) == [10.0, 25.0, 30.0]
    assert _both(lambda v, k: v.index_fill(0, k, 0.5), v, k) == [10.0, 0.5, 30.0]
    assert _both(lambda v, k: v.index_copy(0, k, fb.tensor([5.0])), v, k) == [10.0, 5.0, 30.0]
    assert _both(lambda v, k: v.scatter(0, k, 7.0), v, k) == [10.0, 7.0, 30.0]
    assert _both(lambda v, k: v.scatter_add(0, k, fb.tensor(7.0)), v, k) == [10.0, 27.0, 30.0]
    s = fb.tensor(3.0)
    assert _both(lambda s: s.index_select(0, fb.tensor([0])), s) == 3.0
    assert _both(lambda s: s.gather(0, fb.tensor([0, 0])), s) == [3.0, 3.0]
    assert _both(lambda s: s.index_fill(0, fb.tensor([0]), 4.0), s) == 4.0
    assert _both(lambda s: s.index_add(0, fb.tensor([0]), fb.tensor(4.0)), s) == 7.0
    assert _both(lambda s: s.scatter(0, fb.tensor(0), 4.0), s) == 4.0


def test_negative_indices_count_from_the_end_in_take_along_dim() -> None:
    assert _both(lambda x: fb.take_along_dim(x, fb.tensor([[-1], [-3]]), 1), x) == [[2.0], [3.0]]
    assert _both(lambda x: fb.take_along_dim(x, fb.tensor([-1, 0])), x) == [5.0, 0.0]


def test_an_empty_index_changes_nothing() -> None:
    def put(x: fb.Tensor, at: fb.Tensor) -> fb.Tensor:
        x = x.clone()
        x[at] = 5.0
        return x

    nothing = fb.zeros(0, dtype=fb.int64)
    assert _both(put, fb.zeros(3), nothing) == [0.0] * 3
    assert _both(put, fb.zeros(2, 2), nothing) == [[0.0, 0.0]] * 2
    assert _both(lambda x, at: x.index_put((at,), fb.zeros(0)), fb.ones(3), nothing) == [1.0] * 3
    assert _both(lambda x, at: x.index_copy(0, at, fb.zeros(0)), fb.ones(3), nothing) == [1.0] * 3
    assert _both(lambda x, at: x.scatter(0, at, fb.zeros(0)), fb.ones(3), nothing) == [1.0] * 3


def test_a_number_assigned_by_a_mask_over_the_leading_dims_traces() -> None:
    def pad(x: fb.Tensor, mask: fb.Tensor) -> fb.Tensor:
        x = x.clone()
        x[mask] = 0.0
        return x

    mask = fb.tensor([[True, False, True], [False, False, True]])
    assert np.sum(_both(pad, fb.ones(2, 3, 4), mask)) == 12
    assert np.sum(_both(pad, fb.ones(2, 3), mask)) == 3
    assert np.sum(_both(pad, fb.ones(2, 3, 4), fb.tensor([True, False]))) == 12


# -- fb.compile -------------------------------------------------------------------------------------------------------


def test_compile_takes_what_torch_compile_takes_and_says_what_means_nothing() -> None:
    with pytest.warns(UserWarning, match="compile: mode='max-autotune' means nothing here"):
        f = fb.compile(lambda t: t + 1, mode="max-autotune")
    assert f(x).tolist() == (x + 1).tolist()
    with pytest.warns(UserWarning, match="backend='inductor'"):
        f = fb.compile(lambda t: t + 1, backend="inductor")
    assert f(x).tolist() == (x + 1).tolist()
    f = fb.compile(lambda t: t + 1, fullgraph=True, mode="default", dynamic=False, options=None)      # as it is anyway
    assert f(x).tolist() == (x + 1).tolist()
    plain = fb.compile(lambda t: t + 1, disable=True)
    assert plain(x).tolist() == (x + 1).tolist() and not hasattr(plain, "signatures")
    assert fb.compile(model=fb.nn.Linear(3, 1))(x).shape == (2, 1)
    with pytest.raises(TypeError, match="compile"):
        fb.compile(lambda t: t, unknown=1)
    with pytest.raises(TypeError, match="expected a function or a Module, got Tensor"):
        fb.compile(x)


def test_the_limit_names_what_changed_last() -> None:
    sized = fb.compile(lambda t: t * 2, recompile_limit=3, dynamic=False)
    with pytest.raises(fb.errors.UnsupportedError) as caught:
        for n in range(5):
            sized(fb.ones(n + 1))
    assert "shapes" in caught.value.hint and "numbers" not in caught.value.hint
    looked_at = fb.compile(lambda t, n: t if n > 0 else -t, recompile_limit=3)
    with pytest.raises(fb.errors.UnsupportedError) as caught:
        for n in range(5):
            looked_at(fb.ones(1), n + 1)
    assert "looks at the number" in caught.value.hint
    scale = 0.0
    named = fb.compile(lambda t: t * scale, recompile_limit=3)
    with pytest.raises(fb.errors.UnsupportedError) as caught:
        for n in range(5):
            scale = float(n)
            named(fb.ones(1))
    assert "as an argument" in caught.value.hint
    config = {"scale": 0.0}
    held = fb.compile(lambda t: t * config["scale"], recompile_limit=3)
    with pytest.raises(fb.errors.UnsupportedError) as caught:
        for n in range(5):
            config["scale"] = -float(n)
            held(fb.ones(1))
    assert "as an argument" in caught.value.hint


# -- signatures -------------------------------------------------------------------------------------------------------

OTHERWISE = {"out", "layout", "pin_memory", "memory_format", "names", "async", "_stacklevel", "sparse_grad", "output_size"}
"""What these functions don't take anywhere: places for results, layouts, and what PyTorch keeps for itself."""

UNKNOWN = {
    "compile": {"name", "isolate_recompiles", "shapes_spec"}, "interpolate": {"recompute_scale_factor", "antialias"},
    "huber_loss": {"weight"}, "l1_loss": {"weight"}, "softmin": {"dtype"}, "result_type": {"tensor1", "tensor2"},
    "true_divide": {"dividend", "divisor"}, "squeeze": {"List]]"}, "set_num_threads": {"int"},
    "broadcast_to": {"shape"}, "concatenate": {"axis"}, "asarray": {"device"}, "searchsorted": {"values"},
    "eig": {"self", "eigenvectors", "e", "v"}, "lstsq": {"input", "A"}, "matrix_rank": {"input", "tol", "symmetric"},
    "solve": {"input", "A"}, "symeig": {"input", "eigenvectors", "upper"}, "matrix_exp": {"A"}, "orgqr": {"tau"},
    "ormqr": {"tau", "other"}, "qr": {"Tuple", "List"},
}


@pytest.mark.torch
@pytest.mark.parametrize("module", ["fb", "F"])
def test_functions_take_the_keywords_of_pytorchs(module: str) -> None:
    import torch

    ours, theirs = (fb, torch) if module == "fb" else (F, torch.nn.functional)
    missing = []
    for name in dir(ours):
        function, other = getattr(ours, name), getattr(theirs, name, None)
        if not isinstance(function, types.FunctionType) or other is None or name.startswith("_"):
            continue
        mine = set(inspect.signature(function).parameters)
        wanted = [p for p in _parameters(other) if p not in mine | OTHERWISE | UNKNOWN.get(name, set())]
        missing += [f"{name}: {wanted}"] if wanted else []
    assert not missing, "\n".join(missing)


def _parameters(function: Any) -> list[str]:
    """The parameters of a function of PyTorch, from its signature or the first line of its documentation."""
    try:
        found = list(inspect.signature(function).parameters)
    except ValueError:
        head = re.search(r"^\s*\w+\((.*?)\)\s*(?:->|\n)", (function.__doc__ or "").strip().replace("torch.", ""), re.S)
        listed = re.sub(r"[\[(][^\[\]()]*[\])]", "", head.group(1)).split(",") if head else []
        found = [re.split(r"[=: ]", p.strip().lstrip("*"))[0] for p in listed]
    return [p for p in found if p and p.isidentifier() and p not in ("args", "kwargs", "Tensor", "device")]


def test_names_from_where_older_programs_import_them() -> None:
    optimizer = importlib.import_module("flambeau.optim.optimizer")
    assert optimizer.Optimizer is fb.optim.Optimizer and optimizer.required
    assert fb.optim.lr_scheduler._LRScheduler is fb.optim.lr_scheduler.LRScheduler
    amp = importlib.import_module("flambeau.cuda.amp")
    with pytest.warns(UserWarning, match="not available"):
        assert not amp.GradScaler().is_enabled()
    with pytest.warns(UserWarning, match="not available"), amp.autocast():
        assert (fb.ones(1, 1) @ fb.ones(1, 1)).dtype == fb.float32
