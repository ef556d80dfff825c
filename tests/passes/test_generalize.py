"""What of a kernel becomes a runtime number, and that nothing is lost by it."""
from __future__ import annotations

from dataclasses import replace

from flambeau.ir.kernel.hash import kernel_key
from flambeau.ir.kernel.numbers import bound
from flambeau.ir.kernel.text import parse_kernel, print_kernel
from flambeau.ir.target import generic_x86_64
from flambeau.passes.cpu.generalize import general_loops


def kernel(*, offset=128, factor="7.5", op="mul", last="%i0", dtype="f32"):
    return parse_kernel(f"""
loop @k {{
  in x: {dtype}[4096]
  out y: {dtype}[64]
  parallel %i0 = 64
  stage () {{
    %0 = load x[%i0 + {offset}] : {dtype}
    %1 = const {factor} : {dtype}
    %2 = {op} %0, %1 : {dtype}
    store %2 to y[{last}]
  }}
  schedule vector_dim=0, unroll=1, block=64, grain=1, parallel=false
}}""")


TARGET = replace(generic_x86_64(), vector_bytes=64)


def generalized(made):
    return general_loops(made, TARGET)


def key(made):
    return kernel_key(generalized(made)[0])


def dependent(text):
    return key(parse_kernel(text))


def numbers_of(made):
    general, numbers = generalized(made)
    return dict(zip(general.sizes, numbers, strict=True))


def test_kernels_that_differ_by_where_they_read_and_by_a_constant_are_one():
    text = print_kernel(generalized(kernel())[0])
    assert '%1 = const "r4" : f32' in text and "in x: f32[r2] from r0" in text
    assert list(numbers_of(kernel()).values()) == [64, 128, 4096, 64, 0x40F00000]
    assert key(kernel()) == key(kernel(offset=3, factor="-0.125"))


def test_bound_again_it_is_the_kernel_that_it_was():
    made = kernel()
    general, numbers = generalized(made)
    back = bound(general, dict(zip(general.sizes, numbers, strict=True)))
    assert back == replace(made, schedule=replace(made.schedule, parallel=True))


def test_a_start_at_zero_and_plain_constants_stay():
    assert key(kernel(offset=0, factor="-1.0")) != key(kernel(offset=0, factor="7.5"))
    for factor in ("0.0", "-1.0", "inf"):
        assert list(numbers_of(kernel(offset=0, factor=factor)).values()) == [64, 4096, 64]


def test_distances_within_a_buffer_stay():
    text = print_kernel(kernel()).replace("%1 = const 7.5 : f32", "%1 = load x[%i0 + AT] : f32")
    assert dependent(text.replace("AT", "129")) != dependent(text.replace("AT", "130"))
    assert dependent(text.replace("AT", "129")) == dependent(text.replace("+ 128", "+ 200").replace("AT", "201"))


def test_an_integer_that_code_is_made_for_stays():
    assert key(kernel(dtype="i64", op="add", factor="7")) == key(kernel(dtype="i64", op="add", factor="9"))
    for op in ("mul", "div", "mod", "shl", "pow"):
        assert key(kernel(dtype="i64", op=op, factor="7")) != key(kernel(dtype="i64", op=op, factor="9"))


def test_equal_numbers_are_one():
    text = print_kernel(kernel()).replace("store %2 to", "%3 = const AT : f32\n    %4 = add %2, %3 : f32\n    store %4 to")
    same, other = (numbers_of(parse_kernel(text.replace("AT", value))) for value in ("7.5", "3.5"))
    assert len(other) == len(same) + 1


SUMS = """
loop @sums {{
  in x: f32[{elements}]
  out y: f32[{points}]
  parallel %i0 = {rows}, %i1 = {columns}
  inner %i2 = {inner}
  stage (%i2) {{
    %0 = load x[%i0*{outer} + %i1 + %i2*{columns}] : f32
    %1 = reduce sum %0 : f32
  }}
  stage () {{
    store %1 to y[%i0*{columns} + %i1]
  }}
  schedule vector_dim=1, unroll={unroll}, block={block}, grain={grain}, parallel=true
}}"""


def sums(*, rows=3, columns=96, inner=20, unroll=2, block=None, grain=1):
    return parse_kernel(SUMS.format(rows=rows, columns=columns, inner=inner, outer=inner * columns, unroll=unroll,
                                    grain=grain, elements=rows * inner * columns, points=rows * columns,
                                    block=block or columns))


def test_parallel_extents_strides_and_blocks_are_numbers():
    assert key(sums()) == key(sums(rows=7, columns=160, grain=5)) == key(sums(columns=224))
    assert key(sums(block=32)) == key(sums(columns=512, block=128)) != key(sums())
    text = print_kernel(generalized(sums())[0])
    assert "parallel %i0 = r0, %i1 = r1" in text and "x[%i0*r4 + %i1 + %i2*r5]" in text
    assert "residues r1 = 0 mod 32" in text and 'block="r1"' in text


def test_what_sums_are_flushed_by_and_whether_vectors_are_whole_stays():
    assert key(sums()) != key(sums(inner=21))
    assert key(sums(columns=90)) != key(sums(columns=96))
    assert key(sums(columns=64, unroll=4)) != key(sums(columns=96, unroll=4))


def test_what_divides_an_extent_is_told_as_far_as_a_step_of_the_code_goes():
    def roots(points, count):
        chain = "".join(f"    %{n + 1} = sqrt %{n} : f32\n" for n in range(count))
        return parse_kernel(f"""
loop @roots {{
  in x: f32[{points}]
  out y: f32[{points}]
  parallel %i0 = {points}
  stage () {{
    %0 = load x[%i0] : f32
{chain}    store %{count} to y[%i0]
  }}
  schedule vector_dim=0, unroll=4, block={points}, grain=1, parallel=true
}}""")

    assert key(roots(64, 8)) == key(roots(96, 8)), "a body that keeps the machine busy has one vector a step"
    assert key(roots(64, 1)) != key(roots(96, 1))


def test_what_vectors_leave_over_is_a_number_where_masks_are_registers():
    masks = replace(TARGET, features=TARGET.features + ",+avx512f")
    for target, many in ((masks, 1), (TARGET, 2)):
        assert len({kernel_key(general_loops(sums(columns=columns), target)[0]) for columns in (90, 91)}) == many


PARTS = """
loop @parts {{
  in x: f32[{elements}]
  in y: f32[{elements}]
  out z: f32[{elements}]
  parallel %i0 = {rows}
  inner %i1 = 64
  stage (%i1) {{
    %0 = index {dim} : i64
    %1 = const {first} : i64
    %2 = lt %0, %1 : bool
    %3 = load x[%i0*64 + %i1] if %2 : f32
    %4 = load y[%i0 + %i1*{rows}] : f32
    %5 = select %2, %3, %4 : f32
    store %5 to z[%i0*64 + %i1]
  }}
  schedule vector_dim=1, unroll=1, block=1, grain=1, parallel=true
}}"""


def test_where_parts_begin_and_strides_along_vectors_are_numbers():
    def parts(rows, first, dim="%i0"):
        return parse_kernel(PARTS.format(rows=rows, first=first, dim=dim, elements=64 * rows))

    assert key(parts(24, 7)) == key(parts(40, 30))
    assert key(parts(24, 7, "%i1")) != key(parts(24, 30, "%i1"))


def test_the_text_of_a_general_kernel_reads_back():
    for made in (kernel(), sums(), sums(block=32)):
        general, _ = generalized(made)
        assert parse_kernel(print_kernel(general)) == general
