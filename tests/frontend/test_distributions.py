"""fb.distributions against torch.distributions, against the laws they claim to follow, and compiled against eager."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import flambeau as fb
import flambeau.distributions as fd
from flambeau.frontend.distributions.gamma_sampling import PROPOSALS, log_derivative
from flambeau.nn import functional as F

td = pytest.importorskip("torch.distributions")
torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch
R = np.random.default_rng(0)


def positive(*shape: int) -> np.ndarray:
    return R.uniform(0.3, 4, shape)


def real(*shape: int) -> np.ndarray:
    return R.normal(size=shape)


def chance(*shape: int) -> np.ndarray:
    return R.uniform(0.05, 0.95, shape)


def covariance(n: int, *batch: int) -> np.ndarray:
    a = R.normal(size=(*batch, n, n))
    return a @ a.swapaxes(-1, -2) + np.eye(n)


CASES: list[tuple[str, dict[str, Any]]] = [
    ("Normal", {"loc": real(3), "scale": positive(2, 3)}),
    ("Laplace", {"loc": real(3), "scale": positive(2, 3)}),
    ("Cauchy", {"loc": real(3), "scale": positive(2, 3)}),
    ("StudentT", {"df": positive(3) + 2, "loc": real(3), "scale": positive(2, 3)}),
    ("Uniform", {"low": real(3) - 3, "high": real(2, 3) + 3}),
    ("Exponential", {"rate": positive(2, 3)}),
    ("Gamma", {"concentration": positive(2, 3), "rate": positive(3)}),
    ("Chi2", {"df": positive(2, 3)}),
    ("FisherSnedecor", {"df1": positive(3) + 1, "df2": positive(2, 3) + 4.1}),
    ("Dirichlet", {"concentration": positive(2, 3)}),
    ("Beta", {"concentration1": positive(2, 3), "concentration0": positive(3)}),
    ("Bernoulli", {"probs": chance(2, 3)}),
    ("Bernoulli", {"logits": real(2, 3)}),
    ("Geometric", {"probs": chance(2, 3)}),
    ("Geometric", {"logits": real(2, 3)}),
    ("Binomial", {"total_count": 5, "probs": chance(2, 3)}),
    ("Binomial", {"total_count": 7, "logits": real(2, 3)}),
    ("NegativeBinomial", {"total_count": 5.0, "probs": chance(2, 3)}),
    ("NegativeBinomial", {"total_count": 7.0, "logits": real(2, 3)}),
    ("Poisson", {"rate": positive(2, 3) * 5}),
    ("Categorical", {"probs": chance(2, 4)}),
    ("Categorical", {"logits": real(2, 4)}),
    ("OneHotCategorical", {"probs": chance(2, 4)}),
    ("OneHotCategorical", {"logits": real(4)}),
    ("OneHotCategoricalStraightThrough", {"logits": real(2, 4)}),
    ("Multinomial", {"total_count": 5, "probs": chance(2, 4)}),
    ("Multinomial", {"total_count": 1, "logits": real(4)}),
    ("LogNormal", {"loc": real(3), "scale": positive(2, 3) / 2}),
    ("LogisticNormal", {"loc": real(2, 3), "scale": positive(3)}),
    ("HalfNormal", {"scale": positive(2, 3)}),
    ("HalfCauchy", {"scale": positive(2, 3)}),
    ("Gumbel", {"loc": real(3), "scale": positive(2, 3)}),
    ("Weibull", {"scale": positive(3), "concentration": positive(2, 3)}),
    ("Pareto", {"scale": positive(3), "alpha": positive(2, 3) + 2}),
    ("InverseGamma", {"concentration": positive(2, 3) + 2, "rate": positive(3)}),
    ("Kumaraswamy", {"concentration1": positive(2, 3), "concentration0": positive(3)}),
    ("RelaxedBernoulli", {"temperature": np.array(0.7), "probs": chance(2, 3)}),
    ("RelaxedOneHotCategorical", {"temperature": np.array(0.7), "logits": real(2, 3)}),
    ("ContinuousBernoulli", {"probs": chance(2, 3)}),
    ("ContinuousBernoulli", {"probs": np.array([0.5, 0.4999, 0.3])}),
    ("MultivariateNormal", {"loc": real(3), "covariance_matrix": covariance(3, 2)}),
    ("MultivariateNormal", {"loc": real(2, 3), "precision_matrix": covariance(3)}),
    ("MultivariateNormal", {"loc": real(2, 3), "scale_tril": np.linalg.cholesky(covariance(3))}),
    ("LowRankMultivariateNormal", {"loc": real(2, 4), "cov_factor": real(4, 2), "cov_diag": positive(4)}),
    ("VonMises", {"loc": real(3), "concentration": positive(2, 3)}),
    ("Wishart", {"df": positive(2) + 4, "covariance_matrix": covariance(3, 2)}),
    ("Wishart", {"df": 5.5, "scale_tril": np.linalg.cholesky(covariance(3))}),
    ("LKJCholesky", {"dim": 3, "concentration": positive(2)}),
    ("GeneralizedPareto", {"loc": real(3), "scale": positive(2, 3), "concentration": np.array([0.3, 0.0, -0.2])}),
]
IDS = [f"{name}-{'-'.join(arguments)}" for name, arguments in CASES]
# PyTorch's Bessel functions have 8 digits; its modes of Kumaraswamy are NaN.
LOOSE = {"VonMises": 3e-6, "Multinomial": 1e-6}


def pair_of(name: str, arguments: dict[str, Any], dtype: str = "float64") -> tuple[Any, Any, Any, Any]:
    """The distribution in both libraries, and its leaves."""
    arrays = {k: v for k, v in arguments.items() if isinstance(v, np.ndarray)}
    mine = {k: fb.tensor(v, dtype=getattr(fb, dtype), requires_grad=True) for k, v in arrays.items()}
    theirs = {k: torch.tensor(v, dtype=getattr(torch, dtype), requires_grad=True) for k, v in arrays.items()}
    return getattr(fd, name)(**arguments | mine), mine, getattr(td, name)(**arguments | theirs), theirs


def same(mine: fb.Tensor, theirs: Any, tolerance: float) -> None:
    assert tuple(mine.shape) == tuple(theirs.shape)
    assert mine.dtype.torch_name == str(theirs.dtype).removeprefix("torch.")
    np.testing.assert_allclose(mine.detach().numpy(), theirs.detach().numpy(), rtol=tolerance, atol=tolerance)


def or_missing(function: Any) -> Any:
    try:
        return function()
    except NotImplementedError:
        return None


@pytest.mark.parametrize(("name", "arguments"), CASES, ids=IDS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_facts_of_each_are_pytorchs(name: str, arguments: dict[str, Any], dtype: str) -> None:
    if (name, dtype) == ("GeneralizedPareto", "float64"):
        pytest.skip("PyTorch's takes float32 alone")
    p, leaves, q, their_leaves = pair_of(name, arguments, dtype)
    tolerance = max(LOOSE.get(name, 1e-9), 0 if dtype == "float64" else 5e-4)
    assert (tuple(p.batch_shape), tuple(p.event_shape)) == (tuple(q.batch_shape), tuple(q.event_shape))
    torch.manual_seed(0)
    x = q.sample((5,))
    value, shares = fb.tensor(x.numpy()), torch.tensor(R.uniform(0.1, 0.9, x.shape), dtype=getattr(torch, dtype))
    facts = {fact: (lambda d, fact=fact: getattr(d, fact)) for fact in ("mean", "mode", "variance", "stddev")
             if (name, fact) != ("Kumaraswamy", "mode")}
    facts |= {"entropy": lambda d: d.entropy(), "log_prob": lambda d: d.log_prob(value if d is p else x),
              "cdf": lambda d: d.cdf(value if d is p else x),
              "icdf": lambda d: d.icdf(fb.tensor(shares.numpy()) if d is p else shares),
              "expanded": lambda d: d.expand((6, *d.batch_shape)).log_prob((value if d is p else x)[:1])}
    for fact, asked in facts.items():
        found, expected = or_missing(lambda asked=asked: asked(p)), or_missing(lambda asked=asked: asked(q))
        assert (found is None) == (expected is None), fact
        if expected is None:
            continue
        same(found, expected, tolerance * 5)
        if fact in ("entropy", "log_prob", "icdf") and expected.requires_grad:
            found.sum().backward(retain_graph=True)
            expected.sum().backward(retain_graph=True)
            for key, leaf in their_leaves.items():
                if leaf.grad is not None and leaf.grad.isfinite().all():
                    grad = fb.zeros_like(leaves[key]) if leaves[key].grad is None else leaves[key].grad
                    is_factor = key == "scale_tril"     # what is above the diagonal is not looked at
                    same(grad.tril() if is_factor else grad, leaf.grad.tril() if is_factor else leaf.grad, tolerance * 100)
                leaf.grad = leaves[key].grad = None
    if q.has_enumerate_support:
        for expand in (True, False):
            same(p.enumerate_support(expand), q.enumerate_support(expand), 0)


@pytest.mark.parametrize(("name", "arguments"), CASES, ids=IDS)
def test_draws_have_the_mean_and_variance(name: str, arguments: dict[str, Any]) -> None:
    """Within 6 standard errors of 20,000 draws (of the variance, by its own spread), where both are finite."""
    p, leaves, q, _ = pair_of(name, arguments)
    assert bool(p.has_rsample) == bool(q.has_rsample)
    fb.manual_seed(1)
    n = 20_000
    x = p.sample((n,))
    assert tuple(x.shape) == (n, *q.batch_shape, *q.event_shape)
    assert not x.requires_grad and bool(p.support.check(x).all())
    if name == "VonMises":                  # its variance is of another kind
        x = (x - p.loc).cos()
        mean, spread = 1 - p.variance, x.std(0)
    else:
        mean, variance = or_missing(lambda: p.mean), or_missing(lambda: p.variance)
        if mean is None or variance is None:
            return
        spread = variance.sqrt()
    is_known = (mean.isfinite() & spread.isfinite()).numpy()
    error = ((x.double().mean(0) - mean) / spread.clamp(min=1e-12)).detach().numpy() * math.sqrt(n)
    assert (np.abs(error[is_known]) < 6).all()
    if p.has_rsample:
        p.rsample((3,)).sum().backward()
        assert all(leaf.grad is not None for leaf in leaves.values())


@pytest.mark.parametrize("name", ["Normal", "Laplace", "Cauchy", "Exponential", "Gamma", "HalfNormal", "Gumbel", "Weibull",
                                  "Kumaraswamy", "Beta", "StudentT"])
def test_draws_follow_the_law(name: str) -> None:
    """Kolmogorov and Smirnov: the cumulative probabilities of 4,000 draws are uniform; p of a failure is below 1e-8."""
    arguments = {"Beta": {"concentration1": 0.3, "concentration0": 2.0}, "Gamma": {"concentration": 0.2, "rate": 2.0},
                 "StudentT": {"df": 3.0}}.get(name)
    if arguments is None:
        arguments = dict.fromkeys(next(a for n, a in CASES if n == name), 1.3)
    fb.manual_seed(2)
    d = getattr(fd, name)(**{k: fb.tensor(v, dtype=fb.float64) for k, v in arguments.items()})
    x = np.sort(d.sample((4000,)).numpy())
    stats = pytest.importorskip("scipy.stats") if name in ("Beta", "StudentT") else None
    if stats is not None:
        cdf = stats.beta(0.3, 2.0).cdf(x) if name == "Beta" else stats.t(3.0).cdf(x)
    else:
        theirs = getattr(td, name)(**{k: torch.tensor(v, dtype=torch.float64) for k, v in arguments.items()})
        cdf = theirs.cdf(torch.tensor(x)).numpy()
    places = np.arange(1, 4001) / 4000
    assert np.abs(cdf - places).max() < 3.2 / math.sqrt(4000)


def test_correlations_have_one_variance() -> None:
    """Each correlation of LKJ's law is 2 Beta(b, b) - 1, b = concentration - 1 + dim / 2: its variance is 1 / (2 b + 1)."""
    fb.manual_seed(4)
    factors = fd.LKJCholesky(4, fb.tensor(1.5)).sample((20_000,))
    found = (factors @ factors.mT).var(0).numpy()[np.tril_indices(4, -1)]
    np.testing.assert_allclose(found, 1 / 6, rtol=0.05)


