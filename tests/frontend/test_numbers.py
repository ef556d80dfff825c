"""Python numbers beside tensors act as PyTorch's wrapped numbers: values, dtypes and errors, eager and compiled."""

from __future__ import annotations

import copy
import functools
import itertools
import json
import math
import operator
import pickle
import random
import struct
from typing import Any

import number_cases
import numpy as np
import pytest
from number_cases import CASES, DTYPES, UNDEFINED, ask, numbers, recorded, same, values, written

import flambeau as fb
import flambeau.nn.functional as F
from flambeau import optim


def _ours(dtype: str) -> fb.Tensor:
    return fb.tensor(values(dtype), dtype=getattr(fb, dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_op_beside_every_number_gives_what_pytorch_gives(dtype: str) -> None:
    x, wrong = _ours(dtype), []
    for name, kind, wanted in recorded():
        if kind == dtype:
            found = [ask(CASES[name], fb, x, n) for n in numbers(dtype)]
            wrong += [f"{name} {n!r}: {f}, PyTorch's {w}" for n, f, w in zip(numbers(dtype), found, wanted, strict=True)
                      if not same(name, f, w)]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("passed", ["as constants", "as arguments"])
def test_compiled_functions_agree_with_eager_ones_on_numbers(dtype: str, passed: str) -> None:
    """A draw of cases that do not raise, all in one function; as arguments they are runtime numbers."""
    rng = random.Random(f"{dtype} {passed}")
    x, chosen = _ours(dtype), []
    pairs = [(name, n) for name in CASES for n in numbers(dtype) if (name, dtype) not in UNDEFINED]
    for name, n in rng.sample(pairs, 120):
        wanted = ask(CASES[name], fb, x, n)
        if wanted != "!":
            chosen.append((name, n, wanted))

    if passed == "as constants":
        compiled = fb.compile(lambda x: [CASES[name](fb, x, n) for name, n, _ in chosen])
        found = compiled(x)
    else:
        compiled = fb.compile(lambda x, ns: [CASES[c[0]](fb, x, n) for c, n in zip(chosen, ns, strict=True)])
        found = compiled(x, [n for _, n, _ in chosen])
    wrong = [f"{name} {n!r}: {written(y)}, eager {wanted}" for (name, n, wanted), y in zip(chosen, found, strict=True)
             if not same("pow", written(y), wanted)]
    assert not wrong, "\n".join(wrong)


@pytest.mark.torch
@pytest.mark.parametrize("dtype", DTYPES)
def test_random_numbers_agree_with_pytorch(dtype: str) -> None:
    import torch

    rng, wrong = random.Random(dtype), []
    x, theirs = _ours(dtype), torch.tensor(values(dtype), dtype=getattr(torch, dtype))
    for name, case in CASES.items():
        if (name, dtype) in UNDEFINED:
            continue
        for n in _drawn_numbers(rng, 12):
            found, wanted = ask(case, fb, x, n), ask(case, torch, theirs, n)
            if not same(name, found, wanted, ulps=64):          # x - alpha * x cancels
                wrong.append(f"{name} {n!r}: {found}, PyTorch's {wanted}")
    assert not wrong, "\n".join(wrong)


def _drawn_numbers(rng: random.Random, count: int) -> list[float]:
    return [rng.choice([
        rng.randint(-300, 300), rng.randint(-70000, 70000), rng.uniform(-3, 3), rng.uniform(-70000, 70000),
        round(rng.uniform(-4, 4)) / 2, rng.randint(0, 70)]) for _ in range(count)]


@pytest.mark.torch
def test_the_recorded_results_are_pytorchs() -> None:
    import torch

    for name, dtype, wanted in random.Random(0).sample(list(recorded()), 60):
        x = torch.tensor(values(dtype), dtype=getattr(torch, dtype))
        assert [ask(CASES[name], torch, x, n) for n in numbers(dtype)] == wanted


def test_numbers_of_numpy_count_as_pythons() -> None:
    u, h = _ours("uint8"), _ours("float16")
    for number in (np.int64(300), np.int8(-1), np.float64(0.1), np.float32(2.5), np.bool_(True), np.uint64(2**63)):
        for name in ("add", "mul", "truediv", "rsub", "eq", "masked_fill", "full", "add_alpha"):
            for x in (u, h):
                assert ask(CASES[name], fb, x, number) == ask(CASES[name], fb, x, number.item()), (name, number)


def test_a_0d_tensor_beside_16_bit_floats_keeps_its_digits_where_a_number_does() -> None:
    h = fb.tensor([60000.0, 1000.0], dtype=fb.float16)
    for wide in (fb.float32, fb.float64):
        for function in (fb.mul, fb.div):
            for n in (65536.0, 1e-8, 0.1):
                assert function(h, fb.tensor(n, dtype=wide)).tolist() == function(h, n).tolist()
    assert fb.div(h, fb.tensor(100000)).dtype is fb.float16
    assert fb.div(h, fb.tensor(100000)).tolist() == fb.div(h, 100000).tolist()


def test_the_gradient_of_a_16_bit_product_is_scaled_by_the_number_itself() -> None:
    h = fb.tensor([60000.0, 1000.0], dtype=fb.float16, requires_grad=True)
    (h / 65536).sum().backward()
    assert h.grad is not None and h.grad.dtype is fb.float16
    assert h.grad.tolist() == [2.0**-16] * 2


def test_integers_beyond_64_bits_are_refused_by_name() -> None:
    for n in (2**64, 2**70, -(2**63) - 1):
        with pytest.raises(fb.errors.TypeInferenceError, match=f"add: the integer {n} does not fit into 64 bits"):
            fb.arange(3) + n
        with pytest.raises(fb.errors.FlambeauError, match="does not fit|outside the range"):
            fb.full((2,), n)
    assert (fb.tensor([1]) + 2**63).tolist() == [1 - 2**63]


def test_what_a_dtype_does_not_hold_is_refused_by_op_number_and_dtype() -> None:
    u = fb.tensor([1, 200], dtype=fb.uint8)
    for message, function in {
        "fill_: the number 300 is outside the range of u8": lambda: u.clone().fill_(300),
        "masked_fill: the number 256 is outside the range of u8": lambda: u.masked_fill(u > 1, 256),
        "clamp: the number 1000 is outside the range of u8": lambda: u.clamp(max=1000),
        "where: the number 300 is outside the range of u8": lambda: fb.where(u > 1, u, 300),
        "add alpha: the number 300 is outside the range of u8": lambda: u.add(u, alpha=300),
        "add: alpha must be an integer for results of u8, got 2.5": lambda: u.add(u, alpha=2.5),
        "full: the number nan is outside the range of i32": lambda: fb.full((2,), math.nan, dtype=fb.int32),
        "tensor: the number 10000000000.0 is outside the range of i32": lambda: fb.tensor([1e10], dtype=fb.int32),
    }.items():
        for run in (function, fb.compile(function)):
            with pytest.raises(fb.errors.TypeInferenceError, match=message):
                run()


def test_bools_add_up_as_or_when_they_are_indexed() -> None:
    x = fb.tensor([False, True, False])
    assert x.index_add(0, fb.tensor([0, 0]), fb.tensor([True, True])).tolist() == [True, True, False]
    assert x.scatter_add(0, fb.tensor([2, 2]), fb.tensor([True, False])).tolist() == [False, True, True]


def test_functions_of_floats_refuse_integers() -> None:
    i = fb.arange(3)
    for function in (F.leaky_relu, F.elu, F.celu, F.selu, F.softplus, F.hardshrink, F.softshrink):
        with pytest.raises(fb.errors.TypeInferenceError, match="takes floating-point tensors"):
            function(i)


LEAST = {fb.int8: -(2**7), fb.int16: -(2**15), fb.int32: -(2**31), fb.int64: -(2**63)}


@pytest.mark.parametrize("dtype", list(LEAST))
def test_the_least_integer_divided_by_minus_one_wraps(dtype: fb.dtype) -> None:
    least = LEAST[dtype]

    def divided(x: fb.Tensor, y: Any) -> list[fb.Tensor]:
        return [x // y, x % y, fb.fmod(x, y), fb.div(x, y, rounding_mode="trunc"), -x, abs(x), x * -1]

    for y in (-1, fb.tensor([-1], dtype=dtype)):
        for run in (divided, fb.compile(divided)):
            found = [r.tolist() for r in run(fb.tensor([least], dtype=dtype), y)]
            assert found == [[least], [0], [0], [least], [least], [least], [least]]


def test_int64_arithmetic_is_exact_beyond_2_to_the_53() -> None:
    big = 2**53 + 1

    def exact(x: fb.Tensor) -> list[fb.Tensor]:
        return [x + big, x * 3, x // 3, x % 10, x == big, x > big - 1, x.sum(), x.cumsum(0), x.prod(), x.max(),
                fb.where(x > 0, x, big), x & big, x ^ 1]

    x = fb.tensor([big, -big, 2**62 + 1])
    eager, compiled = exact(x), fb.compile(exact)(x)
    assert [t.tolist() for t in eager] == [t.tolist() for t in compiled]
    assert eager[0].tolist() == [2 * big, 0, 2**62 + 1 + big]
    assert eager[1].tolist() == [3 * big, -3 * big, 3 * (2**62 + 1) - 2**64]
    assert eager[2].tolist() == [big // 3, -big // 3, (2**62 + 1) // 3]
    assert eager[4].tolist() == [True, False, False]
    assert eager[6].item() == 2**62 + 1


def test_casts_of_floats_that_integers_do_not_hold_saturate_compiled_as_eager() -> None:
    x = fb.tensor([math.nan, math.inf, -math.inf, 1e20, 300.0, -300.0, -1.5])
    integers = (fb.int8, fb.uint8, fb.int16, fb.int32, fb.int64)
    found = [x.to(t).tolist() for t in integers]
    assert found[0] == [0, 127, -128, 127, 127, -128, -1]
    assert found[1] == [0, 255, 0, 255, 255, 0, 0]
    assert [t.tolist() for t in fb.compile(lambda x: [x.to(t) for t in integers])(x)] == found


def test_a_tensor_of_big_integers_is_exact_or_refused() -> None:
    assert fb.tensor([2**63 - 1, -(2**63)]).tolist() == [2**63 - 1, -(2**63)]
    for data in ([2**63, -1], 2**63, [2**70], [[2**64]]):
        with pytest.raises(fb.errors.FlambeauError, match="outside the range of i64"):
            fb.tensor(data)
    assert fb.tensor(2**70, dtype=fb.float64).item() == 2.0**70
    assert fb.tensor([1, 2.5, True]).tolist() == [1.0, 2.5, 1.0]


def test_number_cases_name_every_dtype() -> None:
    assert {dtype for _, dtype, _ in recorded()} == set(DTYPES) and number_cases.RESULTS.exists()


# -- runtime numbers --------------------------------------------------------------------------------------------------

NUMPY_KINDS: list[Any] = [float, np.float64, np.float32, np.float16, np.array]


@pytest.mark.parametrize("kind", NUMPY_KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize(("make", "key"), [
    (lambda p: fb.optim.SGD(p, lr=0.1), "lr"),
    (lambda p: fb.optim.SGD(p, lr=0.1, momentum=0.5), "momentum"),
    (lambda p: fb.optim.SGD(p, lr=0.1, weight_decay=0.1), "weight_decay"),
    (lambda p: fb.optim.Adam(p, lr=0.1), "eps"),
    (lambda p: fb.optim.Adam(p, lr=0.1), "betas"),
    (lambda p: fb.optim.AdamW(p, lr=0.1), "weight_decay"),
    (lambda p: fb.optim.RMSprop(p, lr=0.1), "alpha"),
    (lambda p: fb.optim.Adagrad(p, lr=0.1), "lr_decay"),
])
def test_hyperparameters_of_numpys_types_change_without_a_recompile(kind: Any, make: Any, key: str) -> None:
    def trained(decorate: Any) -> tuple[list[Any], Any]:
        fb.manual_seed(0)
        layer = fb.nn.Linear(3, 1).double()
        optimizer = make(layer.parameters())

        def step(x: fb.Tensor) -> fb.Tensor:
            optimizer.zero_grad()
            loss = layer(x).square().mean()
            loss.backward()
            optimizer.step()
            return loss

        step = decorate(step)
        losses = []
        for value in (0.1, 0.25, 0.05, 0.3):
            optimizer.param_groups[0][key] = (kind(value), kind(0.9)) if key == "betas" else kind(value)
            losses.append(step(fb.ones(2, 3, dtype=fb.float64)).item())
        return losses, step

    losses, step = trained(fb.compile)
    np.testing.assert_allclose(losses, trained(lambda f: f)[0], rtol=1e-9)
    assert len(step.signatures) == 1


def test_a_schedule_that_computes_with_numpy_does_not_recompile() -> None:
    layer = fb.nn.Linear(3, 1)
    optimizer = fb.optim.SGD(layer.parameters(), lr=0.1)
    schedule = fb.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: np.cos(epoch / 100))

    @fb.compile
    def step(x: fb.Tensor) -> None:
        optimizer.zero_grad()
        layer(x).square().mean().backward()
        optimizer.step()

    for _ in range(70):
        step(fb.ones(2, 3))
        schedule.step()
    assert len(step.signatures) == 1


@pytest.mark.parametrize("kind", NUMPY_KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("function", [
    lambda x, n: n - x, lambda x, n: n / (x + 1), lambda x, n: x.add(x, alpha=n), lambda x, n: x.clamp(n, 2 * n),
    lambda x, n: fb.full((2,), n), lambda x, n: x.masked_fill(x > 1, n), lambda x, n: fb.lerp(x, x + 1, n),
    lambda x, n: fb.addcmul(x, x, x, value=n), lambda x, n: fb.where(x > 1, x, n), lambda x, n: x**n,
    lambda x, n: F.layer_norm(x, (3,), eps=n), lambda x, n: F.group_norm(x[None], 1, eps=n),
    lambda x, n: F.rms_norm(x, (3,), eps=n),
    lambda x, n: F.batch_norm(x, fb.zeros(3), fb.ones(3), training=True, momentum=n, eps=n),
    lambda x, n: F.instance_norm(x[None], eps=n), lambda x, n: F.normalize(x, eps=n), lambda x, n: F.elu(-x, n),
    lambda x, n: F.softplus(x, n), lambda x, n: F.leaky_relu(-x, n), lambda x, n: F.hardtanh(x, -n, n),
    lambda x, n: F.threshold(x, n, 1.0), lambda x, n: F.huber_loss(x, x + 1, delta=n), lambda x, n: fb.xlogy(x, n),
    lambda x, n: F.scaled_dot_product_attention(x, x, x, scale=n), lambda x, n: F.hardshrink(x, n),
])
def test_number_arguments_of_numpys_types_change_without_a_recompile(kind: Any, function: Any) -> None:
    compiled, x = fb.compile(function), fb.arange(6.0).reshape(2, 3)
    for value in (0.5, 0.25, 1.5, 0.125):
        np.testing.assert_allclose(compiled(x, kind(value)).tolist(), function(x, value).tolist(), rtol=2e-6)
    assert len(compiled.signatures) == 1


def test_a_0d_array_is_read_at_every_call() -> None:
    n, x = np.array(2.0), fb.ones(1)
    scaled = fb.compile(lambda x, n: x * n)
    branched = fb.compile(lambda x, n: x if n > 3 else -x)
    assert (scaled(x, n).item(), branched(x, n).item()) == (2.0, -1.0)
    n[()] = 5.0
    assert (scaled(x, n).item(), branched(x, n).item()) == (5.0, 1.0)
    assert (len(scaled.signatures), len(branched.signatures)) == (1, 2)


@pytest.mark.parametrize("values", [(2, 2.5), (2.5, 2)])
def test_a_0d_array_of_another_dtype_is_another_number(values: tuple[float, float]) -> None:
    def scaled(x: Any, n: Any) -> Any:
        return x * n

    compiled, x = fb.compile(scaled), fb.arange(3)
    for value in map(np.array, values):
        found, right = compiled(x, value), scaled(x, value)
        assert (found.dtype, found.tolist()) == (right.dtype, right.tolist())


def test_a_hyperparameter_that_is_a_0d_array_of_another_dtype_is_another_number() -> None:
    optimizer, x = optim.SGD([fb.ones(1)], lr=np.array(1)), fb.arange(3)
    scaled = fb.compile(lambda x: x * optimizer.param_groups[0]["lr"])
    assert scaled(x).tolist() == [0, 1, 2]
    optimizer.param_groups[0]["lr"] = np.array(0.5)
    assert scaled(x).tolist() == [0.0, 0.5, 1.0]


def test_a_learning_rate_that_is_nan_is_no_change_of_it() -> None:
    weight = fb.ones(1, requires_grad=True)
    optimizer = optim.SGD([weight], lr=math.nan)

    @fb.compile
    def step() -> None:
        weight.sum().backward()
        optimizer.step()

    step()
    assert math.isnan(weight.item())


LEAKS: dict[str, Any] = {
    "repr": lambda n: float(repr(n).removeprefix("np.float64(").removesuffix(")")), "!r": lambda n: len(f"{n!r}"),
    "!s": lambda n: float(f"{n!s}"), "format": lambda n: float(f"{n:.3f}"), "%r": lambda n: len("%r" % n),  # noqa: UP031
    "%d": lambda n: float("%d" % n), "str of a list": lambda n: len(str([n])), "hash": lambda n: hash(n) % 1000,  # noqa: UP031
    "key": lambda n: {2.5: 1.0, 3.5: 2.0}.get(n, 3.0), "member": lambda n: float(n in {2.5}), "max": lambda n: max(n, 3.0),
    "sorted": lambda n: sorted([n, 3.0])[0], "round": round, "floor": math.floor, "ceil": math.ceil, "trunc": math.trunc,
    "divmod": lambda n: divmod(n, 2)[1], "rdivmod": lambda n: divmod(7, n)[1], "chain": lambda n: 1.0 if 1 < n < 3 else 2.0,
    "sqrt": math.sqrt, "fsum": lambda n: math.fsum([n, 1]), "index": lambda n: range(20)[int(n)],
    "pow": lambda n: pow(int(n), 2, 5), "is_integer": lambda n: float(n.is_integer()), "hex": lambda n: len(n.hex()),
    "ratio": lambda n: n.as_integer_ratio()[0], "real": lambda n: n.real, "complex": lambda n: complex(n).real,
    "array": lambda n: float(np.array([n, 1.0])[0]), "pickle": lambda n: pickle.loads(pickle.dumps(n)),
    "copy": lambda n: copy.deepcopy([n])[0], "struct": lambda n: struct.unpack("d", struct.pack("d", n))[0],
    "slice": lambda n: slice(0, int(n)).stop, "or": lambda n: n or 3.0, "matched": lambda n: _matched(n),
    "partial": lambda n: functools.partial(operator.mul, n)(2.0), "sum": lambda n: sum([n, 2]),
    "accumulated": lambda n: list(itertools.accumulate([n, n]))[1],
}


def _matched(n: Any) -> float:
    match n:
        case 2.5:
            return 1.0
        case float():
            return 2.0
        case _:
            return 3.0


@pytest.mark.parametrize("kind", [float, np.float64], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("use", list(LEAKS))
def test_a_runtime_number_that_leaks_into_python_is_never_stale(kind: Any, use: str) -> None:
    def function(x: fb.Tensor, n: Any) -> fb.Tensor:
        return x * LEAKS[use](n)

    compiled, x = fb.compile(function), fb.ones(1, dtype=fb.float64)
    for value in (2.5, 3.25, 2.5, 13.0):
        assert compiled(x, kind(value)).item() == function(x, kind(value)).item()


def test_code_that_wants_a_float_of_pythons_own_is_given_one() -> None:
    bare = fb.compile(lambda x, n: x * float(json.dumps(n)))            # guarded by value
    assert [bare(fb.ones(1), n).item() for n in (2.5, 3.5)] == [2.5, 3.5] and len(bare.signatures) == 2
    told = fb.compile(lambda x, n: x * len(json.dumps(n) + str(x.sum().item())))
    with pytest.raises(fb.errors.TraceError, match="has no value until"):       # not what json makes of runtime numbers
        told(fb.ones(2), 2.5)
    dumped = fb.compile(lambda x, n: x * float(json.dumps(float(n))))
    assert [dumped(fb.ones(1), n).item() for n in (2.5, 3.5)] == [2.5, 3.5]


# -- what is no number ------------------------------------------------------------------------------------------------


class Foreign:
    """A tensor of another framework, as far as anyone can see."""

    def __dlpack__(self) -> Any:
        raise AssertionError("never asked")


def test_tensors_of_other_frameworks_are_refused_with_a_way_out() -> None:
    x, foreign = fb.ones(1), Foreign()
    for function in (lambda: x + foreign, lambda: foreign * x, lambda: x == foreign, lambda: fb.add(x, foreign),
                     lambda: fb.relu(foreign), lambda: fb.cat([x, foreign]), lambda: x.clone().add_(foreign),
                     lambda: x.matmul(foreign)):
        for run in (function, fb.compile(function)):
            with pytest.raises(TypeError, match=r"a tensor of another framework \(.*Foreign\)"):
                run()
    with pytest.raises(fb.errors.TraceError, match="is a tensor of another framework"):
        fb.compile(lambda x: 1)(foreign)
    with pytest.raises(fb.errors.TraceError, match="is a tensor of another framework"):
        fb.compile(lambda xs: 1)([x, foreign])


@pytest.mark.torch
def test_torch_tensors_are_refused_with_a_way_out() -> None:
    import torch

    for function in (lambda: fb.ones(1) + torch.ones(1), lambda: torch.ones(1) * fb.ones(1)):
        with pytest.raises(TypeError):
            function()
    with pytest.raises(fb.errors.TraceError, match="torch.Tensor"):
        fb.compile(lambda x: x * 2)(torch.ones(1))


def test_complex_numbers_make_complex_tensors_and_are_no_arguments() -> None:
    x = fb.ones(1)
    for z in (1j, complex(0, -0.0), np.complex64(1)):
        assert (x * z).tolist() == [complex(z)] and (x == z).tolist() == [z == 1] and fb.add(x, z).dtype is fb.complex64
        with pytest.raises(RuntimeError):
            x.clone().mul_(z)
        with pytest.raises(fb.errors.TraceError, match="numbers are real"):
            fb.compile(lambda x, z: x)(x, z)
