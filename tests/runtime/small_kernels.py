"""Tiny kernels in LLVM IR, for tests of what runs them; and programs of one or more of them."""

from functools import cache

from flambeau.ir.types import parse_type
from flambeau.runtime import Executable, Launch, Library, Program, Signature, Slot, TensorSpec, load
from flambeau.runtime.loader import binding

# All have the kernel signature i32(ctx, buffers, sizes, begin, end). Elements are f64 unless said otherwise.
TEXT = r"""
declare double @exp(double)

define i32 @nothing(ptr %ctx, ptr %buffers, ptr %sizes, i64 %begin, i64 %end) { ret i32 0 }

; buffers[0][i] += 1 (i64) for i in [begin, end), counting how often each task was done
define i32 @visit(ptr %ctx, ptr %buffers, ptr %sizes, i64 %begin, i64 %end) {
entry:
  %out = load ptr, ptr %buffers
  br label %loop
loop:
  %i = phi i64 [ %begin, %entry ], [ %next, %loop ]
  %at = getelementptr i64, ptr %out, i64 %i
  %old = atomicrmw add ptr %at, i64 1 monotonic
  %next = add i64 %i, 1
  %more = icmp ult i64 %next, %end
  br i1 %more, label %loop, label %out.b
out.b:
  ret i32 0
}

; buffers[1][i] = buffers[0][i] + scalar buffers[2][0] for i < sizes[0]; one task
define i32 @add_scalar(ptr %ctx, ptr %buffers, ptr %sizes, i64 %begin, i64 %end) {
entry:
  %x = load ptr, ptr %buffers
  %y.p = getelementptr ptr, ptr %buffers, i64 1
  %y = load ptr, ptr %y.p
  %s.p = getelementptr ptr, ptr %buffers, i64 2
  %s.b = load ptr, ptr %s.p
  %s = load double, ptr %s.b
  %n = load i64, ptr %sizes
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %loop ]
  %from = getelementptr double, ptr %x, i64 %i
  %to = getelementptr double, ptr %y, i64 %i
  %value = load double, ptr %from
  %sum = fadd double %value, %s
  store double %sum, ptr %to
  %next = add i64 %i, 1
  %more = icmp ult i64 %next, %n
  br i1 %more, label %loop, label %out
out:
  ret i32 0
}

; buffers[0][0] = sizes[0] counted up one by one; one task
define i32 @count_slowly(ptr %ctx, ptr %buffers, ptr %sizes, i64 %begin, i64 %end) {
entry:
  %count = load ptr, ptr %buffers
  %turns = load i64, ptr %sizes
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %loop ]
  %next = add i64 %i, 1
  store volatile i64 %next, ptr %count
  %more = icmp ult i64 %next, %turns
  br i1 %more, label %loop, label %out
out:
  ret i32 0
}

; buffers[0][0] += 1, then wait until it is sizes[0]: status 3 if that does not happen within sizes[1] turns
define i32 @meet(ptr %ctx, ptr %buffers, ptr %sizes, i64 %begin, i64 %end) {
entry:
  %count = load ptr, ptr %buffers
  %wanted = load i64, ptr %sizes
  %turns.p = getelementptr i64, ptr %sizes, i64 1
  %turns = load i64, ptr %turns.p
  %old = atomicrmw add ptr %count, i64 1 seq_cst
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %again ]
  %seen = load atomic i64, ptr %count seq_cst, align 8
  %met = icmp uge i64 %seen, %wanted
  br i1 %met, label %good, label %again
again:
  %next = add i64 %i, 1
  %more = icmp ult i64 %next, %turns
  br i1 %more, label %loop, label %bad
good:
  ret i32 0
bad:
  ret i32 3
}

; status 4 if another call of this kernel on the same buffers[0][0] is in flight; buffers[0][1] += 1
define i32 @alone(ptr %ctx, ptr %buffers, ptr %sizes, i64 %begin, i64 %end) {
entry:
  %inside = load ptr, ptr %buffers
  %turns = load i64, ptr %sizes
  %before = atomicrmw add ptr %inside, i64 1 seq_cst
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %loop ]
  %seen = load volatile i64, ptr %inside
  %next = add i64 %i, 1
  %more = icmp ult i64 %next, %turns
  br i1 %more, label %loop, label %out
out:
  %after = atomicrmw sub ptr %inside, i64 1 seq_cst
  %total.p = getelementptr i64, ptr %inside, i64 1
  %total = load i64, ptr %total.p
  %total.new = add i64 %total, 1
  store i64 %total.new, ptr %total.p
  %single = icmp eq i64 %before, 0
  %status = select i1 %single, i32 0, i32 4
  ret i32 %status
}

; status 1 with details (begin, sizes[0]) once [begin, end) reaches beyond sizes[0]
define i32 @bounded(ptr %ctx, ptr %buffers, ptr %sizes, i64 %begin, i64 %end) {
  %limit = load i64, ptr %sizes
  %inside = icmp ule i64 %end, %limit
  br i1 %inside, label %good, label %bad
good:
  ret i32 0
bad:
  %d0 = getelementptr i8, ptr %ctx, i64 8
  store i64 %begin, ptr %d0
  %d1 = getelementptr i8, ptr %ctx, i64 16
  store i64 %limit, ptr %d1
  ret i32 1
}

; buffers[1][0] = exp(buffers[0][0]) by libm, and 64 bytes of zeros after it by memset
define i32 @libm_exp(ptr %ctx, ptr %buffers, ptr %sizes, i64 %begin, i64 %end) {
  %x = load ptr, ptr %buffers
  %y.p = getelementptr ptr, ptr %buffers, i64 1
  %y = load ptr, ptr %y.p
  %value = load double, ptr %x
  %result = call double @exp(double %value)
  store double %result, ptr %y
  %rest = getelementptr double, ptr %y, i64 1
  %n = load i64, ptr %sizes
  call void @llvm.memset.p0.i64(ptr %rest, i8 0, i64 %n, i1 false)
  ret i32 0
}
declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)
"""
SYMBOLS = ("nothing", "visit", "add_scalar", "count_slowly", "meet", "alone", "bounded", "libm_exp")


