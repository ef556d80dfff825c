# %% [markdown]
# # 4 · Networks
#
# Everything is there: tensors, derivatives, speed. This chapter adds what turns them into networks that see and read. Each part is
# a few lines on top of what you have, and most need no derivative rule of their own.
#
# ## Windows
#
# A convolution slides a small kernel over an image and asks everywhere the same question. The windows overlap, so copying them
# all would be wasteful; as a view they cost nothing. A step to the next window is a step in the image, and so is a step inside
# of one: the same two strides, twice.
#
# **Exercise 4.1** (`ember/convolution.py`). What remains then is a product of matrices.

# %%
import matplotlib.pyplot as plt
import numpy as np

from ember import fast, tensor
from ember.convolution import conv2d, window_view
from ember.storage import View
from ember.tensor import Tensor, constant

from flambeau.course import draw

tensor.Machine.kernels = fast
row = View.of(np.arange(6).reshape(1, 1, 1, 6))
windows = window_view(row, 1, 3)
draw.storage(View(windows.numbers, (4, 3), (windows.strides[3], windows.strides[5])), "the windows of three in a row of six")

# %%
from sklearn.datasets import load_digits

digits = load_digits()
images, classes = digits.images / 16.0, digits.target
edges = np.array([[[[1.0, 0, -1]] * 3]]), np.array([[[[1.0] * 3, [0] * 3, [-1.0] * 3]]])
figure, all_axes = plt.subplots(1, 3, figsize=(6, 2.2))
shown = [images[6], *(conv2d(constant(images[6][None, None]), constant(kernel)).to_numpy()[0, 0] for kernel in edges)]
for axes, image, title in zip(all_axes, shown, ("a six", "edges to the right", "edges downwards"), strict=True):
    axes.imshow(image, **({"cmap": "Greys"} if title == "a six" else {"cmap": "RdBu", "vmin": -3, "vmax": 3}))
    axes.set_title(title, fontsize=9)
    axes.set_axis_off()

# %% [markdown]
# ## Tiles
#
# Pooling makes an image smaller: of each tile one number is kept, the mean or the maximum. Again it is reshape and permute that
# do it.
#
# **Exercise 4.2** (`ember/pooling.py`).

# %%
from ember.pooling import avg_pool2d, max_pool2d

figure, all_axes = plt.subplots(1, 3, figsize=(6, 2.2))
six = constant(images[6][None, None])
for axes, image, title in zip(all_axes, (six, avg_pool2d(six, 2, 2), max_pool2d(six, 2, 2)), ("8 x 8", "means", "maxima"), strict=True):
    axes.imshow(image.to_numpy()[0, 0], cmap="Greys", vmin=0, vmax=1)
    axes.set_title(title, fontsize=9)
    axes.set_axis_off()

# %% [markdown]
# ## Probabilities
#
# The last layer gives ten scores. `softmax` makes probabilities of them, and the error is minus the logarithm of the right
# one's. Written as in a textbook it overflows at a score of 710; written with the largest score subtracted it never does.
#
# **Exercise 4.3** (`ember/softmax.py`), and **Exercise 4.4** (`ember/dropout.py`): numbers left out by chance while training.

# %%
from ember.dropout import Dropout
from ember.softmax import cross_entropy, softmax

print(softmax(Tensor([[1.0, 2.0, 1000.0], [0.0, 0.0, 0.0]]), 1))

# %% [markdown]
# ## Digits
#
# 1,797 small pictures of handwritten digits; every fifth is kept for the test. Two convolutions, a maximum, a linear layer.

# %%
import time

from ember.module import Module, Parameter
from ember.sgd import SGD

rng = np.random.default_rng(0)


def scaled(*shape):
    """A Parameter of normal numbers, so large that sums over all but the first dim keep their size."""
    return Parameter(Tensor(rng.normal(size=shape) * (2.0 / np.prod(shape[1:])) ** 0.5))


class Net(Module):
    """images (n, 1, 8, 8) -> scores (n, 10)."""

    def __init__(self):
        super().__init__()
        self.first, self.second = scaled(8, 1, 3, 3), scaled(16, 8, 3, 3)
        self.dropout = Dropout(0.2, rng)
        self.out, self.bias = scaled(10, 64), Parameter(Tensor(np.zeros(10)))

    def forward(self, x):
        x = conv2d(x, self.first.value).relu()                          # (n, 8, 6, 6)
        x = max_pool2d(conv2d(x, self.second.value).relu(), 2, 2)       # (n, 16, 2, 2)
        x = self.dropout(x.reshape(x.shape[0], 64))
        return x @ self.out.value.permute(1, 0) + self.bias.value


def accuracy(net, x, classes):
    net.eval()
    right = (net(constant(x)).to_numpy().argmax(1) == classes).mean()
    net.train()
    return right


