"""nn.utils: parametrizations, normalized and pruned weights, clipping. Programs that give the same plain data in both
libraries, and compiled steps that give what eager ones do."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import flambeau as fb
from flambeau import nn, optim
from flambeau.errors import TraceError

torched = pytest.mark.torch
Program = Callable[[Any], Any]
PROGRAMS: list[Program] = []


def program(function: Program) -> Program:
    PROGRAMS.append(function)
    return function


def plain(value: Any) -> Any:
    """Tensors as rounded lists, containers of them."""
    if hasattr(value, "detach"):
        return np.round(np.asarray(value.detach().tolist(), dtype=float), 8).tolist()
    if isinstance(value, dict):
        return [(key, plain(v)) for key, v in value.items()]
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return value


def filled(lib: Any, module: Any) -> Any:
    """Known values, f64."""
    module.double()
    with lib.no_grad():
        for number, p in enumerate(module.parameters()):
            values = np.random.default_rng(number).normal(size=tuple(p.shape))
            p.copy_(lib.from_numpy(values))
    return module


def linear(lib: Any, *sizes: int) -> Any:
    return filled(lib, lib.nn.Linear(*sizes))


def raised(function: Callable[[], Any]) -> str:
    try:
        function()
    except Exception as error:
        return next(k.__name__ for k in type(error).__mro__ if k.__module__ == "builtins")
    return "nothing"


def trained(lib: Any, m: Any, *shape: int, wrap: Callable[[Any], Any] = lambda f: f, steps: int = 3) -> Any:
    """Losses of a few steps, and the weights after them."""
    optimizer = lib.optim.SGD(m.parameters(), lr=0.05, momentum=0.9)
    x = lib.from_numpy(np.random.default_rng(7).normal(size=shape))

    def step(x: Any) -> Any:
        optimizer.zero_grad()
        loss = (m(x) ** 2).mean()
        loss.backward()
        optimizer.step()
        return loss

    run = wrap(step)
    return [run(x) for _ in range(steps)], m.state_dict()


# -- parametrize ------------------------------------------------------------------------------------------------------


def symmetric(lib: Any) -> Any:
    class Symmetric(lib.nn.Module):
        def forward(self, x: Any) -> Any:
            return x.triu() + x.triu(1).mT

        def right_inverse(self, a: Any) -> Any:
            return a.triu()

    return Symmetric()


def rank_one(lib: Any) -> Any:
    class RankOne(lib.nn.Module):
        def forward(self, x: Any, y: Any) -> Any:
            return x.unsqueeze(-1) @ y.unsqueeze(-2)

        def right_inverse(self, z: Any) -> Any:
            return z[:, 0].clone(), z[0].clone()

    return RankOne()


def doubled(lib: Any) -> Any:
    class Doubled(lib.nn.Module):
        def forward(self, x: Any) -> Any:
            return x * 2

        def right_inverse(self, x: Any) -> Any:
            return x / 2

    return Doubled()


@program
def a_weight_is_a_function(lib: Any) -> Any:
    p = lib.nn.utils.parametrize
    m = linear(lib, 3, 3)
    found = [p.register_parametrization(m, "weight", symmetric(lib)) is m, repr(m), list(m.state_dict()), m.weight,
             type(m).__name__, p.type_before_parametrizations(m).__name__, p.is_parametrized(m),
             p.is_parametrized(m, "bias"), isinstance(m, lib.nn.Linear), [n for n, _ in m.named_parameters()],
             [n for n, _ in m.named_modules()]]
    p.register_parametrization(m, "weight", doubled(lib))
    m.weight = lib.ones(3, 3).double()
    found += [m.weight, m.parametrizations.weight.original, len(m.parametrizations.weight),
              m.parametrizations["weight"].unsafe, trained(lib, m, 2, 3)]
    with p.cached():
        found.append(m.weight is m.weight)
    found.append(m.weight is m.weight)
    p.remove_parametrizations(m, "weight")
    return [*found, type(m).__name__, list(m.state_dict()), m.weight, hasattr(m, "parametrizations"),
            m.weight.requires_grad]


@program
def a_weight_of_two_originals(lib: Any) -> Any:
    p = lib.nn.utils.parametrize
    m, other = linear(lib, 3, 2), linear(lib, 3, 2)
    p.register_parametrization(m, "weight", rank_one(lib))
    p.register_parametrization(m, "bias", doubled(lib))
    found = [list(m.state_dict()), m.weight, trained(lib, m, 2, 3), m.parametrizations.weight.ntensors,
             raised(lambda: p.remove_parametrizations(m, "weight", leave_parametrized=False)),
             raised(lambda: p.remove_parametrizations(other, "weight"))]
    p.transfer_parametrizations_and_params(m, other)
    p.remove_parametrizations(m, "bias", leave_parametrized=False)
    p.remove_parametrizations(m, "weight")
    return [*found, list(m.state_dict()), m.bias, m.weight, list(other.state_dict()), other.weight]


@program
def parametrizations_that_do_not_fit(lib: Any) -> Any:
    p = lib.nn.utils.parametrize

    class Wide(lib.nn.Module):
        def forward(self, x: Any) -> Any:
            return lib.cat([x, x])

    class Single(lib.nn.Module):
        def forward(self, x: Any) -> Any:
            return x.float()

    class Nothing(lib.nn.Module):
        def forward(self, x: Any) -> Any:
            return 3

    def tried(what: Any, name: str = "weight", **settings: Any) -> str:
        return raised(lambda: p.register_parametrization(linear(lib, 2, 2), name, what, **settings))

    def assigned() -> None:
        m = p.register_parametrization(linear(lib, 2, 2), "weight", lib.nn.Identity())
        m.weight = lib.zeros(2, 2).double()

    return ([tried(Wide()), tried(Single()), tried(Nothing()), tried(Wide(), unsafe=True), tried(doubled(lib), "scale")],
            raised(assigned))


def test_copies_of_parametrized_modules_go_their_own_ways() -> None:
    p = nn.utils.parametrize
    m = p.register_parametrization(linear(fb, 2, 2), "weight", doubled(fb))
    before, made = m.weight.detach().clone(), copy.deepcopy(m)
    p.remove_parametrizations(made, "weight")
    made.weight.requires_grad_(False).fill_(5)
    assert m.weight.tolist() == before.tolist() and type(made) is nn.Linear
    m.load_state_dict({key: value * 3 for key, value in m.state_dict().items()})
    np.testing.assert_allclose(m.weight.detach().numpy(), 3 * before.numpy())
    with pytest.raises(AttributeError, match="is computed from its parameters"):
        nn.utils.weight_norm(linear(fb, 2, 2)).weight = before


@program
def normalized_weights(lib: Any) -> Any:
    n, u = lib.nn, lib.nn.utils
    found: list[Any] = []
    for module, dim, shape in ((n.Linear(3, 2), 0, (4, 3)), (n.Linear(3, 2), None, (4, 3)),
                               (n.Conv1d(2, 3, 2), 1, (1, 2, 5))):
        m = u.parametrizations.weight_norm(filled(lib, module), dim=dim)
        found += [repr(m), m.weight, trained(lib, m, *shape)]
        m.load_state_dict({"weight_g": m.parametrizations.weight.original0 * 2, "bias": m.bias,
                           "weight_v": m.parametrizations.weight.original1})
        found.append(m.weight)
        old = u.weight_norm(filled(lib, copy.deepcopy(u.parametrize.remove_parametrizations(m, "weight"))), dim=dim)
        found += [repr(old), list(old.state_dict()), [k for k, _ in old.named_parameters()], trained(lib, old, *shape)]
        raised_twice = raised(lambda m=old, u=u: u.weight_norm(m))
        found += [raised_twice, list(u.remove_weight_norm(old).state_dict()), old.weight,
                  raised(lambda m=old, u=u: u.remove_weight_norm(m))]
    return found


@program
def spectrally_normalized_weights(lib: Any) -> Any:
    n, u = lib.nn, lib.nn.utils
    found: list[Any] = []

    def vectors(m: Any) -> Any:
        return [b for name, b in m.named_buffers() if name.endswith(("_u", "_v"))]

    def started(m: Any) -> Any:
        with lib.no_grad():
            for b in vectors(m):
                b.copy_(lib.nn.functional.normalize(lib.arange(1, b.numel() + 1).double(), dim=0))
        return m

    for module, settings, shape in ((n.Linear(3, 2), {}, (4, 3)), (n.Conv1d(2, 3, 2), {"n_power_iterations": 2}, (1, 2, 5)),
                                    (n.Conv1d(2, 3, 2), {"dim": 1}, (1, 2, 5))):
        old = started(u.spectral_norm(filled(lib, copy.deepcopy(module)), **settings))
        m = started(u.parametrizations.spectral_norm(filled(lib, module), **settings))
        for made in (m, old):
            found += [repr(made).replace("<", ""), list(made.state_dict()), trained(lib, made, *shape), vectors(made)]
            found.append(made.eval()(lib.ones(shape).double()))
        found += [raised(lambda u=u, m=old: u.spectral_norm(m)), list(u.remove_spectral_norm(old).state_dict()), old.weight,
                  raised(lambda u=u, m=old: u.remove_spectral_norm(m)), len(old._forward_pre_hooks)]
    norm = u.parametrizations.spectral_norm(filled(lib, n.LayerNorm(3)))
    bad = raised(lambda: u.parametrizations.spectral_norm(linear(lib, 2, 2), n_power_iterations=0))
    return [*found, norm.weight, bad, raised(lambda: u.parametrizations.spectral_norm(linear(lib, 2, 2), dim=3))]


@program
def orthogonal_weights(lib: Any) -> Any:
    u = lib.nn.utils.parametrizations
    found: list[Any] = []
    for sizes, which in (((3, 3), None), ((3, 3), "cayley"), ((3, 3), "matrix_exp"), ((2, 4), "householder")):
        m = linear(lib, *sizes)
        with lib.no_grad():
            q, r = lib.linalg.qr(m.weight.detach().mT if sizes[0] < sizes[1] else m.weight.detach())
            q = q * r.diagonal().sign()
            m.weight.copy_(q[:sizes[1], :sizes[0]] if sizes[0] == sizes[1] else m.weight)
        trivial = sizes[0] == sizes[1]
        if trivial or which == "householder":
            m = u.orthogonal(m, orthogonal_map=which, use_trivialization=trivial)
            w = m.weight
            product = w @ w.mT if sizes[0] > sizes[1] else w.mT @ w
            found += [repr(m), list(m.state_dict()), product, trained(lib, m, 4, sizes[0])]
    bad = (raised(lambda: u.orthogonal(linear(lib, 2, 2), "bias")), raised(lambda: u.orthogonal(linear(lib, 2, 2), "none")),
           raised(lambda: u.orthogonal(linear(lib, 2, 2), orthogonal_map="qr")))

    def assigned() -> None:
        u.orthogonal(linear(lib, 2, 2), orthogonal_map="cayley", use_trivialization=False).weight = lib.eye(2).double()

    return [*found, *bad, raised(assigned)]


# -- prune ------------------------------------------------------------------------------------------------------------


@program
def pruned_weights(lib: Any) -> Any:
    p = lib.nn.utils.prune
    m = filled(lib, lib.nn.Conv1d(3, 4, 2))
    found = [p.is_pruned(m), p.l1_unstructured(m, "weight", 5) is m, repr(m), list(m.state_dict()), m.weight,
             p.is_pruned(m)]
    p.ln_structured(m, "weight", amount=0.5, n=2, dim=0)
    found += [m.weight, [type(h).__name__ for h in m._forward_pre_hooks.values()]]
    p.l1_unstructured(m, "weight", amount=0.3)
    p.custom_from_mask(m, "bias", lib.tensor([1, 0, 1, 1]))
    found += [m.weight, m.bias, trained(lib, m, 2, 3, 5), m.weight_orig.grad is not None]
    p.remove(m, "weight")
    found += [list(m.state_dict()), m.weight, p.is_pruned(m), raised(lambda: p.remove(m, "weight"))]
    p.identity(m, "weight")
    p.random_unstructured(m, "weight", 7)
    p.random_structured(m, "weight", 1, dim=1)
    found.append((int((m.weight == 0).sum()) >= 8, int((m.weight_mask.sum(dim=(0, 2)) == 0).sum()) >= 1))
    scored = p.l1_unstructured(linear(lib, 2, 2), "weight", 2, importance_scores=lib.tensor([[1.0, 9.0], [8.0, 2.0]]))
    return [*found, scored.weight]


@program
def weights_pruned_together(lib: Any) -> Any:
    p = lib.nn.utils.prune
    m = filled(lib, lib.nn.Sequential(lib.nn.Linear(3, 4), lib.nn.Linear(4, 2)))
    p.l1_unstructured(m[0], "weight", 2)
    p.global_unstructured([(m[0], "weight"), (m[1], "weight")], pruning_method=p.L1Unstructured, amount=0.5)
    method = p.L1Unstructured(amount=2)
    return (m.state_dict(), method.prune(m[1].bias.detach()), raised(lambda: p.L1Unstructured("x")),
            raised(lambda: p.L1Unstructured(1.5)), raised(lambda: p.l1_unstructured(m[0], "bias", 9)),
            raised(lambda: p.ln_structured(m[0], "bias", 1, 2, 0)),
            raised(lambda: p.ln_structured(m[0], "weight", 1, 2, 5)),
            raised(lambda: p.global_unstructured([(m[0], "weight")], p.LnStructured, amount=1, n=2)),
            raised(lambda: p.custom_from_mask(m[0], "bias", lib.ones(3))))


@program
def a_method_of_ones_own(lib: Any) -> Any:
    p = lib.nn.utils.prune

    class EveryOther(p.BasePruningMethod):
        PRUNING_TYPE = "unstructured"

        def compute_mask(self, t: Any, default_mask: Any) -> Any:
            mask = default_mask.clone()
            mask.view(-1)[::2] = 0
            return mask

    m = linear(lib, 2, 3)
    EveryOther.apply(m, "weight")
    first = m.weight.clone()
    EveryOther.apply(m, "weight")
    return first, m.weight, len(next(iter(m._forward_pre_hooks.values())))


# -- clipping ---------------------------------------------------------------------------------------------------------


@program
def clipped_gradients(lib: Any) -> Any:
    u, found = lib.nn.utils, []
    for kind in (1, 2.0, 3, 0, float("inf"), -float("inf"), 0.5):
        m = linear(lib, 3, 2)
        (m(lib.ones(2, 3).double()) ** 3).sum().backward()
        found += [u.get_total_norm([p.grad for p in m.parameters()], kind), u.clip_grad_norm_(m.parameters(), 0.7, kind),
                  [p.grad for p in m.parameters()]]
    m = linear(lib, 3, 2)
    found.append(u.clip_grad_norm_(m.parameters(), 1.0))
    m(lib.ones(2, 3).double()).sum().backward()
    u.clip_grads_with_norm_(m.parameters(), 1.0, lib.tensor(4.0).double(), foreach=False)
    found += [m.weight.grad, u.clip_grad_value_(m.weight, 0.1), m.weight.grad]
    m.bias.grad.fill_(float("nan"))
    vector = u.parameters_to_vector(m.parameters())
    u.vector_to_parameters(vector * 2, m.parameters())
    return [*found, raised(lambda: u.clip_grad_norm_(m.parameters(), 1.0, error_if_nonfinite=True)), vector, m.weight,
            raised(lambda: u.vector_to_parameters([1.0], m.parameters())),
            raised(lambda: u.skip_init(dict)), list(u.skip_init(lib.nn.Linear, 3, 2).weight.shape)]


@torched
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore:No device id")
@pytest.mark.parametrize("run", PROGRAMS, ids=[p.__name__ for p in PROGRAMS])
def test_a_program_gives_what_it_gives_in_pytorch(run: Program) -> None:
    import torch
    import torch.nn.utils.prune

    expected = plain(run(torch))
    assert plain(run(fb)) == expected


# -- compiled ---------------------------------------------------------------------------------------------------------

MADE: list[Callable[[], Any]] = [
    lambda: nn.utils.parametrize.register_parametrization(linear(fb, 3, 3), "weight", symmetric(fb)),
    lambda: nn.utils.parametrize.register_parametrization(linear(fb, 3, 2), "weight", rank_one(fb)),
    lambda: nn.utils.parametrizations.weight_norm(linear(fb, 3, 2)),
    lambda: nn.utils.weight_norm(linear(fb, 3, 2), dim=None),
    lambda: nn.utils.parametrizations.spectral_norm(linear(fb, 3, 2)), lambda: nn.utils.spectral_norm(linear(fb, 3, 2)),
    lambda: nn.utils.parametrizations.orthogonal(linear(fb, 3, 3), orthogonal_map="cayley"),
    lambda: nn.utils.prune.l1_unstructured(linear(fb, 3, 2), "weight", 2)]


@pytest.mark.parametrize("number", range(len(MADE)))
def test_computed_weights_in_a_compiled_step(number: int) -> None:
    fb.manual_seed(0)
    made = MADE[number]()
    eager, other = copy.deepcopy(made), pickle.loads(pickle.dumps(made)) if number > 1 else copy.deepcopy(made)
    expected, found = trained(fb, eager, 4, 3), trained(fb, other, 4, 3, wrap=fb.compile)
    for a, b in zip([*found[0], *found[1].values()], [*expected[0], *expected[1].values()], strict=True):
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-9, atol=1e-11)


def test_a_compiled_function_notices_what_a_weight_is_computed_by() -> None:
    m = linear(fb, 2, 2)
    x, before = fb.ones(1, 2).double(), m.weight.detach().clone()
    compiled = fb.compile(lambda x: m(x) - m.bias)
    for factor in (1, 2, 4):
        np.testing.assert_allclose(compiled(x).detach().numpy(), (x @ (before * factor).mT).numpy(), rtol=1e-12)
        if factor < 4:
            nn.utils.parametrize.register_parametrization(m, "weight", nn.Identity())
            m.parametrizations.weight[-1] = doubled(fb)
    nn.utils.parametrize.remove_parametrizations(m, "weight", leave_parametrized=False)
    np.testing.assert_allclose(compiled(x).detach().numpy(), (x @ before.mT).numpy(), rtol=1e-12)
    nn.utils.prune.custom_from_mask(m, "weight", fb.zeros(2, 2))
    assert compiled(x).detach().tolist() == [[0.0, 0.0]]


def test_clipping_in_a_compiled_step() -> None:
    def run(wrap: Any) -> Any:
        m = linear(fb, 3, 2)
        optimizer = optim.SGD(m.parameters(), lr=0.1)

        @wrap
        def step(x: Any) -> Any:
            optimizer.zero_grad()
            (m(x) ** 2).sum().backward()
            norm = nn.utils.clip_grad_norm_(m.parameters(), 0.5)
            nn.utils.clip_grad_value_(m.parameters(), 0.2)
            optimizer.step()
            return norm

        return [*[step(fb.ones(2, 3).double()).item() for _ in range(3)], *sum(plain(m.weight), []), *plain(m.bias)]

    assert run(fb.compile) == pytest.approx(run(lambda f: f))
    m = linear(fb, 3, 2)
    m(fb.ones(1, 3).double()).sum().backward()
    with pytest.raises(TraceError, match="error_if_nonfinite"):
        fb.compile(lambda: nn.utils.clip_grad_norm_(m.parameters(), 1.0, error_if_nonfinite=True))()


def test_modules_as_functions_of_their_parameters() -> None:
    m = nn.utils.parametrizations.weight_norm(linear(fb, 2, 2))
    given = {key: value * 2 for key, value in m.state_dict().items()}
    x = fb.ones(1, 2).double()
    for run in (lambda given: nn.utils.stateless.functional_call(m, given, x),
                fb.compile(lambda given: nn.utils.stateless.functional_call(m, given, (x,)))):
        np.testing.assert_allclose(run(given).detach().numpy(), 2 * m(x).detach().numpy(), rtol=1e-12)


def test_attributes_of_parameters_are_guarded_but_not_at_each_call():
    layer, x = nn.Linear(2, 2), fb.ones(2, 2)
    layer.weight.scale = 2.0
    compiled = fb.compile(lambda x: layer(x) * getattr(layer.weight, "scale", 7.0))
    changes = (lambda: None, lambda: setattr(layer.weight, "scale", 3.0), lambda: delattr(layer.weight, "scale"),
               lambda: setattr(layer.weight, "scale", fb.tensor(4.0)))
    with fb.no_grad():
        for change in changes:
            change()
            for _ in range(2):
                assert fb.allclose(compiled(x), layer(x) * getattr(layer.weight, "scale", 7.0))
    assert not any(isinstance(node.object, fb.Tensor) for entry in compiled._entries for node in entry.guards._volatile)
