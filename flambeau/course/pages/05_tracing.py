# %% [markdown]
# # 5 · Tracing
#
# A training step does the same thing a thousand times, and chapter 4's library found out a thousand times what to do. A compiler
# finds it out once. For that it must see the whole step as *data*: something that can be printed, counted, rearranged. Python
# programs are not easily read as data; there are classes, closures, libraries. The trick is not to read them. They are *run*, once,
# with objects in place of arrays that compute nothing and write down everything that happens to them.
#
# From here on ember has a second half, a compiler. It begins with nothing of the first half but the rules of broadcasting and
# strides, and its names are Flambeau's.
#
# ## Ops and their types
#
# The compiler knows fourteen ops. To each belongs what it means (a line of NumPy) and which shape it gives. A network never
# broadcasts silently here: `broadcast` is an op, and every dim says where it goes. What is explicit can be moved, merged and
# removed.
#
# **Exercise 5.1** (`ember/ops.py`).

# %%
import numpy as np

from ember.ops import OPS, InferenceError

print(OPS["broadcast"].infer("broadcast", ((3,),), shape=(2, 3), dims=(1,)))
try:
    OPS["matmul"].infer("matmul", ((2, 3), (2, 3)))
except InferenceError as error:
    print(error)

# %% [markdown]
# ## A program as a list
#
# Each node is an op, its operands, and nothing that can change afterwards: *single assignment*. The list is in an order in which
# operands come first. That is all the structure there is, and it makes most questions easy. Whoever wants a changed program
# goes through the list once and builds another one: `rebuilt` is the whole machinery of passes.
#
# **Exercise 5.2** (`ember/graph.py`).

# %%
from ember.graph import Builder, Graph

graph = Graph("by_hand")
b = Builder(graph)
x = graph.input("x", (2, 3))
graph.outputs = [b.sum(b.mul(x, x), dims=(1,))]
print([(node.op, node.shape) for node in graph.nodes])

# %% [markdown]
# ## Tracers
#
# **Exercise 5.3** (`ember/trace.py`). A `Tracer` has a shape and operators. Any function that uses only those can be traced, whatever
# else it does on the way: loops run, and leave a longer list; prints print, once.

# %%
from ember.trace import TraceError, trace

from flambeau.course import draw


def layer(x, w, b):
    print("layer runs")
    return (x @ w + b).relu()


def loss(x, w, b):
    error = layer(x, w, b) - 1.0
    return (error * error).mean()


graph = trace(loss, (4, 3), (3, 2), (2,), names=["x", "w", "b"])
draw.program(graph, "mean((relu(x w + b) - 1)²), written down")

# %% [markdown]
# What cannot be written down must not be passed over in silence. `if x > 0` asks for a number that is not there yet; an object
# is True by default, and one branch would be taken for all arrays ever after. This is the one thing that people trip over in every
# tracing compiler, and the reason for good words in the error.

# %%
try:
    trace(lambda x: x if x.sum() else -x, (3,))
except TraceError as error:
    print(error)

# %% [markdown]
# ## What it means
#
# **Exercise 5.4** (`ember/interpret.py`). An interpreter of ten lines says what every graph means. It is never fast, and never
# changes. In the next chapters every pass, and at last the machine code, must give what it gives.

# %%
from ember.interpret import interpret

rng = np.random.default_rng(0)
arrays = [rng.normal(size=shape) for shape in ((4, 3), (3, 2), (2,))]
x, w, bias = arrays
print(interpret(graph, arrays)[0], ((np.maximum(x @ w + bias, 0) - 1) ** 2).mean())

# %% [markdown]
# ## Once for each kind
#
# **Exercise 5.5** (`ember/jit.py`). A trace holds for the shapes that it was made with. So a compiled function looks at its
# arguments first: same kind, same program. What belongs to the kind is a decision. The values of arrays do not, nor does the
# value of a learning rate, which changes at every step. A flag does, because the trace has followed it.

# %%
from ember.jit import Jitted


@Jitted
def scaled(x, factor, negative):
    print(f"    traced for {x.shape}")
    return -(x * factor) if negative else x * factor


for arguments in ((np.ones(3), 2.0, False), (np.ones(3), 5.0, False), (np.ones(4), 2.0, False), (np.ones(3), 2.0, True)):
    print(f"{len(arguments[0])} numbers, {arguments[1:]}: {scaled(*arguments)}")
print(len(scaled.programs), "programs")

# %% [markdown]
# Flambeau's tracer goes further in one direction: a whole train step, with parameters that live in objects and are changed in place,
# is one trace. What it reached from outside becomes a `state` input, what it changed a `write`; and since the trace depends on
# what those objects were, it watches them.
#
# ## Now open
#
# - [`frontend/trace/`](../../frontend/trace): Flambeau's tracer. [`trace.py`](../../frontend/trace/trace.py) is the graph that
#   grows; [`guards/`](../../frontend/trace/guards) remember what it depended on.
# - [`ir/op.py`](../../ir/op.py): what an op says of itself. [`ir/ops/views.py`](../../ir/ops/views.py) has `broadcast`.
# - [`frontend/call/compile.py`](../../frontend/call/compile.py): `fb.compile`, where signatures are looked up.
# - [docs/compile.md](../../../docs/compile.md): the contract, which is what all this looks like from outside.
