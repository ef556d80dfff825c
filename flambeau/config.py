"""Settings of the process: read once from the environment, changed from Python, for good or for a block.

    FLAMBEAU_LOGS=fusion,recompiles    config.logs          set(logs="fusion,recompiles")
    FLAMBEAU_DUMP=DIR                  config.dump_dir      set(dump="DIR")
    FLAMBEAU_DISABLE_JIT=1             config.disable_jit   set(disable_jit=True)
    FLAMBEAU_CACHE_DIR=DIR             config.cache_dir     set(cache_dir="DIR")
    FLAMBEAU_CACHE=0                   config.cache         set(cache=False)
    FLAMBEAU_CACHE_SIZE=500M           config.cache_bytes   set(cache_size="500M")
    FLAMBEAU_KEPT_SIZE=2G              config.kept_bytes    set(kept_size="2G")
    FLAMBEAU_NUM_THREADS=4             config.num_threads   set(num_threads=4)
    FLAMBEAU_POISON=1                  config.poison        set(poison=True)
    FLAMBEAU_CUDA=emulator             config.cuda          set(cuda="emulator")
    FLAMBEAU_TF32=1                    config.tf32          set(tf32=True)
    FLAMBEAU_WINOGRAD=0                config.winograd      set(winograd=False)
    FLAMBEAU_DETERMINISTIC=1           config.deterministic set(deterministic=True)
    FLAMBEAU_TRACEBACK=full            config.traceback     set(traceback="full")

`set(...)` acts at once; used as `with set(...):` the old values come back at the end of the block. Settings
belong to the process, not to a thread, so that worker threads see what the main thread asked for. A variable that
makes no sense is left out with a warning at import: a typing error in a shell must not keep a program from starting.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType

from flambeau.warned import warn

__all__ = ["CUDA_DRIVERS", "LOG_CHANNELS", "MOST_THREADS", "Settings", "current", "from_environment", "set", "watch"]

LOG_CHANNELS = {
    "all": "every channel",
    "help": "this list, once",
    "cache": "what was found on disk, and what is kept there",
    "fusion": "how many kernels a function became, and which of those that read one another stayed apart, with the reason",
    "memory": "the scratch memory of a function, and what makes its peak",
    "passes": "how long each pass took, how many nodes it left, and how often it applied which rule",
    "recompiles": "why a function is compiled again, or runs as Python",
}
CUDA_DRIVERS = ("", "emulator")     # whose devices "cuda:0" and so on are: NVIDIA's, or one that NumPy plays
MOST_THREADS = 1024                 # more than any machine we know has cores; beyond it a number is a slip

_TRUE = {"1", "true", "yes", "on"}
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_FALSE = {"", "0", "false", "no", "off"}


@dataclass(frozen=True)
class Settings:
    """One consistent set of values. None means: not asked for, the default is chosen where it is used."""

    logs: frozenset[str] = frozenset()
    dump_dir: Path | None = None
    disable_jit: bool = False
    cache_dir: Path | None = None
    cache: bool = True
    cache_bytes: int = 1 << 30
    kept_bytes: int = 4 << 30
    num_threads: int | None = None
    poison: bool = False
    cuda: str = ""
    tf32: bool = False
    winograd: bool = True
    deterministic: bool = False
    traceback: str = "short"


# Read through __getattr__ below, so that `config.dump_dir` is always the current value.
logs: frozenset[str]
dump_dir: Path | None
disable_jit: bool
cache_dir: Path | None
cache: bool
cache_bytes: int
kept_bytes: int
num_threads: int | None
poison: bool
cuda: str
tf32: bool
winograd: bool
deterministic: bool
traceback: str


def from_environment(
    environ: Mapping[str, str] = os.environ, refuse: Callable[[ValueError], None] | None = None
) -> Settings:
    """The settings that `environ` asks for. A variable that makes no sense raises a ValueError that names it, or is
    left out once `refuse` has heard of it."""
    found: dict[str, object] = {}
    for field, (variable, parse) in _VARIABLES.items():
        try:
            text = environ.get(variable, "").strip()
            if text:
                found[field] = parse(variable, text)
        except ValueError as error:
            if refuse is None:
                raise
            refuse(error)
    return Settings(**found)  # type: ignore[arg-type]


def _warn(error: ValueError) -> None:
    warn("FB001", f"{error}; it is ignored", stacklevel=2)


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
    cache: object = _UNSET,
    cache_size: object = _UNSET,
    kept_size: object = _UNSET,
    num_threads: object = _UNSET,
    poison: object = _UNSET,
    cuda: object = _UNSET,
    tf32: object = _UNSET,
    winograd: object = _UNSET,
    deterministic: object = _UNSET,
    traceback: object = _UNSET,
) -> _Change:
    """Change the named settings now; use the result in a `with` to have the former values back afterwards.

    logs: channels as "a,b" or in any iterable; dump, cache_dir: a path or None; cache: whether what was compiled is
    kept on disk; cache_size: bytes, or "500M", "2G"; kept_size: the same, of what each compiled function may keep of
    computing with captured tensors (packed weights, for one), for what is compiled from now on, 0 for nothing;
    num_threads: an int of at least 1, or None; poison: whether fresh memory is filled with NaN, for what is compiled from
    now on; cuda: "" for NVIDIA's driver, "emulator" for devices that are not there; tf32: whether GPUs may round the
    operands of products of float32 to 10 bits of mantissa, as `fb.backends.cuda.matmul.allow_tf32` says too;
    winograd: whether convolutions of 3 x 3 in float32 may be computed by fewer products, whose results round a little
    further, for what is compiled from now on;
    deterministic: as use_deterministic_algorithms() says; traceback: "short" to leave our own frames out where errors are
    printed that nobody caught, "full" for all of them. Raises ValueError or TypeError, and changes nothing, if a value
    makes no sense.
    """
    given = {"logs": logs, "dump_dir": dump, "disable_jit": disable_jit, "cache_dir": cache_dir, "cache": cache,
             "cache_bytes": cache_size, "kept_bytes": kept_size, "num_threads": num_threads, "poison": poison, "cuda": cuda,
             "tf32": tf32, "winograd": winograd, "deterministic": deterministic,
             "traceback": traceback}
    names = {"dump_dir": "dump", "cache_bytes": "cache_size", "kept_bytes": "kept_size"}
    changed = {field: _VARIABLES[field][1](names.get(field, field), value)
               for field, value in given.items() if value is not _UNSET}
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


def _parse_logs(name: str, value: object) -> frozenset[str]:
    if value is None:
        return frozenset()
    channels = value.split(",") if isinstance(value, str) else list(value)  # type: ignore[call-overload]
    found = frozenset(channel.strip() for channel in channels if channel.strip())
    if "help" in found:
        width = max(map(len, LOG_CHANNELS))
        lines = [f"  {channel:<{width}}  {what}" for channel, what in LOG_CHANNELS.items()]
        print("FLAMBEAU_LOGS and config.set(logs=...) take, with commas between:", *lines, sep="\n", file=sys.stderr)
    if unknown := sorted(found - {*LOG_CHANNELS}):
        raise ValueError(f"{name} names no channel called {', '.join(unknown)}; there are {', '.join(LOG_CHANNELS)}")
    return found


def _parse_path(name: str, value: object) -> Path | None:
    if value is None or value == "":
        return None
    if "\0" in str(value):
        raise ValueError(f"{name} is a path, but {value!r} has a zero character in it")
    try:
        return Path(value).expanduser()  # type: ignore[arg-type]
    except RuntimeError:
        raise ValueError(f"{name} is {value!r}, and no user has that home folder") from None


def _parse_bool(name: str, value: object) -> bool:
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    raise ValueError(f"{name} is a switch, 0 or 1, but is {value!r}")


def _parse_bytes(name: str, value: object) -> int:
    text = str(value).strip().upper().removesuffix("B").removesuffix("I")
    scale = _UNITS.get(text[-1:], 1)
    digits = text if scale == 1 else text[:-1]
    if isinstance(value, bool) or not digits.isascii() or not digits.isdigit():
        raise ValueError(f'{name} is a number of bytes such as 100000000, "500M" or "2G", but is {value!r}')
    return int(digits) * scale


def _parse_threads(name: str, value: object) -> int | None:
    if value is None:
        return None
    try:
        count = int(value)  # type: ignore[call-overload]
    except (TypeError, ValueError, OverflowError):
        count = 0
    if not 1 <= count <= MOST_THREADS or isinstance(value, (bool, float)):
        shown = repr(value) if len(repr(value)) <= 40 else f"{repr(value)[:40]}..."
        raise ValueError(f"{name} is a number of threads, an integer from 1 to {MOST_THREADS}, but is {shown}")
    return count


def _parse_cuda(name: str, value: object) -> str:
    text = "" if value is None else str(value).strip().lower()
    if text not in CUDA_DRIVERS:
        raise ValueError(f"{name} is 'emulator' or empty, for NVIDIA's driver, but is {value!r}")
    return text


def _parse_traceback(name: str, value: object) -> str:
    text = str(value).strip().lower()
    if text not in ("short", "full"):
        raise ValueError(f"{name} is 'short' or 'full', but is {value!r}")
    return text


# how each setting is called in the environment, and what reads its value: (name for messages, value) -> the setting
_VARIABLES: dict[str, tuple[str, Callable[[str, object], object]]] = {
    "logs": ("FLAMBEAU_LOGS", _parse_logs),
    "dump_dir": ("FLAMBEAU_DUMP", _parse_path),
    "disable_jit": ("FLAMBEAU_DISABLE_JIT", _parse_bool),
    "cache_dir": ("FLAMBEAU_CACHE_DIR", _parse_path),
    "cache": ("FLAMBEAU_CACHE", _parse_bool),
    "cache_bytes": ("FLAMBEAU_CACHE_SIZE", _parse_bytes),
    "kept_bytes": ("FLAMBEAU_KEPT_SIZE", _parse_bytes),
    "num_threads": ("FLAMBEAU_NUM_THREADS", _parse_threads),
    "poison": ("FLAMBEAU_POISON", _parse_bool),
    "cuda": ("FLAMBEAU_CUDA", _parse_cuda),
    "tf32": ("FLAMBEAU_TF32", _parse_bool),
    "winograd": ("FLAMBEAU_WINOGRAD", _parse_bool),
    "deterministic": ("FLAMBEAU_DETERMINISTIC", _parse_bool),
    "traceback": ("FLAMBEAU_TRACEBACK", _parse_traceback),
}
_lock = threading.Lock()
_watchers: dict[str, list[Callable[[], None]]] = {}
_current = from_environment(refuse=_warn)
