; Tell the core that this is a spin loop.
declare void @llvm.x86.sse2.pause()

define internal void @pause() alwaysinline nounwind {
  call void @llvm.x86.sse2.pause()
  ret void
}
