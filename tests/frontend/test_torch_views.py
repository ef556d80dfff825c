"""Views, rearrangements and indexing, against PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from against_torch import check, ours, theirs

import flambeau as fb

pytestmark = pytest.mark.torch
Case = Callable[..., Any]


@pytest.mark.parametrize(
    "case",
    [
        lambda x: x.reshape(4, 6),
        lambda x: x.reshape((-1,)),
        lambda x: x.view(2, -1, 2),
        lambda x: x.reshape(-1, 1),
        lambda x: x.flatten(),
        lambda x: x.flatten(1),
        lambda x: x.flatten(0, 1),
        lambda x: x.ravel(),
        lambda x: x.unflatten(1, (3, 1)),
        lambda x: x.unflatten(2, (2, -1)),
        lambda x: x.unsqueeze(0),
        lambda x: x.unsqueeze(-1),
        lambda x: x.unsqueeze(1).squeeze(1),
        lambda x: x.unsqueeze(0).unsqueeze(2).squeeze(),
        lambda x: x.squeeze(0),
        lambda x: x[:1].squeeze((0, 1)),
        lambda x: x.permute(2, 0, 1),
        lambda x: x.permute((1, 0, 2)),
        lambda x: x.permute(-1, 0, 1),
        lambda x: x.transpose(0, 2),
        lambda x: x.transpose(-1, -2),
        lambda x: x.mT,
        lambda x: x[0].T,
        lambda x: x[0].t(),
        lambda x: x.swapaxes(0, 1),
        lambda x: x.movedim(0, -1),
        lambda x: x.movedim((0, 1), (2, 0)),
        lambda x: x.expand(5, 2, 3, 4),
        lambda x: x[:, :1].expand(-1, 6, -1),
        lambda x: x[:1].expand_as(x),
        lambda x: x.broadcast_to((2, 2, 3, 4)),
        lambda x: x.diagonal(),
        lambda x: x.diagonal(1, 1, 2),
        lambda x: x.diagonal(-1, 0, 2),
        lambda x: x.transpose(0, 1).reshape(6, 4),
        lambda x: x.transpose(0, 1).contiguous(),
        lambda x: x.clone(),
        lambda x: x.flip(0),
        lambda x: x.flip(0, 2),
        lambda x: x.flip((1,)),
        lambda x: x.roll(1, 0),
        lambda x: x.roll(-5, 2),
        lambda x: x.roll((1, 2), (0, 2)),
        lambda x: x.roll(3),
        lambda x: x.rot90(),
        lambda x: x.rot90(3, (1, 2)),
        lambda x: x.rot90(2, (0, 2)),
        lambda x: x.narrow(1, 1, 2),
        lambda x: x.narrow(2, -3, 2),
        lambda x: x.select(1, -1),
        lambda x: x.unbind(1),
        lambda x: x.split(2, 1),
        lambda x: x.split([1, 3], -1),
        lambda x: x.chunk(3, 2),
        lambda x: x.chunk(2, 1),
        lambda x: x.tensor_split(3, 2),
        lambda x: x.tensor_split((1, 3), 2),
        lambda x: x.tril(),
        lambda x: x.triu(1),
        lambda x: x.tril(-1),
        lambda x: x.repeat(2, 1, 3),
        lambda x: x.repeat(2, 1, 1, 2),
        lambda x: x.tile(2),
        lambda x: x.repeat_interleave(2, 1),
        lambda x: x.repeat_interleave(3),
        lambda x: x[0].diag(),
        lambda x: x[0, 0].diag(),
        lambda x: x[0, 0].diag(-2),
        lambda x: x[0].diag_embed(),
        lambda x: x[0].diag_embed(1),
    ],
)
def test_views_agree(case: Case) -> None:
    check(lambda lib, x: case(x), "f32[2,3,4]")


@pytest.mark.parametrize(
    "case",
    [
        lambda lib, x, y: lib.cat([x, y]),
        lambda lib, x, y: lib.cat((x, y, x), dim=1),
        lambda lib, x, y: lib.cat([x, y], -1),
        lambda lib, x, y: lib.stack([x, y]),
        lambda lib, x, y: lib.stack([x, y], dim=-1),
        lambda lib, x, y: lib.hstack([x, y]),
        lambda lib, x, y: lib.vstack([x[0], y]),
        lambda lib, x, y: lib.hstack([x[0], y[1]]),
        lambda lib, x, y: lib.cat([x, y.long()]),
        lambda lib, x, y: lib.broadcast_tensors(x[0], y),
        lambda lib, x, y: lib.meshgrid(x[0], y[:, 0], indexing="ij"),
        lambda lib, x, y: lib.meshgrid(x[0], y[:, 0], indexing="xy"),
        lambda lib, x, y: lib.cat([lib.zeros(0), x]),
    ],
)
def test_joins_agree(case: Case) -> None:
    check(case, "f32[2,3]", "f32[2,3]")


INDICES: list[Any] = [
    0,
    -1,
    (1, 2),
    (0, slice(None), 3),
    slice(1, None),
    slice(None, -1),
    slice(None, None, 2),
    (slice(None), slice(1, 10)),
    slice(5, 9),
    None,
    (None, 0),
    (Ellipsis, 0),
    (0, Ellipsis),
    (Ellipsis, None),
    (0, Ellipsis, 1, 2),
    Ellipsis,
    (),
    (slice(None), None, slice(0, 2), Ellipsis),
    [0, 2],
    ([0, 1], [1, 2]),
    (slice(None), [2, 0]),
    ([0, 1, 0], slice(None), [3, 0, 1]),
    (slice(None), [0, 1], [1, 2]),
    (0, [1, 2]),
    (0, slice(None), [1, 3]),
    ([[0], [2]],),
    ([-1, -2], 1),
    (None, [1, 0]),
    ([0, 1], None, [1, 2]),
    ([0], [[1], [2]]),
    (slice(None), slice(None), slice(1, 4, 2)),
]


def _with_tensors(lib: Any, index: Any) -> Any:
    if isinstance(index, list):
        return lib.tensor(index)
    return tuple(_with_tensors(lib, i) for i in index) if isinstance(index, tuple) else index


@pytest.mark.parametrize("index", INDICES, ids=str)
def test_indexing_agrees(index: Any) -> None:
    check(lambda lib, x: x[_with_tensors(lib, index)], "f32[3,4,5]")


@pytest.mark.parametrize("index", INDICES, ids=str)
def test_assignment_agrees(index: Any) -> None:
    def run(lib: Any, x: Any, value: Any) -> Any:
        y = x * 1
        y[_with_tensors(lib, index)] = 7.0
        z = x * 1
        z[_with_tensors(lib, index)] = value * 2
        return y, z

    check(run, "f32[3,4,5]", "f32[]")


def test_masks_agree() -> None:
    check(
        lambda lib, x: [
            x[x > 0],
            x[x.sum(2) > 0],
            x[:, x.sum((0, 2)) > 0],
            x[lib.tensor([True, False, True])],
        ],
        "f32[3,4,5]",
    )


def test_mask_assignment_agrees() -> None:
    def run(lib: Any, x: Any, v: Any) -> Any:
        a, b, c = x * 1, x * 1, x * 1
        a[a > 0] = 0.5
        b[b > 0] = v
        c[lib.tensor([True, False, True])] = lib.zeros(4)
        return a, b, c

    check(run, "f32[3,4]", "f32[]")
    check(lambda lib, x: _put(x, lib.tensor([True, False, True]), lib.ones(2, 4) * 3), "f32[3,4]")


def _put(x: Any, mask: Any, value: Any) -> Any:
    y = x * 1
    y[mask] = value
    return y


def test_assigning_rows_of_values_agrees() -> None:
    def run(lib: Any, x: Any, v: Any) -> Any:
        y = x * 1
        y[lib.tensor([2, 0])] = v
        y[:, 1] = lib.tensor([9.0, 8.0, 7.0])
        y[1, :2] = v[0, :2]
        return y

    check(run, "f32[3,4]", "f32[2,4]")


@pytest.mark.parametrize(
    "case",
    [
        lambda lib, x, i: lib.gather(x, 1, i),
        lambda lib, x, i: lib.gather(x, 0, i[:2]),
        lambda lib, x, i: x.gather(-1, i[:, :1]),
        lambda lib, x, i: lib.index_select(x, 0, i[0]),
        lambda lib, x, i: lib.take_along_dim(x, i, 1),
        lambda lib, x, i: lib.take_along_dim(x, i[:, :1], 1),
        lambda lib, x, i: lib.take(x, i),
        lambda lib, x, i: lib.scatter_add(x, 1, i, x * 2),
        lambda lib, x, i: lib.zeros(5, 3).scatter_add(0, i[:, :2], x[:, :2]),
        lambda lib, x, i: lib.index_add(x, 0, i[0], x * 3),
        lambda lib, x, i: x.index_add(0, i[0], x, alpha=2),
        lambda lib, x, i: lib.masked_fill(x, i > 1, 5.0),
        lambda lib, x, i: x.masked_fill(i[0] > 0, -1),
        lambda lib, x, i: lib.masked_select(x, i > 0),
        lambda lib, x, i: x.index_fill(1, lib.tensor([0, 2]), 4.0),
        lambda lib, x, i: x.index_copy(0, lib.tensor([2, 0]), x[:2] * 2),
        lambda lib, x, i: lib.nonzero(i),
        lambda lib, x, i: lib.nonzero(i, as_tuple=True),
        lambda lib, x, i: lib.F.one_hot(i, 4),
        lambda lib, x, i: lib.F.one_hot(i),
        lambda lib, x, i: lib.bincount(i.flatten()),
        lambda lib, x, i: lib.bincount(i.flatten(), minlength=7),
        lambda lib, x, i: x.scatter(1, lib.tensor([[0], [2], [1]]), 1.5),
        lambda lib, x, i: x.scatter(1, lib.tensor([[0, 2], [2, 1]]), x[:2, :2] * 10),
        lambda lib, x, i: x.detach().scatter(0, lib.tensor([[2, 1, 0]]), x[:1].detach(), reduce="add"),
    ],
)
def test_gathers_and_scatters_agree(case: Case) -> None:
    check(case, "f32[3,3]", "i64[3,3]")


def test_equal_indices_let_the_last_assignment_win() -> None:
    x = fb.zeros(4)
    x[fb.tensor([1, 1, 2])] = fb.tensor([5.0, 6.0, 7.0])
    assert x.tolist() == [0, 6, 7, 0]


@pytest.mark.parametrize(
    ("case", "error"),
    [
        (lambda lib, x: x.reshape(5), RuntimeError),
        (lambda lib, x: x.reshape(-1, -1), RuntimeError),
        (lambda lib, x: x.t().view(6), RuntimeError),
        (lambda lib, x: x.permute(0, 0), RuntimeError),
        (lambda lib, x: x.transpose(0, 2), IndexError),
        (lambda lib, x: x.unsqueeze(4), IndexError),
        (lambda lib, x: x.expand(3, 3), RuntimeError),
        (lambda lib, x: lib.cat([x, lib.ones(2)]), RuntimeError),
        (lambda lib, x: lib.stack([x, lib.ones(2)]), RuntimeError),
        (lambda lib, x: lib.cat([]), (RuntimeError, ValueError)),
        (lambda lib, x: x[2], IndexError),
        (lambda lib, x: x[0, 0, 0], IndexError),
        (lambda lib, x: x[::-1], ValueError),
        (lambda lib, x: x[1.5], (IndexError, TypeError)),
        (lambda lib, x: x[lib.tensor([5])], IndexError),
        (lambda lib, x: x[lib.tensor([1.0])], IndexError),
        (lambda lib, x: x[lib.tensor([True, False, True])], IndexError),
        (lambda lib, x: x.__setitem__(0, lib.ones(4)), RuntimeError),
        (lambda lib, x: x.split([1, 2], 0), RuntimeError),
        (lambda lib, x: x.narrow(0, 1, 5), RuntimeError),
        (lambda lib, x: x.gather(0, lib.tensor([[9]])), (RuntimeError, IndexError)),
        (lambda lib, x: lib.index_select(x, 0, lib.tensor([9])), (RuntimeError, IndexError)),
        (lambda lib, x: x.squeeze(3), IndexError),
        (lambda lib, x: x.masked_fill(lib.tensor([1, 2, 3]), 0), RuntimeError),
        (lambda lib, x: x.flip(0, 0), RuntimeError),
        (lambda lib, x: lib.tril(lib.ones(3)), RuntimeError),
        (lambda lib, x: lib.F.one_hot(lib.tensor([3]), 2), RuntimeError),
        (lambda lib, x: x.flatten(1, 0), RuntimeError),
        (lambda lib, x: x.unflatten(1, (2, 2)), RuntimeError),
    ],
)
def test_errors_have_pytorchs_types(case: Case, error: Any) -> None:
    torch = theirs()
    with pytest.raises(error):
        case(torch, torch.ones(2, 3))
    with pytest.raises(error):
        case(ours, fb.ones(2, 3))


@pytest.mark.parametrize(
    "case",
    [
        lambda x: x.t(),
        lambda x: x[1:],
        lambda x: x[:, ::2],
        lambda x: x.reshape(2, 6),
        lambda x: x.t().reshape(12),
        lambda x: x.view(12)[3:9].view(2, 3),
        lambda x: x.unsqueeze(1).expand(3, 5, 4),
        lambda x: x[:, 1:3].unsqueeze(0),
        lambda x: x.t()[1:3].t(),
        lambda x: x[:, :2].reshape(6),
        lambda x: x[1:].reshape(8),
        lambda x: x.diagonal(),
    ],
)
def test_strides_and_sharing_agree(case: Case) -> None:
    torch = theirs()
    data = np.arange(12, dtype=np.float32).reshape(3, 4)
    a, b = fb.tensor(data), torch.tensor(data)
    x, y = case(a), case(b)
    assert x.is_contiguous() == y.is_contiguous()
    strides = [(s, t) for s, t, n in zip(x.stride(), y.stride(), y.shape, strict=True) if n > 1]
    assert all(s == t for s, t in strides)
    assert (x.data_ptr() - a.data_ptr()) == (y.data_ptr() - b.data_ptr()) or (
        x._storage is not a._storage and y.untyped_storage().data_ptr() != b.untyped_storage().data_ptr()
    )
