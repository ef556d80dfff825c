"""Numbers: as arguments, of every kind, looked at, carried away, formatted, compared, and used in every place an op or
Python takes one."""
from __future__ import annotations

import decimal
import fractions
import json
import math
import operator
import types

import numpy as np

import flambeau as fb
import flambeau.nn.functional as F
from tests.contract.harness import exact, leaf, register, same

INF, NAN = float("inf"), float("nan")


def ones():
    return fb.ones(2)


# -- kinds of numbers -------------------------------------------------------------------------------------------------


@exact
def floats_and_integers(compiled):
    f = compiled(lambda x, n: x * n)
    for n in (2, 2.0, 3, 3.5, 0, -1):
        yield f(ones(), n)
        yield f(fb.ones(2, dtype=fb.int64), n)


@same
def kinds_by_turns(compiled):
    f = compiled(lambda x, n: (x * n, x + n))
    for n in (1, 1.0, True, np.float32(1.5), np.float64(1.5), np.int64(2), np.int8(3), np.bool_(True), np.uint8(200)):
        yield f(ones(), n)


@same
def kinds_returned(compiled):
    f = compiled(lambda n: (n, [n], {"n": n}))
    for n in (1, 2, 1.0, 2.5, True, False, None, "a", 1j, -0.0, INF):
        yield f(n)


@same
def nan_returned(compiled):
    f = compiled(lambda x, n: (x * n, n))
    for n in (NAN, 1.0, NAN):
        yield f(ones(), n)


@same
def negative_zero(compiled):
    f = compiled(lambda x, n: (x * n, n, -n, abs(n)))
    for n in (0.0, -0.0, 1.0):
        yield f(ones(), n)


@same
def complex_numbers(compiled):
    f = compiled(lambda x, z: x * z.real + z.imag)
    for z in (1 + 2j, 1 + 3j, complex(0.0, -0.0), complex(-0.0, 0.0)):
        yield f(ones(), z)


@same
def sign_of_imaginary_zero(compiled):
    f = compiled(lambda x, z: x * math.copysign(1, z.imag))
    for z in (complex(0, 0.0), complex(0, -0.0)):
        yield f(ones(), z)


@same
def large_integers(compiled):
    f = compiled(lambda x, n: (x + n, n, n + 1, n * 2))
    for n in (1, 2 ** 31 - 1, 2 ** 31, 2 ** 53 + 1, -2 ** 63, 2 ** 62 + 1):
        yield f(fb.zeros(2, dtype=fb.int64), n)


@same
def integers_beyond_64_bits(compiled):
    f = compiled(lambda x, n: x * (n % 1000))
    for n in (10 ** 30, 10 ** 30 + 7):
        yield f(ones(), n)


@same
def tiny_and_huge_floats(compiled):
    f = compiled(lambda x, n: (x * n, n * 2, n / 2))
    for n in (5e-324, 1e-310, 1e308, 1.7976931348623157e308, 1e-45):
        yield f(fb.ones(2, dtype=fb.float64), n)


@same
def fraction_and_decimal(compiled):
    f = compiled(lambda x, n: x * float(n))
    for n in (fractions.Fraction(1, 2), fractions.Fraction(1, 4), decimal.Decimal("0.5"), decimal.Decimal("0.25")):
        yield f(ones(), n)


@same
def bool_and_int_are_told_apart(compiled):
    f = compiled(lambda x, n: x * 2 if n is True else x * 3)
    for n in (True, 1, False, 1.0):
        yield f(ones(), n)


@same
def type_of_a_number(compiled):
    f = compiled(lambda x, n: x * {int: 2, float: 3, bool: 4}.get(type(n), 5))
    for n in (1, 2, True, 1.0, 2.5):
        yield f(ones(), n)


@same
def isinstance_of_a_number(compiled):
    f = compiled(lambda x, n: x * 2 if isinstance(n, bool) else x * 3 if isinstance(n, int) else x * 4)
    for n in (1, True, 1.0, np.int64(2), np.float64(2.0)):
        yield f(ones(), n)


@same
def numpy_numbers_keep_promoting_as_eager(compiled):
    f = compiled(lambda x, n: x * n)
    for dtype in (fb.float32, fb.float16, fb.int32, fb.uint8):
        for n in (np.float64(2.5), np.float32(2.5), np.int64(2)):
            yield f(fb.ones(2, dtype=dtype), n)


# -- Python looks at a number -----------------------------------------------------------------------------------------

