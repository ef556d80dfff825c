"""Recurrent layers over whole sequences: RNN, LSTM, GRU, with PyTorch's parameter names and layouts."""
from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from typing import Any

from flambeau.frontend.functions.creation import zeros
from flambeau.frontend.functions.recurrent import MODES, Weights, run, run_layers
from flambeau.frontend.nn.init import uniform_
from flambeau.frontend.nn.module import Module
from flambeau.frontend.nn.parameter import Parameter, empty_parameter
from flambeau.frontend.nn.sequences import PackedSequence, packed_sizes
from flambeau.frontend.tape.autograd import grad_mode
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir.dtypes import DType
from flambeau.warned import warn


class RNNBase(Module):
    """What RNN, LSTM and GRU share: stacked layers, each in one direction or both.

    Layer n has weight_ih_l{n} [gates * hidden, in], weight_hh_l{n} [gates * hidden, out], bias_ih_l{n} and bias_hh_l{n},
    weight_hr_l{n} [proj, hidden] with a projection, and the same with `_reverse` for the other direction."""

    def __init__(self, mode: str, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True,
                 batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False, proj_size: int = 0,
                 device: Any = None, dtype: DType | None = None):
        super().__init__()
        _check_sizes(input_size, hidden_size, num_layers, bias, batch_first, dropout, proj_size)
        if mode not in MODES:
            raise ValueError(f"Unrecognized RNN mode: {mode}")
        self.mode, self.input_size, self.hidden_size, self.num_layers = mode, input_size, hidden_size, num_layers
        self.bias, self.batch_first, self.dropout = bias, batch_first, float(dropout)
        self.bidirectional, self.proj_size = bidirectional, proj_size
        gates, out = MODES[mode].gates * hidden_size, proj_size or hidden_size
        self._all_weights: list[list[str]] = []
        for layer in range(num_layers):
            width = input_size if not layer else out * (1 + bidirectional)
            for end in ("", "_reverse")[:1 + bidirectional]:
                shapes: dict[str, tuple[int, ...]] = {"weight_ih": (gates, width), "weight_hh": (gates, out)}
                if bias:
                    shapes |= {"bias_ih": (gates,), "bias_hh": (gates,)}
                if proj_size:
                    shapes["weight_hr"] = (proj_size, hidden_size)
                for name, shape in shapes.items():
                    self.register_parameter(f"{name}_l{layer}{end}", empty_parameter(shape, dtype, device))
                self._all_weights.append([f"{name}_l{layer}{end}" for name in shapes])
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all parameters anew, uniform within 1 / sqrt(hidden_size)."""
        bound = 1.0 / math.sqrt(self.hidden_size)
        for weight in self.parameters():
            uniform_(weight, -bound, bound)

    def flatten_parameters(self) -> None:
        """Nothing: parameters need not lie beside each other here."""

    @property
    def all_weights(self) -> list[list[Parameter]]:
        """The parameters of each layer and direction."""
        return [[getattr(self, name) for name in names] for names in self._all_weights]

    @property
    def _flat_weights_names(self) -> list[str]:
        return [name for names in self._all_weights for name in names]

    @property
    def _flat_weights(self) -> list[Parameter]:
        return [getattr(self, name) for name in self._flat_weights_names]

    def _weights(self) -> list[Weights]:
        """Of each layer and direction, as the functions take them."""
        found = []
        for names in self._all_weights:
            ih, hh, *rest = [getattr(self, name) for name in names]
            bias_ih, bias_hh = rest[:2] if self.bias else (None, None)
            found.append(Weights(ih, hh, bias_ih, bias_hh, rest[-1] if self.proj_size else None))
        return found

    # -- checks -----------------------------------------------------------------------------------------------------

    def check_input(self, input: Tensor, batch_sizes: Any = None) -> None:
        """Raises ValueError for another dtype than the weights', RuntimeError for dims that don't fit."""
        weight = self._flat_weights[0]
        if input.dtype is not weight.dtype and grad_mode.casting is None:
            raise ValueError(f"RNN input dtype ({input.dtype}) does not match weight dtype ({weight.dtype}). Convert "
                             f"input: input.to({weight.dtype}), or convert model: model.to({input.dtype})")
        dims = 3 if batch_sizes is None else 2
        if input.ndim != dims:
            raise RuntimeError(f"input must have {dims} dimensions, got {input.ndim}")
        if input.shape[-1] != self.input_size:
            raise RuntimeError(f"input.size(-1) must be equal to input_size. Expected {self.input_size}, got "
                               f"{input.shape[-1]}")

    def _batch(self, input: Tensor, batch_sizes: Any) -> int:
        return int(batch_sizes[0]) if batch_sizes is not None else input.shape[0 if self.batch_first else 1]

    def get_expected_hidden_size(self, input: Tensor, batch_sizes: Any = None) -> tuple[int, int, int]:
        """The shape of the hidden state for this input."""
        return (self.num_layers * (1 + self.bidirectional), self._batch(input, batch_sizes),
                self.proj_size or self.hidden_size)

    def get_expected_cell_size(self, input: Tensor, batch_sizes: Any = None) -> tuple[int, int, int]:
        """The shape of an LSTM's cell state for this input."""
        return (*self.get_expected_hidden_size(input, batch_sizes)[:2], self.hidden_size)

    def check_hidden_size(self, hx: Tensor, expected_hidden_size: tuple[int, int, int],
                          msg: str = "Expected hidden size {}, got {}") -> None:
        """Raises RuntimeError for another shape."""
        if tuple(hx.shape) != tuple(expected_hidden_size):
            raise RuntimeError(msg.format(expected_hidden_size, list(hx.shape)))

    def check_forward_args(self, input: Tensor, hidden: Any, batch_sizes: Any = None) -> None:
        """check_input, and the shape of the state."""
        self.check_input(input, batch_sizes)
        shape = self.get_expected_hidden_size(input, batch_sizes)
        if not isinstance(hidden, (tuple, list)):
            self.check_hidden_size(hidden, shape)
            return
        self.check_hidden_size(hidden[0], shape, "Expected hidden[0] size {}, got {}")
        self.check_hidden_size(hidden[1], self.get_expected_cell_size(input, batch_sizes),
                               "Expected hidden[1] size {}, got {}")

    def permute_hidden(self, hx: Any, permutation: Tensor | None) -> Any:
        """The state with its sequences in another order."""
        if permutation is None:
            return hx
        return tuple([s.index_select(1, permutation) for s in hx]) if isinstance(hx, (tuple, list)) else \
            hx.index_select(1, permutation)

    # -- forward ----------------------------------------------------------------------------------------------------

    def forward(self, input: Any, hx: Any = None) -> Any:
        """input: [time, batch, in], [batch, time, in] with batch_first, [time, in] without a batch, or a PackedSequence.
        hx: the state at the start, zeros by default. Gives (output, the state at the end)."""
        if isinstance(input, PackedSequence):
            return self._forward_packed(input, hx)
        if input.ndim not in (2, 3):
            name = "RNN" if self.mode.startswith("RNN") else self.mode
            raise ValueError(f"{name}: Expected input to be 2D or 3D, got {input.ndim}D tensor instead")
        is_batched = input.ndim == 3
        self._check_ranks(hx, is_batched)
        if not is_batched:
            input = input.unsqueeze(0 if self.batch_first else 1)
            hx = None if hx is None else self._each(hx, lambda s: s.unsqueeze(1))
        state = self._start(hx, input, None)
        output, last = run(MODES[self.mode], input, state, self._weights(), self.dropout, self.training,
                           self.bidirectional, self.batch_first)
        if not is_batched:
            output, last = output.squeeze(0 if self.batch_first else 1), tuple([s.squeeze(1) for s in last])
        return output, last if self.mode == "LSTM" else last[0]

    def _forward_packed(self, packed: PackedSequence, hx: Any) -> tuple[PackedSequence, Any]:
        sizes = packed_sizes(packed)
        hx = None if hx is None else self.permute_hidden(hx, packed.sorted_indices)
        state = self._start(hx, packed.data, sizes)
        output, last = run_layers(MODES[self.mode], packed.data, sizes, state, self._weights(), self.dropout,
                                  self.training, self.bidirectional)
        last = self.permute_hidden(last, packed.unsorted_indices)
        return packed._with(output), last if self.mode == "LSTM" else last[0]

    def _start(self, hx: Any, input: Tensor, sizes: Sequence[int] | None) -> tuple[Tensor, ...]:
        """The state to start from, checked."""
        if hx is None:
            self.check_input(input, sizes)
            shapes = [self.get_expected_hidden_size(input, sizes), self.get_expected_cell_size(input, sizes)]
            return tuple([zeros(shape, dtype=input.dtype, device=input.device)
                          for shape in shapes[:MODES[self.mode].states]])
        self.check_forward_args(input, hx, sizes)
        return tuple(hx) if isinstance(hx, (tuple, list)) else (hx,)

    def _check_ranks(self, hx: Any, is_batched: bool) -> None:
        if hx is None:
            return
        given = hx if isinstance(hx, (tuple, list)) else (hx,)
        if self.mode == "LSTM" and len(given) != 2:
            raise RuntimeError("LSTM: hx must be a pair of tensors, the hidden and the cell state")
        if any(s.ndim != 2 + is_batched for s in given):
            ranks = [s.ndim for s in given]
            what = "hx and cx should" if self.mode == "LSTM" else "hx should"
            raise RuntimeError(f"For {'batched 3-D' if is_batched else 'unbatched 2-D'} input, {what} also be "
                               f"{2 + is_batched}-D but got {tuple(ranks) if len(ranks) > 1 else ranks[0]}-D tensors")

    @staticmethod
    def _each(hx: Any, function: Any) -> Any:
        return tuple([function(s) for s in hx]) if isinstance(hx, (tuple, list)) else function(hx)

    def extra_repr(self) -> str:
        said = [f"{self.input_size}, {self.hidden_size}"]
        defaults = {"proj_size": 0, "num_layers": 1, "bias": True, "batch_first": False, "dropout": 0,
                    "bidirectional": False}
        said += [f"{name}={getattr(self, name)}" for name, usual in defaults.items() if getattr(self, name) != usual]
        return ", ".join(said)


