"""Linear layers in bytes: within the bound they state, compiled and eager, and swapped in where PyTorch would."""
from __future__ import annotations

import pickle
import random
from collections.abc import Iterator

import numpy as np
import pytest

import flambeau as fb
from flambeau import nn
from flambeau.frontend.nn.quantized import DynamicQuantizedLinear


def bound(x: np.ndarray, layer: nn.Linear) -> np.ndarray:
    """Of the error in each result: both roundings, each half a step, and a few operations in f32, on the steps too."""
    weight = layer.weight.detach().numpy().astype("f8")
    step = (np.maximum(x.max(-1), 0) - np.minimum(x.min(-1), 0)) / 255
    step = np.maximum(step, 2.0**-120)[..., None]
    scale = np.maximum(np.abs(weight).max(1) / 127, 2.0**-120)
    rounded = np.abs(x).sum(-1)[..., None] * scale / 2 + step * np.abs(weight).sum(1) + x.shape[-1] * step * scale / 2
    sizes = np.abs(x) @ np.abs(weight).T + step * 255 * np.abs(weight).sum(1)
    bias = 0 if layer.bias is None else np.abs(layer.bias.detach().numpy())
    return 1.01 * rounded + 16 * np.finfo("f4").eps * (sizes + bias)


def check_layer(layer: nn.Linear, x: np.ndarray) -> None:
    quantized = fb.quantize_dynamic(nn.Sequential(layer))
    exact = x.astype("f8") @ layer.weight.detach().numpy().astype("f8").T
    exact = exact if layer.bias is None else exact + layer.bias.detach().numpy()
    eager = quantized(fb.tensor(x))
    assert not eager.requires_grad
    with fb.no_grad():
        compiled = fb.compile(quantized)(fb.tensor(x))
    for found in (eager, compiled):
        assert found.shape == exact.shape
        assert (np.abs(found.numpy() - exact) <= bound(x.astype("f8"), layer)).all()
    np.testing.assert_allclose(compiled.numpy(), eager.numpy(), rtol=1e-5, atol=1e-6 * float(np.abs(exact).max(initial=1)))


def test_random_layers_stay_within_their_bound(seeds: Iterator[int]):
    for seed in seeds:
        check_random(seed)


def check_random(seed: int) -> None:
    rng, data = random.Random(seed), np.random.default_rng(seed)
    fb.manual_seed(seed)
    inner, outer = (rng.choice((1, 2, 3, 4, 7, 16, 17, 32, 33, 100)) for _ in range(2))
    layer = nn.Linear(inner, outer, bias=rng.random() < 0.7)
    leading = rng.choice(((), (1,), (5,), (2, 3), (33,), (0,)))
    x = data.standard_normal((*leading, inner)).astype("f4") * rng.choice((1.0, 1.0, 1e-30, 1e20))
    x = np.abs(x) if rng.random() < 0.3 else x - 5 if rng.random() < 0.2 else x
    if x.size and rng.random() < 0.3:
        x[..., 0] = 0.0
    if x.ndim > 1 and len(x) and rng.random() < 0.3:
        x[0] = 0.0
    check_layer(layer, x)


def test_a_row_of_zeros_gives_the_bias():
    layer = nn.Linear(3, 2)
    found = fb.quantize_dynamic(nn.Sequential(layer))(fb.zeros(1, 3))
    np.testing.assert_array_equal(found.numpy()[0], layer.bias.detach().numpy())


def test_a_row_may_span_more_than_the_largest_number():
    layer = nn.Linear(2, 3, bias=False)
    layer.weight.data = fb.tensor([[0.5, 0.25], [-0.3, 0.4], [0.1, -0.45]])            # results are in range
    check_layer(layer, np.array([[3e38, -3e38], [-3.4e38, 1e38], [1.0, -2.0]], np.float32))


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_what_is_not_finite_shows_in_all_results_of_its_row_alone(number):
    quantized = fb.quantize_dynamic(nn.Sequential(nn.Linear(8, 4)))
    x = fb.ones(3, 8)
    x[1, 2] = number
    for found in (quantized(x), fb.compile(quantized)(x)):
        assert found.isfinite().all(1).tolist() == [True, False, True]
        assert not found[1].isfinite().any()


