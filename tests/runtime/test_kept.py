"""What one process compiled, the next one finds: without the compiler, and never wrong, whatever happens to the files.

Every test here starts processes of its own.
"""
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from flambeau.runtime.disk_cache import DiskCache
from flambeau.runtime.sources import digest_of

PROGRAMS = {
    "add": """
@fb.compile
def step(x):
    return x + 1
results = [step(fb.arange(5.0)), step(fb.arange(5.0) * 2)]
""",
    "train": """
model = fb.nn.Sequential(fb.nn.Linear(6, 16), fb.nn.GELU(), fb.nn.Dropout(0.1), fb.nn.Linear(16, 3))
opt = fb.optim.AdamW(model.parameters(), lr=1e-2)
@fb.compile
def step(x, y):
    opt.zero_grad()
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    opt.step()
    return loss
results = [step(fb.randn(8, 6), fb.randint(0, 3, (8,))) for _ in range(4)] + list(model.parameters())
""",
    "segments": """
w = fb.randn(4, 4).requires_grad_()
@fb.compile
def step(x):
    return (x @ w).sort().values.cumsum(0)
a = step(fb.randn(4, 4))
(a * a).sum().backward()
results = [a, w.grad]
""",
    "loop": """
@fb.compile
def step(x):
    return fb.while_loop(lambda n, x: n < 3, lambda n, x: (n + 1, x * 1.5), (0, x))[1]
results = [step(fb.arange(5.0))]
""",
}
COMPILER = ("flambeau.compiler", "flambeau.passes.pipeline", "llvmlite", "llvmlite.binding")
SLOW = ("networkx", "numba", "numpy.random", "concurrent.futures", "ctypes.util", "difflib", "importlib.resources",
        "logging", "multiprocessing", "random", "shutil", "statistics", "subprocess", "sysconfig", "tempfile")
FRAME = """
import hashlib, json, sys
import flambeau as fb
import flambeau.nn.functional as F
fb.manual_seed(0)
{program}
loaded = sorted(name for name in """ + repr((*COMPILER, *SLOW)) + """ if name in sys.modules)
bits = hashlib.sha256(b"".join(t.detach().numpy().tobytes() for t in results)).hexdigest()
print(json.dumps({{"bits": bits, "loaded": loaded, "launches": step.stats().n_launches if {stats} else None}}))
"""


def environment(cache: Path | None, **more: str) -> dict[str, str]:
    base = {name: value for name, value in os.environ.items() if not name.startswith("FLAMBEAU")}
    own = {"FLAMBEAU_CACHE": "0"} if cache is None else {"FLAMBEAU_CACHE_DIR": str(cache)}
    return {**base, "PYTHONPATH": str(Path(__file__).parents[2]), "FLAMBEAU_POISON": "1", **own, **more}


