"""einops on our tensors: what its functions ask of a tensor library, and its layers as our Modules."""
