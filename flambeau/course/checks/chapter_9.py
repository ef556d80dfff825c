"""Checks of chapter 9: code."""
from __future__ import annotations

import ctypes
import math
import random
from typing import Any

import numpy as np
from llvmlite import binding, ir

from flambeau.course.checking import Wrong, check, expect, of_ember, refuses
from flambeau.course.checks.programs import arrays_for, parsed, random_graph, text_of

EVALUATE: dict[str, Any] = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "neg": np.negative,
                            "exp": np.exp, "log": np.log, "sign": np.sign, "relu": lambda x: np.where(x > 0, x, 0.0)}


def fused(graph: Any) -> Any:
    for name in ("simplify", "cse", "decompose", "simplify", "fuse"):
        graph = getattr(of_ember(name), name)(graph)
    return graph


def kernels_of(lines: str) -> list[Any]:
    return [n for n in fused(parsed(lines)).nodes if n.op == "fusion"]


def run_loop(loop: Any, arrays: list[np.ndarray]) -> np.ndarray:
    """What a Loop means, point by point: the result as an array. Addresses outside of a param are Wrong."""
    rows = [np.ascontiguousarray(a, np.float64).reshape(-1) for a in arrays]
    out = np.zeros(math.prod(loop.params[-1]))
    n_outer = len(loop.extents) - loop.n_reduced
    for outer in np.ndindex(*loop.extents[:n_outer]):
        total = 0.0
        for inner in np.ndindex(*loop.extents[n_outer:]):
            values: list[float] = []
            for op, *rest in loop.code:
                if op == "load":
                    at = sum(i * s for i, s in zip((*outer, *inner), rest[1], strict=True))
                    if not 0 <= at < len(rows[rest[0]]):
                        raise Wrong(f"a load of in{rest[0]}[{at}], which has {len(rows[rest[0]])} elements", "in "
                                    + of_ember("lower").print_loop(loop))
                    values.append(rows[rest[0]][at])
                else:
                    values.append(rest[0] if op == "const" else float(EVALUATE[op](*(values[r] for r in rest))))
            total += values[-1]
        out[sum(i * s for i, s in zip(outer, loop.store_strides, strict=True))] = total
    return out.reshape(loop.params[-1])


SUM = '%0 = input arg "x" : f64[2,3]\n%1 = mul(%0, %0) : f64[2,3]\n%2 = sum(%1, dims=(0,)) : f64[3]\nreturn %2'


@check("9.1", "loops: what stays, then what is summed over")
def _(m: Any) -> None:
    (node,) = kernels_of(SUM)
    loop = m.lower(node)
    expect("the params' shapes, the result last", loop.params, ((2, 3), (3,)))
    expect("the loops' extents", loop.extents, (3, 2), "dim 1 of x stays and is the outer loop; dim 0 is summed over inside")
    expect("how many are summed over", loop.n_reduced, 1)
    expect("the code", loop.code, (("load", 0, (1, 3)), ("mul", 0, 0)), "x is loaded once: a step of the outer loop goes 1 "
                                                                         "further in memory, one of the inner loop 3")
    expect("the strides of the store", loop.store_strides, (1,))


@check("9.1", "views are other indices, and no steps")
def _(m: Any) -> None:
    cases = (
        ("a permute", "%1 = permute(%0, dims=(1, 0)) : f64[3,2]\n%2 = neg(%1) : f64[3,2]\nreturn %2", (("load", 0, (1, 3)), ("neg", 0))),
        ("a broadcast in front", "%1 = broadcast(%0, shape=(4, 2, 3), dims=(1, 2)) : f64[4,2,3]\n%2 = neg(%1) : f64[4,2,3]\nreturn %2",
         None),
        ("a constant", "%1 = constant(value=f64[] 2.0) : f64[]\n%2 = broadcast(%1, shape=(2, 3), dims=()) : f64[2,3]\n"
                       "%3 = mul(%0, %2) : f64[2,3]\nreturn %3", (("load", 0, (3, 1)), ("const", 2.0), ("mul", 0, 1))),
        ("a value and the same value turned", "%1 = permute(%0, dims=(1, 0)) : f64[3,2]\n%2 = sum(%1, dims=(0,)) : f64[2]\nreturn %2",
         (("load", 0, (3, 1)),)),
    )
    for what, lines, code in cases:
        for node in kernels_of('%0 = input arg "x" : f64[2,3]\n' + lines):
            loop = m.lower(node)
            if code is not None:
                expect(f"how many steps {what} has", len(loop.code), len(code), "a view is no step: it is where its operand is")
                expect(f"the loads of {what}", sorted(s for s in loop.code if s[0] == "load"),
                       sorted(s for s in code if s[0] == "load"))


