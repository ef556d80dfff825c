"""What later stages of a kernel compute again."""
from __future__ import annotations

from flambeau.ir.kernel.parser import parse_kernel
from flambeau.ir.kernel.repeats import rests
from tests.ir.kernel_samples import SOFTMAX_OF_ROWS


def test_a_softmax_loads_once_and_calls_exp_once() -> None:
    first, second, third = rests(parse_kernel(SOFTMAX_OF_ROWS))
    assert [i.op for i in first.body] == ["load"] and (first.given, first.kept) == ((), (0,))
    assert [i.op for i in second.body] == ["sub", "exp"] and (second.given, second.kept) == (((2, 0),), (4,))
    assert [i.op for i in third.body] == ["div"] and third.given == ((8, 4),)


def test_what_is_stored_in_between_is_loaded_again() -> None:
    text = SOFTMAX_OF_ROWS.replace("out y", "inout y").replace("load x", "load y").replace("in x", "in z")
    assert not any(rest.given for rest in rests(parse_kernel(text)))


def test_what_needs_no_memory_is_computed_again() -> None:
    text = SOFTMAX_OF_ROWS.replace("load x[%i0*128 + %i1] : f32", "const 2.0 : f32")
    assert not any(rest.given for rest in rests(parse_kernel(text)))


def test_stages_along_other_dims_are_given_nothing() -> None:
    head, _, tail = SOFTMAX_OF_ROWS.replace("inner %i1 = 128", "inner %i1 = 128, %i2 = 128").rpartition("stage")
    third = rests(parse_kernel(head + "stage" + tail.replace("%i1", "%i2")))[2]
    assert not third.given and [i.op for i in third.body] == ["load", "sub", "exp", "div"]


def test_zeros_of_either_sign_differ() -> None:
    text = SOFTMAX_OF_ROWS.replace("%3 = sub %2, %1 : f32", "%10 = const 0.0 : f32\n    %3 = sub %2, %10 : f32")
    text = text.replace("%7 = sub %6, %1 : f32", "%11 = const -0.0 : f32\n    %7 = sub %6, %11 : f32")
    assert rests(parse_kernel(text))[2].given == ((6, 0),)
