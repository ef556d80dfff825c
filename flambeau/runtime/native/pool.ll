; The thread pool. One launch at a time cuts [0, tasks) into chunks, which the workers and the launching
; thread claim by compare-and-swap on one word. A worker spins for a moment when it runs dry, then sleeps.

@pool = internal global ptr null
@pool_decided = internal global i32 0

; From now on launches use this pool (null: none). decided = 0 asks the next parallel program to start one.
define void @flambeau_set_pool(ptr %pool, i32 %decided) nounwind {
  store atomic ptr %pool, ptr @pool release, align 8
  store atomic i32 %decided, ptr @pool_decided release, align 4
  ret void
}

define internal void @wait_generation(ptr %pool, i32 %last) nounwind {
entry:
  %spin.p = getelementptr %Pool, ptr %pool, i64 0, i32 13
  %limit = load i64, ptr %spin.p
  br label %spin
spin:
  %i = phi i64 [ 0, %entry ], [ %i.next, %again ]
  %seen = load atomic i32, ptr %pool acquire, align 4
  %changed = icmp ne i32 %seen, %last
  br i1 %changed, label %out, label %again
again:
  call void @pause()
  %i.next = add i64 %i, 1
  %more = icmp ult i64 %i.next, %limit
  br i1 %more, label %spin, label %tired
tired:
  %sleepers.p = getelementptr %Pool, ptr %pool, i64 0, i32 2
  %before = atomicrmw add ptr %sleepers.p, i32 1 seq_cst
  br label %look
look:
  ; Looked at after the sleepers were counted: a launcher either sees us asleep or we see its generation.
  %now = load atomic i32, ptr %pool seq_cst, align 4
  %moved = icmp ne i32 %now, %last
  br i1 %moved, label %awake, label %sleep
sleep:
  call void @wait_on(ptr %pool, i32 %last)
  br label %look
awake:
  %count = atomicrmw sub ptr %sleepers.p, i32 1 seq_cst
  br label %out
out:
  ret void
}

; Claim chunks and do them until none is left.
define internal void @drain(ptr %pool) nounwind {
entry:
  %own = alloca %Context, align 64
  call void @llvm.memset.p0.i64(ptr %own, i8 0, i64 64, i1 false)
  %ticket.p = getelementptr %Pool, ptr %pool, i64 0, i32 4
  %done.p = getelementptr %Pool, ptr %pool, i64 0, i32 6
  %kernel.p = getelementptr %Pool, ptr %pool, i64 0, i32 8, i32 0
  %buffers.p = getelementptr %Pool, ptr %pool, i64 0, i32 8, i32 1
  %sizes.p = getelementptr %Pool, ptr %pool, i64 0, i32 8, i32 2
  %context.p = getelementptr %Pool, ptr %pool, i64 0, i32 8, i32 3
  %tasks.p = getelementptr %Pool, ptr %pool, i64 0, i32 8, i32 4
  %grain.p = getelementptr %Pool, ptr %pool, i64 0, i32 8, i32 5
  %chunks.p = getelementptr %Pool, ptr %pool, i64 0, i32 8, i32 6
  br label %claim
claim:
  %ticket = load atomic i64, ptr %ticket.p acquire, align 8
  %next = and i64 %ticket, 4294967295
  %chunks = load atomic i64, ptr %chunks.p monotonic, align 8
  %kernel = load atomic ptr, ptr %kernel.p monotonic, align 8
  %buffers = load atomic ptr, ptr %buffers.p monotonic, align 8
  %sizes = load atomic ptr, ptr %sizes.p monotonic, align 8
  %context = load atomic ptr, ptr %context.p monotonic, align 8
  %tasks = load atomic i64, ptr %tasks.p monotonic, align 8
  %grain = load atomic i64, ptr %grain.p monotonic, align 8
  %left = icmp ult i64 %next, %chunks
  br i1 %left, label %try, label %out
try:
  ; If the swap succeeds the ticket did not change since we read it, so the job read above is its job: a
  ; launcher closes the ticket before it writes a new job (and these fences order the two).
  fence acquire
  %taken = add i64 %ticket, 1
  %swap = cmpxchg ptr %ticket.p, i64 %ticket, i64 %taken seq_cst seq_cst
  %mine = extractvalue { i64, i1 } %swap, 1
  br i1 %mine, label %check, label %claim
check:
  ; A chunk after a failed one is claimed but not run.
  %status = load atomic i32, ptr %context monotonic, align 4
  %good = icmp eq i32 %status, 0
  br i1 %good, label %work, label %count
work:
  %begin = mul i64 %next, %grain
  %far = add i64 %begin, %grain
  %short = icmp ult i64 %far, %tasks
  %end = select i1 %short, i64 %far, i64 %tasks
  %result = call i32 %kernel(ptr %own, ptr %buffers, ptr %sizes, i64 %begin, i64 %end)
  %failed = icmp ne i32 %result, 0
  br i1 %failed, label %report, label %count
report:
  ; The first failure of the launch leaves its status and details; they are read after all chunks are done.
  %first = cmpxchg ptr %context, i32 0, i32 %result seq_cst seq_cst
  %won = extractvalue { i32, i1 } %first, 1
  br i1 %won, label %details, label %count
details:
  %from = getelementptr %Context, ptr %own, i64 0, i32 2
  %to = getelementptr %Context, ptr %context, i64 0, i32 2
  call void @llvm.memcpy.p0.p0.i64(ptr %to, ptr %from, i64 56, i1 false)
  br label %count
count:
  %before = atomicrmw add ptr %done.p, i64 1 release
  br label %claim
out:
  ret void
}

