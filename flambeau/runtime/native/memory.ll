; Aligned memory owned by capsules, guarded by the GIL. Freed blocks are kept for the next request of their
; size: small ones because posix_memalign is slow, large ones because fresh pages cost a fault per 4 KiB,
; several times the work of most kernels that fill them.

declare ptr @PyCapsule_New(ptr, ptr, ptr)
declare ptr @PyCapsule_GetPointer(ptr, ptr)
declare i32 @PyCapsule_SetContext(ptr, ptr)
declare ptr @PyCapsule_GetContext(ptr)
declare ptr @PyType_GenericAlloc(ptr, i64)
declare ptr @PyErr_Format(ptr, ptr, ...)
@PyExc_MemoryError = external global ptr

; Small blocks, up to 4 KiB: a list per size, linked through the blocks themselves, of at most 32.
%Bin = type { ptr, i64 }
@bins = internal global [64 x %Bin] zeroinitializer

; Large blocks, from 1 MiB on: the last 16 freed, up to a limit in bytes.
%Block = type { ptr, i64 }
@kept = internal global [16 x %Block] zeroinitializer
@kept_bytes = internal global i64 0
@kept_limit = internal global i64 268435456
@oldest = internal global i64 0
@live_bytes = internal global i64 0
@peak_bytes = internal global i64 0

; Bytes asked for, in whole cache lines and at least one, so that no two buffers share an address.
define internal i64 @rounded(i64 %bytes) nounwind {
  %empty = icmp eq i64 %bytes, 0
  %some = select i1 %empty, i64 1, i64 %bytes
  %up = add i64 %some, 63
  %whole = and i64 %up, -64
  ret i64 %whole
}

define internal ptr @bin_of(i64 %size) nounwind {
  %units = lshr i64 %size, 6
  %index = sub i64 %units, 1
  %bin = getelementptr [64 x %Bin], ptr @bins, i64 0, i64 %index
  ret ptr %bin
}

; A kept small block of this size, or null.
define internal ptr @reuse_small(i64 %size) nounwind {
  %bin = call ptr @bin_of(i64 %size)
  %head = load ptr, ptr %bin
  %none = icmp eq ptr %head, null
  br i1 %none, label %out, label %pop
pop:
  %next = load ptr, ptr %head
  store ptr %next, ptr %bin
  %count.p = getelementptr %Bin, ptr %bin, i64 0, i32 1
  %count = load i64, ptr %count.p
  %fewer = sub i64 %count, 1
  store i64 %fewer, ptr %count.p
  br label %out
out:
  ret ptr %head
}

define internal void @keep_small(ptr %memory, i64 %size) nounwind {
  %bin = call ptr @bin_of(i64 %size)
  %count.p = getelementptr %Bin, ptr %bin, i64 0, i32 1
  %count = load i64, ptr %count.p
  %room = icmp ult i64 %count, 32
  br i1 %room, label %push, label %full
push:
  %head = load ptr, ptr %bin
  store ptr %head, ptr %memory
  store ptr %memory, ptr %bin
  %more = add i64 %count, 1
  store i64 %more, ptr %count.p
  ret void
full:
  call void @aligned_delete(ptr %memory)
  ret void
}

; A kept large block of exactly this size, or null.
define internal ptr @reuse_large(i64 %size) nounwind {
entry:
  br label %next
next:
  %i = phi i64 [ 0, %entry ], [ %i.next, %no ]
  %more = icmp ult i64 %i, 16
  br i1 %more, label %look, label %none
look:
  %block = getelementptr [16 x %Block], ptr @kept, i64 0, i64 %i
  %size.p = getelementptr %Block, ptr %block, i64 0, i32 1
  %kept.size = load i64, ptr %size.p
  %fits = icmp eq i64 %kept.size, %size
  br i1 %fits, label %yes, label %no
no:
  %i.next = add i64 %i, 1
  br label %next
yes:
  %memory = load ptr, ptr %block
  store ptr null, ptr %block
  store i64 0, ptr %size.p
  %total = load i64, ptr @kept_bytes
  %rest = sub i64 %total, %size
  store i64 %rest, ptr @kept_bytes
  ret ptr %memory
none:
  ret ptr null
}

; Give kept block i back to the system; nothing if the place is empty.
define internal void @evict(i64 %i) nounwind {
  %block = getelementptr [16 x %Block], ptr @kept, i64 0, i64 %i
  %memory = load ptr, ptr %block
  %size.p = getelementptr %Block, ptr %block, i64 0, i32 1
  %size = load i64, ptr %size.p
  %empty = icmp eq ptr %memory, null
  br i1 %empty, label %out, label %delete
delete:
  store ptr null, ptr %block
  store i64 0, ptr %size.p
  %total = load i64, ptr @kept_bytes
  %rest = sub i64 %total, %size
  store i64 %rest, ptr @kept_bytes
  call void @aligned_delete(ptr %memory)
  br label %out
out:
  ret void
}

