import math
import struct
from dataclasses import fields, is_dataclass, replace

import kernel_random
import kernel_samples as samples
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flambeau.errors import ParseError
from flambeau.ir.dtypes import DType, f32
from flambeau.ir.kernel import (
    Address,
    ContractionKernel,
    ContractionSchedule,
    Instr,
    LoopKernel,
    LoopSchedule,
    Param,
    Reduction,
    Stage,
    Store,
)
from flambeau.ir.kernel.hash import kernel_key
from flambeau.ir.kernel.text import parse_kernel, parse_kernels, print_kernel, print_kernels

SOFTMAX = """\
loop @softmax {
  in x: f32[35]
  out y: f32[35]
  parallel %i0 = 5
  inner %i1 = 7
  stage (%i1) {
    %0 = load x[%i0*7 + %i1] : f32
    %1 = reduce max %0 : f32
  }
  stage (%i1) {
    %2 = load x[%i0*7 + %i1] : f32
    %3 = sub %2, %1 : f32
    %4 = exp %3 : f32
    %5 = reduce sum %4 : f32
    store %4 to y[%i0*7 + %i1]
  }
  stage (%i1) {
    %6 = load y[%i0*7 + %i1] : f32
    %7 = div %6, %5 : f32
    store %7 to y[%i0*7 + %i1]
  }
  schedule vector_dim=1, unroll=4, block=1, grain=8, parallel=true
  loc "train.py:12: p = logits.softmax(-1)"
}
"""

MATMUL = """\
contraction @matmul {
  in lhs: bf16[30]
  in rhs: bf16[20]
  in bias: f32[4]
  out out: f32[24]
  dims %i0 = 2, %i1 = 3, %i2 = 4, %i3 = 5
  batch %i0
  m %i1
  n %i2
  k %i3
  sum lhs[%i0*15 + %i1*5 + %i3] * rhs[%i2 + %i3*4] : f32
  epilogue () {
    %0 = acc : f32
    %1 = load bias[%i2] : f32
    %2 = add %0, %1 : f32
    store %2 to out[%i0*12 + %i1*4 + %i2]
  }
}
"""


def bits(item):
    """`item` with each leaf beside its type and bits, so that == tells 1 from True and NaN from NaN."""
    if isinstance(item, float):
        return "float", struct.pack("<d", item)
    if isinstance(item, tuple):
        return tuple(bits(part) for part in item)
    if is_dataclass(item) and not isinstance(item, DType):
        return type(item), tuple(bits(getattr(item, f.name)) for f in fields(item))
    return type(item), item


def assert_round_trip(kernel):
    text = print_kernel(kernel)
    parsed = parse_kernel(text)
    assert bits(parsed) == bits(kernel)
    assert print_kernel(parsed) == text


def constant(value):
    return LoopKernel("c", (), (), 0, (Stage((), (Instr(0, "const", f32, (), value),)),))


def test_softmax_reads_as_written():
    assert print_kernel(samples.softmax()) == SOFTMAX
    assert parse_kernel(SOFTMAX) == samples.softmax()


def test_matmul_reads_as_written():
    kernel = samples.matmul(dtype=samples.dtypes.bf16, acc_dtype=f32)
    assert print_kernel(kernel) == MATMUL and parse_kernel(MATMUL) == kernel


@pytest.mark.parametrize("kernel", samples.all_samples(), ids=lambda kernel: kernel.name)
def test_samples_round_trip(kernel):
    assert_round_trip(kernel)
    assert parse_kernel(print_kernel(kernel)) == kernel


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32))
def test_random_kernels_round_trip(seed):
    assert_round_trip(kernel_random.kernel(seed))


@given(st.floats(allow_nan=True, width=64) | st.integers() | st.booleans())
def test_constants_round_trip(value):
    assert_round_trip(constant(value))