; A worker's life; entered by a Python thread that let go of the GIL.
define void @flambeau_worker(ptr %pool) nounwind {
entry:
  %stop.p = getelementptr %Pool, ptr %pool, i64 0, i32 11
  br label %loop
loop:
  %last = phi i32 [ 0, %entry ], [ %now, %work ]
  call void @wait_generation(ptr %pool, i32 %last)
  %now = load atomic i32, ptr %pool acquire, align 4
  %stop = load atomic i32, ptr %stop.p acquire, align 4
  %stopped = icmp ne i32 %stop, 0
  br i1 %stopped, label %out, label %work
work:
  call void @drain(ptr %pool)
  br label %loop
out:
  ret void
}

define internal void @next_generation(ptr %pool, i32 %wanted) nounwind {
  %old = load atomic i32, ptr %pool monotonic, align 4
  %new = add i32 %old, 1
  store atomic i32 %new, ptr %pool seq_cst, align 4
  %sleepers.p = getelementptr %Pool, ptr %pool, i64 0, i32 2
  %sleepers = load atomic i32, ptr %sleepers.p seq_cst, align 4
  %any = icmp sgt i32 %sleepers, 0
  br i1 %any, label %call, label %out
call:
  call void @wake(ptr %pool, i32 %wanted)
  br label %out
out:
  ret void
}

; Spin, then also give way, until *count == wanted.
define internal void @wait_count(ptr %count, i64 %wanted) nounwind {
entry:
  br label %spin
spin:
  %i = phi i64 [ 0, %entry ], [ %i.next, %again ]
  %now = load atomic i64, ptr %count acquire, align 8
  %all = icmp eq i64 %now, %wanted
  br i1 %all, label %out, label %again
again:
  call void @pause()
  %i.next = add i64 %i, 1
  %patient = icmp ult i64 %i.next, 2000
  br i1 %patient, label %spin, label %yield
yield:
  ; The threads that hold the last chunks may be waiting for our core.
  call void @give_way()
  %later = load atomic i64, ptr %count acquire, align 8
  %finished = icmp eq i64 %later, %wanted
  br i1 %finished, label %out, label %yield
out:
  ret void
}

