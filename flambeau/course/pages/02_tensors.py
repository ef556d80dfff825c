# %% [markdown]
# # 2 · Tensors
#
# A tensor looks like a block of numbers with rows and columns and more. In memory there are no blocks: there is a row. All that
# makes a tensor of it is a rule that says where in the row the element at an index lies. The rule is a *stride* per dim: how far
# to go for one step along it. What a good part of this chapter's functions do is change the rule and leave the numbers alone.
#
# ## The rule
#
# **Exercise 2.1** (`ember/layout.py`).

# %%
import matplotlib.pyplot as plt
import numpy as np

from ember.layout import index_of, position, strides_of

print(strides_of((2, 3, 4)), position((1, 2, 3), strides_of((2, 3, 4))), index_of(23, (2, 3, 4)))

# %% [markdown]
# Above, the row, with each place numbered; below, the tensor. Equal colours are the same number, not a copy of it.

# %%
from ember.storage import View

from flambeau.course import draw

view = View.of(np.arange(6).reshape(2, 3))
draw.storage(view, "2 rows of 3")
draw.storage(view.permute(1, 0), "the same numbers, dims swapped")

# %% [markdown]
# A transpose costs nothing here, whatever its size: two strides change places. What it does cost shows later, when somebody walks
# along a row of the result and jumps through memory.
#
# ## Shapes that fit
#
# `x + 1` adds one number to many, and a bias is added to every row. *Broadcasting* is the rule for that: shapes are aligned at
# the last dim, and a dim of 1 (or one that is not there) is as long as it has to be. Nothing is repeated in memory. A stride of 0
# reads the same number again.
#
# **Exercise 2.2** (`ember/broadcast.py`).

# %%
from ember.broadcast import broadcast_shape

print(broadcast_shape((3, 1), (4,)))
draw.storage(View.of([10, 20, 30]).broadcast_to((4, 3)), "a row of three, read four times")
draw.storage(View.of([[10], [20], [30]]).broadcast_to((3, 4)), "a column of three")

# %% [markdown]
# ## Views
#
# A `View` is the row, a shape and strides. Whoever gets one must not assume that its elements lie in the order of their indices.
# `is_contiguous` asks; `contiguous` copies if it has to; `reshape` can keep the numbers only if the order is the row's.
#
# **Exercise 2.3** (`ember/storage.py`).

# %%
turned = view.permute(1, 0)
print(turned.is_contiguous(), turned.reshape((6,)).numbers is view.numbers, view.reshape((6,)).numbers is view.numbers)
draw.storage(turned.contiguous(), "made contiguous: another row")

# %% [markdown]
# ## Work
#
# **Exercise 2.4** (`ember/loops.py`): map, zip and reduce of chapter 0, over views of any strides, and the product of matrices.
# They are slow, and they say what every fast one must give. Flambeau keeps such a meaning for all of its ops, and compares.

# %%
from ember import operators
from ember.loops import map_view, reduce_view, zip_views

column = View.of([[0], [10]]).broadcast_to((2, 3))
print(zip_views(operators.add, view, column))
print(map_view(operators.neg, turned))
print(reduce_view(operators.add, 0.0, view, 1))

# %% [markdown]
# ## Derivatives
#
# A `Tensor` is to a `View` what a `Scalar` is to a number, and the walk back of chapter 1 works as it is: a record, operands, a
# function that knows its derivative. Three rules are new, and each is a picture of its forward half turned around. What was
# summed is repeated. What was repeated is summed. What was permuted is permuted back.
#
# **Exercise 2.5** (`ember/tensor.py`).

# %%
from ember.tensor import Tensor

x, bias = Tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), Tensor([10.0, 20.0, 30.0])
y = ((x + bias) * x).sum()
y.backward()
print("by x:   ", x.grad.to_numpy().tolist())
print("by bias:", bias.grad.to_numpy().tolist(), "(its own shape: the sum over the rows that it was added to)")
draw.expression(y, {"x": x, "bias": bias})

# %% [markdown]
# The network of chapter 1 again. There each of the forty points made notes of its own, thousands in all; here the
# points are one tensor.

# %%
import time

from ember.module import Module, Parameter
from ember.sgd import SGD
from ember.topological import topological_sort

rng = np.random.default_rng(3)


class Layer(Module):
    def __init__(self, n_in, n_out):
        super().__init__()
        self.weight = Parameter(Tensor(rng.uniform(-2, 2, (n_in, n_out)) / n_in**0.5))
        self.bias = Parameter(Tensor(np.full(n_out, 0.1)))

    def forward(self, x):
        return x @ self.weight.value + self.bias.value


class Network(Module):
    def __init__(self, width):
        super().__init__()
        self.first, self.out = Layer(2, width), Layer(width, 1)

    def forward(self, x):
        return self.out(self.first(4.0 * x - 2.0).relu()).sigmoid()


points = rng.uniform(size=(40, 2))
labels = ((points[:, 0] < 0.5) != (points[:, 1] < 0.5)).astype(float)
network = Network(8)
optimizer = SGD(network.parameters(), lr=0.5)
x, y = Tensor(points, requires_grad=False), Tensor(labels[:, None], requires_grad=False)
started = time.perf_counter()
for _ in range(80):
    optimizer.zero_grad()
    answer = network(x)
    loss = -(answer * y + (1.0 - answer) * (1.0 - y)).log().mean()
    loss.backward()
    optimizer.step()
print(f"{len(topological_sort(loss))} values in the notes; loss {loss.item():.2f} after "
      f"{(time.perf_counter() - started) / 80 * 1e3:.1f} ms a step")
figure, axes = plt.subplots(figsize=(3, 3))
draw.boundary(axes, lambda grid: network(Tensor(grid)).to_numpy()[:, 0], points, labels)

# %% [markdown]
# Few notes, and hardly faster: below them Python still visits every element. That is next.
#
# ## Play
#
# `storage.html` of `python -m flambeau course play`: choose a shape, turn, repeat and reshape it, and point at an element to see
# how its index becomes a place.
#
# ## Now open
#
# - [`frontend/tensor/`](../../frontend/tensor): Flambeau's tensors: a storage, a base, and a chain of views.
# - [`ir/ops/views.py`](../../ir/ops/views.py): `broadcast`, `permute`, `reshape` as ops of the compiler: each is an *index map*,
#   and folds into whoever reads it, so a compiled view is no work at all.
# - [`ir/index_maps.py`](../../ir/index_maps.py): the arithmetic of this chapter, on symbols.
