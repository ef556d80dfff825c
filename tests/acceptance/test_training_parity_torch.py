"""A hundred steps of training in float64 give PyTorch's losses to 1e-7: six kinds of networks, every optimizer.

Networks and training loop are written once, for `import torch` and for `import flambeau as torch`."""
from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import flambeau as fb

pytestmark = pytest.mark.torch

STEPS, BATCH = 100, 6
RTOL = 1e-7                     # asked for
WORDS, LENGTH, WIDTH = 11, 7, 8

Arrays = tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Network:
    """build(torch) -> module; loss(torch, module, *batch); batch(rng)."""

    build: Callable[[Any], Any]
    loss: Callable[..., Any]
    batch: Callable[[np.random.Generator], Arrays]


def points(rng: np.random.Generator) -> Arrays:
    return rng.standard_normal((BATCH, 10)), rng.integers(0, 3, BATCH)


def images(rng: np.random.Generator) -> Arrays:
    return rng.standard_normal((BATCH, 1, 8, 8)), rng.integers(0, 3, BATCH)


def sentences(rng: np.random.Generator) -> Arrays:
    return rng.integers(0, WORDS, (BATCH, LENGTH)), rng.integers(0, 2, BATCH).astype(float)


def next_words(rng: np.random.Generator) -> Arrays:
    text = rng.integers(0, WORDS, (BATCH, LENGTH + 1))
    return text[:, :-1], text[:, 1:]


def pairs(rng: np.random.Generator) -> Arrays:
    """Sentences, and the same ones backwards."""
    text = rng.integers(0, WORDS, (BATCH, LENGTH))
    return text, text[:, ::-1].copy()


def mlp(torch: Any) -> Any:
    nn = torch.nn
    return nn.Sequential(nn.Linear(10, 12), nn.Tanh(), nn.Linear(12, 12), nn.GELU(), nn.LayerNorm(12), nn.Linear(12, 3))


def cnn(torch: Any) -> Any:
    nn = torch.nn
    return nn.Sequential(                       # biases before a batch norm would have gradients of nothing but roundings
        nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 3, bias=False), nn.BatchNorm2d(6), nn.SiLU(), nn.Flatten(), nn.Linear(24, 3))


