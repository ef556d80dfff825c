import threading

import pytest

from flambeau.runtime import Cache


def test_a_value_is_made_once():
    cache, made = Cache(), []
    for _ in range(3):
        assert cache.get_or_make("k", lambda: made.append(1) or b"code") == b"code"
    assert made == [1] and (cache.hits, cache.misses) == (2, 1)
    assert "k" in cache and len(cache) == 1 and cache.get("k") == b"code"


def test_unknown_keys_give_none():
    cache = Cache()
    assert cache.get("k") is None and "k" not in cache and len(cache) == 0


def test_the_first_value_put_stays():
    cache = Cache()
    assert cache.put("k", b"one") == b"one" and cache.put("k", b"two") == b"one"


def test_a_failed_make_keeps_nothing():
    cache = Cache()
    with pytest.raises(ZeroDivisionError):
        cache.get_or_make("k", lambda: 1 // 0)
    assert "k" not in cache and cache.get_or_make("k", lambda: 5) == 5


def test_threads_that_ask_meanwhile_wait_for_the_one_value():
    cache, made, begun, go = Cache(), [], threading.Event(), threading.Event()

    def make():
        begun.set()
        assert go.wait(30)
        made.append(1)
        return object()

    got = []
    threads = [threading.Thread(target=lambda: got.append(cache.get_or_make("k", make))) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert begun.wait(30) and cache.get("k") is None
    assert cache.get_or_make("other", lambda: 1) == 1  # Not held up by the slow one.
    go.set()
    for thread in threads:
        thread.join(timeout=30)
    assert made == [1] and len(got) == 4 and len(set(map(id, got))) == 1


def test_clear_forgets():
    cache = Cache()
    cache.put("k", b"x")
    cache.clear()
    assert len(cache) == 0 and (cache.hits, cache.misses) == (0, 0)
