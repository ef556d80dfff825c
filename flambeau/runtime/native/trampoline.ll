; The builtin function (METH_FASTCALL) around the runner. It holds the GIL on entry and on exit, and the GIL
; guards the free list of instances. Anything unusual goes to a Python callable: `event(code, value)`.

declare ptr @PyTuple_GetItem(ptr, i64)
declare ptr @PyLong_AsVoidPtr(ptr)
declare i64 @PyLong_AsSize_t(ptr)
declare ptr @PyLong_FromVoidPtr(ptr)
declare double @PyFloat_AsDouble(ptr)
declare ptr @PyErr_Occurred()
declare void @PyErr_Clear()
declare i32 @PyErr_CheckSignals()
declare ptr @PyObject_CallFunction(ptr, ptr, ...)
declare ptr @PyEval_SaveThread()
declare void @PyEval_RestoreThread(ptr)
declare void @Py_IncRef(ptr)
declare void @Py_DecRef(ptr)
@_Py_NoneStruct = external global i8

@two_integers = internal constant [3 x i8] c"nn\00"

; event(code, value) of the owner whose address-and-event tuple is `self`. Null: it raised.
define internal ptr @notify(ptr %self, i64 %code, i64 %value) nounwind {
  %event = call ptr @PyTuple_GetItem(ptr %self, i64 1)
  %answer = call ptr (ptr, ptr, ...) @PyObject_CallFunction(ptr %event, ptr @two_integers, i64 %code,
                                                            i64 %value)
  ret ptr %answer
}

; Put an instance back on the free list of its executable. Needs the GIL.
define void @flambeau_give_back(ptr %instance) nounwind {
  %executable.p = getelementptr %Instance, ptr %instance, i64 0, i32 1
  %executable = load ptr, ptr %executable.p
  %free.p = getelementptr %Executable, ptr %executable, i64 0, i32 5
  %head = load ptr, ptr %free.p
  store ptr %head, ptr %instance
  store ptr %instance, ptr %free.p
  ret void
}

; Take an instance from the free list, or null if all are in use. Needs the GIL.
define ptr @flambeau_take(ptr %executable) nounwind {
  %free.p = getelementptr %Executable, ptr %executable, i64 0, i32 5
  %head = load ptr, ptr %free.p
  %none = icmp eq ptr %head, null
  br i1 %none, label %out, label %pop
pop:
  %next = load ptr, ptr %head
  store ptr %next, ptr %free.p
  br label %out
out:
  ret ptr %head
}

; Store `count` integers from args as pointers in the table. Gives the number stored: less than count means
; that args[number] is no pointer, and an exception may be set.
define internal i64 @store_pointers(ptr %args, ptr %table, i64 %count) nounwind {
entry:
  br label %next
next:
  %i = phi i64 [ 0, %entry ], [ %i.next, %good ]
  %more = icmp ult i64 %i, %count
  br i1 %more, label %convert, label %out
convert:
  %arg.p = getelementptr ptr, ptr %args, i64 %i
  %arg = load ptr, ptr %arg.p
  %value = call i64 @PyLong_AsSize_t(ptr %arg)
  ; No buffer lies in the first page or at the last address, which is also how a failed conversion looks.
  %moved = sub i64 %value, 4096
  %bad = icmp ugt i64 %moved, -4098
  br i1 %bad, label %out, label %good
good:
  %to = getelementptr i64, ptr %table, i64 %i
  store i64 %value, ptr %to
  %i.next = add i64 %i, 1
  br label %next
out:
  ret i64 %i
}

define internal i64 @store_scalars(ptr %args, ptr %block, i64 %count) nounwind {
entry:
  br label %next
next:
  %i = phi i64 [ 0, %entry ], [ %i.next, %good ]
  %more = icmp ult i64 %i, %count
  br i1 %more, label %convert, label %out
convert:
  %arg.p = getelementptr ptr, ptr %args, i64 %i
  %arg = load ptr, ptr %arg.p
  %value = call double @PyFloat_AsDouble(ptr %arg)
  %suspect = fcmp oeq double %value, -1.0
  br i1 %suspect, label %ask, label %good
ask:
  %error = call ptr @PyErr_Occurred()
  %bad = icmp ne ptr %error, null
  br i1 %bad, label %out, label %good
good:
  %to = getelementptr double, ptr %block, i64 %i
  store double %value, ptr %to
  %i.next = add i64 %i, 1
  br label %next
out:
  ret i64 %i
}

