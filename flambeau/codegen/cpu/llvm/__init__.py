"""Writing LLVM IR: values, vectors, text."""
