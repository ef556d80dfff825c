"""Settings of the process: read once from the environment, changed from Python, for good or for a block.

    FLAMBEAU_LOGS=fusion,recompiles    config.logs          set(logs="fusion,recompiles")
    FLAMBEAU_DUMP=DIR                  config.dump_dir      set(dump="DIR")
    FLAMBEAU_DISABLE_JIT=1             config.disable_jit   set(disable_jit=True)
    FLAMBEAU_CACHE_DIR=DIR             config.cache_dir     set(cache_dir="DIR")
    FLAMBEAU_NUM_THREADS=4             config.num_threads   set(num_threads=4)

`set(...)` acts at once; used as `with set(...):` the old values come back at the end of the block. Settings
belong to the process, not to a thread, so that worker threads see what the main thread asked for.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType

__all__ = ["Settings", "current", "from_environment", "set", "watch"]

_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"", "0", "false", "no", "off"}


@dataclass(frozen=True)
class Settings:
    """One consistent set of values. None means: not asked for, the default is chosen where it is used."""

    logs: frozenset[str] = frozenset()
    dump_dir: Path | None = None
    disable_jit: bool = False
    cache_dir: Path | None = None
    num_threads: int | None = None


# Read through __getattr__ below, so that `config.dump_dir` is always the current value.
logs: frozenset[str]
dump_dir: Path | None
disable_jit: bool
cache_dir: Path | None
num_threads: int | None


def from_environment(environ: Mapping[str, str] = os.environ) -> Settings:
    """The settings that `environ` asks for. Raises ValueError naming the variable if one makes no sense."""
    raw_threads = environ.get("FLAMBEAU_NUM_THREADS", "").strip()
    return Settings(
        logs=_parse_logs(environ.get("FLAMBEAU_LOGS", "")),
        dump_dir=_parse_path(environ.get("FLAMBEAU_DUMP", "")),
        disable_jit=_parse_bool("FLAMBEAU_DISABLE_JIT", environ.get("FLAMBEAU_DISABLE_JIT", "")),
        cache_dir=_parse_path(environ.get("FLAMBEAU_CACHE_DIR", "")),
        num_threads=_parse_threads("FLAMBEAU_NUM_THREADS", raw_threads) if raw_threads else None,
    )


def current() -> Settings:
    """All settings at this moment, as one value."""
    return _current


class _Change:
    """Settings changed by `set`; as a context manager it puts the former values back."""

    def __init__(self, changed: Mapping[str, object]) -> None:
        global _current
        with _lock:
            self._former = {name: getattr(_current, name) for name in changed}
            _current = replace(_current, **changed)  # type: ignore[arg-type]
        _notify(changed)

    def __enter__(self) -> Settings:
        return _current

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        global _current
        with _lock:
            _current = replace(_current, **self._former)
        _notify(self._former)


_UNSET: object = object()


def set(
    *,
    logs: object = _UNSET,
    dump: object = _UNSET,
    disable_jit: object = _UNSET,
    cache_dir: object = _UNSET,
    num_threads: object = _UNSET,
) -> _Change:
    """Change the named settings now; use the result in a `with` to have the former values back afterwards.

    logs: "a,b" or names in any iterable; dump, cache_dir: a path or None; num_threads: an int of at least 1,
    or None.
    Raises ValueError or TypeError, and changes nothing, if a value makes no sense.
    """
    changed: dict[str, object] = {}
    if logs is not _UNSET:
        changed["logs"] = _parse_logs(logs)
    if dump is not _UNSET:
        changed["dump_dir"] = _parse_path(dump)
    if disable_jit is not _UNSET:
        changed["disable_jit"] = _parse_bool("disable_jit", disable_jit)
    if cache_dir is not _UNSET:
        changed["cache_dir"] = _parse_path(cache_dir)
    if num_threads is not _UNSET:
        changed["num_threads"] = None if num_threads is None else _parse_threads("num_threads", num_threads)
    return _Change(changed)


def watch(name: str, callback: Callable[[], None]) -> None:
    """Call `callback()` after each change of the setting `name`; it lives as long as the process."""
    assert name in Settings.__dataclass_fields__, f"no setting is called {name}"
    _watchers.setdefault(name, []).append(callback)


def __getattr__(name: str) -> object:
    if name in Settings.__dataclass_fields__:
        return getattr(_current, name)
    known = ", ".join(Settings.__dataclass_fields__)
    raise AttributeError(f"flambeau.config has no setting {name!r}; it has {known}")


def _notify(names: Mapping[str, object]) -> None:
    for name in names:
        for callback in _watchers.get(name, ()):
            callback()


def _parse_logs(value: object) -> frozenset[str]:
    if value is None:
        return frozenset()
    names = value.split(",") if isinstance(value, str) else list(value)  # type: ignore[call-overload]
    return frozenset(name.strip() for name in names if name.strip())


def _parse_path(value: object) -> Path | None:
    if value is None or value == "":
        return None
    return Path(value).expanduser()  # type: ignore[arg-type]


def _parse_bool(name: str, value: object) -> bool:
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    raise ValueError(f"{name} is a switch, 0 or 1, but is {value!r}")


def _parse_threads(name: str, value: object) -> int:
    try:
        count = int(value)  # type: ignore[call-overload]
    except (TypeError, ValueError):
        count = 0
    if count < 1 or isinstance(value, (bool, float)):
        raise ValueError(f"{name} is a number of threads, an integer of at least 1, but is {value!r}")
    return count


_lock = threading.Lock()
_watchers: dict[str, list[Callable[[], None]]] = {}
_current = from_environment()
