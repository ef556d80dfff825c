"""One step of a recurrent layer as a module: RNNCell, LSTMCell, GRUCell."""
from __future__ import annotations

import math
from typing import Any

from flambeau.frontend.functions.creation import zeros
from flambeau.frontend.functions.recurrent import gru_cell, lstm_cell, rnn_relu_cell, rnn_tanh_cell
from flambeau.frontend.nn.init import uniform_
from flambeau.frontend.nn.module import Module
from flambeau.frontend.nn.parameter import Parameter, empty_parameter
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir.dtypes import DType


class RNNCellBase(Module):
    """weight_ih [chunks * hidden, in], weight_hh [chunks * hidden, hidden], bias_ih and bias_hh or None."""

    bias_ih: Parameter | None
    bias_hh: Parameter | None

    def __init__(self, input_size: int, hidden_size: int, bias: bool, num_chunks: int, device: Any = None,
                 dtype: DType | None = None):
        super().__init__()
        self.input_size, self.hidden_size, self.bias = input_size, hidden_size, bias
        rows = num_chunks * hidden_size
        self.weight_ih = empty_parameter((rows, input_size), dtype, device)
        self.weight_hh = empty_parameter((rows, hidden_size), dtype, device)
        self.register_parameter("bias_ih", empty_parameter((rows,), dtype, device) if bias else None)
        self.register_parameter("bias_hh", empty_parameter((rows,), dtype, device) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all parameters anew, uniform within 1 / sqrt(hidden_size)."""
        bound = 1.0 / math.sqrt(self.hidden_size) if self.hidden_size > 0 else 0
        for weight in self.parameters():
            uniform_(weight, -bound, bound)

    def _weights(self) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        return self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh

    def _check(self, x: Tensor, what: str) -> None:
        if x.ndim not in (1, 2):
            raise ValueError(f"{self._get_name()}: Expected {what} to be 1D or 2D, got {x.ndim}D instead")

    def _zeros(self, input: Tensor) -> Tensor:
        return zeros((*input.shape[:-1], self.hidden_size), dtype=input.dtype, device=input.device)

    def extra_repr(self) -> str:
        said = [f"{self.input_size}, {self.hidden_size}"]
        said += [] if self.bias else [f"bias={self.bias}"]
        nonlinearity = self.__dict__.get("nonlinearity", "tanh")
        return ", ".join(said if nonlinearity == "tanh" else [*said, f"nonlinearity={nonlinearity}"])


class RNNCell(RNNCellBase):
    """tanh(w_ih x + b_ih + w_hh h + b_hh), or relu: [batch, in], [batch, hidden] -> [batch, hidden], or without batch."""

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, nonlinearity: str = "tanh",
                 device: Any = None, dtype: DType | None = None):
        super().__init__(input_size, hidden_size, bias, 1, device, dtype)
        self.nonlinearity = nonlinearity

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        self._check(input, "input")
        if hx is not None:
            self._check(hx, "hidden")
        if self.nonlinearity not in ("tanh", "relu"):
            raise RuntimeError(f"Unknown nonlinearity: {self.nonlinearity}")
        function = rnn_tanh_cell if self.nonlinearity == "tanh" else rnn_relu_cell
        return _in_batches(lambda x, h: function(x, h, *self._weights()), input, self._zeros(input) if hx is None else hx)


class LSTMCell(RNNCellBase):
    """One step of LSTM: [batch, in], (h, c) each [batch, hidden] -> the new (h, c); all without the batch as well."""

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None,
                 dtype: DType | None = None):
        super().__init__(input_size, hidden_size, bias, 4, device, dtype)

    def forward(self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        self._check(input, "input")
        if isinstance(hx, Tensor) or hx is not None and len(hx) != 2:
            raise TypeError(f"LSTMCell: hx takes (h, c), two tensors, got "
                            f"{'one' if isinstance(hx, Tensor) else len(hx)}")
        for number, state in enumerate(hx or ()):
            self._check(state, f"hx[{number}]")
        h, c = (self._zeros(input), self._zeros(input)) if hx is None else hx
        found: tuple[Tensor, Tensor] = _in_batches(lambda x, h, c: lstm_cell(x, (h, c), *self._weights()), input, h, c)
        return found


class GRUCell(RNNCellBase):
    """One step of GRU: [batch, in], [batch, hidden] -> [batch, hidden], or without the batch."""

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None,
                 dtype: DType | None = None):
        super().__init__(input_size, hidden_size, bias, 3, device, dtype)

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        self._check(input, "input")
        if hx is not None:
            self._check(hx, "hidden")
        return _in_batches(lambda x, h: gru_cell(x, h, *self._weights()), input, self._zeros(input) if hx is None else hx)


def _in_batches(step: Any, input: Tensor, *state: Tensor) -> Any:
    """A step of [batch, *] tensors; those without a batch are a batch of one."""
    if input.ndim == 2:
        return step(input, *[s if s.ndim == 2 else s.unsqueeze(0) for s in state])
    found = step(*[t if t.ndim == 2 else t.unsqueeze(0) for t in (input, *state)])
    return tuple([t.squeeze(0) for t in found]) if isinstance(found, tuple) else found.squeeze(0)


__all__ = ["GRUCell", "LSTMCell", "RNNCell", "RNNCellBase"]