; Give all kept blocks back to the system.
define void @flambeau_release_kept() nounwind {
entry:
  br label %next
next:
  %i = phi i64 [ 0, %entry ], [ %i.next, %next ]
  call void @evict(i64 %i)
  %i.next = add i64 %i, 1
  %more = icmp ult i64 %i.next, 16
  br i1 %more, label %next, label %small
small:
  %size = phi i64 [ 64, %next ], [ %size, %delete ], [ %size.next, %empty ]
  %memory = call ptr @reuse_small(i64 %size)
  %none = icmp eq ptr %memory, null
  br i1 %none, label %empty, label %delete
delete:
  call void @aligned_delete(ptr %memory)
  br label %small
empty:
  %size.next = add i64 %size, 64
  %again = icmp ule i64 %size.next, 4096
  br i1 %again, label %small, label %out
out:
  ret void
}

; Keep a large block in the place of the oldest one; evict older ones while the limit is passed.
define internal void @keep_large(ptr %memory, i64 %size) nounwind {
entry:
  %limit = load i64, ptr @kept_limit
  br label %room
room:
  %tries = phi i64 [ 0, %entry ], [ %tries.next, %make ]
  %place = load i64, ptr @oldest
  call void @evict(i64 %place)
  %total = load i64, ptr @kept_bytes
  %with = add i64 %total, %size
  %fits = icmp ule i64 %with, %limit
  br i1 %fits, label %store, label %make
make:
  %after = add i64 %place, 1
  %around = and i64 %after, 15
  store i64 %around, ptr @oldest
  %tries.next = add i64 %tries, 1
  %again = icmp ult i64 %tries.next, 16
  br i1 %again, label %room, label %too.big
too.big:
  call void @aligned_delete(ptr %memory)
  ret void
store:
  %block = getelementptr [16 x %Block], ptr @kept, i64 0, i64 %place
  store ptr %memory, ptr %block
  %size.p = getelementptr %Block, ptr %block, i64 0, i32 1
  store i64 %size, ptr %size.p
  store i64 %with, ptr @kept_bytes
  %following = add i64 %place, 1
  %wrapped = and i64 %following, 15
  store i64 %wrapped, ptr @oldest
  ret void
}

; 64-byte aligned memory of `size` bytes (already rounded), or null.
define internal ptr @block_new(i64 %size) nounwind {
entry:
  %small = icmp ule i64 %size, 4096
  br i1 %small, label %look.small, label %middle
look.small:
  %kept.small = call ptr @reuse_small(i64 %size)
  br label %found
middle:
  %large = icmp uge i64 %size, 1048576
  br i1 %large, label %look.large, label %fresh
look.large:
  %kept.large = call ptr @reuse_large(i64 %size)
  br label %found
found:
  %kept = phi ptr [ %kept.small, %look.small ], [ %kept.large, %look.large ]
  %any = icmp ne ptr %kept, null
  br i1 %any, label %got, label %fresh
fresh:
  %new = call ptr @aligned_new(i64 %size)
  %failed = icmp eq ptr %new, null
  br i1 %failed, label %last, label %got
last:
  ; Out of memory: what we keep is the first thing to give.
  call void @flambeau_release_kept()
  %retried = call ptr @aligned_new(i64 %size)
  %lost = icmp eq ptr %retried, null
  br i1 %lost, label %none, label %got
none:
  ret ptr null
got:
  %memory = phi ptr [ %kept, %found ], [ %new, %fresh ], [ %retried, %last ]
  %live = load i64, ptr @live_bytes
  %now = add i64 %live, %size
  store i64 %now, ptr @live_bytes
  %peak = load i64, ptr @peak_bytes
  %higher = icmp ugt i64 %now, %peak
  %top = select i1 %higher, i64 %now, i64 %peak
  store i64 %top, ptr @peak_bytes
  ret ptr %memory
}

define internal void @block_delete(ptr %memory, i64 %size) nounwind {
  %live = load i64, ptr @live_bytes
  %now = sub i64 %live, %size
  store i64 %now, ptr @live_bytes
  %small = icmp ule i64 %size, 4096
  br i1 %small, label %hold.small, label %middle
hold.small:
  call void @keep_small(ptr %memory, i64 %size)
  ret void
middle:
  %large = icmp uge i64 %size, 1048576
  br i1 %large, label %hold.large, label %drop
hold.large:
  call void @keep_large(ptr %memory, i64 %size)
  ret void
drop:
  call void @aligned_delete(ptr %memory)
  ret void
}

; Live, peak and kept (large blocks) bytes into out[0..2]; the peak restarts from the live bytes if asked.
define void @flambeau_memory(ptr %out, i32 %restart) nounwind {
  %live = load i64, ptr @live_bytes
  %peak = load i64, ptr @peak_bytes
  %kept = load i64, ptr @kept_bytes
  store i64 %live, ptr %out
  %peak.p = getelementptr i64, ptr %out, i64 1
  store i64 %peak, ptr %peak.p
  %kept.p = getelementptr i64, ptr %out, i64 2
  store i64 %kept, ptr %kept.p
  %again = icmp ne i32 %restart, 0
  br i1 %again, label %reset, label %done
reset:
  store i64 %live, ptr @peak_bytes
  br label %done
done:
  ret void
}

