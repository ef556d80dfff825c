"""Build small kernels with the emitter, load them into this process and call them on NumPy arrays."""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import llvmlite.binding as llvm
import numpy as np

from flambeau.codegen.cpu import toolchain, vmath
from flambeau.codegen.cpu.llvm import emitter as em
from flambeau.ir.dtypes import DTYPES, DType
from flambeau.ir.target import Target, avx2, generic_x86_64
from flambeau.runtime.host import host_target

HOST = host_target()
RUNNABLE = [
    HOST,
    *([avx2()] if HOST.has_feature("avx2") else []),
    *([generic_x86_64()] if HOST.is_x86 else []),
]
_names = itertools.count()


class LoadedObject:
    """The kernels of one object, loaded; alive as long as this is."""

    def __init__(self, code: bytes, symbols: list[str]) -> None:
        self.jit = llvm.create_lljit_compiler(toolchain.new_target_machine(HOST))
        builder = llvm.JITLibraryBuilder().add_object_img(code)
        for symbol in symbols:
            builder.export_symbol(symbol)
        self.library = builder.link(self.jit, f"test{next(_names)}")

    def kernel(self, symbol: str) -> NativeKernel:
        return NativeKernel(self, self.library[symbol])


class NativeKernel:
    """One kernel, called with its arrays in parameter order; gives the status, and leaves `ctx` behind."""

    def __init__(self, owner: LoadedObject, address: int) -> None:
        self.owner = owner
        signature = ctypes.CFUNCTYPE(ctypes.c_int32, *[ctypes.c_void_p] * 3, *[ctypes.c_int64] * 2)
        self.function = signature(address)

    def __call__(self, *arrays: np.ndarray, begin: int = 0, end: int = 1, sizes: tuple[int, ...] = ()) -> int:
        pointers = (ctypes.c_void_p * len(arrays))(*[array.ctypes.data for array in arrays])
        extents = (ctypes.c_int64 * max(1, len(sizes)))(*sizes)
        self.ctx = (ctypes.c_int64 * 8)()
        return self.function(self.ctx, pointers, extents, begin, end)


def build(body: Callable[[em.Emitter], None], target: Target) -> NativeKernel:
    """The kernel whose body is emitted by `body`."""
    module = em.new_module("test", target)
    body(em.new_kernel(module, "kernel", target))
    return LoadedObject(toolchain.emit_object(module, target), ["kernel"]).kernel("kernel")


@dataclass(frozen=True)
class Op:
    """One vmath op on arrays: operand dtypes, the dtype it is emitted for, and the result's."""

    op: str
    operands: tuple[DType, ...]
    result: DType
    dtype: DType
    attr: Any = None

    @staticmethod
    def same(op: str, count: int, dtype: DType) -> Op:
        return Op(op, (dtype,) * count, dtype, dtype)


def op_module(ops: Mapping[str, Op], target: Target, lanes: int) -> em.ll.Module:
    """One kernel per op, applying it to `end` elements, a multiple of lanes."""
    module = em.new_module("ops", target)
    for name, op in ops.items():
        _emit_op(em.new_kernel(module, name, target), op, lanes)
    return module


def _emit_op(b: em.Emitter, op: Op, lanes: int) -> None:
    inputs = [b.buffer(number) for number in range(len(op.operands))]
    output = b.buffer(len(inputs))

    def body(i: em.ll.Value) -> None:
        pairs = zip(inputs, op.operands, strict=True)
        values = [b.load_vector(pointer, i, dtype.name, lanes) for pointer, dtype in pairs]
        result = vmath.emit(b, op.op, op.dtype, lanes, values, op.attr)
        b.store_vector(result, output, i, op.result.name)

    b.loop(b.kernel.begin, b.kernel.end, lanes, body)
    b.succeed()


class OpLibrary:
    """Many ops compiled together: `library(name, *arrays)` gives the result array."""

    def __init__(self, ops: Mapping[str, Op], target: Target, lanes: int) -> None:
        self.ops, self.lanes = dict(ops), lanes
        code = toolchain.emit_object(op_module(ops, target, lanes), target)
        self.loaded = LoadedObject(code, list(ops))

    def __call__(self, name: str, *arrays: np.ndarray) -> np.ndarray:
        op = self.ops[name]
        count = len(arrays[0])
        padding = -count % self.lanes
        padded = [
            np.concatenate([array, array[:1].repeat(padding)]).astype(dtype.storage, copy=False)
            for array, dtype in zip(arrays, op.operands, strict=True)
        ]
        out = np.zeros(count + padding, op.result.storage)
        assert self.loaded.kernel(name)(*padded, out, end=count + padding) == 0
        return out[:count]


def dtype(name: str) -> DType:
    return DTYPES[name]
