"""Vector maths against independent references: ulp bounds, special values, integers, casts, random bits.

References: NumPy's long double for f64 and f32 (math.erf and math.erfc, good to 1 ulp of f64, for those two).
"""

from __future__ import annotations

import functools
import itertools
import math
import re
from collections.abc import Callable

import numpy as np
import pytest
from native_kernels import HOST, RUNNABLE, LoadedObject, Op, OpLibrary, build, dtype, op_module

from flambeau.codegen.cpu import toolchain, vmath
from flambeau.codegen.cpu.llvm import emitter as em
from flambeau.codegen.cpu.vmath import FORMS
from flambeau.ir.dtypes import DTYPES, bf16_to_f32, f32_to_bf16
from flambeau.ir.kernel import SCALAR_OPS
from flambeau.ir.philox import philox_4x32
from flambeau.ir.target import avx2, generic_aarch64, generic_x86_64

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")
LONG = np.longdouble
HAS_LONG_DOUBLE = np.finfo(LONG).nmant >= 63
INF, NAN = math.inf, math.nan

_erf, _erfc = (np.vectorize(f, otypes=["f8"]) for f in (math.erf, math.erfc))



def _mod(x, y):
    rest = np.remainder(x, y)
    return np.where(rest == 0, np.copysign(rest, x), rest)


def _extremum(ufunc, join):
    """NumPy's, with +0 greater than -0."""
    return lambda x, y: np.where((x == 0) & (y == 0), join(x, y), ufunc(x, y))


# op: (reference, bound in ulp for f32, for f64). The bounds are those of the docstrings.
UNARY = {
    "exp": (np.exp, 1.5, 1.5), "exp2": (np.exp2, 1.5, 1.5), "expm1": (np.expm1, 2, 2),
    "sigmoid": (lambda x: 1 / (1 + np.exp(-x)), 3, 3),
    "tanh": (np.tanh, 3, 3), "sinh": (np.sinh, 3, 3), "cosh": (np.cosh, 2, 2),
    "log": (np.log, 1, 1), "log2": (np.log2, 1, 2), "log10": (np.log10, 1, 2), "log1p": (np.log1p, 2, 2),
    "asinh": (np.arcsinh, 4, 4), "acosh": (np.arccosh, 4, 4), "atanh": (np.arctanh, 4, 4),
    "sin": (np.sin, 2, 2), "cos": (np.cos, 2, 2), "tan": (np.tan, 4, 4),
    "asin": (np.arcsin, 2.5, 2.5), "acos": (np.arccos, 2, 2), "atan": (np.arctan, 2, 2),
    "erf": (lambda x: _erf(x.astype("f8")), 2, 3 + 1), "erfc": (lambda x: _erfc(x.astype("f8")), 2, 5 + 1),
    "sqrt": (np.sqrt, 0.5, 0.5), "rsqrt": (lambda x: 1 / np.sqrt(x), 1.5, 1.5),
}  # fmt: skip
BINARY = {"pow": (np.power, 1, 2), "atan2": (np.arctan2, 3, 3)}
EXACT_UNARY = {
    "neg": np.negative, "abs": np.abs, "sign": np.sign,
    "floor": np.floor, "ceil": np.ceil, "trunc": np.trunc, "round": np.rint,
}  # fmt: skip
EXACT_BINARY = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide,
    "min": _extremum(np.minimum, lambda x, y: -(-x - y)), "max": _extremum(np.maximum, np.add),
    "floordiv": np.floor_divide, "mod": _mod, "fmod": np.fmod, "truncdiv": lambda x, y: np.trunc(x / y),
    "copysign": np.copysign,
}  # fmt: skip
PREDICATES = {"isnan": np.isnan, "isinf": np.isinf, "isfinite": np.isfinite}
COMPARISONS = {
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal,
}  # fmt: skip


def float_ops(name: str) -> dict[str, Op]:
    """Every float op at one dtype."""
    kind, boolean = dtype(name), dtype("bool")
    ops = {op: Op.same(op, 1, kind) for op in [*UNARY, *EXACT_UNARY]}
    ops |= {op: Op.same(op, 2, kind) for op in [*BINARY, *EXACT_BINARY]}
    ops |= {op: Op(op, (kind,), boolean, kind) for op in PREDICATES}
    ops |= {op: Op(op, (kind, kind), boolean, kind) for op in COMPARISONS}
    ops |= {"fma": Op.same("fma", 3, kind), "select": Op("select", (boolean, kind, kind), kind, kind)}
    return ops


