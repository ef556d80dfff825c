"""Recurrent layers, cells and packed sequences against PyTorch: values, gradients, compiled steps, errors, reprs."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import flambeau as fb
from flambeau import nn, optim
from flambeau.errors import TraceError
from flambeau.nn.utils import rnn

RTOL, ATOL = 1e-9, 1e-11
torched = pytest.mark.torch


def pair(kind: str, *sizes: int, **settings: Any) -> tuple[Any, Any]:
    """The layer in both frameworks, f64, with the same values."""
    import torch

    ours, theirs = getattr(nn, kind)(*sizes, **settings).double(), getattr(torch.nn, kind)(*sizes, **settings).double()
    assert repr(ours) == repr(theirs) and list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict({key: value.numpy().copy() for key, value in theirs.state_dict().items()})
    return ours, theirs


def same(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(found.detach().numpy(), expected.detach().numpy(), rtol=RTOL, atol=ATOL)


LAYERS: list[tuple[str, dict[str, Any], str]] = [
    ("RNN", {}, "batched"), ("RNN", {"nonlinearity": "relu", "bidirectional": True, "num_layers": 2}, "packed"),
    ("RNN", {"bias": False}, "unbatched"), ("LSTM", {"num_layers": 2, "bidirectional": True}, "batched"),
    ("LSTM", {"batch_first": True, "proj_size": 2, "num_layers": 2, "bidirectional": True}, "packed"),
    ("LSTM", {"batch_first": True, "bias": False, "proj_size": 3}, "batched"), ("LSTM", {"proj_size": 1}, "unbatched"),
    ("GRU", {"num_layers": 2, "batch_first": True}, "batched"), ("GRU", {"bidirectional": True}, "packed"),
    ("GRU", {"bidirectional": True, "bias": False, "num_layers": 2}, "unbatched")]


@torched
@pytest.mark.parametrize("with_state", [False, True])
@pytest.mark.parametrize(("kind", "settings", "form"), LAYERS, ids=[f"{case[0]}{n}" for n, case in enumerate(LAYERS)])
def test_layers_agree(kind: str, settings: dict[str, Any], form: str, with_state: bool) -> None:
    import torch

    ours, theirs = pair(kind, 3, 4, **settings)
    rng = np.random.default_rng(0)
    shape = {"unbatched": (5, 3)}.get(form, (2, 5, 3) if settings.get("batch_first") else (5, 2, 3))
    count = settings.get("num_layers", 1) * (1 + settings.get("bidirectional", False))
    widths = [settings.get("proj_size") or 4, 4][:1 + (kind == "LSTM")]
    x = rng.normal(size=shape)
    states = [rng.normal(size=(count, w) if form == "unbatched" else (count, 2, w)) for w in widths] if with_state else []
    weight = rng.normal(size=1000)

    def outputs(lib: Any, model: Any, x: Any, *state: Any) -> list[Any]:
        hx = None if not state else state if kind == "LSTM" else state[0]
        if form == "packed":
            utils = lib.nn.utils.rnn
            packed = utils.pack_padded_sequence(x, [3, 5], settings.get("batch_first", False), enforce_sorted=False)
            output, last = model(packed, hx)
            output, lengths = utils.pad_packed_sequence(output, settings.get("batch_first", False), 0.5, 6)
            assert lib is fb or lengths.tolist() == [3, 5]
        else:
            output, last = model(x, hx)
        return [output, *(last if kind == "LSTM" else [last])]

    def loss(lib: Any, found: list[Any]) -> Any:
        return sum((o * lib.from_numpy(weight[:o.numel()].reshape(tuple(o.shape)))).sum() for o in found)

    @fb.compile
    def step(x: Any, *state: Any) -> Any:
        for p in ours.parameters():
            p.grad = None
        found = outputs(fb, ours, x, *state)
        loss(fb, found).backward()
        return found

    a = [fb.from_numpy(v.copy()).requires_grad_() for v in (x, *states)]
    b = [torch.from_numpy(v.copy()).requires_grad_() for v in (x, *states)]
    found, expected = outputs(fb, ours, *a), outputs(torch, theirs, *b)
    loss(fb, found).backward(), loss(torch, expected).backward()
    for p, q in zip([*found, *[t.grad for t in (*a, *ours.parameters())]],
                    [*expected, *[t.grad for t in (*b, *theirs.parameters())]], strict=True):
        same(p, q)
    compiled = step(*[fb.from_numpy(v.copy()) for v in (x, *states)])
    for p, q in zip([*compiled, *[t.grad for t in ours.parameters()]],
                    [*expected, *[t.grad for t in theirs.parameters()]], strict=True):
        same(p, q)


@torched
@pytest.mark.parametrize(("kind", "settings"), [("RNNCell", {}), ("RNNCell", {"nonlinearity": "relu", "bias": False}),
                                                ("LSTMCell", {}), ("GRUCell", {"bias": False}), ("GRUCell", {})])
def test_cells_agree(kind: str, settings: dict[str, Any]) -> None:
    import torch

    ours, theirs = pair(kind, 3, 4, **settings)
    for shape in ((2, 3), (3,)):
        x = np.random.default_rng(0).normal(size=shape)
        a, b = fb.from_numpy(x.copy()), torch.from_numpy(x.copy())
        for run in (ours, fb.compile(ours)):
            found, expected = run(a), theirs(b)
            for _ in range(2):
                found, expected = run(a, found), theirs(b, expected)
            for p, q in zip(found if kind == "LSTMCell" else [found], expected if kind == "LSTMCell" else [expected],
                            strict=True):
                same(p, q)


@torched
@pytest.mark.parametrize("name", ["lstm", "gru", "rnn_tanh", "rnn_relu"])
@pytest.mark.parametrize("packed", [False, True])
def test_functions_agree(name: str, packed: bool) -> None:
    import torch

    layer = getattr(torch.nn, "RNN" if name.startswith("rnn") else name.upper())(3, 4, 2).double()
    params = [p.detach().numpy() for p in layer.parameters()]
    rng = np.random.default_rng(0)
    x, state = rng.normal(size=(5, 3) if packed else (5, 2, 3)), [rng.normal(size=(2, 2, 4)) for _ in "hc"]

    def run(lib: Any) -> Any:
        hx, weights = [lib.from_numpy(s) for s in state], [lib.from_numpy(p) for p in params]
        rows = [lib.tensor([2, 2, 1])] if packed else []
        return getattr(lib, name)(lib.from_numpy(x), *rows, hx if name == "lstm" else hx[0], weights, True, 2, 0.0, False,
                                  False, *([] if packed else [False]))

    for p, q in zip(run(fb), run(torch), strict=True):
        same(p, q)


def test_dropout_acts_between_layers_in_training() -> None:
    for model in (nn.LSTM(3, 8, 2, dropout=0.5), nn.GRU(3, 8, 3, dropout=0.5)):
        x = fb.ones(4, 2, 3)
        first, second = model(x)[0], model(x)[0]
        assert not (first == second).all().item()
        model.eval()
        assert (model(x)[0] == model(x)[0]).all().item()
    with pytest.warns(UserWarning, match="num_layers greater"):
        nn.GRU(3, 4, dropout=0.5)


BAD: list[tuple[str, Callable[[Any], Any]]] = [
    ("dropout", lambda lib: lib.nn.LSTM(3, 4, dropout=2)), ("size", lambda lib: lib.nn.LSTM(0, 4)),
    ("hidden", lambda lib: lib.nn.GRU(3, 4.0)), ("layers", lambda lib: lib.nn.GRU(3, 4, 0)),
    ("projection", lambda lib: lib.nn.LSTM(3, 4, proj_size=4)), ("gru", lambda lib: lib.nn.GRU(3, 4, proj_size=2)),
    ("mode", lambda lib: lib.nn.RNNBase("X", 3, 4)), ("relu", lambda lib: lib.nn.RNN(3, 4, nonlinearity="gelu")),
    ("dims", lambda lib: lib.nn.LSTM(3, 4)(lib.zeros(2, 2, 2, 3))),
    ("width", lambda lib: lib.nn.GRU(3, 4)(lib.zeros(5, 2, 4))),
    ("dtype", lambda lib: lib.nn.GRU(3, 4)(lib.zeros(5, 2, 3).double())),
    ("state", lambda lib: lib.nn.GRU(3, 4)(lib.zeros(5, 2, 3), lib.zeros(1, 3, 4))),
    ("rank", lambda lib: lib.nn.LSTM(3, 4)(lib.zeros(5, 3), (lib.zeros(1, 1, 4), lib.zeros(1, 1, 4)))),
    ("empty", lambda lib: lib.nn.RNN(3, 4)(lib.zeros(0, 2, 3))),
    ("cell", lambda lib: lib.nn.LSTMCell(3, 4)(lib.zeros(1, 2, 3))),
    ("cell width", lambda lib: lib.nn.GRUCell(3, 4)(lib.zeros(2, 2))),
    ("unsorted", lambda lib: lib.nn.utils.rnn.pack_padded_sequence(lib.zeros(5, 2), [2, 3])),
    ("zero", lambda lib: lib.nn.utils.rnn.pack_padded_sequence(lib.zeros(5, 2), [2, 0])),
    ("count", lambda lib: lib.nn.utils.rnn.pack_padded_sequence(lib.zeros(5, 2), [2])),
    ("side", lambda lib: lib.nn.utils.rnn.pad_sequence([lib.zeros(2)], padding_side="up")),
    ("total", lambda lib: lib.nn.utils.rnn.pad_packed_sequence(lib.nn.utils.rnn.pack_sequence([lib.zeros(3)]),
                                                               total_length=2))]


@torched
@pytest.mark.parametrize("bad", [case[1] for case in BAD], ids=[case[0] for case in BAD])
def test_mistakes_raise_what_they_raise_in_pytorch(bad: Callable[[Any], Any]) -> None:
    import torch

    with pytest.raises(Exception) as theirs:
        bad(torch)
    with pytest.raises(theirs.type):
        bad(fb)


# -- nn.utils.rnn -----------------------------------------------------------------------------------------------------


@torched
def test_packing_agrees() -> None:
    import torch

    arrays = [np.arange(length * 2.0).reshape(length, 2) + 10 * length for length in (2, 4, 1)]

    def made(lib: Any) -> list[Any]:
        utils = lib.nn.utils.rnn
        given = [lib.from_numpy(a.copy()) for a in arrays]
        packed = utils.pack_sequence(given, enforce_sorted=False)
        ordered = utils.pack_sequence(sorted(given, key=len, reverse=True))
        padded = utils.pad_sequence(given, True, -1.0)
        return [*packed, *ordered[:2], *utils.pad_packed_sequence(packed, True, 7.0, 5), padded,
                utils.pad_sequence(given, padding_side="left"), *utils.unpack_sequence(packed),
                *utils.unpack_sequence(ordered),
                *utils.unpad_sequence(padded, lib.tensor([2, 4, 1]), True), *packed.to(lib.float32)[:2]]

    for a, b in zip(made(fb), made(torch), strict=True):
        assert a.tolist() == b.tolist() and a.dtype.torch_name == str(b.dtype).removeprefix("torch.")


def test_a_packed_sequence_is_a_named_tuple_that_copies_and_converts() -> None:
    packed = rnn.pack_sequence([fb.ones(3), fb.ones(2)])
    data, batch_sizes, order, undo = packed
    assert (packed.data is data, batch_sizes.tolist(), order, undo) == (True, [2, 2, 1], None, None)
    assert packed.double().data.dtype is fb.float64 and packed.to("cpu") is packed and not packed.is_cuda
    for other in (copy.deepcopy(packed), pickle.loads(pickle.dumps(packed)), rnn.PackedSequence(data, batch_sizes),
                  packed._replace(data=data * 2)):
        assert [t.tolist() for t in rnn.unpack_sequence(other.float())][1][0] in (1.0, 2.0)


def test_packed_sequences_go_into_and_out_of_compiled_functions() -> None:
    model = nn.GRU(2, 3, bidirectional=True)
    compiled = fb.compile(lambda packed: model(packed))
    for lengths in ((3, 1), (3, 2), (3, 1)):
        packed = rnn.pack_padded_sequence(fb.randn(3, 2, 2), list(lengths), enforce_sorted=False)
        found, expected = compiled(packed)[0], model(packed)[0]
        assert isinstance(found, rnn.PackedSequence)
        for a, b in zip(rnn.unpack_sequence(found), rnn.unpack_sequence(expected), strict=True):
            np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-5, atol=1e-6)
    assert len(compiled.signatures) == 2


def test_lengths_in_a_tensor_are_refused_in_a_compiled_function() -> None:
    with pytest.raises(TraceError, match="lengths is a tensor, whose values decide shapes"):
        fb.compile(lambda x, lengths: rnn.pack_padded_sequence(x, lengths).data)(fb.ones(3, 2), fb.tensor([3, 2]))


# -- whole trainings --------------------------------------------------------------------------------------------------


class CharLSTM:
    """Next characters by an embedding, two LSTM layers and a linear head, in either framework."""

    def __init__(self, lib: Any):
        self.lib, n = lib, lib.nn
        self.parts = n.ModuleDict({"embed": n.Embedding(11, 6), "lstm": n.LSTM(6, 8, 2, batch_first=True),
                                   "head": n.Linear(8, 11)}).double()

    def loss(self, x: Any, y: Any) -> Any:
        hidden, _ = self.parts["lstm"](self.parts["embed"](x))
        return self.lib.nn.functional.cross_entropy(self.parts["head"](hidden).flatten(0, 1), y.flatten())


class Tagger(CharLSTM):
    """A class for every word, by a GRU in both directions over packed sentences."""

    def __init__(self, lib: Any):
        self.lib, n = lib, lib.nn
        self.parts = n.ModuleDict({"embed": n.Embedding(11, 6), "gru": n.GRU(6, 5, bidirectional=True),
                                   "head": n.Linear(10, 11)}).double()

    def loss(self, x: Any, y: Any) -> Any:
        utils = self.lib.nn.utils.rnn
        lengths = [3, 4, 1, 4]
        packed = utils.pack_padded_sequence(self.parts["embed"](x), lengths, batch_first=True, enforce_sorted=False)
        words, _ = utils.pad_packed_sequence(self.parts["gru"](packed)[0], batch_first=True)
        wanted = self.lib.nn.utils.rnn.pad_sequence([t[:n] for t, n in zip(y, lengths, strict=True)], True, -100)
        return self.lib.nn.functional.cross_entropy(self.parts["head"](words).flatten(0, 1), wanted.flatten())


class Translator(CharLSTM):
    """Seq2seq with Bahdanau's attention: a GRU reads, a GRUCell writes and looks back at every step."""

    def __init__(self, lib: Any):
        self.lib, n = lib, lib.nn
        self.parts = n.ModuleDict({"embed": n.Embedding(11, 6), "encoder": n.GRU(6, 8, batch_first=True),
                                   "decoder": n.GRUCell(14, 8), "query": n.Linear(8, 8), "key": n.Linear(8, 8),
                                   "energy": n.Linear(8, 1), "head": n.Linear(16, 11)}).double()

    def loss(self, x: Any, y: Any) -> Any:
        lib, m = self.lib, self.parts
        read, last = m["encoder"](m["embed"](x))
        hidden, keys, total = last[0], m["key"](read), 0.0
        for t in range(y.shape[1] - 1):
            weights = m["energy"](lib.tanh(m["query"](hidden).unsqueeze(1) + keys)).softmax(1)
            context = (weights * read).sum(1)
            hidden = m["decoder"](lib.cat([m["embed"](y[:, t]), context], -1), hidden)
            total = total + lib.nn.functional.cross_entropy(m["head"](lib.cat([hidden, context], -1)), y[:, t + 1])
        return total


