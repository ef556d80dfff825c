"""What `benchmarks.gpu_check` does on a GPU, by sections. A section is a generator of results: dicts with a name, numbers
and words, written down as they come."""
