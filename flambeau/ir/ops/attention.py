"""Attention as one op, and its derivative as another, so that a backend can run either without its matrix of weights.

    weights = softmax(scale * q k^T + mask);  out = weights v;  lse = log(sum(exp(scale * q k^T + mask)))

Both are compositions of simpler ops, which `decompose` puts in their place unless they are `tiled`: then a kernel of the
kind "attention" computes them (Dao et al., "FlashAttention-2", 2023; Milakov and Gimelshein, "Online normalizer calculation
for softmax", 2018), and a backend's passes are who says so. The composition of the derivative begins with the very ops that
the forward one does: where both lie in one graph, they become one.
"""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from flambeau.ir import dtypes
from flambeau.ir.op import Op, Sample, register
from flambeau.ir.ops.batching import spread_all
from flambeau.ir.ops.families import check_dtypes
from flambeau.ir.ops.normalization import SafeSoftmax, Softmax, wide, widened
from flambeau.ir.ops.sampling import drawn, given
from flambeau.ir.records import dataclass
from flambeau.ir.types import TensorType

if TYPE_CHECKING:
    from flambeau.ir.builder import Builder
    from flambeau.ir.graph import Value

_NONE = float("-inf")
LARGEST_ROW = 256               # elements of a row of q, k or v, of which a tile holds many


def is_worthwhile(rows: int, columns: int, size: int, value: int, causal: bool, differentiated: bool) -> bool:
    """Whether tiles are faster than the matrix of weights. The derivative makes weights again, five products where there
    were four: that pays where half of them are not made at all, or where the matrix is too large for the caches."""
    if rows < 32 or columns < 32 or max(size, value) > LARGEST_ROW or not min(size, value):
        return False
    if not differentiated:
        return rows * columns >= 64 * 64
    if causal:
        return rows * columns >= 96 * 96
    return rows * columns >= (384 * 384 if max(size, value) <= 64 else 4096 * 4096)


class _Parts(NamedTuple):
    """What both ops are made of, in the dtype that steps are computed in. q is scaled."""

    q: Value
    k: Value
    v: Value
    scores: Value
    weights: Value
    seen: list[Value]