@check("9.1", "a dim of 1 that repeats stays at 0; a value may be asked at two indices")
def _(m: Any) -> None:
    (node,) = kernels_of('%0 = input arg "x" : f64[2,1]\n%1 = broadcast(%0, shape=(2, 3), dims=(0, 1)) : f64[2,3]\nreturn %1')
    expect("the code of a column that is repeated", m.lower(node).code, (("load", 0, (1, 0)),),
           "the stride of the dim of 1 is 1 in memory, but nobody walks along it")
    (node,) = kernels_of('%0 = input arg "x" : f64[2,2]\n%1 = permute(%0, dims=(1, 0)) : f64[2,2]\n%2 = sub(%0, %1) : f64[2,2]\nreturn %2')
    expect("x minus x turned, for [[1 2] [3 4]]", run_loop(m.lower(node), [np.array([[1.0, 2], [3, 4]])]), np.array([[0.0, -1], [1, 0]]),
           "steps are by value and index: x at (i, j) and x at (j, i) are two")


@check("9.1", "random programs, loop by loop")
def _(m: Any) -> None:
    for seed in range(12):
        graph = fused(random_graph(seed, 10))
        values = dict(zip(graph.inputs, arrays_for(graph), strict=True))
        for node in (n for n in graph.nodes if n.op == "fusion"):
            operands = [values[o] for o in node.operands]
            (wanted,) = of_ember("interpret").interpret(node.region, operands)
            expect(f"the result of\n{m.print_loop(m.lower(node))}\nfor\n{text_of(node.region)}", run_loop(m.lower(node), operands), wanted)
            values[node] = wanted


def machine_code(module: ir.Module) -> Any:
    """As it stands, without LLVM's passes: quick, and nothing hides a mistake."""
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    parsed = binding.parse_assembly(str(module))
    parsed.verify()
    machine = binding.Target.from_default_triple().create_target_machine(opt=0)
    engine = binding.create_mcjit_compiler(parsed, machine)
    engine.finalize_object()
    return engine


@check("9.2", "each op of a number")
def _(m: Any) -> None:
    numbers = (-2.5, -0.0, 0.0, 0.5, 3.0, math.inf, -math.inf, math.nan)
    module, double = ir.Module("ops"), ir.DoubleType()
    for op in EVALUATE:
        n = 2 if op in ("add", "sub", "mul", "div") else 1
        if op not in m.SCALAR:
            raise Wrong(f"SCALAR has no {op!r}")
        function = ir.Function(module, ir.FunctionType(double, [double] * n), f"op_{op}")
        b = ir.IRBuilder(function.append_basic_block())
        b.ret(m.SCALAR[op](b, *function.args))
    engine = machine_code(module)
    for op in EVALUATE:
        n = 2 if op in ("add", "sub", "mul", "div") else 1
        code = ctypes.CFUNCTYPE(ctypes.c_double, *[ctypes.c_double] * n)(engine.get_function_address(f"op_{op}"))
        for x in numbers:
            arguments = (x, 0.75)[:n]
            expect(f"{op}{arguments}", code(*arguments), float(EVALUATE[op](*arguments)),
                   "relu gives 0 for NaN here, as its meaning in ops.py does; sign keeps it" if op in ("relu", "sign") else "")


@check("9.2", "a loop runs its body for each index")
def _(m: Any) -> None:
    module = ir.Module("loops")
    pointer = ir.DoubleType().as_pointer()
    for extent in (0, 1, 5):
        function = ir.Function(module, ir.FunctionType(ir.VoidType(), [pointer]), f"f{extent}")
        b = ir.IRBuilder(function.append_basic_block("entry"))

        def body(index: Any, b: Any = b, function: Any = function) -> None:
            m.for_loop(b, 2, lambda inner: b.store(b.uitofp(index, ir.DoubleType()), m.address(
                b, function.args[0], (2, 1, 0), (index, inner, index))))

        m.for_loop(b, extent, body)
        b.ret_void()
    try:
        engine = machine_code(module)
    except RuntimeError as error:
        raise Wrong(f"LLVM does not take it: {error}", "the phi comes first in its block, with the block that control came from: "
                    "the body may have ended in another one than it began") from None
    for extent in (0, 1, 5):
        row = np.full(12, -1.0)
        ctypes.CFUNCTYPE(None, ctypes.c_void_p)(engine.get_function_address(f"f{extent}"))(row.ctypes.data)
        wanted = np.full(12, -1.0)
        wanted[:2 * extent] = np.repeat(np.arange(extent), 2)
        expect(f"a row in which a loop over {extent} with one over 2 inside has stored its index", row, wanted)


