"""Checks of chapter 4: networks. Held against NumPy, and gradients against differences."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from flambeau.course.checking import Wrong, check, expect, of_ember, refuses

NORMAL = np.random.default_rng(0).normal


def gradient_agrees(text: str, f: Callable[..., Any], *arrays: np.ndarray, hint: str = "") -> None:
    """The gradient of a weighted sum of f's results, by each operand, beside differences."""
    t = of_ember("tensor")
    leaves = [t.Tensor(a) for a in arrays]
    result = f(*leaves)
    weights = np.random.default_rng(1).normal(size=result.shape)
    (result * t.constant(weights)).sum().backward()
    for number, (leaf, array) in enumerate(zip(leaves, arrays, strict=True)):
        if leaf.grad is None:
            raise Wrong(f"{text}: operand {number} has no grad", "is it computed with functions that remember?")
        wanted = np.zeros(array.shape)
        for index in np.ndindex(*array.shape):
            results = []
            for step in (1e-5, -1e-5):
                moved = [a.copy() for a in arrays]
                moved[number][index] += step
                results.append(float((f(*map(t.constant, moved)).to_numpy() * weights).sum()))
            wanted[index] = (results[0] - results[1]) / 2e-5
        expect(f"{text}: the gradient by operand {number}", leaf.grad.to_numpy(), wanted, hint, 1e-4)


@check("4.1", "windows are a view: the same numbers, read several times")
def _(m: Any) -> None:
    for shape, height, width in (((1, 1, 3, 4), 2, 2), ((2, 3, 4, 4), 3, 1), ((1, 2, 2, 2), 2, 2)):
        array = NORMAL(size=shape)
        x = of_ember("storage").View.of(array)
        found = m.window_view(x, height, width)
        wanted = np.lib.stride_tricks.sliding_window_view(array, (height, width), (2, 3))
        expect(f"the windows of {height} x {width} in {shape}", found.to_numpy(), wanted,
               "a step to the next window is a step in the image, and so is a step inside of a window: the same strides twice")
        expect("the windows have the image's numbers", found.numbers is x.numbers, True)
    refuses(m.window_view, of_ember("storage").View.of(np.zeros((1, 1, 2, 2))), 3, 1, error=of_ember("broadcast").ShapeError)


@check("4.1", "what comes back to a number is the sum over its windows")
def _(m: Any) -> None:
    d = np.ones((1, 1, 2, 2, 2, 2))
    expect("add_back of ones for the windows of 2 x 2 in 3 x 3", m.add_back(d, (1, 1, 3, 3)),
           np.array([[[[1.0, 2, 1], [2, 4, 2], [1, 2, 1]]]]), "the middle lies in all four windows")
    t = of_ember("tensor")
    gradient_agrees("windows", lambda x: m.Windows.apply(x, height=2, width=2), NORMAL(size=(2, 1, 3, 4)))
    expect("a constant image needs no derivative", m.Windows.apply(t.constant(np.ones((1, 1, 2, 2))), height=1, width=1).record,
           None)


@check("4.1", "conv2d: sums of products of windows with kernels")
def _(m: Any) -> None:
    t = of_ember("tensor")
    for x_shape, w_shape in (((1, 1, 4, 4), (1, 1, 2, 2)), ((2, 3, 4, 5), (4, 3, 3, 2)), ((1, 2, 3, 3), (2, 2, 3, 3))):
        x, w = NORMAL(size=x_shape), NORMAL(size=w_shape)
        windows = np.lib.stride_tricks.sliding_window_view(x, w_shape[2:], (2, 3))
        expect(f"conv2d of {x_shape} with {w_shape}", m.conv2d(t.Tensor(x), t.Tensor(w)).to_numpy(),
               np.einsum("ncijab,ocab->noij", windows, w), "each row of the matrix is one window with all of its channels")


@check("4.1", "the gradients of conv2d")
def _(m: Any) -> None:
    gradient_agrees("conv2d", m.conv2d, NORMAL(size=(2, 2, 3, 3)), NORMAL(size=(2, 2, 2, 2)))


