import os
import threading
import time

import pytest

from flambeau import config
from flambeau.runtime.disk_cache import DiskCache, cache_dir, disk_cache


@pytest.fixture
def cache(tmp_path):
    return DiskCache(tmp_path)


def the_file(tmp_path):
    (path,) = (path for path in tmp_path.rglob("*") if path.is_file())
    return path


@pytest.mark.parametrize("data", [b"", b"x", bytes(100_000)])
def test_what_was_put_is_found_by_another_process(tmp_path, data):
    DiskCache(tmp_path).put("key", data)
    assert DiskCache(tmp_path).get("key") == data
    assert DiskCache(tmp_path).get("other") is None


def test_the_last_put_counts(cache):
    cache.put("key", b"one")
    cache.put("key", b"two")
    assert cache.get("key") == b"two" and cache.size()[0] == 1


@pytest.mark.parametrize("length", [0, 7, 20, 40, 45])
def test_a_truncated_file_is_a_miss_and_can_be_put_again(cache, tmp_path, length):
    cache.put("key", b"content")
    path = the_file(tmp_path)
    path.write_bytes(path.read_bytes()[:length])
    assert cache.get("key") is None
    cache.put("key", b"content")
    assert cache.get("key") == b"content"


def test_a_changed_byte_is_a_miss(cache, tmp_path):
    cache.put("key", b"content")
    path = the_file(tmp_path)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert cache.get("key") is None


def test_a_directory_that_cannot_be_made_is_no_error(tmp_path):
    (tmp_path / "objects").write_text("a file where the cache wants a folder")
    cache = DiskCache(tmp_path)
    cache.put("key", b"content")
    assert cache.get("key") is None


def test_no_directory_at_all_is_no_error():
    cache = DiskCache(None)
    cache.put("key", b"content")
    assert cache.get("key") is None and cache.size() == (0, 0)


def test_concurrent_writers_and_readers_never_see_a_part(cache):
    contents = [bytes([value]) * 50_000 for value in range(4)]
    wrong = []

    def work(data):
        for _ in range(50):
            cache.put("key", data)
            if cache.get("key") not in contents:
                wrong.append(data)

    threads = [threading.Thread(target=work, args=(data,)) for data in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert not wrong and cache.size()[0] == 1


def test_others_may_not_write_where_code_is_loaded_from(cache, tmp_path):
    cache.put("key", b"content")
    path = the_file(tmp_path)
    assert path.parent.stat().st_mode & 0o022 == 0 and path.stat().st_mode & 0o077 == 0


def test_clear_removes_the_files(cache):
    cache.put("key", b"content")
    assert cache.size() == (1, 8 + 32 + 2 + 7)
    cache.clear()
    assert cache.size() == (0, 0) and cache.get("key") is None


def test_the_setting_chooses_the_directory(tmp_path):
    with config.set(cache_dir=tmp_path, cache=True):
        assert cache_dir() == tmp_path
        disk_cache().put("key", b"content")
        assert disk_cache().get("key") == b"content"


def test_the_users_cache_folder_is_the_default(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", os.fspath(tmp_path))
    with config.set(cache_dir=None, cache=True):
        assert cache_dir() == tmp_path / "flambeau"


def test_switched_off_there_is_no_directory(tmp_path):
    with config.set(cache_dir=tmp_path, cache=False):
        assert cache_dir() is None and not disk_cache().is_there


def test_entries_say_what_they_hold_and_which_are_damaged(cache, tmp_path):
    cache.put("one", b"1" * 100, "a kernel")
    cache.put("two", b"2" * 200, "a program")
    assert {entry.label for entry in cache.entries()} == {"a kernel", "a program"}
    path = next(entry.path for entry in cache.entries() if entry.label == "a kernel")
    path.write_bytes(path.read_bytes()[:-1])
    assert {entry.label for entry in cache.entries()} == {None, "a program"}


def test_what_was_used_least_recently_goes_first(tmp_path):
    cache = DiskCache(tmp_path, most_bytes=10_000)
    for number in range(8):
        DiskCache(tmp_path).put(str(number), bytes(1500))
    paths = {number: DiskCache(tmp_path)._path(str(number)) for number in range(8)}
    for number, path in paths.items():
        os.utime(path, (0, time.time() - 100 * 86400 + number))
    assert cache.get("1") is not None                   # used now
    assert cache.evict() > 0
    assert not paths[0].exists() and paths[1].exists() and paths[7].exists() and cache.size()[1] <= 9_000


def test_a_cache_that_is_filled_stays_about_as_large_as_it_may_be(tmp_path):
    cache = DiskCache(tmp_path, most_bytes=200_000)
    for number in range(400):
        cache.put(str(number), bytes(3000))
    assert cache.size()[1] < 250_000 and cache.get("399") == bytes(3000)


def test_files_that_were_begun_and_never_ended_go_some_time_later(tmp_path):
    cache = DiskCache(tmp_path, most_bytes=10_000)
    cache.put("key", b"content")
    fresh, old = (the_file(tmp_path).parent / f"{name}.tmp" for name in ("fresh", "old"))
    for path in (fresh, old):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    cache.evict()
    assert fresh.exists() and not old.exists() and cache.get("key") == b"content" and cache.size()[0] == 1


@pytest.mark.skipif(not hasattr(os, "chown") or os.geteuid() != 0, reason="only root can give files away")
def test_what_another_user_put_there_is_not_loaded(cache, tmp_path):
    cache.put("key", b"content")
    os.chown(the_file(tmp_path), 12345, -1)
    assert cache.get("key") is None
    cache.put("key", b"content")
    assert cache.get("key") == b"content"