class _Attention(Op):
    """What the two have in common: q [B..., L, E], k [B..., S, E], v [B..., S, V], maybe a mask [B..., L, S].

    The mask is bools (true takes part) or floats that are added; causal: row i sees columns up to i. A row that sees
    nothing has weights of 0 if it is safe, else NaN. No derivative flows to scores that bools or causal hide."""

    scale: float
    causal: bool
    safe: bool
    tiled: bool

    @property
    def kernel_kind(self) -> str | None:
        return "attention" if self.tiled else None

    def check_rows(self, q: TensorType, k: TensorType, v: TensorType, mask: TensorType | None) -> None:
        """Raises TypeInferenceError for operands that do not fit."""
        check_dtypes(self, (q, k, v), "float")
        if q.rank < 2 or q.rank != k.rank or q.rank != v.rank:
            raise self.fail(f"needs q, k and v of one rank, at least 2: {q}, {k}, {v}")
        if not q.shape[:-2] == k.shape[:-2] == v.shape[:-2]:
            raise self.fail(f"batch dims differ: q {q}, k {k}, v {v}", "broadcast them to one shape first")
        if q.shape[-1] != k.shape[-1]:
            raise self.fail(f"q has rows of {q.shape[-1]}, k has rows of {k.shape[-1]}: {q}, {k}")
        if k.shape[-2] != v.shape[-2]:
            raise self.fail(f"k has {k.shape[-2]} rows, v has {v.shape[-2]}: {k}, {v}")
        if mask is not None and mask.dtype not in (dtypes.bool_, q.dtype, wide(q.dtype)):
            raise self.fail(f"takes a mask of bools or {q.dtype}, got {mask}")
        if mask is not None and mask.shape != (*q.shape[:-1], k.shape[-2]):
            raise self.fail(f"takes a mask of {[*q.shape[:-1], k.shape[-2]]}, got {mask}", "broadcast it first")

    def decompose(self, b: Builder, operands: Sequence[Value]) -> Sequence[Value] | None:
        return None if self.tiled else self.composition(b, operands)

    def parts(self, b: Builder, q: Value, k: Value, v: Value, mask: Value | None) -> _Parts:
        q, k, v = (widened(b, x) for x in (q, k, v))
        q = b.mul(q, b.scalar(self.scale, q))
        scores = b.matmul(q, b.transpose(k))
        seen = self.seen(b, scores, mask)
        for allowed in seen:
            scores = b.where(allowed, scores, b.scalar(_NONE, scores))
        if mask is not None and mask.dtype is not dtypes.bool_:
            scores = b.add(scores, widened(b, mask))
        softmax = SafeSoftmax if self.safe else Softmax
        return _Parts(q, k, v, scores, b.emit(softmax(len(scores.shape) - 1), scores), seen)

    def seen(self, b: Builder, scores: Value, mask: Value | None) -> list[Value]:
        """Bools like scores, true where all of them let a row see a column."""
        found = []
        if self.causal:
            rows, columns = (b.iota(scores.shape[d], dtypes.i64) for d in (-2, -1))
            rank = len(scores.shape)
            found.append(b.le(b.broadcast(columns, scores.shape, (rank - 1,)),
                              b.broadcast(rows, scores.shape, (rank - 2,))))
        return [*found, mask] if mask is not None and mask.dtype is dtypes.bool_ else found

    def np_seen(self, shape: tuple[int, ...], mask: np.ndarray | None) -> np.ndarray:
        rows, columns = shape[-2:]
        seen = np.arange(columns) <= np.arange(rows)[:, None] if self.causal else np.ones((rows, columns), np.bool_)
        return seen & mask if mask is not None and mask.dtype == np.bool_ else seen

    def np_weights(self, q: np.ndarray, k: np.ndarray, mask: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """(weights, lse) in f64."""
        scores = _np_product(q.astype(np.float64) * self.scale, np.swapaxes(k, -1, -2))
        scores = np.where(self.np_seen(scores.shape, mask), scores, _NONE)
        if mask is not None and mask.dtype != np.bool_:
            scores = scores + mask
        top = np.max(scores, -1, keepdims=True, initial=_NONE)
        e = np.exp(scores - np.where(top == _NONE, 0.0, top))
        total = e.sum(-1, keepdims=True)
        lse = np.where(top == _NONE, _NONE, np.log(total) + np.where(top == _NONE, 0.0, top))
        return e / np.where(top == _NONE, 1.0 if self.safe else 0.0, total), lse[..., 0]


def _np_product(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.matmul(np.ascontiguousarray(x, np.float64), np.ascontiguousarray(y, np.float64))


@register("attention")
@dataclass(frozen=True)
class Attention(_Attention):
    """q, k, v, maybe a mask -> out [B..., L, V] and lse [B..., L], the logarithm of what each row's weights were divided
    by: f32 for f16 and bf16, -inf for a row that sees nothing."""

    scale: float
    causal: bool = False
    safe: bool = True
    tiled: bool = False

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        if len(operands) not in (3, 4):
            raise self.fail(f"takes q, k, v and maybe a mask, got {len(operands)} operands")
        q, k, v = operands[:3]
        self.check_rows(q, k, v, operands[3] if len(operands) == 4 else None)
        return (q.with_shape((*q.shape[:-1], v.shape[-1])), q.with_shape(q.shape[:-1]).with_dtype(wide(q.dtype)))

    def evaluate(self, *operands: np.ndarray) -> tuple[np.ndarray, ...]:
        q, k, v, *mask = operands
        weights, lse = self.np_weights(q, k, mask[0] if mask else None)
        return _np_product(weights, v), lse

    def composition(self, b: Builder, operands: Sequence[Value]) -> Sequence[Value]:
        q, k, v, *mask = operands
        parts = self.parts(b, q, k, v, mask[0] if mask else None)
        return b.cast(b.matmul(parts.weights, parts.v), q.dtype), _log_sum_exp(b, parts.scores)

    def vjp(self, b: Builder, operands: Sequence[Value], results: Sequence[Value],
            cotangents: Sequence[Value | None]) -> Sequence[Value | None]:
        """By `attention_backward`; by simpler ops what that does not give: anything by way of lse, and the mask's."""
        (q, k, v, *mask), (g, g_lse) = operands, cotangents
        added = mask[0] if mask and mask[0].dtype.is_floating_point and b.wants(3) else None
        found: list[Value | None] = [None, None, None]
        if g is not None:
            grads = b.emit(AttentionBackward(self.scale, self.causal, self.safe, self.tiled), *operands, *results, g)
            found = [grads[n] if b.wants(n) else None for n in range(3)]
        if g_lse is None and added is None:
            return (*found, *[None for _ in mask])
        parts = self.parts(b, q, k, v, mask[0] if mask else None)
        by_lse = None if g_lse is None else b.mul(parts.weights, _along(b, g_lse, parts.weights))
        if by_lse is not None:
            scale = b.scalar(self.scale, parts.q)
            found[0] = _sum(b, found[0], b.cast(b.mul(b.matmul(by_lse, parts.k), scale), q.dtype))
            found[1] = _sum(b, found[1], b.cast(b.matmul(b.transpose(by_lse), parts.q), k.dtype))
        if added is None:
            return (*found, *[None for _ in mask])
        by_out = None if g is None else _of_scores(b, parts, b.matmul(widened(b, g), b.transpose(parts.v)))
        total = by_lse if by_out is None else _sum(b, by_lse, by_out)
        assert total is not None
        return (*found, b.cast(total, added.dtype))

    def jvp(self, b: Builder, operands: Sequence[Value], results: Sequence[Value],
            tangents: Sequence[Value | None]) -> Sequence[Value | None]:
        """weights * t for the scores' tangents t, less its sum along each row, times v; weights times that of v."""
        (q, k, v, *mask), (tq, tk, tv, *t_mask) = operands, tangents
        parts = self.parts(b, q, k, v, mask[0] if mask else None)
        moved: Value | None = None
        if tq is not None:
            t = widened(b, tq)
            moved = b.matmul(b.mul(t, b.scalar(self.scale, t)), b.transpose(parts.k))
        if tk is not None:
            moved = _sum(b, moved, b.matmul(parts.q, b.transpose(widened(b, tk))))
        if t_mask and t_mask[0] is not None:
            moved = _sum(b, moved, widened(b, t_mask[0]))
        out = None if tv is None else b.matmul(parts.weights, widened(b, tv))
        lse = None
        if moved is not None:
            weighted = b.mul(parts.weights, moved)
            lse = b.sum(weighted, (len(weighted.shape) - 1,))
            centred = b.sub(weighted, b.mul(parts.weights, _along(b, lse, weighted)))
            out = _sum(b, out, b.matmul(centred, parts.v))
        return None if out is None else b.cast(out, q.dtype), lse

    def batched(self, b: Builder, operands: Sequence[Value], mapped: Sequence[bool], size: int) -> Sequence[Value]:
        return tuple(b.emit(self, *spread_all(b, operands, mapped, size)))

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for tiled in (False, True):
            for shape, causal, mask in (("3,5,4,4", False, None), ("2x7,7,5,3", True, None), ("2x3x9,4,3,6", True, None),
                                        ("1x1,1,1,1", False, "f32"), ("33,70,17,9", False, None), ("5,40,2,2", True, None),
                                        ("2x4,6,3,2", False, "f32"), ("2x4,6,3,2", False, "bool"),
                                        ("2x20,40,4,8", True, "bool"), ("3,2,0,2", False, None)):
                yield _drawn(cls(0.5, causal, True, tiled), shape, mask)
            for shape, safe in (("2x0,3,2,2", True), ("2x3,0,2,2", True), ("2x3,0,2,2", False)):
                yield replace(_drawn(cls(0.5, False, safe, tiled), shape, None), differentiable=(False, False, False))
            yield drawn(cls(0.3, False, True, tiled), "f64[2,5,3]", "f64[2,6,3]", "f64[2,6,2]")
            for safe in (False, True):
                yield given(cls(1.0, False, safe, tiled), *_special_rows())
        for dtype in ("bf16", "f16"):
            yield drawn(cls(0.5, True), f"{dtype}[2,5,3]", f"{dtype}[2,6,3]", f"{dtype}[2,6,2]", tolerance=4.0)


@register("attention_backward")
@dataclass(frozen=True)
class AttentionBackward(_Attention):
    """What `attention` was given, what it gave (out and lse, which only tiles read) and the cotangent of out -> those of
    q, k and v. It means the derivative where q, k, v and the mask are: out and lse tell nothing else."""

    scale: float
    causal: bool = False
    safe: bool = True
    tiled: bool = False

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        if len(operands) not in (6, 7):
            raise self.fail(f"takes q, k, v, maybe a mask, out, lse and the cotangent of out, got {len(operands)} operands")
        q, k, v, *mask, out, lse, g = operands
        self.check_rows(q, k, v, mask[0] if mask else None)
        found = q.with_shape((*q.shape[:-1], v.shape[-1]))
        if out != found or g != found:
            raise self.fail(f"out and its cotangent must be {found}, are {out} and {g}")
        if lse != q.with_shape(q.shape[:-1]).with_dtype(wide(q.dtype)):
            raise self.fail(f"lse must have the rows of q in {wide(q.dtype)}, is {lse} for {q}")
        return q, k, v

    def evaluate(self, *operands: np.ndarray) -> tuple[np.ndarray, ...]:
        q, k, v, *mask, _, _, g = operands
        weights, _ = self.np_weights(q, k, mask[0] if mask else None)
        by_weights = _np_product(g, np.swapaxes(v, -1, -2))
        by_scores = weights * (by_weights - np.sum(weights * by_weights, -1, keepdims=True))
        by_scores = np.where(self.np_seen(weights.shape, mask[0] if mask else None), by_scores, 0.0)
        return (_np_product(by_scores, k) * self.scale,
                _np_product(np.swapaxes(by_scores, -1, -2), q.astype(np.float64) * self.scale),
                _np_product(np.swapaxes(weights, -1, -2), g))

    def composition(self, b: Builder, operands: Sequence[Value]) -> Sequence[Value]:
        q, k, v, *mask, _, _, g = operands
        parts, g = self.parts(b, q, k, v, mask[0] if mask else None), widened(b, g)
        by_scores = _of_scores(b, parts, b.matmul(g, b.transpose(parts.v)))
        by_q = b.matmul(by_scores, parts.k)
        return (b.cast(b.mul(by_q, b.scalar(self.scale, by_q)), q.dtype),
                b.cast(b.matmul(b.transpose(by_scores), parts.q), k.dtype),
                b.cast(b.matmul(b.transpose(parts.weights), g), v.dtype))

    def vjp(self, b: Builder, operands: Sequence[Value], results: Sequence[Value],
            cotangents: Sequence[Value | None]) -> Sequence[Value | None]:
        """With P the weights, A = g v^T, D its sums along rows weighted by P, dS = P * (A - D); u, w and x the cotangents
        of dq = s dS k, dk = s dS^T q and dv = P^T g: E = s (u k^T + q w^T) is that of dS, and the rest follows."""
        q, k, v, *mask, _, _, g = operands
        u, w, x = [None if c is None else widened(b, c) for c in cotangents]
        parts, wide_g = self.parts(b, q, k, v, mask[0] if mask else None), widened(b, g)
        p, last = parts.weights, (len(parts.weights.shape) - 1,)
        by_weights = b.matmul(wide_g, b.transpose(parts.v))                             # A
        centred = b.sub(by_weights, _along(b, b.sum(b.mul(p, by_weights), last), p))    # A - D
        to: dict[str, Value | None] = dict.fromkeys("qkvg")
        of_p: Value | None = None
        of_scores: Value | None = None                                                  # E
        scale = b.scalar(self.scale, parts.q)
        if u is not None:
            of_scores = b.matmul(b.mul(u, scale), b.transpose(parts.k))
            to["k"] = b.matmul(b.transpose(b.mul(p, centred)), b.mul(u, scale))
        if w is not None:
            of_scores = _sum(b, of_scores, b.matmul(parts.q, b.transpose(w)))
            to["q"] = b.mul(b.matmul(b.mul(p, centred), w), scale)
        if x is not None:
            of_p = b.matmul(wide_g, b.transpose(x))
            to["g"] = b.matmul(p, x)
        if of_scores is not None:
            total = _along(b, b.sum(b.mul(of_scores, p), last), p)
            of_p = _sum(b, of_p, b.sub(b.mul(of_scores, centred), b.mul(total, by_weights)))
            of_a = b.mul(p, b.sub(of_scores, total))
            to["g"] = _sum(b, to["g"], b.matmul(of_a, parts.v))
            to["v"] = b.matmul(b.transpose(of_a), wide_g)
        assert of_p is not None
        rest = _of_scores(b, parts, of_p)
        to["q"] = _sum(b, to["q"], b.mul(b.matmul(rest, parts.k), scale))
        to["k"] = _sum(b, to["k"], b.matmul(b.transpose(rest), parts.q))
        by_mask = [b.cast(rest, m.dtype) if m.dtype.is_floating_point else None for m in mask]
        found = [None if (ct := to[name]) is None else b.cast(ct, like.dtype)
                 for name, like in (("q", q), ("k", k), ("v", v), ("g", g))]
        return (*found[:3], *by_mask, None, None, found[3])

    def batched(self, b: Builder, operands: Sequence[Value], mapped: Sequence[bool], size: int) -> Sequence[Value]:
        return tuple(b.emit(self, *spread_all(b, operands, mapped, size)))

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for forward in Attention.samples():
            op = forward.op
            assert isinstance(op, Attention)
            out, lse = op.infer(*forward.types)
            found = op.evaluate(*[np.asarray(x, np.float64) if x.dtype.kind == "f" else x for x in forward.operands]) \
                if forward.types[0].dtype.storage == forward.types[0].dtype.compute else None
            if found is None:
                continue
            given_g = drawn(op, out).operands[0]
            operands = (*forward.operands, found[0].astype(out.dtype.storage), found[1].astype(lse.dtype.storage), given_g)
            wanted = forward.differentiable or (True,) * len(forward.types)
            yield Sample(cls(op.scale, op.causal, op.safe, op.tiled), operands, (*forward.types, out, lse, out),
                         (*wanted, False, False, True) if any(wanted) else (False,) * len(operands), 8.0)


def _drawn(op: Attention, shape: str, mask: str | None) -> Sample:
    """shape: "batch x batch x L,S,E,V". Every row sees something."""
    *batch, sizes = shape.split("x")
    rows, columns, size, value_size = (int(n) for n in sizes.split(","))
    pairs = [(rows, size), (columns, size), (columns, value_size)] + ([(rows, columns)] if mask else [])
    dtypes_of = ["f32"] * 3 + ([mask] if mask else [])
    types = [f"{t}[{','.join(map(str, (*batch, *pair)))}]" for t, pair in zip(dtypes_of, pairs, strict=True)]
    sample = drawn(op, *types, tolerance=4.0)
    if mask == "bool":
        sample.operands[3][..., 0] = True
    return sample


def _special_rows() -> list[np.ndarray]:
    """Scores that are huge, infinite or NaN, and a row that sees nothing."""
    q = np.array([[1.0], [300.0], [-300.0], [np.inf], [np.nan], [0.0]], np.float32)
    k = np.array([[1.0], [2.0], [-3.0]], np.float32)
    v = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], np.float32)
    mask = np.zeros((6, 3), np.float32)
    mask[5], mask[0, 1] = -np.inf, -np.inf
    return [q, k, v, mask]


def _along(b: Builder, x: Value, like: Value) -> Value:
    """One number for each row, along the rows of `like`."""
    return b.expand_reduced(x, like.shape, (len(like.shape) - 1,))


def _sum(b: Builder, x: Value | None, y: Value) -> Value:
    return y if x is None else b.add(x, y)


def _of_scores(b: Builder, parts: _Parts, ct: Value) -> Value:
    """The cotangent of scores, given that of their softmax."""
    weights = parts.weights
    total = b.sum(b.mul(ct, weights), (len(weights.shape) - 1,))
    found = b.mul(weights, b.sub(ct, _along(b, total, weights)))
    for allowed in parts.seen:
        found = b.where(allowed, found, b.scalar(0.0, found))
    return found


def _log_sum_exp(b: Builder, scores: Value) -> Value:
    if scores.shape[-1] == 0:
        return b.full(scores.type.with_shape(scores.shape[:-1]), _NONE)
    last = (len(scores.shape) - 1,)
    top = b.amax(scores, last)
    top = b.where(b.eq(top, b.scalar(_NONE, top)), b.scalar(0.0, top), top)
    return b.add(top, b.log(b.sum(b.exp(b.sub(scores, _along(b, top, scores))), last)))
