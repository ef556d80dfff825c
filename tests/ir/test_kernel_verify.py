import random
from dataclasses import replace

import kernel_samples as samples
import numpy as np
import pytest

from flambeau.errors import GraphError, ParseError
from flambeau.ir.dtypes import bf16, f32, f64, i8
from flambeau.ir.kernel import (
    SCALAR_OPS,
    Address,
    ContractionSchedule,
    Instr,
    LoopKernel,
    LoopSchedule,
    Param,
    Stage,
)
from flambeau.ir.kernel.bounds import span_outside
from flambeau.ir.kernel.text import parse_kernel, print_kernel
from flambeau.ir.kernel.types import instr_mistake
from flambeau.ir.kernel.verifier import verify_kernel

LOOP = """
loop @k {{
  in x: f32[12]
  in j: i64[4]
  in q: bool[4]
  out y: f32[12]
  scratch t: f32[12]
  inout c: i64[4]
  parallel %i0 = 4
  inner %i1 = 3
  stage (%i1) {{
    %0 = load x[%i0*3 + %i1] : f32
    %1 = load j[%i0] : i64
    {first}
    store %0 to y[%i0*3 + %i1]
  }}
  stage () {{
    {second}
  }}
  {schedule}
}}
"""


@pytest.mark.parametrize("kernel", samples.all_samples(), ids=lambda kernel: kernel.name)
def test_samples_are_valid(kernel):
    verify_kernel(kernel)


def mistake_in(kernel):
    with pytest.raises(GraphError) as caught:
        verify_kernel(kernel)
    return caught.value.message


def loop_of(first="", second="", schedule=""):
    return parse_kernel(LOOP.format(first=first, second=second, schedule=schedule))


def test_template_is_valid():
    verify_kernel(loop_of())