# (target, dtype, lanes): full registers of each target, half and quarter ones, scalars.
LANES = {
    64: {"f32": (16, 8, 4, 1), "f64": (8, 4, 2, 1)},
    32: {"f32": (8,), "f64": (4,)},
    16: {"f32": (4,), "f64": (2,)},
}
CONFIGURATIONS = [
    pytest.param(number, name, lanes, id=f"{target.cpu}-{name}x{lanes}")
    for number, target in enumerate(RUNNABLE)
    for name in ("f32", "f64")
    for lanes in LANES[64 if target is HOST else target.vector_bytes][name]
]
everywhere = pytest.mark.parametrize(("target", "name", "lanes"), CONFIGURATIONS)


@functools.cache
def float_library(target: int, name: str, lanes: int) -> OpLibrary:
    return OpLibrary(float_ops(name), RUNNABLE[target], lanes)


@functools.cache
def samples(name: str) -> np.ndarray:
    """Random bit patterns (every exponent, NaNs, subnormals) and the ranges where functions bend."""
    rng, count = np.random.default_rng(3), 3000
    storage = dtype(name).storage
    bits = rng.integers(0, 1 << (8 * storage.itemsize), 2 * count, dtype=f"u{storage.itemsize}").view(storage)
    spread = [rng.uniform(-width, width, count) for width in (1, 4, 30, 120, 760)]
    near_one = 1 + rng.uniform(-1, 1, count) * 10.0 ** rng.uniform(-8, 0, count)
    small = rng.uniform(-1, 1, count) * 10.0 ** rng.uniform(-9, 0, count)
    whole = rng.integers(-40, 40, 200)
    return np.concatenate([bits, *(part.astype(storage) for part in (*spread, near_one, small, whole))])


