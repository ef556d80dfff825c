"""Transforms of functions: gradients, tangents, batches. Each is a level that the function's ops pass through."""
