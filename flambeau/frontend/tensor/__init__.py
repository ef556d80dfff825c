"""Tensors over memory: storage, strides, types."""
