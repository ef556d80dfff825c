"""Native support code in LLVM IR: thread pool, program runner, call trampoline, allocator."""
