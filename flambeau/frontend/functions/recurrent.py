"""Recurrent layers as functions, with PyTorch's names: `fb.lstm`, `fb.gru`, `fb.rnn_tanh`, `fb.rnn_relu` over whole
sequences, and their cells for one step.

The products with the inputs of all time steps are one product; only what depends on the step before is left to the
loop over time, which Python runs, so that under trace it is unrolled and each step's gates fuse. Where the number of steps
is a size with a name, the loop is a `scan`, which is for all lengths. Sequences of different lengths come packed: row after
row of each time step, `sizes[t]` rows at step t, never more than at the one before.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from flambeau.errors import ShapeError
from flambeau.frontend.functions.activations import relu
from flambeau.frontend.functions.calls import public
from flambeau.frontend.functions.coerce import one_tensor, reshaped, user_line
from flambeau.frontend.functions.elementwise import add, mul, sub
from flambeau.frontend.functions.joining import cat, stack
from flambeau.frontend.functions.loops import scan
from flambeau.frontend.functions.noise import dropout as dropped
from flambeau.frontend.functions.pointwise import sigmoid, tanh
from flambeau.frontend.functions.products import linear
from flambeau.frontend.functions.views import sliced, transpose
from flambeau.frontend.tape.dispatch import dispatch
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import ops
from flambeau.ir.dims import Dim

State = tuple[Tensor, ...]


class Weights(NamedTuple):
    """Of one layer in one direction: [gates, in], [gates, out], biases [gates] or None, and an LSTM's projection
    [proj, hidden] or None."""

    ih: Tensor
    hh: Tensor
    bias_ih: Tensor | None = None
    bias_hh: Tensor | None = None
    hr: Tensor | None = None


# -- one step ---------------------------------------------------------------------------------------------------------


def parts(x: Tensor, sizes: Sequence[int], dim: int = 0) -> tuple[Tensor, ...]:
    """x cut along dim. No views: what flows back is joined, not added up."""
    if len(sizes) == 1:
        return (x,)
    found: tuple[Tensor, ...] = dispatch(ops.Split(dim, tuple(sizes)), x)
    return found


def _gates(x: Tensor, count: int) -> tuple[Tensor, ...]:
    return parts(x, (x._type.static_shape[-1] // count,) * count, x.ndim - 1)


def _lstm_step(given: Tensor, state: State, w: Weights) -> State:
    """given: the input's part of the gates and both biases. Hochreiter and Schmidhuber, 1997; w.hr: Sak et al., 2014."""
    hidden, cell = state
    i, f, g, o = _gates(add(given, linear(hidden, w.hh)), 4)
    cell = add(mul(sigmoid(f), cell), mul(sigmoid(i), tanh(g)))
    hidden = mul(sigmoid(o), tanh(cell))
    return (hidden if w.hr is None else linear(hidden, w.hr)), cell


def _gru_step(given: Tensor, state: State, w: Weights) -> State:
    """given: the input's part of the gates with its bias. Cho et al., 2014; the reset gate acts after the product."""
    (hidden,) = state
    reset, update, new = _gates(given, 3)
    reset_of_hidden, update_of_hidden, new_of_hidden = _gates(linear(hidden, w.hh, w.bias_hh), 3)
    r, z = sigmoid(add(reset, reset_of_hidden)), sigmoid(add(update, update_of_hidden))
    n = tanh(add(new, mul(r, new_of_hidden)))
    return (add(n, mul(z, sub(hidden, n))),)


def _rnn_step(activation: Callable[[Tensor], Tensor]) -> Callable[[Tensor, State, Weights], State]:
    def step(given: Tensor, state: State, w: Weights) -> State:
        return (activation(add(given, linear(state[0], w.hh))),)

    return step


class Mode(NamedTuple):
    """A kind of recurrence: its name in PyTorch, gates, tensors of state, one step, and whether `given` has both biases."""

    name: str
    gates: int
    states: int
    step: Callable[[Tensor, State, Weights], State]
    adds_biases: bool = True

    def given(self, x: Tensor, w: Weights) -> Tensor:
        """The input's part of the gates, of one step or of all."""
        both = self.adds_biases and w.bias_ih is not None and w.bias_hh is not None
        return linear(x, w.ih, add(w.bias_ih, w.bias_hh) if both else w.bias_ih)      # type: ignore[arg-type]


MODES: Final = {"LSTM": Mode("lstm", 4, 2, _lstm_step), "GRU": Mode("gru", 3, 1, _gru_step, adds_biases=False),
                "RNN_TANH": Mode("rnn_tanh", 1, 1, _rnn_step(tanh)), "RNN_RELU": Mode("rnn_relu", 1, 1, _rnn_step(relu))}


# -- all steps --------------------------------------------------------------------------------------------------------


def _forward(mode: Mode, given: Sequence[Tensor], state: State, w: Weights) -> tuple[list[Tensor], State]:
    """Outputs of each step, and the state after each row's last one."""
    outputs, ended = [], []
    for x in given:
        rows = x._type.static_shape[0]
        if rows < (before := state[0]._type.static_shape[0]):
            ended.append(tuple([sliced(s, 0, rows, before) for s in state]))
            state = tuple([sliced(s, 0, 0, rows) for s in state])
        state = mode.step(x, state, w)
        outputs.append(state[0])
    return outputs, _joined([state, *reversed(ended)])


