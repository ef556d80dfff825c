# %% [markdown]
# # 8 · Fusion
#
# A processor adds two numbers in a quarter of a nanosecond, and waits a hundred nanoseconds for a number that lies in far memory.
# A library that runs one op after another writes every result to memory and reads it back for the next op. For most of a
# network that is what takes the time. *Fusion* puts ops that follow each other into one loop: a number comes in once, everything
# happens to it, and it goes out once.
#
# ## One op less
#
# A product of matrices is broadcasts, a product and a sum. As that it needs no rules of its own, neither in this chapter nor in
# the next. The big tensor between is never made, if fusion does its work.
#
# **Exercise 8.1** (`ember/decompose.py`).

# %%

from ember.decompose import decompose
from ember.text import print_graph
from ember.trace import trace

print(print_graph(decompose(trace(lambda x, w: x @ w, (4, 3), (3, 2), names=["x", "w"]))))

# %% [markdown]
# ## Who may join whom
#
# A kernel is a loop nest that stores one result, its *root*. Three rules decide:
#
# - Views are no work. Whoever reads a permuted value reads the value at another index.
# - An elementwise op joins whoever reads it, if that is one kernel. If two read it, it would be computed twice, or it goes to memory.
# - Not through a broadcast that repeats it: `exp` of a number that is then used for a thousand columns would be computed a thousand
#   times.
#
# **Exercise 8.2** (`ember/groups.py`).

# %%
from ember.gradient import gradient
from ember.groups import root_of
from ember.simplify import simplify

from flambeau.course import draw


def loss(x, w, b):
    error = (x @ w + b).sigmoid() - 0.5
    return (error * error).mean()


graph = decompose(simplify(trace(loss, (4, 3), (3, 2), (2,), names=["x", "w", "b"])))
draw.program(graph, "the forward half: each frame is one walk through memory", roots=root_of(graph))

# %% [markdown]
# The sum of products is a kernel (its inner loop adds up), all that follows up to the last sum is a second one, and the third
# divides a single number.
#
# ## Regions
#
# **Exercise 8.3** (`ember/fuse.py`). Each group becomes one node, with its ops in a graph of its own. Outside, the program is now a list
# of kernels; inside, everything is as it was, so that whoever does not care need not look.

# %%
from ember.cse import cse
from ember.fuse import fuse

step = gradient(trace(loss, (4, 3), (3, 2), (2,), names=["x", "w", "b"]), [1, 2])
plain = decompose(cse(simplify(step)))
fused = fuse(plain)
print(print_graph(fused)[:1100], "...")

# %% [markdown]
# ## What it saves
#
# **Exercise 8.4** (`ember/traffic.py`). Count bytes. They can be counted without running anything, and they predict time better than
# the number of operations does.

# %%
import matplotlib.pyplot as plt

from ember.traffic import intensity, operations, traffic

big = gradient(trace(loss, (512, 64), (64, 64), (64,)), [1, 2])
clean = cse(simplify(big))
stages = {"op by op": clean, "fused": fuse(decompose(clean))}
figure, (left, right) = plt.subplots(1, 2, figsize=(7, 2.4))
for axes, title, f in ((left, "megabytes to and from memory", lambda g: traffic(g) / 1e6), (right, "kernels", lambda g: len(
        [n for n in g.nodes if n.op not in ("input", "constant")]))):
    bars = axes.barh(list(stages), [f(g) for g in stages.values()], color=["#8a909c", "#2e6f9e"])
    axes.bar_label(bars, fmt="%.3g", fontsize=8, padding=3)
    axes.set_title(title, fontsize=9)
    axes.invert_yaxis()
    axes.set_xlim(right=axes.get_xlim()[1] * 1.15)
    axes.spines[["top", "right"]].set_visible(False)
figure.tight_layout()
for name, g in stages.items():
    print(f"{name}: {operations(g):,} operations, {intensity(g):.2f} for each byte")

# %% [markdown]
# Chains of elementwise ops gain as many times as they are long. What is left is what must be read and written anyway.
#
# ## Play
#
# `fusion.html` of `python -m flambeau course play`: a softmax whose ops you may put into kernels yourself; it counts the bytes, and
# says which groups are no kernel and why.
#
# ## Now open
#
# - [`passes/fusion/`](../../passes/fusion): the same three rules and more, with kernels of several results.
#   [`groups.py`](../../passes/fusion/groups.py) are groups that merge; [`reasons.py`](../../passes/fusion/reasons.py) tells why
#   two did not; [decision 003](../../../docs/decisions/003-fusion-and-lowering.md) is the reasoning.
# - `f.explain()` and `f.report("report.html")` on a function of your own: kernels by what they do, and "not fused, and why"
#   ([docs/inspect.md](../../../docs/inspect.md)).