@pytest.mark.parametrize(("first", "message"), [
    # values
    ("%5 = neg %7 : f32", "%5 = neg: uses %7, which is not defined before it"),
    ("%5 = neg %5 : f32", "%5 = neg: uses %5, which is not defined before it"),
    ("%1 = neg %0 : f32", "%1 = neg: defined twice"),
    ("%5 = reduce sum %0 : f32\n store %5 to y[0]", "store %5: uses %5, which is not defined before it"),
    # operands and types
    ("%5 = add %0 : f32", "%5 = add: takes 2 operands, has 1"),
    ("%5 = add %0, %1 : f32", "%5 = add: operand %1 is i64, not f32"),
    ("%5 = add %0, %0 : f64", "%5 = add: gives f32, not f64"),
    ("%5 = lt %0, %0 : f32", "%5 = lt: gives bool, not f32"),
    ("%5 = div %1, %1 : i64", "%5 = div: is not defined on i64"),
    ("%5 = not %0 : f32", "%5 = not: is not defined on f32"),
    ("%5 = select %0, %0, %0 : f32", "%5 = select: operand %0 is f32, not bool"),
    ("%5 = acc : f32", "%5 = acc: outside a contraction"),
    ("%5 = index %i1 : i32", "%5 = index: gives i64, not i32"),
    ("%5 = index %i2 : i64", "%5 = index: dim %i2 is not walked here"),
    ("%5 = load 3 : f32", "%5 = load: has no address"),
    ("%5 = philox %1, %1, %1, 4 : u32", "%5 = philox: its word is 4, not one of 0 to 3"),
    ("%5 = philox %1, %1, %1, 3 : u32", "%5 = philox: operand %1 is i64, not u64"),
    ("%5 = check %1, %1, 1 : bool", "%5 = check: operand %1 is i64, not bool"),
    ("%5 = load q[%i0] : bool %6 = check %5, %5, 1 : bool", "%6 = check: operand %5 is bool, not i64"),
    ("%5 = load q[%i0] : bool %6 = check %5, %1, 0 : bool", "%6 = check: its status is 0, not a nonzero int"),
    ("%5 = load q[%i0] : bool %6 = check %5, %1, 1 : i32", "%6 = check: gives bool, not i32"),
    ("%5 = load q[%i0] : bool %6 = check %5, %1, 1 : bool %7 = not %6 : bool",
     "%7 = not: uses %6, a check, which has no value"),
    # constants
    ("%5 = const 1 : f32", "%5 = const: a constant of f32 is a Python float, not 1"),
    ("%5 = const true : i32", "%5 = const: a constant of i32 is a Python int, not True"),
    ("%5 = const 1 : bool", "%5 = const: a constant of bool is a Python bool, not 1"),
    ("%5 = const 128 : i8", "%5 = const: 128 does not fit i8"),
    ("%5 = const -1 : u64", "%5 = const: -1 does not fit u64"),
    ("%5 = const : f32", "%5 = const: a constant of f32 is a Python float, not None"),
    # reductions
    ("%5 = reduce sum %0 : bf16", "%5 = reduce sum: gives f32, not bf16"),
    ("%5 = reduce prod %0 : f64", "%5 = reduce prod: gives f32, not f64"),
    ("%5 = reduce argmax %0 : f32", "%5 = reduce argmax: gives i64, not f32"),
    ("%5 = reduce any %0 : f32", "%5 = reduce any: cannot reduce f32"),
    ("%5 = load q[%i0] : bool %6 = reduce sum %5 : bool", "%6 = reduce sum: cannot reduce bool"),
    ("%5 = reduce sum %0 : f32 %6 = reduce sum %5 : f32",
     "%6 = reduce sum: uses %5, which only its own stage can see"),
    # addresses
    ("%5 = load x[%i0*4] : f32", "%5 = load: reaches element 12 of param x, which has 12"),
    ("%5 = load x[%i0 - 1] : f32", "%5 = load: reaches element -1 of param x, which has 12"),
    ("%5 = load x[12] : f32", "%5 = load: reaches element 12 of param x, which has 12"),
    ("%5 = load x[-%i0 + 2] : f32", "%5 = load: reaches element -1 of param x, which has 12"),
    ("%5 = load x[%i1 + %i0] : f32", "%5 = load: the dims of its address are not in order: %i1, %i0"),
    ("%5 = load x[%i0*0] : f32", "%5 = load: its address has a stride of 0"),
    ("%5 = load x[%i2] : f32", "%5 = load: its address uses dim %i2, which is not walked here"),
    ("%5 = load x[0] : f64", "%5 = load: gives f64, but param x is f32"),
    ("%5 = load #6[0] : f64", "%5 = load: addresses param 6; there are 6"),
    ("%5 = load x[%0] : f32", "%5 = load: its index %0 is f32, not i64"),
    ("%5 = load x[%9] : f32", "%5 = load: uses %9, which is not defined before it"),
    ("%5 = load x[0] if %1 : f32", "%5 = load: its guard %1 is i64, not bool"),
    # roles
    ("%5 = load y[0] : f32", "%5 = load: reads param y, an out param that no earlier stage stored to"),
    ("%5 = load t[0] : f32", "%5 = load: reads param t, a scratch param that no earlier stage stored to"),
    ("store %0 to x[0]", "store %0: writes param x, which is an input"),
    ("store %1 to y[0]", "store %1: param y is f32, the value i64"),
    ("accumulate %0 to y[0]", "accumulate %0: reads param y, an out param that no earlier stage stored to"),
])
def test_mistakes_in_a_stage(first, message):
    assert mistake_in(loop_of(first)) == f"kernel k, stage 0, {message}"


@pytest.mark.parametrize("first", [
    "%5 = load x[%i0*100 + %1*12 - 7] : f32",                                       # gathered: checked as it runs
    "%5 = load q[%i0] : bool %6 = load x[%i0*100] if %5 : f32",                     # guarded
    "%5 = load c[%i0] : i64 accumulate %5 to c[%i0]",
    "%5 = reduce argmax %0 : i64",
])
def test_what_only_the_run_can_tell_is_accepted(first):
    verify_kernel(loop_of(first))


def test_values_of_a_stage_with_dims_end_with_it():
    assert mistake_in(loop_of("", "%5 = neg %0 : f32")) == (
        "kernel k, stage 1, %5 = neg: uses %0, which only its own stage can see")


def test_reduced_values_and_stores_are_seen_by_later_stages():
    verify_kernel(loop_of("%5 = reduce sum %0 : f32", "%6 = load y[0] : f32 %7 = add %5, %6 : f32"))


def test_inner_dims_are_not_walked_outside_their_stage():
    assert mistake_in(loop_of("", "%5 = index %i1 : i64")).endswith("dim %i1 is not walked here")


