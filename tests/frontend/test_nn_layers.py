"""Layers: what they compute (by NumPy), how they start, and what state they keep."""

from __future__ import annotations

import math

import numpy as np
import pytest

import flambeau as fb
from flambeau import nn


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def test_linear_is_an_affine_map() -> None:
    layer = nn.Linear(3, 2, dtype=fb.float64)
    x = draw(5, 4, 3)
    expected = x @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()
    np.testing.assert_allclose(layer(fb.from_numpy(x)).detach().numpy(), expected, rtol=1e-14)
    assert nn.Linear(3, 2, bias=False).bias is None
    assert list(nn.Linear(3, 2, bias=False).state_dict()) == ["weight"]


@pytest.mark.parametrize(("layer", "fan_in"), [
    (lambda: nn.Linear(50, 2000), 50), (lambda: nn.Conv2d(4, 300, 5), 100),
    (lambda: nn.Conv1d(8, 300, 3, groups=2), 12)])
def test_weights_start_uniform_within_one_over_sqrt_fan_in(layer: type[nn.Module], fan_in: int) -> None:
    fb.manual_seed(0)
    made, bound = layer(), 1 / math.sqrt(fan_in)
    for parameter in made.parameters():
        values = parameter.detach().numpy().ravel()
        assert abs(values).max() <= bound
        assert abs(values).max() > 0.98 * bound
        # the mean of n uniform draws has a standard deviation of bound / sqrt(3 n); four of them are 6e-5 likely
        assert abs(values.mean()) < 4 * bound / math.sqrt(3 * values.size)


def test_the_seed_decides_the_weights() -> None:
    fb.manual_seed(3)
    first = nn.Linear(4, 4).weight.tolist()
    second = nn.Linear(4, 4).weight.tolist()
    fb.manual_seed(3)
    assert nn.Linear(4, 4).weight.tolist() == first != second


def test_conv2d_same_padding_keeps_the_size() -> None:
    layer = nn.Conv2d(2, 3, 3, padding="same", dtype=fb.float64)
    x = draw(1, 2, 5, 6)
    found = layer(fb.from_numpy(x)).detach().numpy()
    assert found.shape == (1, 3, 5, 6)
    weight, padded = layer.weight.detach().numpy(), np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    expected = (weight * padded[:, None, :, 2:5, 3:6]).sum((2, 3, 4)) + layer.bias.detach().numpy()
    np.testing.assert_allclose(found[:, :, 2, 3], expected, rtol=1e-13)


def test_conv_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="divisible"):
        nn.Conv2d(3, 4, 3, groups=2)
    with pytest.raises(ValueError, match="strided"):
        nn.Conv2d(3, 4, 3, padding="same", stride=2)
    with pytest.raises(ValueError, match="Invalid padding"):
        nn.Conv2d(3, 4, 3, padding="full")
    with pytest.raises(ValueError, match="padding_mode"):
        nn.Conv2d(3, 4, 3, padding_mode="mirror")


# -- batch norm ---------------------------------------------------------------------------------------------------


def test_batch_norm_normalizes_and_tracks() -> None:
    layer = nn.BatchNorm2d(3, dtype=fb.float64)
    mean, var = np.zeros(3), np.ones(3)
    for seed in range(3):
        x = draw(4, 3, 2, 5, seed=seed) * 3 + 1
        y = layer(fb.from_numpy(x)).detach().numpy()
        m, v = x.mean((0, 2, 3)), x.var((0, 2, 3))
        np.testing.assert_allclose(y, (x - m[:, None, None]) / np.sqrt(v[:, None, None] + 1e-5), rtol=1e-11, atol=1e-13)
        mean, var = 0.9 * mean + 0.1 * m, 0.9 * var + 0.1 * v * 40 / 39
    np.testing.assert_allclose(layer.running_mean.numpy(), mean, rtol=1e-13)
    np.testing.assert_allclose(layer.running_var.numpy(), var, rtol=1e-13)
    assert layer.num_batches_tracked.item() == 3 and layer.num_batches_tracked.dtype is fb.int64
    layer.eval()
    x = draw(2, 3, 1, 1)
    expected = (x - mean[:, None, None]) / np.sqrt(var[:, None, None] + 1e-5)
    np.testing.assert_allclose(layer(fb.from_numpy(x)).detach().numpy(), expected, rtol=1e-12)
    assert layer.num_batches_tracked.item() == 3


