# %% [markdown]
# # 7 · Autodiff as a pass
#
# In chapter 1 the derivative was found by walking back over notes, at every step anew. Now the notes are a program, and the walk
# can be a program that writes a program: `gradient` takes a graph and gives a longer one. The walk happens once. Its result is ops
# like any others, which can be printed, simplified, fused, and differentiated again.
#
# ## A rule for each op
#
# **Exercise 7.1** (`ember/rules.py`). The same rules as in chapters 1 and 2, with one difference: a rule computes nothing. It appends.

# %%
import numpy as np

from ember.graph import Builder, Graph
from ember.rules import RULES
from ember.text import print_graph

graph = Graph("rule_of_div")
x, y, d = (graph.input(name, (3,)) for name in ("x", "y", "d"))
z = graph.append("div", x, y)
graph.outputs = list(RULES["div"](Builder(graph), z, d))
print(print_graph(graph))

# %% [markdown]
# ## Walking back
#
# **Exercise 7.2** (`ember/gradient.py`).

# %%
from ember.gradient import gradient
from ember.trace import trace

from flambeau.course import draw


def loss(x, w):
    h = (x @ w).sigmoid()
    return (h * h).sum()


forward = trace(loss, (4, 3), (3, 2), names=["x", "w"])
both = gradient(forward, [1])
kinds = dict.fromkeys(both.nodes[len(forward.nodes):], "backward")
draw.program(both, "the derivative by w: what was appended is red", kinds, across=False)

# %%
from ember.interpret import interpret

rng = np.random.default_rng(0)
arrays = [rng.normal(size=(4, 3)), rng.normal(size=(3, 2))]
step = np.zeros((3, 2))
step[1, 0] = 1e-6
value, by_w = interpret(both, arrays)
tried = (interpret(forward, [arrays[0], arrays[1] + step])[0] - value) / 1e-6
print(f"{by_w[1, 0]:.6f}, by trying {tried:.6f}")
curve = trace(lambda x: x * x * x, ())
for order in (1, 2, 3):
    curve = gradient(curve)
    curve.outputs = curve.outputs[1:]
    print(f"derivative {order} of x³ at 2 is {interpret(curve, [np.array(2.0)])[0]}, a graph of {len(curve.nodes)} nodes")

# %% [markdown]
# Look at the number of nodes. Rules are written for all cases and append what most programs do not need: derivatives by
# constants, products with 1, the same broadcast three times. Nobody should make the rules cleverer. Small passes clean up, each with
# one idea.
#
# ## Cleaning
#
# **Exercise 7.3** (`ember/dce.py`), **Exercise 7.4** (`ember/cse.py`).

# %%
from ember.cse import cse
from ember.dce import dce

graph = both
for each in (dce, cse, dce):
    before, graph = len(graph.nodes), each(graph)
    print(f"{each.__name__}: {before} -> {len(graph.nodes)} nodes")

# %% [markdown]
# ## Rules
#
# **Exercise 7.5** (`ember/simplify.py`). A rule is a small claim about numbers: x · 1 is x. Most claims that school teaches are false
# for floats. x · 0 is not 0 if x is NaN; x - x is not 0 if x is infinite; x + 0 is not x if x is -0.0. A compiler that believes
# them gives other numbers than the program, and nobody finds out where. These rules keep every bit, and the check tries them at
# all the places where others do not.

# %%
import matplotlib.pyplot as plt

from ember.simplify import simplify

sizes, graph = [("traced", len(forward.nodes)), ("gradient", len(both.nodes))], both
for each in (simplify, cse, simplify):
    graph = each(graph)
    sizes.append((each.__name__, len(graph.nodes)))
figure, axes = plt.subplots(figsize=(5.5, 2.4))
bars = axes.bar(range(len(sizes)), [n for _, n in sizes], color=["#8a909c", "#d1495b", *["#2e6f9e"] * 3])
axes.bar_label(bars, fontsize=8)
axes.set_xticks(range(len(sizes)), [name for name, _ in sizes])
axes.set_ylabel("nodes")
axes.spines[["top", "right"]].set_visible(False)
found, wanted = interpret(graph, arrays), interpret(both, arrays)
print([np.array_equal(a, b) for a, b in zip(found, wanted, strict=True)])

# %%
draw.program(graph, "what is left", across=False)

# %% [markdown]
# ## Now open
#
# - [`passes/graph/autodiff.py`](../../passes/graph/autodiff.py): `backpropagate`. It serves the tape of eager tensors and the
#   compiler alike ([decision 001](../../../docs/decisions/001-one-tape.md)), so there is one set of rules.
# - [`passes/graph/dce.py`](../../passes/graph/dce.py), [`passes/graph/cse.py`](../../passes/graph/cse.py),
#   [`passes/graph/simplify.py`](../../passes/graph/simplify.py), and the tables of rules in
#   [`passes/graph/rules/`](../../passes/graph/rules).
# - [`passes/pipeline.py`](../../passes/pipeline.py): the order of passes, one tuple.
