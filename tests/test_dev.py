"""dev.py: what it tells people whose machine lacks something, and when it installs again."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

pty = pytest.importorskip("pty", reason="needs a pseudo-terminal")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def dev(tmp_path: Path) -> ModuleType:
    """dev.py as a module whose project is an empty folder with a pyproject.toml."""
    spec = importlib.util.spec_from_file_location("dev_under_test", ROOT / "dev.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (tmp_path / "pyproject.toml").write_text("[project]\n", encoding="utf-8")
    module.ROOT, module.VENV = tmp_path, tmp_path / ".venv"
    module.STAMP, module.INSTALL_LOG = module.VENV / "stamp.json", module.VENV / "log"
    return module


@pytest.fixture
def installs(dev: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The extras of each installation; making the environment and pip are replaced by a note here."""
    noted: list[list[str]] = []

    def install(extras: list[str]) -> int:
        dev.VENV.mkdir(exist_ok=True)
        noted.append(extras)
        return 0

    monkeypatch.setattr(dev, "install", install)
    monkeypatch.setattr(dev, "venv_python_runs", lambda: True)
    return noted


def test_second_command_installs_nothing(dev: ModuleType, installs: list[list[str]]) -> None:
    assert [dev.prepare("dev"), dev.prepare("dev")] == [0, 0]
    assert installs == [["dev"]]


def test_dev_extra_brings_what_the_demo_needs(dev: ModuleType, installs: list[list[str]]) -> None:
    dev.prepare("dev")
    dev.prepare("demo")
    assert installs == [["dev"]]


def test_new_extra_is_added_to_those_installed(dev: ModuleType, installs: list[list[str]]) -> None:
    dev.prepare("demo")
    dev.prepare("dev")
    assert installs == [["demo"], ["demo", "dev"]]


def test_tests_of_gpus_are_found_by_name(dev: ModuleType) -> None:
    folder = dev.ROOT / "tests" / "gpu"
    folder.mkdir(parents=True)
    for path in (folder / "test_training.py", dev.ROOT / "tests" / "test_cuda_text.py", dev.ROOT / "tests" / "test_cpu.py"):
        path.write_text("", encoding="utf-8")
    assert dev.cuda_tests() == ["tests/gpu/test_training.py", "tests/test_cuda_text.py"]


def test_changed_pyproject_installs_again(dev: ModuleType, installs: list[list[str]]) -> None:
    dev.prepare("demo")
    (dev.ROOT / "pyproject.toml").write_text("[project]\nname = 'other'\n", encoding="utf-8")
    dev.prepare("demo")
    assert installs == [["demo"], ["demo"]]


def test_moved_checkout_installs_again(dev: ModuleType, installs: list[list[str]]) -> None:
    dev.prepare("demo")
    stamp = json.loads(dev.STAMP.read_text(encoding="utf-8"))
    dev.STAMP.write_text(json.dumps({**stamp, "root": "/elsewhere"}), encoding="utf-8")
    dev.prepare("demo")
    assert installs == [["demo"], ["demo"]]


def test_unreadable_stamp_installs_again(dev: ModuleType, installs: list[list[str]]) -> None:
    dev.prepare("demo")
    dev.STAMP.write_text('{"pyproject": "half', encoding="utf-8")
    dev.prepare("demo")
    assert installs == [["demo"], ["demo"]]


def test_old_python_is_told_what_is_needed(dev: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dev.sys, "version_info", (3, 9, 1))
    monkeypatch.setattr(dev.shutil, "which", lambda name: "/bin/x" if name == "python3.12" else None)
    complaint = dev.why_python_is_unfit("demo")
    assert complaint == "Flambeau needs Python 3.11 or newer and this is 3.9; run: python3.12 dev.py demo"


def test_missing_venv_module_is_told_how_to_get_it(dev: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        dev.importlib.util, "find_spec", lambda name: None if name == "ensurepip" else object()
    )
    complaint = dev.why_python_is_unfit("test")
    assert "'ensurepip'" in complaint
    assert "-venv" in complaint
    assert "\n" not in complaint


def test_exit_code_of_the_tool_is_forwarded(dev: ModuleType) -> None:
    assert dev.wait_for(subprocess.Popen([sys.executable, "-c", "raise SystemExit(7)"])) == 7


def test_tool_killed_by_a_signal_reads_as_a_shell_says_it(dev: ModuleType) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    child.send_signal(signal.SIGTERM)
    assert dev.wait_for(child) == 128 + signal.SIGTERM


def test_unknown_command_lists_the_known_ones() -> None:
    done = subprocess.run([sys.executable, "dev.py", "dmeo"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert "no command 'dmeo'" in done.stderr
    assert "  demo " in done.stderr


def test_ctrl_c_exits_130_without_a_traceback(dev: ModuleType, tmp_path: Path) -> None:
    """Typed at a terminal, Ctrl-C reaches dev.py and its child at once, as here."""
    script = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); import dev, subprocess\n"
        "print('started', flush=True)\n"
        "child = [sys.executable, '-c', 'import signal, time; signal.signal(2, signal.SIG_DFL); time.sleep(60)']\n"
        "sys.exit(dev.wait_for(subprocess.Popen(child)))\n"
    )
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-c", script])
    said = b""
    while b"started" not in said:
        said += os.read(terminal, 4096)
    time.sleep(0.3)  # until the child sleeps
    os.write(terminal, b"\x03")
    said += read_to_end(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 130
    assert b"Traceback" not in said


def read_to_end(terminal: int) -> bytes:
    said = b""
    while True:
        try:
            block = os.read(terminal, 4096)
        except OSError:  # how Linux says that the other side is closed
            return said
        if not block:
            return said
        said += block
