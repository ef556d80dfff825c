"""What of a kernel becomes a runtime number, and that nothing is lost by it."""
from __future__ import annotations

from flambeau.ir.kernel.hash import kernel_key
from flambeau.ir.kernel.numbers import bound
from flambeau.ir.kernel.text import parse_kernel, print_kernel
from flambeau.passes.cpu.generalize import generalized


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


def key(made):
    return kernel_key(generalized(made)[0])


def test_kernels_that_differ_by_where_they_read_and_by_a_constant_are_one():
    general, numbers = generalized(kernel())
    assert numbers == (128, 0x40F00000)
    assert '%1 = const "r1" : f32' in print_kernel(general) and "f32[4096] from r0" in print_kernel(general)
    assert key(kernel()) == key(kernel(offset=3, factor="-0.125"))


def test_bound_again_it_is_the_kernel_that_it_was():
    made = kernel()
    general, numbers = generalized(made)
    assert bound(general, dict(zip(general.sizes, numbers, strict=True))) == made


def test_a_start_at_zero_and_plain_constants_stay():
    for made in (kernel(offset=0, factor="0.0"), kernel(offset=0, factor="-1.0"), kernel(offset=0, factor="inf")):
        assert generalized(made) == (made, ())


def test_distances_within_a_buffer_stay():
    text = print_kernel(kernel()).replace("%1 = const 7.5 : f32", "%1 = load x[%i0 + AT] : f32")
    near, far = (parse_kernel(text.replace("AT", at)) for at in ("129", "130"))
    assert key(near) != key(far)
    assert generalized(near)[1] == (128,)
    moved = parse_kernel(text.replace("+ 128", "+ 200").replace("AT", "201"))
    assert key(near) == key(moved)


def test_an_integer_that_code_is_made_for_stays():
    assert key(kernel(dtype="i64", op="add", factor="7")) == key(kernel(dtype="i64", op="add", factor="9"))
    for op in ("mul", "div", "mod", "shl", "pow"):
        assert key(kernel(dtype="i64", op=op, factor="7")) != key(kernel(dtype="i64", op=op, factor="9"))


def test_equal_numbers_are_one():
    text = print_kernel(kernel()).replace("store %2 to", "%3 = const AT : f32\n    %4 = add %2, %3 : f32\n    store %4 to")
    same, other = (generalized(parse_kernel(text.replace("AT", value))) for value in ("7.5", "3.5"))
    assert len(same[1]) == 2 and len(other[1]) == 3