def _backward(mode: Mode, given: Sequence[Tensor], first: State, w: Weights) -> tuple[list[Tensor], State]:
    """The same from the last step to the first: rows begin where their sequence ends."""
    outputs, rows = [], given[-1]._type.static_shape[0]
    state = tuple([sliced(s, 0, 0, rows) for s in first])
    for x in reversed(given):
        before, rows = rows, x._type.static_shape[0]
        if rows > before:
            state = _joined([state, tuple([sliced(s, 0, before, rows) for s in first])])
        state = mode.step(x, state, w)
        outputs.append(state[0])
    return outputs[::-1], state


def _joined(states: Sequence[State]) -> State:
    return states[0] if len(states) == 1 else tuple([cat(parts) for parts in zip(*states, strict=True)])


def _scanned(mode: Mode, given: Tensor, first: State, w: Weights, steps: int, reverse: bool) -> tuple[Tensor, State]:
    """As many steps as there are, of rows of one size: given [steps * rows, gates] -> outputs [steps * rows, out], and the
    state after the last step (the first, from the end)."""
    rows, gates = first[0]._type.static_shape[0], given._type.static_shape[-1]

    def step(state: State, x: Tensor) -> tuple[State, Tensor]:
        after = mode.step(x, state, w)
        return after, after[0]

    last, outputs = scan(step, first, reshaped(given, (steps, rows, gates)), reverse=reverse)
    return reshaped(outputs, (steps * rows, outputs._type.static_shape[-1])), last


def run_layers(mode: Mode, data: Tensor, sizes: Sequence[int] | int, hx: State, layers: Sequence[Weights], dropout: float,
               training: bool, bidirectional: bool) -> tuple[Tensor, State]:
    """data [sum of sizes, in], hx [layers * directions, sizes[0], out] -> outputs [sum of sizes, directions * out] and
    the last states. sizes: how many rows each step has, or how many steps there are, of as many rows each."""
    directions, last, number = 1 + bidirectional, [], 0
    firsts = [[reshaped(part, part._type.static_shape[1:]) for part in parts(s, (1,) * len(layers))] for s in hx]
    while number < len(layers):
        found = []
        for direction in range(directions):
            w, first = layers[number], tuple([s[number] for s in firsts])
            given = mode.given(data, w)
            if isinstance(sizes, Sequence):
                run = _backward if direction else _forward
                outputs, state = run(mode, parts(given, sizes), first, w)
                found.append(cat(outputs) if len(outputs) > 1 else outputs[0])
            else:
                output, state = _scanned(mode, given, first, w, sizes, bool(direction))
                found.append(output)
            last.append(state)
            number += 1
        data = cat(found, -1) if bidirectional else found[0]
        if dropout and number < len(layers):
            data = dropped(data, dropout, training)
    return data, tuple([stack(s) for s in zip(*last, strict=True)])


def run(mode: Mode, input: Tensor, hx: State, layers: Sequence[Weights], dropout: float, training: bool,
        bidirectional: bool, batch_first: bool) -> tuple[Tensor, State]:
    """The same for sequences of one length: input [time, batch, in], or [batch, time, in] with batch_first."""
    x = transpose(input, 0, 1) if batch_first else input
    steps, batch, width = x._type.static_shape
    if not steps:
        raise RuntimeError("Expected sequence length to be larger than 0 in RNN")
    rows = steps if isinstance(steps, Dim) else (batch,) * steps
    output, last = run_layers(mode, reshaped(x, (steps * batch, width)), rows, hx, layers, dropout, training, bidirectional)
    output = reshaped(output, (steps, batch, output._type.static_shape[-1]))
    return transpose(output, 0, 1) if batch_first else output, last


# -- PyTorch's functions ----------------------------------------------------------------------------------------------


def _layers(params: Sequence[Tensor], has_biases: bool, has_projection: bool) -> list[Weights]:
    """A flat list of weights, layer after layer, cut into those of each."""
    each = 2 + 2 * has_biases + has_projection
    found = []
    for start in range(0, len(params), each):
        ih, hh, *rest = params[start:start + each]
        bias_ih, bias_hh = rest[:2] if has_biases else (None, None)
        found.append(Weights(ih, hh, bias_ih, bias_hh, rest[-1] if has_projection else None))
    return found


