# %% [markdown]
# # 3 · Efficiency
#
# The library of chapter 2 is right and slow. Nothing about *what* it computes will change here. The three loops, map, zip and
# reduce, are written once more, as loops that a machine likes: compiled, in shares, over rows, and at last for a processor with
# thousands of threads.
#
# ## Where the time goes
#
# Python looks up what `+` means for every two numbers that meet, makes an object of the result and forgets it. The addition is
# the least of it. Numba reads the bytecode of a function, finds out the types once, and has LLVM make machine code of it, the
# way Flambeau does for whole programs.
#
# **Exercise 3.1** (`ember/kernels.py`): the loops, and one that gathers the elements of any view. A kernel does only the places
# from `begin` to `end`: that is what makes sharing possible.

# %%
import time

import matplotlib.pyplot as plt
import numpy as np

from ember import loops, operators
from ember.kernels import map_kernel
from ember.storage import View


def seconds(run, least=0.05):
    """The best of a few runs, after one that may compile."""
    run()
    best, spent = float("inf"), 0.0
    while spent < least:
        started = time.perf_counter()
        run()
        took = time.perf_counter() - started
        best, spent = min(best, took), spent + took
    return best


x = View.of(np.linspace(-3, 3, 20_000))
out = View.empty(x.shape)
kernel = map_kernel(operators.sigmoid)
slow = seconds(lambda: loops.map_view(operators.sigmoid, x))
fast = seconds(lambda: kernel(out.numbers, x.numbers, 0, 20_000))
print(f"sigmoid of 20,000 numbers: {slow * 1e3:.1f} ms by Python, {fast * 1e3:.3f} ms compiled: {slow / fast:.0f} times as fast")

# %% [markdown]
# ## Shares
#
# A map's places know nothing of each other, so two threads may do half each. Waking a thread takes some microseconds, which is
# thousands of additions: little work stays where it is. The picture shows from which size on, on this machine and as
# busy as it is, a second thread pays.
#
# **Exercise 3.2** (`ember/threads.py`).

# %%
from ember.threads import WORKERS, parallel, shares

print(shares(10, 3), f"{WORKERS} processors here")
sizes = [1000, 3000, 10_000, 30_000, 100_000, 300_000]
row, result = np.linspace(-3, 3, sizes[-1]), np.empty(sizes[-1])
alone = [seconds(lambda: kernel(result, row, 0, n)) for n in sizes]
shared = [seconds(lambda: parallel(kernel, n, result, row, least=0)) for n in sizes]
figure, axes = plt.subplots(figsize=(5.5, 2.8))
axes.loglog(sizes, [t * 1e6 for t in alone], "o-", label="one thread")
axes.loglog(sizes, [t * 1e6 for t in shared], "o-", label=f"shares for {WORKERS}")
axes.set(xlabel="places", ylabel="microseconds", title="sigmoid")
axes.legend(frameon=False, fontsize=8)
axes.spines[["top", "right"]].set_visible(False)

# %% [markdown]
# ## An order that memory likes
#
# The product of two matrices of 256 rows is 16 million multiplications, and each could be done in any order. Memory gives eight
# neighbouring numbers at a time, and keeps what was used lately close. So it matters who walks along rows, and how soon a number
# is wanted again. Below is where in y the first 160 reads of each order go.
#
# **Exercise 3.3** (`ember/products.py`).

# %%
from ember.products import dot_kernel, rows_kernel, tiled_kernel


class Watched:
    """A row that notes where it is read."""

    def __init__(self, n):
        self.n, self.places = n, []

    def __getitem__(self, place):
        self.places.append(place)
        return 1.0


m, k, n = 8, 16, 16
figure, all_axes = plt.subplots(1, 3, figsize=(9, 2.6), sharey=True)
for axes, (name, kernel, more) in zip(all_axes, (("dot", dot_kernel, ()), ("rows", rows_kernel, ()), ("tiled", tiled_kernel, (4,))),
                                      strict=True):
    y = Watched(k * n)
    kernel.py_func(np.zeros(m * n), np.ones(m * k), y, k, n, 0, m, *more)
    axes.plot(y.places[:160], ".", ms=3)
    axes.set(title=f"{name}_kernel", xlabel="read")
    axes.spines[["top", "right"]].set_visible(False)
all_axes[0].set_ylabel("place in y")

# %%
m = k = n = 256
rng = np.random.default_rng(0)
x, y, result = rng.normal(size=m * k), rng.normal(size=k * n), np.empty(m * n)
times = {"Python": seconds(lambda: dot_kernel.py_func(result, x, y, k, n, 0, 1)) * m}
for name, kernel in (("dot", dot_kernel), ("rows", rows_kernel), ("tiled", tiled_kernel)):
    times[name] = seconds(lambda: kernel(result, x, y, k, n, 0, m))
