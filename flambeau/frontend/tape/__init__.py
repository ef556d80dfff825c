"""The tape: what is recorded of each op, and how gradients flow back over it."""
