"""Flambeau: the train step as a user writes it, under one `fb.compile`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import flambeau as fb
import flambeau.nn.functional as F
from benchmarks.workloads.base import Arrays, Batch, Call, Train, Workload
from flambeau import nn, optim

VERSION = fb.__version__


class Peer:
    def __init__(self, threads: int, mode: str) -> None:
        fb.set_num_threads(threads)
        self._function: Any = None

    def batch(self, arrays: Batch) -> tuple[fb.Tensor, ...]:
        return tuple(fb.from_numpy(array) for array in arrays)

    def build(self, workload: Workload, weights: Arrays, dropout: bool) -> Callable[..., fb.Tensor]:
        if isinstance(workload, Call):
            self._function = fb.compile(workload.make(fb, nn, F, optim))
            return self._function
        assert isinstance(workload, Train), workload
        self._function = step_of(workload, weights, workload.dropout if dropout else 0.0)
        return self._function

    def wait(self, result: fb.Tensor) -> None:
        """A step is one native call: its result is ready when it returns."""

    def numpy(self, result: fb.Tensor) -> np.ndarray:
        return result.detach().numpy()

    def stats(self) -> dict[str, Any]:
        stats = dict(self._function.stats())
        return {"kernels": stats.get("n_kernels")} | stats


def step_of(workload: Train, weights: Arrays, dropout: float = 0.0, dynamic: bool | None = None) -> Any:
    """The compiled train step of a workload. dynamic: as `fb.compile` has it."""
    model = workload.module(nn, F, fb, dropout)
    model.load_state_dict({name: fb.tensor(array) for name, array in weights.items()})
    optimizer = getattr(optim, workload.optimizer)(model.parameters(), **workload.hyper)

    @fb.compile(dynamic=dynamic)
    def train_step(x: fb.Tensor, y: fb.Tensor) -> fb.Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return train_step
