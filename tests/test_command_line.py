"""python -m flambeau: commands, help and exit codes."""

from __future__ import annotations

import importlib.util
import io
import json
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from flambeau import config, doctor, doctor_cuda, programs
from flambeau.__main__ import COMMANDS, main
from flambeau.ir.target import avx2
from flambeau.passes.graph import simplify
from flambeau.passes.graph.rewrite import Rule
from flambeau.runtime.disk_cache import disk_cache
from flambeau.train.border import Border

ROOT = Path(__file__).resolve().parents[1]


def test_no_command_shows_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "demo" in capsys.readouterr().out


def test_unknown_command_exits_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dmeo"]) == 2
    assert "no command 'dmeo'" in capsys.readouterr().err


def test_interrupt_exits_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(_arguments: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(doctor, "main", interrupted)
    assert main(["doctor"]) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_doctor_finds_nothing_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert said.count("  ok ") == len(doctor.CHECKS) + len(list(doctor_cuda.checks()))
    assert "MISSING" not in said


def test_doctor_names_what_a_gpu_lacks_and_tries_the_whole_chain(monkeypatch: pytest.MonkeyPatch) -> None:
    if doctor_cuda.driver_version().startswith("none"):
        told = dict(doctor_cuda.facts())
        assert told["GPUs"].startswith("none: ") and told["CUDA driver"].startswith("none: there is no ")
    monkeypatch.setattr(doctor_cuda, "_version", lambda package: "" if package == "numba-cuda" else "13")
    assert dict(doctor_cuda.facts())["CUDA packages"].endswith('; without numba-cuda: pip install "flambeau[cuda]"')
    with config.set(cuda="emulator"):
        assert "compute capability 9.0" in dict(doctor_cuda.facts())["GPU 1"]
        (check,) = doctor_cuda.checks()
        check[1]()


def test_doctor_describes_the_target_it_is_given() -> None:
    told = dict(doctor.facts(avx2()))
    assert told["vectors"] == "256 bits, fused multiply-add"
    assert told["caches"] == "32 KiB, 1024 KiB, 16384 KiB"


def test_doctor_fails_when_a_check_fails(capsys: pytest.CaptureFixture[str]) -> None:
    def broken() -> None:
        raise ArithmeticError("2 is not 3")

    assert doctor.report("sums", broken) == 1
    said = capsys.readouterr().out
    assert "FAILED  sums" in said
    assert "2 is not 3" in said


def test_cache_is_told_listed_checked_and_cleared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with config.set(cache=True, cache_dir=tmp_path, cache_size="2M"):
        for number, label in enumerate(("program step, 3 launches of 2 kernels", "loop kernel k0")):
            disk_cache().put(str(number), bytes(3000), label)
        assert main(["cache", "info"]) == main(["cache", "list"]) == main(["cache", "verify"]) == 0
        said = capsys.readouterr().out
        assert str(tmp_path) in said and "2 files, 6.0 KiB" in said and "at most  2.0 MiB" in said
        assert "program step, 3 launches of 2 kernels" in said and "2 files, 0 damaged" in said
        damaged = next(iter(disk_cache().entries())).path
        damaged.write_bytes(damaged.read_bytes()[:-1])
        assert main(["cache", "verify"]) == 1
        assert f"removed {damaged}: damaged" in capsys.readouterr().out
        assert main(["cache", "clear"]) == 0 and disk_cache().size() == (0, 0)
        assert "removed 1 files" in capsys.readouterr().out


def test_cache_wants_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["cache", "burn"])
    assert caught.value.code == 2 and "'info', 'list', 'clear', 'verify'" in capsys.readouterr().err


