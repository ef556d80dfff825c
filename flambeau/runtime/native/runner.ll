; The program runner: walk the launches of an executable, or its steps, with the memory of one instance.

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
  %how.p = getelementptr %Launch, ptr %launch, i64 0, i32 4
  %how = load i32, ptr %how.p
  switch i32 %how, label %python [ i32 0, label %inline i32 1, label %cut ]
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
python:
  ; ctypes returns anything where Python raises before the function's first line: its answer is in the context.
  %answer.p = getelementptr %Context, ptr %context, i64 0, i32 4
  store i32 -1, ptr %answer.p
  %returned = call i32 %kernel(ptr %context, ptr %gathered, ptr %sizes, i64 0, i64 1)
  %answer = load i32, ptr %answer.p
  store i32 %answer, ptr %context
  ret i32 %answer
}

; Keep an event, if there is room.
define internal void @note(ptr %recorder, i64 %what, i64 %start, i64 %stop) nounwind {
  %count.p = getelementptr %Recorder, ptr %recorder, i64 0, i32 3
  %place = atomicrmw add ptr %count.p, i64 1 monotonic
  %capacity.p = getelementptr %Recorder, ptr %recorder, i64 0, i32 2
  %capacity = load i64, ptr %capacity.p
  %room = icmp ult i64 %place, %capacity
  br i1 %room, label %keep, label %out
keep:
  %events.p = getelementptr %Recorder, ptr %recorder, i64 0, i32 4
  %events = load ptr, ptr %events.p
  %event = getelementptr %Event, ptr %events, i64 %place
  %thread = call i64 @PyThread_get_thread_ident()
  store i64 %what, ptr %event
  %start.p = getelementptr %Event, ptr %event, i64 0, i32 1
  store i64 %start, ptr %start.p
  %stop.p = getelementptr %Event, ptr %event, i64 0, i32 2
  store i64 %stop, ptr %stop.p
  %thread.p = getelementptr %Event, ptr %event, i64 0, i32 3
  store i64 %thread, ptr %thread.p
  br label %out
out:
  ret void
}

; The kernel that stands for one that is timed: which that is lies before the buffers.
define internal i32 @timed_part(ptr %context, ptr %buffers, ptr %sizes, i64 %begin, i64 %end) nounwind {
  %timed.p = getelementptr ptr, ptr %buffers, i64 -1
  %timed = load ptr, ptr %timed.p
  %kernel = load ptr, ptr %timed
  %recorder.p = getelementptr %Timed, ptr %timed, i64 0, i32 1
  %recorder = load ptr, ptr %recorder.p
  %launch.p = getelementptr %Timed, ptr %timed, i64 0, i32 2
  %launch = load i64, ptr %launch.p
  %what = or i64 %launch, 1
  %start = call i64 @flambeau_clock_ns()
  %status = call i32 %kernel(ptr %context, ptr %buffers, ptr %sizes, i64 %begin, i64 %end)
  %stop = call i64 @flambeau_clock_ns()
  call void @note(ptr %recorder, i64 %what, i64 %start, i64 %stop)
  ret i32 %status
}

; run_launch, or run_sized if there are extents, of launch `number`, and its time into the recorder; that of each part too,
; where threads share it.
define internal i32 @run_timed(ptr %launch, ptr %extents, ptr %instance, i64 %number, ptr %recorder) nounwind {
entry:
  %own = alloca %Launch, align 8
  %timed = alloca %Timed, align 8
  call void @llvm.memcpy.p0.p0.i64(ptr %own, ptr %launch, i64 48, i1 false)
  %kernel = load ptr, ptr %launch
  %parallel.p = getelementptr %Launch, ptr %launch, i64 0, i32 4
  %parallel = load i32, ptr %parallel.p
  %wide = icmp ne i32 %parallel, 0
  %run = select i1 %wide, ptr @timed_part, ptr %kernel
  store ptr %run, ptr %own
  %what = shl i64 %number, 1
  store ptr %kernel, ptr %timed
  %recorder.p = getelementptr %Timed, ptr %timed, i64 0, i32 1
  store ptr %recorder, ptr %recorder.p
  %what.p = getelementptr %Timed, ptr %timed, i64 0, i32 2
  store i64 %what, ptr %what.p
  %gathered.p = getelementptr %Instance, ptr %instance, i64 0, i32 3
  %gathered = load ptr, ptr %gathered.p
  %before = getelementptr ptr, ptr %gathered, i64 -1
  store ptr %timed, ptr %before
  %start = call i64 @flambeau_clock_ns()
  %sized = icmp ne ptr %extents, null
  br i1 %sized, label %by.call, label %plain
plain:
  %status.plain = call i32 @run_launch(ptr %own, ptr %instance)
  br label %ran
by.call:
  %status.sized = call i32 @run_sized(ptr %own, ptr %extents, ptr %instance)
  br label %ran
ran:
  %status = phi i32 [ %status.plain, %plain ], [ %status.sized, %by.call ]
  %stop = call i64 @flambeau_clock_ns()
  %time = sub i64 %stop, %start
  %times = load ptr, ptr %recorder
  %time.p = getelementptr i64, ptr %times, i64 %number
  %time.before = atomicrmw add ptr %time.p, i64 %time monotonic
  %counts.p = getelementptr %Recorder, ptr %recorder, i64 0, i32 1
  %counts = load ptr, ptr %counts.p
  %count.p = getelementptr i64, ptr %counts, i64 %number
  %count.before = atomicrmw add ptr %count.p, i64 1 monotonic
  call void @note(ptr %recorder, i64 %what, i64 %start, i64 %stop)
  ret i32 %status
}

