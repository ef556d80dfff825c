"""The operations users call, in PyTorch's names, by subject. Each ends in `dispatch`."""
