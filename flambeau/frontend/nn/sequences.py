"""nn.utils.rnn: sequences of different lengths as one tensor, padded to the longest or packed step after step.

A PackedSequence of three sequences a, b, c of lengths 3, 2, 1 holds the rows a0 b0 c0, a1 b1, a2, and how many there are
of each step: 3, 2, 1. The counts decide shapes, so compiled functions guard them by value.
"""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np

from flambeau.errors import TraceError
from flambeau.frontend.active import active
from flambeau.frontend.functions.creation import full, holding
from flambeau.frontend.functions.elementwise import where
from flambeau.frontend.functions.joining import cat, stack
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.frontend.where import describe, user_location
from flambeau.ir import dtypes as dt


class _Fields(NamedTuple):
    data: Tensor
    batch_sizes: Tensor
    sorted_indices: Tensor | None = None
    unsorted_indices: Tensor | None = None


class PackedSequence(_Fields):
    """Sequences of different lengths, the longest first: data [rows, *], batch_sizes i64[steps] on the CPU, and where
    they were sorted, by which order (sorted_indices) and how to undo it (unsorted_indices), i64[batch]."""

    sizes: tuple[int, ...] | None           # batch_sizes as Python knows them, under trace too

    def __new__(cls, data: Any, batch_sizes: Any = None, sorted_indices: Tensor | None = None,
                unsorted_indices: Tensor | None = None) -> PackedSequence:
        if batch_sizes is None:
            if not isinstance(data, (list, tuple)) or len(data) != 2:
                raise TypeError("PackedSequence: pass data and batch_sizes, or one pair of them")
            data, batch_sizes = data
        if unsorted_indices is None:
            unsorted_indices = invert_permutation(sorted_indices)
        self = super().__new__(cls, data, batch_sizes, sorted_indices, unsorted_indices)
        if active.tracer is None:
            self.sizes = tuple(batch_sizes.tolist())
        return self

    def _with(self, data: Tensor) -> PackedSequence:
        """Other data, row for row."""
        made = tuple.__new__(type(self), (data, *self[1:]))
        made.__dict__.update(self.__dict__)
        return made

    def to(self, *args: Any, **kwargs: Any) -> PackedSequence:
        """Data in another dtype, as Tensor.to has it; itself where nothing changes."""
        data = self.data.to(*args, **kwargs)
        return self if data is self.data else self._with(data)

    def cpu(self, *args: Any, **kwargs: Any) -> PackedSequence:
        """Itself."""
        return self.to("cpu")

    def cuda(self, *args: Any, **kwargs: Any) -> PackedSequence:
        """Raises UnsupportedError: there is no CUDA device."""
        return self.to("cuda")

    def double(self) -> PackedSequence:
        return self.to(dtype=dt.f64)

    def float(self) -> PackedSequence:
        return self.to(dtype=dt.f32)

    def half(self) -> PackedSequence:
        return self.to(dtype=dt.f16)

    def long(self) -> PackedSequence:
        return self.to(dtype=dt.i64)

    def int(self) -> PackedSequence:
        return self.to(dtype=dt.i32)

    def short(self) -> PackedSequence:
        return self.to(dtype=dt.i16)

    def char(self) -> PackedSequence:
        return self.to(dtype=dt.i8)

    def byte(self) -> PackedSequence:
        return self.to(dtype=dt.u8)

    @property
    def is_cuda(self) -> bool:
        return False

    def is_pinned(self) -> bool:
        """False: no memory is pinned."""
        return False

    def pin_memory(self) -> PackedSequence:
        """Itself: no memory is pinned."""
        return self


def packed_sizes(packed: PackedSequence) -> list[int]:
    """How many rows each step has. Raises TraceError for one whose counts only a tensor holds, under trace."""
    known = packed.__dict__.get("sizes")
    return _counts(packed.batch_sizes if known is None else known, "batch_sizes")


