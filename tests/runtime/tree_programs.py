"""Random trees of launches, host calls, loops and branches over whole numbers, run natively and interpreted.

Every program has four arrays of 16 numbers in the arena, two arguments, a state and two outputs; kernels on all 16 or on
as many as a size of the call says, some of them cut up for the thread pool; loops that count down; and branches on what
an array holds. Some kernels and host calls fail on some data.
"""
from __future__ import annotations

import ctypes
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np

from flambeau.backends import BuiltKernel, CpuBackend
from flambeau.errors import KernelError
from flambeau.ir.kernel.text import parse_kernel
from flambeau.ir.types import parse_type
from flambeau.linking import launches_of
from flambeau.passes.cpu.schedule import schedule
from flambeau.runtime import (
    Branch,
    Executable,
    HostCall,
    Launch,
    Library,
    Loop,
    Program,
    Signature,
    SizeOf,
    SizeSpec,
    Slot,
    TensorSpec,
    load,
)
from flambeau.runtime.host import host_target
from flambeau.runtime.host_functions import register_host_function
from flambeau.runtime.interpreted import InterpretedExecutable
from flambeau.runtime.program import Step

ELEMENTS = 16
SIZES = (SizeSpec("n", ELEMENTS), SizeSpec("m", ELEMENTS // 2))
HOST_ERRORS = ((7, "the host found {0} after {1}"),)

_CUT = "schedule vector_dim=0, unroll=1, block=4, grain=1, parallel=true"
_BINARY = """
loop @{op} {{
  in x: i64[n]
  in y: i64[n]
  out z: i64[n]
  parallel %i0 = n
  stage () {{
    %0 = load x[%i0] : i64
    %1 = load y[%i0] : i64
    %2 = {op} %0, %1 : i64
    store %2 to z[%i0]
  }}
  {schedule}
}}
"""
_STEP = """
loop @step {{
  in i: i64[1]
  out next: i64[1]
  out more: bool[1]
  parallel %i0 = 1
  stage () {{
    %0 = load i[0] : i64
    %1 = const {by} : i64
    %2 = sub %0, %1 : i64
    %3 = const 0 : i64
    %4 = gt %2, %3 : bool
    store %2 to next[0]
    store %4 to more[0]
  }}
}}
"""
_FILL = """
loop @fill {{
  out x: i64[{elements}]
  parallel %i0 = {elements}
  stage () {{
    %0 = const {value} : i64
    store %0 to x[%i0]
  }}
}}
"""
_TURNS = """
loop @turns {
  out x: i64[1]
  parallel %i0 = 1
  inner %i1 = n
  stage (%i1) {
    %0 = const 1 : i64
    %1 = reduce sum %0 : i64
  }
  stage () {
    store %1 to x[0]
  }
}
"""
_ODD = """
loop @odd {
  in x: i64[16]
  out odd: bool[1]
  parallel %i0 = 1
  stage () {
    %0 = load x[5] : i64
    %1 = const 1 : i64
    %2 = and %0, %1 : i64
    %3 = eq %2, %1 : bool
    store %3 to odd[0]
  }
}
"""
_SCALAR = """
loop @scalar {
  in x: i64[16]
  in s: f64[1]
  out y: i64[16]
  parallel %i0 = 16
  stage () {
    %0 = load s[0] : f64
    %1 = cast %0 : i64
    %2 = load x[%i0] : i64
    %3 = add %1, %2 : i64
    store %3 to y[%i0]
  }
}
"""
_CHECK = """
loop @check {
  in x: i64[16]
  parallel %i0 = 1
  stage () {
    %0 = load x[3] : i64
    %1 = const 25 : i64
    %2 = lt %0, %1 : bool
    %3 = check %2, %0, 1 : bool
  }
}
"""


@cache
def kernels() -> dict[str, BuiltKernel]:
    """Each kernel by name, built for this machine."""
    texts = {op: _BINARY.format(op=op, schedule="") for op in ("add", "sub", "mul")}
    texts |= {f"{op} cut": _BINARY.format(op=op, schedule=_CUT) for op in ("add", "xor")}
    texts |= {f"step {by}": _STEP.format(by=by) for by in (0, 1)}
    texts |= {f"fill {value}": _FILL.format(value=value, elements=ELEMENTS) for value in (1, 2, 5)}
    texts |= {f"count {value}": _FILL.format(value=value, elements=1) for value in range(4)}
    texts["turns"] = _TURNS
    texts |= {"odd": _ODD, "scalar": _SCALAR, "check": _CHECK}
    parsed = [parse_kernel(text) for text in texts.values()]
    scheduled = [kernel if kernel.schedule else schedule(kernel, host_target()) for kernel in parsed]
    artifacts = CpuBackend().build(scheduled, host_target())
    return {name: BuiltKernel(*pair) for name, *pair in zip(texts, scheduled, artifacts, strict=True)}


@cache
def library() -> Library:
    """The code of all kernels."""
    artifacts = [built.artifact for built in kernels().values()]
    return load([artifact.object for artifact in artifacts], [artifact.phases[0].symbol for artifact in artifacts])


def mix(context: int, buffers: int, sizes: int, begin: int, end: int) -> int:
    """y[i] = 3 x[i] + 1 for i < sizes[0]; fails where x[0] divides by 13."""
    assert (begin, end) == (0, 1)
    x, y = (ctypes.c_void_p * 2).from_address(buffers)
    (count,) = (ctypes.c_int64 * 1).from_address(sizes)
    source, target = ((ctypes.c_int64 * ELEMENTS).from_address(address) for address in (x, y))
    if source[0] % 13 == 0:
        (ctypes.c_int64 * 3).from_address(context)[1:] = [source[0], source[1]]
        return 7
    for i in range(count):
        target[i] = ctypes.c_int64(3 * source[i] + 1).value
    return 0


register_host_function("mix", mix)


def launch(name: str, slots: Sequence[int], sizes: Sequence[int | SizeOf] = ()) -> Launch:
    (made,) = launches_of(kernels()[name].phases, slots, sizes)
    assert isinstance(made, Launch)
    return replace(made, errors=((1, "kernel met {0}"),)) if name == "check" else made


def countdown(counter: int, more: int, body: Sequence[Step]) -> tuple[Step, ...]:
    """`body` while the number in slot `counter`, counted down after each turn, is positive; `more` is the condition."""
    return (launch("step 0", [counter, counter, more]),
            Loop(more, (*body, launch("step 1", [counter, counter, more]))))


@dataclass
class Tree:
    """A program, and the kernel of each of its launches (None: of the host)."""

    program: Program
    built: list[BuiltKernel | None]

    def native(self) -> Executable:
        return Executable(self.program, library().addresses)

    def interpreted(self) -> InterpretedExecutable:
        return InterpretedExecutable(self.program, [b and b.kernel for b in self.built])


@dataclass
class _Writer:
    """Makes one program of random steps. calls_host: by functions of the host. opens_sizes: to be said by each call."""

    random: random.Random
    calls_host: bool = True
    opens_sizes: bool = True
    slots: list[Slot] = field(default_factory=list)
    built: list[BuiltKernel | None] = field(default_factory=list)
    arena_bytes: int = 0

    def write(self) -> Tree:
        arrays = 8 * ELEMENTS
        self.arrays = [self.arena(arrays) for _ in range(4)]
        self.arguments = [self.slot(Slot("arg", number, arrays)) for number in range(2)]
        self.writable = [*self.arrays, self.slot(Slot("state", 0, arrays)),
                         *[self.slot(Slot("out", n, arrays)) for n in range(2)]]
        self.scalar = self.slot(Slot("scalar", 0, 8))
        self.const = self.slot(Slot("const", 0, arrays))
        steps = [self.launch(f"fill {self.random.choice((1, 2, 5))}", [slot])
                 for slot in self.writable if self.slots[slot].kind != "state"]
        steps += self.steps(self.random.randint(1, 6), 0)
        array = parse_type(f"i64[{ELEMENTS}]")
        signature = Signature((TensorSpec("x", array), TensorSpec("y", array)), (TensorSpec("state", array),),
                              (TensorSpec("s", parse_type("f64[]")),), (TensorSpec("p", array), TensorSpec("q", array)),
                              SIZES if self.opens_sizes else ())
        consts = (np.arange(ELEMENTS, dtype=np.int64).tobytes(),)
        return Tree(Program(tuple(self.slots), tuple(steps), signature, self.arena_bytes, consts, writes_state=True),
                    self.built)

    def slot(self, slot: Slot) -> int:
        self.slots.append(slot)
        return len(self.slots) - 1

    def arena(self, nbytes: int) -> int:
        offset = self.arena_bytes
        self.arena_bytes += -(-nbytes // 64) * 64
        return self.slot(Slot("arena", offset, nbytes))

    def steps(self, count: int, depth: int) -> list:
        made = []
        for _ in range(count):
            made += self.step(depth)
        return made

    def step(self, depth: int) -> list:
        kinds = "llllll" + ("hh" if self.calls_host else "") + "ck" + ("LLBB" if depth < 4 else "")
        match self.random.choice(kinds):
            case "l":
                name = self.random.choice(("add", "sub", "mul", "add cut", "xor cut"))
                return [self.launch(name, [self.read(), self.read(), self.written()], [self.extent()])]
            case "h":
                self.built.append(None)
                return [HostCall("mix", (self.read(), self.written()), (self.extent(),), HOST_ERRORS)]
            case "c":
                return [self.launch("check", [self.read()])]
            case "k":
                return [self.launch("scalar", [self.read(), self.scalar, self.written()])]
            case "L":
                return self.loop(depth)
            case _:
                return self.branch(depth)

    def loop(self, depth: int) -> list:
        counter, more = self.arena(8), self.arena(1)
        begin = self.launch(f"count {self.random.randrange(4)}", [counter])
        self.built.append(kernels()["step 0"])
        body = self.steps(self.random.randint(0, 3), depth + 1)
        self.built.append(kernels()["step 1"])
        return [begin, *countdown(counter, more, body)]

    def branch(self, depth: int) -> list:
        chosen = self.arena(1)
        test = self.launch("odd", [self.read(), chosen])
        then = self.steps(self.random.randint(0, 3), depth + 1)
        return [test, Branch(chosen, tuple(then), tuple(self.steps(self.random.randint(0, 3), depth + 1)))]

    def launch(self, name: str, slots: list[int], sizes: Sequence[int | SizeOf] = ()) -> Launch:
        self.built.append(kernels()[name])
        return launch(name, slots, sizes)

    def read(self) -> int:
        return self.random.choice((*self.writable, *self.arguments, self.const))

    def written(self) -> int:
        return self.random.choice(self.writable)

    def extent(self) -> int | SizeOf:
        return self.random.choice((0, 3, ELEMENTS, *((SizeOf(0), SizeOf(1), SizeOf(1, 2)) if self.opens_sizes else ())))


def random_tree(seed: int, calls_host: bool = True, opens_sizes: bool = True) -> Tree:
    return _Writer(random.Random(seed), calls_host, opens_sizes).write()


def outcome(executable, seed: int) -> tuple:
    """(state, outputs, error) of one call on numbers drawn from `seed`."""
    draw = np.random.default_rng(seed)
    x, y, state = (draw.integers(-4, 30, ELEMENTS) for _ in range(3))
    outs = [np.full(ELEMENTS, -1), np.full(ELEMENTS, -1)]
    before = x.tobytes() + y.tobytes()
    sizes = [int(draw.integers(0, size.most + 1)) for size in executable.program.signature.sizes]
    error: tuple = ()
    try:
        executable.bind_states([state.ctypes.data]).call(
            [x.ctypes.data, y.ctypes.data], [float(draw.integers(-9, 9))], [out.ctypes.data for out in outs], sizes)
    except KernelError as caught:
        error = (str(caught), caught.status, caught.details)
    assert x.tobytes() + y.tobytes() == before, "arguments are only read"
    return state.tolist(), [out.tolist() for out in outs], error