; All launches in order, up to the first failure. Gives its status, or 0; the instance says which it was.
define internal i32 @run_launches(ptr %instance) nounwind {
entry:
  %executable.p = getelementptr %Instance, ptr %instance, i64 0, i32 1
  %executable = load ptr, ptr %executable.p
  %launches = load ptr, ptr %executable
  %count.p = getelementptr %Executable, ptr %executable, i64 0, i32 1
  %count = load i64, ptr %count.p
  %recorder.p = getelementptr %Instance, ptr %instance, i64 0, i32 5
  %recorder = load ptr, ptr %recorder.p
  %timed = icmp ne ptr %recorder, null
  %context = getelementptr %Instance, ptr %instance, i64 0, i32 8
  call void @llvm.memset.p0.i64(ptr %context, i8 0, i64 64, i1 false)
  br i1 %timed, label %start.clock, label %next
start.clock:
  %started = call i64 @flambeau_clock_ns()
  br label %next
next:
  %i = phi i64 [ 0, %entry ], [ 0, %start.clock ], [ %i.next, %after ]
  %begun = phi i64 [ 0, %entry ], [ %started, %start.clock ], [ %begun, %after ]
  %more = icmp ult i64 %i, %count
  br i1 %more, label %begin, label %good
begin:
  %launch = getelementptr %Launch, ptr %launches, i64 %i
  br i1 %timed, label %clock, label %plain
plain:
  %status.plain = call i32 @run_launch(ptr %launch, ptr %instance)
  br label %after
clock:
  %status.timed = call i32 @run_timed(ptr %launch, ptr null, ptr %instance, i64 %i, ptr %recorder)
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
  br i1 %timed, label %stop.clock, label %out
stop.clock:
  %stopped = call i64 @flambeau_clock_ns()
  call void @note(ptr %recorder, i64 -2, i64 %begun, i64 %stopped)
  br label %out
out:
  ret i32 0
}

; One of the extents of a launch: factor, and the number of the call's size that it multiplies, or -1.
define internal i64 @extent(ptr %pair, ptr %instance) nounwind {
entry:
  %number.p = getelementptr i64, ptr %pair, i64 1
  %factor = load i64, ptr %pair
  %number = load i64, ptr %number.p
  %fixed = icmp slt i64 %number, 0
  br i1 %fixed, label %out, label %given
given:
  %sizes.p = getelementptr %Instance, ptr %instance, i64 0, i32 9
  %sizes = load ptr, ptr %sizes.p
  %size.p = getelementptr i64, ptr %sizes, i64 %number
  %size = load i64, ptr %size.p
  %product = mul i64 %factor, %size
  br label %out
out:
  %value = phi i64 [ %factor, %entry ], [ %product, %given ]
  ret i64 %value
}

