"""`fb.distributions.utils`: what distributions of one's own are made with."""
from flambeau.frontend.distributions.parameters import (
    broadcast_all,
    clamp_probs,
    logits_to_probs,
    probs_to_logits,
)
from flambeau.frontend.distributions.parameters import derived as lazy_property

__all__ = ["broadcast_all", "clamp_probs", "lazy_property", "logits_to_probs", "probs_to_logits"]
