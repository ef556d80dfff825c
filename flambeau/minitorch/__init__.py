"""MiniTorch's names over our tensors, file by file: `import flambeau.minitorch as minitorch` runs a program of the course.

docs/minitorch.md says what each name is in Flambeau's own terms."""
from flambeau.minitorch import operators, scalar_functions
from flambeau.minitorch.autodiff import *  # noqa: F403
from flambeau.minitorch.cuda_ops import *  # noqa: F403
from flambeau.minitorch.datasets import datasets
from flambeau.minitorch.fast_conv import *  # noqa: F403
from flambeau.minitorch.fast_ops import *  # noqa: F403
from flambeau.minitorch.module import *  # noqa: F403
from flambeau.minitorch.nn import *  # noqa: F403
from flambeau.minitorch.operators import prod
from flambeau.minitorch.optim import *  # noqa: F403
from flambeau.minitorch.scalar import *  # noqa: F403
from flambeau.minitorch.scalar_functions import ScalarFunction
from flambeau.minitorch.tensor import *  # noqa: F403
from flambeau.minitorch.tensor_data import *  # noqa: F403
from flambeau.minitorch.tensor_functions import *  # noqa: F403
from flambeau.minitorch.tensor_ops import *  # noqa: F403
from flambeau.minitorch.testing import *  # noqa: F403

version = "0.4"
