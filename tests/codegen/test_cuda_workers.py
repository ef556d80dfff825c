"""Worker processes that compile kernels: with a toolchain of a few lines, so that it needs none. What may go wrong with
processes and files."""
from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from flambeau.codegen.cuda import compile, workers
from flambeau.codegen.cuda.compile import code_key, compile_texts
from flambeau.codegen.cuda.text import Assembled, KernelText
from flambeau.codegen.cuda.worker import Failed
from flambeau.codegen.cuda.workers import Workers
from flambeau.errors import FlambeauError, VerificationError
from flambeau.ir.gpu import SM80, SM90
from flambeau.runtime.disk_cache import DiskCache

if not hasattr(os, "fork"):
    pytest.skip("workers are forked", allow_module_level=True)

TOOLCHAIN = """
import os, sys, types
from flambeau.codegen.cuda.text import Assembled
made = types.ModuleType("flambeau.codegen.cuda.toolchain")
made.warm_up = lambda target: None
def to_ptx(text, target):
    exec(text.source)
    return f"{target.arch} {text.source} by {os.getpid()}"
made.to_ptx = to_ptx
made.assemble = lambda ptx, target: Assembled(ptx.encode(), "k", len(ptx), 0, 0, 0)
sys.modules[made.__name__] = made
"""


@pytest.fixture(autouse=True)
def small_toolchain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_COMMAND", TOOLCHAIN + workers._COMMAND)
    monkeypatch.setattr(compile, "_known", {})
    monkeypatch.setattr(compile, "require_packages", lambda: None)
    compile._workers.cache_clear()


def text(source: str) -> KernelText:
    return KernelText("k", source, ("int64*",), (), (1,), 1, 32)


def test_each_job_is_answered_by_one_of_as_many_workers() -> None:
    some = Workers(3)
    answers = dict(some.compiled([(text(f"x = {n}"), SM90) for n in range(20)]))
    codes = [answers[n].cubin.decode() for n in range(20)]          # type: ignore[union-attr]
    assert [code.partition(" by ")[0] for code in codes] == [f"sm_90 x = {n}" for n in range(20)]
    assert 1 <= len({code.partition(" by ")[2] for code in codes}) <= 3
    assert len(dict(some.compiled([(text("x = 0"), SM80)]))) == 1


def test_the_longest_is_begun_first() -> None:
    lengths = [len(text("#" * n).source) for n in (5, 90, 30, 1)]
    order = [number for number, _ in Workers(1).compiled([(text("#" * n), SM90) for n in lengths])]
    assert order == [1, 2, 0, 3]


def test_what_does_not_compile_is_told_with_its_text_and_the_others_are_kept(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path)
    good, bad = text("x = 1"), text("raise ValueError('no such type')")
    with pytest.raises(VerificationError, match="kernel k does not compile(.|\n)*no such type(.|\n)*raise ValueError"):
        compile_texts([bad, good], SM90, 2, cache.get, cache.put)
    assert cache.get(code_key(good, SM90)) is not None and cache.get(code_key(bad, SM90)) is None


def test_a_worker_that_dies_is_an_answer_and_another_takes_its_place() -> None:
    some = Workers(2)
    jobs = [(text(source), SM90) for source in ("os._exit(3)", "os.kill(os.getpid(), 9)", "x = 1", "x = 2", "x = 3")]
    answers = dict(some.compiled(jobs))
    assert [type(answers[n]) for n in range(5)] == [Failed, Failed, Assembled, Assembled, Assembled]
    assert "status 3" in answers[0].words and f"status {-signal.SIGKILL}" in answers[1].words     # type: ignore[union-attr]
    assert isinstance(dict(some.compiled(jobs[2:3]))[0], Assembled)


def test_a_process_that_is_gone_is_an_error_once() -> None:
    some = Workers(1)
    assert len(dict(some.compiled([(text("x = 1"), SM90)]))) == 1
    some.process.kill()
    with pytest.raises(FlambeauError, match=f"status {-signal.SIGKILL}"):
        dict(some.compiled([(text("x = 1"), SM90)] * 3))
    assert len(dict(some.compiled([(text("x = 1"), SM90)]))) == 1


