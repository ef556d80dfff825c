"""The structures that native code and Python share, as ctypes sees them; types.ll is the same in LLVM IR."""

from __future__ import annotations

import ctypes

__all__ = ["BufferSlots", "ContextRecord", "EventRecord", "ExecutableRecord", "InstanceRecord", "LaunchRecord",
           "PoolRecord", "RecorderRecord", "StepRecord"]


class LaunchRecord(ctypes.Structure):
    """One kernel call of a program."""

    _fields_ = [
        ("kernel", ctypes.c_void_p),
        ("tasks", ctypes.c_int64),
        ("grain", ctypes.c_int64),
        ("parameters", ctypes.c_int32),
        ("how", ctypes.c_int32),
        ("slots", ctypes.c_void_p),
        ("sizes", ctypes.c_void_p),
    ]


class StepRecord(ctypes.Structure):
    """One step of a program with loops, branches or sizes of the call; types.ll lists the kinds."""

    _fields_ = [
        ("kind", ctypes.c_int32),
        ("slot", ctypes.c_int32),
        ("target", ctypes.c_int64),
        ("extents", ctypes.c_void_p),
    ]


class ExecutableRecord(ctypes.Structure):
    """A program with its states bound. `free` lists the instances that no call is using."""

    _fields_ = [
        ("launches", ctypes.c_void_p),
        ("n_launches", ctypes.c_int64),
        ("n_args", ctypes.c_int64),
        ("n_scalars", ctypes.c_int64),
        ("n_outs", ctypes.c_int64),
        ("free", ctypes.c_void_p),
        ("lock", ctypes.c_int32),
        ("serialised", ctypes.c_int32),
        ("way", ctypes.c_int32),
        ("parallel", ctypes.c_int32),
        ("steps", ctypes.c_void_p),
        ("n_steps", ctypes.c_int64),
        ("n_sizes", ctypes.c_int64),
        ("largest_sizes", ctypes.c_void_p),
        ("paused", ctypes.c_int64),
    ]


class ContextRecord(ctypes.Structure):
    """What a kernel gets as its first argument."""

    _fields_ = [
        ("status", ctypes.c_int32),
        ("unused", ctypes.c_int32),
        ("detail0", ctypes.c_int64),
        ("detail1", ctypes.c_int64),
        ("answer", ctypes.c_int32),
        ("reserved", ctypes.c_int8 * 36),
    ]


class InstanceRecord(ctypes.Structure):
    """The memory of one call: pointer table, gathered pointers of one launch, scalars, context, sizes."""

    _fields_ = [
        ("next", ctypes.c_void_p),
        ("executable", ctypes.c_void_p),
        ("table", ctypes.c_void_p),
        ("gathered", ctypes.c_void_p),
        ("scalars", ctypes.c_void_p),
        ("recorder", ctypes.c_void_p),
        ("failed_launch", ctypes.c_int64),
        ("resume", ctypes.c_int64),
        ("context", ContextRecord),
        ("sizes", ctypes.c_void_p),
        ("launch_sizes", ctypes.c_void_p),
    ]


class RecorderRecord(ctypes.Structure):
    """What timed calls leave: an i64 for each launch at `times` and `counts`, EventRecords at `events`."""

    _fields_ = [
        ("times", ctypes.c_void_p),
        ("counts", ctypes.c_void_p),
        ("capacity", ctypes.c_int64),
        ("n_events", ctypes.c_int64),
        ("events", ctypes.c_void_p),
    ]


class EventRecord(ctypes.Structure):
    """A launch (what is twice its number), the part of one that a thread did (1 more), or a call (-2)."""

    _fields_ = [
        ("what", ctypes.c_int64),
        ("start", ctypes.c_int64),
        ("stop", ctypes.c_int64),
        ("thread", ctypes.c_int64),
    ]


class PoolRecord(ctypes.Structure):
    """The thread pool's shared words, each on its own cache line. All but the last two start as zero."""

    _fields_ = [
        ("generation", ctypes.c_int32),
        ("_line0", ctypes.c_int8 * 60),
        ("sleepers", ctypes.c_int32),
        ("_line1", ctypes.c_int8 * 60),
        ("ticket", ctypes.c_int64),
        ("_line2", ctypes.c_int8 * 56),
        ("done", ctypes.c_int64),
        ("_line3", ctypes.c_int8 * 56),
        ("job", ctypes.c_int64 * 8),
        ("busy", ctypes.c_int32),
        ("_line5", ctypes.c_int8 * 60),
        ("stop", ctypes.c_int32),
        ("workers", ctypes.c_int32),
        ("spin", ctypes.c_int64),
        ("_line6", ctypes.c_int8 * 48),
    ]


class BufferSlots(ctypes.Structure):
    """Where objects of the Buffer class keep their four attributes, for the native allocator."""

    _fields_ = [
        ("type", ctypes.c_void_p),
        ("ptr", ctypes.c_int64),
        ("nbytes", ctypes.c_int64),
        ("device", ctypes.c_int64),
        ("owner", ctypes.c_int64),
        ("cpu", ctypes.c_void_p),
    ]