def run(name: str, cache: Path | None, stats: bool = False, before: str = "", **more: str) -> dict[str, Any]:
    """What a new process prints. Fails where it fails."""
    text = FRAME.format(program=before + PROGRAMS[name], stats=stats)
    done = subprocess.run([sys.executable, "-c", text], env=environment(cache, **more), capture_output=True, text=True,
                          timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def right() -> dict[str, str]:
    """The bits of each program without a cache."""
    return {name: run(name, None)["bits"] for name in PROGRAMS}


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_second_process_loads_nothing_slow_and_gives_the_same_bits(tmp_path: Path, right: dict[str, str],
                                                                      name: str) -> None:
    first, second = run(name, tmp_path), run(name, tmp_path)
    assert (first["bits"], second["bits"]) == (right[name], right[name])
    assert "flambeau.compiler" in first["loaded"] and second["loaded"] == []
    third = run(name, tmp_path, stats=True)         # what there is to look at is made when it is asked for
    assert third["bits"] == right[name] and third["launches"] > 0


def test_a_folder_serves_where_it_is_copied_to(tmp_path: Path, right: dict[str, str]) -> None:
    run("train", tmp_path / "here")
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    assert run("train", tmp_path / "there") == {"bits": right["train"], "loaded": [], "launches": None}


def test_code_for_a_processor_is_not_found_by_another(tmp_path: Path) -> None:
    plain = run("train", tmp_path, FLAMBEAU_TARGET="x86-64")
    native = run("train", tmp_path)
    assert "flambeau.compiler" in native["loaded"]
    assert run("train", tmp_path, FLAMBEAU_TARGET="x86-64") == {**plain, "loaded": []}


def test_a_line_that_moved_is_compiled_again_from_kernels_that_are_known(tmp_path: Path, right: dict[str, str]) -> None:
    run("train", tmp_path)
    before = DiskCache(tmp_path).size()[0]
    moved = run("train", tmp_path, before="# a line\n")
    assert moved["bits"] == right["train"] and "flambeau.compiler" in moved["loaded"]
    assert "llvmlite.binding" not in moved["loaded"]
    assert DiskCache(tmp_path).size()[0] == before + 1           # the program; its kernels were there


EXTENSION = (
    "from flambeau.ir.op import register_instance\nfrom flambeau.ir.ops.families import Elementwise\n"
    "from flambeau.frontend.tape.dispatch import dispatch\n"
    "twice = register_instance(Elementwise('twice', 1, numpy=lambda x: {n} * x, partials=[],\n"
    "    expression=lambda e, x: e('mul', x, e.const({n}.0))))\n"
    "@fb.compile\ndef step(x):\n    return dispatch(twice, x)\nresults = [step(fb.ones(3))]\nassert results[0][0] == {n}\n")


def test_ops_from_outside_are_compiled_in_every_process(tmp_path: Path) -> None:
    """Nothing tells when their code changes."""
    for number in (2, 3):
        text = FRAME.format(program=EXTENSION.replace("{n}", str(number)), stats=False)
        subprocess.run([sys.executable, "-c", text], env=environment(tmp_path), check=True, capture_output=True)


def test_another_compiler_is_another_key(tmp_path: Path) -> None:
    for part in ("backends", "codegen", "ir", "kinds", "passes", "runtime"):
        (tmp_path / "package" / part).mkdir(parents=True)
    file, kept = tmp_path / "package" / "ir" / "a.py", DiskCache(tmp_path / "cache")
    file.write_text("one = 1\n")
    first = digest_of(tmp_path / "package", kept)
    assert digest_of(tmp_path / "package", kept) == first is not None
    file.write_text("one = 2\n")
    second = digest_of(tmp_path / "package", kept)
    file.rename(file.with_name("b.py"))
    assert len({first, second, digest_of(tmp_path / "package", kept)}) == 3
    shutil.copytree(tmp_path / "package", tmp_path / "elsewhere")
    assert digest_of(tmp_path / "elsewhere", kept) == digest_of(tmp_path / "package", kept)


def test_files_that_were_damaged_in_any_way_are_never_believed(tmp_path: Path, right: dict[str, str]) -> None:
    r = random.Random(0)
    run("train", tmp_path)
    for _ in range(3):
        for entry in list(DiskCache(tmp_path).entries()):
            content = bytearray(entry.path.read_bytes())
            # what nobody looked for lies as it was left
            match r.choice(["gone", "folder", "whole", *["flip", "cut", "empty"][:3 * bool(content)]]):
                case "flip":
                    content[r.randrange(len(content))] ^= 1 << r.randrange(8)
                    entry.path.write_bytes(content)
                case "cut":
                    entry.path.write_bytes(content[:r.randrange(len(content))])
                case "empty":
                    entry.path.write_bytes(b"")
                case "gone":
                    entry.path.unlink()
                case "folder":
                    entry.path.unlink()
                    entry.path.mkdir()
        assert run("train", tmp_path)["bits"] == right["train"]


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
def test_folders_that_cannot_be_written_or_read_cost_only_time(tmp_path: Path, right: dict[str, str]) -> None:
    (tmp_path / "file").write_text("no folder")
    assert run("train", tmp_path / "file")["bits"] == right["train"]
    run("train", tmp_path / "full")
    limited = "import resource, signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n" \
              "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
    assert run("train", tmp_path / "empty", before=limited)["bits"] == right["train"]
    assert not [entry for entry in DiskCache(tmp_path / "empty").entries() if entry.nbytes > 100]
    if os.geteuid() != 0:
        for path in [tmp_path / "full", *(tmp_path / "full").rglob("*")]:
            path.chmod(0o500 if path.is_dir() else 0o400)
        assert run("train", tmp_path / "full") == {"bits": right["train"], "loaded": [], "launches": None}
        for path in [tmp_path / "full", *(tmp_path / "full").rglob("*")]:
            path.chmod(0o700)


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_processes_killed_in_the_middle_leave_nothing_wrong(tmp_path: Path, right: dict[str, str]) -> None:
    r = random.Random(1)
    text = FRAME.format(program=PROGRAMS["train"], stats=False)
    for _ in range(6):
        process = subprocess.Popen([sys.executable, "-c", text], env=environment(tmp_path), stdout=subprocess.DEVNULL)
        time.sleep(r.uniform(0.3, 1.5))
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert run("train", tmp_path)["bits"] == right["train"]
    assert run("train", tmp_path) == {"bits": right["train"], "loaded": [], "launches": None}


def test_processes_at_once_share_one_folder(tmp_path: Path, right: dict[str, str]) -> None:
    names = [list(PROGRAMS)[number % len(PROGRAMS)] for number in range(12)]
    with ThreadPoolExecutor(len(names)) as pool:
        found = list(pool.map(lambda name: run(name, tmp_path, FLAMBEAU_CACHE_SIZE="300K"), names))
    assert [made["bits"] for made in found] == [right[name] for name in names]


CHILDREN = """
import os
import flambeau as fb, flambeau.compiler, flambeau.nn.functional as F, llvmlite.binding
for _ in range({count}):
    if os.fork() == 0:
        try:
            exec({text!r}, {{"print": lambda text: os.write(1, (text + "\\n").encode())}})     # in one piece
        finally:
            os._exit(0)         # whoever failed has printed nothing
for _ in range({count}):
    os.wait()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_200_processes_at_once_share_one_folder(tmp_path: Path, right: dict[str, str]) -> None:
    """Children of one process, which has imported the compiler and compiled nothing."""
    text = CHILDREN.format(count=200, text=FRAME.format(program=PROGRAMS["add"], stats=False))
    done = subprocess.run([sys.executable, "-c", text], env=environment(tmp_path, FLAMBEAU_CACHE_SIZE="300K"),
                          capture_output=True, text=True, timeout=900, check=True)
    assert [json.loads(line)["bits"] for line in done.stdout.splitlines()] == [right["add"]] * 200, done.stderr[-2000:]
