"""The operations users call, in PyTorch's names, by subject. Each ends in `dispatch`."""
from flambeau.frontend.functions.activations import *  # noqa: F403
from flambeau.frontend.functions.arithmetic import *  # noqa: F403
from flambeau.frontend.functions.attention import *  # noqa: F403
from flambeau.frontend.functions.coerce import broadcast_shapes, result_type
from flambeau.frontend.functions.comparison import *  # noqa: F403
from flambeau.frontend.functions.compound_products import *  # noqa: F403
from flambeau.frontend.functions.convolution import *  # noqa: F403
from flambeau.frontend.functions.counting_distributions import *  # noqa: F403
from flambeau.frontend.functions.creation import *  # noqa: F403
from flambeau.frontend.functions.distributions import *  # noqa: F403
from flambeau.frontend.functions.dtypes import *  # noqa: F403
from flambeau.frontend.functions.elementwise import *  # noqa: F403
from flambeau.frontend.functions.indexing import *  # noqa: F403
from flambeau.frontend.functions.indexing import one_hot
from flambeau.frontend.functions.linear_algebra import *  # noqa: F403
from flambeau.frontend.functions.losses import *  # noqa: F403
from flambeau.frontend.functions.noise import *  # noqa: F403
from flambeau.frontend.functions.normalization import *  # noqa: F403
from flambeau.frontend.functions.padding import *  # noqa: F403
from flambeau.frontend.functions.pointwise import *  # noqa: F403
from flambeau.frontend.functions.products import *  # noqa: F403
from flambeau.frontend.functions.products import linear
from flambeau.frontend.functions.reductions import *  # type: ignore[assignment]  # noqa: F403
from flambeau.frontend.functions.running import *  # noqa: F403
from flambeau.frontend.functions.scattering import *  # noqa: F403
from flambeau.frontend.functions.searching import *  # noqa: F403
from flambeau.frontend.functions.sorting import *  # noqa: F403
from flambeau.frontend.functions.special_functions import *  # noqa: F403
from flambeau.frontend.functions.stacking import *  # noqa: F403
from flambeau.frontend.functions.statistics import *  # noqa: F403
from flambeau.frontend.functions.views import *  # noqa: F403
from flambeau.frontend.functions.window_functions import *  # noqa: F403