def test_answers_that_nobody_waited_for_are_not_taken_for_others() -> None:
    some = Workers(1)
    next(some.compiled([(text("x = 1"), SM90), (text("x = 2"), SM90)]))
    (answer,) = dict(some.compiled([(text("x = 3"), SM90)])).values()
    assert b"x = 3" in answer.cubin                                 # type: ignore[union-attr]


def test_workers_end_with_the_program() -> None:
    program = ("import os\nfrom flambeau.codegen.cuda import workers\nfrom test_cuda_workers import TOOLCHAIN, text, SM90\n"
               "workers._COMMAND = TOOLCHAIN + workers._COMMAND\nsome = workers.Workers(2)\n"
               "found = dict(some.compiled([(text('x = 1'), SM90), (text('x = 2'), SM90)]))\n"
               "print(some.process.pid, *[a.cubin.decode().rpartition(' ')[2] for a in found.values()], flush=True)\n"
               "os.kill(os.getpid(), 9)\n")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60,
                          env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    processes = [int(word) for word in done.stdout.split()]
    assert len(processes) == 3, done.stderr
    for _ in range(200):
        if not any(is_running(process) for process in processes):
            return
        threading.Event().wait(0.05)
    raise AssertionError(f"{processes} still run")


def is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_script_is_not_run_again_and_its_output_is_its_own(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text("print('begun', flush=True)\nfrom flambeau.codegen.cuda import workers\n"
                      "from test_cuda_workers import TOOLCHAIN, text, SM90\n"
                      "workers._COMMAND = TOOLCHAIN + workers._COMMAND\n"
                      "print(len(dict(workers.Workers(2).compiled([(text('print(5)'), SM90)]))))\n")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60,
                          env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    assert done.stdout == "begun\n1\n", done.stderr


def test_threads_that_ask_at_once_get_their_own() -> None:
    def asked(number: int) -> bool:
        found = compile_texts([text(f"x = {number + n}") for n in range(3)], SM90, 2)
        return all(f"x = {number + n} by".encode() in made.cubin for n, made in enumerate(found))

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(asked, range(0, 40, 2)))


def test_equal_texts_are_compiled_once() -> None:
    first, second, third = compile_texts([text("x = 1"), text("# train.py:3\nx = 1"), text("x = 1")], SM90, 4)
    assert first is second is third


def damaged(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data))
    match rng.randrange(4):
        case 0:
            return data[:at]
        case 1:
            return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1:]
        case 2:
            return data + b"x"
        case _:
            return data[:at] + rng.randbytes(rng.randrange(1, 20)) + data[at:]


def test_a_damaged_file_is_a_miss(tmp_path: Path) -> None:
    cache, rng = DiskCache(tmp_path), random.Random(7)
    wanted, key = text("x = 1"), code_key(text("x = 1"), SM90)
    compile_texts([wanted], SM90, 1, cache.get, cache.put)
    (file,) = [path for path in tmp_path.rglob("*") if path.is_file()]
    whole = file.read_bytes()
    for _ in range(500):
        changed = damaged(whole, rng)
        file.write_bytes(changed)
        assert changed == whole or cache.get(key) is None
    compile._known.clear()
    assert compile_texts([wanted], SM90, 1, cache.get, cache.put)[0].cubin.startswith(b"sm_90 x = 1")
    assert cache.get(key) is not None


@pytest.mark.parametrize("data", [b"", b"{}\nELF", b'["k", 1, 2, 3]\nELF', b'["k", 1, 2, 3, 4, 0]\n', b"3\nELF",
                                  b'["k", 1, 2, 3, 4, 9]\nELF', b'["k", 1, 2, 3, "4", 0]\nE', b'["k", 1, 2, 3, 4, -1]\nE'])
def test_bytes_of_another_version_are_a_miss(data: bytes) -> None:
    assert compile.known_code("a key", lambda key: data) is None


def test_processes_may_keep_the_same_code_at_once(tmp_path: Path) -> None:
    program = ("import sys\nfrom pathlib import Path\nfrom flambeau.runtime.disk_cache import DiskCache\n"
               "cache = DiskCache(Path(sys.argv[1]))\n"
               "for n in range(300):\n"
               "    key, data = str(n % 7), b'%d ' % (n % 7) * 9999\n"
               "    cache.put(key, data)\n"
               "    assert cache.get(key) == data\n")
    running = [subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], env={
        **os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}) for _ in range(3)]
    assert [process.wait(60) for process in running] == [0, 0, 0]
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 7
