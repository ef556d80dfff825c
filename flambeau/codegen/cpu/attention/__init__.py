"""AttentionKernel -> LLVM IR: tiles of rows side by side in vectors, blocks of the others one after another."""