def test_batch_norm_without_momentum_averages_all_batches() -> None:
    layer = nn.BatchNorm1d(2, momentum=None, dtype=fb.float64)
    batches = [draw(6, 2, seed=seed) for seed in range(4)]
    for x in batches:
        layer(fb.from_numpy(x))
    np.testing.assert_allclose(layer.running_mean.numpy(), np.mean([x.mean(0) for x in batches], 0), rtol=1e-12)
    np.testing.assert_allclose(layer.running_var.numpy(), np.mean([x.var(0, ddof=1) for x in batches], 0), rtol=1e-12)


def test_batch_norm_without_running_statistics_always_uses_the_batch() -> None:
    layer = nn.BatchNorm1d(2, track_running_stats=False, dtype=fb.float64).eval()
    assert list(layer.state_dict()) == ["weight", "bias"]
    x = draw(50, 2)
    np.testing.assert_allclose(layer(fb.from_numpy(x)).detach().numpy().mean(0), 0, atol=1e-14)
    assert list(nn.BatchNorm1d(2, affine=False).parameters()) == []


def test_batch_norm_buffers_are_saved_and_not_trained() -> None:
    layer = nn.BatchNorm2d(3)
    assert list(layer.state_dict()) == ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]
    mean = layer.running_mean
    layer(fb.from_numpy(draw(2, 3, 2, 2).astype(np.float32))).sum().backward()
    assert layer.running_mean is mean and not mean.requires_grad
    layer.reset_running_stats()
    assert mean.tolist() == [0, 0, 0] and layer.num_batches_tracked.item() == 0
    with pytest.raises(ValueError, match="expected 4D"):
        layer(fb.zeros(2, 3))
    with pytest.raises(ValueError, match="expected 2D or 3D"):
        nn.BatchNorm1d(3)(fb.zeros(2, 3, 1, 1))


# -- the others ---------------------------------------------------------------------------------------------------


def test_dropout_drops_in_training_only() -> None:
    fb.manual_seed(0)
    layer, x = nn.Dropout(0.25), fb.ones(100, 100)
    y = layer(x).numpy()
    assert set(np.unique(y)) == {np.float32(0), np.float32(1) / np.float32(0.75)}
    share = (y == 0).mean()
    assert abs(share - 0.25) < 4 * math.sqrt(0.25 * 0.75 / y.size)
    assert (layer(x).numpy() != y).any()
    assert (layer.eval()(x).numpy() == 1).all()
    with pytest.raises(ValueError, match="between 0 and 1"):
        nn.Dropout(1.5)


def test_dropout_of_everything_and_nothing() -> None:
    assert not nn.Dropout(1.0)(fb.ones(8)).numpy().any()
    assert nn.Dropout(0.0)(fb.ones(8)).numpy().all()


def test_embedding_looks_up_and_its_padding_row_stays() -> None:
    layer = nn.Embedding(5, 3, padding_idx=-2)
    assert layer.padding_idx == 3 and not layer.weight.detach().numpy()[3].any()
    indices = fb.tensor([[0, 3], [4, 0]])
    found = layer(indices)
    np.testing.assert_array_equal(found.detach().numpy(), layer.weight.detach().numpy()[indices.numpy()])
    found.sum().backward()
    np.testing.assert_array_equal(layer.weight.grad.numpy(), np.array([2, 0, 0, 0, 1])[:, None] * np.ones(3))
    frozen = nn.Embedding.from_pretrained(fb.ones(2, 2))
    assert not frozen.weight.requires_grad and frozen(fb.tensor(1)).tolist() == [1, 1]
    with pytest.raises(ValueError, match="padding_idx"):
        nn.Embedding(5, 3, padding_idx=5)


