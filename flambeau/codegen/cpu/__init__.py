"""The CPU backend: kernels become LLVM IR, and LLVM IR becomes relocatable objects."""