; How many bytes of large blocks may be kept from now on.
define void @flambeau_set_kept_limit(i64 %bytes) nounwind {
  store i64 %bytes, ptr @kept_limit
  ret void
}

; The capsule's context is the size of its block.
define internal void @capsule_deleted(ptr %capsule) nounwind {
  %memory = call ptr @PyCapsule_GetPointer(ptr %capsule, ptr null)
  %size.p = call ptr @PyCapsule_GetContext(ptr %capsule)
  %size = ptrtoint ptr %size.p to i64
  call void @block_delete(ptr %memory, i64 %size)
  ret void
}

; The Buffer class and where its objects keep nbytes, ptr, device and owner; and the device of ours, "cpu".
%Slots = type { ptr, i64, i64, i64, i64, ptr }

define internal void @put(ptr %object, i64 %offset, ptr %value) nounwind {
  %at = getelementptr i8, ptr %object, i64 %offset
  store ptr %value, ptr %at
  ret void
}

@no_memory = internal constant [60 x i8] c"can't allocate %zu bytes for a tensor or for scratch memory\00"

; allocate(nbytes) -> Buffer over uninitialised memory. self: (address of the %Slots,).
define ptr @flambeau_allocate(ptr %self, ptr %args, i64 %nargs) nounwind {
entry:
  %one = icmp eq i64 %nargs, 1
  br i1 %one, label %convert, label %miscounted
miscounted:
  %answer = call ptr @notify(ptr %self, i64 1, i64 %nargs)
  ret ptr %answer
convert:
  %nbytes.o = load ptr, ptr %args
  %nbytes = call i64 @PyLong_AsSize_t(ptr %nbytes.o)
  %absurd = icmp ugt i64 %nbytes, 4611686018427387904
  br i1 %absurd, label %reject, label %make
reject:
  %error = call ptr @PyErr_Occurred()
  %wrong = icmp ne ptr %error, null
  br i1 %wrong, label %out, label %exhausted
exhausted:
  %kind = load ptr, ptr @PyExc_MemoryError
  %nothing = call ptr (ptr, ptr, ...) @PyErr_Format(ptr %kind, ptr @no_memory, i64 %nbytes)
  br label %out
out:
  ret ptr null
make:
  %size = call i64 @rounded(i64 %nbytes)
  %memory = call ptr @block_new(i64 %size)
  %lost = icmp eq ptr %memory, null
  br i1 %lost, label %exhausted, label %own
own:
  %capsule = call ptr @PyCapsule_New(ptr %memory, ptr null, ptr @capsule_deleted)
  %no.capsule = icmp eq ptr %capsule, null
  br i1 %no.capsule, label %undo, label %wrap
undo:
  call void @block_delete(ptr %memory, i64 %size)
  ret ptr null
wrap:
  %size.p = inttoptr i64 %size to ptr
  %ignored = call i32 @PyCapsule_SetContext(ptr %capsule, ptr %size.p)
  %slots.o = call ptr @PyTuple_GetItem(ptr %self, i64 0)
  %slots = call ptr @PyLong_AsVoidPtr(ptr %slots.o)
  %type = load ptr, ptr %slots
  %pointer = call ptr @PyLong_FromVoidPtr(ptr %memory)
  %no.pointer = icmp eq ptr %pointer, null
  br i1 %no.pointer, label %drop, label %build
build:
  %buffer = call ptr @PyType_GenericAlloc(ptr %type, i64 0)
  %no.buffer = icmp eq ptr %buffer, null
  br i1 %no.buffer, label %drop.both, label %fill
drop.both:
  call void @Py_DecRef(ptr %pointer)
  br label %drop
drop:
  call void @Py_DecRef(ptr %capsule)
  ret ptr null
fill:
  %ptr.at = getelementptr %Slots, ptr %slots, i64 0, i32 1
  %ptr.offset = load i64, ptr %ptr.at
  call void @put(ptr %buffer, i64 %ptr.offset, ptr %pointer)
  %nbytes.at = getelementptr %Slots, ptr %slots, i64 0, i32 2
  %nbytes.offset = load i64, ptr %nbytes.at
  call void @Py_IncRef(ptr %nbytes.o)
  call void @put(ptr %buffer, i64 %nbytes.offset, ptr %nbytes.o)
  %device.at = getelementptr %Slots, ptr %slots, i64 0, i32 3
  %device.offset = load i64, ptr %device.at
  %cpu.at = getelementptr %Slots, ptr %slots, i64 0, i32 5
  %cpu = load ptr, ptr %cpu.at
  call void @Py_IncRef(ptr %cpu)
  call void @put(ptr %buffer, i64 %device.offset, ptr %cpu)
  %owner.at = getelementptr %Slots, ptr %slots, i64 0, i32 4
  %owner.offset = load i64, ptr %owner.at
  call void @put(ptr %buffer, i64 %owner.offset, ptr %capsule)
  ret ptr %buffer
}