LOOKS = {
    "if": lambda x, n: x * 2 if n > 3 else x * 3,
    "truth": lambda x, n: x * 2 if n else x * 3,
    "not": lambda x, n: x * (not n),
    "and_or": lambda x, n: x * ((n > 2 and n < 5) + (n == 7 or n == 8)),
    "chained": lambda x, n: x * 2 if 2 < n <= 4 else x * 3,
    "equal": lambda x, n: x * 2 if n == 4 else x * 3,
    "in_tuple": lambda x, n: x * 2 if n in (3, 4) else x * 3,
    "in_dict": lambda x, n: x * {3: 2.0, 4: 3.0}.get(n, 1.0),
    "in_set": lambda x, n: x * 2 if n in {4, 5} else x * 3,
    "range": lambda x, n: sum([x * i for i in range(int(n))], x),
    "min": lambda x, n: x * min(n, 4),
    "max": lambda x, n: x * max(1, n, 4),
    "abs": lambda x, n: x * abs(n - 4),
    "sum": lambda x, n: x * sum([n, 1, n]),
    "round": lambda x, n: x * round(n / 3, 1),
    "round_to_integer": lambda x, n: x * round(n / 3),
    "int": lambda x, n: x * int(n * 1.5),
    "float": lambda x, n: x * float(n),
    "bool": lambda x, n: x * bool(n),
    "str": lambda x, n: x * len(str(n * 5)),
    "format": lambda x, n: x * len(f"{n * 5:5.1f}"),
    "format_default": lambda x, n: (x, f"{n}"),
    "format_repr": lambda x, n: (x, f"{n!r}"),
    "repr": lambda x, n: (x, repr(n)),
    "percent_r": lambda x, n: (x, "%r" % n),
    "percent_s": lambda x, n: (x, "%s" % n),
    "percent_d": lambda x, n: (x, "%d" % n),
    "percent_g": lambda x, n: (x, "%g" % n),
    "str_format": lambda x, n: (x, "{:.3f} {}".format(n, n)),
    "format_builtin": lambda x, n: (x, format(n, ".2f")),
    "str_of_list": lambda x, n: (x, str([n])),
    "repr_of_dict": lambda x, n: (x, repr({"n": n})),
    "repr_of_tuple": lambda x, n: (x, f"{(n, 1)}"),
    "join": lambda x, n: (x, ",".join(map(str, [n, 1]))),
    "json": lambda x, n: (x, json.dumps({"n": n})),
    "json_list": lambda x, n: (x, json.dumps([n, [n]])),
    "hash": lambda x, n: (x, hash(n)),
    "divmod": lambda x, n: x * divmod(n, 3)[0] + divmod(n, 3)[1],
    "floor_division": lambda x, n: x * (n // 3),
    "modulo": lambda x, n: x * (n % 3),
    "power": lambda x, n: x * n ** 2,
    "power_of_two": lambda x, n: x * 2 ** n,
    "negative_power": lambda x, n: x * n ** -1,
    "half_power": lambda x, n: x * n ** 0.5,
    "pow_builtin": lambda x, n: x * pow(n, 2),
    "sqrt": lambda x, n: x * math.sqrt(n),
    "floor": lambda x, n: x * math.floor(n / 2),
    "ceil": lambda x, n: x * math.ceil(n / 2),
    "trunc": lambda x, n: x * math.trunc(n / 2),
    "cos": lambda x, n: x * math.cos(n),
    "exp_log": lambda x, n: x * math.exp(n) + math.log(n),
    "isclose": lambda x, n: x * 2 if math.isclose(n, 4) else x * 3,
    "isnan": lambda x, n: x * 2 if math.isnan(n) else x * 3,
    "fsum": lambda x, n: x * math.fsum([n, 1.5]),
    "hypot": lambda x, n: x * math.hypot(n, 3),
    "copysign": lambda x, n: x * math.copysign(1, n - 4),
    "gcd": lambda x, n: x * math.gcd(int(n), 6),
    "numpy_ufunc": lambda x, n: x * float(np.sqrt(n)),
    "numpy_array": lambda x, n: x * float(np.array([n, 1.0]).sum()),
    "numpy_float64": lambda x, n: x * np.float64(n),
    "numpy_linspace": lambda x, n: x * float(np.linspace(0, n, 3)[1]),
    "fraction": lambda x, n: x * float(fractions.Fraction(n) / 3),
    "decimal": lambda x, n: x * float(decimal.Decimal(n) / 4),
    "complex": lambda x, n: x * complex(n, 1).real,
    "is_integer": lambda x, n: x * 2 if float(n).is_integer() else x * 3,
    "as_integer_ratio": lambda x, n: x * n.as_integer_ratio()[0],
    "conjugate": lambda x, n: x * n.conjugate() + n.real + n.imag,
    "operator_index": lambda x, n: x * operator.index(int(n)),
    "operator_mul": lambda x, n: x * operator.mul(n, 2) + operator.truediv(n, 4) + operator.neg(n),
    "list_times": lambda x, n: x * len([0] * int(n)),
    "string_times": lambda x, n: x * len("ab" * int(n)),
    "list_index": lambda x, n: x * [1.0, 2.0, 3.0, 4.0, 5.0, 6.0][int(n) % 6],
    "sorted": lambda x, n: x * sorted([n, 4, 2])[1],
    "match": lambda x, n: _matched(x, n),
    "conditional_default": lambda x, n: x * (n or 7),
    "while": lambda x, n: _halved(x, n),
    "assert": lambda x, n: _asserted(x, n),
    "comparison_returned": lambda x, n: (x, n > 3, n == 4, n != n),
    "lambda_closes_over_it": lambda x, n: (lambda y: y * n)(x),
    "generator_closes_over_it": lambda x, n: sum(x * n for _ in range(2)),
    "walrus": lambda x, n: x * (m := n + 1) + m,
    "unpacked": lambda x, n: x * (lambda *a: sum(a))(*[n, n]),
    "star_star": lambda x, n: (lambda x, **k: x * k["n"])(x, n=n),
    "enumerate_start": lambda x, n: x * next(enumerate([0], int(n)))[0],
    "bit_operations": lambda x, n: x * ((int(n) << 1) ^ 5 & 7 | 8),
    "bit_operations_on_it": lambda x, n: x * (n & 3) if isinstance(n, int) else x,
    "reciprocal": lambda x, n: x * (1 / n),
    "mean_of_numbers": lambda x, n: x * (n + 2 * n) / 2,
    "clamped_by_python": lambda x, n: x * max(min(n, 4.5), 2.5),
    "sum_of_squares": lambda x, n: x * (n * n + n * 2 - 3),
    "tensor_of_it": lambda x, n: x * fb.tensor(n),
    "tensor_of_a_list": lambda x, n: x * fb.tensor([n, 1.0]),
    "full": lambda x, n: x * fb.full((2,), n),
    "full_like": lambda x, n: fb.full_like(x, n),
    "arange": lambda x, n: fb.arange(n),
    "linspace": lambda x, n: fb.linspace(0, n, 3),
    "linspace_steps": lambda x, n: fb.linspace(0, 1, int(n)),
    "eye": lambda x, n: fb.eye(int(n)),
    "zeros": lambda x, n: fb.zeros(int(n)),
    "where": lambda x, n: fb.where(x > 0, n, 0.0),
    "where_reversed": lambda x, n: fb.where(x > 0, x, n),
    "clamp": lambda x, n: (x * 10).clamp(1.0, n),
    "clamp_both": lambda x, n: (x * 10).clamp(min=n - 1, max=n),
    "pow_tensor": lambda x, n: (x * 2) ** n,
    "rpow_tensor": lambda x, n: n ** (x * 2),
    "rsub_rdiv": lambda x, n: (n - x) + n / (x * 2),
    "floor_div_tensor": lambda x, n: (x * 7) // n,
    "mod_tensor": lambda x, n: (x * 7) % n,
    "rmod_tensor": lambda x, n: n % (x * 2),
    "compare_tensor": lambda x, n: (x * 4 > n) | (x * 3 == n),
    "masked_fill": lambda x, n: x.masked_fill(x > 0, n),
    "fill": lambda x, n: fb.zeros(2).fill_(n),
    "add_alpha": lambda x, n: x.add(x, alpha=n),
    "lerp": lambda x, n: x.lerp(x * 2, n),
    "addcmul": lambda x, n: x.addcmul(x, x, value=n),
    "set_item": lambda x, n: _set_item(x, n),
    "leaky_relu": lambda x, n: F.leaky_relu(-x, n),
    "elu": lambda x, n: F.elu(-x, n),
    "softplus": lambda x, n: F.softplus(x, n),
    "dropout_off": lambda x, n: F.dropout(x, n / 100, training=False),
    "layer_norm_eps": lambda x, n: F.layer_norm(fb.arange(2.0), (2,), eps=n),
    "norm_p": lambda x, n: (x * 3).norm(n),
    "normalize": lambda x, n: F.normalize(x * 3, p=n, dim=0),
    "huber": lambda x, n: F.smooth_l1_loss(x * 3, x, beta=n),
    "label_smoothing": lambda x, n: F.cross_entropy(fb.ones(1, 3), fb.tensor([1]), label_smoothing=n / 100),
    "repeat": lambda x, n: x.repeat(int(n)),
    "slice": lambda x, n: fb.arange(10.0)[:int(n)],
    "slice_by_itself": lambda x, n: fb.arange(10.0)[:n] if isinstance(n, int) else x,
    "index": lambda x, n: fb.arange(10.0)[int(n)],
    "index_by_itself": lambda x, n: fb.arange(10.0)[n] if isinstance(n, int) else x,
    "roll": lambda x, n: fb.arange(5.0).roll(int(n)),
    "dim": lambda x, n: fb.ones(2, 3).sum(int(n) % 2),
    "view_size": lambda x, n: fb.arange(12.0).view(int(n), -1) if int(n) in (3, 4) else x,
    "expand_size": lambda x, n: fb.ones(1).expand(int(n)),
    "topk": lambda x, n: fb.arange(9.0).topk(int(n))[0],
    "split": lambda x, n: fb.arange(9.0).split(int(n)),
    "cumulative": lambda x, n: [x * (n + i) for i in range(2)],
    "list_of_numbers": lambda x, n: [n, n + 1, -n, n * 2.5],
    "integer_tensor": lambda x, n: x.long() * n,
    "half_tensor": lambda x, n: x.half() * n,
    "scalar_tensor": lambda x, n: x[0] * n,
    "var_correction": lambda x, n: fb.arange(9.0).var(correction=int(n)),
    "var_correction_itself": lambda x, n: fb.arange(9.0).var(correction=n),
    "quotient_of_numbers": lambda x, n: x * (n / 7) * (7 // n),
    "arithmetic_with_infinity": lambda x, n: x * (n * INF) + n,
    "sqrt_method": lambda x, n: x * (n ** 0.5),
    "sign_by_comparison": lambda x, n: x * ((n > 4) - (n < 4)),
}


def _matched(x, n):
    match n:
        case 3:
            return x * 2
        case 4:
            return x * 3
    return x


def _halved(x, n):
    while n > 1:
        x, n = x * 2, n / 2
    return x


def _asserted(x, n):
    assert n < 100, n
    return x * n


def _set_item(x, n):
    y = x.clone()
    y[0] = n
    return y


def _looked(look, numbers):
    def case(compiled):
        f = compiled(look)
        for n in numbers:
            yield f(ones(), n)

    case.__module__ = __name__
    return case


for _name, _look in LOOKS.items():
    register("same", _looked(_look, (3, 4, 3, 7)), f"integer_{_name}")
    register("same", _looked(_look, (2.5, 4.0, 3.5, 2.5)), f"float_{_name}")


# -- a number carried away --------------------------------------------------------------------------------------------


@same
def number_kept_in_an_attribute(compiled):
    box = types.SimpleNamespace(n=0)

    def g(x, n):
        box.n = n
        return x * n

    f = compiled(g)
    for n in (2.0, 3.0):
        f(ones(), n)
        yield box.n


@same
def number_appended_to_a_list(compiled):
    log = []

    def g(x, n):
        log.append(n)
        return x * n

    f = compiled(g)
    for n in (2.0, 3.0):
        f(ones(), n)
        yield log


@same
def number_kept_in_a_buffer(compiled):
    total = fb.zeros(())

    def g(x, n):
        total.add_(n)
        return x * n

    f = compiled(g)
    for n in (2.0, 3.0, 4):
        f(ones(), n)
        yield total


@same
def number_written_into_numpy(compiled):
    log = np.zeros(2)

    def g(x, n):
        log[0] = n
        return x * n

    f = compiled(g)
    for n in (2.0, 3.0):
        f(ones(), n)
        yield log.tolist()


@same
def number_in_a_partial_result(compiled):
    import functools
    f = compiled(lambda x, n: functools.partial(lambda y, n: y * n, n=n))
    for n in (2.0, 3.0):
        yield f(ones(), n)(ones())


@same
def number_in_a_lambda_result(compiled):
    f = compiled(lambda x, n: lambda y: y * n)
    for n in (2.0, 3.0):
        yield f(ones(), n)(ones())


@same
def number_in_an_exception(compiled):
    def g(x, n):
        if n > 2:
            raise ValueError(f"{n} is too large")
        return x * n

    f = compiled(g)
    for n in (1.0, 3.0, 5.0):
        try:
            yield f(ones(), n)
        except ValueError as error:
            yield str(error)


@same
def number_in_a_key_of_a_result(compiled):
    f = compiled(lambda x, n: {n: x, f"loss_{n}": x * n})
    for n in (2, 3):
        yield f(ones(), n)


@same
def numbers_in_nested_arguments(compiled):
    f = compiled(lambda s, x: x * s["a"][0] + s["b"].k * s["c"][1]["d"])
    for k in (2.0, 3.0):
        yield f({"a": [k], "b": types.SimpleNamespace(k=k), "c": (0, {"d": k + 1})}, ones())


@same
def number_argument_decides_on_a_module_mode(compiled):
    f = compiled(lambda x, p: F.dropout(x, p) if p > 0 else x)
    for p in (0.0, 0.5, 0.0, 1.0):
        yield f(fb.ones(8), p)


@same
def keyword_and_positional_numbers(compiled):
    def g(x, n=1.0, *, m=2.0):
        return x * n + m

    f = compiled(g)
    yield f(ones())
    yield f(ones(), 3.0)
    yield f(ones(), n=4.0)
    yield f(ones(), m=5)
    yield f(x=ones(), m=6, n=7)


@same
def star_arguments(compiled):
    def g(x, *ns, **ms):
        for n in ns:
            x = x * n
        return x + sum(ms.values())

    f = compiled(g)
    yield f(ones(), 2.0)
    yield f(ones(), 2.0, 3.0)
    yield f(ones(), 2.0, 3.0, a=1.0)
    yield f(ones(), 2.0, 4.0, b=1.0, a=5.0)


@same
def number_equal_to_another_argument(compiled):
    f = compiled(lambda x, a, b: x * 2 if a == b else x * 3)
    for a, b in ((1.0, 2.0), (2.0, 2.0), (3.0, 3.0), (3.0, 1.0)):
        yield f(ones(), a, b)


@same
def number_is_none(compiled):
    f = compiled(lambda x, n=None: x if n is None else x * n)
    for n in (None, 2.0, None, 0.0, 3):
        yield f(ones(), n)


@same
def number_or_tensor_argument(compiled):
    f = compiled(lambda x, n: x * n)
    for n in (2.0, fb.tensor(3.0), 4, fb.tensor([1.0, 2.0]), fb.tensor(3)):
        yield f(ones(), n)


@same
def number_sign_and_division_by_zero(compiled):
    f = compiled(lambda x, n: x / n)
    for n in (1.0, 0.0, -0.0, 2):
        yield f(ones(), n)


@same
def python_division_by_zero(compiled):
    """Documented: symbolic arithmetic is IEEE's. A condition keeps it out of reach."""
    f = compiled(lambda x, n: x * (1 / n if n else 0.0))
    for n in (2.0, 0.0, 4.0):
        yield f(ones(), n)


@same
def gradient_with_a_number(compiled):
    w = leaf(1.0, 2.0)

    def g(x, n):
        w.grad = None
        (w * x * n).pow(2).sum().backward()
        return w.grad * n

    f = compiled(g)
    for n in (2.0, 3.0, 1):
        yield f(ones(), n), w


@same
def gradient_outside_with_a_number(compiled):
    w = leaf(1.0, 2.0)
    f = compiled(lambda x, n: (w * x) ** n)
    for n in (2.0, 3.0, 2, 1):
        w.grad = None
        f(ones(), n).sum().backward()
        yield w


@same
def beta_correction(compiled):
    f = compiled(lambda x, beta, step: x / (1 - beta ** step))
    for step in (1, 2, 3, 10):
        yield f(ones(), 0.9, step)


@same
def temperature_schedule(compiled):
    f = compiled(lambda x, t: (x / max(t, 0.5)).softmax(0))
    for t in (2.0, 1.0, 0.25, 0.1):
        yield f(fb.arange(3.0), t)


@same
def many_integer_steps(compiled):
    f = compiled(lambda x, n: x * n + n / 2 - n % 7)
    for n in range(70):
        yield f(ones(), n)


@same
def many_float_thresholds(compiled):
    f = compiled(lambda x, n: x * 2 if n > 0.5 else x * 3)
    for n in range(70):
        yield f(ones(), n / 70)