@pytest.mark.parametrize(("name", "arguments"), [("Normal", (0.0, 1.0)), ("Gamma", (2.0, 1.0)), ("Laplace", (0.0, 1.0)),
                                                 ("Poisson", (3.0,)), ("Bernoulli", (0.5,))])
@pytest.mark.parametrize("dtype", [fb.float16, fb.bfloat16])
def test_halves_are_drawn_as_such(name: str, arguments: tuple[float, ...], dtype: Any) -> None:
    d = getattr(fd, name)(*[fb.full((2,), a, dtype=dtype) for a in arguments])
    x = d.sample((0,)), d.sample((3,))
    assert [(t.dtype, tuple(t.shape)) for t in x] == [(dtype, (0, 2)), (dtype, (3, 2))]
    assert d.log_prob(x[1]).dtype is dtype


def test_gamma_gradients_are_the_implicit_ones() -> None:
    """Against PyTorch's own, whose approximations are good to 5e-4."""
    a = np.exp(R.uniform(math.log(1e-3), math.log(1e4), 2000))
    x = torch._standard_gamma(torch.tensor(a))
    expected = torch._standard_gamma_grad(torch.tensor(a), x).numpy()
    found = log_derivative(fb.tensor(a), fb.tensor(np.log(np.maximum(x.numpy(), 1e-300)))).numpy() * x.numpy()
    is_normal = x.numpy() > 1e-280
    np.testing.assert_allclose(found[is_normal], expected[is_normal], rtol=1e-3)
    assert np.median(np.abs(found / expected - 1)[is_normal]) < 1e-6


