"""A small transformer learns, letter by letter, to write like the Python standard library.

Its training text is the source code that every Python carries: nothing is downloaded. Attention is written out
from matmul and softmax, so that every step of it can be read here and found again in `train_step.ir("graph")`.

    python examples/char_transformer.py --steps 1000
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from training import Tell, lines

import flambeau as fb
import flambeau.nn.functional as F
from flambeau import nn, optim

# Modules of the standard library that read well and are in every Python.
TEXTS = (
    "argparse",
    "ast",
    "bisect",
    "calendar",
    "dataclasses",
    "difflib",
    "fractions",
    "heapq",
    "inspect",
    "pathlib",
    "random",
    "shutil",
    "statistics",
    "string",
    "textwrap",
    "typing",
)


@dataclass(frozen=True)
class Config:
    """Sizes of the model. context: how many characters it sees at once."""

    n_characters: int
    context: int = 64
    width: int = 96
    heads: int = 4
    layers: int = 3


class Text:
    """Characters as numbers. codes: i64[n]."""

    def __init__(self, text: str) -> None:
        self.alphabet = "".join(sorted(set(text)))
        code_of = {character: code for code, character in enumerate(self.alphabet)}
        self.codes = np.array([code_of[character] for character in text], dtype=np.int64)

    def decode(self, codes: np.ndarray) -> str:
        return "".join(self.alphabet[code] for code in codes)

    def batch(self, size: int, context: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Random pieces and, as targets, the same pieces one character later: both i64[size, context]."""
        starts = rng.integers(0, len(self.codes) - context, size)
        windows = self.codes[starts[:, None] + np.arange(context + 1)]
        return np.ascontiguousarray(windows[:, :-1]), np.ascontiguousarray(windows[:, 1:])


def standard_library() -> str:
    """The source of some of Python's own modules, ASCII only."""
    folder = Path(argparse.__file__).parent
    files = (folder / f"{name}.py" for name in TEXTS)
    source = "\n".join(path.read_text(encoding="utf-8") for path in files if path.exists())
    return "".join(character for character in source if character == "\n" or " " <= character <= "~")


class Attention(nn.Module):
    """Causal self-attention. x: f32[batch, time, width] -> the same shape; no position sees a later one."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.heads = config.heads
        self.query_key_value = nn.Linear(config.width, 3 * config.width)
        self.out = nn.Linear(config.width, config.width)
        # 0 where a position may look and -inf where it may not: softmax turns -inf into a weight of 0.
        future = np.triu(np.full((config.context, config.context), -np.inf, dtype=np.float32), k=1)
        self.register_buffer("future", fb.from_numpy(future))

    def forward(self, x: fb.Tensor) -> fb.Tensor:
        batch, time, width = x.shape
        per_head = width // self.heads
        # [batch, time, 3 * width] -> three of [batch, heads, time, per_head]
        parts = self.query_key_value(x).reshape(batch, time, 3, self.heads, per_head).permute(2, 0, 3, 1, 4)
        query, key, value = parts[0], parts[1], parts[2]
        scores = query @ key.transpose(-2, -1) / math.sqrt(per_head)
        weights = F.softmax(scores + self.future[:time, :time], dim=-1)
        mixed = (weights @ value).transpose(1, 2).reshape(batch, time, width)
        return self.out(mixed)


class Block(nn.Module):
    """Look around, then think: attention and a two-layer network, each added to what came in."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.width)
        self.attention = Attention(config)
        self.norm2 = nn.LayerNorm(config.width)
        self.expand = nn.Linear(config.width, 4 * config.width)
        self.shrink = nn.Linear(4 * config.width, config.width)

    def forward(self, x: fb.Tensor) -> fb.Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.shrink(F.gelu(self.expand(self.norm2(x))))


class CharTransformer(nn.Module):
    """codes: i64[batch, time] -> logits of the next character at each place: f32[batch, time, n_characters]."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.token = nn.Embedding(config.n_characters, config.width)
        self.position = nn.Embedding(config.context, config.width)
        self.blocks = nn.ModuleList([Block(config) for _ in range(config.layers)])
        self.norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, config.n_characters)

    def forward(self, codes: fb.Tensor) -> fb.Tensor:
        x = self.token(codes) + self.position(fb.arange(codes.shape[1]))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def sample(model: CharTransformer, text: Text, prompt: str, length: int, rng: np.random.Generator) -> str:
    """Let the model continue `prompt` by `length` characters, each drawn by its probability.

    The window keeps one shape, so this compiles once: the prompt is padded on the right, where causal attention
    cannot look.
    """
    context = model.config.context

    @fb.compile
    def next_logits(codes: fb.Tensor) -> fb.Tensor:
        with fb.no_grad():
            return model(codes)

    written = [text.alphabet.index(character) for character in prompt]
    for _ in range(length):
        window = written[-context:]
        padded = np.zeros((1, context), dtype=np.int64)
        padded[0, : len(window)] = window
        logits = next_logits(fb.from_numpy(padded)).numpy()[0, len(window) - 1].astype(np.float64)
        likelihood = np.exp((logits - logits.max()) / 0.8)  # a temperature below 1: fewer odd letters
        written.append(int(rng.choice(len(logits), p=likelihood / likelihood.sum())))
    return text.decode(np.array(written))


def run(steps: int, seed: int, batch_size: int = 32, config: Config | None = None,
        tell: Tell | None = None) -> tuple[float, str]:
    """Train for that many steps. Returns the mean loss of the last tenth of them, and a sample of writing."""
    text = Text(standard_library())
    config = config or Config(n_characters=len(text.alphabet))
    fb.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = CharTransformer(config)
    optimizer = optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)
    n_parameters = sum(parameter.numel() for parameter in model.parameters())
    print(f"{len(text.codes):,} characters of Python, {n_parameters:,} parameters, {steps} steps")

    @fb.compile
    def train_step(codes: fb.Tensor, targets: fb.Tensor) -> fb.Tensor:
        optimizer.zero_grad()
        logits = model(codes)
        loss = F.cross_entropy(logits.reshape(-1, config.n_characters), targets.reshape(-1))
        loss.backward()
        optimizer.step()
        return loss

    losses: list[float] = []
    tenth = max(1, steps // 10)
    tell = tell or lines(tenth, "step")
    for step in range(steps):
        # Warm up over 50 steps, then fall along a cosine. Changing the rate never compiles again.
        optimizer.param_groups[0]["lr"] = 3e-3 * min(
            (step + 1) / 50, 0.55 + 0.45 * math.cos(math.pi * step / steps)
        )
        codes, targets = text.batch(batch_size, config.context, rng)
        losses.append(train_step(fb.from_numpy(codes), fb.from_numpy(targets)).item())
        tell(step + 1, steps, model, loss=float(np.mean(losses[-tenth:])))
    return float(np.mean(losses[-tenth:])), sample(model, text, "def ", 400, rng)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="thirty steps, to see that it runs")
    options = parser.parse_args()
    loss, writing = run(30 if options.quick else options.steps, options.seed)
    print(f"\n{writing}\n\ntraining loss: {loss:.3f} nats a character")


if __name__ == "__main__":
    main()
