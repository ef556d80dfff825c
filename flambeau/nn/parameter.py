"""Tensors that Modules register: `from flambeau.nn.parameter import Parameter`."""
from flambeau.frontend.nn.parameter import *  # noqa: F403
from flambeau.frontend.nn.parameter import __all__ as __all__
from flambeau.frontend.nn.uninitialized import UninitializedBuffer as UninitializedBuffer
from flambeau.frontend.nn.uninitialized import UninitializedParameter as UninitializedParameter
from flambeau.frontend.nn.uninitialized import UninitializedTensorMixin as UninitializedTensorMixin
from flambeau.frontend.nn.uninitialized import is_lazy as is_lazy