def test_gamma_proposals_fail_as_rarely_as_they_say() -> None:
    x = np.linspace(-12, 12, 40_001)
    for a in (1.0, 1.5, 4.0, 100.0):
        d = a - 1 / 3
        v = (1 + x / math.sqrt(9 * d)) ** 3
        inside = np.where(v > 0, v, 1.0)
        accepted = (v > 0) * np.minimum(1.0, np.exp(np.minimum(0.0, 0.5 * x * x + d * (1 - v + np.log(inside)))))
        share = np.sum(accepted * np.exp(-0.5 * x * x)) * (x[1] - x[0]) / math.sqrt(2 * math.pi)
        assert (1 - share) ** PROPOSALS < 1.4e-8


KL: dict[str, Any] = {
    "Normal": lambda: {"loc": real(2, 3), "scale": positive(3)},
    "Laplace": lambda: {"loc": real(2, 3), "scale": positive(3)},
    "Cauchy": lambda: {"loc": real(3), "scale": positive(2, 3)}, "Exponential": lambda: {"rate": positive(2, 3)},
    "Uniform": lambda: {"low": R.uniform(-0.5, 0.4, (2, 3)), "high": R.uniform(0.6, 1.5, 3)},
    "Gamma": lambda: {"concentration": positive(2, 3), "rate": positive(3)},
    "Beta": lambda: {"concentration1": positive(2, 3), "concentration0": positive(3)},
    "Dirichlet": lambda: {"concentration": positive(2, 3)}, "Geometric": lambda: {"probs": chance(2, 3)},
    "Bernoulli": lambda: {"probs": np.array([[0, 0.2, 1.0], [0.3, 0.7, 0.5]])},
    "Binomial": lambda: {"total_count": 5, "probs": chance(2, 3)}, "Poisson": lambda: {"rate": positive(2, 3)},
    "Categorical": lambda: {"probs": np.array([[0, 0.5, 0.5], [0.3, 0.3, 0.4]])},
    "OneHotCategorical": lambda: {"logits": real(2, 3)}, "HalfNormal": lambda: {"scale": positive(3)},
    "Gumbel": lambda: {"loc": real(2, 3), "scale": positive(3)}, "ContinuousBernoulli": lambda: {"probs": chance(2, 3)},
    "Pareto": lambda: {"scale": R.uniform(0.1, 0.6, (2, 3)), "alpha": positive(3)},
    "LogNormal": lambda: {"loc": real(2, 3), "scale": positive(3)},
    "MultivariateNormal": lambda: {"loc": real(2, 3), "covariance_matrix": covariance(3, 2)},
    "LowRankMultivariateNormal": lambda: {"loc": real(2, 3), "cov_factor": real(3, 2), "cov_diag": positive(3)},
}


