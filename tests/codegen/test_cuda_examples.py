"""Kernels written by hand for numba.cuda (`examples/cuda`), and some of ours, in numba's own simulator: a process of its
own, which `NUMBA_ENABLE_CUDASIM` makes take Python threads for those of a GPU. It knows neither shuffles nor intrinsics."""
from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "examples" / "cuda").glob("*.py"))
PROGRAMS = [path for path in EXAMPLES if path.stem != "strided"]


def run(*command: str, **environment: str) -> str:
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=300, cwd=ROOT, env={
        **os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests"), *filter(None, sys.path)]),
        **environment})
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_kernels_by_hand_agree_with_numpy(path: Path) -> None:
    assert run(str(path), NUMBA_ENABLE_CUDASIM="1") == f"{path.stem.replace('_', ' ')} agrees with NumPy\n"


OURS = r'''
import math
import re
import numpy as np
from dataclasses import replace
from types import SimpleNamespace
from numba import cuda, types
from codegen.contraction_kernels import gemm, make_arrays
from flambeau.backends.cuda.backend import kernel_text
from flambeau.codegen.cuda import library
from flambeau.codegen.cuda.emulator import emulate
from flambeau.ir.kernel import BlockSchedule, TileSchedule
from flambeau.ir.kernel.parser import parse_kernel

loop = parse_kernel("""loop @k {
  in a: f32[600]
  out b: f32[20]
  parallel %i0 = 20
  inner %i1 = 30
  stage (%i1) {
    %0 = load a[%i0 + %i1*20] : f32
    %1 = mul %0, %0 : f32
    %2 = reduce sum %1 : f32
  }
  stage () {
    %3 = neg %2 : f32
    store %3 to b[%i0]
  }
}
""")
kernels = [replace(loop, schedule=BlockSchedule(16)), replace(loop, schedule=BlockSchedule(8, 4, lanes_inner=False)),
           replace(gemm(9, 7, 5), schedule=TileSchedule(8, 8, 4, 1, 1))]
names = {name: getattr(types, name) for name in ("int32", "int64", "uint8", "uint32", "uint64", "float32", "float64")}
fused = SimpleNamespace(fmaf=lambda a, b, c: np.float32(float(a) * float(b) + float(c)))
names |= {"cuda": cuda, "math": math, "libdevice": fused}
exec(open(library.__file__).read(), names)
rng = np.random.default_rng(0)
for kernel in kernels:
    text = kernel_text(kernel)
    assert not any(word in text.source for word in ("shfl", "load2", "load4")), text.source
    exec(re.sub(r"(array\(\d+, \w+), \d+\)", r"\1)", text.source), names)       # alignment, which it does not know
    arrays = [rng.normal(size=p.elements).astype(np.float32) for p in kernel.params]
    found, wanted = [a.copy() for a in arrays], [a.copy() for a in arrays]
    emulate(text, wanted)
    cuda.jit(names[text.name])[text.blocks(), text.threads](np.zeros(2, np.int64), *found)
    for ours, theirs in zip(found, wanted):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    print(kernel.name)
'''


def test_our_kernels_compute_in_numbas_simulator_what_they_do_in_ours() -> None:
    assert len(run("-c", OURS, NUMBA_ENABLE_CUDASIM="1").split()) == 3


BY_HAND = '''
import sys, importlib.util
from types import SimpleNamespace
from numba import cuda
from numba.cuda import compiler, dispatcher, types
device = SimpleNamespace(compute_capability=(9, 0), name=b"", id=0)
dispatcher.get_current_device = compiler.get_current_device = lambda: device
rows = lambda n: types.Array(types.float32, n, "C")
ints = types.Array(types.int64, 1, "C")
floats, count = rows(1), types.int64
signatures = {
    "map": (floats, floats, ints, ints, count), "zip": (floats, floats, ints, floats, ints, ints, count),
    "reduce": (floats, floats, ints, ints, count, count), "practice_sum": (floats, floats, count),
    "practice_matmul": (rows(2), rows(2), rows(2), count), "matmul": (rows(3), rows(3), rows(3))}
makers = {"map": ("mapped", lambda x: x * 2, ()), "zip": ("zipped", lambda a, b: a + b, ()),
          "reduce": ("reduced", lambda a, b: a + b, (0.0,))}
sys.path.insert(0, "examples/cuda")
for name, signature in signatures.items():
    spec = importlib.util.spec_from_file_location("by_hand_" + name, f"examples/cuda/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if name in makers:
        make, function, more = makers[name]
        run = getattr(module, make)(function, *more)
        kernel = next(cell.cell_contents for cell in run.__closure__ if hasattr(cell.cell_contents, "py_func"))
    else:
        kernel = module.kernel
    ptx, _ = cuda.compile(kernel.py_func, types.void(*signature), device=False, abi="numba", cc=(9, 0), output="ptx")
    assert ".visible .entry" in ptx
    print(name)
'''


@pytest.mark.skipif(importlib.util.find_spec("numba_cuda") is None, reason="numba-cuda is not installed")
def test_kernels_by_hand_compile_for_a_gpu() -> None:
    assert len(run("-c", BY_HAND).split()) == len(PROGRAMS)
