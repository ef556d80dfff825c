; Waiting, waking, time and aligned memory on other POSIX systems. Without futexes a sleeper naps and looks.

declare i32 @sched_yield()
declare i32 @nanosleep(ptr, ptr)
declare i32 @clock_gettime(i32, ptr)
declare i32 @posix_memalign(ptr, i64, i64)
declare void @free(ptr)

; Nap 0.1 ms. May return early or late: callers look again.
define internal void @wait_on(ptr %word, i32 %expected) nounwind {
  %time = alloca [2 x i64], align 8
  store i64 0, ptr %time
  %rest = getelementptr i64, ptr %time, i64 1
  store i64 100000, ptr %rest
  %ignored = call i32 @nanosleep(ptr %time, ptr null)
  ret void
}

define internal void @wake(ptr %word, i32 %count) nounwind {
  ret void
}

define internal void @give_way() nounwind {
  %ignored = call i32 @sched_yield()
  ret void
}

define i64 @flambeau_clock_ns() nounwind {
  %time = alloca [2 x i64], align 8
  %clock = load i32, ptr @clock_id
  %ignored = call i32 @clock_gettime(i32 %clock, ptr %time)
  %seconds = load i64, ptr %time
  %rest = getelementptr i64, ptr %time, i64 1
  %ns = load i64, ptr %rest
  %scaled = mul i64 %seconds, 1000000000
  %total = add i64 %scaled, %ns
  ret i64 %total
}

define internal ptr @aligned_new(i64 %bytes) nounwind {
  %cell = alloca ptr, align 8
  %error = call i32 @posix_memalign(ptr %cell, i64 64, i64 %bytes)
  %failed = icmp ne i32 %error, 0
  %memory = load ptr, ptr %cell
  %answer = select i1 %failed, ptr null, ptr %memory
  ret ptr %answer
}

define internal void @aligned_delete(ptr %memory) nounwind {
  call void @free(ptr %memory)
  ret void
}
