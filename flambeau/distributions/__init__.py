"""`fb.distributions`: probability distributions, with PyTorch's names. Each class is also in a module of its own name
(`fb.distributions.normal.Normal`), as programs import them."""
import sys
from types import ModuleType

from flambeau.distributions import constraint_registry, constraints, kl, transforms, utils
from flambeau.distributions.transforms import *  # noqa: F403
from flambeau.frontend.distributions import kl_across
from flambeau.frontend.distributions.categorical import (
    Categorical,
    Multinomial,
    OneHotCategorical,
    OneHotCategoricalStraightThrough,
)
from flambeau.frontend.distributions.circular import VonMises
from flambeau.frontend.distributions.compound import Independent, MixtureSameFamily, TransformedDistribution
from flambeau.frontend.distributions.continuous import Cauchy, Laplace, Normal, StudentT, Uniform
from flambeau.frontend.distributions.discrete import Bernoulli, Binomial, Geometric, NegativeBinomial, Poisson
from flambeau.frontend.distributions.distribution import Distribution, ExponentialFamily
from flambeau.frontend.distributions.generalized_pareto import GeneralizedPareto
from flambeau.frontend.distributions.kl import kl_divergence, register_kl
from flambeau.frontend.distributions.matrices import LKJCholesky, Wishart
from flambeau.frontend.distributions.multivariate import LowRankMultivariateNormal, MultivariateNormal
from flambeau.frontend.distributions.positive import Beta, Chi2, Dirichlet, Exponential, FisherSnedecor, Gamma
from flambeau.frontend.distributions.registry import biject_to, transform_to
from flambeau.frontend.distributions.relaxed import (
    ContinuousBernoulli,
    ExpRelaxedCategorical,
    LogitRelaxedBernoulli,
    RelaxedBernoulli,
    RelaxedOneHotCategorical,
)
from flambeau.frontend.distributions.transformed import (
    Gumbel,
    HalfCauchy,
    HalfNormal,
    InverseGamma,
    Kumaraswamy,
    LogisticNormal,
    LogNormal,
    Pareto,
    Weibull,
)

_MODULES: dict[str, list[type]] = {
    "bernoulli": [Bernoulli], "beta": [Beta], "binomial": [Binomial], "categorical": [Categorical], "cauchy": [Cauchy],
    "chi2": [Chi2], "continuous_bernoulli": [ContinuousBernoulli], "dirichlet": [Dirichlet],
    "distribution": [Distribution], "exp_family": [ExponentialFamily], "exponential": [Exponential],
    "fishersnedecor": [FisherSnedecor], "gamma": [Gamma], "geometric": [Geometric], "gumbel": [Gumbel],
    "half_cauchy": [HalfCauchy], "half_normal": [HalfNormal], "independent": [Independent],
    "inverse_gamma": [InverseGamma], "kumaraswamy": [Kumaraswamy], "laplace": [Laplace], "log_normal": [LogNormal],
    "logistic_normal": [LogisticNormal], "lowrank_multivariate_normal": [LowRankMultivariateNormal],
    "mixture_same_family": [MixtureSameFamily], "multinomial": [Multinomial],
    "multivariate_normal": [MultivariateNormal], "negative_binomial": [NegativeBinomial], "normal": [Normal],
    "one_hot_categorical": [OneHotCategorical, OneHotCategoricalStraightThrough], "pareto": [Pareto],
    "poisson": [Poisson], "relaxed_bernoulli": [LogitRelaxedBernoulli, RelaxedBernoulli],
    "relaxed_categorical": [ExpRelaxedCategorical, RelaxedOneHotCategorical], "studentT": [StudentT],
    "transformed_distribution": [TransformedDistribution], "uniform": [Uniform], "von_mises": [VonMises],
    "weibull": [Weibull], "wishart": [Wishart], "lkj_cholesky": [LKJCholesky], "generalized_pareto": [GeneralizedPareto],
}

for _name, _classes in _MODULES.items():
    _module = ModuleType(f"{__name__}.{_name}", f"`fb.distributions.{_name}`.")
    vars(_module).update({kind.__name__: kind for kind in _classes})
    globals()[_name] = sys.modules[_module.__name__] = _module

__all__ = ["biject_to", "kl_divergence", "register_kl", "transform_to"]
__all__ += transforms.__all__
__all__ += [kind.__name__ for classes in _MODULES.values() for kind in classes
            if kind not in (ExpRelaxedCategorical, LogitRelaxedBernoulli)]