# -- every command ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [*COMMANDS])
def test_each_command_has_help_that_teaches(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        assert main([command, "--help"]) == 0
    except SystemExit as left:
        assert left.code == 0
    told = capsys.readouterr().out
    assert "usage" in told and len(told.splitlines()) > 8
    assert command in ("doctor", "cache") or f"python -m flambeau {command} " in told       # examples


def test_help_of_a_command_is_reached_in_both_ways(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["help", "train"])
    assert left.value.code == 0 and "points" in capsys.readouterr().out
    assert main(["--version"]) == 0 and capsys.readouterr().out.startswith("flambeau 0.")


def test_nobody_reading_on_is_no_traceback() -> None:
    done = subprocess.run(f"{sys.executable} -m flambeau train --help | head -1; exit ${{PIPESTATUS[0]}}", shell=True,
                          capture_output=True, text=True, executable="/bin/bash", cwd=ROOT, check=False)
    assert "Traceback" not in done.stderr and done.stdout.startswith("usage")


# -- train --------------------------------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    encoding = "utf-8"                              # type: ignore[assignment]

    def isatty(self) -> bool:
        return True


def test_points_are_trained_with_a_border_in_the_terminal_and_a_picture(
        tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    picture = tmp_path / "border.png"
    words = ["train", "points", "--dataset", "Simple", "--count", "30", "--seed", "1"]
    if importlib.util.find_spec("matplotlib") is not None:
        words += ["--picture", str(picture)]
    assert main(words) == 0
    told = capsys.readouterr().out.splitlines()
    field = [line for line in told if set(line) <= set("#.ox") and len(line) > 10]
    assert len(field) > 5 and all("#" in line[:10] or "x" in line[:10] for line in field)      # class 1 is to the left
    assert "Simple: epoch 30/30" in told[0] and not any("\x1b" in line for line in told)
    assert any(line.startswith("test accuracy: 9") or "100" in line for line in told)
    assert picture.exists() == ("--picture" in words) and (not picture.exists() or picture.read_bytes()[:4] == b"\x89PNG")


def test_the_border_is_redrawn_in_place_and_in_color_unless_asked_not_to(monkeypatch: pytest.MonkeyPatch) -> None:
    points, classes = np.array([[-0.5, 0.5], [0.5, -0.5]], np.float32), np.array([1.0, 0.0])
    for no_color in ("", "1"):
        monkeypatch.setenv("NO_COLOR", no_color)
        monkeypatch.setenv("TERM", "xterm")
        screen = Terminal()
        border = Border(points, classes, stream=screen)
        for epoch in (1, 2):
            border.show(lambda x: -10 * x[:, 0], f"epoch {epoch}", is_last=True)
        text = screen.getvalue()
        assert "A\repoch 2" in text
        assert ("\x1b[38;2;" in text) is not bool(no_color) and ("\u2580" in text) is not bool(no_color)
    shares = border.shares(lambda x: -10 * x[:, 0], 4, 2)
    assert shares.shape == (2, 4) and (shares[:, :2] > 0.5).all() and (shares[:, 2:] < 0.5).all()


def test_training_tells_scripts_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "points", "--count", "3", "--json"]) == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line.get("done") for line in told] == [1, 2, 3, None] and 0 <= told[-1]["result"]["test_accuracy"] <= 1


