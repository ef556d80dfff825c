"""Instructions written as text: what is folded, what they compute, and that they mix with llvmlite's own."""

from __future__ import annotations

import numpy as np
import pytest
from native_kernels import HOST, build

from flambeau.codegen.cpu import toolchain
from flambeau.codegen.cpu.llvm import emitter as em
from flambeau.codegen.cpu.llvm.numbers import Number, ceil_div, greatest, least


def text_of(body):
    module = em.new_module("text", HOST)
    b = em.new_kernel(module, "kernel", HOST)
    body(b)
    b.succeed()
    return str(module)


@pytest.mark.parametrize(
    ("operation", "x", "y", "result"),
    [("add", 7, 5, 12), ("sub", 5, 7, -2), ("mul", -3, 5, -15), ("udiv", 17, 5, 3), ("urem", 17, 5, 2)],
)
def test_arithmetic_on_known_indices_needs_no_instruction(operation, x, y, result):
    def body(b):
        assert getattr(b, operation)(b.index(x), b.index(y)).constant == result

    assert f" {operation} " not in text_of(body)


@pytest.mark.parametrize(("operation", "neutral"), [("add", 0), ("sub", 0), ("mul", 1), ("udiv", 1)])
def test_neutral_operands_leave_the_value(operation, neutral):
    def body(b):
        value = b.kernel.begin
        assert getattr(b, operation)(value, b.index(neutral)) is value

    text_of(body)


def test_every_kind_of_instruction_computes():
    """A row of i64 through comparisons, selects, casts, lanes and loops, against NumPy."""

    def body(b):
        source, target = b.buffer(0), b.buffer(1)
        x = b.load_vector(source, 0, "i64", 4)
        small = b.icmp_signed("<", x, em.constant(em.I64, 3, 4))
        y = b.select(small, b.mul(x, em.constant(em.I64, 10, 4)), b.sub(x, em.constant(em.I64, 1, 4)))
        y = b.from_lanes([b.lane(y, k) for k in (3, 2, 1, 0)])
        upper, lower = b.slice_lanes(y, 2, 2), b.slice_lanes(y, 0, 2)
        halves = b.from_lanes([b.lane(half, k) for half in (upper, lower) for k in (0, 1)])
        as_float = b.sitofp(halves, em.vector_type(em.F64, 4))
        doubled = b.fptosi(b.fneg(b.fadd(as_float, as_float)), em.vector_type(em.I64, 4))
        b.store_vector(doubled, target, 0, "i64")
        b.succeed()

    x, result = np.array([1, 2, 3, -4]), np.zeros(4, np.int64)
    assert build(body, HOST)(x, result) == 0
    y = np.where(x < 3, x * 10, x - 1)[::-1]
    np.testing.assert_array_equal(result, -2 * np.concatenate([y[2:], y[:2]]))


@pytest.mark.parametrize("count", [1, 2, 7])
def test_repeat_runs_that_often_with_opaque_pointers(count):
    def body(b):
        def trip(pointer, total):
            return [b.opaque(b.element(pointer, 1, "i64")), b.add(total, b.load_scalar(pointer, 0, "i64"))]

        _, total = b.repeat(count, trip, [b.buffer(0), b.index(0)])
        b.store_vector(total, b.buffer(1), 0, "i64")
        b.succeed()

    x, total = np.arange(1, 11) ** 2, np.zeros(1, np.int64)
    assert build(body, HOST)(x, total) == 0
    assert total[0] == x[:count].sum()


@pytest.mark.parametrize("operation", ["xor", "fadd", "icmp"])
def test_operands_of_two_types_are_our_mistake(operation):
    """LLVM would not notice: the text spells the type of the first operand alone."""

    def body(b):
        x, y = b.kernel.begin, em.constant(em.I32, 1)
        b.icmp_signed("<", x, y) if operation == "icmp" else getattr(b, operation)(x, y)

    with pytest.raises(AssertionError, match=f"operands of {operation} are of one type, not i64 and i32"):
        text_of(body)


def test_a_select_of_two_types_is_an_error_of_the_parser():
    def body(b):
        b.select(b.icmp_signed("<", b.kernel.begin, b.kernel.end), b.kernel.begin, em.constant(em.I32, 1))

    with pytest.raises(RuntimeError, match="select"):
        toolchain.emit_object(text_of(body), HOST)


def test_a_kernel_made_twice_has_the_same_text():
    def body(b):
        b.store_vector(b.load_scalar(b.buffer(0), b.kernel.begin, "f32"), b.buffer(1), 3, "f32")

    assert text_of(body) == text_of(body)


def test_modules_made_on_demand_come_back_in_order_and_the_first_failure_is_raised():
    good = [f"define i32 @f{n}(i32 %x) {{\n ret i32 {n}\n}}\n" + "; long\n" * n for n in range(8)]
    objects = toolchain.compile_modules(iter(good), HOST, 3)
    assert [f"f{n}".encode() in code for n, code in enumerate(objects)] == [True] * 8
    with pytest.raises(RuntimeError, match="first mistake"):
        toolchain.compile_modules(iter([good[0], "first mistake", "second mistake " * 50]), HOST, 2)


def test_a_maker_that_fails_stops_the_compilation():
    def texts():
        yield "define i32 @f(i32 %x) {\n ret i32 1\n}\n"
        raise KeyError("emission")

    with pytest.raises(KeyError, match="emission"):
        toolchain.compile_modules(texts(), HOST, 2)


def test_arithmetic_on_runtime_numbers_is_that_of_integers():
    x, y = Number.named("x"), Number.named("y")
    numbers = [x + y, x - y, 3 * x, x * y, x // y, ceil_div(x, 8), ceil_div(x, y), least(x, y), greatest(x, y), 5 - x]

    def body(b):
        b.numbers = em.RuntimeNumbers({"x": 0, "y": 1}, {})
        values = [b.index(number) for number in numbers]
        for place, value in enumerate([*values, *b.divided(b.index(x), y)]):
            b.store_vector(value, b.buffer(0), place, "i64")
        b.succeed()

    kernel, found, most = build(body, HOST), np.zeros(len(numbers) + 2, np.int64), (1 << 32) - 1
    for p in (0, 1, 6, 7, 8, 41, 1 << 20, most):
        for q in (1, 2, 3, 7, 64, 1000, most):
            assert kernel(found, sizes=(p, q)) == 0
            wanted = [p + q, p - q, 3 * p, p * q, p // q, -(-p // 8), -(-p // q), min(p, q), max(p, q), 5 - p]
            assert found.view(np.uint64).tolist() == [number % (1 << 64) for number in [*wanted, *divmod(p, q)]]


def test_what_is_not_known_cannot_be_asked():
    with pytest.raises(TypeError, match="not known"):
        assert Number.named("x")
    with pytest.raises(TypeError):
        assert Number.named("x") < 3
