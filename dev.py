#!/usr/bin/env python3
"""Set up and run the project: `python3 dev.py demo`, `test`, `lint`, ...

Needs Python 3.11 or newer with venv and pip, nothing else. Every command first makes sure that `.venv` beside
this file holds the project (editable) and the packages the command needs; that is done again only when
pyproject.toml changes. Arguments after the command go to its tool: `python3 dev.py test -k softmax`.
"""

# No syntax newer than Python 3.7 here: an old Python must get as far as our own sentence about it.
from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
STAMP = VENV / "flambeau-setup.json"
INSTALL_LOG = VENV / "flambeau-setup.log"
OLDEST_PYTHON = (3, 11)

# command -> (what it does, the extra it needs, the arguments with which Python runs it)
COMMANDS = {
    "demo": ("train a compiled network on handwritten digits", "demo", ["-m", "flambeau", "demo"]),
    "test": ("run the tests, one process per core", "dev", ["-m", "pytest"]),
    "test-cuda": ("compile kernels for GPUs, and run all tests of GPUs (large download)", "test-cuda", ["-m", "pytest"]),
    "lint": ("check style with ruff", "dev", ["-m", "ruff", "check", "."]),
    "types": ("check types with mypy", "dev", ["-m", "mypy"]),
    "bench": ("time Flambeau beside PyTorch and JAX (large download)", "bench", ["-m", "benchmarks"]),
    "doctor": ("say what this machine offers and whether Flambeau works on it", "", ["-m", "flambeau", "doctor"]),
    "docs": ("build the documents as a site, in build/docs/html", "docs", ["docs/site"]),
    "setup": ("only make .venv ready for development", "dev", []),
    "check": ("test, lint and types, one after the other", "dev", []),
    "clean": ("remove .venv, caches and what the demo wrote", "", []),
}
# extras that an extra brings with it, as pyproject.toml says
INCLUDED = {"dev": {"demo"}, "docs": {"demo"}, "test-cuda": {"cuda", "test"}}
CHECKS = ("test", "lint", "types")
GENERATED = (
    ".venv",
    ".pytest_cache",
    ".mypy_cache",
    ".ruff_cache",
    ".hypothesis",
    "build",
    "dist",
    "demo-out",
)


def main(argv: list[str]) -> int:
    """Run one command; the exit code is that of the tool it ran."""
    if not argv or argv[0] in ("help", "-h", "--help"):
        print(usage())
        return 0
    command, arguments = argv[0], argv[1:]
    if command not in COMMANDS:
        print("dev.py: no command " + repr(command) + "\n\n" + usage(), file=sys.stderr)
        return 2
    if command == "clean":
        return clean()
    complaint = why_python_is_unfit(command)
    if complaint:
        print("dev.py: " + complaint, file=sys.stderr)
        return 1
    status = prepare(COMMANDS[command][1])
    if status or command == "setup":
        return status
    if command == "check":
        codes = [run_tool(check, []) for check in CHECKS]
        return max(codes)
    return run_tool(command, arguments)


def usage() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {COMMANDS[name][0]}" for name in COMMANDS]
    return "usage: python3 dev.py COMMAND [arguments for its tool]\n\n" + "\n".join(lines)


def why_python_is_unfit(command: str) -> str:
    """One sentence: what is wrong with the running Python and how to mend it; empty if nothing is."""
    if sys.version_info < OLDEST_PYTHON:
        newer = [name for name in (f"python3.{minor}" for minor in range(16, 10, -1)) if shutil.which(name)]
        remedy = f"run: {newer[0]} dev.py {command}" if newer else "install a newer Python"
        return "Flambeau needs Python {}.{} or newer and this is {}.{}; {}".format(
            *OLDEST_PYTHON, *sys.version_info[:2], remedy
        )
    if not venv_python().exists():
        missing = [name for name in ("venv", "ensurepip") if importlib.util.find_spec(name) is None]
        if missing:
            return (
                f"this Python lacks its standard module {missing[0]!r}, which makes .venv; install it "
                f"(Debian, Ubuntu: sudo apt install python3.{sys.version_info[1]}-venv) and run this again"
            )
    return ""


def venv_python() -> Path:
    return VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


# ---- setting up ------------------------------------------------------------------------------------------


def prepare(extra: str) -> int:
    """Make .venv hold the project and what `extra` names; at once if the stamp says it does. Returns a status."""
    stamp = read_stamp()
    have = set(stamp.get("extras", []))
    covered = have.union({""}, *(INCLUDED.get(name, set()) for name in have))
    if extra in covered and stamp == dict(state_of_setup(), extras=stamp.get("extras")):
        return 0
    if not venv_python_runs():
        say("making .venv with Python " + sys.version.split()[0])
        have = set()
        made = subprocess.run([sys.executable, "-m", "venv", "--clear", str(VENV)])
        if made.returncode:
            print("dev.py: python3 -m venv failed; its own words are above", file=sys.stderr)
            return made.returncode
    extras = sorted(have | ({extra} if extra else set()))
    status = install(extras)
    if status == 0:
        STAMP.write_text(json.dumps(dict(state_of_setup(), extras=extras), indent=1) + "\n", encoding="utf-8")
    return status