@given(st.text(max_size=8), st.text(max_size=8))
def test_names_round_trip(name, other):
    stage = Stage((), (Instr(0, "load", f32, (), Address(1)),))
    assert_round_trip(LoopKernel(name, (Param(name, f32, name or "n", "in"), Param(other, f32, 1, "in")), (other,), 1,
                                 (stage,), locations=(name,)))


@pytest.mark.parametrize(("value", "text"), [
    (0.1, "0.1"), (-0.0, "-0.0"), (1.0, "1.0"), (1, "1"), (True, "true"), (math.inf, "inf"), (-math.inf, "-inf"),
    (math.nan, "nan"), (kernel_random.nan_of(0xFFF8 << 48), "nan(0xfff8000000000000)"), (1e16, "1e+16"),
    (kernel_random.nan_of((0x7FF8 << 48) + 5), "nan(0x7ff8000000000005)"), (5e-324, "5e-324"),
])
def test_constants_read_as_python_writes_them(value, text):
    assert f"%0 = const {text} : f32\n" in print_kernel(constant(value))
    assert_round_trip(constant(value))


def test_usual_nan_keeps_kernels_equal():
    assert parse_kernel(print_kernel(constant(math.nan))) == constant(math.nan)


def test_addresses_read_as_sums():
    address = Address(0, -2, ((0, 128), (1, 1), (2, -4)), ((0, 4), (1, -1)), 2)
    stage = Stage((), (), (), (Store(address, 3, "add"),))
    kernel = LoopKernel("a", (Param("x", f32, 9, "out"),), (1, 1, 1), 3, (stage,))
    assert "accumulate %3 to x[%i0*128 + %i1 - %i2*4 + %0*4 - %1 - 2] if %2\n" in print_kernel(kernel)
    assert_round_trip(kernel)


def test_params_of_one_name_are_numbered():
    stage = Stage((), (Instr(0, "load", f32, (), Address(1)),))
    kernel = LoopKernel("twice", (Param("x", f32, 1, "in"), Param("x", f32, 1, "in")), (), 0, (stage,))
    assert "load #1[0]" in print_kernel(kernel)
    assert_round_trip(kernel)


def test_several_kernels_in_one_text():
    kernels = tuple(samples.all_samples())
    assert parse_kernels(print_kernels(kernels)) == kernels
    assert parse_kernels("// nothing\n") == ()


def test_text_keeps_the_key():
    for seed in range(20):
        kernel = kernel_random.kernel(seed)
        assert kernel_key(parse_kernel(print_kernel(kernel))) == kernel_key(kernel)


def test_space_and_comments_do_not_matter():
    text = SOFTMAX.replace("\n", " // a comment\n\n  ").replace(",", " ,")
    assert parse_kernel(text) == samples.softmax()
    assert parse_kernel(" ".join(SOFTMAX.split("\n"))) == samples.softmax()


def test_schedule_may_leave_out_defaults():
    text = SOFTMAX.replace("schedule vector_dim=1, unroll=4, block=1, grain=8, parallel=true", "schedule unroll=2")
    assert parse_kernel(text).schedule == LoopSchedule(unroll=2)
    text = MATMUL[:-2] + "  schedule n_vectors=3, m_tile=(4)\n}"
    assert parse_kernel(text).schedule == ContractionSchedule((4,), 3)


@pytest.mark.parametrize("kept", [(False, True), (True, False), (True, True)])
def test_kept_operands_survive(kept):
    kernel = replace(samples.matmul(), keeps_lhs=kept[0], keeps_rhs=kept[1])
    assert parse_kernel(print_kernel(kernel)) == kernel != samples.matmul()
    assert kernel_key(kernel) != kernel_key(samples.matmul())


def test_locations_survive():
    assert parse_kernel(SOFTMAX).locations == ("train.py:12: p = logits.softmax(-1)",)


