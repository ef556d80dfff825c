"""What kernels call that numba.cuda does not have, as its intrinsics: numbers of 16 bits, errors. It imports numba.cuda, so
that nothing but `toolchain.py` imports it."""
# mypy: ignore-errors
from __future__ import annotations

from llvmlite import ir
from numba.cuda import cgutils, types
from numba.cuda.extending import intrinsic

__all__ = ["INTRINSICS"]

_I16, _I32, _I64, _F32, _F64 = ir.IntType(16), ir.IntType(32), ir.IntType(64), ir.FloatType(), ir.DoubleType()


def _of_one(result, operand, build):
    """An intrinsic of one operand. result, operand: numba types; build(builder, value) gives the result."""
    @intrinsic
    def function(typing_context, x):
        return result(operand), lambda context, builder, signature, args: build(builder, args[0])

    return function


def _converted(builder, value, kind, name):
    """What LLVM's function `name` gives. (Lines of PTX would keep a loop around them from being unrolled.)"""
    function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(kind, [value.type]), name)
    return builder.call(function, [value])


def _to_f16(builder, value):
    kind = "f64" if value.type == _F64 else "f32"
    return _converted(builder, value, _I16, f"llvm.convert.to.fp16.{kind}")


def _from_f16(builder, bits):
    return _converted(builder, bits, _F32, "llvm.convert.from.fp16.f32")


def _to_bf16(builder, value):
    """The upper half, rounded to even; NaN stays NaN."""
    bits = builder.bitcast(value, _I32)
    odd = builder.and_(builder.lshr(bits, ir.Constant(_I32, 16)), ir.Constant(_I32, 1))
    rounded = builder.add(bits, builder.add(odd, ir.Constant(_I32, 0x7FFF)))
    is_nan = builder.fcmp_unordered("uno", value, value)
    return builder.trunc(builder.lshr(builder.select(is_nan, ir.Constant(_I32, 0x7FC00000), rounded),
                                      ir.Constant(_I32, 16)), _I16)


def _from_bf16(builder, bits):
    return builder.bitcast(builder.shl(builder.zext(bits, _I32), ir.Constant(_I32, 16)), _F32)


def _extremum(name):
    """The greater or lesser of two f32 by LLVM's function `name`, which tells -0 from +0; a NaN if either is one. Without
    branches, which the choices of `library.py` would be."""
    @intrinsic
    def function(typing_context, a, b):
        def generate(context, builder, signature, args):
            called = cgutils.get_or_insert_function(builder.module, ir.FunctionType(_F32, [_F32, _F32]), name)
            is_nan = builder.fcmp_unordered("uno", *args)
            return builder.select(is_nan, builder.fadd(*args), builder.call(called, args))

        return types.float32(types.float32, types.float32), generate

    return function


_u16, _f32, _f64 = types.uint16, types.float32, types.float64

f16_to, f16_from = _of_one(_u16, _f32, _to_f16), _of_one(_f32, _u16, _from_f16)
bf16_to, bf16_from = _of_one(_u16, _f32, _to_bf16), _of_one(_f32, _u16, _from_bf16)
f16 = _of_one(_f32, _f32, lambda b, x: _from_f16(b, _to_f16(b, x)))
f16_of_f64 = _of_one(_f32, _f64, lambda b, x: _from_f16(b, _to_f16(b, x)))
bits_of_f32 = _of_one(types.uint32, _f32, lambda b, x: b.bitcast(x, _I32))
bits_of_f64 = _of_one(types.uint64, _f64, lambda b, x: b.bitcast(x, _I64))
bf16 = _of_one(_f32, _f32, lambda b, x: _from_bf16(b, _to_bf16(b, x)))


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