def state_of_setup() -> dict:
    """What an installation depends on: if any of it differs from the stamp, the installation is stale."""
    return {
        "pyproject": hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest(),
        "root": str(ROOT),  # an editable install points here
        "python": os.path.realpath(str(venv_python())),  # a system upgrade moves it
    }


def venv_python_runs() -> bool:
    """Whether .venv has a Python that starts: one whose system Python went away has a dangling link."""
    if not venv_python().exists():
        return False
    probe = [str(venv_python()), "-c", "import pip, sys; sys.exit(sys.version_info < (3, 11))"]
    return subprocess.run(probe, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0


def read_stamp() -> dict:
    try:
        return dict(json.loads(STAMP.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}  # never installed, or a half-written stamp: install again


def install(extras: list[str]) -> int:
    """pip install -e .[extras] into .venv, with a line of progress; pip's own words go to a log in .venv."""
    target = "." + ("[" + ",".join(extras) + "]" if extras else "")
    say("installing flambeau" + target[1:] + " into .venv (once; again only when pyproject.toml changes)")
    command = [str(venv_python()), "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
    command += ["--progress-bar", "off", "-e", target]
    started = time.monotonic()
    if STAMP.exists():
        STAMP.unlink()  # so that an interrupted installation is done again
    with INSTALL_LOG.open("w", encoding="utf-8") as log:
        pip = subprocess.Popen(
            command,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        )
        assert pip.stdout is not None, "the pipe was asked for"
        for line in pip.stdout:
            log.write(line)
            show_progress(line.strip(), time.monotonic() - started)
        status = wait_for(pip)
    clear_progress()
    if status:
        print(INSTALL_LOG.read_text(encoding="utf-8")[-3000:], file=sys.stderr)
        print(f"dev.py: pip could not install the project; all it said is in {INSTALL_LOG}", file=sys.stderr)
        return status
    say(f"ready after {time.monotonic() - started:.0f} s")
    return 0


def say(text: str) -> None:
    print("[dev] " + text, flush=True)


def show_progress(line: str, seconds: float) -> None:
    starts = ("Collecting", "Downloading", "Building", "Installing", "Preparing", "Getting requirements")
    if not line.startswith(starts):
        return
    if sys.stdout.isatty():
        width = shutil.get_terminal_size().columns - 1
        print(("\r\x1b[K" + f"[dev] {seconds:4.0f} s  {line}"[:width]), end="", flush=True)
    elif line.startswith(("Collecting", "Installing")):
        say(line[:100])


def clear_progress() -> None:
    if sys.stdout.isatty():
        print("\r\x1b[K", end="", flush=True)


def clean() -> int:
    for name in GENERATED:
        path = ROOT / name
        if path.exists():
            say("removing " + name)
            shutil.rmtree(path)
    for cache in ROOT.rglob("__pycache__"):
        shutil.rmtree(cache, ignore_errors=True)
    return 0


# ---- running tools ---------------------------------------------------------------------------------------


def run_tool(command: str, arguments: list[str]) -> int:
    """Run the command in .venv from the project's root; Ctrl-C is the child's to answer."""
    call = [str(venv_python()), *COMMANDS[command][2]]
    one_process = ("-n", "--numprocesses", "--pdb")
    if command == "test-cuda":
        call += cuda_tests()
    if command in ("test", "test-cuda") and not any(word.startswith(one_process) for word in arguments):
        call += ["-n", "auto"]
    return wait_for(subprocess.Popen(call + arguments, cwd=ROOT))


def cuda_tests() -> list[str]:
    """The files of tests that have to do with GPUs, which their names tell."""
    files = [path for path in (ROOT / "tests").rglob("test_*.py") if "cuda" in path.name or "gpu" in path.parts]
    return sorted(str(path.relative_to(ROOT)) for path in files)


def wait_for(child: subprocess.Popen) -> int:
    """The child's exit code. A terminal sends Ctrl-C to parent and child: the child ends its own way first."""
    interrupted = False
    while True:
        try:
            code = child.wait(timeout=10 if interrupted else None)
            break
        except KeyboardInterrupt:
            interrupted = True
        except subprocess.TimeoutExpired:
            child.kill()
    if interrupted:
        return 130
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        # Python's own exit after SIGINT would print a traceback; a shell expects 128 + SIGINT.
        sys.exit(128 + signal.SIGINT)
