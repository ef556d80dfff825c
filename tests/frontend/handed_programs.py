"""Random functions that keep tensors in attributes, globals, closure variables, lists and dicts, and calls of them with
changes in between: what compiled functions that hand tensors back are held to."""
from __future__ import annotations

import random

import flambeau as fb
from flambeau import nn
from flambeau.errors import CaptureError, TraceError, UnsupportedError

PRELUDE = '''
def use(part):
    if part is None or isinstance(part, (bool, str)):
        return 0.5
    if isinstance(part, fb.Tensor):
        return part.sum()
    return sum([use(p) for p in (part.values() if isinstance(part, dict) else part)], 0.25)
class Box:
    pass
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = self.b = self.c = None
        self.rows, self.table, self.box = [], {}, Box()
        self.box.a, self.box.rows = None, []
        self.w = fb.ones(2)
        self.register_buffer("buf", fb.zeros(2))
    def forward(self, x):
        return step(self, x)
kept = None
shared = []
def made():
    cell, cells = None, []
    def step(self, x):
        global kept
        nonlocal cell
        v = x * 2
'''
PLACES = ("self.a", "self.b", "self.c", "self.box.a", "self.buf", "kept", "cell", "self.table['k']")
ROWS = ("self.rows", "self.box.rows", "shared", "cells")


class Program:
    """seed: of the function and of what happens between its calls."""

    def __init__(self, seed):
        self.random = random.Random(seed)

    def value(self, place):
        choose = self.random.choice
        if place == "self.buf":
            return choose(["v", "v + 1", "v * 0.5", "self.w * 3", "x"])
        return choose(["v", "v + 1", "v * 3", "x", "self.w", "(v, v + 1)", "[v]", "{'p': v}", "None", "True", "'s'",
                       "(x, [v, x])", choose([p for p in PLACES if "table" not in p]), "(v, self.a)", "[]"])

    def line(self):
        choose = self.random.choice
        place, other, rows = choose(PLACES), choose(PLACES[:-1]), choose(ROWS)
        return choose([
            f"{place} = {self.value(place)}", f"{place} = {self.value(place)}", f"v = v + use({other})",
            f"v = v + use({rows})", f"{rows}.append(v)", f"{rows}.append(v * 2)", f"{rows}.clear()",
            f"if len({rows}) > 2: {rows}.pop(0)", f"if {rows}: {rows}[-1] = v + 1", f"v = v + len({rows})",
            "self.table['k'] = v", "self.table.update(q=v)", "self.table['n'] = v * 4", "v = v + use(self.table)",
            "self.table.pop('k', None)", "self.a, self.b = self.b, self.a",
            f"if isinstance({other}, fb.Tensor): {other}.add_(1)", "alias = self.rows; alias.append(v)",
            "self.rows = []", "self.rows = [v, x]", "self.table = {'k': v}", "self.buf.mul_(2)", "v = v * 1.5",
            f"kept = {other}", "v = v + (0 if self.a is None else 1)", "setattr(self, 'c', v)",
            "v = v + use(getattr(self, 'late', None))", "self.late = v"])

    def source(self):
        body = [self.line() for _ in range(self.random.randint(1, 7))]
        result = self.random.choice(["v", "v", "(v, self.a)", "(v, {'kept': kept})", "self.rows", "use(self.b) + v"])
        inside = "".join(f"        {line}\n" for line in [*body, f"return {result}"])
        return PRELUDE + inside + "    return step, lambda: (cell, cells)\nstep, cell_of = made()\n"

    def changes(self):
        """What is done to the state between two calls, as code."""
        choose = self.random.choice
        return [choose(["net.a = None", "net.a = fb.ones(2) * 7", "net.rows.append(fb.ones(2))", "net.rows.clear()",
                        "net.table.clear()", "net.b = net.a", "net.box.a = (fb.ones(2), fb.zeros(2))", "kept = net.buf",
                        "net.buf = fb.ones(2) * 5", "net.buf.add_(1)", "shared.append(net.w)", "net.w = fb.ones(2) * 9",
                        "net.late = fb.ones(2)", "net.rows = [fb.ones(2)] * 2"])
                for _ in range(self.random.choice([0, 0, 0, 1, 2]))]


def picture(values):
    """What values hold, and which tensors and containers among them are one."""
    known = {}

    def of(value):
        if isinstance(value, (fb.Tensor, list, dict)):
            if id(value) in known:
                return "again", known[id(value)]
            known[id(value)] = len(known)
        if isinstance(value, fb.Tensor):
            return "tensor", [round(v, 3) for v in value.detach().reshape(-1).tolist()]
        if isinstance(value, dict):
            return "dict", [(key, of(part)) for key, part in value.items()]
        if isinstance(value, (list, tuple)):
            return type(value).__name__, [of(part) for part in value]
        return repr(value)
    return of(values)


class Run:
    """One of the two runs of a program."""

    def __init__(self, source, decorator):
        self.names = {"fb": fb, "nn": nn, "__name__": "handed_program"}
        exec(compile(source, "<handed program>", "exec"), self.names)
        self.names["net"] = self.net = self.names["Net"]()
        self.call = decorator(self.net)
        self.old = []                       # tensors of earlier calls, and what they held

    def state(self):
        net, names = self.net, self.names
        fields = {name: value for name, value in vars(net).items() if not name.startswith("_")}
        box = vars(fields.pop("box"))
        return [fields, dict(box), net.buf, names["kept"], names["shared"], *names["cell_of"]()]


def run(seed, calls=5):
    """What went wrong, or None; and whether it was compiled to the end."""
    program = Program(seed)
    source = program.source()
    eager, compiled = Run(source, lambda net: net), Run(source, fb.compile)
    log = []
    for n in range(calls):
        x = [float(n), 1.0]
        before = picture(compiled.state())
        try:
            expected = eager.call(fb.tensor(x))
        except Exception as error:          # of the program's own
            return (None, False) if isinstance(error, (TypeError, RuntimeError, KeyError)) else (repr(error), False)
        try:
            found = compiled.call(fb.tensor(x))
        except (CaptureError, TraceError, UnsupportedError) as error:
            if picture(compiled.state()) != before:
                return f"a refused call changed something: {error}\n{source}\n{log}", False
            return None, str(error.message)
        pictures = [picture([result if isinstance(result, fb.Tensor) else None, run.state()])
                    for run, result in ((eager, expected), (compiled, found))]
        values = [picture([result]) for result in (expected, found)]
        if pictures[0] != pictures[1] or values[0] != values[1]:
            return f"call {n}: {pictures[1]}\nis not\n{pictures[0]}\nor {values[1]} not {values[0]}\n{source}\n{log}", False
        log.append("call")
        for change in program.changes():
            log.append(change)
            for side in (eager, compiled):
                exec(change, side.names)
    return None, True