def test_divergences_of_every_pair_are_pytorchs() -> None:
    from torch.distributions.kl import _KL_REGISTRY

    pairs = sorted({(a.__name__, b.__name__) for a, b in _KL_REGISTRY} | {("LogNormal", "LogNormal")})
    assert len([pair for pair in pairs if set(pair) <= set(KL)]) > 80
    for first, second in pairs:
        if first in KL and second in KL:
            p, _, their_p, _ = pair_of(first, KL[first]())
            q, _, their_q, _ = pair_of(second, KL[second]())
            found, expected = fd.kl_divergence(p, q), td.kl_divergence(their_p, their_q)
            np.testing.assert_allclose(found.detach().numpy(), expected.detach().numpy(), rtol=1e-7, atol=1e-9,
                                       err_msg=f"{first} from {second}")
    p, _, their_p, _ = pair_of("Normal", KL["Normal"]())
    q, _, their_q, _ = pair_of("Normal", KL["Normal"]())
    same(fd.kl_divergence(fd.Independent(p, 1), fd.Independent(q, 1)),
         td.kl_divergence(td.Independent(their_p, 1), td.Independent(their_q, 1)), 1e-9)
    with pytest.raises(NotImplementedError, match="Normal from a Poisson"):
        fd.kl_divergence(p, fd.Poisson(1.0))


