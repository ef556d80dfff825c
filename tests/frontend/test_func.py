"""fb.func against torch.func: each program runs in both, eagerly and compiled."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import flambeau as fb

torch = pytest.importorskip("torch")

Program = Callable[..., Any]


def flat(tree: Any) -> list[Any]:
    if isinstance(tree, dict):
        tree = [tree[key] for key in sorted(tree)]
    return [leaf for part in tree for leaf in flat(part)] if isinstance(tree, (tuple, list)) else [tree]


def numpy(t: Any) -> np.ndarray:
    return t.detach().numpy()


def agree(program: Program, *arrays: Any, compiled: bool = True) -> None:
    """program(library, its func, *tensors) gives the same in both libraries, and compiled."""
    wanted = flat(program(torch, torch.func, *[torch.tensor(a) for a in arrays]))
    ways = [lambda *xs: program(fb, fb.func, *xs)]
    if compiled:
        ways.append(fb.compile(lambda *xs: program(fb, fb.func, *xs)))
    for way in ways:
        found = flat(way(*[fb.tensor(a) for a in arrays]))
        assert len(found) == len(wanted)
        for f, w in zip(found, wanted, strict=True):
            assert (tuple(f.shape), repr(f.dtype).split(".")[-1]) == (tuple(w.shape), repr(w.dtype).split(".")[-1])
            assert f.requires_grad == w.requires_grad
            np.testing.assert_allclose(numpy(f), numpy(w), rtol=1e-9, atol=1e-11)


X = np.random.default_rng(0).standard_normal((4, 3))
W = np.random.default_rng(1).standard_normal((3, 3))


def scalar(x: Any) -> Any:
    return (x.sin() * x).sum()


def square(t: Any, x: Any) -> Any:
    y = x.clone()
    y[0] = y[1] * 2
    y.mul_(x)
    return y


PROGRAMS: dict[str, Program] = {
    "grad": lambda t, f, x, w: f.grad(scalar)(x),
    "grad of several": lambda t, f, x, w: f.grad(lambda a, b: (a @ b).tanh().sum(), argnums=(0, -1))(x, w),
    "grad of a dict": lambda t, f, x, w: f.grad(lambda d: (d["x"] @ d["w"]).sum())({"x": x, "w": w}),
    "grad and aux": lambda t, f, x, w: f.grad(lambda a: (scalar(a), {"double": a * 2}), has_aux=True)(x),
    "grad and value": lambda t, f, x, w: f.grad_and_value(lambda a: (scalar(a), a.exp()), has_aux=True)(x),
    "third derivative": lambda t, f, x, w: f.grad(f.grad(f.grad(lambda a: a.sin() * a)))(x[0, 0]),
    "constant": lambda t, f, x, w: f.grad(lambda a: (x * 2).sum())(w),
    "no_grad inside": lambda t, f, x, w: f.grad(lambda a: (a * t.no_grad()(lambda: a.sin())()).sum())(x),
    "detach inside": lambda t, f, x, w: f.grad(f.grad(lambda a: a.sin() * a.detach() * a))(x[0, 0]),
    "vjp": lambda t, f, x, w: (lambda y, back: (y, back(y * 2), back(y)))(*f.vjp(lambda a, b: a @ b, x, w)),
    "vjp of a dict": lambda t, f, x, w: f.vjp(
        lambda d: {"y": d["x"].exp(), "z": d["x"] * 2}, {"x": x})[1]({"y": x, "z": x}),
    "jvp": lambda t, f, x, w: f.jvp(lambda a, b: (a @ b).exp(), (x, w), (x * 2, w.cos())),
    "jvp and aux": lambda t, f, x, w: f.jvp(lambda a: (a.exp(), a * 3), (x,), (x,), has_aux=True),
    "jvp and no_grad": lambda t, f, x, w: f.jvp(lambda a: a * t.no_grad()(lambda: a.sin())(), (x,), (x,)),
    "jvp and detach": lambda t, f, x, w: f.jvp(lambda a: a * a.detach().sin(), (x,), (x,)),
    "jvp of jvp": lambda t, f, x, w: f.jvp(lambda a: f.jvp(scalar, (a,), (w,))[1], (w,), (w.cos(),)),
    "vmap": lambda t, f, x, w: f.vmap(lambda a: a + a.sum())(x),
    "vmap over dims": lambda t, f, x, w: f.vmap(lambda a, b: (a @ b, a), in_dims=(-1, None), out_dims=(-1, 0))(x, x.t()[0]),
    "vmap of containers": lambda t, f, x, w: f.vmap(
        lambda d, s: {"y": d["x"] * s[0]}, in_dims=({"x": 0, "n": None}, 1))({"x": x, "n": w}, [x.t()]),
    "vmap in chunks": lambda t, f, x, w: f.vmap(lambda a: (a @ w, a.sum()), chunk_size=3, out_dims=(1, 0))(x),
    "vmap of a constant": lambda t, f, x, w: f.vmap(lambda a: w)(x),
    "vmap of vmap": lambda t, f, x, w: f.vmap(f.vmap(lambda a, b: a * b, in_dims=(0, None)), in_dims=(None, 0))(x, x[:, 0]),
    "vmap keywords": lambda t, f, x, w: f.vmap(lambda a, *, b: a @ b)(x, b=w),
    "per-sample gradients": lambda t, f, x, w: f.vmap(f.grad(lambda b, a: scalar(a @ b)), in_dims=(None, 0))(w, x),
    "vmap of grad of vmap": lambda t, f, x, w: f.vmap(f.grad(lambda a: f.vmap(lambda b: (a * b).sin().sum())(w).sum()))(x),
    "grad of vmap": lambda t, f, x, w: f.grad(lambda b: f.vmap(lambda a: (a @ b).tanh())(x).sum())(w),
    "jvp of vmap": lambda t, f, x, w: f.jvp(lambda b: f.vmap(lambda a: (a @ b).tanh())(x), (w,), (w,)),
    "vmap of jvp": lambda t, f, x, w: f.vmap(lambda a, b: f.jvp(lambda c: t.softmax(c, 0), (a,), (b,)))(x, x.cos()),
    "in place": lambda t, f, x, w: f.vmap(f.grad(lambda a: square(t, a).sum()))(x),
    "in place, forward": lambda t, f, x, w: f.jvp(lambda a: square(t, a), (x,), (x.cos(),)),
    "jacrev": lambda t, f, x, w: f.jacrev(lambda a: t.softmax(a, 0) * a.sum())(x),
    "jacrev of several": lambda t, f, x, w: f.jacrev(lambda a, b: (a @ b, {"s": b.sum()}), argnums=(0, 1))(x, w),
    "jacrev in chunks": lambda t, f, x, w: f.jacrev(lambda a: (a @ w).exp(), chunk_size=5)(x),
    "jacrev and aux": lambda t, f, x, w: f.jacrev(lambda a: (a.exp(), a * 2), has_aux=True)(x),
    "jacfwd": lambda t, f, x, w: f.jacfwd(lambda a: t.softmax(a, 0) * a.sum())(x),
    "jacfwd of several": lambda t, f, x, w: f.jacfwd(lambda a, b: (a @ b, {"s": b.sum()}), argnums=(0, 1))(x, w),
    "jacfwd and aux": lambda t, f, x, w: f.jacfwd(lambda a: (a.exp(), a * 2), has_aux=True)(x),
    "hessian": lambda t, f, x, w: f.hessian(lambda a: scalar(a @ w))(x),
    "hessian of several": lambda t, f, x, w: f.hessian(lambda a, b: scalar(a @ b), argnums=(0, 1))(x, w),
    "jacrev of jacfwd": lambda t, f, x, w: f.jacrev(f.jacfwd(scalar))(w),
    "vmap of hessian": lambda t, f, x, w: f.vmap(f.hessian(lambda a: t.softmax(a, 0)[1] * scalar(a)))(x),
    "linearize": lambda t, f, x, w: (lambda y, along: (y, along(x, w), along(x * 2, w.sin())))(
        *f.linearize(lambda a, b: (a @ b).exp(), x, w)),
    "ops of every kind": lambda t, f, x, w: f.vmap(f.grad(lambda a: (
        t.cat([a, a.flip(0)]).sort().values.cumsum(0).sum() * a.logsumexp(0) * a.prod() + t.where(a > 0, a, -a).max()
        + t.nn.functional.pad(a, (1, 2)).view(2, 3).t().std() + a[t.tensor([2, 0])].norm() + (w @ a).norm())))(x),
    "linear algebra": lambda t, f, x, w: f.vmap(f.jacfwd(lambda a: t.linalg.cholesky(w @ w.t() + t.diag(a * a))))(x),
    "gather and scatter": lambda t, f, x, w: f.vmap(f.grad(lambda a, i: (
        t.zeros(3, dtype=a.dtype).index_add(0, i, a).exp() * a.gather(0, i) * a[i]).sum()))(x, x.long().abs() % 3),
    "outer autograd": lambda t, f, x, w: (lambda v: t.autograd.grad(
        f.vmap(f.grad(lambda a, b: (a * b).sin().sum()))(x, v).sum(), v))(x.clone().requires_grad_()),
    "functional_call": lambda t, f, x, w: f.functional_call(
        t.nn.Linear(3, 3, dtype=x.dtype), ({"weight": w}, {"bias": w[0]}), x),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_agree_with_torch(name: str) -> None:
    agree(PROGRAMS[name], X, W)


MISTAKES: dict[str, Program] = {
    "no scalar": lambda t, f, x: f.grad(lambda a: a)(x),
    "no tensor": lambda t, f, x: f.grad(lambda a: 1.0)(x),
    "argnums beyond": lambda t, f, x: f.grad(scalar, argnums=1)(x),
    "integers": lambda t, f, x: f.grad(lambda a: a.sum())(x.long()),
    "aux missing": lambda t, f, x: f.grad(scalar, has_aux=True)(x),
    "captured, in place": lambda t, f, x: f.grad(lambda a: x.add_(a).sum())(x.clone()),
    "captured, in place under vmap": lambda t, f, x: f.vmap(lambda a: x[0].add_(a))(x.clone()),
    "cotangents": lambda t, f, x: f.vjp(lambda a: a, x)[1](x[0]),
    "tangents": lambda t, f, x: f.jvp(lambda a: a, (x,), (x[0],)),
    "primals": lambda t, f, x: f.jvp(lambda a: a, x, x),
    "branch on values": lambda t, f, x: f.vmap(lambda a: a if a.sum() > 0 else -a)(x),
    "item": lambda t, f, x: f.vmap(lambda a: a * a.sum().item())(x),
    "in_dims beyond": lambda t, f, x: f.vmap(lambda a: a, in_dims=2)(x),
    "in_dims of nothing": lambda t, f, x: f.vmap(lambda a: a, in_dims=None)(x),
    "in_dims all None": lambda t, f, x: f.vmap(lambda a: a, in_dims=(None,))(x),
    "in_dims nest otherwise": lambda t, f, x: f.vmap(lambda a: a, in_dims=(0, 0))(x),
    "in_dims of a number": lambda t, f, x: f.vmap(lambda a, b: a, in_dims=(0, 0))(x, 2),
    "sizes differ": lambda t, f, x: f.vmap(lambda a, b: a)(x, x[:2]),
    "out_dims beyond": lambda t, f, x: f.vmap(lambda a: a, out_dims=3)(x),
    "gives a number": lambda t, f, x: f.vmap(lambda a: 1)(x),
    "random": lambda t, f, x: f.vmap(lambda a: a + t.rand(3, dtype=a.dtype))(x),
    "nonzero": lambda t, f, x: f.vmap(lambda a: a.nonzero())(x),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_raise_as_in_torch(name: str) -> None:
    with pytest.raises(Exception) as expected:
        MISTAKES[name](torch, torch.func, torch.tensor(X))
    kind = next(k for k in (ValueError, IndexError, TypeError, RuntimeError) if isinstance(expected.value, k))
    with pytest.raises(kind):
        MISTAKES[name](fb, fb.func, fb.tensor(X))


def test_random_numbers_under_vmap() -> None:
    x = fb.tensor(X)
    same = fb.vmap(lambda a: a * 0 + fb.rand(3, dtype=a.dtype), randomness="same")(x)
    different = fb.vmap(lambda a: a * 0 + fb.rand(3, dtype=a.dtype), randomness="different")(x)
    assert (same == same[0]).all() and not (different[0] == different[1]).any()
    once = fb.vmap(lambda a: fb.rand(2), randomness="same")(x)
    assert once.shape == (4, 2)


def test_arguments_changed_in_place_are_changed_outside() -> None:
    x = fb.tensor(X)
    fb.vmap(lambda a: a.add_(1), in_dims=1)(x)
    np.testing.assert_allclose(x.numpy(), X + 1)


def network(t: Any) -> Any:
    nn = t.nn
    return nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.LayerNorm(4), nn.Linear(4, 3))



def test_per_sample_gradients_and_ensembles_of_networks() -> None:
    shape = (5, 2, 5, 5)
    theirs, ours = [[network(t).double() for _ in range(2)] for t in (torch, fb)]
    for mine, other in zip(ours, theirs, strict=True):
        mine.load_state_dict({k: fb.tensor(v.numpy()) for k, v in other.state_dict().items()})
    images, labels = np.random.default_rng(2).standard_normal(shape), np.arange(shape[0]) % 3

    def program(t: Any, f: Any, x: Any, y: Any) -> Any:
        models = ours if t is fb else theirs
        parameters = {k: v.detach() for k, v in models[0].named_parameters()}

        def loss(p: Any, x: Any, y: Any) -> Any:
            return t.nn.functional.cross_entropy(f.functional_call(models[0], p, (x[None],)), y[None])

        stacked, buffers = f.stack_module_state(models)
        ensemble = f.vmap(lambda p, b: f.functional_call(models[0], (p, b), x))(
            {k: v.detach() for k, v in stacked.items()}, buffers)
        return f.vmap(f.grad(loss), in_dims=(None, 0, 0))(parameters, x, y), ensemble

    agree(program, images, labels)


def test_batch_norm_and_what_follows_it_under_vmap() -> None:
    model = fb.func.replace_all_batch_norm_modules_(fb.nn.Sequential(fb.nn.BatchNorm1d(3), fb.nn.Linear(3, 2)).double())
    x = fb.tensor(np.stack([X, X * 2]))
    found = fb.vmap(model)(x)
    assert fb.allclose(found, fb.stack([model(x[0]), model(x[1])]))
    with pytest.raises(RuntimeError, match="all examples share"):
        fb.vmap(fb.nn.BatchNorm1d(3).double())(x)


def test_value_and_grad_gives_the_value_first() -> None:
    value, gradient = fb.func.value_and_grad(scalar)(fb.tensor(X))
    assert value.shape == () and gradient.shape == X.shape
    assert fb.equal(fb.func.functionalize(scalar)(fb.tensor(X)), value)


def test_loops_checkpoints_and_ctc_under_transforms() -> None:
    def scanned(x: Any) -> Any:
        return fb.scan(lambda c, r: (c * r.sin() + 1, c * r), x[0] * 0 + 1, x)[1].sum()

    def by_hand(x: Any) -> Any:
        carry, total = x[0] * 0 + 1, 0
        for row in x:
            carry, total = carry * row.sin() + 1, total + (carry * row).sum()
        return total

    x = fb.tensor(np.random.default_rng(0).standard_normal((2, 6, 3)))
    for way in (fb.vmap(fb.func.grad(scanned)), fb.compile(lambda a: fb.vmap(fb.func.grad(scanned))(a))):
        assert fb.allclose(way(x), fb.vmap(fb.func.grad(by_hand))(x))

    saved = fb.func.grad(lambda a: fb.func.grad(
        lambda b: fb.utils.checkpoint.checkpoint(scalar, b, use_reentrant=False))(a).cos().sum())
    assert fb.allclose(saved(x[0]), fb.func.grad(lambda a: fb.func.grad(scalar)(a).cos().sum())(x[0]))

    def loss(a: Any) -> Any:
        return fb.nn.functional.ctc_loss(a.log_softmax(-1)[:, None], fb.tensor([[1, 2]]), fb.tensor([6]), fb.tensor([2]))

    assert fb.allclose(fb.vmap(fb.func.grad(loss))(x), fb.stack([fb.func.grad(loss)(a) for a in x]))


def test_complex_numbers_pass_transforms() -> None:
    def program(t: Any, f: Any, x: Any, w: Any) -> Any:
        z = t.complex(x, x.cos())
        by_column = f.vmap(lambda a: t.fft.fft(a) * a, in_dims=-1, out_dims=-1)(z)
        in_chunks = f.vmap(lambda a: a * a, out_dims=-1, chunk_size=3)(z)
        slope = f.grad(lambda a: (a * z[0]).abs().sum())(z)
        along = f.jvp(lambda a: t.fft.fft(a) * a, (z,), (z.conj(),))[1]
        return [t.view_as_real(y.resolve_conj() if t is torch else y) for y in (by_column, in_chunks, slope, along)]

    agree(program, X, W, compiled=False)


def test_batch_norm_moves_its_statistics_under_grad_and_jvp() -> None:
    def program(t: Any, f: Any, x: Any, w: Any) -> Any:
        mean, var = t.zeros(3, dtype=x.dtype), t.ones(3, dtype=x.dtype)

        def cubed(a: Any) -> Any:
            return t.nn.functional.batch_norm(a, mean, var, training=True) ** 3

        return f.grad(lambda a: cubed(a).sum())(x), f.jvp(cubed, (x,), (x.cos(),)), mean, var

    agree(program, X, W)


def test_transforms_leave_the_grad_mode_that_compiled_calls_go_by():
    def inner(x):
        with fb.no_grad():
            k = x * 2
        return (x.sin() * k).sum()

    square, w = fb.compile(lambda w: (w * w).sum()), fb.ones(3, requires_grad=True)
    with fb.no_grad():
        fb.func.grad(inner)(fb.ones(3))
        assert not square(w).requires_grad
    assert square(w).requires_grad