def test_layer_norm_and_rms_norm() -> None:
    x = draw(2, 3, 4)
    layer = nn.LayerNorm([3, 4], dtype=fb.float64)
    expected = (x - x.mean((1, 2), keepdims=True)) / np.sqrt(x.var((1, 2), keepdims=True) + 1e-5)
    np.testing.assert_allclose(layer(fb.from_numpy(x)).detach().numpy(), expected, rtol=1e-11)
    rms = nn.RMSNorm(4, eps=0.5, dtype=fb.float64)
    with fb.no_grad():
        rms.weight.fill_(2)
    expected = 2 * x / np.sqrt((x**2).mean(-1, keepdims=True) + 0.5)
    np.testing.assert_allclose(rms(fb.from_numpy(x)).detach().numpy(), expected, rtol=1e-13)
    assert list(nn.LayerNorm(4, bias=False).state_dict()) == ["weight"]
    assert list(nn.LayerNorm(4, elementwise_affine=False).state_dict()) == []


def test_group_norm_normalizes_each_group() -> None:
    x = draw(2, 4, 3)
    groups = x.reshape(2, 2, 6)
    expected = (groups - groups.mean(-1, keepdims=True)) / np.sqrt(groups.var(-1, keepdims=True) + 1e-5)
    layer = nn.GroupNorm(2, 4, dtype=fb.float64)
    np.testing.assert_allclose(layer(fb.from_numpy(x)).detach().numpy(), expected.reshape(x.shape), rtol=1e-11)
    with pytest.raises(ValueError, match="divisible"):
        nn.GroupNorm(3, 4)


def test_attention_follows_its_formula_and_masks() -> None:
    fb.manual_seed(0)
    layer = nn.MultiheadAttention(4, 2, batch_first=True, dtype=fb.float64)
    x = draw(2, 3, 4)
    causal = fb.from_numpy(np.triu(np.ones((3, 3), bool), k=1))
    found, weights = layer(*[fb.from_numpy(x)] * 3, attn_mask=causal)
    w, b = layer.in_proj_weight.detach().numpy(), layer.in_proj_bias.detach().numpy()
    q, k, v = np.split(x @ w.T + b, 3, axis=-1)
    q, k, v = (part.reshape(2, 3, 2, 2).transpose(0, 2, 1, 3) for part in (q, k, v))
    scores = q @ k.transpose(0, 1, 3, 2) / np.sqrt(2) + np.triu(np.full((3, 3), -np.inf), 1)
    p = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    mixed = (p @ v).transpose(0, 2, 1, 3).reshape(2, 3, 4)
    expected = mixed @ layer.out_proj.weight.detach().numpy().T + layer.out_proj.bias.detach().numpy()
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-12)
    np.testing.assert_allclose(weights.detach().numpy(), p.mean(1), rtol=1e-12, atol=1e-300)
    assert layer(*[fb.from_numpy(x)] * 3, need_weights=False)[1] is None
    assert list(layer.state_dict()) == ["in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias"]


def test_shapes_of_flatten_unflatten_and_identity() -> None:
    x = fb.zeros(2, 3, 4, 5)
    assert nn.Flatten()(x).shape == (2, 60)
    assert nn.Flatten(0, 1)(x).shape == (6, 4, 5)
    assert nn.Unflatten(1, (3, -1))(fb.zeros(2, 12)).shape == (2, 3, 4)
    assert nn.Identity(54, unused=True)(x) is x


# -- init and utils -----------------------------------------------------------------------------------------------


def test_gains() -> None:
    assert nn.init.calculate_gain("linear") == nn.init.calculate_gain("sigmoid") == 1
    assert nn.init.calculate_gain("tanh") == 5 / 3
    assert nn.init.calculate_gain("relu") == math.sqrt(2)
    assert nn.init.calculate_gain("leaky_relu", 1) == 1
    with pytest.raises(ValueError, match="Unsupported"):
        nn.init.calculate_gain("step")