def test_divergences_can_be_registered() -> None:
    class Mine(fd.Normal):
        pass

    @fd.register_kl(Mine, fd.Normal)
    def _(p: Any, q: Any) -> fb.Tensor:
        return p.loc * 0 + 7

    assert fd.kl_divergence(Mine(0.0, 1.0), Mine(0.0, 1.0)).item() == 7
    assert fd.kl_divergence(fd.Normal(0.0, 1.0), Mine(0.0, 1.0)).item() == 0


TRANSFORMS: list[tuple[str, tuple[Any, ...], tuple[int, ...]]] = [
    ("ExpTransform", (), (3,)), ("SigmoidTransform", (), (3,)), ("TanhTransform", (), (3,)), ("AbsTransform", (), (3,)),
    ("SoftplusTransform", (), (3,)), ("SoftmaxTransform", (), (2, 3)), ("StickBreakingTransform", (), (2, 3)),
    ("LowerCholeskyTransform", (), (2, 3, 3)), ("PositiveDefiniteTransform", (), (2, 3, 3)),
    ("CorrCholeskyTransform", (), (2, 6)), ("AffineTransform", (1.0, -2.0), (3,)),
    ("AffineTransform", (1.0, -2.0, 1), (2, 3)),
    ("ReshapeTransform", ((6,), (2, 3)), (4, 6)),
]


@pytest.mark.parametrize(("name", "arguments", "shape"), TRANSFORMS)
def test_transforms_are_pytorchs(name: str, arguments: Any, shape: tuple[int, ...]) -> None:
    mine, theirs, x = getattr(fd, name)(*arguments), getattr(td, name)(*arguments), real(*shape)
    y, their_y = mine(fb.tensor(x)), theirs(torch.tensor(x))
    same(y, their_y, 1e-10)
    same(mine.inv(y), theirs.inv(their_y), 1e-8)
    assert tuple(mine.forward_shape(shape)) == tuple(theirs.forward_shape(torch.Size(shape)))
    assert tuple(mine.inverse_shape(y.shape)) == tuple(theirs.inverse_shape(their_y.shape))
    assert (mine.domain.event_dim, mine.codomain.event_dim, bool(mine.bijective)) == \
        (theirs.domain.event_dim, theirs.codomain.event_dim, bool(theirs.bijective))
    assert bool(mine.codomain.check(y).all())
    expected = or_missing(lambda: theirs.log_abs_det_jacobian(torch.tensor(x), their_y))
    if expected is not None:
        same(mine.log_abs_det_jacobian(fb.tensor(x), y), expected, 1e-9)