@check("4.2", "tiles: the elements of each side by side")
def _(m: Any) -> None:
    t = of_ember("tensor")
    array = np.arange(48.0).reshape(2, 1, 4, 6)
    for height, width in ((2, 2), (2, 3), (4, 1), (1, 1)):
        wanted = np.stack([array[:, :, i:i + height, j:j + width].reshape(2, 1, -1) for i in range(0, 4, height)
                           for j in range(0, 6, width)], 2).reshape(2, 1, 4 // height, 6 // width, height * width)
        expect(f"tiles of {height} x {width} in 4 x 6", m.tiles(t.Tensor(array), height, width).to_numpy(), wanted,
               "split both dims in two, bring the inner two to the end, then join them")
    refuses(m.tiles, t.Tensor(array), 3, 2, error=of_ember("broadcast").ShapeError)


@check("4.2", "mean and maximum of each tile")
def _(m: Any) -> None:
    t, array = of_ember("tensor"), NORMAL(size=(2, 2, 4, 4)) - 3.0
    parts = array.reshape(2, 2, 2, 2, 2, 2)
    expect("avg_pool2d", m.avg_pool2d(t.Tensor(array), 2, 2).to_numpy(), parts.mean((3, 5)))
    expect("max_pool2d", m.max_pool2d(t.Tensor(array), 2, 2).to_numpy(), parts.max((3, 5)))


@check("4.2", "their gradients")
def _(m: Any) -> None:
    array = NORMAL(size=(1, 2, 2, 4))
    gradient_agrees("avg_pool2d", lambda x: m.avg_pool2d(x, 2, 2), array)
    gradient_agrees("max_pool2d", lambda x: m.max_pool2d(x, 2, 2), array,
                    hint="only the element that was the maximum moves the result")


@check("4.2", "of equal maxima each gets its part")
def _(m: Any) -> None:
    x = of_ember("tensor").Tensor([[1.0, 3.0, 3.0], [2.0, 0.0, 1.0]])
    m.Max.apply(x, dim=1).sum().backward()
    expect("the gradient of the maxima of [1 3 3] and [2 0 1]", x.grad.to_numpy(), np.array([[0, 0.5, 0.5], [1, 0, 0]]),
           "together they get what came in, no more")


SCORES = NORMAL(size=(3, 4))


@check("4.3", "softmax: positive, and 1 in sum")
def _(m: Any) -> None:
    t = of_ember("tensor")
    for dim in (0, 1):
        powers = np.exp(SCORES)
        expect(f"softmax over dim {dim}", m.softmax(t.Tensor(SCORES), dim).to_numpy(), powers / powers.sum(dim, keepdims=True),
               tolerance=1e-5)
        expect(f"log_softmax over dim {dim}", m.log_softmax(t.Tensor(SCORES), dim).to_numpy(),
               np.log(powers / powers.sum(dim, keepdims=True)), tolerance=1e-5)


@check("4.3", "large scores do not overflow, and small probabilities have a logarithm")
def _(m: Any) -> None:
    x = of_ember("tensor").Tensor([[1000.0, 1001.0], [-1000.0, 0.0]])
    try:
        found, logs = m.softmax(x, 1).to_numpy(), m.log_softmax(x, 1).to_numpy()
    except OverflowError:
        raise Wrong("softmax([1000, 1001]) overflows", "subtract the largest score first: it cancels") from None
    part = 1 / (1 + np.e)
    expect("softmax([[1000, 1001], [-1000, 0]])", found, np.array([[part, 1 - part], [0, 1]]),
           "subtract the largest score first: it cancels", 1e-5)
    expect("log_softmax of the same", logs, np.array([[np.log(part), np.log(1 - part)], [-1000, 0]]),
           "the logarithm of a probability that was rounded to 0 comes too late: x - log(sum(e**x))", 1e-5)


@check("4.3", "cross entropy of the right classes")
def _(m: Any) -> None:
    t, classes = of_ember("tensor"), np.array([2, 0, 3])
    chances = np.exp(SCORES) / np.exp(SCORES).sum(1, keepdims=True)
    expect("cross_entropy", m.cross_entropy(t.Tensor(SCORES), classes).item(), -np.log(chances[range(3), classes]).mean(),
           "the mean over the rows, of minus the logarithm", 1e-5)
    x = t.Tensor(SCORES)
    m.cross_entropy(x, classes).backward()
    wanted = (chances - np.eye(4)[classes]) / 3
    expect("its gradient", x.grad.to_numpy(), wanted, "it is (probability - 1 for the right class) / n", 1e-5)


@check("4.4", "as many are left out as rate says, and the mean stays")
def _(m: Any) -> None:
    t = of_ember("tensor")
    x = t.Tensor(np.full((60, 60), 2.0))
    for rate in (0.0, 0.25, 0.8):
        found = m.dropout(x, rate, np.random.default_rng(0)).to_numpy()
        expect(f"the share of zeros with rate {rate}", float((found == 0).mean()), rate, tolerance=0.04)
        expect(f"what is kept, with rate {rate}", found[found != 0].tolist()[:3], [2.0 / (1 - rate)] * 3,
               "what is kept is divided by 1 - rate, so that sums stay what they were")
    expect("rate 1", m.dropout(x, 1.0, np.random.default_rng(0)).to_numpy().sum(), 0.0)
    expect("its shape", m.dropout(x, 1.0, np.random.default_rng(0)).shape, (60, 60))


@check("4.4", "other numbers at each call, and the derivative knows which")
def _(m: Any) -> None:
    t, rng = of_ember("tensor"), np.random.default_rng(0)
    x = t.Tensor(np.ones((50,)))
    first, second = m.dropout(x, 0.5, rng), m.dropout(x, 0.5, rng)
    expect("two calls leave out the same", bool((first.to_numpy() == second.to_numpy()).all()), False)
    first.sum().backward()
    expect("the gradient", x.grad.to_numpy(), first.to_numpy(), "what was left out has no part in the result")


@check("4.4", "nothing is left out in eval mode")
def _(m: Any) -> None:
    t = of_ember("tensor")
    layer, x = m.Dropout(0.5, np.random.default_rng(0)), t.Tensor(np.ones((50,)))
    expect("zeros while training", bool((layer(x).to_numpy() == 0).any()), True)
    layer.eval()
    expect("zeros in eval mode", bool((layer(x).to_numpy() == 0).any()), False)
    expect("what is kept in eval mode", layer(x).to_numpy(), np.ones(50))


TABLE = NORMAL(size=(5, 3))


@check("4.5", "rows of the table, for numbers of any shape")
def _(m: Any) -> None:
    t = of_ember("tensor")
    for numbers in (np.array([0, 4, 2]), np.array([[1, 1], [3, 0]]), np.array(2), np.zeros((0,), int)):
        expect(f"embedding of {numbers.tolist()}", m.embedding(t.Tensor(TABLE), numbers).to_numpy(), TABLE[numbers])


@check("4.5", "rows that repeat add up on the way back")
def _(m: Any) -> None:
    table = of_ember("tensor").Tensor(TABLE)
    m.embedding(table, [1, 1, 1, 4]).sum().backward()
    expect("the gradient by the table", table.grad.to_numpy(), np.array([[0.0] * 3, [3.0] * 3, [0.0] * 3, [0.0] * 3, [1.0] * 3]),
           "out[numbers] += d adds once for each place, however often it is there")
    gradient_agrees("embedding", lambda t: m.embedding(t, np.array([[0, 2], [2, 4]])), TABLE)


@check("4.5", "numbers that are no row are refused")
def _(m: Any) -> None:
    for wrong in (5, -1):
        refuses(m.embedding, of_ember("tensor").Tensor(TABLE), [0, wrong], error=IndexError, naming=str(wrong))
