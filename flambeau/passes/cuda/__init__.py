"""What a GPU decides: how kernels are laid over blocks and threads."""
