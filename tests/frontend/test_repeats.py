"""What an optimizer does to one parameter is traced once, and appended anew for others: programs are those of before."""
from functools import partial

import numpy as np
import pytest

import flambeau as fb
from flambeau.frontend.functions.pointwise import maximum
from flambeau.frontend.optim.optimizer import Alike, Optimizer, makers, new_step
from flambeau.frontend.tape.writes import assign_
from flambeau.frontend.trace import repeats

SHAPES = [(3,), (2, 2), (), (1,), (0, 4), (5,), ()]
OPTIMIZERS = {
    "sgd": partial(fb.optim.SGD, lr=0.1),
    "momentum": partial(fb.optim.SGD, lr=0.1, momentum=0.9, weight_decay=0.01),
    "nesterov": partial(fb.optim.SGD, lr=0.1, momentum=0.9, nesterov=True),
    "dampened": partial(fb.optim.SGD, lr=0.1, momentum=0.9, dampening=0.5, maximize=True),
    "adam": partial(fb.optim.Adam, lr=0.1, weight_decay=0.01),
    "adamw": partial(fb.optim.AdamW, lr=0.1),
    "amsgrad": partial(fb.optim.AdamW, lr=0.1, amsgrad=True),
    "lr tensor": lambda params: fb.optim.Adam(params, lr=fb.tensor(0.1)),
}


def parameters(dtypes=(fb.float32,), shapes=SHAPES):
    rng = np.random.default_rng(0)
    return [fb.nn.Parameter(fb.tensor(rng.normal(0, 1, shape)).to(dtype)) for dtype in dtypes for shape in shapes]


def training(make, params, **options):
    """(step, what it leaves behind)."""
    optimizer = make(params)

    def step(x):
        optimizer.zero_grad()
        loss = sum(((p * p * x).sum() + p.sum()).float() for p in params)
        loss.backward()
        optimizer.step()
        return loss

    return fb.compile(step, **options) if options else step, optimizer


def left_by(make, params, **options):
    step, optimizer = training(make, params, **options)
    losses = [step(fb.tensor(float(n))).item() for n in range(3)]
    state = [value.numpy().tobytes() for p in params for value in optimizer.state[p].values()]
    return step, [losses, [p.detach().float().numpy().tobytes() for p in params], state]


@pytest.fixture
def each_traced(monkeypatch):
    """Call it, and every parameter is traced for itself."""
    return lambda: monkeypatch.setattr(repeats, "_form", lambda trace, tensors: None)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_programs_are_those_of_parameters_traced_one_by_one(name, each_traced):
    step, found = left_by(OPTIMIZERS[name], parameters(), backend="interpret")
    each_traced()
    single, expected = left_by(OPTIMIZERS[name], parameters(), backend="interpret")
    assert found == expected
    assert step.ir("fused") == single.ir("fused")


@pytest.mark.parametrize("name", ["dampened", "adam", "amsgrad"])
def test_dtypes_are_told_apart(name):
    dtypes = (fb.float32, fb.float64, fb.bfloat16)
    shapes = [shape for shape in SHAPES if shape]
    step, found = left_by(OPTIMIZERS[name], parameters(dtypes, shapes), backend="interpret")
    _, expected = left_by(OPTIMIZERS[name], parameters(dtypes, shapes))
    np.testing.assert_allclose(found[0], expected[0], rtol=2e-2)
    assert {str(value.type.dtype) for value in step.signatures[0].traced.graph.writes} == {"f32", "f64", "bf16"}


def test_numbers_are_not_repeated_for_each_parameter(each_traced):
    def ops(count):
        step, _ = training(OPTIMIZERS["adam"], parameters(shapes=[(3,)] * count), backend="interpret")
        step(fb.tensor(1.0))
        return step.stats().n_ops_traced

    few, many = ops(4), ops(12)
    each_traced()
    assert ops(12) - ops(4) > many - few > 0


