"""What kernels call that numba.cuda does not have, as its intrinsics: numbers of 16 bits, errors. It imports numba.cuda, so
that nothing but `toolchain.py` imports it."""
# mypy: ignore-errors
from __future__ import annotations

from llvmlite import ir
from numba.cuda import types
from numba.cuda.extending import intrinsic

__all__ = ["INTRINSICS"]

_I16, _I32, _I64, _F32, _F64 = ir.IntType(16), ir.IntType(32), ir.IntType(64), ir.FloatType(), ir.DoubleType()


def _assembly(text, result, operand, constraints):
    """An intrinsic of one line of PTX. result, operand: (numba type, LLVM type)."""
    def generate(context, builder, signature, args):
        function = ir.FunctionType(result[1], [operand[1]])
        return builder.call(ir.InlineAsm(function, text, constraints, side_effect=False), args)

    def typed(typing_context, x):
        return result[0](operand[0]), generate

    return intrinsic(typed)


_u16, _f32, _f64 = (types.uint16, _I16), (types.float32, _F32), (types.float64, _F64)

f16_to = _assembly("cvt.rn.f16.f32 $0, $1;", _u16, _f32, "=h,f")
f16_from = _assembly("cvt.f32.f16 $0, $1;", _f32, _u16, "=f,h")
bf16_to = _assembly("cvt.rn.bf16.f32 $0, $1;", _u16, _f32, "=h,f")
f16 = _assembly("{ .reg .b16 h; cvt.rn.f16.f32 h, $1; cvt.f32.f16 $0, h; }", _f32, _f32, "=f,f")
f16_of_f64 = _assembly("{ .reg .b16 h; cvt.rn.f16.f64 h, $1; cvt.f32.f16 $0, h; }", _f32, _f64, "=f,d")
bf16 = _assembly("{ .reg .b16 h; .reg .b32 w; cvt.rn.bf16.f32 h, $1; mov.b32 w, {0, h}; mov.b32 $0, w; }",
                 _f32, _f32, "=f,f")


@intrinsic
def bf16_from(typing_context, bits):
    """The float32 whose upper half these bits are."""
    def generate(context, builder, signature, args):
        return builder.bitcast(builder.shl(builder.zext(args[0], _I32), ir.Constant(_I32, 16)), _F32)

    return types.float32(types.uint16), generate


@intrinsic
def report(typing_context, status, code, detail):
    """Keep (code, detail) at `status`, unless an error is there already."""
    def generate(context, builder, signature, args):
        pointer, code, detail = args
        zero = ir.Constant(_I64, 0)
        before = builder.extract_value(builder.cmpxchg(pointer, zero, code, "monotonic", "monotonic"), 0)
        with builder.if_then(builder.icmp_signed("==", before, zero)):
            builder.store(detail, builder.gep(pointer, [ir.Constant(_I64, 1)]))
        return context.get_dummy_value()

    return types.void(types.CPointer(types.int64), types.int64, types.int64), generate


INTRINSICS = {"f16": f16, "f16_of_f64": f16_of_f64, "f16_from": f16_from, "f16_to": f16_to, "bf16": bf16,
              "bf16_from": bf16_from, "bf16_to": bf16_to, "report": report}