is_test = np.arange(len(images)) % 5 == 0
train_x, train_y = images[~is_test][:, None], classes[~is_test]
test_x, test_y = images[is_test][:, None], classes[is_test]
net = Net()
optimizer = SGD(net.parameters(), lr=0.2)
losses, started = [], time.perf_counter()
for epoch in range(8):
    order = rng.permutation(len(train_x))
    for first in range(0, len(order) - 63, 64):
        batch = order[first:first + 64]
        optimizer.zero_grad()
        loss = cross_entropy(net(constant(train_x[batch])), train_y[batch])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    if epoch % 2:
        print(f"epoch {epoch + 1}: loss {np.mean(losses[-20:]):.3f}, {accuracy(net, test_x, test_y):.1%} of the test right")
spent = time.perf_counter() - started
print(f"{len(losses)} steps in {spent:.1f} s")

# %%
net.eval()
chances = softmax(net(constant(test_x)), 1).to_numpy()
net.train()
unsure = np.argsort(chances[np.arange(len(test_y)), test_y])[:8]
figure, (left, *all_axes) = plt.subplots(1, 9, figsize=(11, 1.9), width_ratios=[3] + [1] * 8)
left.plot(losses, lw=1)
left.set_title("loss by step", fontsize=9)
left.spines[["top", "right"]].set_visible(False)
for axes, which in zip(all_axes, unsure, strict=True):
    axes.imshow(test_x[which, 0], cmap="Greys")
    axes.set_title(f"{test_y[which]}, said {chances[which].argmax()}", fontsize=8)
    axes.set_axis_off()

# %% [markdown]
# Those on the right are the ones it is least sure of.
#
# ## Sentences
#
# Words have no size and no order, so each gets a row of a table that is learnt. A sentence is a row of such rows; a convolution
# over three words at a time sees "not at all good"; the maximum over all places says whether it was seen anywhere.
#
# **Exercise 4.5** (`ember/embedding.py`).

# %%
from ember.embedding import embedding

THINGS = "film plot cast music ending".split()
GOOD, BAD = "good moving clever bright".split(), "bad dull clumsy flat".split()
WORDS = ["", "the", "was", "not", "very", *THINGS, *GOOD, *BAD]


def sentence(rng):
    """(words, whether it is praise): "not" turns the judgement around."""
    praise, turned = rng.integers(2), rng.integers(2)
    judged = rng.choice(GOOD if praise != turned else BAD)
    return ["the", rng.choice(THINGS), "was", *(["not"] if turned else []), *(["very"] if rng.integers(2) else []), judged], praise


def numbered(words, length=7):
    return [WORDS.index(word) for word in words] + [0] * (length - len(words))


class Reader(Module):
    """numbers of words (n, 7) -> scores (n, 2)."""

    def __init__(self, width=8, kernels=16):
        super().__init__()
        self.table, self.kernel = Parameter(Tensor(rng.normal(size=(len(WORDS), width)))), scaled(kernels, width, 1, 3)
        self.out = scaled(2, kernels)

    def forward(self, numbers):
        x = embedding(self.table.value, numbers)                        # (n, 7, width)
        n, length, width = x.shape
        x = conv2d(x.permute(0, 2, 1).reshape(n, width, 1, length), self.kernel.value).relu()
        x = max_pool2d(x, 1, length - 2)
        return x.reshape(n, x.shape[1]) @ self.out.value.permute(1, 0)


reader = Reader()
optimizer = SGD(reader.parameters(), lr=0.2)
for step in range(400):
    sentences = [sentence(rng) for _ in range(32)]
    optimizer.zero_grad()
    loss = cross_entropy(reader(np.array([numbered(words) for words, _ in sentences])), [praise for _, praise in sentences])
    loss.backward()
    optimizer.step()
    if step in (0, 99, 399):
        print(f"step {step + 1}: loss {loss.item():.3f}")
for text in ("the film was good", "the film was not good", "the plot was not very dull", "the music was very flat"):
    chance = softmax(reader(np.array([numbered(text.split())])), 1).to_numpy()[0, 1]
    print(f"{chance:6.1%} praise: {text}")

# %% [markdown]
# ## What is wrong with it
#
# Count what one step of the digits does: every function makes a whole tensor, reads whole tensors, and knows nothing of the next
# one. `relu` reads what the convolution just wrote and had in its hands. The sum of the exponentials goes to memory to be read
# once. And all of it is found out again at each step, though every step is the same. The next five chapters write the step down,
# once, and then improve what is written.
#
# ## Now open
#
# - [`ir/ops/convolution.py`](../../ir/ops/convolution.py): a convolution and its two gradients are one family, each the others'
#   derivative.
# - [`ir/ops/normalization.py`](../../ir/ops/normalization.py): softmax as one op that later *decomposes* into simple ones.
# - [`examples/digits_cnn.py`](../../../examples/digits_cnn.py) and [`examples/sentiment.py`](../../../examples/sentiment.py): this
#   chapter's networks in PyTorch's names, compiled.