; run_launch with the sizes of this call. words: how many extents, how many factors of the task count, the extents
; (two words each), the factors (an extent and a block, three words each).
define internal i32 @run_sized(ptr %launch, ptr %words, ptr %instance) nounwind {
entry:
  %own = alloca %Launch, align 8
  call void @llvm.memcpy.p0.p0.i64(ptr %own, ptr %launch, i64 48, i1 false)
  %extents = load i64, ptr %words
  %factors.p = getelementptr i64, ptr %words, i64 1
  %factors = load i64, ptr %factors.p
  %first.extent = getelementptr i64, ptr %words, i64 2
  %pairs = shl i64 %extents, 1
  %first.factor = getelementptr i64, ptr %first.extent, i64 %pairs
  %room.p = getelementptr %Instance, ptr %instance, i64 0, i32 10
  %room = load ptr, ptr %room.p
  br label %next
next:
  %i = phi i64 [ 0, %entry ], [ %i.next, %one ]
  %more = icmp ult i64 %i, %extents
  br i1 %more, label %one, label %count
one:
  %at = shl i64 %i, 1
  %pair = getelementptr i64, ptr %first.extent, i64 %at
  %value = call i64 @extent(ptr %pair, ptr %instance)
  %to = getelementptr i64, ptr %room, i64 %i
  store i64 %value, ptr %to
  %i.next = add i64 %i, 1
  br label %next
count:
  %j = phi i64 [ 0, %next ], [ %j.next, %blocks ]
  %tasks = phi i64 [ 1, %next ], [ %tasks.next, %blocks ]
  %another = icmp ult i64 %j, %factors
  br i1 %another, label %factor, label %run
factor:
  %at.factor = mul i64 %j, 3
  %triple = getelementptr i64, ptr %first.factor, i64 %at.factor
  %points = call i64 @extent(ptr %triple, ptr %instance)
  %none = icmp eq i64 %points, 0
  br i1 %none, label %blocks, label %some
some:
  %block.p = getelementptr i64, ptr %triple, i64 2
  %block = load i64, ptr %block.p
  %before = sub i64 %points, 1
  %full = udiv i64 %before, %block
  %all = add i64 %full, 1
  br label %blocks
blocks:
  %number = phi i64 [ 0, %factor ], [ %all, %some ]
  %tasks.next = mul i64 %tasks, %number
  %j.next = add i64 %j, 1
  br label %count
run:
  %tasks.p = getelementptr %Launch, ptr %own, i64 0, i32 1
  store i64 %tasks, ptr %tasks.p
  %sizes.p = getelementptr %Launch, ptr %own, i64 0, i32 6
  store ptr %room, ptr %sizes.p
  %status = call i32 @run_launch(ptr %own, ptr %instance)
  ret i32 %status
}

; How long a loop runs before it lets Python see to signals: 50 ms.
@slice = internal constant i64 50000000

