"""A softmax over many classes, of which few are frequent: Grave et al., "Efficient softmax approximation for GPUs", ICML
2017."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from flambeau.errors import ShapeError
from flambeau.frontend.active import active
from flambeau.frontend.functions.coerce import cast, reshaped, tensor_of
from flambeau.frontend.functions.elementwise import add, choose, clamp, sub
from flambeau.frontend.functions.gathering import gather
from flambeau.frontend.functions.joining import cat
from flambeau.frontend.functions.pointwise import ge, logical_and, lt, neg
from flambeau.frontend.functions.reductions import argmax, log_softmax, mean
from flambeau.frontend.functions.views import sliced, unsqueeze
from flambeau.frontend.nn.containers import ModuleList, Sequential
from flambeau.frontend.nn.linear import Linear
from flambeau.frontend.nn.module import Module
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import dtypes as dt
from flambeau.ir.dtypes import DType


class LogProbabilitiesAndLoss(NamedTuple):
    """output: f[N], the log-probability of each target; loss: the mean of what they lack to 0."""

    output: Tensor
    loss: Tensor


class AdaptiveLogSoftmaxWithLoss(Module):
    """Classes below cutoffs[0] have scores of their own in the head; those between two cutoffs are a cluster, which has
    one score in the head and a softmax of its own behind a layer that is div_value times narrower from cluster to cluster.

    Every cluster is computed for every sample, so that shapes do not depend on the targets.
    Raises ValueError for cutoffs that are not increasing integers between 1 and n_classes - 1."""

    def __init__(self, in_features: int, n_classes: int, cutoffs: Sequence[int], div_value: float = 4.0,
                 head_bias: bool = False, device: Any = None, dtype: DType | None = None):
        super().__init__()
        cutoffs = list(cutoffs)
        if not cutoffs:
            raise ValueError("cutoffs should be a sequence of length larger than 0")
        if any(int(c) != c for c in cutoffs) or cutoffs != sorted(set(cutoffs)) or cutoffs[0] <= 0 or \
                cutoffs[-1] > n_classes - 1:
            raise ValueError("cutoffs should be a sequence of unique, positive integers sorted in an increasing order, "
                             "where each value is between 1 and n_classes-1")
        self.in_features, self.n_classes, self.cutoffs = in_features, n_classes, [*cutoffs, n_classes]
        self.div_value, self.head_bias = div_value, head_bias
        self.shortlist_size, self.n_clusters = self.cutoffs[0], len(self.cutoffs) - 1
        self.head_size = self.shortlist_size + self.n_clusters
        self.head = Linear(in_features, self.head_size, head_bias, device, dtype)
        self.tail = ModuleList()
        for i in range(self.n_clusters):
            width, classes = int(in_features // div_value ** (i + 1)), self.cutoffs[i + 1] - self.cutoffs[i]
            self.tail.append(Sequential(Linear(in_features, width, False, device, dtype),
                                        Linear(width, classes, False, device, dtype)))

    def reset_parameters(self) -> None:
        """Draw all weights anew."""
        self.head.reset_parameters()
        for first, second in self.tail:
            first.reset_parameters()
            second.reset_parameters()

    def forward(self, input: Tensor, target: Tensor) -> LogProbabilitiesAndLoss:
        """input: [N, in_features] or [in_features]; target: classes [N] or []. A target that is no class raises
        RuntimeError, and makes the loss of a compiled function NaN."""
        if target.ndim > 1 or input.ndim != target.ndim + 1 or input.shape[:-1] != target.shape:
            raise ShapeError(f"AdaptiveLogSoftmaxWithLoss: input and target should have the same size in the batch "
                             f"dimension, got {input._type} and {target._type}")
        if active.tracer is None and target.numel():
            data = target._data()
            if data.min() < 0 or data.max() >= self.n_classes:
                raise RuntimeError(f"Target values should be in [0, {self.n_classes - 1}], but values in range "
                                   f"[{data.min()}, {data.max()}] were found.")
        x = input if input.ndim == 2 else unsqueeze(input, 0)
        y = cast(reshaped(target, (x._type.static_shape[0], 1)), dt.i64)
        head = log_softmax(self.head(x), 1)
        found = _of_classes(head, y, 0, self.shortlist_size, tensor_of(float("nan"), head.dtype))
        for i, (low, high) in enumerate(zip(self.cutoffs, self.cutoffs[1:], strict=False)):
            found = _of_classes(self._cluster(i, x, head), y, low, high, found)
        output = reshaped(found, target._type.static_shape)
        return LogProbabilitiesAndLoss(output, neg(mean(output)))

    def _cluster(self, i: int, x: Tensor, head: Tensor) -> Tensor:
        """Log-probabilities of a cluster's classes."""
        place = self.shortlist_size + i
        return add(log_softmax(self.tail[i](x), 1), sliced(head, 1, place, place + 1))

    def log_prob(self, input: Tensor) -> Tensor:
        """[N, in_features] -> [N, n_classes], the log-probabilities of all classes."""
        head = log_softmax(self.head(input), 1)
        return cat([sliced(head, 1, 0, self.shortlist_size),
                    *[self._cluster(i, input, head) for i in range(self.n_clusters)]], 1)

    def predict(self, input: Tensor) -> Tensor:
        """[N, in_features] -> i64[N], the most probable classes."""
        return argmax(self.log_prob(input), 1)


def _of_classes(logs: Tensor, y: Tensor, low: int, high: int, otherwise: Tensor) -> Tensor:
    """The log-probabilities of targets in [low, high), whose first is column 0."""
    chosen = gather(logs, 1, clamp(sub(y, low), min=0, max=high - low - 1))
    return choose(logical_and(ge(y, low), lt(y, high)), chosen, otherwise)


__all__ = ["AdaptiveLogSoftmaxWithLoss"]
