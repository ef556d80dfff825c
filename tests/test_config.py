import os
import subprocess
import sys
from pathlib import Path

import pytest

from flambeau import config


def test_environment_names_set_each_setting():
    settings = config.from_environment(
        {
            "FLAMBEAU_LOGS": "fusion, recompiles",
            "FLAMBEAU_DUMP": "d",
            "FLAMBEAU_DISABLE_JIT": "1",
            "FLAMBEAU_CACHE_DIR": "c",
            "FLAMBEAU_CACHE": "0",
            "FLAMBEAU_CACHE_SIZE": "500M",
            "FLAMBEAU_NUM_THREADS": "3",
        }
    )
    assert settings == config.Settings(logs=frozenset({"fusion", "recompiles"}), dump_dir=Path("d"), disable_jit=True,
                                       cache_dir=Path("c"), cache=False, cache_bytes=500 << 20, num_threads=3)


@pytest.mark.parametrize(("said", "meant"), [(1000, 1000), ("1000", 1000), ("2K", 2048), ("3 mb", None), ("3MB", 3 << 20),
                                             ("1GiB", 1 << 30), ("0", 0)])
def test_sizes_of_the_cache_have_units(said, meant):
    if meant is None:
        with pytest.raises(ValueError, match="cache_size is a number of bytes"):
            config.set(cache_size=said)
    else:
        with config.set(cache_size=said):
            assert config.cache_bytes == meant


@pytest.mark.parametrize("bad", ["", "many", -1, 1.5, True, "5X", "G", None])
def test_a_size_that_is_none_is_refused(bad):
    with pytest.raises(ValueError, match="cache_size"):
        config.set(cache_size=bad)


def test_empty_environment_asks_for_nothing():
    assert config.from_environment({}) == config.Settings()


def test_set_in_a_with_block_is_undone_at_its_end():
    before = config.dump_dir
    with config.set(dump="x", logs="fusion,recompiles"):
        assert config.dump_dir == Path("x") and config.logs == {"fusion", "recompiles"}
    assert config.dump_dir == before


def test_inner_block_restores_only_what_it_set():
    with config.set(dump="outer"):
        with config.set(disable_jit=True):
            assert config.disable_jit and config.dump_dir == Path("outer")
        assert not config.disable_jit and config.dump_dir == Path("outer")


def test_set_without_with_lasts():
    former = config.current()
    config.set(cache_dir="here")
    try:
        assert config.cache_dir == Path("here")
    finally:
        config.set(cache_dir=former.cache_dir)


@pytest.mark.parametrize("bad", [0, -1, "many", 1.5, True, 1025, 2**70, "9" * 5000, float("inf"), "\u00b2", [], b"x"])
def test_num_threads_must_be_a_positive_integer(bad):
    with pytest.raises(ValueError, match="num_threads"):
        config.set(num_threads=bad)


def test_bad_switch_names_the_variable():
    with pytest.raises(ValueError, match="FLAMBEAU_DISABLE_JIT"):
        config.from_environment({"FLAMBEAU_DISABLE_JIT": "perhaps"})


@pytest.mark.parametrize(("variable", "value", "message"), [
    ("FLAMBEAU_NUM_THREADS", "99999999999999999999", "FLAMBEAU_NUM_THREADS is a number of threads, an integer from 1"),
    ("FLAMBEAU_NUM_THREADS", "9" * 5000, "FLAMBEAU_NUM_THREADS is a number of threads"),
    ("FLAMBEAU_CACHE_DIR", "~nobody-of-that-name/x", "FLAMBEAU_CACHE_DIR is '~nobody.*no user has that home folder"),
    ("FLAMBEAU_DUMP", "~nobody-of-that-name/x", "FLAMBEAU_DUMP is '~nobody"),
    ("FLAMBEAU_LOGS", "fusion,fussion", "FLAMBEAU_LOGS names no channel called fussion; there are all, help, cache"),
    ("FLAMBEAU_POISON", "arsenic", "FLAMBEAU_POISON is a switch, 0 or 1, but is 'arsenic'"),
])
def test_senseless_variables_name_themselves_and_are_ignored_at_import(variable, value, message):
    with pytest.raises(ValueError, match=message):
        config.from_environment({variable: value})
    refused = []
    assert config.from_environment({variable: value}, refused.append) == config.Settings()
    assert len(refused) == 1


def test_import_survives_senseless_variables():
    junk = {"FLAMBEAU_NUM_THREADS": "9" * 30, "FLAMBEAU_CACHE_DIR": "~nobody-of-that-name", "FLAMBEAU_LOGS": "junk",
            "FLAMBEAU_DUMP": "~nobody-of-that-name", "FLAMBEAU_DISABLE_JIT": "perhaps", "FLAMBEAU_POISON": "x",
            "OMP_NUM_THREADS": "\u00b2"}
    code = ("import flambeau as fb; f = fb.compile(lambda x: (x @ x).sum()); print(f(fb.ones(300, 300)).item(), "
            "fb.get_num_threads() > 0)")
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, **junk}, capture_output=True, text=True,
                          timeout=120)
    assert done.returncode == 0 and done.stdout.split() == ["27000000.0", "True"], done.stderr
    assert all(done.stderr.count(f"RuntimeWarning: {name}") == 1 for name in junk), done.stderr


def test_unknown_setting_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no setting 'speed'"):
        _ = config.speed


def test_watchers_hear_of_changes_and_of_the_way_back():
    seen = []
    config.watch("num_threads", lambda: seen.append(config.num_threads))
    before = config.num_threads
    with config.set(num_threads=7):
        pass
    assert seen == [7, before]