; The steps of a program that is more than launches in order, from where the instance says. Gives the first failure's
; status, or 0, or the least i32 for a call that is not over: it pauses at the end of a loop's body, and goes on when it
; is run again.
define internal i32 @run_steps(ptr %instance, ptr %executable, ptr %steps) nounwind {
entry:
  %launches = load ptr, ptr %executable
  %count.p = getelementptr %Executable, ptr %executable, i64 0, i32 11
  %count = load i64, ptr %count.p
  %table.p = getelementptr %Instance, ptr %instance, i64 0, i32 2
  %table = load ptr, ptr %table.p
  %recorder.p = getelementptr %Instance, ptr %instance, i64 0, i32 5
  %recorder = load ptr, ptr %recorder.p
  %timed = icmp ne ptr %recorder, null
  %resume.p = getelementptr %Instance, ptr %instance, i64 0, i32 7
  %resume = load i64, ptr %resume.p
  store i64 0, ptr %resume.p
  %fresh = icmp eq i64 %resume, 0
  %after.pause = sub i64 %resume, 1
  %first = select i1 %fresh, i64 0, i64 %after.pause
  %context = getelementptr %Instance, ptr %instance, i64 0, i32 8
  call void @llvm.memset.p0.i64(ptr %context, i8 0, i64 64, i1 false)
  %started = call i64 @flambeau_clock_ns()
  br label %next
next:
  %i = phi i64 [ %first, %entry ], [ %following, %after ], [ %chosen, %test ], [ %target, %jump ], [ %target, %repeat ]
  %more = icmp ult i64 %i, %count
  br i1 %more, label %begin, label %good
begin:
  %step = getelementptr %Step, ptr %steps, i64 %i
  %kind = load i32, ptr %step
  %slot.p = getelementptr %Step, ptr %step, i64 0, i32 1
  %slot = load i32, ptr %slot.p
  %target.p = getelementptr %Step, ptr %step, i64 0, i32 2
  %target = load i64, ptr %target.p
  %following = add i64 %i, 1
  switch i32 %kind, label %launching [ i32 1, label %test
                                       i32 2, label %jump
                                       i32 3, label %repeat ]
jump:
  br label %next
test:
  %slot.wide = zext i32 %slot to i64
  %bool.p.p = getelementptr ptr, ptr %table, i64 %slot.wide
  %bool.p = load ptr, ptr %bool.p.p
  %bool = load i8, ptr %bool.p
  %true = icmp ne i8 %bool, 0
  %chosen = select i1 %true, i64 %following, i64 %target
  br label %next
repeat:
  %now = call i64 @flambeau_clock_ns()
  %elapsed = sub i64 %now, %started
  %slice = load i64, ptr @slice
  %long = icmp sgt i64 %elapsed, %slice
  br i1 %long, label %pause, label %next
pause:
  %resume.at = add i64 %target, 1
  store i64 %resume.at, ptr %resume.p
  br i1 %timed, label %pause.clock, label %paused
pause.clock:
  call void @note(ptr %recorder, i64 -2, i64 %started, i64 %now)
  br label %paused
paused:
  ret i32 -2147483648
launching:
  %launch = getelementptr %Launch, ptr %launches, i64 %target
  %extents.p = getelementptr %Step, ptr %step, i64 0, i32 3
  %extents = load ptr, ptr %extents.p
  br i1 %timed, label %clock, label %run
clock:
  %status.timed = call i32 @run_timed(ptr %launch, ptr %extents, ptr %instance, i64 %target, ptr %recorder)
  br label %after
run:
  %sized = icmp ne ptr %extents, null
  br i1 %sized, label %by.call, label %plain
plain:
  %status.plain = call i32 @run_launch(ptr %launch, ptr %instance)
  br label %after
by.call:
  %status.sized = call i32 @run_sized(ptr %launch, ptr %extents, ptr %instance)
  br label %after
after:
  %status = phi i32 [ %status.timed, %clock ], [ %status.plain, %plain ], [ %status.sized, %by.call ]
  %fine = icmp eq i32 %status, 0
  br i1 %fine, label %next, label %bad
bad:
  %failed.p = getelementptr %Instance, ptr %instance, i64 0, i32 6
  store i64 %target, ptr %failed.p
  ret i32 %status
good:
  br i1 %timed, label %stop.clock, label %out
stop.clock:
  %stopped = call i64 @flambeau_clock_ns()
  call void @note(ptr %recorder, i64 -2, i64 %started, i64 %stopped)
  br label %out
out:
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

; Run the instance's program, launches in order; one at a time if its executable is serialised. Needs no GIL, touches no
; Python.
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

; The same for a program of steps. A paused call keeps the lock: only the thread that
; runs it could then call the program again, from a signal handler, and would wait for itself. It is refused: the least
; i32 as the status, of no launch (-1).
define i32 @flambeau_execute_steps(ptr %instance) nounwind {
entry:
  %executable.p = getelementptr %Instance, ptr %instance, i64 0, i32 1
  %executable = load ptr, ptr %executable.p
  %steps.p = getelementptr %Executable, ptr %executable, i64 0, i32 10
  %steps = load ptr, ptr %steps.p
  %serialised.p = getelementptr %Executable, ptr %executable, i64 0, i32 7
  %serialised = load i32, ptr %serialised.p
  %one = icmp ne i32 %serialised, 0
  br i1 %one, label %look, label %free
free:
  %status.free = call i32 @run_steps(ptr %instance, ptr %executable, ptr %steps)
  ret i32 %status.free
look:
  %thread = call i64 @PyThread_get_thread_ident()
  %paused.p = getelementptr %Executable, ptr %executable, i64 0, i32 14
  %resume.p = getelementptr %Instance, ptr %instance, i64 0, i32 7
  %resume = load i64, ptr %resume.p
  %resumed = icmp ne i64 %resume, 0
  br i1 %resumed, label %go.on, label %ask
ask:
  %holder = load atomic i64, ptr %paused.p monotonic, align 8
  %own = icmp eq i64 %holder, %thread
  br i1 %own, label %refuse, label %wait
refuse:
  %failed.p = getelementptr %Instance, ptr %instance, i64 0, i32 6
  store i64 -1, ptr %failed.p
  ret i32 -2147483648
wait:
  %lock.p = getelementptr %Executable, ptr %executable, i64 0, i32 6
  call void @lock(ptr %lock.p)
  br label %run
go.on:
  store atomic i64 0, ptr %paused.p monotonic, align 8
  br label %run
run:
  %status = call i32 @run_steps(ptr %instance, ptr %executable, ptr %steps)
  %at = load i64, ptr %resume.p
  %over = icmp eq i64 %at, 0
  br i1 %over, label %release, label %pause
pause:
  store atomic i64 %thread, ptr %paused.p monotonic, align 8
  ret i32 %status
release:
  %held.p = getelementptr %Executable, ptr %executable, i64 0, i32 6
  call void @unlock(ptr %held.p)
  ret i32 %status
}

; End a paused call where it is.
define void @flambeau_abandon(ptr %instance) nounwind {
entry:
  %resume.p = getelementptr %Instance, ptr %instance, i64 0, i32 7
  store i64 0, ptr %resume.p
  %executable.p = getelementptr %Instance, ptr %instance, i64 0, i32 1
  %executable = load ptr, ptr %executable.p
  %serialised.p = getelementptr %Executable, ptr %executable, i64 0, i32 7
  %serialised = load i32, ptr %serialised.p
  %one = icmp ne i32 %serialised, 0
  br i1 %one, label %release, label %out
release:
  %paused.p = getelementptr %Executable, ptr %executable, i64 0, i32 14
  store atomic i64 0, ptr %paused.p monotonic, align 8
  %lock.p = getelementptr %Executable, ptr %executable, i64 0, i32 6
  call void @unlock(ptr %lock.p)
  br label %out
out:
  ret void
}

declare i64 @PyThread_get_thread_ident()