times[f"rows, {WORKERS} threads"] = seconds(lambda: parallel(rows_kernel, m, result, x, y, k, n, least=0))
times["NumPy"] = seconds(lambda: x.reshape(m, k) @ y.reshape(k, n))
figure, axes = plt.subplots(figsize=(6.5, 2.6))
rate = {name: 2 * m * k * n / took / 1e9 for name, took in times.items()}
bars = axes.barh(list(rate), list(rate.values()), color="#2e6f9e")
axes.bar_label(bars, [f"{value:.3g}" for value in rate.values()], padding=3, fontsize=8)
axes.set(xscale="log", xlabel="billion additions and multiplications a second", title="256 x 256 times 256 x 256")
axes.invert_yaxis()
axes.set_xlim(right=max(rate.values()) * 4)
axes.spines[["top", "right"]].set_visible(False)

# %% [markdown]
# What NumPy's library has beyond ours: a tile of the result that stays in registers, operands packed in the order they are read,
# and code for the very processor. Flambeau's contractions have those too: [decision 002](../../../docs/decisions/002-contraction-tiles.md).
#
# ## A library again
#
# **Exercise 3.4** (`ember/fast.py`): the four functions of `loops.py` on these kernels. `Machine.kernels = fast` and every tensor
# of chapter 2 uses them; nothing else changes, derivatives included. That is why it was worth having three loops only.

# %%
from ember import fast, tensor

values = rng.normal(size=(32, 32))


def step():
    w = tensor.Tensor(values)
    (w @ w.permute(1, 0)).sigmoid().sum().backward()


took = {}
for kernels in (loops, fast):
    tensor.Machine.kernels = kernels
    took[kernels.__name__] = seconds(step)
tensor.Machine.kernels = loops
print(", ".join(f"{name}: {t * 1e3:.2f} ms" for name, t in took.items()), f"; {took['ember.loops'] / took['ember.fast']:.0f} times as fast")

# %% [markdown]
# ## Thousands of threads
#
# A GPU runs one program in thousands of threads at once. They come in blocks; the threads of a block share a small array that
# lies near, and can wait for each other. Memory is far: the art is to bring a number once and use it often.
#
# **Exercise 3.5** (`ember/gpu.py`) is written in the words of `numba.cuda`, and runs on a GPU as it stands. Without one,
# `flambeau.course.emulator` runs it, a thread after another from barrier to barrier, and reports races: one thread that reads
# what another one stores, when nobody made them wait.

# %%
from ember import gpu

from flambeau.course.emulator import Race, launch

sums = np.zeros(1)
tally = launch(gpu.sum_block, 1, gpu.THREADS, sums, np.arange(1.0, 9.0))
print(sums, f"{tally.reads} reads of memory, {tally.shared_reads} of the shared array, {tally.barriers} barriers")
figure, axes = plt.subplots(figsize=(6, 2.6))
for stores, colour, marker in ((False, "#2e6f9e", "o"), (True, "#d1495b", "x")):
    mine = [(phase, place) for phase, _, place, is_store in tally.touched if is_store is stores]
    shift = 0.1 if stores else -0.1
    axes.scatter([phase + shift for phase, _ in mine], [place for _, place in mine], c=colour, marker=marker, s=26,
                 label="stores" if stores else "reads")
for barrier in range(tally.barriers):
    axes.axvline(barrier + 0.5, color="#8a909c", lw=0.8, ls=":")
axes.set(xlabel="between barriers", ylabel="place in the shared array", title="the sum of a block: each round half as many")
axes.legend(frameon=False, fontsize=8, loc="upper right")
axes.spines[["top", "right"]].set_visible(False)

# %%
from numba import cuda, float64


def hasty(out, x):
    shared = cuda.shared.array(8, float64)
    t = cuda.threadIdx.x
    shared[t] = x[t]
    out[t] = shared[7 - t]          # who says that thread 7 - t has been there?


try:
    launch(hasty, 1, 8, np.zeros(8), np.ones(8))
except Race as race:
    print(race)

# %% [markdown]
# A product in tiles reads each element of memory once for a whole tile of results:

# %%
a, b, product = rng.normal(size=(32, 32)), rng.normal(size=(32, 32)), np.zeros((32, 32))
tally = launch(gpu.matmul_tiles, (4, 4), (8, 8), product, a, b)
print(f"right: {np.allclose(product, a @ b)}; {tally.reads:,} reads of memory for {32**3 * 2:,} operands of products")

# %% [markdown]
# ## Now open
#
# - [`codegen/cpu/loops/`](../../codegen/cpu/loops): Flambeau's map, zip and reduce, as LLVM IR that is vectorised already;
#   a kernel there is a function of `begin` and `end` too, and [`runtime/threads.py`](../../runtime/threads.py) has its pool.
# - [`passes/cpu/`](../../passes/cpu): who chooses tiles, by a model of the machine instead of `tile=64`.
# - [`codegen/cuda/emulator.py`](../../codegen/cuda/emulator.py): our emulator's grown-up sibling, all threads of a block at once.
# - [docs/cuda_kernels.md](../../../docs/cuda_kernels.md) and [`examples/cuda`](../../../examples/cuda): the kernels of this
#   chapter at the size of real ones, written by hand.