def _counts(values: Any, what: str) -> list[int]:
    """A tensor's values, or numbers, as Python's ints."""
    if isinstance(values, Tensor) and active.hides(values):
        raise TraceError(f"{what} is a tensor, whose values decide shapes in a compiled function",
                         where=describe(user_location()),
                         hint=f"pass {what} as a list of ints (`lengths.tolist()` outside), or pack outside and pass the "
                              "PackedSequence")
    return [int(n) for n in (values.tolist() if isinstance(values, Tensor) else values)]


def invert_permutation(permutation: Tensor | None) -> Tensor | None:
    """The order that undoes it."""
    return None if permutation is None else permutation.argsort()


def _order(order: np.ndarray, like: Tensor | None = None) -> Tensor:
    return holding(order.astype(np.int64), dt.i64, like)


def pack_padded_sequence(input: Tensor, lengths: Any, batch_first: bool = False,
                         enforce_sorted: bool = True) -> PackedSequence:
    """[time, batch, *] (or [batch, time, *]) and how long each sequence is, ints or an i64 tensor -> packed.

    enforce_sorted: lengths must not grow; otherwise the sequences are sorted first. Raises RuntimeError for lengths that
    are not positive, too many, or unsorted; ValueError for those beyond the time dim."""
    counts = np.array(_counts(lengths, "lengths"), np.int64)
    steps, batch = input.shape[1 if batch_first else 0], input.shape[0 if batch_first else 1]
    if counts.shape != (batch,):
        raise RuntimeError(f"Expected `len(lengths)` to be equal to batch_size, but got {counts.size} (batch_size={batch})")
    if batch == 0 or counts.min() <= 0:
        raise RuntimeError("Length of all samples has to be greater than 0, but found an element in 'lengths' that is <= 0")
    order = None
    if enforce_sorted:
        if (np.diff(counts) > 0).any():
            raise RuntimeError("`lengths` array must be sorted in decreasing order when `enforce_sorted` is True. You can "
                               "pass `enforce_sorted=False` to sort them here")
    else:
        order = np.argsort(-counts, kind="stable")
        counts = counts[order]
    if counts[0] > steps:
        raise RuntimeError(f"Expected sequences of at most {steps} steps, but got a length of {counts[0]}")
    indices = None if order is None else _order(order, input)
    if indices is not None:
        input = input.index_select(0 if batch_first else 1, indices)
    x = input.transpose(0, 1) if batch_first else input
    sizes = tuple([int((counts > step).sum()) for step in range(counts[0])])
    places = np.concatenate([step * batch + np.arange(size) for step, size in enumerate(sizes)])
    rows = x.reshape(-1, *x.shape[2:])
    data = rows[:len(places)] if len(places) == len(sizes) * batch else rows.index_select(0, _order(places, rows))
    undo = None if order is None else _order(np.argsort(order), rows)
    made = tuple.__new__(PackedSequence, (data.clone(), _order(np.array(sizes)), indices, undo))
    made.sizes = sizes
    return made


def pad_packed_sequence(sequence: PackedSequence, batch_first: bool = False, padding_value: float = 0.0,
                        total_length: int | None = None) -> tuple[Tensor, Tensor]:
    """Packed -> ([time, batch, *] or [batch, time, *], the lengths i64[batch]), in the order before packing.

    total_length: of the time dim, at least the longest sequence. Raises ValueError for less."""
    sizes = packed_sizes(sequence)
    steps = len(sizes) if total_length is None else int(total_length)
    if steps < len(sizes):
        raise ValueError(f"Expected total_length to be at least the length of the longest sequence in input, but got "
                         f"total_length={steps} and max sequence length being {len(sizes)}")
    batch, data = sizes[0], sequence.data
    starts = [0, *accumulate(sizes)][:-1]
    row_of = np.zeros((steps, batch), np.int64)
    for step, (start, size) in enumerate(zip(starts, sizes, strict=True)):
        row_of[step, :size] = start + np.arange(size)
    padded = data.index_select(0, _order(row_of.ravel(), data)).reshape(steps, batch, *data.shape[1:])
    there = np.arange(batch) < np.array([*sizes, *[0] * (steps - len(sizes))])[:, None]
    if not there.all():
        mask = holding(there, dt.bool_, data).reshape(steps, batch, *[1] * (data.ndim - 1))
        padded = where(mask, padded, full((), padding_value, dtype=data.dtype, device=data.device))
    lengths = _order(there.sum(0), None if active.tracer is None else data)     # a compiled function has one device
    if sequence.unsorted_indices is not None:
        undo = sequence.unsorted_indices
        padded, lengths = padded.index_select(1, undo), lengths[undo.cpu() if active.tracer is None else undo]
    return (padded.transpose(0, 1) if batch_first else padded), lengths


