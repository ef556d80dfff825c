"""A convolutional network judges sentences (Kim, 2014) that a small grammar makes: praise or not, with "not" and "but".

    python examples/sentiment.py --epochs 10
"""

from __future__ import annotations

import argparse

import numpy as np
from training import Tell, fit

import flambeau as fb
import flambeau.nn.functional as F
from flambeau import nn

SUBJECTS = "plot film music ending cast dialogue pace story camera villain".split()
GOOD = "great lovely moving clever fresh bright funny gripping warm superb".split()
BAD = "dull awful weak clumsy stale bleak tired shallow messy grating".split()
DEGREES = "very really quite rather so".split()
VERBS = "was seemed felt looked".split()
OPENINGS = ["", "honestly", "i think", "for once", "as ever"]
LENGTH = 18                     # of the longest sentence


def clause(praises: bool, rng: np.random.Generator) -> str:
    """"the plot was not very dull": a clause that praises or does not, half of the time by denying the opposite."""
    denied = rng.random() < 0.5
    adjective = rng.choice(GOOD if praises != denied else BAD)
    degree = rng.choice(DEGREES) if rng.random() < 0.5 else ""
    return f"the {rng.choice(SUBJECTS)} {rng.choice(VERBS)} {'not' if denied else ''} {degree} {adjective}"


def sentence(liked: bool, rng: np.random.Generator) -> list[str]:
    """A clause, or two: what comes after "but" decides, and "and" joins two of one mind."""
    opening, last = rng.choice(OPENINGS), clause(liked, rng)
    match rng.integers(3):
        case 0:
            return f"{opening} {last}".split()
        case 1:
            return f"{opening} {clause(liked, rng)} and {last}".split()
        case _:
            return f"{opening} {clause(not liked, rng)} but {last}".split()


WORDS = ["", *sorted({*SUBJECTS, *GOOD, *BAD, *DEGREES, *VERBS, *" ".join(OPENINGS).split(), "the", "not", "and", "but"})]
CODE_OF = {word: code for code, word in enumerate(WORDS)}           # 0 fills sentences up


def sentences(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """n sentences as codes of words, i64[n, LENGTH], and whether each praises, f32[n]."""
    liked = rng.integers(0, 2, n)
    codes = np.zeros((n, LENGTH), np.int64)
    for row, praises in zip(codes, liked, strict=True):
        words = sentence(bool(praises), rng)
        row[:len(words)] = [CODE_OF[word] for word in words]
    return codes, liked.astype(np.float32)


class SentenceCNN(nn.Module):
    """codes: i64[n, LENGTH] -> logits of praise: f32[n]. Each filter looks for a phrase of 3, 4 or 5 words anywhere."""

    def __init__(self, width: int = 16, filters: int = 32, phrases: tuple[int, ...] = (3, 4, 5)) -> None:
        super().__init__()
        self.embedding = nn.Embedding(len(WORDS), width, padding_idx=0)
        self.convs = nn.ModuleList([nn.Conv1d(width, filters, phrase) for phrase in phrases])
        self.dropout = nn.Dropout(0.25)
        self.linear = nn.Linear(filters * len(phrases), 1)

    def forward(self, codes: fb.Tensor) -> fb.Tensor:
        x = self.embedding(codes).transpose(1, 2)
        found = [F.relu(conv(x)).amax(dim=2) for conv in self.convs]
        return self.linear(self.dropout(fb.cat(found, dim=1))).squeeze(1)


def run(epochs: int, seed: int, n_train: int = 2000, batch_size: int = 50, tell: Tell | None = None) -> float:
    """Train; returns the share of 500 other sentences judged correctly."""
    fb.manual_seed(seed)
    rng = np.random.default_rng(seed)
    train, test = sentences(n_train, rng), sentences(500, rng)
    model = SentenceCNN()
    loss_of = F.binary_cross_entropy_with_logits
    accuracy = fit(model, loss_of, lambda logits: logits > 0, train, test, epochs, rng, batch_size, tell)

    for text in ("the plot was not very dull", "honestly the film was superb but the music felt weak"):
        codes = np.zeros((1, LENGTH), np.int64)
        codes[0, :len(text.split())] = [CODE_OF[word] for word in text.split()]
        with fb.no_grad():
            print(f"{model(fb.from_numpy(codes)).sigmoid().item():>6.1%} praise: {text}")
    return accuracy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="six epochs, to see that it runs")
    options = parser.parse_args()
    print(f"test accuracy: {run(6 if options.quick else options.epochs, options.seed):.1%}")


if __name__ == "__main__":
    main()
