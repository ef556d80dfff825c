; Layouts shared by every file here; native/layout.py states the same structures for Python.

; One kernel call: kernel, tasks, grain, parameter count, how (0 in one piece, 1 through the pool, 2 as a Python function),
; slots (i32 each), sizes (i64 each).
%Launch = type { ptr, i64, i64, i32, i32, ptr, ptr }

; One step of a program with loops, branches or sizes of the call: kind, slot, target, extents. Kinds:
; 0 run launch `target`, with `extents` worked out for this call if it is not null;
; 1 go on at step `target` if the bool in `slot` is false;  2 go on at step `target`;  3 the same, at the end of a loop.
%Step = type { i32, i32, i64, ptr }

; launches, launch count, argument count, scalar count, output count, free instances (a list), lock word,
; serialised, way (0 launches in order, 1 the same without the GIL, 2 steps, 3 steps without the GIL), parallel, steps,
; step count, size count, largest sizes, the thread that paused inside it (or 0).
%Executable = type { ptr, i64, i64, i64, i64, ptr, i32, i32, i32, i32, ptr, i64, i64, ptr, i64 }

; What a kernel sees first: status, details, the answer of a Python function, reserved; 64 bytes.
%Context = type { i32, i32, i64, i64, i32, [36 x i8] }

; The memory of one call in flight: next free instance, executable, pointer table, gathered pointers,
; scalar block, recorder (or null), failed launch, 1 + the step where a paused call goes on (or 0), context, sizes of
; the call, sizes of one launch.
%Instance = type { ptr, ptr, ptr, ptr, ptr, ptr, i64, i64, %Context, ptr, ptr }

; kernel, buffers, sizes, context, tasks, grain, chunks.
%Job = type { ptr, ptr, ptr, ptr, i64, i64, i64, i64 }

; generation (what sleepers wait on), sleepers, ticket (generation << 32 | next chunk), chunks done, job,
; busy, then stop, workers and spin count. Each word that several threads write has its own cache line.
%Pool = type { i32, [60 x i8], i32, [60 x i8], i64, [56 x i8], i64, [56 x i8], %Job, i32, [60 x i8],
               i32, i32, i64, [48 x i8] }

; What timed calls leave: nanoseconds of each launch and how often it ran, both over all calls; how many events there is
; room for, how many there were, and the events.
%Recorder = type { ptr, ptr, i64, i64, ptr }

; What it was, start, stop, thread. What: 2 * launch for a launch, 1 more for a part of one that a thread did, -2 for a call.
%Event = type { i64, i64, i64, i64 }

; A launch that is timed, for whoever does a part of it: kernel, recorder, 2 * launch.
%Timed = type { ptr, ptr, i64 }
