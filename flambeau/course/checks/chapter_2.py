"""Checks of chapter 2: tensors."""
from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from flambeau.course.checking import Wrong, check, expect, of_ember, refuses, returns

SHAPES: tuple[tuple[int, ...], ...] = ((), (1,), (5,), (2, 3), (3, 1), (2, 3, 4), (0, 2), (1, 2, 1, 3))


@check("2.1", "sizes: a product, which is 1 for ()")
def _(m: Any) -> None:
    for shape in SHAPES:
        returns(m.size_of, shape, wanted=int(np.prod(shape)))


@check("2.1", "strides: the last dim is packed closest")
def _(m: Any) -> None:
    for shape in SHAPES:
        if 0 not in shape:
            wanted = tuple(s // 8 for s in np.zeros(shape).strides)
            returns(m.strides_of, shape, wanted=wanted,
                    hint="a step along a dim skips all that the dims after it hold: the product of their extents")


@check("2.1", "positions")
def _(m: Any) -> None:
    returns(m.position, (1, 2), (3, 1), wanted=5)
    returns(m.position, (1, 2), (1, 2), wanted=5)
    returns(m.position, (2, 0, 1), (12, 4, 1), wanted=25)
    returns(m.position, (3,), (0,), wanted=0)
    returns(m.position, (), (), wanted=0)


@check("2.1", "index_of counts through all indices, and undoes position")
def _(m: Any) -> None:
    for shape in SHAPES:
        found = [m.index_of(number, shape) for number in range(int(np.prod(shape)))]
        expect(f"the indices of {shape}", found, list(np.ndindex(*shape)),
               "the last dim runs fastest: take number % extent and number // extent from the last dim on")
        expect(f"their positions under {shape}", [m.position(i, m.strides_of(shape)) for i in found],
               list(range(len(found))))


@check("2.2", "shapes that fit")
def _(m: Any) -> None:
    for a, b in itertools.product(((), (1,), (3,), (2, 3), (2, 1), (1, 3), (4, 1, 1), (4, 2, 3)), repeat=2):
        returns(m.broadcast_shape, a, b, wanted=np.broadcast_shapes(a, b), hint="they are aligned at the last dim")
    returns(m.broadcast_shape, (0,), (1,), wanted=(0,), hint="a dim of 1 becomes as long as the other, which may be 0: the "
                                                            "larger one is not what is asked for")


@check("2.2", "shapes that do not fit are refused by name")
def _(m: Any) -> None:
    for a, b in (((3,), (4,)), ((2, 3), (3, 2)), ((2, 3), (2,)), ((0,), (2,))):
        refuses(m.broadcast_shape, a, b, error=m.ShapeError, naming=str(b), hint="say which shapes were given")


@check("2.2", "what repeats has stride 0")
def _(m: Any) -> None:
    for shape, wanted in (((3,), (2, 3)), ((3, 1), (3, 4)), ((), (2, 2)), ((1, 3), (5, 3)), ((2, 3), (2, 3)), ((1,), (1, 1))):
        array = np.arange(np.prod(shape), dtype=float).reshape(shape)
        strides = m.broadcast_strides(shape, tuple(s // 8 for s in array.strides), wanted)
        expect(f"how many strides {shape} as {wanted} has", len(strides), len(wanted))
        read = [array.reshape(-1)[sum(i * s for i, s in zip(index, strides, strict=True))] for index in np.ndindex(*wanted)]
        expect(f"{shape} read as {wanted} with strides {strides}", read, np.broadcast_to(array, wanted).reshape(-1).tolist(),
               "a step along a dim that repeats goes nowhere; dims that are new come first")
    expect("strides that were there are kept", m.broadcast_strides((3, 2), (1, 3), (4, 3, 2)), (0, 1, 3))
    for narrow, asked in (((3,), (4,)), ((2, 3), (3,)), ((3,), (3, 1))):
        refuses(m.broadcast_strides, narrow, (1,) * len(narrow), asked, error=m.ShapeError,
                hint="only dims of 1 are repeated, and dims do not go away")


@check("2.2", "which dims repeat")
def _(m: Any) -> None:
    for shape, wanted, dims in (((3,), (2, 3), (0,)), ((3, 1), (3, 4), (1,)), ((), (2, 2), (0, 1)), ((2, 3), (2, 3), ()),
                                ((1, 3), (1, 3), ()), ((1, 1), (4, 1), (0,))):
        returns(m.repeated_dims, shape, wanted, wanted=dims)


@check("2.3", "which views are contiguous")
def _(m: Any) -> None:
    row = np.arange(24.0)
    for shape, strides, wanted in (((4, 6), (6, 1), True), ((6, 4), (1, 6), False), ((24,), (1,), True), ((12,), (2,), False),
                                   ((1, 24), (99, 1), True), ((4, 6), (0, 1), False), ((), (), True)):
        expect(f"View(shape={shape}, strides={strides}).is_contiguous()", m.View(row, shape, strides).is_contiguous(), wanted)


@check("2.3", "permute: the same numbers in another order")
def _(m: Any) -> None:
    array = np.arange(24.0).reshape(2, 3, 4)
    view = m.View.of(array)
    for order in itertools.permutations(range(3)):
        found = view.permute(*order)
        expect(f"a view of (2, 3, 4) permuted by {order}", found.to_numpy(), array.transpose(order),
               "dim d of the result is dim order[d]: its extent, and its stride")
        expect("it has the same numbers", found.numbers is view.numbers, True, "a permute copies nothing")
        expect(f"its strides, permuted by {order}", found.strides, tuple((12, 4, 1)[d] for d in order))
        twice = found.permute(1, 2, 0)
        expect(f"permuted by {order} and by (1, 2, 0)", twice.to_numpy(), array.transpose(order).transpose(1, 2, 0),
               "dim d of the result is dim order[d]: its extent, and its stride")
    for order in ((0, 1), (0, 0, 1), (0, 1, 3)):
        refuses(view.permute, *order, error=of_ember("broadcast").ShapeError)


@check("2.3", "broadcast_to copies nothing")
def _(m: Any) -> None:
    view = m.View.of([[1.0], [2.0]])
    found = view.broadcast_to((3, 2, 4))
    expect("(2, 1) as (3, 2, 4)", found.to_numpy(), np.broadcast_to([[1.0], [2.0]], (3, 2, 4)))
    expect("it has the same numbers", found.numbers is view.numbers, True)


@check("2.3", "contiguous copies only if it has to")
def _(m: Any) -> None:
    view = m.View.of(np.arange(6.0).reshape(2, 3))
    expect("contiguous() of a contiguous view is that view", view.contiguous() is view, True)
    turned = view.permute(1, 0)
    found = turned.contiguous()
    expect("its elements", found.to_numpy(), turned.to_numpy())
    expect("its numbers", found.numbers, np.array([0.0, 3.0, 1.0, 4.0, 2.0, 5.0]))
    wide = m.View.of([7.0]).broadcast_to((3,)).contiguous()
    expect("a broadcast view made contiguous", wide.numbers, np.array([7.0] * 3))


@check("2.3", "reshape keeps the order of the elements")
def _(m: Any) -> None:
    array = np.arange(12.0).reshape(3, 4)
    view = m.View.of(array)
    for shape in ((12,), (2, 6), (4, 3), (1, 12, 1)):
        expect(f"(3, 4) reshaped to {shape}", view.reshape(shape).to_numpy(), array.reshape(shape))
        expect(f"(3, 4) permuted and reshaped to {shape}", view.permute(1, 0).reshape(shape).to_numpy(),
               array.T.reshape(shape), "the order is that of the indices, not that of the row: a permuted view is copied")
    expect("a contiguous one has the same numbers", view.reshape((12,)).numbers is view.numbers, True)
    refuses(view.reshape, (5, 2), error=of_ember("broadcast").ShapeError, naming="(5, 2)")


def views(*shapes: tuple[int, ...]) -> list[tuple[Any, np.ndarray]]:
    """Each shape contiguous, and as a permuted and a broadcast view, beside the array it is."""
    make, rng = of_ember("storage").View.of, np.random.default_rng(0)
    found = []
    for shape in shapes:
        array = rng.normal(size=shape)
        found.append((make(array), array))
        found.append((make(array.T).permute(*reversed(range(len(shape)))), array))
        if shape:
            found.append((make(array[:1]).broadcast_to(shape), np.broadcast_to(array[:1], shape)))
    return found


@check("2.4", "map, over any strides")
def _(m: Any) -> None:
    for view, array in views((), (4,), (2, 3), (2, 3, 2), (0, 3)):
        found = m.map_view(lambda x: 2 * x + 1, view)
        expect(f"map of x -> 2 x + 1 over {view}", found.to_numpy(), 2 * array + 1, "go by indices: a row may be shorter than "
                                                                                    "the view, or in another order")


@check("2.4", "zip, each over its own strides")
def _(m: Any) -> None:
    for shape in ((4,), (2, 3), (3, 2, 2)):
        for (x, a), (y, b) in itertools.product(views(shape), repeat=2):
            expect(f"zip of x, y -> x - 2 y over {x} and {y}", m.zip_views(lambda x, y: x - 2 * y, x, y).to_numpy(), a - 2 * b)


@check("2.4", "reduce, along any dim, from start, in order")
def _(m: Any) -> None:
    for view, array in views((4,), (2, 3), (2, 3, 2)):
        for dim in range(array.ndim):
            expect(f"the sum over dim {dim} of {view}", m.reduce_view(lambda x, y: x + y, 0.0, view, dim).to_numpy(),
                   array.sum(dim, keepdims=True))
            expect(f"the maximum over dim {dim} of {view}", m.reduce_view(max, -np.inf, view, dim).to_numpy(),
                   array.max(dim, keepdims=True), "begin with `start`, not with 0")
    row = of_ember("storage").View.of([1.0, 2.0, 3.0])
    expect("100 - 1 - 2 - 3", m.reduce_view(lambda x, y: x - y, 100.0, row, 0).to_numpy(), np.array([94.0]))
    nothing = of_ember("storage").View.of(np.zeros((2, 0)))
    expect("a sum of nothing", m.reduce_view(lambda x, y: x + y, 0.0, nothing, 1).to_numpy(), np.zeros((2, 1)))


@check("2.4", "matmul")
def _(m: Any) -> None:
    for (x, a), (y, b) in itertools.product(views((2, 3), (3, 3)), views((3, 4), (3, 1))):
        expect(f"{a.shape} times {b.shape}", m.matmul_views(x, y).to_numpy(), a @ b)
    (x, _), (y, _) = views((2, 3))[0], views((2, 3))[0]
    refuses(m.matmul_views, x, y, error=of_ember("broadcast").ShapeError, naming="(2, 3)")


def gradients_agree(m: Any, text: str, f: Callable[..., Any], *shapes: tuple[int, ...]) -> None:
    """f's gradient by each operand beside differences of the sum of weighted results."""
    rng = np.random.default_rng(1)
    arrays = [rng.uniform(0.5, 1.5, shape) for shape in shapes]
    leaves = [m.Tensor(a) for a in arrays]
    result = f(*leaves)
    weights = rng.normal(size=result.shape)
    (result * m.constant(weights)).sum().backward()
    for number, (leaf, array) in enumerate(zip(leaves, arrays, strict=True)):
        if leaf.grad is None:
            raise Wrong(f"{text}: operand {number} has no grad")
        expect(f"{text}: the shape of the gradient by operand {number}", leaf.grad.shape, array.shape,
               "a derivative has its operand's shape: what was repeated is summed")
        wanted = np.zeros(array.shape)
        for index in np.ndindex(*array.shape):
            results = []
            for step in (1e-5, -1e-5):
                moved = [a.copy() for a in arrays]
                moved[number][index] += step
                results.append(float((f(*map(m.constant, moved)).to_numpy() * weights).sum()))
            wanted[index] = (results[0] - results[1]) / 2e-5
        expect(f"{text}: the gradient by operand {number}, of shape {array.shape}", leaf.grad.to_numpy(), wanted,
               tolerance=1e-4)


@check("2.5", "the mean, of all and along a dim")
def _(m: Any) -> None:
    array = np.arange(6.0).reshape(2, 3)
    expect("mean of 0..5", m.Tensor(array).mean().to_numpy(), np.array(2.5))
    for dim in (0, 1):
        expect(f"mean over dim {dim}", m.Tensor(array).mean(dim).to_numpy(), array.mean(dim, keepdims=True))


@check("2.5", "derivatives of sums and products of one shape")
def _(m: Any) -> None:
    gradients_agree(m, "x + y", lambda x, y: x + y, (2, 3), (2, 3))
    gradients_agree(m, "x * y", lambda x, y: x * y, (2, 3), (2, 3))
    gradients_agree(m, "x * x - x", lambda x: x * x - x, (3,))


@check("2.5", "and of shapes that were broadcast")
def _(m: Any) -> None:
    for a, b in (((2, 3), (3,)), ((2, 1), (1, 3)), ((), (2, 2)), ((2, 1, 2), (3, 1))):
        gradients_agree(m, "x + y", lambda x, y: x + y, a, b)
        gradients_agree(m, "x * y", lambda x, y: x * y, a, b)
        gradients_agree(m, "x / y", lambda x, y: x / y, a, b)


@check("2.5", "derivatives of sum, permute and reshape")
def _(m: Any) -> None:
    for dim in (0, 1):
        gradients_agree(m, f"x.sum({dim})", lambda x, dim=dim: x.sum(dim), (2, 3))
    for order in ((1, 2, 0), (2, 0, 1), (0, 2, 1)):
        gradients_agree(m, f"x.permute{order}", lambda x, order=order: x.permute(*order), (2, 3, 2))
    gradients_agree(m, "x.reshape(3, 2)", lambda x: x.reshape(3, 2), (2, 3))
    gradients_agree(m, "x.permute(1, 0).reshape(6) * y", lambda x, y: x.permute(1, 0).reshape(6) * y, (2, 3), (6,))


@check("2.5", "derivatives of products of matrices")
def _(m: Any) -> None:
    gradients_agree(m, "x @ y", lambda x, y: x @ y, (2, 3), (3, 4))
    gradients_agree(m, "(x @ y).sigmoid() @ z", lambda x, y, z: (x @ y).sigmoid() @ z, (2, 3), (3, 2), (2, 1))