@pytest.mark.parametrize(("schedule", "message"), [
    ("vector_dim=2", "vector_dim %i2 is neither parallel nor walked by a stage"),
    ("unroll=0", "unroll=0 is not a positive int"),
    ("grain=-1", "grain=-1 is not a positive int"),
    ("vector_dim=1, block=64", "block=64 needs a parallel vector_dim"),
])
def test_mistakes_in_a_loop_schedule(schedule, message):
    assert mistake_in(loop_of(schedule=f"schedule {schedule}")) == f"kernel k, schedule: {message}"


def test_good_schedules():
    for schedule in (LoopSchedule(0, 4, 1024, 2), LoopSchedule(1, 4), LoopSchedule()):
        verify_kernel(replace(loop_of(), schedule=schedule))


def test_a_setting_of_a_schedule_has_its_type():
    with pytest.raises(ParseError, match="expected a value of type int for grain, found 'true'"):
        loop_of(schedule="schedule grain=true")


def test_mistakes_in_the_frame_of_a_loop():
    kernel = loop_of()
    x = kernel.params[0]
    assert mistake_in(replace(kernel, params=(x, x))) == "kernel k: 2 params are called 'x'"
    assert mistake_in(replace(kernel, params=(*kernel.params, Param("z", f32, 1, "out")))) == (
        "kernel k, param z: an out param that nothing stores to")
    assert mistake_in(replace(kernel, params=(replace(x, elements="n"),))) == (
        "kernel k, param x: its elements are 'n', neither a number nor the size of a dim")
    assert mistake_in(replace(kernel, params=(replace(x, elements=True),))).endswith("neither a number nor the size "
                                                                                    "of a dim")
    assert mistake_in(replace(kernel, extents=(4, -1))) == "kernel k: the extent of dim %i1 is -1"
    assert mistake_in(replace(kernel, n_parallel=3)) == "kernel k: 3 of its 2 dims are said to be parallel"
    assert mistake_in(replace(kernel, n_parallel=2)) == "kernel k, stage 0: walks dim %i1, which is not an inner dim"
    assert mistake_in(replace(kernel, stages=(Stage((1, 1), ()),))) == "kernel k, stage 0: walks a dim twice: %i1, %i1"


def test_argmax_over_no_points_is_a_mistake():
    assert mistake_in(samples.row_reduce("argmax", 2, (0,))) == (
        "kernel argmax, stage 0, %1 = reduce argmax: over no points it has no value")
    verify_kernel(samples.row_reduce("sum", 2, (0,)))


def test_an_error_names_the_users_line():
    kernel = replace(samples.softmax(), stages=(Stage((0,), ()),))
    with pytest.raises(GraphError, match="traced at train.py:12: p = logits.softmax"):
        verify_kernel(kernel)


MATMUL = print_kernel(samples.matmul())


@pytest.mark.parametrize(("old", "new", "message"), [
    ("batch %i0", "batch %i0, %i1", ": dim %i1 has 2 roles"),
    ("batch %i0", "batch %i4", ": there is no dim %i4"),
    ("  k %i3\n", "", ": dim %i3, of extent 5, has no role"),
    ("sum lhs[%i0*15 + %i1*5 + %i3]", "sum lhs[%i0*15 + %i1*5 + %i2]",
     ", lhs: its address uses dim %i2, which is not walked here"),
    ("%i1*5 + %i3]", "%i1*5 + %i3] if %0", ", lhs: an operand has neither gathered indices nor a guard"),
    ("%i2 + %i3*4]", "%i2 + %i3*5]", ", rhs: reaches element 23 of param rhs, which has 20"),
    ("in lhs: f32", "in lhs: f64", ", lhs: f64 products cannot be summed in f32"),
    ("in lhs: f32", "in lhs: i8", ", lhs: i8 products cannot be summed in f32"),
    ("in lhs: f32", "scratch lhs: f32", ", lhs: reads param lhs, a scratch param that no earlier stage stored to"),
    ("acc : f32", "acc : f64", ", epilogue, %0 = acc: the accumulator is f32"),
    ("bias[%i2]", "bias[%i3]", ", epilogue, %1 = load: its address uses dim %i3, which is not walked here"),
    ("epilogue ()", "epilogue (%i2)", ", epilogue: it walks no dims of its own and reduces nothing"),
    ("  }\n}", "  store %0 to rhs[%i2] }\n}", ", epilogue: stores to param rhs, which is the rhs"),
    ("  }\n}", "  }\n schedule m_tile=(), n_vectors=2 }",
     ", schedule: m_tile=() does not give a positive size for each of the 1 m dims"),
    ("  }\n}", "  }\n schedule m_tile=(0), n_vectors=2 }",
     ", schedule: m_tile=(0,) does not give a positive size for each of the 1 m dims"),
    ("  }\n}", "  }\n schedule m_tile=(3), n_vectors=0 }", ", schedule: n_vectors=0 is not a positive int"),
    ("  }\n}", "  }\n schedule m_tile=(3), n_vectors=2, k_block=-1 }",
     ", schedule: k_block=-1 is no number of points"),
])
def test_mistakes_in_a_contraction(old, new, message):
    text = MATMUL.replace(old, new, 1)
    text = text.replace("in rhs", "inout rhs") if "stores to param rhs" in message else text
    assert mistake_in(parse_kernel(text)) == f"kernel matmul{message}"


