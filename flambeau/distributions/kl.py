"""`fb.distributions.kl`: kl_divergence of two distributions, and how to add a pair."""
from flambeau.frontend.distributions.kl import kl_divergence, register_kl

__all__ = ["kl_divergence", "register_kl"]
