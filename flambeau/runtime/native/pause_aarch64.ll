; Tell the core that this is a spin loop: hint 1 is `yield`.
declare void @llvm.aarch64.hint(i32)

define internal void @pause() alwaysinline nounwind {
  call void @llvm.aarch64.hint(i32 1)
  ret void
}