def compile_text(text: str) -> bytes:
    """LLVM IR text -> relocatable object bytes."""
    llvm = binding()
    module = llvm.parse_assembly(text)
    machine = llvm.Target.from_default_triple().create_target_machine(codemodel="jitdefault", jit=True)
    module.triple = machine.triple
    module.data_layout = str(machine.target_data)
    return machine.emit_object(module)


@cache
def library() -> Library:
    return load([compile_text(TEXT)], SYMBOLS)


def program_of(slots, steps=(), *, n_args=0, n_states=0, n_scalars=0, out_bytes=(), sizes=(), **rest) -> Program:
    """A program whose arguments and states are as many bytes as the largest slot on them."""

    def specs(kind, count):
        return tuple(bytes_spec(f"{kind}{n}", max([s.nbytes for s in slots if (s.kind, s.index) == (kind, n)], default=0))
                     for n in range(count))

    scalars = tuple(TensorSpec(f"scalar{n}", parse_type("f64[]")) for n in range(n_scalars))
    outs = tuple(bytes_spec(f"out{n}", nbytes) for n, nbytes in enumerate(out_bytes))
    signature = Signature(specs("arg", n_args), specs("state", n_states), scalars, outs, tuple(sizes))
    return Program(tuple(slots), tuple(steps), signature, **rest)


def bytes_spec(name: str, nbytes: int) -> TensorSpec:
    return TensorSpec(name, parse_type(f"u8[{nbytes}]"))


def executable(program: Program, **options) -> Executable:
    return Executable(program, library().addresses, keep=library(), **options)


def visits(tasks: int, grain: int = 1, parallel: bool = True, launches: int = 1) -> Program:
    """A program that counts in its one argument, i64[tasks], how often each task was done."""
    launch = Launch("visit", tasks, grain, parallel, (0,))
    return program_of((Slot("arg", 0, 8 * tasks),), (launch,) * launches, n_args=1)
