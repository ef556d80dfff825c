"""What the examples share: the loop of classifiers (shuffled batches through one compiled step, then what was held back is
judged), and who is told how it goes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

import flambeau as fb
from flambeau import nn, optim

Arrays = tuple[np.ndarray, np.ndarray]              # inputs and targets, one of each for an example
Tell = Callable[..., None]                          # told (done, total, model, **numbers), an epoch or some steps at a time


def lines(every: int = 1, unit: str = "epoch") -> Tell:
    """Print a line at the first, at the last and at every so many."""
    def tell(done: int, total: int, model: nn.Module, **numbers: float) -> None:
        if done in (1, total) or done % every == 0:
            shown = (f"{name.replace('_', ' ')} {value:.4f}" for name, value in numbers.items())
            print(f"{unit} {done:>{len(str(total))}}", *shown, sep="  ")

    return tell


def fit(model: nn.Module, loss_of: Callable[..., fb.Tensor], decide: Callable[[fb.Tensor], fb.Tensor], train: Arrays,
        test: Arrays, epochs: int, rng: np.random.Generator, batch_size: int, tell: Tell | None = None) -> float:
    """Train, with `loss_of(outputs, targets)`; returns the share of `test` whose target is what `decide(outputs)` says.
    The batches divide the number of examples."""
    optimizer = optim.AdamW(model.parameters(), lr=3e-3)

    @fb.compile
    def train_step(inputs: fb.Tensor, targets: fb.Tensor) -> fb.Tensor:
        optimizer.zero_grad()
        loss = loss_of(model(inputs), targets)
        loss.backward()
        optimizer.step()
        return loss

    @fb.compile
    def predict(inputs: fb.Tensor) -> fb.Tensor:
        with fb.no_grad():
            return decide(model(inputs))

    accuracy, tell = 0.0, tell or lines()
    for epoch in range(1, epochs + 1):
        model.train()
        losses = []
        for batch in rng.permutation(len(train[0])).reshape(-1, batch_size):
            inputs, targets = (fb.from_numpy(array[batch]) for array in train)
            losses.append(train_step(inputs, targets).item())
        model.eval()
        accuracy = float((predict(fb.from_numpy(test[0])).numpy() == test[1]).mean())
        tell(epoch, epochs, model, first_loss=float(np.mean(losses[:10])), loss=float(np.mean(losses[-10:])),
             test_accuracy=accuracy)
    return accuracy