def emitted(m: Any, loops: list[Any]) -> Any:
    module = ir.Module("kernels")
    for number, loop in enumerate(loops):
        m.emit(loop, module, f"k{number}")
    try:
        return machine_code(module)
    except RuntimeError as error:
        raise Wrong(f"LLVM does not take it: {error}\n{module}") from None


def run_kernel(engine: Any, number: int, loop: Any, arrays: list[np.ndarray]) -> np.ndarray:
    out = np.full(loop.params[-1], np.nan)
    arrays = [np.ascontiguousarray(a, np.float64) for a in arrays]
    code = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * len(loop.params))(engine.get_function_address(f"k{number}"))
    code(*(a.ctypes.data for a in arrays), out.ctypes.data)
    return out


@check("9.2", "kernels: maps, and sums that begin at 0 for each result")
def _(m: Any) -> None:
    lower = of_ember("lower").Loop
    cases = [lower(((2, 3), (2, 3)), (2, 3), 0, (("load", 0, (3, 1)), ("exp", 0)), (3, 1)),
             lower(((2, 3), (3,)), (3, 2), 1, (("load", 0, (1, 3)),), (1,)),
             lower(((2, 3), ()), (2, 3), 2, (("load", 0, (3, 1)), ("mul", 0, 0)), ()),
             lower(((2, 3), (3, 2)), (3, 2), 0, (("load", 0, (1, 3)), ("const", 2.0), ("mul", 0, 1)), (2, 1)),
             lower(((2, 0), (2,)), (2, 0), 1, (("load", 0, (0, 1)),), (1,))]
    engine = emitted(m, cases)
    x = np.arange(6.0).reshape(2, 3) / 4
    for number, (loop, wanted) in enumerate(zip(cases, (np.exp(x), x.sum(0), (x * x).sum(), 2 * x.T, np.zeros(2)), strict=True)):
        expect(f"what\n{of_ember('lower').print_loop(loop)}\ngives", run_kernel(engine, number, loop, [x[:, :0] if number == 4 else x]), wanted,
               "total is one place in memory: it must become 0 for each result" if loop.n_reduced else "")


@check("9.2", "kernels of random programs")
def _(m: Any) -> None:
    nodes = [n for seed in range(6) for n in fused(random_graph(seed)).nodes if n.op == "fusion"]
    loops = [of_ember("lower").lower(node) for node in nodes]
    engine = emitted(m, loops)
    rng = np.random.default_rng(0)
    for number, (node, loop) in enumerate(zip(nodes, loops, strict=True)):
        arrays = [rng.uniform(0.5, 1.5, o.shape) for o in node.operands]
        expect(f"what\n{of_ember('lower').print_loop(loop)}\ngives", run_kernel(engine, number, loop, arrays),
               of_ember("interpret").interpret(node.region, arrays)[0])


@check("9.3", "lives: from who makes it to who reads it last")
def _(m: Any) -> None:
    graph = parsed('%0 = input arg "x" : f64[4]\n%1 = exp(%0) : f64[4]\n%2 = sum(%1, dims=(0,)) : f64[]\n'
                   '%3 = broadcast(%2, shape=(4,), dims=()) : f64[4]\n%4 = div(%1, %3) : f64[4]\nreturn %4')
    found = of_ember("fuse").fuse(graph)
    expect("lives of softmax's kernels", {found.nodes.index(n): life for n, life in m.lives_of(found).items()},
           {1: (1, 3), 2: (2, 3)}, "exp is read by the sum and by the division; the output has memory of its own")


def clash(sizes: list[int], lives: list[tuple[int, int]], offsets: list[int]) -> str:
    for a in range(len(sizes)):
        for b in range(a):
            together = lives[a][0] <= lives[b][1] and lives[b][0] <= lives[a][1]
            if together and offsets[a] < offsets[b] + sizes[b] and offsets[b] < offsets[a] + sizes[a]:
                return (f"value {b} ({sizes[b]} bytes at {offsets[b]}, alive {lives[b]}) and value {a} ({sizes[a]} bytes at "
                        f"{offsets[a]}, alive {lives[a]}) share bytes")
    return ""