def _wide(width, stores):
    """Elements side by side, from an aligned place on, to or from a local array."""
    @intrinsic
    def moved(typing_context, pointer, index, array):
        def generate(context, builder, signature, args):
            itemsize = signature.args[0].dtype.bitwidth // 8
            nbytes = width * itemsize
            words = nbytes % 4 == 0 and itemsize < 4            # which a vector of small numbers would be cut below
            kind = ir.VectorType(_I32, nbytes // 4) if words else ir.VectorType(
                context.get_value_type(signature.args[0].dtype), width)
            wide = builder.sext if signature.args[1].signed else builder.zext
            at = args[1] if args[1].type.width == 64 else wide(args[1], _I64)
            memory = builder.bitcast(builder.gep(args[0], [at]), kind.as_pointer(args[0].type.addrspace))
            local = context.make_array(signature.args[2])(context, builder, value=args[2]).data
            local = builder.bitcast(local, kind.as_pointer(local.type.addrspace))
            if stores:
                builder.store(builder.load(local, align=itemsize), memory, align=nbytes)
            else:
                builder.store(builder.load(memory, align=nbytes), local, align=itemsize)
            return context.get_dummy_value()

        return types.void(pointer, index, array), generate

    return moved


def _copied(width):
    """Elements side by side from one memory to another, in both from a multiple of the width on. Arrays are aligned to
    16 bytes, as their declarations say."""
    @intrinsic
    def copied(typing_context, target, at, source, start):
        def generate(context, builder, signature, args):
            itemsize = signature.args[0].dtype.bitwidth // 8
            nbytes = width * itemsize
            words = nbytes % 4 == 0 and itemsize < 4            # which a vector of small numbers would be cut below
            kind = ir.VectorType(_I32, nbytes // 4) if words else ir.VectorType(
                context.get_value_type(signature.args[0].dtype), width)
            target, source = (element_pointer(context, builder, *given) for given in (
                (signature.args[0], args[0], signature.args[1], args[1]),
                (signature.args[2], args[2], signature.args[3], args[3])))
            source, target = (builder.bitcast(p, kind.as_pointer(p.type.addrspace)) for p in (source, target))
            builder.store(builder.load(source, align=nbytes), target, align=nbytes)
            return context.get_dummy_value()

        return types.void(target, at, source, start), generate

    return copied


def element_pointer(context, builder, kind, memory, index_type, index):
    """To an element of a pointer, or of an array."""
    if index.type.width < 64:
        index = builder.sext(index, _I64) if index_type.signed else builder.zext(index, _I64)
    start = memory if isinstance(kind, types.CPointer) else context.make_array(kind)(context, builder, value=memory).data
    return builder.gep(start, [index])


# -- tensor cores, and what feeds them --------------------------------------------------------------------------------


def _assembly(builder, result, text, constraints, operands):
    """A line of PTX that is neither moved nor dropped."""
    function = ir.FunctionType(result, [operand.type for operand in operands])
    return builder.call(ir.InlineAsm(function, text, constraints, side_effect=True), operands)


def _in_shared(builder, pointer):
    """The 32-bit place that PTX knows it by."""
    return builder.ptrtoint(builder.addrspacecast(pointer, pointer.type.pointee.as_pointer(3)), _I32)


def _cp_async(width):
    """Elements from global to shared memory, zeros where not `inside`, while the thread goes on."""
    @intrinsic
    def copied(typing_context, shared, at, pointer, index, inside):
        def generate(context, builder, signature, args):
            nbytes = width * signature.args[0].dtype.bitwidth // 8
            kinds = signature.args
            target = _in_shared(builder, element_pointer(context, builder, kinds[0], args[0], kinds[1], args[1]))
            source = builder.ptrtoint(element_pointer(context, builder, kinds[2], args[2], kinds[3], args[3]), _I64)
            is_inside = context.cast(builder, args[4], kinds[4], types.boolean)
            size = builder.select(is_inside, ir.Constant(_I32, nbytes), ir.Constant(_I32, 0))
            through = "cg" if nbytes == 16 else "ca"
            _assembly(builder, ir.VoidType(), f"cp.async.{through}.shared.global [$0], [$1], {nbytes}, $2;",
                      "r,l,r,~{memory}", [target, source, size])
            return context.get_dummy_value()

        return types.void(shared, at, pointer, index, inside), generate

    return copied


