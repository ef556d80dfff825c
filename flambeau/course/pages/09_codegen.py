# %% [markdown]
# # 9 · Code
#
# A fused program is a list of kernels. This chapter turns each into loops, the loops into instructions, and the list into something
# that runs. At its end `ember.compiler.compile` takes a Python function and gives machine code.
#
# ## Loops
#
# **Exercise 9.1** (`ember/lower.py`). Here tensors end. What is left are numbers at a point of a loop nest, and addresses. Views
# show what they are: a permute is two strides that change places, a broadcast is a stride of 0.

# %%
import numpy as np

from ember.compiler import passes
from ember.gradient import gradient
from ember.lower import lower, print_loop
from ember.trace import trace


def loss(x, w, b):
    error = (x @ w + b).relu() - 1.0
    return (error * error).mean()


fused = passes(gradient(trace(loss, (8, 4), (4, 3), (3,), names=["x", "w", "b"]), [1, 2]))[-1][1]
kernels = [node for node in fused.nodes if node.op == "fusion"]
for number, node in enumerate(kernels[:2]):
    print(print_loop(lower(node), f"k{number}"))

# %% [markdown]
# ## Instructions
#
# **Exercise 9.2** (`ember/emit.py`). LLVM's language is a processor without a fixed number of registers: each value is assigned once,
# and a loop is a block that ends with a jump back to its head. A `phi` there says which value the index has: 0 if control comes from
# before, the next one if it comes from the loop's own end. LLVM does the rest, and that is a lot: it keeps `total` in a register,
# unrolls, uses instructions that do four or eight at once, and assembles.

# %%
from ember.emit import emit
from llvmlite import ir

module = ir.Module("one")
emit(lower(kernels[-1]), module, "k")
print(str(module).split("define")[1][:900], "...")

# %% [markdown]
# ## Memory
#
# **Exercise 9.3** (`ember/plan.py`). Every kernel's result needs a place until it is read for the last time. Since the whole program is
# known, the places can be fixed beforehand, and shared by values that never meet. Across is time, upwards is memory:

# %%
import math

import matplotlib.pyplot as plt
from ember.plan import lives_of, plan


def deep(x, *weights):
    for w in weights:
        x = (x @ w).sigmoid()
    return (x * x).sum()


program = passes(gradient(trace(deep, (64, 32), *[(32, 32)] * 4), [1, 2, 3, 4]))[-1][1]
lives = lives_of(program)
sizes = [8 * math.prod(node.shape) for node in lives]
offsets, total = plan(sizes, list(lives.values()))
figure, axes = plt.subplots(figsize=(7, 3))
colours = plt.get_cmap("tab20")
for n, ((first, last), size, offset) in enumerate(zip(lives.values(), sizes, offsets, strict=True)):
    axes.add_patch(plt.Rectangle((first, offset / 1e3), last - first + 1, size / 1e3, facecolor=colours(n % 20), edgecolor="white", lw=0.5))
axes.set(xlim=(0, len(program.nodes)), ylim=(0, total / 1e3 * 1.05), xlabel="kernel", ylabel="kilobytes")
axes.set_title(f"{total / 1e3:.0f} KB for values of {sum(sizes) / 1e3:.0f} KB", fontsize=9)
axes.spines[["top", "right"]].set_visible(False)

# %% [markdown]
# ## All of it
#
# **Exercise 9.4** (`ember/compiler.py`). A function becomes a trace, the trace a graph, the graph kernels, the kernels code.

# %%
import time

from ember.compiler import Program, compile
from ember.interpret import interpret


def seconds(run):
    run()
    times = []
    for _ in range(15):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return min(times)


def curve(x):
    return ((x * x + 1.0).log() * (-x).exp() / (x * x + 2.0)).sum()


x = np.random.default_rng(0).uniform(size=300_000)
fast = compile(curve)
slow = seconds(lambda: interpret(trace(curve, x.shape), [x]))
took = seconds(lambda: fast(x))
print(f"a chain of nine ops on 300,000 numbers: {slow * 1e3:.1f} ms by NumPy, op by op; {took * 1e3:.1f} ms as one kernel")
print(abs(fast(x) - interpret(trace(curve, x.shape), [x])[0]) / fast(x) < 1e-12)

# %% [markdown]
# And a network learns: the whole step, derivatives and updates, is one program.

# %%
from ember.graph import Builder


def network(x, y, w1, b1, w2, b2):
    h = ((x * 4.0 - 2.0) @ w1 + b1).relu()
    p = (h @ w2 + b2).sigmoid()
    return -(y * (p + 1e-6).log() + (1.0 - y) * (1.0 - p + 1e-6).log()).mean()


rng = np.random.default_rng(3)
points = rng.uniform(size=(200, 2))
labels = ((points[:, 0] < 0.5) != (points[:, 1] < 0.5)).astype(float)[:, None]
weights = [rng.normal(size=(2, 16)), np.full(16, 0.1), rng.normal(size=(16, 1)) / 4, np.zeros(1)]

graph = gradient(trace(network, (200, 2), (200, 1), *[w.shape for w in weights]), [2, 3, 4, 5])
b = Builder(graph)
graph.outputs = graph.outputs[:1] + [        # the loss, and each parameter after a step of 0.5 against its derivative
    b.sub(p, b.mul(d, b.full(0.5, d.shape))) for p, d in zip(graph.inputs[2:], graph.outputs[1:], strict=True)]
step = Program(graph)
losses = []
for _ in range(300):
    loss_now, *weights = step([points, labels, *weights])
    losses.append(float(loss_now))
print(f"{len(graph.nodes)} nodes became {len(step.kernels)} kernels; the loss went from {losses[0]:.2f} to {losses[-1]:.3f}")

from flambeau.course import draw

evaluate = compile(lambda x, w1, b1, w2, b2: (((x * 4.0 - 2.0) @ w1 + b1).relu() @ w2 + b2).sigmoid())
figure, (left, right) = plt.subplots(1, 2, figsize=(6.5, 2.8))
left.plot(losses)
left.set(xlabel="step", ylabel="loss")
left.spines[["top", "right"]].set_visible(False)
draw.boundary(right, lambda grid: evaluate(grid, *weights)[:, 0], points, labels[:, 0], "after 300 steps")

# %% [markdown]
# ## Play
#
# `boundary.html` of `python -m flambeau course play` is such a training at every step, for three sets of points.
#
# ## Now open
#
# - [`passes/lowering/loops.py`](../../passes/lowering/loops.py): your `lower`, for every op; [`ir/kernel/`](../../ir/kernel) has the
#   loops as an IR with a text of their own.
# - [`codegen/cpu/loops/`](../../codegen/cpu/loops): loops that are vectorised before LLVM sees them;
#   [`codegen/cpu/vmath/`](../../codegen/cpu/vmath): `exp` and its relatives, eight at a time.
# - [`passes/memory/plan.py`](../../passes/memory/plan.py) and [`arena.py`](../../passes/memory/arena.py): the plan, with states that
#   are updated in place.
# - [`compiler.py`](../../compiler.py): `compile_graph`, the grown-up `Program`, forty lines. You can read all of it now.
