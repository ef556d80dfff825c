; The program runner: walk the launches of an executable with the memory of one instance.

; Gather the launch's buffer pointers from the instance's table, then run it inline or through the pool.
define internal i32 @run_launch(ptr %launch, ptr %instance) nounwind {
entry:
  %kernel = load ptr, ptr %launch
  %tasks.p = getelementptr %Launch, ptr %launch, i64 0, i32 1
  %tasks = load i64, ptr %tasks.p
  %count.p = getelementptr %Launch, ptr %launch, i64 0, i32 3
  %count.narrow = load i32, ptr %count.p
  %count = zext i32 %count.narrow to i64
  %slots.p = getelementptr %Launch, ptr %launch, i64 0, i32 5
  %slots = load ptr, ptr %slots.p
  %sizes.p = getelementptr %Launch, ptr %launch, i64 0, i32 6
  %sizes = load ptr, ptr %sizes.p
  %table.p = getelementptr %Instance, ptr %instance, i64 0, i32 2
  %table = load ptr, ptr %table.p
  %gathered.p = getelementptr %Instance, ptr %instance, i64 0, i32 3
  %gathered = load ptr, ptr %gathered.p
  %context = getelementptr %Instance, ptr %instance, i64 0, i32 8
  %some = icmp ne i64 %count, 0
  br i1 %some, label %gather, label %choose
gather:
  %i = phi i64 [ 0, %entry ], [ %i.next, %gather ]
  %slot.p = getelementptr i32, ptr %slots, i64 %i
  %slot = load i32, ptr %slot.p
  %slot.wide = zext i32 %slot to i64
  %pointer.p = getelementptr ptr, ptr %table, i64 %slot.wide
  %pointer = load ptr, ptr %pointer.p
  %to = getelementptr ptr, ptr %gathered, i64 %i
  store ptr %pointer, ptr %to
  %i.next = add i64 %i, 1
  %more = icmp ult i64 %i.next, %count
  br i1 %more, label %gather, label %choose
choose:
  %parallel.p = getelementptr %Launch, ptr %launch, i64 0, i32 4
  %parallel = load i32, ptr %parallel.p
  %wide = icmp ne i32 %parallel, 0
  br i1 %wide, label %cut, label %inline
cut:
  %pool = load atomic ptr, ptr @pool acquire, align 8
  %here = icmp ne ptr %pool, null
  br i1 %here, label %chunk, label %inline
chunk:
  %grain.p = getelementptr %Launch, ptr %launch, i64 0, i32 2
  %grain = load i64, ptr %grain.p
  %padded = add i64 %tasks, %grain
  %last = sub i64 %padded, 1
  %chunks = udiv i64 %last, %grain
  %several = icmp ugt i64 %chunks, 1
  br i1 %several, label %share, label %inline
share:
  call void @pool_run(ptr %pool, ptr %kernel, ptr %context, ptr %gathered, ptr %sizes, i64 %tasks, i64 %grain,
                      i64 %chunks)
  %shared = load atomic i32, ptr %context monotonic, align 4
  ret i32 %shared
inline:
  %result = call i32 %kernel(ptr %context, ptr %gathered, ptr %sizes, i64 0, i64 %tasks)
  store i32 %result, ptr %context
  ret i32 %result
}

; All launches in order, up to the first failure. Gives its status, or 0; the instance says which it was.
define internal i32 @run_launches(ptr %instance) nounwind {
entry:
  %executable.p = getelementptr %Instance, ptr %instance, i64 0, i32 1
  %executable = load ptr, ptr %executable.p
  %launches = load ptr, ptr %executable
  %count.p = getelementptr %Executable, ptr %executable, i64 0, i32 1
  %count = load i64, ptr %count.p
  %times.p = getelementptr %Instance, ptr %instance, i64 0, i32 5
  %times = load ptr, ptr %times.p
  %timed = icmp ne ptr %times, null
  %context = getelementptr %Instance, ptr %instance, i64 0, i32 8
  call void @llvm.memset.p0.i64(ptr %context, i8 0, i64 64, i1 false)
  br label %next
next:
  %i = phi i64 [ 0, %entry ], [ %i.next, %after ]
  %more = icmp ult i64 %i, %count
  br i1 %more, label %begin, label %good
begin:
  %launch = getelementptr %Launch, ptr %launches, i64 %i
  br i1 %timed, label %clock, label %plain
plain:
  %status.plain = call i32 @run_launch(ptr %launch, ptr %instance)
  br label %after
clock:
  %start = call i64 @flambeau_clock_ns()
  %status.timed = call i32 @run_launch(ptr %launch, ptr %instance)
  %stop = call i64 @flambeau_clock_ns()
  %time = sub i64 %stop, %start
  %time.p = getelementptr i64, ptr %times, i64 %i
  store i64 %time, ptr %time.p
  br label %after
after:
  %status = phi i32 [ %status.plain, %plain ], [ %status.timed, %clock ]
  %i.next = add i64 %i, 1
  %fine = icmp eq i32 %status, 0
  br i1 %fine, label %next, label %bad
bad:
  %failed.p = getelementptr %Instance, ptr %instance, i64 0, i32 6
  store i64 %i, ptr %failed.p
  ret i32 %status
good:
  ret i32 0
}

; The lock of an executable that writes state: 0 free, 1 taken, 2 taken and someone sleeps on it.
define internal void @lock(ptr %word) nounwind {
entry:
  %swap = cmpxchg ptr %word, i32 0, i32 1 acquire monotonic
  %mine = extractvalue { i32, i1 } %swap, 1
  br i1 %mine, label %out, label %wait
wait:
  %before = atomicrmw xchg ptr %word, i32 2 acquire
  %free = icmp eq i32 %before, 0
  br i1 %free, label %out, label %sleep
sleep:
  call void @wait_on(ptr %word, i32 2)
  br label %wait
out:
  ret void
}

define internal void @unlock(ptr %word) nounwind {
  %before = atomicrmw xchg ptr %word, i32 0 release
  %waited = icmp eq i32 %before, 2
  br i1 %waited, label %call, label %out
call:
  call void @wake(ptr %word, i32 1)
  br label %out
out:
  ret void
}

; Run the instance's program; one at a time if its executable is serialised. Needs no GIL, touches no Python.
define i32 @flambeau_execute(ptr %instance) nounwind {
entry:
  %executable.p = getelementptr %Instance, ptr %instance, i64 0, i32 1
  %executable = load ptr, ptr %executable.p
  %serialised.p = getelementptr %Executable, ptr %executable, i64 0, i32 7
  %serialised = load i32, ptr %serialised.p
  %one = icmp ne i32 %serialised, 0
  br i1 %one, label %alone, label %free
free:
  %status.free = call i32 @run_launches(ptr %instance)
  ret i32 %status.free
alone:
  %lock.p = getelementptr %Executable, ptr %executable, i64 0, i32 6
  call void @lock(ptr %lock.p)
  %status = call i32 @run_launches(ptr %instance)
  call void @unlock(ptr %lock.p)
  ret i32 %status
}
