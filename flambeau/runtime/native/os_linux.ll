; Waiting, waking, time and aligned memory on Linux. The futex number comes from the build, per CPU.

declare i64 @syscall(i64, ...)
declare i32 @sched_yield()
declare i32 @clock_gettime(i32, ptr)
declare i32 @posix_memalign(ptr, i64, i64)
declare void @free(ptr)
declare i32 @madvise(ptr, i64, i32)

; Sleep while *word == expected. May return early: callers look again.
define internal void @wait_on(ptr %word, i32 %expected) nounwind {
  %value = zext i32 %expected to i64
  %number = load i64, ptr @futex_number
  ; 128: FUTEX_WAIT | FUTEX_PRIVATE_FLAG
  %ignored = call i64 (i64, ...) @syscall(i64 %number, ptr %word, i64 128, i64 %value, ptr null)
  ret void
}

define internal void @wake(ptr %word, i32 %count) nounwind {
  %value = zext i32 %count to i64
  %number = load i64, ptr @futex_number
  ; 129: FUTEX_WAKE | FUTEX_PRIVATE_FLAG
  %ignored = call i64 (i64, ...) @syscall(i64 %number, ptr %word, i64 129, i64 %value)
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

; From 4 MiB on, whole huge pages: the kernel zeroes and maps 2 MiB at a time, and the TLB covers more.
define internal ptr @aligned_new(i64 %bytes) nounwind {
  %cell = alloca ptr, align 8
  %huge = icmp uge i64 %bytes, 4194304
  %alignment = select i1 %huge, i64 2097152, i64 64
  %error = call i32 @posix_memalign(ptr %cell, i64 %alignment, i64 %bytes)
  %failed = icmp ne i32 %error, 0
  br i1 %failed, label %none, label %got
none:
  ret ptr null
got:
  %memory = load ptr, ptr %cell
  br i1 %huge, label %advise, label %done
advise:
  ; 14: MADV_HUGEPAGE. Only advice: a kernel without it answers with an error, and nothing is lost.
  %ignored = call i32 @madvise(ptr %memory, i64 %bytes, i32 14)
  br label %done
done:
  ret ptr %memory
}

define internal void @aligned_delete(ptr %memory) nounwind {
  call void @free(ptr %memory)
  ret void
}