; Run the kernel over [0, tasks) on the pool; inline if another launch has it. The status is in the context.
define internal void @pool_run(ptr %pool, ptr %kernel, ptr %context, ptr %buffers, ptr %sizes, i64 %tasks,
                               i64 %grain, i64 %chunks) nounwind {
  %busy.p = getelementptr %Pool, ptr %pool, i64 0, i32 9
  %swap = cmpxchg ptr %busy.p, i32 0, i32 1 acquire monotonic
  %mine = extractvalue { i32, i1 } %swap, 1
  br i1 %mine, label %publish, label %inline
inline:
  %result = call i32 %kernel(ptr %context, ptr %buffers, ptr %sizes, i64 0, i64 %tasks)
  store i32 %result, ptr %context
  ret void
publish:
  %ticket.p = getelementptr %Pool, ptr %pool, i64 0, i32 4
  %done.p = getelementptr %Pool, ptr %pool, i64 0, i32 6
  %generation = load atomic i32, ptr %pool monotonic, align 4
  %coming = add i32 %generation, 1
  %coming.wide = zext i32 %coming to i64
  %open = shl i64 %coming.wide, 32
  %closed = or i64 %open, 4294967295
  store atomic i64 %closed, ptr %ticket.p seq_cst, align 8
  fence release
  %kernel.p = getelementptr %Pool, ptr %pool, i64 0, i32 8, i32 0
  store atomic ptr %kernel, ptr %kernel.p monotonic, align 8
  %buffers.p = getelementptr %Pool, ptr %pool, i64 0, i32 8, i32 1
  store atomic ptr %buffers, ptr %buffers.p monotonic, align 8
  %sizes.p = getelementptr %Pool, ptr %pool, i64 0, i32 8, i32 2
  store atomic ptr %sizes, ptr %sizes.p monotonic, align 8
  %context.p = getelementptr %Pool, ptr %pool, i64 0, i32 8, i32 3
  store atomic ptr %context, ptr %context.p monotonic, align 8
  %tasks.p = getelementptr %Pool, ptr %pool, i64 0, i32 8, i32 4
  store atomic i64 %tasks, ptr %tasks.p monotonic, align 8
  %grain.p = getelementptr %Pool, ptr %pool, i64 0, i32 8, i32 5
  store atomic i64 %grain, ptr %grain.p monotonic, align 8
  %chunks.p = getelementptr %Pool, ptr %pool, i64 0, i32 8, i32 6
  store atomic i64 %chunks, ptr %chunks.p monotonic, align 8
  store atomic i64 0, ptr %done.p monotonic, align 8
  store atomic i64 %open, ptr %ticket.p release, align 8
  %others = sub i64 %chunks, 1
  %few = icmp ult i64 %others, 65535
  %wanted = select i1 %few, i64 %others, i64 65535
  %wanted.narrow = trunc i64 %wanted to i32
  call void @next_generation(ptr %pool, i32 %wanted.narrow)
  call void @drain(ptr %pool)
  call void @wait_count(ptr %done.p, i64 %chunks)
  store atomic i32 0, ptr %busy.p release, align 4
  ret void
}

; Wait for the launch in flight, then tell the workers to leave. The pool stays busy: whoever still has its
; address runs inline.
define void @flambeau_stop_pool(ptr %pool) nounwind {
entry:
  %busy.p = getelementptr %Pool, ptr %pool, i64 0, i32 9
  br label %try
try:
  %swap = cmpxchg ptr %busy.p, i32 0, i32 1 acquire monotonic
  %mine = extractvalue { i32, i1 } %swap, 1
  br i1 %mine, label %stop, label %wait
wait:
  call void @give_way()
  br label %try
stop:
  %stop.p = getelementptr %Pool, ptr %pool, i64 0, i32 11
  store atomic i32 1, ptr %stop.p release, align 4
  call void @next_generation(ptr %pool, i32 65535)
  ret void
}

; How long one pause takes, in ns per 1000, so that "spin 0.1 ms" means the same on every core.
define i64 @flambeau_pause_time() nounwind {
entry:
  %start = call i64 @flambeau_clock_ns()
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %i.next, %loop ]
  call void @pause()
  %i.next = add i64 %i, 1
  %more = icmp ult i64 %i.next, 1000
  br i1 %more, label %loop, label %out
out:
  %stop = call i64 @flambeau_clock_ns()
  %time = sub i64 %stop, %start
  ret i64 %time
}

declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)
declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)