def _alone(text):
    """A line of PTX without operands."""
    @intrinsic
    def said(typing_context):
        def generate(context, builder, signature, args):
            _assembly(builder, ir.VoidType(), text, "~{memory}", [])
            return context.get_dummy_value()

        return types.void(), generate

    return said


def _ldmatrix(turned):
    """Four matrices of 8 x 8 16-bit elements, a row from the place that each lane says, as fragments to a local array."""
    @intrinsic
    def loaded(typing_context, array, to, shared, at):
        def generate(context, builder, signature, args):
            kinds = signature.args
            target = element_pointer(context, builder, kinds[0], args[0], kinds[1], args[1])
            place = _in_shared(builder, element_pointer(context, builder, kinds[2], args[2], kinds[3], args[3]))
            words = _assembly(builder, ir.LiteralStructType([_I32] * 4),
                              f"ldmatrix.sync.aligned.m8n8.x4{'.trans' if turned else ''}.shared.b16 "
                              "{$0,$1,$2,$3}, [$4];", "=r,=r,=r,=r,r,~{memory}", [place])
            for number in range(4):
                builder.store(builder.extract_value(words, number), builder.gep(target, [ir.Constant(_I64, number)]))
            return context.get_dummy_value()

        return types.void(array, to, shared, at), generate

    return loaded


def _mma(shape, kind):
    """acc[at...] += the product of the fragments a[a_at...] and b[b_at...]."""
    @intrinsic
    def multiplied(typing_context, acc, at, a, a_at, b, b_at):
        def generate(context, builder, signature, args):
            kinds = signature.args
            sums, left, right = (element_pointer(context, builder, kinds[n], args[n], kinds[n + 1], args[n + 1])
                                 for n in (0, 2, 4))

            def loaded(pointer, count):
                return [builder.load(builder.gep(pointer, [ir.Constant(_I64, n)])) for n in range(count)]

            operands = [*loaded(left, 4), *loaded(right, 2), *loaded(sums, 4)]
            function = ir.FunctionType(ir.LiteralStructType([_F32] * 4), [operand.type for operand in operands])
            text = (f"mma.sync.aligned.{shape}.row.col.f32.{kind}.{kind}.f32 "
                    "{$0,$1,$2,$3}, {$4,$5,$6,$7}, {$8,$9}, {$10,$11,$12,$13};")
            made = builder.call(ir.InlineAsm(function, text, "=f,=f,=f,=f,r,r,r,r,r,r,f,f,f,f"), operands)
            for number in range(4):
                builder.store(builder.extract_value(made, number), builder.gep(sums, [ir.Constant(_I64, number)]))
            return context.get_dummy_value()

        return types.void(acc, at, a, a_at, b, b_at), generate

    return multiplied


def _rounded_to_tf32(builder, value):
    return builder.call(ir.InlineAsm(ir.FunctionType(_I32, [_F32]), "cvt.rna.tf32.f32 $0, $1;", "=r,f"), [value])


tf32 = _of_one(types.uint32, _f32, _rounded_to_tf32)
tf32_bits = _of_one(types.uint32, types.uint32, lambda b, x: _rounded_to_tf32(b, b.bitcast(x, _F32)))


def _atomic(kind, name):
    """`memory[index] = memory[index] + value`, or the greater, as one step of no fixed order."""
    @intrinsic
    def function(typing_context, pointer, index, value):
        def generate(context, builder, signature, args):
            at = element_pointer(context, builder, signature.args[0], args[0], signature.args[1], args[1])
            _ATOMIC[name](builder, at, args[2], signature.args[0].dtype)
            return context.get_dummy_value()

        return types.void(pointer, index, kind), generate

    return function


def _float_add(builder, at, value, kind):
    bits = value.type.intrinsic_name
    called = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(value.type, [at.type, value.type]), f"llvm.nvvm.atomic.load.add.{bits}.p0{bits}")
    builder.call(called, [at, value])


