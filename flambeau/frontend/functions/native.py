"""Layers and losses as `fb.dropout`, `fb.kl_div`, ... have them: with the arguments of PyTorch's kernels, which differ from
those of `nn.functional` in order and defaults, and spell a reduction as a number. 0, none, is what its Python leaves
out, whatever its documentation says."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from flambeau.frontend.functions import ctc, embeddings, losses, margin_losses, noise
from flambeau.frontend.functions.calls import public
from flambeau.frontend.functions.embeddings import embedding_renorm_
from flambeau.frontend.functions.inplace import overwriting
from flambeau.frontend.random import Generator
from flambeau.frontend.tensor.tensor import Tensor

_REDUCTIONS: Final = ("none", "mean", "sum")


def _reduction(name: str, number: Any) -> str:
    if number not in (0, 1, 2):
        raise ValueError(f"{name}: reduction is 0 (none), 1 (mean) or 2 (sum), got {number!r}")
    return _REDUCTIONS[number]


# -- dropout ----------------------------------------------------------------------------------------------------------


def dropout(input: Tensor, p: float, train: bool) -> Tensor:
    """0 with probability p, else x / (1 - p); the input itself unless train."""
    return noise.dropout(input, p, train)


def feature_dropout(input: Tensor, p: float, train: bool) -> Tensor:
    """dropout of whole channels of [N, C, ...]."""
    return noise.feature_dropout(input, p, train)


def alpha_dropout(input: Tensor, p: float, train: bool) -> Tensor:
    """dropout to selu's negative limit, scaled and shifted so that mean and variance stay."""
    return noise.alpha_dropout(input, p, train)


def feature_alpha_dropout(input: Tensor, p: float, train: bool) -> Tensor:
    """alpha_dropout of whole channels of [N, C, ...]."""
    return noise.feature_alpha_dropout(input, p, train)


def rrelu(input: Tensor, lower: float = 1.0 / 8, upper: float = 1.0 / 3, training: bool = False,
          generator: Generator | None = None) -> Tensor:
    """x above 0, slope * x below; each slope is drawn from [lower, upper) in training, else it is their mean."""
    return noise.rrelu(input, lower, upper, training, generator=generator)


dropout_, feature_dropout_ = overwriting(dropout, "dropout_"), overwriting(feature_dropout, "feature_dropout_")
alpha_dropout_ = overwriting(alpha_dropout, "alpha_dropout_")
feature_alpha_dropout_ = overwriting(feature_alpha_dropout, "feature_alpha_dropout_")
rrelu_ = overwriting(rrelu, "rrelu_")

# -- tables -----------------------------------------------------------------------------------------------------------


def embedding(weight: Tensor, indices: Tensor, padding_idx: int = -1, scale_grad_by_freq: bool = False,
              sparse: bool = False) -> Tensor:
    """weight's rows at integer indices; rows at padding_idx (-1: none) get no gradient."""
    return embeddings.embedding(indices, weight, None if padding_idx < 0 else padding_idx,
                                scale_grad_by_freq=scale_grad_by_freq, sparse=sparse)


def embedding_bag(weight: Tensor, indices: Tensor, offsets: Tensor, scale_grad_by_freq: bool = False, mode: int = 0,
                  sparse: bool = False, per_sample_weights: Tensor | None = None, include_last_offset: bool = False,
                  padding_idx: int | None = None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(rows folded by mode: 0 is "sum", 1 "mean", 2 "max"; the bag of each index; the number of indices in each bag;
    for "max" the indices that gave the maxima)."""
    bag_of, bags = embeddings.from_offsets(indices, offsets, include_last_offset)
    return (*embeddings.folded(indices, weight, bag_of, bags, embeddings.MODES[mode], scale_grad_by_freq,
                               per_sample_weights, padding_idx),)


# -- losses -----------------------------------------------------------------------------------------------------------


def binary_cross_entropy_with_logits(input: Tensor, target: Tensor, weight: Tensor | None = None,
                                     pos_weight: Tensor | None = None, reduction: int = 0) -> Tensor:
    """Binary cross-entropy of sigmoid(input), without overflow."""
    return losses.binary_cross_entropy_with_logits(
        input, target, weight, pos_weight=pos_weight,
        reduction=_reduction("binary_cross_entropy_with_logits", reduction))


def kl_div(input: Tensor, target: Tensor, reduction: int = 0, *, log_target: bool = False) -> Tensor:
    """target * (log target - input), for log-probabilities `input`."""
    return losses.kl_div(input, target, reduction=_reduction("kl_div", reduction), log_target=log_target)


def poisson_nll_loss(input: Tensor, target: Tensor, log_input: bool, full: bool, eps: float, reduction: int) -> Tensor:
    """exp(input) - target * input (input - target * log(input + eps) unless log_input)."""
    return losses.poisson_nll_loss(input, target, log_input, full, eps=eps,
                                   reduction=_reduction("poisson_nll_loss", reduction))


def cosine_embedding_loss(input1: Tensor, input2: Tensor, target: Tensor, margin: float = 0.0,
                          reduction: int = 0) -> Tensor:
    """1 - cos where the target is 1, max(0, cos - margin) where it is -1."""
    return margin_losses.cosine_embedding_loss(input1, input2, target, margin,
                                               reduction=_reduction("cosine_embedding_loss", reduction))


def hinge_embedding_loss(input: Tensor, target: Tensor, margin: float = 1.0, reduction: int = 0) -> Tensor:
    """x where the target is 1, max(0, margin - x) where it is -1."""
    return margin_losses.hinge_embedding_loss(input, target, margin,
                                              reduction=_reduction("hinge_embedding_loss", reduction))


def margin_ranking_loss(input1: Tensor, input2: Tensor, target: Tensor, margin: float = 0.0,
                        reduction: int = 0) -> Tensor:
    """max(0, margin - target * (input1 - input2))."""
    return margin_losses.margin_ranking_loss(input1, input2, target, margin,
                                             reduction=_reduction("margin_ranking_loss", reduction))


def triplet_margin_loss(anchor: Tensor, positive: Tensor, negative: Tensor, margin: float = 1.0, p: float = 2.0,
                        eps: float = 1e-6, swap: bool = False, reduction: int = 0) -> Tensor:
    """max(0, |anchor - positive| - |anchor - negative| + margin)."""
    return margin_losses.triplet_margin_loss(anchor, positive, negative, margin, p, eps, swap,
                                             reduction=_reduction("triplet_margin_loss", reduction))


def ctc_loss(log_probs: Tensor, targets: Tensor, input_lengths: Tensor | Sequence[int],
             target_lengths: Tensor | Sequence[int], blank: int = 0, reduction: int = 0,
             zero_infinity: bool = False) -> Tensor:
    """-log of the probability of each target, over all its alignments."""
    return ctc.ctc_loss(log_probs, targets, input_lengths, target_lengths, blank, _reduction("ctc_loss", reduction),
                        zero_infinity)


__all__ = [
    "alpha_dropout", "alpha_dropout_", "binary_cross_entropy_with_logits", "cosine_embedding_loss", "ctc_loss",
    "dropout", "dropout_", "embedding", "embedding_bag", "embedding_renorm_", "feature_alpha_dropout",
    "feature_alpha_dropout_", "feature_dropout", "feature_dropout_", "hinge_embedding_loss", "kl_div",
    "margin_ranking_loss", "poisson_nll_loss", "rrelu", "rrelu_", "triplet_margin_loss",
]
public(globals(), [name for name in __all__ if not name.endswith("_")])
