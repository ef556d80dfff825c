"""Random kernels for the text form and the hash: well formed, not meaningful (most would not verify)."""
from __future__ import annotations

import math
import random
import struct
from dataclasses import replace
from typing import get_args

from flambeau.ir.dtypes import DTYPES
from flambeau.ir.kernel import (
    SCALAR_OPS,
    Address,
    Combiner,
    ContractionKernel,
    ContractionSchedule,
    Instr,
    Kernel,
    LoopKernel,
    LoopSchedule,
    Param,
    Reduction,
    Role,
    Stage,
    Store,
)

NAMES = ["x", "in", "out", "stage", "loop", "true", "nan", "f32", "to", "if", "reduce", "layer.0.weight", "two words",
         "quote\"d \\ \n é 漢", "", "%i0", "9lives", "#1"]
FLOATS = [0.0, -0.0, 1.0, 0.1, -1e300, 5e-324, 2.0**53, 1e16, 1e22, math.pi, math.inf, -math.inf, math.nan]


def nan_of(bits: int) -> float:
    return float(struct.unpack("<d", struct.pack("<Q", bits))[0])


def number(rng: random.Random) -> float | int | bool | str:
    return rng.choice([
        "r1", rng.choice(FLOATS), rng.uniform(-10, 10), nan_of(0x7FF8 << 48 | rng.getrandbits(51)), nan_of(0xFFF8 << 48),
        struct.unpack("<d", struct.pack("<Q", rng.getrandbits(64) & ~(0x7FF << 52)))[0],
        rng.randint(-9, 9), rng.choice([1, True]), rng.choice([0, False]), -(2**63), 2**64 - 1,
    ])


def address(rng: random.Random, n_params: int, n_dims: int, values: list[int]) -> Address:
    def stride() -> int:
        return rng.choice([1, -1, 7, -128, 2**40])

    dims = sorted(rng.sample(range(n_dims), rng.randint(0, n_dims)))
    some = rng.sample(values, rng.randint(0, min(2, len(values))))
    guard = rng.choice(values) if values and rng.random() < 0.3 else None
    return Address(rng.randrange(n_params), rng.choice([0, 0, 5, -3]), tuple((d, stride()) for d in dims),
                   tuple((v, stride()) for v in some), guard)


def stage(rng: random.Random, n_params: int, n_dims: int, dims: tuple[int, ...], values: list[int]) -> Stage:
    body, reductions, dtypes = [], [], list(DTYPES.values())
    for _ in range(rng.randint(0, 6)):
        op = rng.choice(sorted(o for o, row in SCALAR_OPS.items() if row.arity <= len(values)))
        attr = {"const": lambda: number(rng), "index": lambda: rng.randrange(n_dims + 1),
                "affine": lambda: replace(address(rng, n_params, n_dims, values), buffer=-1, guard=None),
                "load": lambda: address(rng, n_params, n_dims, values), "philox": lambda: rng.randrange(4)}.get(op)
        operands = tuple(rng.choice(values) for _ in range(SCALAR_OPS[op].arity))
        values.append(len(values) * 2)
        body.append(Instr(values[-1], op, rng.choice(dtypes), operands, attr and attr()))
    for _ in range(rng.randint(0, 2) if values else 0):
        value = rng.choice(values)
        values.append(len(values) * 2)
        reductions.append(Reduction(values[-1], rng.choice(get_args(Combiner)), value, rng.choice(dtypes)))
    stores = [Store(address(rng, n_params, n_dims, values), rng.choice(values), rng.choice(["set", "add"]))
              for _ in range(rng.randint(0, 2) if values else 0)]
    return Stage(dims, tuple(body), tuple(reductions), tuple(stores))


def params(rng: random.Random, names: list[str]) -> tuple[Param, ...]:
    return tuple(Param(name, rng.choice(list(DTYPES.values())), rng.choice([0, 1, 4096, "n", "two words"]),
                       rng.choice(get_args(Role)), rng.choice([0, 0, 0, "r0"])) for name in names)


def kernel(seed: int) -> Kernel:
    rng = random.Random(seed)
    names = [rng.choice(NAMES) for _ in range(rng.randint(1, 4))]       # sometimes twice the same
    bufs, n_dims, values = params(rng, names), rng.randint(0, 5), []
    locations = tuple(rng.choice(["a.py:1: x = \"y\"", "b.py:2: é // no comment"]) for _ in range(rng.randint(0, 2)))
    if rng.random() < 0.5:
        extents = tuple(rng.choice([0, 1, 17, "n", "batch size"]) for _ in range(n_dims))
        n_parallel = rng.randint(0, n_dims)
        inner = list(range(n_parallel, n_dims))
        stages = tuple(stage(rng, len(bufs), n_dims, tuple(rng.sample(inner, rng.randint(0, len(inner)))), values)
                       for _ in range(rng.randint(0, 3)))
        schedule = rng.choice([None, LoopSchedule(), LoopSchedule(rng.randrange(5), 4, 1024, 8, False),
                               LoopSchedule(0, 1, 64, 8, True, rng.randrange(5), 16)])
        return LoopKernel(rng.choice(NAMES), bufs, extents, n_parallel, stages, schedule=schedule, locations=locations)
    cuts = sorted(rng.randint(0, n_dims) for _ in range(3))
    dims = rng.sample(range(n_dims), n_dims)
    roles = [tuple(dims[a:b]) for a, b in zip([0, *cuts], [*cuts, n_dims], strict=True)]
    lhs, rhs = (address(rng, len(bufs), n_dims, []) for _ in range(2))
    m_tile = tuple(rng.randint(1, 9) for _ in range(rng.randint(0, 3)))
    schedule = rng.choice([None, ContractionSchedule(m_tile, 2, pack_rhs=True, k_block=480)])
    return ContractionKernel(
        rng.choice(NAMES), bufs, tuple(rng.choice([0, 1, 17]) for _ in range(n_dims)), *roles, lhs, rhs,
        rng.choice(list(DTYPES.values())), stage(rng, len(bufs), n_dims, (), values),
        schedule=schedule, locations=locations)