@functools.cache
def pairs(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Operands of binary ops: random, related in size, near one with large exponents, and all special pairs."""
    rng, count, storage = np.random.default_rng(4), 3000, dtype(name).storage
    special = [
        0.0,
        -0.0,
        1,
        -1,
        2,
        -2,
        3,
        -3,
        0.5,
        -0.5,
        1.5,
        INF,
        -INF,
        NAN,
        1e-40,
        -1e-40,
        5e-324,
        1e30,
        -1e300,
        7,
    ]
    grid = np.array(list(itertools.product([*special, 2.0**24 + 2, 2.0**53 + 2], repeat=2))).astype(storage)
    bits = rng.integers(0, 1 << (8 * storage.itemsize), (2 * count, 2), dtype=f"u{storage.itemsize}").view(
        storage
    )
    ranges = [
        np.stack([rng.uniform(0, 10, count), rng.uniform(-30, 30, count)], 1),
        np.stack([1 + rng.normal(0, 1e-4, count), rng.uniform(-1e6, 1e6, count)], 1),
        np.stack([10.0 ** rng.uniform(-30, 30, count), rng.uniform(-12, 12, count)], 1),
        rng.integers(-30, 30, (count, 2)),
        rng.uniform(-100, 100, (count, 2)),
    ]
    both = np.concatenate([grid, bits, *(part.astype(storage) for part in ranges)])
    return both[:, 0].copy(), both[:, 1].copy()


@functools.cache
def reference(op: str, name: str) -> np.ndarray:
    """The true values, in long double, on `samples` or `pairs`."""
    operands = (samples(name),) if op in UNARY else pairs(name)
    with np.errstate(all="ignore"):
        return (UNARY | BINARY)[op][0](*(operand.astype(LONG) for operand in operands)).astype(LONG)


def ulps(got: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """|got - reference| in units in the last place of the reference; inf where one is NaN and the other not."""
    rounded = reference.astype(got.dtype)
    unit = np.spacing(np.abs(rounded)).astype(LONG)
    error = np.abs(got.astype(LONG) - reference) / unit
    same = (got == rounded) | (np.isnan(got) & np.isnan(rounded))
    error = np.where(same & ~np.isfinite(error), 0, error)
    return np.where(np.isnan(error), INF, error)


def assert_within(got: np.ndarray, reference: np.ndarray, bound: float, *operands: np.ndarray) -> None:
    error = ulps(got, reference)
    worst = int(np.argmax(error))
    at = tuple(operand[worst] for operand in operands)
    assert error[worst] <= bound + 1e-6, (
        f"{error[worst]} ulp at {at}: {got[worst]!r}, should be {reference[worst]!r}"
    )
    zeros = (got == 0) & (reference == 0)
    assert (np.signbit(got) == np.signbit(reference))[zeros].all(), "a zero with the wrong sign"


def bound_of(entry: tuple, name: str) -> float:
    if name == "f64" and not HAS_LONG_DOUBLE:
        pytest.skip("long double is no wider than double here, so there is no reference")
    return entry[1 if name == "f32" else 2]


@everywhere
@pytest.mark.parametrize("op", UNARY)
def test_unary_stays_within_its_ulp_bound(target, name, lanes, op):
    x = samples(name)
    got = float_library(target, name, lanes)(op, x)
    assert_within(got, reference(op, name), bound_of(UNARY[op], name), x)


@everywhere
@pytest.mark.parametrize("op", BINARY)
def test_binary_stays_within_its_ulp_bound(target, name, lanes, op):
    x, y = pairs(name)
    got = float_library(target, name, lanes)(op, x, y)
    assert_within(got, reference(op, name), bound_of(BINARY[op], name), x, y)


@everywhere
@pytest.mark.parametrize("op", [*EXACT_UNARY, *PREDICATES])
def test_exact_unary_equals_numpy(target, name, lanes, op):
    x = np.concatenate([samples(name), np.array([0.0, -0.0, 0.5, -0.5, 1.5, 2.5, -2.5, INF, -INF, NAN])])
    x = x.astype(dtype(name).storage)
    got, expected = float_library(target, name, lanes)(op, x), (EXACT_UNARY | PREDICATES)[op](x)
    assert np.array_equal(got, expected, equal_nan=op in EXACT_UNARY)
    if op in EXACT_UNARY:
        number = ~np.isnan(expected)
        assert (np.signbit(got) == np.signbit(expected))[number].all()


@everywhere
@pytest.mark.parametrize("op", [*EXACT_BINARY, *COMPARISONS])
def test_exact_binary_equals_numpy(target, name, lanes, op):
    x, y = pairs(name)
    got, expected = float_library(target, name, lanes)(op, x, y), (EXACT_BINARY | COMPARISONS)[op](x, y)
    wrong = ~((got == expected) | ((got != got) & (expected != expected)))
    assert not wrong.any(), (
        f"{x[wrong][0]!r}, {y[wrong][0]!r}: {got[wrong][0]!r}, should be {expected[wrong][0]!r}"
    )
    if op in EXACT_BINARY:
        number = ~np.isnan(expected)
        assert (np.signbit(got) == np.signbit(expected))[number].all()


@everywhere
def test_fma_and_select(target, name, lanes):
    x, y = pairs(name)
    library = float_library(target, name, lanes)
    small = np.abs(x) < 1e3
    a, b = x[small], np.clip(y[small], -1e3, 1e3)
    a, b = a[b == b], b[b == b]
    got = library("fma", a, b, a)
    exact = a.astype(LONG) * b + a
    tolerance = 2 * np.finfo(got.dtype).eps * (np.abs(a.astype(LONG) * b) + np.abs(a)) + 1e-44
    assert (np.abs(got - exact) <= tolerance).all()
    mask = x > 1
    assert np.array_equal(library("select", mask, x, y), np.where(mask, x, y), equal_nan=True)


# (argument, value) by hand, from the C standard's annex F and the definitions. Signs of zeros count.
SPECIAL: dict[str, tuple[tuple[float, float], ...]] = {
    "exp": ((0.0, 1), (-0.0, 1), (INF, INF), (-INF, 0.0), (NAN, NAN), (1e6, INF), (-1e6, 0.0)),
    "exp2": (
        (0.0, 1),
        (INF, INF),
        (-INF, 0.0),
        (NAN, NAN),
        (10.0, 1024),
        (-3.0, 0.125),
        (1e9, INF),
        (-1e9, 0.0),
    ),
    "expm1": ((0.0, 0.0), (-0.0, -0.0), (INF, INF), (-INF, -1), (NAN, NAN), (1e30, INF), (-1e30, -1)),
    "sigmoid": ((0.0, 0.5), (INF, 1), (-INF, 0.0), (NAN, NAN), (1e30, 1), (-1e30, 0.0)),
    "tanh": ((0.0, 0.0), (-0.0, -0.0), (INF, 1), (-INF, -1), (NAN, NAN), (1e30, 1), (-1e30, -1)),
    "sinh": ((0.0, 0.0), (-0.0, -0.0), (INF, INF), (-INF, -INF), (NAN, NAN), (-1e5, -INF)),
    "cosh": ((0.0, 1), (-0.0, 1), (INF, INF), (-INF, INF), (NAN, NAN), (-1e5, INF)),
    "log": ((0.0, -INF), (-0.0, -INF), (1.0, 0.0), (-1.0, NAN), (INF, INF), (-INF, NAN), (NAN, NAN)),
    "log2": (
        (0.0, -INF),
        (-0.0, -INF),
        (1.0, 0.0),
        (8.0, 3),
        (0.25, -2),
        (-1.0, NAN),
        (INF, INF),
        (-INF, NAN),
        (NAN, NAN),
    ),
    "log10": (
        (0.0, -INF),
        (1.0, 0.0),
        (10.0, 1),
        (1000.0, 3),
        (1e10, 10),
        (-2.0, NAN),
        (INF, INF),
        (-INF, NAN),
        (NAN, NAN),
    ),
    "log1p": ((0.0, 0.0), (-0.0, -0.0), (-1.0, -INF), (-2.0, NAN), (INF, INF), (-INF, NAN), (NAN, NAN)),
    "asinh": ((0.0, 0.0), (-0.0, -0.0), (INF, INF), (-INF, -INF), (NAN, NAN)),
    "acosh": ((1.0, 0.0), (0.5, NAN), (-3.0, NAN), (-1e30, NAN), (INF, INF), (-INF, NAN), (NAN, NAN)),
    "atanh": ((0.0, 0.0), (-0.0, -0.0), (1.0, INF), (-1.0, -INF), (1.5, NAN), (INF, NAN), (NAN, NAN)),
    "sin": ((0.0, 0.0), (-0.0, -0.0), (INF, NAN), (-INF, NAN), (NAN, NAN)),
    "cos": ((0.0, 1), (-0.0, 1), (INF, NAN), (-INF, NAN), (NAN, NAN)),
    "tan": ((0.0, 0.0), (-0.0, -0.0), (INF, NAN), (NAN, NAN)),
    "asin": ((0.0, 0.0), (-0.0, -0.0), (1.5, NAN), (-INF, NAN), (NAN, NAN)),
    "acos": ((1.0, 0.0), (1.5, NAN), (INF, NAN), (NAN, NAN)),
    "atan": ((0.0, 0.0), (-0.0, -0.0), (NAN, NAN)),
    "erf": ((0.0, 0.0), (-0.0, -0.0), (INF, 1), (-INF, -1), (NAN, NAN), (30.0, 1)),
    "erfc": ((0.0, 1), (-0.0, 1), (INF, 0.0), (-INF, 2), (NAN, NAN), (30.0, 0.0), (-30.0, 2)),
    "sqrt": ((0.0, 0.0), (-0.0, -0.0), (INF, INF), (-1.0, NAN), (NAN, NAN)),
    "rsqrt": ((0.0, INF), (-0.0, -INF), (INF, 0.0), (-1.0, NAN), (NAN, NAN), (0.25, 2)),
}


@everywhere
@pytest.mark.parametrize("op", SPECIAL)
def test_special_values(target, name, lanes, op):
    x, expected = (np.array(part, dtype(name).storage) for part in zip(*SPECIAL[op], strict=True))
    got = float_library(target, name, lanes)(op, x)
    assert np.array_equal(got, expected, equal_nan=True), list(zip(x, got, expected, strict=True))
    zero = expected == 0
    assert (np.signbit(got) == np.signbit(expected))[zero].all()


@pytest.mark.skipif(not HAS_LONG_DOUBLE, reason="needs a long double for reference")
@everywhere
def test_sine_of_arguments_nearest_to_multiples_of_half_pi(target, name, lanes):
    """The f64 and f32 numbers closest to a multiple of pi/2, where reduction cancels most bits; and the largest."""
    hard = [6381956970095103 * 2.0**797, 5319372648326541 * 2.0**-50 * 2**200] if name == "f64" else []
    x = np.array(
        [*hard, 16367173 * 2.0**72, 1e22, 2.0**27, -(2.0**100), np.finfo(name.replace("f", "float")).max]
    )
    x = x.astype(dtype(name).storage)
    library = float_library(target, name, lanes)
    for op, reference in (("sin", np.sin), ("cos", np.cos)):
        assert_within(library(op, x), reference(x.astype(LONG)), 2, x)


def test_constant_exponents_match_the_general_pow():
    x = samples("f64")
    exponents = (0.0, 1.0, 2.0, 3.0, -1.0, 0.5, 4.0)
    for exponent in exponents:
        kernel = constant_power(exponent)
        assert_within(kernel(x), np.power(x.astype(LONG), LONG(exponent)), 2, x)


def constant_power(exponent: float) -> Callable[[np.ndarray], np.ndarray]:
    def body(b: em.Emitter) -> None:
        def step(i):
            power = vmath.emit(b, "const", "f64", 4, [], exponent)
            value = vmath.emit(b, "pow", "f64", 4, [b.load_vector(b.buffer(0), i, "f64", 4), power])
            b.store_vector(value, b.buffer(1), i, "f64")

        b.loop(0, b.kernel.end, 4, step)
        b.succeed()

    native = build(body, HOST)

    def run(x: np.ndarray) -> np.ndarray:
        out = np.zeros_like(x)
        assert len(x) % 4 == 0
        native(x, out, end=len(x))
        return out

    return run


@pytest.mark.parametrize(("name", "product"), [("f32", "fmul"), ("i32", "mul")])
@pytest.mark.parametrize("lanes", [1, 8])
def test_a_constant_square_is_one_product(name, product, lanes):
    module = em.new_module("m", HOST)
    b = em.new_kernel(module, "kernel", HOST)
    exponent = vmath.emit(b, "const", name, lanes, [], 2)
    x = b.load_vector(b.buffer(0), 0, name, lanes)
    b.store_vector(vmath.emit(b, "pow", name, lanes, [x, exponent]), b.buffer(1), 0, name)
    b.succeed()
    text = str(module)
    assert text.count(f" {product} ") == 1 and "call" not in text and "select" not in text


@pytest.mark.parametrize("lanes", [1, 8])
def test_maximum_with_a_constant_needs_no_nan_check(lanes):
    module = em.new_module("m", HOST)
    b = em.new_kernel(module, "kernel", HOST)
    x, zero = b.load_vector(b.buffer(0), 0, "f32", lanes), vmath.emit(b, "const", "f32", lanes, [], 0.0)
    b.store_vector(vmath.emit(b, "max", "f32", lanes, [x, zero]), b.buffer(1), 0, "f32")
    b.store_vector(vmath.emit(b, "min", "f32", lanes, [zero, x]), b.buffer(2), 0, "f32")
    b.succeed()
    assert str(module).count(" fcmp ") == (2 if HOST.is_x86 else 0)
    outs = [np.zeros(lanes, "f4") for _ in range(2)]
    LoadedObject(toolchain.emit_object(module, HOST), ["kernel"]).kernel("kernel")(np.full(lanes, NAN, "f4"), *outs)
    assert np.isnan(outs).all()


INTEGERS = ["i8", "i16", "i32", "i64", "u8", "u32", "u64"]
INTEGER_BINARY = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "min": np.minimum, "max": np.maximum,
    "floordiv": np.floor_divide, "mod": np.remainder, "fmod": np.fmod,
    "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor,
}  # fmt: skip
INTEGER_UNARY = {"neg": np.negative, "abs": np.abs, "sign": np.sign, "not": np.invert}


@functools.cache
def integer_library(target: int, name: str, lanes: int) -> OpLibrary:
    kind, boolean = dtype(name), dtype("bool")
    ops = {op: Op.same(op, 2, kind) for op in [*INTEGER_BINARY, "truncdiv", "pow", "shl", "shr"]}
    ops |= {op: Op.same(op, 1, kind) for op in INTEGER_UNARY} | {"fma": Op.same("fma", 3, kind)}
    ops |= {op: Op(op, (kind, kind), boolean, kind) for op in COMPARISONS}
    return OpLibrary(ops, RUNNABLE[target], lanes)


def integer_pairs(name: str) -> tuple[np.ndarray, np.ndarray]:
    storage, rng = dtype(name).storage, np.random.default_rng(5)
    info = np.iinfo(storage)
    edges = [info.min, info.min + 1, info.max, info.max - 1, 0, 1, 2, 3, 7, 10, info.max // 2]
    edges = sorted({*edges, *((-1, -2, -7) if info.min else ())})
    grid = np.array(list(itertools.product(edges, repeat=2)), storage)
    wide = rng.integers(info.min, info.max, (3000, 2), storage, endpoint=True)
    small = rng.integers(max(int(info.min), -20), 20, (500, 2)).astype(storage)
    both = np.concatenate([grid, wide, small, np.stack([wide[:500, 0], small[:, 1]], 1)])
    return both[:, 0].copy(), both[:, 1].copy()


every_integer = pytest.mark.parametrize(
    ("target", "name", "lanes"),
    [(number, name, 8) for number in range(len(RUNNABLE)) for name in INTEGERS]
    + [(0, name, 1) for name in INTEGERS],
)


@every_integer
def test_integer_arithmetic_equals_numpy(target, name, lanes):
    a, b = integer_pairs(name)
    b = np.where(b == 0, 1, b).astype(b.dtype)
    library = integer_library(target, name, lanes)
    for op, reference in (INTEGER_BINARY | COMPARISONS).items():
        expected = reference(a, b)
        if op == "floordiv" and np.iinfo(a.dtype).min:
            expected = np.where((a == np.iinfo(a.dtype).min) & (b == -1), a, expected)  # wraps
        got = library(op, a, b)
        assert (got == expected).all(), (op, a[got != expected][0], b[got != expected][0])
    for op, reference in INTEGER_UNARY.items():
        assert (library(op, a) == reference(a)).all(), op
    assert (library("fma", a, b, a) == a * b + a).all()


@every_integer
def test_truncating_division_rounds_toward_zero(target, name, lanes):
    a, b = integer_pairs(name)
    b = np.where(b == 0, 1, b).astype(b.dtype)
    exact = [
        abs(int(x)) // abs(int(y)) * (1 if (x < 0) == (y < 0) else -1) for x, y in zip(a, b, strict=True)
    ]
    modulus = 1 << (8 * a.itemsize)
    expected = np.array([value % modulus for value in exact], f"u{a.itemsize}").view(a.dtype)
    assert (integer_library(target, name, lanes)("truncdiv", a, b) == expected).all()


@every_integer
def test_division_by_zero_gives_a_value_and_does_not_trap(target, name, lanes):
    a, _ = integer_pairs(name)
    zero = np.zeros_like(a)
    library = integer_library(target, name, lanes)
    for op in ("floordiv", "truncdiv"):
        assert (library(op, a, zero) == a).all()  # as by 1; the kernel around it reports the zero
    for op in ("mod", "fmod"):
        assert (library(op, a, zero) == 0).all()


@every_integer
def test_integer_power_wraps_and_truncates(target, name, lanes):
    a, b = integer_pairs(name)
    modulus = 1 << (8 * a.itemsize)

    def power(x: int, y: int) -> int:
        if y >= 0:
            return pow(x, y, modulus)
        return {1: 1, -1: -1 if y % 2 else 1}.get(x, 0) % modulus

    expected = np.array([power(int(x), int(y)) for x, y in zip(a, b, strict=True)], f"u{a.itemsize}").view(
        a.dtype
    )
    assert (integer_library(target, name, lanes)("pow", a, b) == expected).all()


@every_integer
def test_shifts_past_the_width_leave_zero_or_the_sign(target, name, lanes):
    a, _ = integer_pairs(name)
    bits, library = 8 * a.itemsize, integer_library(target, name, lanes)
    modulus = 1 << bits
    for amount in (0, 1, bits - 1, bits, bits + 5, *((-1, -bits) if np.iinfo(a.dtype).min else ())):
        by = np.full_like(a, amount)
        inside = 0 <= amount < bits
        left = [(int(x) << amount) % modulus if inside else 0 for x in a]
        right = [int(x) >> (amount if inside else bits) for x in a]
        assert (library("shl", a, by) == np.array(left, f"u{a.itemsize}").view(a.dtype)).all()
        assert (library("shr", a, by) == np.array(right, a.dtype)).all()


@pytest.mark.parametrize("target", range(len(RUNNABLE)))
def test_bool_ops_are_logic(target):
    kind = dtype("bool")
    reference = {
        "and": np.logical_and, "or": np.logical_or, "xor": np.logical_xor, "min": np.minimum, "max": np.maximum,
        **COMPARISONS,
    }  # fmt: skip
    library = OpLibrary(
        {op: Op.same(op, 2, kind) for op in reference} | {"not": Op.same("not", 1, kind)}, RUNNABLE[target], 4
    )
    a, b = np.array([0, 0, 1, 1], "?"), np.array([0, 1, 0, 1], "?")
    for op, expected in reference.items():
        assert (library(op, a, b) == expected(a, b)).all(), op
    assert (library("not", a) == ~a).all()


def cast_library(target: int, lanes: int) -> OpLibrary:
    ops = {
        f"{source}_{result}": Op("cast", (DTYPES[source],), DTYPES[result], DTYPES[source], DTYPES[result])
        for source in DTYPES
        for result in DTYPES
    }
    return OpLibrary(ops, RUNNABLE[target], lanes)


def cast_reference(values: np.ndarray, source: str, result: str) -> np.ndarray:
    """What the contract says, from NumPy on exact values."""
    if source == "bf16":
        values = bf16_to_f32(values)
    if result == "bool":
        return values != 0
    if DTYPES[result].kind in ("int", "uint") and DTYPES[source].kind == "float":
        info = np.iinfo(DTYPES[result].storage)
        clean = [
            0 if v != v else info.max if v == INF else info.min if v == -INF else int(v)
            for v in values.tolist()
        ]
        return np.array([min(max(v, info.min), info.max) for v in clean], DTYPES[result].storage)
    if result == "bf16":
        return f32_to_bf16(values.astype("f4"))
    return values.astype(DTYPES[result].storage)


def cast_values(source: str) -> np.ndarray:
    rng, kind = np.random.default_rng(6), DTYPES[source]
    size = kind.itemsize
    bits = rng.integers(0, 1 << (8 * size), 400, dtype=f"u{size}")
    if kind.kind == "bool":
        return np.array([0, 1] * 8, "?")
    if kind.kind in ("int", "uint"):
        return np.concatenate([bits.view(kind.storage), np.arange(40).astype(kind.storage)])
    edges = [
        0.0,
        -0.0,
        0.5,
        -0.9,
        1.5,
        127.4,
        128.0,
        -128.9,
        -129.0,
        255.0,
        256.0,
        2.0**31,
        -(2.0**31),
        2.0**32,
    ]
    edges += [
        2.0**62,
        2.0**63,
        -(2.0**63),
        2.0**64,
        INF,
        -INF,
        NAN,
        1e300,
        65519.99999999,
        65520.0,
        1.00048828125000001,
    ]
    numbers = np.concatenate(
        [edges, rng.uniform(-300, 300, 200), rng.uniform(-1e10, 1e10, 60), 1 + rng.normal(0, 1e-3, 200)]
    )
    if source == "bf16":
        return np.concatenate([bits, f32_to_bf16(numbers.astype("f4"))])
    return np.concatenate([bits.view(kind.storage), numbers.astype(kind.storage)])


@pytest.mark.parametrize("lanes", [8, 1])
@pytest.mark.parametrize("target", range(len(RUNNABLE)))
def test_every_cast(target, lanes):
    library = cast_library(target, lanes)
    for source, result in itertools.product(DTYPES, DTYPES):
        values = cast_values(source)
        got, expected = library(f"{source}_{result}", values), cast_reference(values, source, result)
        if result == "bf16":
            got, expected = bf16_to_f32(got), bf16_to_f32(expected)
        wrong = ~((got == expected) | ((got != got) & (expected != expected)))
        assert not wrong.any(), (source, result, values[wrong][0], got[wrong][0], expected[wrong][0])


@pytest.mark.parametrize("target", range(len(RUNNABLE)))
def test_half_and_bf16_results_are_rounded_to_their_dtype(target):
    x = np.linspace(-3, 3, 4096).astype("f4")
    half, brain, single = dtype("f16"), dtype("bf16"), dtype("f32")
    ops = {
        "half": Op("exp", (half,), single, half), "brain": Op("exp", (brain,), single, brain),
        "single": Op("exp", (single,), single, single),
    }  # fmt: skip
    library = OpLibrary(ops, RUNNABLE[target], 8)
    halves, brains = x.astype("f2"), f32_to_bf16(x)
    assert (library("half", halves) == library("single", halves.astype("f4")).astype("f2")).all()
    wide = library("single", bf16_to_f32(brains))
    assert (library("brain", brains) == bf16_to_f32(f32_to_bf16(wide))).all()


@pytest.mark.parametrize(
    ("name", "number"), [("f32", 0.1), ("f64", 0.1), ("f16", 0.1), ("bf16", 0.1), ("i8", -3), ("bool", True)]
)
def test_constants_hold_what_their_dtype_holds(name, number):
    def body(b: em.Emitter) -> None:
        b.store_vector(vmath.emit(b, "const", name, 2, [], number), b.buffer(0), 0, name)
        if name in ("f16", "bf16"):
            b.store_vector(vmath.emit(b, "const", name, 2, [], number), b.buffer(1), 0, "f32")
        b.succeed()

    out, wide = np.zeros(2, dtype(name).storage), np.zeros(2, "f4")
    build(body, HOST)(out, wide)
    expected = f32_to_bf16(np.array([number], "f4")) if name == "bf16" else np.array([number], out.dtype)
    assert (out == expected).all()
    if name in ("f16", "bf16"):
        assert (wide == (bf16_to_f32(expected) if name == "bf16" else expected.astype("f4"))).all()


@pytest.mark.parametrize("lanes", [8, 1])
@pytest.mark.parametrize("target", range(len(RUNNABLE)))
def test_philox_has_the_bits_of_its_numpy_twin(target, lanes):
    wide, word = dtype("u64"), dtype("u32")
    ops = {f"word{k}": Op("philox", (wide,) * 3, word, wide, k) for k in range(4)}
    library = OpLibrary(ops, RUNNABLE[target], lanes)
    lo, hi, key = np.random.default_rng(7).integers(0, 1 << 64, (3, 1000), dtype="u8")
    lo[0], hi[0], key[0] = 0, 0, 0
    for k, expected in enumerate(philox_4x32(lo, hi, key)):
        assert (library(f"word{k}", lo, hi, key) == expected).all()


def test_safe_divisor_tells_the_zero_lanes():
    def body(b: em.Emitter) -> None:
        safe, zero = vmath.safe_divisor(b, b.load_vector(b.buffer(0), 0, "i32", 4))
        b.store_vector(safe, b.buffer(1), 0, "i32")
        b.store_vector(zero, b.buffer(2), 0, "bool")
        b.succeed()

    safe, zero = np.zeros(4, "i4"), np.zeros(4, "?")
    build(body, HOST)(np.array([3, 0, -1, 0], "i4"), safe, zero)
    assert safe.tolist() == [3, 1, -1, 1] and zero.tolist() == [False, True, False, True]


@pytest.mark.parametrize("name", FORMS)
def test_forms_are_there_for_the_dtypes_that_an_op_takes(name):
    forms, kinds = FORMS[name], SCALAR_OPS[name].kinds
    found = {"float": forms.floats, "int": forms.integers, "uint": forms.integers, "bool": forms.bools}
    assert {kind for kind, form in found.items() if form is not None} == kinds


def test_the_whole_scalar_vocabulary_is_covered_here():
    own_rule = {name for name, row in SCALAR_OPS.items() if not row.kinds}
    assert set(FORMS) == set(SCALAR_OPS) - own_rule
    emitted = {
        *float_ops("f32"),
        *INTEGER_BINARY,
        *INTEGER_UNARY,
        "truncdiv",
        "shl",
        "shr",
        "const",
        "cast",
        "philox",
    }
    assert emitted == set(SCALAR_OPS) - {
        "index",
        "affine",
        "load",
        "acc",
        "check",
    }  # places and control, not arithmetic


@pytest.mark.parametrize(
    "target", [generic_x86_64(), avx2(), generic_aarch64(), HOST], ids=lambda target: target.cpu
)
def test_no_op_calls_a_library(target):
    """Objects must stand alone: libm and compiler-rt names would not resolve in an exported one."""
    wide, some = dtype("u64"), ("f64", "f32", "f16", "bf16", "i64", "i32", "u64", "u8", "bool")
    modules = [op_module(float_ops(name), target, lanes) for name, lanes in (("f32", 8), ("f64", 1))]
    others = {op: Op.same(op, 2, dtype("i32")) for op in [*INTEGER_BINARY, "truncdiv", "pow", "shl"]}
    others["philox"] = Op("philox", (wide,) * 3, dtype("u32"), wide, 0)
    for a, b in itertools.product(some, some):
        others[f"{a}_{b}"] = Op("cast", (DTYPES[a],), DTYPES[b], DTYPES[a], DTYPES[b])
    modules.append(op_module(others, target, 4))
    for module in modules:
        called = re.findall(
            r"^\s+(?:callq?|jmp|bl|b)\s+_?([A-Za-z_]\S*)", toolchain.emit_assembly(module, target), re.M
        )
        assert {name.split("@")[0] for name in called} <= {"flambeau.reduce_huge_angle"}
