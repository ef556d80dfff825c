"""Every kernel that is emitted for a GPU becomes code that spills nothing and takes no more registers than its kind may:
of the benchmarks' train steps and forwards, of the ops' samples, and with --cuda-all of the model programs too. Where
numba-cuda is installed: `make test-cuda`."""
from __future__ import annotations

import re
import time
from collections.abc import Callable

import pytest

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")

from codegen.cuda_kernels import (
    Collecting,
    Emitted,
    by_kind,
    content_key,
    of_models,
    of_samples,
    of_workloads,
)

from flambeau.codegen.cuda.compile import compile_each
from flambeau.codegen.cuda.text import Assembled
from flambeau.ir.gpu import SM80, SM90, GpuTarget
from flambeau.runtime.disk_cache import disk_cache
from flambeau.runtime.threads import default_num_threads

REGISTERS = {"loop": 96, "contraction": 168, "scatter": 96, "sort": 64}       # of a thread, by kind
OTHERS = 168                                                                    # kinds that are not listed

# What may take more: how many, which kernels, and why.
EXCEPTIONS: list[tuple[int, Callable[[Emitted], bool], str]] = [
    (224, lambda each: re.search(r"(b\d+\[.+\]) = \1 \+ ", each.text.source) is not None,
     "sums at computed places: one thread walks all of them, and NVVM unrolls its loop"),
    (128, lambda each: len(each.text.elements) > 32,
     "reductions that were fused over dozens of buffers, each with its pointer"),
    (248, lambda each: "to_v = cuda.local.array" in each.text.source and each.text.threads == 64,
     "the derivative of attention keeps three tiles of sums, in blocks of 64 threads"),
]
SHARE = 3                               # of the samples' kernels, one in so many, unless all are asked for


def most_registers(each: Emitted) -> int:
    """What a kernel may take."""
    allowed = [most for most, applies, _ in EXCEPTIONS if applies(each)]
    return max([REGISTERS.get(each.kind, OTHERS), *allowed])


def faults(emitted: list[Emitted], target: GpuTarget) -> tuple[list[str], list[Assembled]]:
    """What is wrong, with the text of each kernel, and the code of the others."""
    cache = disk_cache()
    made = compile_each([each.text for each in emitted], target, default_num_threads(), cache.get, cache.put)
    wrong, good = [], []
    for each, code in zip(emitted, made, strict=True):
        if not isinstance(code, Assembled):
            problem = code.words
        elif code.spilled_bytes:
            problem = f"spills {code.spilled_bytes} bytes with {code.registers} registers and {each.text.threads} threads"
        elif code.registers > most_registers(each):
            problem = f"takes {code.registers} registers, and a {each.kind} may take {most_registers(each)}"
        else:
            good.append(code)
            continue
        wrong.append(f"{each.kind} of {each.source}, for {target.arch}: {problem}\n{each.text.source}")
    return wrong, good


def gate(target: GpuTarget, emit: Callable[[Collecting], int], what: str, wanted: Callable[[str, Emitted], bool],
         record_property: Callable[[str, object], None]) -> None:
    backend, started = Collecting(target), time.monotonic()
    programs = emit(backend)
    chosen = [each for key, each in backend.emitted.items() if wanted(key, each)]
    wrong, good = faults(chosen, target)
    kinds = ", ".join(f"{count} {kind}" for kind, count in by_kind(chosen))
    record_property("summary", f"{target.arch}: {len(chosen)} of {len(backend.emitted)} kernels of {programs} {what} "
                    f"({kinds}), {sum(code.stack_bytes > 0 for code in good)} with arrays in local memory, "
                    f"in {time.monotonic() - started:.0f} s")
    assert not wrong, f"{len(wrong)} of {len(chosen)} kernels:\n\n" + "\n\n".join(wrong[:10])


@pytest.mark.parametrize("target", [SM90, SM80], ids=lambda target: target.arch)
def test_kernels_of_the_benchmarks(target: GpuTarget, record_property: Callable[[str, object], None]) -> None:
    gate(target, of_workloads, "programs of the benchmarks", lambda key, each: True, record_property)


@pytest.mark.parametrize("target", [SM90, SM80], ids=lambda target: target.arch)
def test_kernels_of_the_samples(target: GpuTarget, record_property: Callable[[str, object], None],
                                request: pytest.FixtureRequest) -> None:
    """By default those of each op's first sample, and a share of the others by their content."""
    everything = request.config.getoption("--cuda-all")
    gate(target, of_samples, "samples", lambda key, each: everything or int(key[:8], 16) % SHARE == 0 or (
        each.source.endswith(" 0")), record_property)


@pytest.mark.parametrize("target", [SM90, SM80], ids=lambda target: target.arch)
def test_kernels_of_the_model_programs(target: GpuTarget, record_property: Callable[[str, object], None],
                                       request: pytest.FixtureRequest) -> None:
    if not request.config.getoption("--cuda-all"):
        pytest.skip("thousands of kernels: --cuda-all")
    gate(target, lambda backend: of_models(backend)[0], "steps and forwards of model programs", lambda key, each: True,
         record_property)


def test_a_kernel_that_breaks_a_rule_is_told_with_its_text() -> None:
    backend = Collecting(SM90)
    of_samples(backend, lambda number: number % 300 == 0)
    key, each = next(iter(backend.emitted.items()))
    assert content_key(each.text, SM90) == key
    bad = Emitted(each.text, each.kind, "this test")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(REGISTERS, each.kind, 1)
        wrong, good = faults([bad], SM90)
    assert not good and f"a {each.kind} may take 1\n{each.text.source}" in wrong[0] and "this test" in wrong[0]
