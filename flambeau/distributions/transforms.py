"""`fb.distributions.transforms`: invertible functions that know their Jacobian's determinant."""
from flambeau.frontend.distributions import elementwise_transforms as _elementwise
from flambeau.frontend.distributions import structured_transforms as _structured
from flambeau.frontend.distributions import transforms as _transforms
from flambeau.frontend.distributions.elementwise_transforms import *  # noqa: F403
from flambeau.frontend.distributions.structured_transforms import *  # noqa: F403
from flambeau.frontend.distributions.transforms import *  # noqa: F403

__all__ = []
__all__ += _elementwise.__all__
__all__ += _transforms.__all__
__all__ += _structured.__all__
