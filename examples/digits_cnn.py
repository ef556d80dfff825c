"""The demo's convolutional network, trained without the show: handwritten digits, 99% in seconds.

The model, its data and its compiled training step are in flambeau/demo/digits_cnn.py, so that the demo also runs
from an installed package. Needs scikit-learn.

    python examples/digits_cnn.py --seed 1
"""

from __future__ import annotations

import argparse
import statistics

from training import Tell, lines

from flambeau.demo.digits_cnn import EPOCHS, DigitsCNN, load_digits, make_training, predict, train

__all__ = ["DigitsCNN", "main", "run"]


def run(epochs: int, seed: int, tell: Tell | None = None) -> float:
    """Train and test; returns the share of held-out digits read correctly."""
    digits = load_digits()
    training = make_training(seed, total_steps=epochs * digits.steps_per_epoch)
    losses: list[float] = []
    tell = tell or lines()
    for step, progress in enumerate(train(training, digits, epochs, seed), start=1):
        losses.append(progress.loss)
        if step % digits.steps_per_epoch == 0:
            mean = statistics.fmean(losses[-digits.steps_per_epoch :])
            tell(step // digits.steps_per_epoch, epochs, training.model, loss=mean)
    return float((predict(training, digits.test_images) == digits.test_labels).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="two epochs, to see that it runs")
    options = parser.parse_args()
    accuracy = run(2 if options.quick else options.epochs, options.seed)
    print(f"test accuracy: {accuracy:.1%}")


if __name__ == "__main__":
    main()