def _check_sizes(input_size: Any, hidden_size: Any, num_layers: Any, bias: Any, batch_first: Any, dropout: Any,
                 proj_size: int) -> None:
    if not isinstance(dropout, numbers.Number) or not 0 <= dropout <= 1 or isinstance(dropout, bool):  # type: ignore[operator]
        raise ValueError(f"dropout should be a number in range [0, 1], the probability of an element to be zeroed, got "
                         f"{dropout!r}")
    if dropout > 0 and num_layers == 1:  # type: ignore[operator]
        warn("FB004", "dropout acts after all but the last recurrent layer, so non-zero dropout expects num_layers greater "
                      f"than 1, but got dropout={dropout} and num_layers={num_layers}", stacklevel=4)
    for name, value, kind in (("bias", bias, bool), ("batch_first", batch_first, bool), ("input_size", input_size, int),
                              ("hidden_size", hidden_size, int)):
        if not isinstance(value, kind):
            raise TypeError(f"{name} should be of type {kind.__name__}, got: {type(value).__name__}")
    for name, value in (("input_size", input_size), ("hidden_size", hidden_size), ("num_layers", num_layers)):
        if value <= 0:
            raise ValueError(f"{name} must be greater than zero")
    if proj_size < 0:
        raise ValueError("proj_size should be a positive integer or zero to disable projections")
    if proj_size >= hidden_size:
        raise ValueError("proj_size has to be smaller than hidden_size")