def test_layers_are_chosen_by_class_and_by_name_and_the_model_stays_as_it_was():
    model = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.ReLU(), nn.Linear(4, 2)))
    kinds = [[type(m).__name__ for m in fb.quantize_dynamic(model, spec).modules() if "Linear" in type(m).__name__]
             for spec in (None, {nn.Linear}, {"1.1"})]
    assert kinds == [["DynamicQuantizedLinear"] * 2, ["DynamicQuantizedLinear"] * 2, ["Linear", "DynamicQuantizedLinear"]]
    assert type(model[0]) is nn.Linear
    assert fb.quantize_dynamic(model, inplace=True) is model
    assert type(model[0]) is DynamicQuantizedLinear


def test_a_layer_in_two_places_stays_one_and_hooks_go_on():
    layer, calls = nn.Linear(4, 4), []
    layer.register_forward_hook(lambda *_: calls.append(1))
    quantized = fb.quantize_dynamic(nn.Sequential(layer, layer))
    assert quantized[0] is quantized[1]
    quantized(fb.randn(1, 4))
    assert calls == [1, 1]


def test_attention_keeps_the_projection_it_reads():
    model = fb.quantize_dynamic(nn.TransformerEncoderLayer(8, 2, 16))
    assert type(model.self_attn.out_proj).__name__ == "NonDynamicallyQuantizableLinear"
    assert type(model.linear1) is DynamicQuantizedLinear


def test_state_and_pickles_come_back():
    model = fb.quantize_dynamic(nn.Sequential(nn.Linear(5, 3)))
    other = fb.quantize_dynamic(nn.Sequential(nn.Linear(5, 3)))
    other.load_state_dict(model.state_dict())
    x = fb.randn(2, 5)
    for twin in (other, pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(twin(x).numpy(), model(x).numpy())
    assert repr(model[0]) == "DynamicQuantizedLinear(in_features=5, out_features=3, dtype=qint8, bias=True)"
    assert pickle.loads(pickle.dumps(fb.qint8)) is fb.qint8


@pytest.mark.parametrize(("arguments", "error", "words"), [
    ({"dtype": fb.float16}, ValueError, "fb.qint8"),
    ({"qconfig_spec": {nn.Conv2d}}, NotImplementedError, "no form in bytes"),
    ({"qconfig_spec": {"1"}}, NotImplementedError, "ReLU there is no form in bytes"),
    ({"qconfig_spec": {}}, NotImplementedError, "no mapping"),
])  # fmt: skip
def test_what_cannot_be_quantized_is_refused(arguments, error, words):
    with pytest.raises(error, match=words):
        fb.quantize_dynamic(nn.Sequential(nn.Linear(2, 2), nn.ReLU()), **arguments)


def test_weights_that_cannot_be_quantized_are_refused():
    with pytest.raises(TypeError, match="float32"):
        fb.quantize_dynamic(nn.Sequential(nn.Linear(2, 2, dtype=fb.float64)))
    layer = nn.Linear(2, 2)
    with fb.no_grad():
        layer.weight[0, 0] = float("inf")
    with pytest.raises(ValueError, match="not finite"):
        fb.quantize_dynamic(nn.Sequential(layer))
    with pytest.raises(ValueError, match="overflow"):
        fb.quantize_dynamic(nn.Sequential(nn.Linear(70_000, 1)))


def test_a_quantized_model_keeps_its_packed_weights_and_sees_new_ones():
    model = fb.quantize_dynamic(nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 8))).eval()
    compiled, x = fb.compile(model), fb.randn(4, 64)
    with fb.no_grad():
        compiled(x)
        other = fb.quantize_dynamic(nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 8)))
        model.load_state_dict(other.state_dict())
        np.testing.assert_allclose(compiled(x).numpy(), model(x).numpy(), rtol=1e-5, atol=1e-6)
