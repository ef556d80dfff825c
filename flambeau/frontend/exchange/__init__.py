"""Tensors to and from files and other libraries: `fb.save`, `fb.load`, safetensors, PyTorch's files, DLPack."""