@torched
@pytest.mark.parametrize("program", [CharLSTM, Tagger, Translator])
def test_compiled_training_is_pytorchs(program: type[CharLSTM]) -> None:
    import torch

    ours, theirs = program(fb), program(torch)
    ours.parts.load_state_dict({key: value.numpy().copy() for key, value in theirs.parts.state_dict().items()})
    mine = optim.Adam(ours.parts.parameters(), lr=0.01)
    other = torch.optim.Adam(theirs.parts.parameters(), lr=0.01, foreach=False)
    rng = np.random.default_rng(0)

    @fb.compile
    def step(x: fb.Tensor, y: fb.Tensor) -> fb.Tensor:
        mine.zero_grad()
        loss = ours.loss(x, y)
        loss.backward()
        nn.utils.clip_grad_norm_(ours.parts.parameters(), 1.0)
        mine.step()
        return loss

    for _ in range(3):
        x, y = rng.integers(0, 11, (4, 4)), rng.integers(0, 11, (4, 4))
        other.zero_grad()
        loss = theirs.loss(torch.from_numpy(x), torch.from_numpy(y))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(theirs.parts.parameters(), 1.0)
        other.step()
        assert step(fb.from_numpy(x), fb.from_numpy(y)).item() == pytest.approx(loss.item(), rel=1e-9)
    assert len(step.signatures) == 1
