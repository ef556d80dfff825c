"""Vector maths as explicit LLVM IR."""
