"""Modules: trees of parameters with PyTorch's names, defaults and state_dict keys."""
from flambeau.frontend.functions.calls import constructors
from flambeau.frontend.nn.activations import (
    ELU,
    GELU,
    Hardtanh,
    LeakyReLU,
    LogSoftmax,
    ReLU,
    ReLU6,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
)
from flambeau.frontend.nn.attention import MultiheadAttention
from flambeau.frontend.nn.batchnorm import BatchNorm1d, BatchNorm2d
from flambeau.frontend.nn.containers import ModuleDict, ModuleList, ParameterList, Sequential
from flambeau.frontend.nn.conv import Conv1d, Conv2d
from flambeau.frontend.nn.dropout import Dropout
from flambeau.frontend.nn.embedding import Embedding
from flambeau.frontend.nn.linear import Flatten, Identity, Linear, Unflatten
from flambeau.frontend.nn.losses import (
    BCELoss,
    BCEWithLogitsLoss,
    CrossEntropyLoss,
    KLDivLoss,
    L1Loss,
    MSELoss,
    NLLLoss,
    SmoothL1Loss,
)
from flambeau.frontend.nn.module import Module
from flambeau.frontend.nn.normalization import GroupNorm, LayerNorm, RMSNorm
from flambeau.frontend.nn.parameter import Parameter
from flambeau.frontend.nn.pooling import AdaptiveAvgPool2d, AvgPool2d, MaxPool2d

__all__ = [
    "ELU", "GELU", "AdaptiveAvgPool2d", "AvgPool2d", "BCELoss", "BCEWithLogitsLoss", "BatchNorm1d",
    "BatchNorm2d", "Conv1d", "Conv2d", "CrossEntropyLoss", "Dropout", "Embedding", "Flatten", "GroupNorm",
    "Hardtanh", "Identity", "KLDivLoss", "L1Loss", "LayerNorm", "LeakyReLU", "Linear", "LogSoftmax", "MSELoss",
    "MaxPool2d", "Module", "ModuleDict", "ModuleList", "MultiheadAttention", "NLLLoss", "Parameter",
    "ParameterList", "RMSNorm", "ReLU", "ReLU6", "Sequential", "SiLU", "Sigmoid", "SmoothL1Loss", "Softmax",
    "Softplus", "Tanh", "Unflatten",
]
constructors(globals(), [name for name in __all__ if name not in ("Module", "Parameter")])
