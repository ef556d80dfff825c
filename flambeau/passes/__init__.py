"""Graph to graph, graph to kernels: the rewrites between what was traced and what is emitted."""
