; Waiting, waking, time and aligned memory on Windows. A sleeper naps and looks.

declare i32 @SwitchToThread()
declare void @Sleep(i32)
declare i32 @QueryPerformanceCounter(ptr)
declare i32 @QueryPerformanceFrequency(ptr)
declare ptr @_aligned_malloc(i64, i64)
declare void @_aligned_free(ptr)

; Nap 1 ms. May return early or late: callers look again.
define internal void @wait_on(ptr %word, i32 %expected) nounwind {
  call void @Sleep(i32 1)
  ret void
}

define internal void @wake(ptr %word, i32 %count) nounwind {
  ret void
}

define internal void @give_way() nounwind {
  %ignored = call i32 @SwitchToThread()
  ret void
}

define i64 @flambeau_clock_ns() nounwind {
  %cell = alloca i64, align 8
  %ignored = call i32 @QueryPerformanceFrequency(ptr %cell)
  %frequency = load i64, ptr %cell
  %ignored2 = call i32 @QueryPerformanceCounter(ptr %cell)
  %ticks = load i64, ptr %cell
  ; Whole seconds and the rest apart, since ticks times 10^9 would overflow after some hours.
  %seconds = udiv i64 %ticks, %frequency
  %rest = urem i64 %ticks, %frequency
  %scaled = mul i64 %seconds, 1000000000
  %fine = mul i64 %rest, 1000000000
  %ns = udiv i64 %fine, %frequency
  %total = add i64 %scaled, %ns
  ret i64 %total
}

define internal ptr @aligned_new(i64 %bytes) nounwind {
  %memory = call ptr @_aligned_malloc(i64 %bytes, i64 64)
  ret ptr %memory
}

define internal void @aligned_delete(ptr %memory) nounwind {
  call void @_aligned_free(ptr %memory)
  ret void
}