@pytest.mark.parametrize(("fill", "std"), [
    (lambda t: nn.init.xavier_uniform_(t, 2.0), 2 * math.sqrt(2 / 500)),
    (lambda t: nn.init.xavier_normal_(t), math.sqrt(2 / 500)),
    (lambda t: nn.init.kaiming_uniform_(t, mode="fan_out", nonlinearity="relu"), math.sqrt(2 / 200)),
    (lambda t: nn.init.kaiming_normal_(t), math.sqrt(2 / 300)),
    (lambda t: nn.init.normal_(t, 0, 0.5), 0.5),
    (lambda t: nn.init.uniform_(t, -1, 1), 1 / math.sqrt(3)),
    (lambda t: nn.init.trunc_normal_(t, std=0.5, a=-50, b=50), 0.5),
    (lambda t: nn.init.trunc_normal_(t), 0.8796),  # the standard normal cut at two standard deviations
])
def test_random_fills_have_their_standard_deviation(fill, std: float) -> None:  # type: ignore[no-untyped-def]
    fb.manual_seed(0)
    weight = nn.Parameter(fb.zeros(200, 300))
    assert fill(weight) is weight
    values = weight.detach().numpy()
    # the standard deviation of n = 60,000 draws is off by less than 1.2 / sqrt(n) of itself, four sigma: 2%
    assert values.std() == pytest.approx(std, rel=0.02)
    assert abs(values.mean()) < 4 * std / math.sqrt(values.size)


def test_truncated_draws_stay_within() -> None:
    values = nn.init.trunc_normal_(fb.zeros(10_000), mean=1.0, std=3.0, a=0.5, b=4.0).numpy()
    assert values.min() >= 0.5 and values.max() <= 4.0
    assert values.min() < 0.51 and values.max() > 3.98


def test_fixed_fills() -> None:
    assert nn.init.eye_(fb.zeros(2, 3)).tolist() == [[1, 0, 0], [0, 1, 0]]
    assert nn.init.constant_(fb.zeros(2), 3.0).tolist() == [3, 3]
    assert nn.init.ones_(fb.zeros(1)).item() == 1 and nn.init.zeros_(fb.ones(1)).item() == 0
    q = nn.init.orthogonal_(fb.zeros(3, 5, dtype=fb.float64), gain=2).numpy()
    np.testing.assert_allclose(q @ q.T, 4 * np.eye(3), atol=1e-14)
    with pytest.raises(ValueError, match="fewer than 2"):
        nn.init.xavier_uniform_(fb.zeros(3))
    with pytest.raises(ValueError, match="Mode"):
        nn.init.kaiming_normal_(fb.zeros(3, 3), mode="fan")


def test_clipping_by_norm_and_by_value() -> None:
    a, b = (fb.zeros(2, requires_grad=True) for _ in range(2))
    a.grad, b.grad = fb.tensor([3.0, 0.0]), fb.tensor([0.0, 4.0])
    assert nn.utils.clip_grad_norm_([a, b], 1.0).item() == 5
    np.testing.assert_allclose([*a.grad.tolist(), *b.grad.tolist()], [0.6, 0, 0, 0.8], rtol=1e-6)
    assert nn.utils.clip_grad_norm_([a, b], 10.0, norm_type=math.inf).item() == pytest.approx(0.8)
    np.testing.assert_allclose(b.grad.tolist(), [0, 0.8], rtol=1e-6)
    nn.utils.clip_grad_value_([a, b], 0.7)
    np.testing.assert_allclose(b.grad.tolist(), [0, 0.7], rtol=1e-6)
    assert nn.utils.clip_grad_norm_([fb.zeros(1)], 1.0).item() == 0
    b.grad = fb.tensor([math.inf, 0.0])
    with pytest.raises(RuntimeError, match="non-finite"):
        nn.utils.clip_grad_norm_(b, 1.0, error_if_nonfinite=True)


def test_parameters_as_a_vector() -> None:
    layer = nn.Linear(2, 1)
    vector = nn.utils.parameters_to_vector(layer.parameters())
    assert vector.tolist() == [*layer.weight.tolist()[0], *layer.bias.tolist()]
    nn.utils.vector_to_parameters(fb.tensor([1.0, 2.0, 3.0]), layer.parameters())
    assert layer.weight.tolist() == [[1, 2]] and layer.bias.tolist() == [3]
    with pytest.raises(ValueError, match="4 elements"):
        nn.utils.vector_to_parameters(fb.zeros(4), layer.parameters())
