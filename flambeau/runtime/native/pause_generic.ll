; A core with no spin hint that we know of.
define internal void @pause() alwaysinline nounwind {
  ret void
}