def test_dims_of_extent_one_need_no_role():
    verify_kernel(replace(samples.matmul(), extents=(2, 3, 4, 5, 1)))
    verify_kernel(replace(samples.matmul(), schedule=ContractionSchedule((3,), 1)))


def test_narrow_floats_may_be_summed_in_wide_ones():
    verify_kernel(samples.matmul(dtype=bf16, acc_dtype=f32))


def test_sums_of_f32_may_be_f64():
    verify_kernel(loop_of("%5 = reduce sum %0 : f64"))


# Bounds

def test_runtime_sizes_are_checked_for_every_number():
    verify_kernel(samples.scale_rows())
    stage, params = samples.scale_rows().stages[0], samples.scale_rows().params
    shifted = replace(stage, body=(replace(stage.body[0], attr=Address(0, 1, ((0, 1),))), *stage.body[1:]))
    assert mistake_in(LoopKernel("s", params, ("n",), 1, (shifted,))) == (
        "kernel s, stage 0, %0 = load: reaches element 1*n of param x, which has n")
    fixed = (replace(params[0], elements=10), params[1])
    assert mistake_in(LoopKernel("s", fixed, ("n",), 1, (stage,))).endswith(
        "reaches element 1*n + -1 of param x, which has 10")


def test_span_agrees_with_every_index():
    """Random small addresses against the elements they really reach."""
    rng = random.Random(3)
    for _ in range(500):
        extents = {d: rng.randint(0, 3) for d in range(3)}
        strides = tuple((d, rng.choice([-4, -1, 1, 2, 5])) for d in range(3) if rng.random() < 0.7)
        address, elements = Address(0, rng.randint(-3, 9), strides), rng.randint(0, 20)
        grid = np.indices([extents[d] for d in range(3)]).reshape(3, -1)
        reached = address.offset + sum((s * grid[d] for d, s in strides), np.zeros(grid.shape[1], int))
        inside = bool(((reached >= 0) & (reached < elements)).all())
        assert (span_outside(address, extents, elements) == "") == inside, (address, extents, elements)


def test_span_with_sizes_agrees_with_every_size():
    rng = random.Random(4)
    for _ in range(300):
        strides = tuple((d, rng.choice([-1, 1, 2])) for d in range(2) if rng.random() < 0.8)
        address = Address(0, rng.choice([-1, 0, 0, 1]), strides)
        extents, elements = {0: "n", 1: rng.choice(["n", 2])}, rng.choice(["n", 5])
        fits = [span_outside(address, {d: n if e == "n" else e for d, e in extents.items()},
                             n if elements == "n" else elements) == "" for n in range(1, 12)]
        assert (span_outside(address, extents, elements) == "") == all(fits), (address, extents, elements)


# The table of types

def test_every_scalar_op_has_a_rule():
    special = {"const", "index", "affine", "load", "acc", "cast", "select", "check", "philox"}
    assert {name for name, row in SCALAR_OPS.items() if not row.kinds} == special


def test_unknown_ops_and_combiners():
    assert instr_mistake(Instr(0, "gamma", f32), ()) == "no such scalar op"
    kernel = samples.row_reduce("sum", 2, (2,))
    bad = replace(kernel.stages[0].reductions[0], combiner="mean")
    stages = (replace(kernel.stages[0], reductions=(bad,)), *kernel.stages[1:])
    assert mistake_in(replace(kernel, stages=stages)).endswith("%1 = reduce mean: no such combiner")


def test_casts_go_between_any_types():
    for source in (f32, bf16, i8):
        for target in (f64, i8, bf16):
            assert instr_mistake(Instr(1, "cast", target, (0,)), [(0, source)]) == ""
