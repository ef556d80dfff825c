; Layouts shared by every file here; native/layout.py states the same structures for Python.

; One kernel call: kernel, tasks, grain, parameter count, parallel, slots (i32 each), sizes (i64 each).
%Launch = type { ptr, i64, i64, i32, i32, ptr, ptr }

; launches, launch count, argument count, scalar count, output count, free instances (a list), lock word,
; serialised, release_gil, parallel.
%Executable = type { ptr, i64, i64, i64, i64, ptr, i32, i32, i32, i32 }

; What a kernel sees first: status, details, reserved; 64 bytes.
%Context = type { i32, i32, i64, i64, [40 x i8] }

; The memory of one call in flight: next free instance, executable, pointer table, gathered pointers,
; scalar block, times (or null), failed launch, unused, context.
%Instance = type { ptr, ptr, ptr, ptr, ptr, ptr, i64, i64, %Context }

; kernel, buffers, sizes, context, tasks, grain, chunks.
%Job = type { ptr, ptr, ptr, ptr, i64, i64, i64, i64 }

; generation (what sleepers wait on), sleepers, ticket (generation << 32 | next chunk), chunks done, job,
; busy, then stop, workers and spin count. Each word that several threads write has its own cache line.
%Pool = type { i32, [60 x i8], i32, [60 x i8], i64, [56 x i8], i64, [56 x i8], %Job, i32, [60 x i8],
               i32, i32, i64, [48 x i8] }
