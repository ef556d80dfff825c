# %% [markdown]
# # 0 · Fundamentals
#
# At the end of this course you will have written a deep-learning framework twice. First a library, **ember**, that runs a
# network number by number. Then a compiler for it, which reads a whole training step, rearranges it and makes machine code of
# it. Both are small: every file is an exercise. Beside them lies Flambeau, which is the same thing grown up, and each chapter
# ends by opening the file of Flambeau that does what you just did.
#
# An exercise is a file with gaps:
#
# ```
# python -m flambeau course start 0.1      # writes ember-course/ember/operators.py
# python -m flambeau course check 0.1      # says what is right, what is not, and gives a hint
# python -m flambeau course solution 0.1   # if you are stuck
# ```
#
# What you have not begun yet is taken from the solutions, so you may begin at any chapter. In this notebook too: `ember` is
# your library where you have written it.
#
# ## A network is arithmetic
#
# However large a model is, a processor sees additions, multiplications and a few functions of one number. So we begin with
# those. Two of them are there because they bend: `relu` cuts off what is negative, `sigmoid` presses all numbers between 0
# and 1. Without a bend, layers upon layers are no more than one layer.

# %%
import math

import matplotlib.pyplot as plt
import numpy as np

from ember import operators

xs = np.linspace(-4, 4, 200)
figure, (left, right) = plt.subplots(1, 2, figsize=(8, 2.6))
for name in ("sigmoid", "relu", "exp"):
    function, back = getattr(operators, name), getattr(operators, f"{name}_back")
    left.plot(xs, [min(function(x), 4) for x in xs], label=name)
    right.plot(xs, [min(back(x, 1.0), 4) for x in xs], label=f"{name}_back(x, 1)")
for axes in (left, right):
    axes.legend(frameon=False, fontsize=8)
    axes.set_ylim(-0.2, 4.1)
    axes.spines[["top", "right"]].set_visible(False)

# %% [markdown]
# On the right is the slope of each at every x: how much the result moves when x does. Chapter 1 is about nothing else; the
# functions called `_back` prepare for it. They take the derivative `d` that comes in from whatever reads the result, and give
# `d` times the slope.
#
# **Exercise 0.1** (`ember/operators.py`). Mind one thing that mathematics does not know: $e^{1000}$ is no float. The same
# function can be written so that it works everywhere, and so that it fails far from zero, and a network will find the way there.

# %%
print(f"sigmoid(-1000) = {operators.sigmoid(-1000.0)}, sigmoid(1000) = {operators.sigmoid(1000.0)}")
try:
    1 / (1 + math.exp(1000.0))
except OverflowError as error:
    print(f"written without thought: OverflowError, {error}")

# %% [markdown]
# ## Three ways to walk over a list
#
# Almost everything that a tensor library does has one of three forms: a function of **each** element (map), of **pairs** (zip),
# or of **all** of them, one after another (reduce). The form says how the work may be divided. A map's elements know nothing of
# each other: any number of threads can take their share. A reduce hands a result from one to the next, and dividing that needs
# an idea. The compilers of chapters 8 and 9 think in these terms and no others.
#
# **Exercise 0.2** (`ember/higher_order.py`): functions that take `f` and give a function of lists.

# %%
from ember.higher_order import add_lists, dot, map_list, reduce_list

print(map_list(operators.relu)([-1.0, 2.0, -3.0]))
print(add_lists([1.0, 2.0], [10.0, 20.0]), dot([1.0, 2.0], [3.0, 4.0]))
print(reduce_list(operators.maximum, -math.inf)([3.0, 8.0, 5.0]))

# %% [markdown]
# ## A tree of modules
#
# A model holds its parameters in modules, and modules in modules. An optimizer wants a flat list of what to change; a file
# wants names; dropout wants to know whether this is training. All three walk the same tree. What makes the tree pleasant is that
# nobody registers anything: assigning `self.weight = Parameter(...)` is enough, because Python asks `__setattr__` first.
#
# **Exercise 0.3** (`ember/module.py`).

# %%
from ember.module import Module, Parameter

from flambeau.course import draw


class Linear(Module):
    def __init__(self, width):
        super().__init__()
        self.weight, self.bias = Parameter([0.5] * width), Parameter(0.0)

    def forward(self, xs):
        return dot(self.weight.value, xs) + self.bias.value


class Network(Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = Linear(2), Linear(2)
        self.out = Linear(2)

    def forward(self, xs):
        return operators.sigmoid(self.out([operators.relu(self.first(xs)), operators.relu(self.second(xs))]))


def tree(module, name="network"):
    """What draw.graph takes: boxes by dotted name, and edges."""
    boxes, edges = {name: draw.Box(f"{name.split('.')[-1]}\n{type(module).__name__}")}, []
    for child, value in [*module._parameters.items(), *module._children.items()]:
        edges.append((name, f"{name}.{child}"))
        if isinstance(value, Parameter):
            boxes[f"{name}.{child}"] = draw.Box(child, "leaf")
        else:
            below = tree(value, f"{name}.{child}")
            boxes, edges = boxes | below[0], edges + below[1]
    return boxes, edges


network = Network()
print([name for name, _ in network.named_parameters()], network([1.0, 2.0]))
draw.graph(*tree(network), across=False)

# %% [markdown]
# ## A first classifier, by hand
#
# Points in a square, and the question on which side each lies. A line is a dot product and a sum; `sigmoid` makes a degree of
# certainty of it. Here are three lines that somebody chose. The parameters decide everything, and choosing them by hand ends
# with two of them. The next chapter finds out which way to turn each.

# %%
rng = np.random.default_rng(0)
points = rng.uniform(size=(60, 2))
labels = (points[:, 0] + 0.4 * points[:, 1] > 0.7).astype(int)
figure, all_axes = plt.subplots(1, 3, figsize=(8.4, 2.9))
for axes, (a, b, c) in zip(all_axes, ((6.0, 0.0, -3.0), (0.0, 6.0, -3.0), (10.0, 4.0, -7.0)), strict=True):
    def line(grid, a=a, b=b, c=c):
        return np.array([operators.sigmoid(dot([a, b], list(point)) + c) for point in grid])

    right = ((line(points) > 0.5) == labels).mean()
    draw.boundary(axes, line, points, labels, f"{a:g} x + {b:g} y {c:+g}: {right:.0%} right")

# %% [markdown]
# ## Now open
#
# - [`ir/ops/elementwise.py`](../../ir/ops/elementwise.py): Flambeau's functions of numbers. A row each: what it means in NumPy,
#   how one element is computed, and its derivatives side by side.
# - [`frontend/nn/module.py`](../../frontend/nn/module.py): the same tree, with PyTorch's names. Find `__setattr__`.