def test_transforms_compose_cat_and_stack() -> None:
    x = real(4, 3)

    def both(library: Any, tensor: Any) -> list[Any]:
        t = library.ComposeTransform([library.AffineTransform(0.5, 2.0), library.TanhTransform(),
                                      library.StickBreakingTransform()])
        c = library.CatTransform([library.ExpTransform(), library.TanhTransform()], dim=-1, lengths=[1, 2])
        s = library.StackTransform([library.ExpTransform(), library.TanhTransform(), library.SigmoidTransform()], -1)
        found = []
        for each in (t, c, s):
            y = each(tensor)
            found += [y, each.inv(y), each.log_abs_det_jacobian(tensor, y)]
        d = library.TransformedDistribution(library.Normal(tensor * 0, tensor * 0 + 1), [library.TanhTransform(1)])
        return [*found, d.log_prob(tensor.tanh() * 0.9), d.cdf(tensor.tanh() * 0.9)]

    for mine, theirs in zip(both(fd, fb.tensor(x)), both(td, torch.tensor(x)), strict=True):
        same(mine, theirs, 1e-8)


@pytest.mark.parametrize("constraint", ["real", "positive", "nonnegative", "unit_interval", "simplex", "lower_cholesky",
                                        "corr_cholesky", "positive_definite", "real_vector"])
def test_constraints_have_transforms_onto_them(constraint: str) -> None:
    wanted = getattr(fd.constraints, constraint)
    x = fb.tensor(real(3, 3))
    assert bool(wanted.check(fd.transform_to(wanted)(x)).all())
    expected = or_missing(lambda: td.biject_to(getattr(td.constraints, constraint)))
    assert (or_missing(lambda: fd.biject_to(wanted)) is None) == (expected is None)


def test_mixtures_are_pytorchs() -> None:
    weights, loc, scale = chance(2, 3), real(2, 3), positive(2, 3)

    def mixture(library: Any, tensor: Any) -> Any:
        return library.MixtureSameFamily(library.Categorical(tensor(weights)), library.Normal(tensor(loc), tensor(scale)))

    mine, theirs, x = mixture(fd, fb.tensor), mixture(td, torch.tensor), real(5, 2)
    for fact in ("mean", "variance"):
        same(getattr(mine, fact), getattr(theirs, fact), 1e-9)
    same(mine.log_prob(fb.tensor(x)), theirs.log_prob(torch.tensor(x)), 1e-9)
    same(mine.cdf(fb.tensor(x)), theirs.cdf(torch.tensor(x)), 1e-9)
    fb.manual_seed(0)
    error = (mine.sample((20_000,)).mean(0) - mine.mean) / mine.stddev * math.sqrt(20_000)
    assert float(error.abs().max()) < 6


@pytest.mark.parametrize(("make", "message"), [
    (lambda: fd.Normal(0.0, -1.0), "scale"), (lambda: fd.Bernoulli(1.5), "probs"), (lambda: fd.Uniform(1.0, 0.0), "low"),
    (lambda: fd.Bernoulli(0.5, logits=0.1), "exactly one"), (lambda: fd.Gamma(0.0, 1.0), "concentration"),
    (lambda: fd.Normal(0.0, 1.0).log_prob(1.0), "Tensor"), (lambda: fd.Beta(1.0, 1.0).log_prob(fb.tensor(2.0)), "support"),
    (lambda: fd.Categorical(fb.ones(3)).log_prob(fb.tensor(3)), "support"),
    (lambda: fd.Normal(fb.zeros(3), 1.0).log_prob(fb.zeros(2)), "broadcast"),
    (lambda: fd.MultivariateNormal(fb.zeros(2), -fb.eye(2)), "covariance_matrix"),
])
def test_bad_arguments_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_nothing_is_looked_at_when_told_so() -> None:
    assert fd.Normal(0.0, -1.0, validate_args=False).scale.item() == -1
    fd.Distribution.set_default_validate_args(False)
    try:
        assert fd.Normal(0.0, -1.0).scale.item() == -1
    finally:
        fd.Distribution.set_default_validate_args(True)


COMPILED = [case for case in CASES if case[0] in {
    "Normal", "StudentT", "Gamma", "Dirichlet", "Bernoulli", "Poisson", "Binomial", "Categorical", "Multinomial", "Gumbel",
    "RelaxedOneHotCategorical", "MultivariateNormal", "VonMises"} and "logits" not in case[1] or case[0][:7] == "Relaxed"]