def _sequences(mode: Mode, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Tensor, ...]:
    """PyTorch's two forms: (input, hx, params, has_biases, num_layers, dropout, train, bidirectional, batch_first), and
    for packed rows (data, batch_sizes, hx, params, has_biases, num_layers, dropout, train, bidirectional)."""
    names = ["hx", "params", "has_biases", "num_layers", "dropout", "train", "bidirectional"]
    is_packed = "batch_sizes" in kwargs or len(args) > 3 and not isinstance(args[3], (bool, int))
    names = ["data", "batch_sizes", *names] if is_packed else ["input", *names, "batch_first"]
    given = dict(zip(names, args, strict=False)) | kwargs
    if missing := [name for name in names if name not in given]:
        raise TypeError(f"{mode.name}: argument {missing[0]!r} is missing")
    hx = given["hx"]
    state: State = (hx,) if isinstance(hx, Tensor) else tuple(hx)
    projects = mode.states == 2 and state[0]._type.shape[-1] != state[1]._type.shape[-1]
    layers = _layers(list(given["params"]), bool(given["has_biases"]), projects)
    settings = (layers, float(given["dropout"]), bool(given["train"]), bool(given["bidirectional"]))
    if is_packed:
        output, last = run_layers(mode, given["data"], sizes_of_batches(given["batch_sizes"]), state, *settings)
    else:
        output, last = run(mode, given["input"], state, *settings, bool(given["batch_first"]))
    return output, *last


def sizes_of_batches(batch_sizes: Any) -> list[int]:
    """How many rows each time step has: a tensor's values, or ints."""
    return [int(n) for n in (batch_sizes.tolist() if isinstance(batch_sizes, Tensor) else batch_sizes)]


def lstm(*args: Any, **kwargs: Any) -> tuple[Tensor, ...]:
    """(output, h, c) of stacked LSTM layers: lstm(input, hx, params, has_biases, num_layers, dropout, train,
    bidirectional, batch_first), or with (data, batch_sizes) for input and no batch_first. hx: [h, c]; params: the
    weights of each layer and direction one after another."""
    return _sequences(MODES["LSTM"], args, kwargs)


def gru(*args: Any, **kwargs: Any) -> tuple[Tensor, ...]:
    """(output, h) of stacked GRU layers; arguments as lstm's, hx a tensor."""
    return _sequences(MODES["GRU"], args, kwargs)


def rnn_tanh(*args: Any, **kwargs: Any) -> tuple[Tensor, ...]:
    """(output, h) of stacked layers tanh(w_ih x + w_hh h); arguments as gru's."""
    return _sequences(MODES["RNN_TANH"], args, kwargs)


def rnn_relu(*args: Any, **kwargs: Any) -> tuple[Tensor, ...]:
    """(output, h) of stacked layers relu(w_ih x + w_hh h); arguments as gru's."""
    return _sequences(MODES["RNN_RELU"], args, kwargs)


def _cell(mode: Mode, input: Tensor, state: State, w: Weights) -> State:
    name, features, hidden = f"{mode.name}_cell", w.ih._type.shape[-1], w.hh._type.shape[-1]
    if one_tensor(name, input)._type.shape[-1:] != (features,):
        raise ShapeError(f"{name}: input {input._type} must end in {features}, the input size of w_ih {w.ih._type}",
                         where=user_line())
    wanted = (*input._type.shape[:-1], hidden)
    for number, x in enumerate(state):
        if one_tensor(name, x)._type.shape != wanted:
            argument = "hx" if len(state) == 1 else f"hx[{number}]"
            raise ShapeError(f"{name}: {argument} {x._type} must be {list(wanted)}, the hidden size of w_hh {w.hh._type} "
                             f"for each row of input {input._type}", where=user_line())
    return mode.step(mode.given(input, w), state, w)


def lstm_cell(input: Tensor, hx: Sequence[Tensor], w_ih: Tensor, w_hh: Tensor, b_ih: Tensor | None = None,
              b_hh: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """One step: input [batch, in], hx (h, c) each [batch, hidden] -> the new (h, c). w_ih: [4 * hidden, in]."""
    hidden, cell = _cell(MODES["LSTM"], input, tuple(hx), Weights(w_ih, w_hh, b_ih, b_hh))
    return hidden, cell


def gru_cell(input: Tensor, hx: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor | None = None,
             b_hh: Tensor | None = None) -> Tensor:
    """One step: input [batch, in], hx [batch, hidden] -> the new hidden state. w_ih: [3 * hidden, in]."""
    return _cell(MODES["GRU"], input, (hx,), Weights(w_ih, w_hh, b_ih, b_hh))[0]


def rnn_tanh_cell(input: Tensor, hx: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor | None = None,
                  b_hh: Tensor | None = None) -> Tensor:
    """tanh(w_ih input + b_ih + w_hh hx + b_hh): [batch, in], [batch, hidden] -> [batch, hidden]."""
    return _cell(MODES["RNN_TANH"], input, (hx,), Weights(w_ih, w_hh, b_ih, b_hh))[0]


def rnn_relu_cell(input: Tensor, hx: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor | None = None,
                  b_hh: Tensor | None = None) -> Tensor:
    """rnn_tanh_cell with relu."""
    return _cell(MODES["RNN_RELU"], input, (hx,), Weights(w_ih, w_hh, b_ih, b_hh))[0]


__all__ = ["gru", "gru_cell", "lstm", "lstm_cell", "rnn_relu", "rnn_relu_cell", "rnn_tanh", "rnn_tanh_cell"]
public(globals(), __all__)
