# %% [markdown]
# # 1 · Autodiff
#
# A network has parameters, an error that depends on them, and one question: which way should each be turned to make the error
# smaller? The answer is a derivative per parameter. Three ways lead to it. You may **try**: turn one parameter a little, run
# again, and see. You may work out a **formula**, which soon is longer than the program. Or the program may write down what it
# does while it does it, and a second program walks those notes back. That third way costs about as much as two runs, whatever
# the number of parameters, and everything since rests on it.
#
# ## Trying
#
# Trying is slow, and never wrong by much: so it is the judge of all rules that you will write.
#
# **Exercise 1.1** (`ember/differences.py`).

# %%
import math

import matplotlib.pyplot as plt
import numpy as np

from ember.differences import central_difference

steps = 10.0 ** np.arange(-12, 0.5, 0.5)
f, x = math.sin, 1.0
both = [abs(central_difference(f, x, eps=eps) - math.cos(x)) for eps in steps]
one = [abs((f(x + eps) - f(x)) / eps - math.cos(x)) for eps in steps]
figure, axes = plt.subplots(figsize=(6, 2.8))
axes.loglog(steps, both, label="to both sides")
axes.loglog(steps, one, label="to one side")
axes.set(xlabel="eps", ylabel="error of the derivative of sin at 1")
axes.legend(frameon=False, fontsize=8)
axes.spines[["top", "right"]].set_visible(False)

# %% [markdown]
# Read the picture from the right. A smaller step is a better one, and to both sides twice as fast (the slope is 2, not 1), until
# the two values of f agree in so many digits that their difference is noise. Neither side of the valley is free.
#
# ## Writing down
#
# A `Scalar` is a number with a note: which function made it, of which Scalars, and what that function will need on the way back.
# Nothing is planned. The notes come into being as the program runs; branches and loops leave the notes of the way that was
# taken.
#
# **Exercise 1.2** (`ember/scalar.py`).

# %%
from ember.scalar import Scalar

from flambeau.course import draw

x, y = Scalar(2.0), Scalar(3.0)
a = x * y
b = a + x
z = b.sigmoid() * a
draw.expression(z, {"x": x, "y": y}, title="z = sigmoid(x y + x) * x y, as it was noted")

# %% [markdown]
# Here is the same graph as it grows, one line of the program at a time.

# %%
x, y = Scalar(2.0), Scalar(3.0)
a = x * y
draw.expression(a, {"x": x, "y": y}, title="a = x * y")
b = a + x
draw.expression(b, {"x": x, "y": y}, title="b = a + x")

# %% [markdown]
# ## Which first?
#
# `a` is used twice, by `b` and by the last product. What comes back to it is the sum of both. So `a` must wait until both have
# sent, and only then send on to x and y. An order in which everything comes before what it was made of is a *topological order*,
# and there is one because nothing is made of itself.
#
# **Exercise 1.3** (`ember/topological.py`). A training step of a real model is a chain of thousands, and Python's stack holds
# about a thousand calls: walk with a list.

# %%
from ember.topological import topological_sort

z = (a + x).sigmoid() * a
print([value.record.function.__name__ if value.record else "leaf" for value in topological_sort(z)])

# %% [markdown]
# ## Walking back
#
# The chain rule is one sentence: if z depends on a only through b, the derivative of z by a is the derivative of z by b, times
# that of b by a. Start with dz/dz = 1. Visit values in order. Each asks its function for what goes to each operand, and adds it
# to what that operand has got already.
#
# **Exercise 1.4** (`ember/backward.py`).

# %%
from ember.backward import backward

backward(z)
print(f"dz/dx = {x.grad:.6f}, dz/dy = {y.grad:.6f}")


def program(x, y):
    return 1 / (1 + math.exp(-(x * y + x))) * (x * y)


print("by trying:", [round(central_difference(program, 2.0, 3.0, arg=arg), 6) for arg in (0, 1)])
draw.expression(z, {"x": x, "y": y}, grads=True, title="the leaves have their derivatives")

# %% [markdown]
# ## Learning
#
# What remains is to take a step, and to repeat. A step makes new leaves out of plain numbers. If it were noted too, the second
# step would hold on to the first, and the thousandth to all of them.
#
# **Exercise 1.5** (`ember/sgd.py`). Then a network of Scalars learns to tell points apart that no line can.

# %%
import random

from ember.module import Module, Parameter
from ember.sgd import SGD


class Layer(Module):
    def __init__(self, n_in, n_out, rng):
        super().__init__()
        self.n_in, self.n_out = n_in, n_out
        for j in range(n_out):
            setattr(self, f"bias{j}", Parameter(Scalar(0.1)))
            for i in range(n_in):
                setattr(self, f"weight{i}_{j}", Parameter(Scalar(rng.uniform(-1, 1) * 2 / n_in**0.5)))

    def forward(self, xs):
        results = []
        for j in range(self.n_out):
            total = getattr(self, f"bias{j}").value
            for i, x in enumerate(xs):
                total = total + x * getattr(self, f"weight{i}_{j}").value
            results.append(total)
        return results


class Network(Module):
    def __init__(self, width, rng):
        super().__init__()
        self.first, self.out = Layer(2, width, rng), Layer(width, 1, rng)

    def forward(self, xs):
        centred = [4 * x - 2 for x in xs]
        return self.out([h.relu() for h in self.first(centred)])[0].sigmoid()


rng = random.Random(3)
points = np.array([(rng.random(), rng.random()) for _ in range(40)])
labels = ((points[:, 0] < 0.5) != (points[:, 1] < 0.5)).astype(int)
network = Network(8, rng)
optimizer = SGD(network.parameters(), lr=0.5)
figure, all_axes = plt.subplots(1, 4, figsize=(9.6, 2.7))
losses = []
for epoch in range(81):
    optimizer.zero_grad()
    loss = Scalar(0.0, requires_grad=False)
    for (px, py), label in zip(points, labels, strict=True):
        answer = network([px, py])
        loss = loss - (answer if label else 1.0 - answer).log() * (1 / len(points))
    backward(loss)
    optimizer.step()
    losses.append(loss.data)
    if epoch in (0, 10, 30, 80):
        draw.boundary(all_axes[(0, 10, 30, 80).index(epoch)],
                      lambda grid: np.array([network(list(point)).data for point in grid]), points, labels,
                      f"step {epoch}: loss {loss.data:.2f}", n=24)
print(f"{len(topological_sort(loss))} values in the last step's notes; loss {losses[0]:.2f} -> {losses[-1]:.2f}")

# %% [markdown]
# Every one of those values is a Python object that a Python loop visited. The points are forty; a photograph has a million
# numbers. The next chapter keeps the numbers in rows and makes one note for a whole row.
#
# ## Play
#
# `python -m flambeau course play` writes pages for the browser. `expression.html`: type an expression, watch its graph, and send
# the derivative back one value at a time.
#
# ## Now open
#
# - [`frontend/tape/dispatch.py`](../../frontend/tape/dispatch.py): the one door that ops go through, which writes a `Record`.
# - [`passes/graph/autodiff.py`](../../passes/graph/autodiff.py): `backpropagate`, the walk of this chapter. It asks two things
#   that ours does not: whether a derivative is wanted at all, and whether the derivative can itself be differentiated.
# - [`autograd/functional.py`](../../autograd/functional.py) has the judges: compare `gradcheck` with `worst_difference`.