@pytest.mark.parametrize(("name", "arguments"), COMPILED, ids=[f"{n}-{'-'.join(a)}" for n, a in COMPILED])
def test_compiled_steps_draw_and_differentiate_as_eager_ones(name: str, arguments: dict[str, Any]) -> None:
    given = {k: fb.tensor(v) if isinstance(v, np.ndarray) else v for k, v in arguments.items()}
    tensors = {k: v for k, v in given.items() if isinstance(v, fb.Tensor)}
    value = getattr(fd, name)(**given).sample((2,))

    def step(*leaves: fb.Tensor) -> list[fb.Tensor]:
        leaves = tuple(leaf.detach().requires_grad_() for leaf in leaves)
        d = getattr(fd, name)(**given | dict(zip(tensors, leaves, strict=True)))
        drawn = d.rsample((3,)) if d.has_rsample else d.sample((3,))
        loss = d.log_prob(value).sum() + ((drawn * drawn).sum() if d.has_rsample else 0)
        return [drawn, loss, *fb.autograd.grad(loss, leaves)]

    fb.manual_seed(1)
    eager = step(*tensors.values())
    fb.manual_seed(1)
    for mine, theirs in zip(fb.compile(step)(*tensors.values()), eager, strict=True):
        np.testing.assert_allclose(mine.detach().numpy(), theirs.detach().numpy(), rtol=1e-9, atol=1e-10)


def test_programs_compile_whole() -> None:
    """A VAE's step, with a prior from outside, and an actor's, in one compiled function."""
    fb.manual_seed(0)
    encoder, decoder, actor = fb.nn.Linear(4, 6), fb.nn.Linear(3, 4), fb.nn.Linear(4, 5)
    prior = fd.Independent(fd.Normal(fb.zeros(3), fb.ones(3)), 1)
    opt = fb.optim.SGD([*encoder.parameters(), *decoder.parameters(), *actor.parameters()], lr=0.1)

    def step(x: fb.Tensor) -> tuple[fb.Tensor, fb.Tensor]:
        opt.zero_grad()
        mean, raw = encoder(x).chunk(2, -1)
        posterior = fd.Independent(fd.Normal(mean, F.softplus(raw)), 1)
        z = posterior.rsample()
        image = fd.Independent(fd.Bernoulli(logits=decoder(z)), 1)
        policy = fd.Categorical(logits=actor(x))
        action = policy.sample()
        loss = (fd.kl_divergence(posterior, prior) - image.log_prob((x > 0).float())).mean()
        loss = loss - policy.log_prob(action).mean() - 0.1 * policy.entropy().mean()
        loss.backward()
        opt.step()
        return loss, action

    x = fb.randn(8, 4)
    state = {k: v.clone() for k, v in encoder.state_dict().items()}
    fb.manual_seed(3)
    eager = [step(x) for _ in range(1)]
    weights = [p.clone() for p in encoder.parameters()]
    assert not np.allclose(weights[0].detach().numpy(), state["weight"].numpy())
    compiled = fb.compile(step)
    fb.manual_seed(0)
    for layer, (n, m) in ((encoder, (4, 6)), (decoder, (3, 4)), (actor, (4, 5))):
        layer.load_state_dict(fb.nn.Linear(n, m).state_dict())
    fb.manual_seed(3)
    loss, action = compiled(x)
    np.testing.assert_allclose(loss.item(), eager[0][0].item(), rtol=1e-5)
    assert action.tolist() == eager[0][1].tolist()
    assert all(np.isfinite(compiled(x)[0].item()) for _ in range(3))
    assert len(compiled.signatures) == 1


def test_distributions_are_vmapped_with_their_draws() -> None:
    fb.manual_seed(0)
    drawn = fb.func.vmap(lambda a: fd.Gamma(a, a * 0 + 1).rsample(), randomness="different")(fb.full((6,), 2.0))
    assert len(set(drawn.tolist())) == 6
    grads = fb.func.grad(lambda a: fd.Gamma(a, a * 0 + 1).log_prob(fb.tensor(1.5)))(fb.tensor(2.0))
    assert grads.isfinite().item()


def test_modules_have_the_names_that_programs_import() -> None:
    from flambeau.distributions import constraints, transforms
    from flambeau.distributions.normal import Normal
    from flambeau.distributions.transformed_distribution import TransformedDistribution

    assert Normal is fd.Normal and TransformedDistribution is fd.TransformedDistribution
    assert constraints.positive.check(fb.tensor(1.0)).item() and transforms.ExpTransform is fd.ExpTransform
    assert set(td.__all__) <= set(fd.__all__)