def test_what_was_read_before_the_step_is_an_input_already(each_traced):
    def program():
        params = parameters(shapes=[(3,)] * 4)
        optimizer = fb.optim.Adam(params, lr=0.1)
        sum((p * p).sum() for p in params).backward()
        optimizer.step()

        @fb.compile(backend="interpret")
        def step(x):
            optimizer.zero_grad()
            before = optimizer.state[params[2]]["exp_avg"] * x
            sum((p * x).sum() for p in params).backward()
            optimizer.step()
            return before

        results = [step(fb.tensor(float(n))).numpy().tolist() for n in range(3)]
        return results, step.ir("graph"), [p.detach().numpy().tobytes() for p in params]

    results, text, left = program()
    each_traced()
    expected, single, also = program()
    assert (results, left) == (expected, also)
    labels = [[line for line in ir.splitlines() if "input" in line] for ir in (text, single)]
    assert [line.partition("=")[2] for line in labels[0]] == [line.partition("=")[2] for line in labels[1]]


def test_a_parameter_that_is_its_own_gradient_is_traced_for_itself():
    params = parameters(shapes=[(3,)] * 3)
    optimizer = fb.optim.SGD(params, lr=0.5)

    @fb.compile(backend="interpret")
    def step():
        for p in params:
            p.grad = p.detach()
        optimizer.step()

    before = [p.detach().clone() for p in params]
    step()
    assert all(fb.equal(p.detach(), was * 0.5) for p, was in zip(params, before, strict=True))


class Random(Optimizer):
    """Elementwise ops on a parameter, its gradient and two states, as drawn."""

    def __init__(self, params, seed):
        super().__init__(params, {"lr": 0.1})
        self.seed = seed
        self.of = [list(self._state_of(p, makers(p, "moving", value=0.5) | {"count": new_step}).values()) for p in params]

    def _update(self, group):
        def update(p, grad, moving, count):
            rng = np.random.default_rng(self.seed)
            given = [p, grad, moving, count]
            for _ in range(rng.integers(2, 10)):
                x, y = (given[n] for n in rng.integers(0, len(given), 2))
                match rng.integers(0, 7):
                    case 0:
                        given.append(x + y)
                    case 1:
                        given.append(x - y * 0.5)
                    case 2:
                        given.append(maximum(x, y) * number)
                    case 3:
                        given.append((x * y).tanh())
                    case 4:
                        given.append(x.double().sqrt().to(x.dtype).nan_to_num(0.25))
                    case 5:
                        given.append(given[rng.integers(0, 4)] * (number + 1))
                    case 6:
                        target = given[rng.integers(0, 4)]
                        if target is not grad:
                            assign_(target, (x * y if x.shape or y.shape else x) * 0 + 1.5 if not target.shape and (
                                x.shape or y.shape) else x + y) if (x.shape or y.shape) == target.shape else None
            assign_(p, p - grad * 0.125 + moving)

        number = fb.tensor(2.0) * 0.5
        updated = Alike(update)
        for (p, grad), of in zip(self._with_gradients(group), self.of, strict=True):
            updated(p, grad, *of)


def random_program(seed):
    rng = np.random.default_rng(seed)
    shapes = [SHAPES[n] for n in rng.integers(0, len(SHAPES), rng.integers(2, 7))]
    return partial(Random, seed=seed), parameters(shapes=shapes)


def test_random_updates(seeds, monkeypatch):
    usual = repeats._form
    for seed in seeds:
        monkeypatch.setattr(repeats, "_form", usual)
        _, found = left_by(*random_program(seed), backend="interpret")
        monkeypatch.setattr(repeats, "_form", lambda trace, tensors: None)
        _, single = left_by(*random_program(seed), backend="interpret")
        assert found == single, seed
        _, eager = left_by(*random_program(seed))
        for mine, theirs in zip(found[1], eager[1], strict=True):
            np.testing.assert_allclose(np.frombuffer(mine, np.float32), np.frombuffer(theirs, np.float32), rtol=1e-5,
                                       atol=1e-6, err_msg=f"seed {seed}")
