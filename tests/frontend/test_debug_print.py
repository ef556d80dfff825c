"""debug_print prints the same eagerly and at every call of a compiled function, in order."""
from __future__ import annotations

import pytest

import flambeau as fb
from flambeau.ir.kernel.parser import parse_kernel
from flambeau.ir.kernel.text import print_kernel

TENSORS = {"f32": fb.tensor([[1.5, -2.0]]), "bf16": fb.tensor([1.5]).bfloat16(), "bool": fb.tensor([True, False]),
           "i64": fb.tensor(7), "empty": fb.zeros(0, 2), "transposed": fb.arange(6.0).reshape(2, 3).T}


def printed(capsys, function, *args):
    capsys.readouterr()
    function(*args)
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("name", TENSORS)
def test_tensors(capsys, name):
    def f(x, n):
        fb.debug_print("{} and {1} are {n:>4}, {{not}} {s!r}", x, x.sum(), n=n, s="{x}")
        return x

    compiled = fb.compile(f)
    eager = [printed(capsys, f, TENSORS[name], n) for n in (1, 2)]
    assert eager[0] != eager[1] and [printed(capsys, compiled, TENSORS[name], n) for n in (1, 2)] == eager
    assert len(compiled.signatures) == 1


def test_prints_stay_in_order_in_branches_and_loops(capsys):
    seen = fb.zeros(1)

    def f(x):
        fb.debug_print("start {:.2f}", x.sum())
        seen.add_(1)

        def body(i, v):
            fb.debug_print("round {} of {}", i, seen)
            return i + 1, fb.cond(v.sum() > 4, lambda: (fb.debug_print("large"), v / 4)[1], lambda: v + 1)

        out = fb.while_loop(lambda i, v: i < 3, body, (0, x))[1]
        fb.debug_print("end")
        return out

    eager = printed(capsys, f, fb.ones(2))
    seen.zero_()
    compiled = fb.compile(f)
    assert printed(capsys, compiled, fb.ones(2)) == eager and eager[0] == "start 2.00" and eager[-1] == "end"
    kernels = compiled.signatures[0].compiled.kernels
    texts = [print_kernel(kernel) for kernel in kernels if kernel.keyword == "print"]
    assert len(texts) == 4 and [print_kernel(parse_kernel(text)) for text in texts] == texts


def test_a_text_that_does_not_fit_raises_where_it_stands():
    for function, error in ((lambda x: fb.debug_print("{0} {1}", x), IndexError),
                            (lambda x: fb.debug_print("{name}", x), KeyError),
                            (lambda x: fb.debug_print("{:.2f}", x), TypeError)):
        for decorator in (lambda f: f, fb.compile):
            with pytest.raises(error):
                decorator(function)(fb.ones(2))