def test_programs_that_print_leave_json_alone(
        capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def run(steps: int, seed: int, tell: Callable[..., None]) -> tuple[float, str]:
        print("900 characters")
        tell(1, steps, None, loss=2.0)
        return 2.0, "def"

    monkeypatch.setitem(sys.modules, "char_transformer", SimpleNamespace(run=run))
    assert main(["train", "gpt", "--count", "1", "--json"]) == 0
    told = capsys.readouterr()
    assert [json.loads(line) for line in told.out.splitlines()] == [
        {"done": 1, "loss": 2.0}, {"result": {"loss": 2.0, "sample": "def"}, "written": []}]
    assert told.err == "900 characters\n"


@pytest.mark.parametrize("words", [["points", "--count", "0"], ["points", "--dataset", "Moons"], ["cats"], []])
def test_what_can_not_be_trained_exits_2(words: list[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["train", *words])
    assert left.value.code == 2


def test_programs_are_found_where_an_installation_put_them(
        tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    packages, record = tmp_path / "lib", "flambeau/__init__.py,,\n"
    (packages / "flambeau-9.0.dist-info").mkdir(parents=True)
    (packages / "flambeau-9.0.dist-info" / "METADATA").write_text("Name: flambeau\nVersion: 9.0\n")
    for name in ("examples", "benchmarks"):
        (tmp_path / "share" / "flambeau" / name).mkdir(parents=True)
        (tmp_path / "share" / "flambeau" / name / "points.py").touch()
        record += f"../share/flambeau/{name}/points.py,,\n"
    monkeypatch.syspath_prepend(str(packages))
    monkeypatch.setattr(programs, "ROOT", packages)             # no checkout
    for words in (["train", "points"], ["bench", "steps"]):
        assert main(words) == 1
        assert "which this installation lacks" in capsys.readouterr().err
    (packages / "flambeau-9.0.dist-info" / "RECORD").write_text(record)
    for name in ("examples", "benchmarks"):
        assert programs.folder_of(name) == (tmp_path / "share" / "flambeau" / name).resolve()
    assert main(["bench", "nothing"]) == 2 and "there is no 'nothing'" in capsys.readouterr().err


def test_an_installation_has_every_program() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["data-files"]
    installed = {file.relative_to(ROOT).as_posix() for patterns in listed.values() for pattern in patterns
                 for file in ROOT.glob(pattern)}
    wanted = [file.relative_to(ROOT).as_posix() for folder in ("examples", "benchmarks")
              for file in (ROOT / folder).rglob("*.py") if file.parent.name != "cuda"]        # those are to read
    assert sorted(installed) == sorted(wanted)
    assert all(place == f"share/flambeau/{Path(pattern).parent}" for place, (pattern,) in listed.items())


def test_bench_hands_over_to_the_benchmarks(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["bench", "steps", "--help"])
    assert left.value.code == 0 and "--peers" in capsys.readouterr().out


# -- profile, explain, reduce -------------------------------------------------------------------------------------------


SCRIPT = """
import sys
import flambeau as fb

def run(n):
    step = fb.compile(lambda x: (x.exp() * 2).sum())
    for _ in range(n):
        step(fb.ones(50))

print("hello")
run(int(sys.argv[1]))
sys.exit(3)
"""


def test_a_script_is_profiled_though_it_lets_go_of_its_functions(
        tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script, trace = tmp_path / "script.py", tmp_path / "trace.json"
    script.write_text(SCRIPT)
    argv, path = list(sys.argv), list(sys.path)
    assert main(["profile", str(script), "--trace", str(trace), "--", "4"]) == 3            # the script's own
    assert "exp + mul + sum" in capsys.readouterr().out and json.loads(trace.read_text())["traceEvents"]
    assert main(["profile", str(script), "--json", "--", "4"]) == 3
    rows = json.loads(capsys.readouterr().out)
    assert any(row["count"] == 4 and "exp" in row["key"] for row in rows)
    assert (sys.argv, sys.path) == (argv, path)
    assert main(["explain", str(script), "--no-profile", "--out", str(tmp_path / "r.html"), "--", "1"]) == 3
    assert (tmp_path / "r.html").exists() and "exp + mul + sum" in capsys.readouterr().out
    assert main(["explain", str(script), "--json", "--", "2"]) == 3
    told = capsys.readouterr()
    (function,) = json.loads(told.out)["functions"]
    (program,) = function["programs"]
    (step,) = program["steps"]
    assert function["calls"] == 2 and function["stages"]["total"] > 0 and function["memory"]["in_place_writes"] == 0
    assert step["does"] == "exp + mul + sum" and step["ops"] == ["exp", "mul", "sum"] and step["lines"][0].endswith("py:6")
    assert step["flops"] > 0 and step["bytes"] == 204 and step["seconds"] > 0 and step["share_of_peak"] > 0
    assert program["not_fused"] == [] and {"simplify", "fuse"} <= {made["name"] for made in program["passes"]}
    assert told.err == "hello\n" and not (tmp_path / "script-report.html").exists()
    with pytest.raises(SystemExit) as left:
        main(["profile", str(tmp_path / "no.py")])
    assert left.value.code == 2


GRAPH = """graph @f {
  %0 = input arg "x" : f32[4]
  %1 = exp(%0) : f32[4]
  %2 = mul(%1, %1) : f32[4]
  return %2
}
"""


def test_a_graph_is_checked_and_shrunk(tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                       monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "graph.txt"
    file.write_text(GRAPH)
    assert main(["reduce", str(file)]) == 0 and "f: 3 nodes" in capsys.readouterr().out
    wrong = Rule("exp(x) -> -x", ("exp",), lambda b, node: b.neg(node.operands[0]))
    monkeypatch.setitem(simplify._RULES_OF, "exp", [wrong])             # type: ignore[index]
    assert main(["reduce", str(file), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["blame"].endswith("simplify") and "exp(" in found["repro"] and "mul(" not in found["repro"]
    file.write_text("no graph")
    assert main(["reduce", str(file)]) == 2 and main(["reduce", str(tmp_path / "none")]) == 2


def test_doctor_and_cache_tell_scripts_in_json(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "CHECKS", (("one", lambda: None), ("two", lambda: 1 // 0)))
    assert main(["doctor", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["checks"]["one"] is True and told["checks"]["two"] is False and "ZeroDivisionError" in told["log"]
    for command, kind in (("info", dict), ("list", list)):
        assert main(["cache", command, "--json"]) == 0
        assert isinstance(json.loads(capsys.readouterr().out), kind)
