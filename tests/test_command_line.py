"""python -m flambeau: commands, help and exit codes."""

from __future__ import annotations

from pathlib import Path

import pytest

from flambeau import config, doctor, doctor_cuda
from flambeau.__main__ import main
from flambeau.ir.target import avx2
from flambeau.runtime.disk_cache import disk_cache


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
