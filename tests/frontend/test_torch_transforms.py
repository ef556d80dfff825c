"""PyTorch's own samples of its operators under transforms: as many as fit a few seconds run here,
`python tests/frontend/torch_transforms.py` runs all."""
from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

torch = pytest.importorskip("torch")
torch_samples = pytest.importorskip("frontend.torch_samples")
torch_transforms = pytest.importorskip("frontend.torch_transforms")
pytestmark = pytest.mark.torch


def test_transforms_of_samples_agree(seeds: Iterator[int]) -> None:
    names = sorted(set(torch_samples.operators()) - torch_samples.LOOSE - set(torch_transforms.KNOWN))
    for seed in seeds:
        rng = random.Random(seed)
        name, mode = rng.choice(names), rng.choice(torch_transforms.MODES)
        report = torch_transforms.run(name, (mode,), limit=1)
        assert not report.differences, "\n".join([name, *report.differences])


TANGENTS = {
    "max of a number": (lambda t, x, i: t.max(x[0, 0], 0)[0], 1),
    "amax": (lambda t, x, i: x.scatter_reduce(1, i, x * 2, "amax"), 1),
    "nextafter": (lambda t, x, i: t.nextafter(x, x * 2), 1),
    "a mask": (lambda t, x, i: x[i > 0], 0),
    "repeats": (lambda t, x, i: t.repeat_interleave(x, i[0], 1), 0),
}


@pytest.mark.parametrize("name", TANGENTS)
def test_functions_that_look_at_values_or_at_what_is_differentiated(name: str) -> None:
    """Also where what is differentiated is so around the vmap that they run under."""
    import flambeau as fb

    function, of_batch = TANGENTS[name]

    def found(t, made):
        x, i = made([[0.5, -1.0, 0.25], [2.0, 3.0, -0.5]]), made([[0, 1, 1], [2, 0, 1]]).long()
        one = lambda a: function(t, a, i)
        along = t.func.jvp(one, (x,), (x.cos(),))[1]
        around = t.func.grad(lambda a: (t.vmap(one)(t.stack([a, a * 2])) ** 2).sum())(x) if of_batch else along
        return [along, around, t.func.jacrev(one)(x), t.func.jacfwd(one)(x)]

    for a, b in zip(found(fb, lambda v: fb.tensor(v, dtype=fb.float64)),
                    found(torch, lambda v: torch.tensor(v, dtype=torch.float64)), strict=True):
        assert tuple(a.shape) == tuple(b.shape) and torch.allclose(torch.from_numpy(a.detach().numpy()), b)


@pytest.mark.parametrize("shape", [(3, 0), (0, 2)])
def test_jacobians_of_nothing(shape: tuple[int, int]) -> None:
    import flambeau as fb

    for t in (fb, torch):
        for jacobian in (t.func.jacrev, t.func.jacfwd):
            assert tuple(jacobian(lambda a: a.mT @ a)(t.zeros(*shape)).shape) == (shape[1], shape[1], *shape)
        assert tuple(t.vmap(lambda a: (a @ a.mT).sum(-1))(t.zeros(0, *shape)).shape) == (0, shape[0])
        assert t.zeros(2).cdouble(memory_format=t.contiguous_format).dtype is t.complex128
