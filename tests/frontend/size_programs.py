"""Random programs of shape code: views, slices, joins, reductions, broadcasts, products, masks, windows, look-ups, writes
in place (through what may or may not share memory, too), and numbers made of sizes; with first and second derivatives.
What they do is decided by a seed, and by what they ask of sizes.

    python tests/frontend/size_programs.py [FIRST:LAST]
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Sequence
from typing import Any

import symbolic

import flambeau as fb
import flambeau.nn.functional as F
from flambeau.ir.dims import Dim, Size

Rng = random.Random
REFUSALS = (RuntimeError, IndexError, ValueError, ZeroDivisionError)      # what does not fit


def place(rng: Rng, size: Any) -> Any:
    """Somewhere in (or a little outside of) a dim."""
    return rng.choice([0, 1, 2, -1, -2, None, size // 2, size - 1, (size + 1) // 2, size, -(size // 2), size // 3])


def part(rng: Rng, x: fb.Tensor, d: int) -> Any:
    size = x.shape[d]
    return slice(place(rng, size), place(rng, size), rng.choice([None, None, 1, 2, 3]))


def dim(rng: Rng, x: fb.Tensor) -> int:
    return rng.randrange(-x.ndim, x.ndim)


def reshaped(rng: Rng, x: fb.Tensor, other: fb.Tensor) -> Any:
    d = rng.randrange(x.ndim)
    shape = list(x.shape)
    match rng.randrange(8):
        case 0:
            return x.flatten(d)
        case 1:
            return x.reshape(*shape[:d], -1)
        case 2:
            return x.unflatten(d, rng.choice([(2, -1), (-1, 2), (1, shape[d]), (shape[d] // 2, 2)]))
        case 3:
            return x.reshape(*shape[:d], shape[d] * shape[d - 1], *shape[d + 1:]) if d else x.ravel()
        case 4:
            return x.view(-1, shape[-1])
        case 5:
            return x.reshape(other.shape)
        case 6:
            return x.reshape(*shape[:d], shape[d] // 2, 2, *shape[d + 1:])
        case _:
            return x.contiguous().view(x.numel())


def ordered(rng: Rng, x: fb.Tensor, other: fb.Tensor) -> Any:
    order = list(range(x.ndim))
    rng.shuffle(order)
    return rng.choice([lambda: x.permute(order), lambda: x.transpose(dim(rng, x), dim(rng, x)), lambda: x.T,
                       lambda: x.flip(dim(rng, x)), lambda: x.roll(rng.choice([1, -2, x.shape[0] // 2]), dim(rng, x)),
                       lambda: x.unsqueeze(dim(rng, x)), lambda: x.squeeze(dim(rng, x)), lambda: x.movedim(0, -1)])()


def cut(rng: Rng, x: fb.Tensor, other: fb.Tensor) -> Any:
    d = rng.randrange(x.ndim)
    size, lead = x.shape[d], (slice(None),) * d
    match rng.randrange(10):
        case 0 | 1 | 2:
            return x[(*lead, part(rng, x, d))]
        case 3:
            return x[(*lead, rng.choice([0, -1, size // 2, size - 1]))]
        case 4:
            return x.narrow(d, rng.choice([0, 1, size // 2]), rng.choice([1, size // 2, size - 1]))
        case 5:
            return rng.choice(x.chunk(2, d))
        case 6:
            return x.split(rng.choice([1, 2, (size + 1) // 2]), d)[-1]
        case 7:
            return x.split([1, size - 1], d)[1]
        case 8:
            return x.tensor_split(2, d)[-1]
        case _:
            return x[..., None, part(rng, x, x.ndim - 1)]


def joined(rng: Rng, x: fb.Tensor, other: fb.Tensor) -> Any:
    d = rng.randrange(x.ndim)
    lead = (slice(None),) * d
    match rng.randrange(8):
        case 0:
            return fb.cat([x, other], d)
        case 1:
            return fb.cat([x, x[(*lead, part(rng, x, d))]], d)
        case 2:
            return fb.stack([x, x * 2], d)
        case 3:
            amounts = rng.choice([0, 1, x.shape[-1]]), rng.choice([0, 2, x.shape[0] // 2])
            return F.pad(x, amounts, value=rng.choice([0.0, 1.0]))
        case 4:
            return x.repeat(*[rng.choice([1, 2]) for _ in x.shape])
        case 5:
            return x.repeat_interleave(2, d)
        case 6:
            return x.unsqueeze(d).expand(*x.shape[:d], other.shape[0], *x.shape[d:])
        case _:
            return fb.cat([x.new_zeros(*x.shape[:d], 1, *x.shape[d + 1:]), x], d)


def folded(rng: Rng, x: fb.Tensor, other: fb.Tensor) -> Any:
    d = dim(rng, x)
    keep = rng.random() < 0.5
    return rng.choice([
        lambda: x.sum(d, keepdim=keep), lambda: x.mean(d, keepdim=keep), lambda: x.var(d, keepdim=keep, correction=0),
        lambda: x.amax(d, keepdim=keep), lambda: x.argmax(d).double(), lambda: x.mean(), lambda: x.sum(),
        lambda: x.softmax(d), lambda: x.cumsum(d), lambda: x.sort(d).values, lambda: x.argsort(d).double(),
        lambda: x.topk(1, d).values, lambda: x.norm(dim=d), lambda: x.logsumexp(d), lambda: F.layer_norm(x, x.shape[-1:]),
        lambda: x.std(), lambda: x.median(d).values, lambda: x.cummax(d).values, lambda: x.prod(d), lambda: x.max(),
        lambda: F.normalize(x, dim=d), lambda: x.diff(dim=d), lambda: x.cumprod(d)])()


def paired(rng: Rng, x: fb.Tensor, other: fb.Tensor) -> Any:
    return rng.choice([
        lambda: x + other, lambda: x * other, lambda: x - other.mean(), lambda: fb.where(x > 0, x, other),
        lambda: x @ other, lambda: x @ other.mT, lambda: x.mT @ x, lambda: x[..., None] * other,
        lambda: fb.maximum(x, other), lambda: fb.outer(x.flatten(), other.flatten()), lambda: F.linear(x, other),
        lambda: fb.einsum("...i,...i->...", x, x), lambda: fb.einsum("i...,i...->...", x, x), lambda: F.mse_loss(x, other),
        lambda: x.expand_as(other), lambda: fb.broadcast_tensors(x, other)[0],
        lambda: F.scaled_dot_product_attention(x, x, x, is_causal=rng.random() < 0.5)])()


def counted(rng: Rng, x: fb.Tensor, other: fb.Tensor) -> Any:
    d = rng.randrange(x.ndim)
    size, last = x.shape[d], x.shape[-1]
    return rng.choice([
        lambda: x * size, lambda: x / x.numel(), lambda: x * last ** -0.5, lambda: x + fb.arange(last),
        lambda: fb.arange(size, dtype=fb.float64), lambda: fb.arange(1, 2 * size, 2).double(),
        lambda: fb.zeros(size, last, dtype=fb.float64), lambda: fb.full((last,), size, dtype=fb.float64),
        lambda: x.masked_fill(fb.arange(last) < last // 2, -1.0), lambda: fb.linspace(0, 1, size, dtype=fb.float64),
        lambda: x.new_ones(size, size).tril(), lambda: fb.eye(size, last, dtype=fb.float64),
        lambda: x.new_ones(last, last).triu(1).cumsum(0), lambda: x.mean(d) * (size - 1) / size,
        lambda: fb.tensor([size, last]).double(), lambda: fb.arange(size - 1, -1, -1).double(),
        lambda: x * (size / (last + 1)), lambda: fb.rand(size, 2, dtype=fb.float64)])()


def looked_up(rng: Rng, x: fb.Tensor, other: fb.Tensor) -> Any:
    d = rng.randrange(x.ndim)
    size, lead = x.shape[d], (slice(None),) * d
    if 0 in x.shape:                        # no index is in range, which programs find as they run
        return x
    return rng.choice([
        lambda: x[(*lead, fb.arange(size - 1, -1, -1))], lambda: x.index_select(d, fb.arange(size) // 2),
        lambda: x.gather(d, x.argsort(d)), lambda: x.take_along_dim(x.argmax(d, keepdim=True), d),
        lambda: F.one_hot(fb.arange(size) % 2, 2).double(), lambda: x[(*lead, [0, -1])], lambda: x.diagonal(),
        lambda: x.tril(), lambda: x.unfold(d, 2, 1), lambda: x.scatter_add(d, x.argsort(d), x),
        lambda: F.embedding(fb.arange(x.shape[0]), x), lambda: x[fb.arange(x.shape[0]), 0]])()


def written(rng: Rng, x: fb.Tensor, other: fb.Tensor) -> Any:
    made = x * 1.0
    d = rng.randrange(x.ndim)
    at = (*(slice(None),) * d, part(rng, x, d))
    match rng.randrange(6):
        case 0:
            made[at] = 0.5
        case 1:
            made[at] += 1
        case 2:
            made[at].mul_(x.shape[d])
        case 3:
            made.view(-1)[::2] = 2.0
        case 4:
            made[(*(slice(None),) * d, -1)] = made[(*(slice(None),) * d, 0)]
        case _:
            made.mT.add_(fb.arange(x.shape[-2])) if x.ndim > 1 else made.zero_()
    return made


def shared(rng: Rng, x: fb.Tensor, other: fb.Tensor) -> Any:
    """A write to what is a view or a copy, by the sizes."""
    made = x * 1.0
    d = rng.randrange(x.ndim)
    at = made[(*(slice(None),) * d, rng.choice([part(rng, x, d), slice(other.shape[0])]))]
    turned = made.transpose(dim(rng, x), dim(rng, x))
    view = rng.choice([
        lambda: turned.contiguous(), lambda: turned.reshape(-1), lambda: at.reshape(-1), lambda: at.contiguous(),
        lambda: turned.flatten(0, -1), lambda: at.transpose(0, -1).contiguous().mT.contiguous(),
        lambda: turned.reshape(x.shape[0], -1), lambda: at.ravel(), lambda: at[..., 0].reshape(-1, 1)])()
    if rng.random() < 0.5:
        view.add_(1.0)
        return made
    made.mul_(2.0)
    return view


def windowed(rng: Rng, x: fb.Tensor, other: fb.Tensor) -> Any:
    """Convolutions, pooling and images."""
    lines = x.reshape(1, -1, x.shape[-1])                       # [1, C, L]
    image = x.reshape(-1, 1, *x.shape[-2:]) if x.ndim > 1 else x.reshape(1, 1, 1, -1)
    size, step, pad = rng.choice([1, 2, 3]), rng.choice([1, 2, 3]), rng.choice([0, 1])
    ceil = rng.random() < 0.5
    made = rng.choice([
        lambda: F.conv1d(lines, lines[:, :, :size].transpose(0, 1) * 0.5 if rng.random() < 0.3 else fb.ones(
            2, 1, size, dtype=x.dtype).expand(2, lines.shape[1], size), stride=step, padding=pad),
        lambda: F.conv2d(image, fb.ones(2, 1, size, size, dtype=x.dtype), stride=step, padding=pad),
        lambda: F.conv_transpose1d(lines, fb.ones(1, 1, size, dtype=x.dtype).expand(lines.shape[1], 2, size), stride=step),
        lambda: F.conv2d(image, fb.ones(1, 1, 2, 2, dtype=x.dtype), dilation=step, padding="same"),
        lambda: F.max_pool1d(lines, size, step, pad if size > 1 else 0, ceil_mode=ceil),
        lambda: F.avg_pool2d(image, size, step, pad if size > 1 else 0, ceil, rng.random() < 0.5),
        lambda: F.max_pool2d(image, size, step, ceil_mode=ceil), lambda: F.adaptive_avg_pool2d(image, 1),
        lambda: F.interpolate(image, scale_factor=2, mode=rng.choice(["nearest", "bilinear"])),
        lambda: F.pixel_unshuffle(image, 2), lambda: F.unfold(image, size, stride=step, padding=pad),
        lambda: F.group_norm(lines, 1), lambda: F.instance_norm(image)])()
    return made.squeeze(0) if made.ndim > 3 else made


def attended(rng: Rng, x: fb.Tensor, other: fb.Tensor) -> Any:
    """Attention and its masks, losses, and products by einsum."""
    rows = x.reshape(-1, x.shape[-1])
    n, m = rows.shape
    classes = fb.arange(n) % m if m else fb.arange(n)
    return rng.choice([
        lambda: (rows @ rows.T).masked_fill(fb.ones(n, n).tril() == 0, float("-inf")).softmax(-1) @ rows,
        lambda: (rows @ rows.T).masked_fill(fb.arange(n)[None] > fb.arange(n)[:, None] + 1, -1e9).softmax(-1),
        lambda: F.scaled_dot_product_attention(rows[None], rows[None], rows[None], fb.arange(n) < (n + 1) // 2),
        lambda: F.cross_entropy(rows, classes), lambda: F.nll_loss(rows.log_softmax(-1), classes, reduction="none"),
        lambda: fb.einsum("ij,kj->ik", rows, rows), lambda: fb.einsum("ij,jk->ki", rows, rows.T * 0.5),
        lambda: F.batch_norm(rows, None, None, training=True), lambda: F.smooth_l1_loss(rows, rows.flip(0)),
        lambda: fb.cdist(rows, rows[:1] + 1.0), lambda: F.cosine_similarity(rows, rows.roll(1, 0)),
        lambda: fb.nn.functional.gelu(rows).view(-1, m, 1), lambda: fb.kron(rows, fb.eye(2, dtype=x.dtype)),
        lambda: fb.bmm(rows[None], rows.T[None])[0], lambda: rows.chunk(2, -1)[0] * rows.chunk(2, -1)[-1].sigmoid(),
        lambda: fb.stack(rows.split(rng.choice([1, 2]), -1), 0)])()


def scattered(rng: Rng, x: fb.Tensor, other: fb.Tensor) -> Any:
    """Indices made of sizes, several at once, and what is written by them."""
    if 0 in x.shape:
        return x
    d = rng.randrange(x.ndim)
    size, places = x.shape[d], fb.arange(x.shape[d])
    rows = fb.arange(x.shape[0])
    made = x * 1.0
    if rng.random() < 0.3:
        made[rows // 2] = 0.25 if rng.random() < 0.5 else made[:1] * 2.0
        return made
    return rng.choice([
        lambda: x[rows, ..., rows % x.shape[-1]], lambda: x[(rows + 1) % x.shape[0]], lambda: x[rows[:, None], None],
        lambda: made.index_add(d, places // 2, x), lambda: made.index_copy(d, places, x.flip(d)),
        lambda: made.index_fill(d, places[: size // 2], 3.0),
        lambda: fb.where(places.reshape(-1, *(1,) * (x.ndim - 1 - d)) % 2 == 0, x, 0.0),
        lambda: made.scatter(d, x.argsort(d), 1.5), lambda: x.gather(d, x.argsort(d, descending=True)),
        lambda: made.index_put((rows,), made[0] * 0.5, accumulate=True), lambda: x.take(fb.arange(x.numel()) // 2),
        lambda: fb.bincount(places, minlength=3).double(), lambda: fb.searchsorted(x.sort().values, x),
        lambda: x.cumsum(d).logcumsumexp(d), lambda: x.unfold(d, 1, 2),
        lambda: fb.meshgrid(rows, places, indexing="ij")[0].double(),
        lambda: x.tensor_split(3, d)[1], lambda: x.rot90() if x.ndim > 1 else x])()


STEPS: tuple[Callable[..., Any], ...] = (
    reshaped, reshaped, ordered, cut, cut, cut, joined, folded, paired, paired, counted, looked_up, written, shared,
    windowed, attended, scattered)


def program(seed: int, length: int, with_gradients: bool) -> Callable[..., Any]:
    """A function of float64 tensors."""
    def run(*given: fb.Tensor) -> list[Any]:
        rng, values = Rng(seed), list(given)
        for _ in range(length):
            step, x, other = rng.choice(STEPS), rng.choice(values), rng.choice(values)
            state = rng.getrandbits(32)
            if not x.ndim:
                continue
            try:
                made = step(Rng(state), x, other)
            except REFUSALS:
                continue
            if made.ndim < 5 and made.numel() < 3000:
                values.append(made)
        made = values[len(given):]
        results = [*made, *[size for x in made for size in x.shape]]
        floats = [x for x in made if x.requires_grad]
        if with_gradients and floats:
            twice = rng.random() < 0.3
            total = sum(x.sin().sum() for x in floats)
            found = fb.autograd.grad(total, list(given), allow_unused=True, create_graph=twice)
            results += (found := [g for g in found if g is not None])
            again = [g.square().sum() for g in found if g.requires_grad]
            if twice and again:
                results += [g for g in fb.autograd.grad(sum(again), list(given), allow_unused=True) if g is not None]
        return results

    return run


def drawn(seed: int) -> tuple[Callable[..., Any], list[fb.Tensor], list[tuple[Size, ...]]]:
    """A program, its arguments, and their shapes with names."""
    rng = Rng(seed)
    with_gradients = rng.random() < 0.4
    names: list[tuple[str, int]] = [(f"n{i}", rng.choice([2, 2, 3, 4, 5, 6])) for i in range(rng.randint(1, 4))]
    arguments: list[fb.Tensor] = []
    shapes: list[tuple[Size, ...]] = []
    for _ in range(rng.randint(1, 3)):
        shape: list[Size] = []
        numbers: list[int] = []
        for _ in range(rng.randint(1, 3)):
            if rng.random() < 0.75:
                name, number = rng.choice(names)
                shape.append(Dim(name))
            else:
                shape.append(number := rng.choice([1, 2, 3, 4]))
            numbers.append(number)
        fb.manual_seed(seed)
        arguments.append(fb.randn(*numbers, dtype=fb.float64).requires_grad_(with_gradients))
        shapes.append(tuple(shape))
    return program(seed, rng.randint(2, 7), with_gradients), arguments, shapes


def check(seed: int) -> symbolic.Program:
    function, arguments, shapes = drawn(seed)
    return symbolic.check(function, arguments, shapes, 3)


def told(seed: int) -> str:
    function, arguments, shapes = drawn(seed)
    return f"seed {seed}: {[tuple(map(str, shape)) for shape in shapes]} of {[tuple(t.shape) for t in arguments]}"


def main(seeds: Sequence[int]) -> int:
    wrong = compared = fixed = 0
    for seed in seeds:
        try:
            found = check(seed)
        except Exception as error:
            wrong += 1
            print(f"{told(seed)}: {type(error).__name__}: {str(error)[:300]}", flush=True)
            continue
        compared += found.compared
        fixed += bool(found.fixed)
    print(f"{len(seeds)} programs at {compared} sizes, {fixed} with a size that is fixed, {wrong} wrong")
    return int(wrong > 0)


if __name__ == "__main__":
    first, _, last = (sys.argv[1] if len(sys.argv) > 1 else "200").rpartition(":")
    sys.exit(main(range(int(first or 0), int(last))))