; Store `count` integers from args as sizes, none larger than its `most`. Gives the number stored.
define internal i64 @store_sizes(ptr %args, ptr %sizes, ptr %most, i64 %count) nounwind {
entry:
  br label %next
next:
  %i = phi i64 [ 0, %entry ], [ %i.next, %good ]
  %more = icmp ult i64 %i, %count
  br i1 %more, label %convert, label %out
convert:
  %arg.p = getelementptr ptr, ptr %args, i64 %i
  %arg = load ptr, ptr %arg.p
  ; -1, beyond all sizes, if it fails.
  %value = call i64 @PyLong_AsSize_t(ptr %arg)
  %most.p = getelementptr i64, ptr %most, i64 %i
  %limit = load i64, ptr %most.p
  %bad = icmp ugt i64 %value, %limit
  br i1 %bad, label %out, label %good
good:
  %to = getelementptr i64, ptr %sizes, i64 %i
  store i64 %value, ptr %to
  %i.next = add i64 %i, 1
  br label %next
out:
  ret i64 %i
}

; call(*argument_pointers, *scalars, *output_pointers, *sizes) -> None. self: (address of the executable, event).
; Events: 1 wrong count, 2 bad argument, 3 no free instance, 4 start the pool, 5 failed (value: the instance).
define ptr @flambeau_call(ptr %self, ptr %args, i64 %nargs) nounwind {
entry:
  %address = call ptr @PyTuple_GetItem(ptr %self, i64 0)
  %executable = call ptr @PyLong_AsVoidPtr(ptr %address)
  %n.args.p = getelementptr %Executable, ptr %executable, i64 0, i32 2
  %n.args = load i64, ptr %n.args.p
  %n.scalars.p = getelementptr %Executable, ptr %executable, i64 0, i32 3
  %n.scalars = load i64, ptr %n.scalars.p
  %n.outs.p = getelementptr %Executable, ptr %executable, i64 0, i32 4
  %n.outs = load i64, ptr %n.outs.p
  %first.out = add i64 %n.args, %n.scalars
  %wanted = add i64 %first.out, %n.outs
  %counted = icmp eq i64 %nargs, %wanted
  br i1 %counted, label %take, label %ask.sizes
ask.sizes:
  %n.sizes.p = getelementptr %Executable, ptr %executable, i64 0, i32 12
  %n.sizes = load i64, ptr %n.sizes.p
  %wanted.sized = add i64 %wanted, %n.sizes
  %counted.sized = icmp eq i64 %nargs, %wanted.sized
  br i1 %counted.sized, label %take, label %miscounted
miscounted:
  %answer.count = call ptr @notify(ptr %self, i64 1, i64 %nargs)
  ret ptr %answer.count

take:
  %instance = call ptr @flambeau_take(ptr %executable)
  %none = icmp eq ptr %instance, null
  br i1 %none, label %grow, label %fill
grow:
  %answer.grow = call ptr @notify(ptr %self, i64 3, i64 0)
  %grown = icmp ne ptr %answer.grow, null
  br i1 %grown, label %retake, label %raised
retake:
  call void @Py_DecRef(ptr %answer.grow)
  br label %take
raised:
  ret ptr null

fill:
  %table.p = getelementptr %Instance, ptr %instance, i64 0, i32 2
  %table = load ptr, ptr %table.p
  %scalars.p = getelementptr %Instance, ptr %instance, i64 0, i32 4
  %scalars = load ptr, ptr %scalars.p
  %got.args = call i64 @store_pointers(ptr %args, ptr %table, i64 %n.args)
  %all.args = icmp eq i64 %got.args, %n.args
  br i1 %all.args, label %fill.scalars, label %bad
fill.scalars:
  %args.scalars = getelementptr ptr, ptr %args, i64 %n.args
  %got.scalars = call i64 @store_scalars(ptr %args.scalars, ptr %scalars, i64 %n.scalars)
  %all.scalars = icmp eq i64 %got.scalars, %n.scalars
  %at.scalar = add i64 %n.args, %got.scalars
  br i1 %all.scalars, label %fill.outs, label %bad
fill.outs:
  %args.outs = getelementptr ptr, ptr %args, i64 %first.out
  %table.outs = getelementptr ptr, ptr %table, i64 %n.args
  %got.outs = call i64 @store_pointers(ptr %args.outs, ptr %table.outs, i64 %n.outs)
  %all.outs = icmp eq i64 %got.outs, %n.outs
  %at.out = add i64 %first.out, %got.outs
  br i1 %all.outs, label %pooled, label %bad
bad:
  %at = phi i64 [ %got.args, %fill ], [ %at.scalar, %fill.scalars ], [ %at.out, %fill.outs ],
              [ %at.size, %fill.sizes ]
  call void @PyErr_Clear()
  call void @flambeau_give_back(ptr %instance)
  %answer.bad = call ptr @notify(ptr %self, i64 2, i64 %at)
  ret ptr %answer.bad

pooled:
  %parallel.p = getelementptr %Executable, ptr %executable, i64 0, i32 9
  %parallel = load i32, ptr %parallel.p
  %decided = load atomic i32, ptr @pool_decided acquire, align 4
  %undecided = icmp eq i32 %decided, 0
  %wide = icmp ne i32 %parallel, 0
  %start = and i1 %undecided, %wide
  br i1 %start, label %start.pool, label %ready
start.pool:
  %answer.pool = call ptr @notify(ptr %self, i64 4, i64 0)
  %started = icmp ne ptr %answer.pool, null
  br i1 %started, label %go.on, label %unstarted
unstarted:
  call void @flambeau_give_back(ptr %instance)
  ret ptr null
go.on:
  call void @Py_DecRef(ptr %answer.pool)
  br label %ready

ready:
  %release.p = getelementptr %Executable, ptr %executable, i64 0, i32 8
  %release = load i32, ptr %release.p
  %long = icmp ne i32 %release, 0
  br i1 %long, label %maybe.steps, label %locked
locked:
  %status.locked = call i32 @flambeau_execute(ptr %instance)
  br label %ended
maybe.steps:
  %flat = icmp eq i32 %release, 1
  br i1 %flat, label %unlocked, label %stepwise
unlocked:
  %thread = call ptr @PyEval_SaveThread()
  %status.unlocked = call i32 @flambeau_execute(ptr %instance)
  call void @PyEval_RestoreThread(ptr %thread)
  br label %ended

stepwise:
  ; Not until now are the sizes looked at, so that programs without any pay nothing.
  %sizes.count.p = getelementptr %Executable, ptr %executable, i64 0, i32 12
  %sizes.count = load i64, ptr %sizes.count.p
  %given = sub i64 %nargs, %wanted
  %all.given = icmp eq i64 %given, %sizes.count
  br i1 %all.given, label %fill.sizes, label %missing
missing:
  call void @flambeau_give_back(ptr %instance)
  br label %miscounted
fill.sizes:
  %args.sizes = getelementptr ptr, ptr %args, i64 %wanted
  %sizes.p = getelementptr %Instance, ptr %instance, i64 0, i32 9
  %sizes = load ptr, ptr %sizes.p
  %most.p = getelementptr %Executable, ptr %executable, i64 0, i32 13
  %most = load ptr, ptr %most.p
  %got.sizes = call i64 @store_sizes(ptr %args.sizes, ptr %sizes, ptr %most, i64 %sizes.count)
  %all.sizes = icmp eq i64 %got.sizes, %sizes.count
  %at.size = add i64 %wanted, %got.sizes
  br i1 %all.sizes, label %step.by.step, label %bad
step.by.step:
  %kept = icmp eq i32 %release, 2
  br i1 %kept, label %steps.locked, label %steps.unlocked
steps.locked:
  %status.steps.locked = call i32 @flambeau_execute_steps(ptr %instance)
  br label %ended
steps.unlocked:
  %thread.steps = call ptr @PyEval_SaveThread()
  %status.steps = call i32 @flambeau_execute_steps(ptr %instance)
  call void @PyEval_RestoreThread(ptr %thread.steps)
  br label %ended

ended:
  %status = phi i32 [ %status.locked, %locked ], [ %status.unlocked, %unlocked ],
                    [ %status.steps.locked, %steps.locked ], [ %status.steps, %steps.unlocked ]
  %good = icmp eq i32 %status, 0
  br i1 %good, label %done, label %failed
failed:
  %resume.p = getelementptr %Instance, ptr %instance, i64 0, i32 7
  %resume = load i64, ptr %resume.p
  %paused = icmp ne i64 %resume, 0
  br i1 %paused, label %signals, label %over
signals:
  ; Ctrl-C ends the call between two turns of a loop; otherwise it goes on.
  %signalled = call i32 @PyErr_CheckSignals()
  %quiet = icmp eq i32 %signalled, 0
  br i1 %quiet, label %step.by.step, label %interrupted
interrupted:
  call void @flambeau_abandon(ptr %instance)
  call void @flambeau_give_back(ptr %instance)
  ret ptr null
over:
  ; The instance stays out until the event has read its context.
  %value = ptrtoint ptr %instance to i64
  %answer.failed = call ptr @notify(ptr %self, i64 5, i64 %value)
  ret ptr %answer.failed
done:
  call void @flambeau_give_back(ptr %instance)
  call void @Py_IncRef(ptr @_Py_NoneStruct)
  ret ptr @_Py_NoneStruct
}