def gpt(torch: Any) -> Any:
    nn, F = torch.nn, torch.nn.functional

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.ln1, self.ln2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
            self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
            self.mlp = nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH))

        def forward(self, x: Any) -> Any:
            n, length, width = x.shape
            parts = self.qkv(self.ln1(x)).chunk(3, dim=-1)
            q, k, v = (part.view(n, length, 2, width // 2).transpose(1, 2) for part in parts)
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.out(y.transpose(1, 2).reshape(n, length, width))
            return x + self.mlp(self.ln2(x))

    class GPT(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.places = nn.Embedding(WORDS, WIDTH), nn.Embedding(LENGTH, WIDTH)
            self.blocks = nn.Sequential(Block(), Block())
            self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WORDS, bias=False)
            self.head.weight = self.words.weight

        def forward(self, text: Any) -> Any:
            return self.head(self.norm(self.blocks(self.words(text) + self.places(torch.arange(LENGTH)))))

    return GPT()


def lstm(torch: Any) -> Any:
    nn = torch.nn

    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words = nn.Embedding(WORDS, WIDTH)
            self.lstm = nn.LSTM(WIDTH, WIDTH, num_layers=2, batch_first=True)
            self.head = nn.Linear(WIDTH, WORDS)

        def forward(self, text: Any) -> Any:
            hidden, _ = self.lstm(self.words(text))
            return self.head(hidden)

    return Reader()


def transformer(torch: Any) -> Any:
    nn = torch.nn

    class Translator(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.places = nn.Embedding(WORDS, WIDTH), nn.Embedding(LENGTH, WIDTH)
            self.transformer = nn.Transformer(WIDTH, 2, 1, 1, 2 * WIDTH, dropout=0.0, activation="gelu", batch_first=True)
            self.head = nn.Linear(WIDTH, WORDS)

        def forward(self, source: Any, target: Any) -> Any:
            place = self.places(torch.arange(LENGTH))
            mask = nn.Transformer.generate_square_subsequent_mask(LENGTH, dtype=torch.float64)
            return self.head(self.transformer(self.words(source) + place, self.words(target) + place, tgt_mask=mask))

    return Translator()


def sentiment(torch: Any) -> Any:
    nn = torch.nn

    class Kim(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words = nn.Embedding(WORDS, WIDTH)
            self.convs = nn.ModuleList([nn.Conv1d(WIDTH, 5, size) for size in (2, 3, 4)])
            self.head = nn.Linear(15, 1)

        def forward(self, text: Any) -> Any:
            x = self.words(text).transpose(1, 2)
            found = torch.cat([torch.tanh(conv(x)).max(dim=2).values for conv in self.convs], dim=1)
            return self.head(found).squeeze(1)

    return Kim()


def classified(torch: Any, model: Any, x: Any, y: Any) -> Any:
    return torch.nn.functional.cross_entropy(model(x), y)


def predicted(torch: Any, model: Any, text: Any, following: Any) -> Any:
    return torch.nn.functional.cross_entropy(model(text).reshape(-1, WORDS), following.reshape(-1))


def translated(torch: Any, model: Any, source: Any, target: Any) -> Any:
    given = torch.cat([torch.zeros_like(target[:, :1]), target[:, :-1]], dim=1)
    return torch.nn.functional.cross_entropy(model(source, given).reshape(-1, WORDS), target.reshape(-1))


def judged(torch: Any, model: Any, text: Any, liked: Any) -> Any:
    return torch.nn.functional.binary_cross_entropy_with_logits(model(text), liked)


NETWORKS = {
    "mlp": Network(mlp, classified, points),
    "cnn": Network(cnn, classified, images),
    "gpt": Network(gpt, predicted, next_words),
    "lstm": Network(lstm, predicted, next_words),
    "transformer": Network(transformer, translated, pairs),
    "sentiment": Network(sentiment, judged, sentences),
}
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "SGD": {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-3},
    "Adam": {"lr": 3e-3, "amsgrad": True},
    "AdamW": {"lr": 3e-3, "weight_decay": 0.01},
    "RMSprop": {"lr": 1e-3, "centered": True, "momentum": 0.5},
    "Adagrad": {"lr": 0.02, "lr_decay": 0.01},
    "Adadelta": {"lr": 1.0},
    "Adamax": {"lr": 3e-3},
    "NAdam": {"lr": 3e-3, "decoupled_weight_decay": True, "weight_decay": 0.01},
    "RAdam": {"lr": 3e-3},
    "ASGD": {"lr": 0.05, "t0": 50},
    "Rprop": {"lr": 1e-3, "step_sizes": (1e-6, 0.01)},
    "Adafactor": {"lr": 0.01},
}
# There PyTorch itself turns a change of 1e-15 in the weights into a larger one of the losses than is allowed, or nearly so.
# Muon rounds to bf16, and is held to its own bounds in test_torch_optim.
ILL_POSED = {("gpt", "Adafactor"), ("cnn", "Adafactor"), ("cnn", "Rprop")}
CASES = [(network, optimizer, True) for network in NETWORKS for optimizer in OPTIMIZERS
         if (network, optimizer) not in ILL_POSED]
CASES += [("mlp", "AdamW", False), ("cnn", "SGD", False), ("gpt", "AdamW", False), ("lstm", "RMSprop", False),
          ("transformer", "Adam", False), ("sentiment", "Adadelta", False)]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Nets this small are slower with more."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@functools.cache
def weights(network: str) -> dict[str, np.ndarray]:
    """The state that training starts from, in float64."""
    import torch

    torch.manual_seed(0)
    return {key: value.numpy().copy() for key, value in NETWORKS[network].build(torch).double().state_dict().items()}


def losses(torch: Any, network: str, optimizer: str, compiled: bool = False, steps: int = STEPS,
           **settings: Any) -> np.ndarray:
    """The loss of each step, in that framework."""
    parts, rng = NETWORKS[network], np.random.default_rng(1)
    model = parts.build(torch).double()
    model.load_state_dict({key: torch.from_numpy(value.copy()) for key, value in weights(network).items()})
    minimizer = getattr(torch.optim, optimizer)(model.parameters(), **(settings or OPTIMIZERS[optimizer]))

    def step(*batch: Any) -> Any:
        def closure() -> Any:
            minimizer.zero_grad()
            loss = parts.loss(torch, model, *batch)
            loss.backward()
            return loss

        if optimizer == "LBFGS":
            return minimizer.step(closure)
        loss = closure()
        minimizer.step()
        return loss

    assert not compiled or torch is fb
    run = fb.compile(step) if compiled else step
    return np.array([run(*map(torch.from_numpy, parts.batch(rng))).item() for _ in range(steps)])


@functools.cache
def expected(network: str, optimizer: str) -> np.ndarray:
    import torch

    found = losses(torch, network, optimizer)
    assert np.ptp(found) > 0.1, "a curve that does not move shows nothing"
    return found


@pytest.mark.parametrize(("network", "optimizer", "compiled"), CASES,
                         ids=[f"{n}-{o}-{'compiled' if c else 'eager'}" for n, o, c in CASES])
def test_losses_are_those_of_pytorch(network: str, optimizer: str, compiled: bool) -> None:
    np.testing.assert_allclose(losses(fb, network, optimizer, compiled), expected(network, optimizer), rtol=RTOL)


def test_lbfgs_takes_the_steps_of_pytorch() -> None:
    """Eager only: its loop over evaluations looks at the losses."""
    import torch

    settings = {"lr": 0.5, "max_iter": 4, "line_search_fn": "strong_wolfe"}
    theirs = losses(torch, "mlp", "LBFGS", steps=10, **settings)
    assert np.ptp(theirs) > 0.1
    np.testing.assert_allclose(losses(fb, "mlp", "LBFGS", steps=10, **settings), theirs, rtol=RTOL)
