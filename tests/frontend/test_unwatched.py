"""Code of the user's that runs within the framework's own is guarded, although the profile hook rests there else."""
import numpy as np
import pytest

import flambeau as fb
from flambeau.frontend.tape.unwatched import are_plain
from flambeau.frontend.trace.guards.watch import Watch

FACTOR = 1.0


def set_factor(value):
    global FACTOR
    FACTOR = value


class Sized:
    def __init__(self, of):
        self.of = of

    def __index__(self):
        return int(FACTOR) * self.of


class Scaled(fb.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 1

    @staticmethod
    def backward(ctx, ct):
        return ct * FACTOR


class Descent(fb.optim.SGD):
    def _update(self, group):
        for p in group["params"]:
            p -= p.grad * FACTOR


def with_index(x):
    return x.reshape(Sized(2), -1).sum(0)


def with_lists(x):
    return fb.stack([x * FACTOR for _ in range(3)]).sum(0)


def with_generator(x):
    return fb.cat([*(x[i] * FACTOR for i in range(2))])


def with_hook(x):
    y = x.detach().requires_grad_()
    z = y * 3
    z.register_hook(lambda ct: ct * FACTOR)
    z.sum().backward()
    return y.grad


def with_hook_of_a_leaf(x):
    y = x.detach().requires_grad_()
    y.register_hook(lambda ct: ct * FACTOR)
    (y * 3).sum().backward()
    return y.grad


def with_function(x):
    y = x.detach().requires_grad_()
    (gradient,) = fb.autograd.grad(Scaled.apply(y * 3).sum(), y)
    return gradient


def with_checkpoint(x):
    y = x.detach().requires_grad_()
    fb.utils.checkpoint.checkpoint(lambda t: t * t * FACTOR, y, use_reentrant=False).sum().backward()
    return y.grad


@pytest.mark.parametrize("function", [with_index, with_lists, with_generator, with_hook, with_hook_of_a_leaf, with_function,
                                      with_checkpoint])
def test_what_the_users_code_reads_is_guarded(function):
    compiled, x = fb.compile(function, dynamic=False), fb.arange(16.0).reshape(4, 4)
    for factor in (2.0, 4.0, 2.0):
        set_factor(factor)
        assert compiled(x).tolist() == function(x).tolist()


@pytest.mark.parametrize("function", [lambda x: Scaled.apply(x * 3), lambda x: hooked(x * 3)], ids=["function", "hook"])
def test_the_backward_of_a_result_is_guarded(function):
    compiled = fb.compile(function)
    for factor in (2.0, 4.0, 2.0):
        set_factor(factor)
        mine, theirs = (fb.arange(4.0).requires_grad_() for _ in range(2))
        compiled(mine).sum().backward()
        function(theirs).sum().backward()
        assert mine.grad.tolist() == theirs.grad.tolist()


def hooked(y):
    y.register_hook(lambda ct: ct * FACTOR)
    return y


@pytest.mark.parametrize("kind", [Descent, fb.optim.SGD, fb.optim.AdamW])
@pytest.mark.parametrize("hooked", [False, True])
def test_optimizers(kind, hooked):
    def trained(wrap):
        p = fb.nn.Parameter(fb.ones(3))
        optimizer = kind([p], lr=0.5)
        if hooked:
            optimizer.register_step_post_hook(lambda *_: p.data.mul_(FACTOR))

        @wrap
        def step():
            (p * 2).sum().backward()
            optimizer.step()
            optimizer.zero_grad()

        for factor in (2.0, 4.0, 2.0):
            set_factor(factor)
            step()
        return p.tolist()

    assert trained(fb.compile) == pytest.approx(trained(lambda step: step))


def test_what_is_plain():
    class Mine(fb.Tensor):
        pass

    class Number(float):
        pass

    own = Mine([1.0])
    assert are_plain([fb.ones(2), fb.nn.Parameter(fb.ones(2)), 1, 2.0, "sum", None, fb.float32, (1, [2, (3,)])])
    assert are_plain([slice(1, None)])
    others = (own, Number(1), Sized(1), {}, iter([1]), len, slice(Sized(1)), np.array([Sized(1)]))
    assert not any(are_plain([fb.ones(2), (1, [value])]) for value in others)


def test_the_hook_is_called_for_few_calls_of_ours():
    """The loop below and the optimizer's step make some hundred ops, each of which takes dozens of Python's calls."""
    seen = []
    watched = Watch._profile

    def profile(self, frame, event, argument):
        seen.append(event)
        watched(self, frame, event, argument)

    layers = fb.nn.Sequential(*[fb.nn.Linear(4, 4) for _ in range(10)])
    optimizer = fb.optim.AdamW(layers.parameters())

    @fb.compile
    def step(x):
        for i in range(50):
            x = x * 1.5 + i
        layers(x).sum().backward()
        optimizer.step()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Watch, "_profile", profile)
        step(fb.ones(4))
    assert len(seen) < 20 * step.stats().n_ops_traced