def _int_add(builder, at, value, kind):
    builder.atomic_rmw("add", at, value, "monotonic")


def _int_max(builder, at, value, kind):
    builder.atomic_rmw("max", at, value, "monotonic")


def _narrow_add(added):
    """Of 8 or 16 bits, within a word that is compared and exchanged until nobody came in between."""
    def add(builder, at, value, kind):
        mask = ir.Constant(_I32, (1 << kind.bitwidth) - 1)
        address = builder.ptrtoint(at, _I64)
        low = builder.and_(address, ir.Constant(_I64, 3))
        word = builder.inttoptr(builder.sub(address, low), _I32.as_pointer())
        shift = builder.mul(builder.trunc(low, _I32), ir.Constant(_I32, 8))
        first, loop, done = builder.block, builder.append_basic_block("again"), builder.append_basic_block("done")
        start = builder.load(word)
        builder.branch(loop)
        builder.position_at_end(loop)
        before = builder.phi(_I32)
        before.add_incoming(start, first)
        old = builder.trunc(builder.lshr(before, shift), ir.IntType(kind.bitwidth))
        new = builder.zext(added(builder, old, value), _I32)
        rest = builder.and_(before, builder.not_(builder.shl(mask, shift)))
        after = builder.or_(rest, builder.shl(new, shift))
        found = builder.cmpxchg(word, before, after, "monotonic", "monotonic")
        before.add_incoming(builder.extract_value(found, 0), builder.block)
        builder.cbranch(builder.extract_value(found, 1), done, loop)
        builder.position_at_end(done)

    return add


_ATOMIC = {
    "add_f32": _float_add, "add_f64": _float_add, **{f"add_{name}": _int_add for name in ("i32", "u32", "i64", "u64")},
    "max_i64": _int_max,
    "add_bf16": _narrow_add(lambda b, old, x: _to_bf16(b, b.fadd(_from_bf16(b, old), x))),
    "add_f16": _narrow_add(lambda b, old, x: _to_f16(b, b.fadd(_from_f16(b, old), x))),
    **{f"add_{name}": _narrow_add(lambda b, old, x: b.add(old, x)) for name in ("i8", "u8", "i16", "u16")},
}
_KINDS = {"f32": types.float32, "f64": types.float64, "bf16": types.float32, "f16": types.float32,
          **{f"{sign[0]}{bits}": getattr(types, f"{sign}{bits}") for sign in ("int", "uint") for bits in (8, 16, 32, 64)}}

_WIDTHS = (2, 4, 8, 16)
INTRINSICS = {**{f"load{n}": _wide(n, stores=False) for n in _WIDTHS},
              **{f"copy{n}": _copied(n) for n in _WIDTHS}, **{f"store{n}": _wide(n, stores=True) for n in _WIDTHS},
              **{f"cp_async{n}": _cp_async(n) for n in (1, 2, 4, 8)},
              **{f"cp_async_wait{n}": _alone(f"cp.async.wait_group {n};") for n in range(4)},
              "cp_async_commit": _alone("cp.async.commit_group;"),
              "ldmatrix4": _ldmatrix(turned=False), "ldmatrix4_trans": _ldmatrix(turned=True),
              "mma_bf16": _mma("m16n8k16", "bf16"), "mma_f16": _mma("m16n8k16", "f16"),
              "mma_tf32": _mma("m16n8k8", "tf32"), "tf32": tf32, "tf32_bits": tf32_bits,
              "f32_max": _extremum("llvm.nvvm.fmax.f"), "f32_min": _extremum("llvm.nvvm.fmin.f"),
              "f16": f16, "f16_of_f64": f16_of_f64, "f16_from": f16_from, "f16_to": f16_to, "bf16": bf16,
              "bf16_from": bf16_from, "bf16_to": bf16_to, "report": report,
              "bits_of_f32": bits_of_f32, "bits_of_f64": bits_of_f64,
              **{f"atomic_{name}": _atomic(_KINDS[name.partition("_")[2]], name) for name in _ATOMIC}}
