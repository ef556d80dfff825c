# %% [markdown]
# # 10 · Yours
#
# Ember is finished. It traces, differentiates, simplifies, fuses and compiles, in a thousand lines. Flambeau does the same for
# nearly everything that PyTorch can say. You know its parts by name; now add to it. None
# of the three additions below edits a file of Flambeau.
#
# ## An op
#
# **Exercise 10.1** (`ember/own_op.py`). An op is one declaration: its meaning in NumPy, one element of it in scalar ops, and its slope
# in ops. The first two say the same thing twice, on purpose: one checks the other. Everything else follows from the declaration.

# %%
import matplotlib.pyplot as plt
import numpy as np

import flambeau as fb
from ember.own_op import bell

x = fb.linspace(-3, 3, 101, dtype=fb.float64).requires_grad_()
y = bell(x)
(first,) = fb.autograd.grad(y.sum(), x, create_graph=True)
(second,) = fb.autograd.grad(first.sum(), x)
figure, axes = plt.subplots(figsize=(5.5, 2.6))
for values, name in ((y, "bell"), (first, "derivative"), (second, "second derivative")):
    axes.plot(x.detach().numpy(), values.detach().numpy(), label=name)
axes.legend(frameon=False, fontsize=8)
axes.spines[["top", "right"]].set_visible(False)


@fb.compile
def f(x):
    return bell(2 * x).sum()


f(fb.ones(4))
print(f.ir("kernels"))

# %% [markdown]
# ## A pass
#
# **Exercise 10.2** (`ember/own_pass.py`). A rule looks at a node and gives what takes its place. Flambeau's own rules keep every bit, as
# those of chapter 7; this one does not, and so it is yours.

# %%
from ember.own_pass import passes


@fb.compile(passes=passes())
def g(a, b, c):
    return fb.exp(a) * fb.exp(b) * fb.exp(c)


print(g(fb.tensor([0.5]), fb.tensor([0.25]), fb.tensor([1.0])).item(), np.exp(1.75))
print(g.ir("merge_exponentials"))

# %% [markdown]
# ## A backend
#
# **Exercise 10.3** (`ember/own_backend.py`). A backend is two functions: one builds kernels, one gives what runs a program of them. This one
# keeps account.

# %%
from ember import own_backend

model = fb.nn.Sequential(fb.nn.Linear(8, 16), fb.nn.ReLU(), fb.nn.Linear(16, 1))
optimizer = fb.optim.Adam(model.parameters())


@fb.compile(backend="accountant")
def step(x):
    optimizer.zero_grad()
    loss = (model(x) ** 2).mean()
    loss.backward()
    optimizer.step()
    return loss


own_backend.RUNS.clear(), own_backend.BYTES.clear()
for _ in range(3):
    step(fb.ones(32, 8))
names, sizes = zip(*own_backend.BYTES.most_common(), strict=True)
figure, axes = plt.subplots(figsize=(6, 2.6))
axes.bar(names, [size / 3 / 1e3 for size in sizes], color="#2e6f9e")
axes.set(xlabel="kernel", ylabel="kilobytes a step", title="forward, backward and Adam")
axes.tick_params(axis="x", labelsize=7)
axes.spines[["top", "right"]].set_visible(False)

# %% [markdown]
# ## The rest of it
#
# `step.report("step.html")` is the whole of what you have learnt about one function of your own: the graph after each pass, kernels
# down to assembly, memory over time. And these are the files, in the order of this course. You can read every one of them.
#
# | ember | Flambeau |
# |---|---|
# | `scalar.py`, `backward.py`, `rules.py`, `gradient.py` | [`frontend/tape/`](../../frontend/tape), [`passes/graph/autodiff.py`](../../passes/graph/autodiff.py) |
# | `storage.py`, `broadcast.py` | [`frontend/tensor/`](../../frontend/tensor), [`ir/index_maps.py`](../../ir/index_maps.py) |
# | `module.py`, `convolution.py`, `dropout.py` | [`frontend/nn/`](../../frontend/nn), [`ir/ops/convolution.py`](../../ir/ops/convolution.py) |
# | `ops.py`, `graph.py`, `text.py`, `parser.py`, `verifier.py` | [`ir/op.py`](../../ir/op.py), [`ir/graph/`](../../ir/graph) |
# | `trace.py`, `jit.py` | [`frontend/trace/`](../../frontend/trace), [`frontend/call/`](../../frontend/call) |
# | `dce.py`, `cse.py`, `simplify.py`, `decompose.py` | [`passes/graph/`](../../passes/graph) |
# | `groups.py`, `fuse.py` | [`passes/fusion/`](../../passes/fusion) |
# | `lower.py` | [`passes/lowering/`](../../passes/lowering), [`ir/kernel/`](../../ir/kernel) |
# | `emit.py`, `kernels.py`, `threads.py` | [`codegen/cpu/`](../../codegen/cpu), [`runtime/threads.py`](../../runtime/threads.py) |
# | `plan.py` | [`passes/memory/`](../../passes/memory) |
# | `compiler.py` | [`compiler.py`](../../compiler.py), [`linking.py`](../../linking.py) |
#
# [docs/architecture.md](../../../docs/architecture.md) walks one step through all of them;
# [docs/extending.md](../../../docs/extending.md) has more to add: ops with regions, kinds of kernels, backends that emit code;
# [docs/decisions](../../../docs/decisions) tells why it is as it is, and what would change that.
