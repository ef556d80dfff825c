"""Probability distributions, with PyTorch's names. All is made of differentiable ops, so that a compiled step may build
distributions, draw from them and differentiate log_prob, rsample and kl_divergence."""
