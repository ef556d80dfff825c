"""What Python prints of an error that nobody catches ends at the user's line."""
from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import flambeau as fb
from flambeau import config
from flambeau.tracebacks import shortened

ROOT = Path(__file__).resolve().parents[1]

PROGRAMS = {
    "eager": ("fb.ones(2, 3) @ fb.ones(4, 5)", 1),
    "in a Module": ("fb.nn.Sequential(fb.nn.Linear(2, 3), fb.nn.Linear(4, 5))(fb.ones(1, 2))", 1),
    "traced": ("""
        @fb.compile
        def f(x):
            return g(x)
        def g(x):
            return x.view(7)
        f(fb.ones(2, 3))
        """, 3),
    "refused": ("""
        @fb.compile
        def f(x):
            if x.sum() > 0:
                return x
        f(fb.ones(2))
        """, 2),
    "called back": ("""
        def note(x):
            raise ValueError("mine")
        @fb.compile
        def f(x):
            fb.debug_callback(note, x)
        f(fb.ones(2))
        """, 2),
    "a thread": ("""
        import threading
        def work():
            fb.ones(2, 3) @ fb.ones(4, 5)
        thread = threading.Thread(target=work)
        thread.start(); thread.join()
        """, 1),
}


def printed(program: str, **environment: str) -> str:
    code = "import flambeau as fb\n" + textwrap.dedent(program)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False,
                          env={**os.environ, "PYTHONPATH": str(ROOT), **environment})
    return done.stderr


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_last_frame_is_the_users(name: str) -> None:
    program, n_users = PROGRAMS[name]
    told = printed(program)
    files = re.findall(r'File "([^"]+)"', told)
    assert not any("/flambeau/" in file for file in files), told
    assert files.count("<string>") == n_users and files[-1] == "<string>", told
    assert re.search(r"\(\d+ frames? of Flambeau's (are|is) left out; FLAMBEAU_TRACEBACK=full shows (them|it)\)", told)


def test_all_frames_are_shown_where_that_is_asked_for() -> None:
    told = printed(PROGRAMS["eager"][0], FLAMBEAU_TRACEBACK="full")
    assert "/flambeau/frontend/" in told and "left out" not in told


def test_errors_of_others_and_our_own_mistakes_are_shown_whole() -> None:
    told = printed("import json; json.loads('{')")
    assert "/json/" in told and "left out" not in told
    try:
        fb.zeros(2).view(3)
    except RuntimeError as error:
        whole = error
    mistake = AssertionError("ours").with_traceback(whole.__traceback__)
    assert shortened(mistake) == 0
    with config.set(traceback="full"):
        assert shortened(whole) == 0
    assert shortened(whole) > 0 and shortened(whole) == 0


def test_what_led_to_an_error_is_shortened_too() -> None:
    try:
        try:
            fb.zeros(2).view(3)
        except RuntimeError as error:
            raise KeyError("later") from error
    except KeyError as error:
        later = error
    assert later.__cause__ is not None and later.__cause__.__traceback__ is not None
    assert shortened(later) > 0 and later.__cause__.__traceback__.tb_next is None


@pytest.mark.parametrize("command", ["profile", "explain"])
def test_a_script_that_a_command_runs_ends_at_its_own_line(command: str, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("raise ValueError('mine')\n")
    done = subprocess.run([sys.executable, "-m", "flambeau", command, str(script)], capture_output=True, text=True,
                          check=False, env={**os.environ, "PYTHONPATH": str(ROOT)}, cwd=tmp_path)
    files = [re.match(r'  File "(.*?)"', line) for line in done.stderr.splitlines()]
    shown = [found[1] for found in files if found]
    assert done.returncode == 1 and shown[-1] == str(script) and not any(
        file.startswith(str(ROOT / "flambeau")) for file in shown)
