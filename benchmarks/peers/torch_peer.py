"""torch, eager or compiled, each in its fastest documented form.

Compiled: one `torch.compile` of model and loss; the backward graph comes with it. The optimizer is torch's fused
native one in both: it beat the default, foreach, and `torch.compile` of the step, which costs 3 s of compiling more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch._dynamo
import torch._inductor.compile_fx  # torch.compile would import it inside the first call
import torch.nn.functional as F
from torch import nn, optim

from benchmarks.workloads.base import Arrays, Batch, Call, Train, Workload

VERSION = torch.__version__


class Peer:
    def __init__(self, threads: int, mode: str) -> None:
        torch.set_num_threads(threads)
        self.compiled = mode == "compile"

    def batch(self, arrays: Batch) -> tuple[torch.Tensor, ...]:
        return tuple(torch.from_numpy(array) for array in arrays)

    def build(self, workload: Workload, weights: Arrays, dropout: bool) -> Callable[..., torch.Tensor]:
        wrap = torch.compile if self.compiled else lambda function: function
        if isinstance(workload, Call):
            return wrap(workload.make(torch, nn, F, optim))
        assert isinstance(workload, Train), workload
        return self._train_step(workload, weights, dropout, wrap)

    def _train_step(
        self, workload: Train, weights: Arrays, dropout: bool, wrap: Any
    ) -> Callable[..., torch.Tensor]:
        model = workload.module(nn, F, torch, workload.dropout if dropout else 0.0)
        model.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in weights.items()})
        optimizer = getattr(optim, workload.optimizer)(model.parameters(), **workload.hyper, fused=True)
        loss_of = wrap(lambda x, y: F.cross_entropy(model(x), y))

        def train_step(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            optimizer.zero_grad()
            loss = loss_of(x, y)
            loss.backward()
            optimizer.step()
            return loss

        return train_step

    def wait(self, result: torch.Tensor) -> None:
        """CPU tensors are ready when the call returns."""

    def numpy(self, result: torch.Tensor) -> np.ndarray:
        return result.detach().numpy()

    def stats(self) -> dict[str, Any]:
        """Kernels that Inductor generated, library calls (GEMM, convolution) not included."""
        return {"kernels": torch._inductor.metrics.generated_kernel_count} if self.compiled else {}