class RNN(RNNBase):
    """h = tanh(w_ih x + b_ih + w_hh h + b_hh) at each step, or relu. nonlinearity: "tanh" or "relu". Elman, 1990."""

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, nonlinearity: str = "tanh",
                 bias: bool = True, batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False,
                 device: Any = None, dtype: DType | None = None, proj_size: int = 0):
        if proj_size:
            raise ValueError("proj_size argument is only supported for LSTM, not RNN or GRU")
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"Unknown nonlinearity '{nonlinearity}'. Select from 'tanh' or 'relu'.")
        super().__init__(f"RNN_{nonlinearity.upper()}", input_size, hidden_size, num_layers, bias, batch_first, dropout,
                         bidirectional, 0, device, dtype)
        self.nonlinearity = nonlinearity


class LSTM(RNNBase):
    """Gates i, f, g, o in this order: c = f c + i g, h = o tanh(c). Gives (output, (h, c)).

    proj_size: h becomes weight_hr h, of that size. Hochreiter and Schmidhuber, 1997."""

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True,
                 batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False, proj_size: int = 0,
                 device: Any = None, dtype: DType | None = None):
        super().__init__("LSTM", input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional,
                         proj_size, device, dtype)


class GRU(RNNBase):
    """Gates r, z, n in this order: n = tanh(w_in x + b_in + r (w_hn h + b_hn)), h = (1 - z) n + z h. Gives (output, h).

    Cho et al., EMNLP 2014."""

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True,
                 batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False, device: Any = None,
                 dtype: DType | None = None, proj_size: int = 0):
        if proj_size:
            raise ValueError("proj_size argument is only supported for LSTM, not RNN or GRU")
        super().__init__("GRU", input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, 0,
                         device, dtype)


__all__ = ["GRU", "LSTM", "RNN", "RNNBase"]