@check("9.3", "no two that are alive together share a byte")
def _(m: Any) -> None:
    rng = random.Random(0)
    for _ in range(200):
        n = rng.randint(0, 12)
        sizes = [rng.choice((0, 8, 16, 40, 64)) for _ in range(n)]
        lives = [(a, a + rng.randint(0, 5)) for a in (rng.randint(0, 12) for _ in range(n))]
        offsets, total = m.plan(sizes, lives)
        if wrong := clash(sizes, lives, list(offsets)):
            raise Wrong(wrong, "both ends of a life count: a kernel reads its operands while it writes its result")
        expect("the size of the arena", total, max((o + s for o, s in zip(offsets, sizes, strict=True)), default=0))
        if any(o < 0 for o in offsets):
            raise Wrong(f"offsets {offsets}")


@check("9.3", "memory is used again")
def _(m: Any) -> None:
    chain = [(n, n + 1) for n in range(10)]
    expect("the arena of a chain of ten values of 80 bytes", m.plan([80] * 10, chain)[1], 160, "two are alive at any time")
    expect("of three that are alive together", m.plan([8, 16, 24], [(0, 2)] * 3)[1], 48)
    expect("of a gap that fits", m.plan([100, 40, 60], [(0, 9), (0, 2), (3, 9)])[1], 160, "the lowest place that is free")
    expect("of a gap between two", m.plan([50, 30, 50, 30], [(0, 9), (0, 3), (0, 9), (5, 9)])[1], 130)


@check("9.3", "lives of random programs")
def _(m: Any) -> None:
    for seed in range(10):
        graph = fused(random_graph(seed))
        lives = m.lives_of(graph)
        expect("who has one", set(lives), {n for n in graph.nodes if n.op == "fusion" and n not in graph.outputs})
        users = graph.users_of()
        for node, (first, last) in lives.items():
            expect("the first of a life", first, graph.nodes.index(node))
            expect("the last", last, max((graph.nodes.index(u) for u in users[node]), default=first))


@check("9.4", "the passes, in order")
def _(m: Any) -> None:
    graph = of_ember("trace").trace(lambda x, w: (x @ w * 1.0).exp(), (2, 3), (3, 2))
    found = m.passes(graph)
    expect("their names", [name for name, _ in found], ["simplify", "cse", "decompose", "simplify", "fuse"])
    expect("the last graph's ops", {n.op for n in found[-1][1].nodes}, {"input", "fusion"})
    expect("the first one's", [n.op for n in found[0][1].nodes], ["input", "input", "matmul", "exp"])


@check("9.4", "programs: random ones, and their derivatives")
def _(m: Any) -> None:
    for seed in range(3):
        graph = of_ember("gradient").gradient(random_graph(seed, 12, scalar=True))
        program = m.Program(graph)
        for again in range(2):
            arrays = arrays_for(graph, again)
            found, wanted = program(arrays), of_ember("interpret").interpret(graph, arrays)
            expect(f"how many outputs of\n{text_of(graph)}", len(found), len(wanted))
            for one, other in zip(found, wanted, strict=True):
                expect(f"an output of\n{text_of(graph)}", one, other)


@check("9.4", "an input that is an output, one that is not contiguous, and one that does not fit")
def _(m: Any) -> None:
    program = m.Program(of_ember("trace").trace(lambda x, y: (x, (x + y).sum(0)), (2, 3), (2, 3)))
    x = np.arange(6.0).reshape(3, 2).T
    found = program([x, np.ones((2, 3))])
    expect("the first output", found[0], x)
    expect("the second", found[1], (x + 1).sum(0))
    refuses(program, [x.T, x], error=ValueError, naming="x0")


@check("9.4", "compile: a function, by signature")
def _(m: Any) -> None:
    def f(x: Any, scale: Any) -> Any:
        return (x * scale).relu().sum()

    g = m.compile(f)
    for n, scale in ((3, 2.0), (3, -1.0), (4, 2.0)):
        x = np.linspace(-1, 1, n)
        expect(f"f of {n} numbers, scale {scale}", g(x, scale), np.maximum(x * scale, 0).sum())
    expect("how many programs", len(g.programs), 2)
