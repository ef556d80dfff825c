"""What all tests share: a cache of their own, fixed seeds, and skips that say what is missing."""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import itertools
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

# Set before anything imports flambeau, and inherited by the xdist workers: tests neither read nor fill the
# user's cache, and share what they compile among themselves.
_OWN_CACHE = "FLAMBEAU_CACHE_DIR" not in os.environ
if _OWN_CACHE:
    os.environ["FLAMBEAU_CACHE_DIR"] = tempfile.mkdtemp(prefix="flambeau-tests-")
os.environ.setdefault("FLAMBEAU_CACHE", "0")            # what a test compiles is compiled, whatever another one changed
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("FLAMBEAU_POISON", "1")           # what nothing stored is NaN, never yesterday's right number

import flambeau as fb  # noqa: E402
import flambeau.compiler  # noqa: E402


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true",
                     help="rewrite what tests/golden expects by what the passes give; review the diff")
    parser.addoption("--seeds", metavar="N or FIRST:LAST", type=_seed_range,
                     help="random programs for each test that makes them, instead of a few seconds' worth")
    parser.addoption("--cuda-all", action="store_true",
                     help="compile every kernel for GPUs that samples, benchmarks and model programs emit (half an hour)")
    parser.addoption("--course", action="store_true", help="run the pages of all chapters of the course (minutes)")
    parser.addoption("--docs-all", action="store_true",
                     help="run the commands of the documents too, the demo among them (a minute)")
    parser.addoption("--verify-calls", action="store_true",
                     help="hold every compiled call against the interpreter, as fb.compile(verify=True) does (slow)")


def _seed_range(text: str) -> range:
    first, _, last = text.rpartition(":")
    return range(int(first or 0), int(last))


SHARDS = 4                              # of the seeds of one test, for as many workers
SECONDS = 0.5                           # of random programs in each shard, when nothing else is asked for


@pytest.fixture(params=range(SHARDS), ids=[f"shard{n}" for n in range(SHARDS)])
def seeds(request: pytest.FixtureRequest) -> Iterator[int]:
    """Seeds of random programs: those of --seeds, or as many as fit a few seconds."""
    wanted: range | None = request.config.getoption("--seeds")
    mine = (wanted or range(1_000_000))[request.param::SHARDS]
    started = time.monotonic()
    return itertools.takewhile(lambda _: wanted is not None or time.monotonic() - started < SECONDS, mine)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """What tests have to say when all is done: their properties called "summary"."""
    for outcome in ("passed", "failed"):
        for report in terminalreporter.getreports(outcome):
            for name, words in report.user_properties:
                if name == "summary":
                    terminalreporter.write_line(words)


def pytest_unconfigure(config: pytest.Config) -> None:
    if _OWN_CACHE:
        shutil.rmtree(os.environ["FLAMBEAU_CACHE_DIR"], ignore_errors=True)


def pytest_collection_finish() -> None:
    """As many workers as cores: threads of PyTorch's own would wait for each other."""
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("torch") and not _has_torch():
            item.add_marker(pytest.mark.skip(reason="PyTorch is not installed"))
        if item.get_closest_marker("gpu") and not (_has_cuda_device() or os.environ.get("FLAMBEAU_CUDA") == "emulator"):
            item.add_marker(pytest.mark.skip(reason="no CUDA device here"))


@pytest.fixture(autouse=True, scope="session")
def _all_rules_are_checked(request: pytest.FixtureRequest) -> Iterator[None]:
    """The verifier runs after every pass, and over every kernel, of everything that tests compile."""
    asked = {"verify": True} if request.config.getoption("--verify-calls") else {"rules": True}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flambeau.compiler, "compile_graph", _verified(flambeau.compiler.compile_graph, asked))
        yield


def _verified(compile_graph: Callable[..., Any], asked: dict[str, Any]) -> Callable[..., Any]:
    @functools.wraps(compile_graph)
    def compile_and_verify(graph: Any, **how: Any) -> Any:
        return compile_graph(graph, **{**how, **asked})

    return compile_and_verify


@pytest.fixture(autouse=True)
def _same_draws_every_run() -> None:
    random.seed(0)
    np.random.seed(0)


@pytest.fixture(autouse=True, scope="module")
def _leaves_the_process_as_it_was() -> Iterator[None]:
    """The tests after a file's, in the same process, see the settings they would see alone."""
    before = _process_wide()
    yield
    assert _process_wide() == before, "a test of this file has changed the process's settings for those after it"


def _process_wide() -> tuple[object, ...]:
    return (fb.config.current(), fb.get_default_dtype(), fb.get_default_device(), fb.is_grad_enabled(),
            fb.is_inference_mode_enabled(), fb.is_autocast_enabled("cpu"))


@functools.cache
def _has_torch() -> bool:
    return importlib.util.find_spec("torch") is not None


@functools.cache
def _has_cuda_device() -> bool:
    """Ask the driver itself, so that no CUDA package need be installed to find out that there is no GPU."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    count = ctypes.c_int(0)
    ready = driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0
    return ready and count.value > 0