def test_printing_knows_every_field():
    """A field that the text form does not show would be lost: whoever adds one extends the text."""
    known = {
        LoopKernel: "name params extents schedule residues locations n_parallel stages",
        ContractionKernel: "name params extents schedule residues locations batch m n k lhs rhs acc_dtype epilogue "
                           "keeps_lhs keeps_rhs",
        Param: "name dtype elements role first", Stage: "dims body reductions stores",
        Instr: "id op dtype operands attr", Reduction: "id combiner value dtype",
        Store: "address value combine", Address: "buffer offset strides dynamic guard",
    }
    assert {kind: " ".join(f.name for f in fields(kind)) for kind in known} == known


@pytest.mark.parametrize(("old", "new", "message"), [
    ("loop @", "lop @", "line 1, column 1: expected 'loop', 'contraction', 'sort', 'library', 'attention', 'print' or "
                        "'callback', found 'lop'"),
    ("f32[35]", "f33[35]", "line 2, column 9: expected a dtype (f16, bf16, f32, f64, i8, i16, i32, i64, u8, u32, u64, "
                           "bool), found 'f33'"),
    ("load x[", "load z[", "line 7, column 15: expected one of the params x, y, found 'z'"),
    ("load x[", "lod x[", "line 7, column 10: expected a scalar op, found 'lod'"),
    ("%i1 = 7", "%i2 = 7", "line 5, column 9: expected %i1, found '%i2'"),
    ("%i0*7 +", "%i0*7.5 +", "line 7, column 21: expected an integer, found '7.5'"),
    ("reduce max", "reduce mean", "line 8, column 17: expected a combiner (sum, prod, max, min, argmax, argmin, any, "
                                  "all), found 'mean'"),
    (" : f32\n    %4", "\n    %4", "line 13, column 5: expected ':', found '%4'"),
    ("store %4 to", "store %4 at", "line 15, column 14: expected 'to', found 'at'"),
    ("unroll=4", "unrol=4",
     "line 22, column 26: expected one of unroll, block, grain, parallel, row_dim, rows, found 'unrol'"),
    ("unroll=4", "vector_dim=4", "line 22, column 26: expected one of unroll, block, grain, parallel, row_dim, rows, "
                                 "found 'vector_dim'"),
    ("-1)\"", "-1)", "line 23, column 7: expected a source location in quotes, found '\"'"),
    ("-1)\"\n}", "-1)\"\n", "line 25, column 1: expected '}', found the end of the text"),
    ("-1)\"\n}", "-1)\"\n} x", "line 24, column 3: expected the end of the text, found 'x'"),
    ("%5 = reduce sum %4 : f32", "%5 = reduce sum %4 : f32 %9 = acc : f32",
     "line 14, column 30: expected another reduction, a store or '}', found '%9'"),
])
def test_mistakes_name_line_and_column(old, new, message):
    with pytest.raises(ParseError) as caught:
        parse_kernel(SOFTMAX.replace(old, new, 1))
    assert caught.value.message == message


@pytest.mark.parametrize("literal", [
    "nan(0x0)", "nan(5)", "nan(0x17ff8000000000000)", "0x", "1.5.2", "--1", "(", "\"\\x\""])
def test_bad_literals_are_parse_errors(literal):
    with pytest.raises(ParseError, match=r"line 4, column \d+: expected"):
        parse_kernel(f"loop @c {{\n\n stage () {{\n %0 = const {literal} : f32 }} }}")


def test_schedule_without_its_required_fields():
    with pytest.raises(ParseError, match="expected a schedule with m_tile, found 'schedule'"):
        parse_kernel(MATMUL[:-2] + "  schedule n_vectors=3\n}")


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(SOFTMAX) - 1), st.sampled_from(["", "%", "{", "}", "[", "9", "x", "\"", "-", "é"]))
def test_damaged_text_parses_or_is_a_parse_error(position, character):
    text = SOFTMAX[:position] + character + SOFTMAX[position + 1:]
    try:
        kernel = parse_kernel(text)
    except ParseError as error:
        assert "line " in error.message
    else:
        assert replace(kernel, locations=()) == replace(parse_kernel(print_kernel(kernel)), locations=())
