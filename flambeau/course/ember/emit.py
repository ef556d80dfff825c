"""Loop -> LLVM IR, by llvmlite's builder. The processor's own instructions are one step further, and LLVM goes it."""
from llvmlite import ir

F64, I64 = ir.DoubleType(), ir.IntType(64)


def call_of(name):
    """One of LLVM's own functions of a double."""
    def emit(b, x):
        function = b.module.globals.get(f"llvm.{name}.f64") or ir.Function(b.module, ir.FunctionType(F64, [F64]), f"llvm.{name}.f64")
        return b.call(function, [x])

    return emit


def emit_relu(b, x):
    """x where it is greater than 0, else 0."""
    # <solution>
    zero = ir.Constant(F64, 0.0)
    return b.select(b.fcmp_ordered(">", x, zero), x, zero)
    # </solution>


def emit_sign(b, x):
    """1 where x is greater than 0, -1 where it is less, x itself else (0, or NaN)."""
    # <solution>
    zero = ir.Constant(F64, 0.0)
    low = b.select(b.fcmp_ordered("<", x, zero), ir.Constant(F64, -1.0), x)
    return b.select(b.fcmp_ordered(">", x, zero), ir.Constant(F64, 1.0), low)
    # </solution>


# The elementwise ops: a builder and values to a value. b.fadd(x, y) is the first.
SCALAR = {
    "add": lambda b, x, y: b.fadd(x, y),
    # <solution: # sub, mul, div and neg: your code>
    "sub": lambda b, x, y: b.fsub(x, y),
    "mul": lambda b, x, y: b.fmul(x, y),
    "div": lambda b, x, y: b.fdiv(x, y),
    "neg": lambda b, x: b.fneg(x),
    # </solution>
    "exp": call_of("exp"),
    "log": call_of("log"),
    "relu": emit_relu,
    "sign": emit_sign,
}


def address(b, base, strides, indices):
    """A pointer to the element: base plus the sum of stride times index. Strides of 0 add nothing, and 1 needs no product."""
    # <solution>
    place = ir.Constant(I64, 0)
    for stride, index in zip(strides, indices, strict=True):
        if stride:
            place = b.add(place, index if stride == 1 else b.mul(index, ir.Constant(I64, stride)))
    return b.gep(base, [place])
    # </solution>


def for_loop(b, extent, body):
    """Code that runs body(index) for 0 <= index < extent. `body` appends to where b stands, and may leave it in another block.

    The loop's head has a phi: 0 when it comes from before, and the next number when it comes from its own end."""
    before = b.block
    head, after = b.append_basic_block("head"), b.append_basic_block("after")
    inside = b.append_basic_block("body")
    b.branch(head)
    b.position_at_end(head)
    # <solution: b.branch(after)>
    index = b.phi(I64)
    index.add_incoming(ir.Constant(I64, 0), before)
    b.cbranch(b.icmp_signed("<", index, ir.Constant(I64, extent)), inside, after)
    b.position_at_end(inside)
    body(index)
    index.add_incoming(b.add(index, ir.Constant(I64, 1)), b.block)
    b.branch(head)
    # </solution>
    b.position_at_end(after)


def emit_point(b, loop, pointers, indices):
    """The value of the last step at one point of the loops."""
    # <solution>
    values = []
    for op, *rest in loop.code:
        match op:
            case "load":
                values.append(b.load(address(b, pointers[rest[0]], rest[1], indices)))
            case "const":
                values.append(ir.Constant(F64, rest[0]))
            case _:
                values.append(SCALAR[op](b, *(values[place] for place in rest)))
    return values[-1]
    # </solution>


def emit(loop, module, name):
    """A function of the module, void name(double* in0, ..., double* out), that does what the loop says."""
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [F64.as_pointer()] * len(loop.params)), name)
    for pointer in function.args:
        pointer.add_attribute("noalias")        # the result is not an operand: LLVM may keep what it loaded
    b = ir.IRBuilder(function.append_basic_block("entry"))
    total = b.alloca(F64)
    n_outer = len(loop.extents) - loop.n_reduced

    def nest(depth, indices):
        """The loops from `depth` on. Around the summed ones: total becomes 0 before, and is stored after."""
        # <solution>
        if depth == n_outer:
            if loop.n_reduced:
                b.store(ir.Constant(F64, 0.0), total)
                reduce(depth, indices)
                value = b.load(total)
            else:
                value = emit_point(b, loop, function.args, indices)
            b.store(value, address(b, function.args[-1], loop.store_strides, indices))
        else:
            for_loop(b, loop.extents[depth], lambda index: nest(depth + 1, (*indices, index)))

    def reduce(depth, indices):
        if depth == len(loop.extents):
            b.store(b.fadd(b.load(total), emit_point(b, loop, function.args, indices)), total)
        else:
            for_loop(b, loop.extents[depth], lambda index: reduce(depth + 1, (*indices, index)))
        # </solution>

    nest(0, ())
    b.ret_void()
    return function