def pad_sequence(sequences: Tensor | Sequence[Tensor], batch_first: bool = False, padding_value: float = 0.0,
                 padding_side: str = "right") -> Tensor:
    """Tensors [length, *] of different lengths -> [longest, batch, *], or [batch, longest, *] with batch_first.

    Raises ValueError for a side other than left and right, RuntimeError where dims after the first differ."""
    if isinstance(sequences, Tensor):
        sequences = sequences.unbind(0)
    elif not isinstance(sequences, Iterable):
        raise RuntimeError(f"pad_sequence: Expected iterable for input sequences, but got arg of type: {type(sequences)}")
    given = list(sequences)
    if not given:
        raise RuntimeError("pad_sequence: received an empty list of sequences")
    if padding_side not in ("left", "right"):
        raise RuntimeError(f"padding_side should be either 'right' or 'left', got {padding_side!r}")
    longest, trailing = max(t.shape[0] for t in given), given[0].shape[1:]
    found = []
    for t in given:
        if t.shape[1:] != trailing:
            raise RuntimeError(f"pad_sequence: the dims after the first must be those of {given[0].shape}, got {t.shape}")
        missing = longest - t.shape[0]
        if missing:
            fill = full((missing, *trailing), padding_value, dtype=t.dtype, device=t.device)
            t = cat([t, fill] if padding_side == "right" else [fill, t])
        found.append(t)
    return stack(found, 0 if batch_first else 1)


def pack_sequence(sequences: Sequence[Tensor], enforce_sorted: bool = True) -> PackedSequence:
    """Tensors [length, *] -> packed. enforce_sorted: they must come longest first."""
    return pack_padded_sequence(pad_sequence(sequences), [t.shape[0] for t in sequences], enforce_sorted=enforce_sorted)


def unpad_sequence(padded_sequences: Tensor, lengths: Any, batch_first: bool = False) -> list[Tensor]:
    """[time, batch, *] (or [batch, time, *]) and the lengths -> the sequences [length, *]."""
    x = padded_sequences if batch_first else padded_sequences.transpose(0, 1)
    return [one[:length] for one, length in zip(x.unbind(0), _counts(lengths, "lengths"), strict=True)]


def unpack_sequence(packed_sequences: PackedSequence) -> list[Tensor]:
    """Packed -> the sequences [length, *], in the order before packing."""
    padded, _ = pad_packed_sequence(packed_sequences, batch_first=True)
    sizes = packed_sizes(packed_sequences)
    lengths = [sum(size > row for size in sizes) for row in range(sizes[0])]
    undo = packed_sequences.unsorted_indices
    if undo is not None:
        lengths = [lengths[place] for place in _counts(undo, "unsorted_indices")]
    return [one[:length] for one, length in zip(padded.unbind(0), lengths, strict=True)]


__all__ = ["PackedSequence", "invert_permutation", "pack_padded_sequence", "pack_sequence", "pad_packed_sequence",
           "pad_sequence", "unpack_sequence", "unpad_sequence"]
