# %% [markdown]
# # 6 · The IR and its text
#
# A compiler is a row of programs that hand each other a program. What they hand over is called *intermediate representation*.
# Good ones have a text: everything in it can be printed, and what was printed can be read back. Then a pass is tested by a file
# with two texts, a bug report is a text, and so is what you stare at when a number is wrong.
#
# ## Printing
#
# **Exercise 6.1** (`ember/text.py`).

# %%
import numpy as np

from ember.text import print_graph
from ember.trace import trace


def normalized(x, w):
    y = (x @ w).exp()
    return y / y.sum()


graph = trace(normalized, (2, 3), (3, 2), names=["x", "w"])
text = print_graph(graph)
print(text)

# %% [markdown]
# Ember's text is a part of Flambeau's. So Flambeau can read it, check it, run it, and compile it to machine code:

# %%
import flambeau as fb

theirs = fb.ir.parse(text)
rng = np.random.default_rng(0)
x, w = rng.normal(size=(2, 3)), rng.normal(size=(3, 2))
print(theirs(x, w)[0])
print(fb.compile(theirs)(fb.tensor(x), fb.tensor(w))[0].numpy())

# %% [markdown]
# ## Reading
#
# **Exercise 6.2** (`ember/parser.py`). A parser meets people's mistakes, so half of its work is to say what is wrong and where.

# %%
from ember.interpret import interpret
from ember.parser import ParseError, parse

assert print_graph(parse(text)) == text
print(interpret(parse(text.replace("exp", "neg")), [x, w])[0].round(3).tolist())
for wrong in (text.replace("exp(", "epx("), text.replace("%4 = ", "%3 = ", 1), text.replace("f64[3,2]", "f64[2,2]")):
    try:
        parse(wrong)
    except ParseError as error:
        print(error)

# %% [markdown]
# ## Rules
#
# **Exercise 6.3** (`ember/verifier.py`). The verifier knows every rule that a graph keeps, and nothing of what it computes. It runs
# after each pass while one is being written: a pass that breaks a rule is then caught with its name on it, and not five passes
# later as a crash.

# %%
from ember.verifier import GraphError, verify

broken = parse(text)
verify(broken)
broken.nodes[2], broken.nodes[3] = broken.nodes[3], broken.nodes[2]
try:
    verify(broken)
except GraphError as error:
    print(error)

# %% [markdown]
# ## The same program
#
# **Exercise 6.4** (`ember/structural_hash.py`). Compiling is slow, so nobody wants to do it twice. But when are two programs the
# same? Not when their texts are: names, numbers and the order of independent lines mean nothing. A node's key is made of its op
# and its operands' keys, up to the inputs, which are known by their place. Equal keys, equal computation.

# %%
from ember.structural_hash import structural_hash

other = text.replace("@normalized", "@f").replace('"x"', '"left"').replace('"w"', '"right"')
for name, changed in (("other names", other), ("another op", text.replace("exp", "neg")), ("as it was", text)):
    print(f"{name:12} {structural_hash(parse(changed))[:16]}")

# %% [markdown]
# Two layers of equal size are two graphs with one hash. Flambeau compiles their kernels once, and keeps machine code on disk by such
# a key: the next process finds it.
#
# A picture of a graph, with every value that a key is made of:

# %%
from flambeau.course import draw

draw.program(graph, "normalized: keys grow from left to right", across=True)

# %% [markdown]
# ## Now open
#
# - [docs/ir.md](../../../docs/ir.md): Flambeau's two levels of IR.
# - [`ir/graph/text.py`](../../ir/graph/text.py), [`ir/graph/parser.py`](../../ir/graph/parser.py),
#   [`ir/graph/verifier.py`](../../ir/graph/verifier.py), [`ir/graph/hash.py`](../../ir/graph/hash.py),
#   [`ir/graph/interpreter.py`](../../ir/graph/interpreter.py): the five files of this chapter and the last, grown up.
# - [`tests/golden`](../../../tests/golden): programs before and after passes, as texts.
