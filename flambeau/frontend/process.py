"""Settings of the process that PyTorch has and that decide nothing here, or little."""
from __future__ import annotations

from typing import Any, Final

import numpy as np

from flambeau import config
from flambeau.frontend.tape.autograd import grad_mode
from flambeau.frontend.tensor.tensor import printed

_settings: Final[dict[str, Any]] = {"warn_only": False, "precision": "highest", "warn": False}


def set_printoptions(precision: int | None = None, threshold: float | None = None, edgeitems: int | None = None,
                     linewidth: int | None = None, profile: str | None = None, sci_mode: bool | None = None) -> None:
    """How tensors print: digits after the point, how many elements are shown whole and how many at the edges
    otherwise, characters in a line. profile: "default", "short" or "full"."""
    profiles: dict[str, dict[str, Any]] = {
        "default": {"precision": 4, "threshold": 1000, "edgeitems": 3},
        "short": {"precision": 2, "threshold": 1000, "edgeitems": 2},
        "full": {"precision": 4, "threshold": np.inf, "edgeitems": 3}}
    if profile is not None and not (isinstance(profile, str) and profile in profiles):
        raise ValueError(f"set_printoptions: profile must be default, short or full, got {profile!r}")
    ints = {"precision": precision, "edgeitems": edgeitems, "linewidth": linewidth}
    for name, value in {**ints, "threshold": threshold}.items():
        if value is not None and not isinstance(value, int if name in ints else (int, float)):
            raise TypeError(f"set_printoptions: {name} must be {'an int' if name in ints else 'a number'}, got {value!r}")
        if value is not None and not value >= 0:
            raise ValueError(f"set_printoptions: {name} must be 0 or more, got {value}")
    if profile is not None:
        printed.update(profiles[profile])
    given = {"precision": precision, "threshold": threshold, "edgeitems": edgeitems, "max_line_width": linewidth}
    printed.update({name: value for name, value in given.items() if value is not None})
    if sci_mode is not None:
        printed["formatter"] = {"float_kind": lambda x: f"{x:.{int(printed['precision'])}e}"} if sci_mode else None


def use_deterministic_algorithms(mode: bool, *, warn_only: bool = False) -> None:
    """On a GPU floats that are summed at computed places (index_add, scatter_add, the gradient of an embedding) are summed
    in one order, at a price; what is compiled without is compiled again. On the CPU results have the same bits in every
    run, for one number of threads, with or without it. warn_only: accepted; nothing would have to be refused."""
    if not isinstance(warn_only, bool):
        raise TypeError(f"use_deterministic_algorithms: warn_only must be a bool, got {type(warn_only).__name__}")
    config.set(deterministic=bool(mode))
    _settings.update(warn_only=warn_only)


def are_deterministic_algorithms_enabled() -> bool:
    """What use_deterministic_algorithms() was told."""
    return bool(config.deterministic)


def is_deterministic_algorithms_warn_only_enabled() -> bool:
    """What use_deterministic_algorithms() was told."""
    return bool(_settings["warn_only"])


def set_deterministic_debug_mode(debug_mode: int | str) -> None:
    """use_deterministic_algorithms() by a level: 0 "default", 1 "warn", 2 "error"."""
    level = {"default": 0, "warn": 1, "error": 2}.get(debug_mode, debug_mode) if isinstance(debug_mode, str) else debug_mode
    if level not in (0, 1, 2):
        raise RuntimeError(f"invalid value of debug_mode, expected 0, 1, or 2, but got {debug_mode!r}")
    use_deterministic_algorithms(level > 0, warn_only=level == 1)


def get_deterministic_debug_mode() -> int:
    """The level that set_deterministic_debug_mode() knows."""
    return 0 if not config.deterministic else 1 if _settings["warn_only"] else 2


def set_float32_matmul_precision(precision: str) -> None:
    """Of products and convolutions of float32 on GPUs: "highest" is float32; "high" and "medium" let their operands be
    rounded to TF32, as `fb.backends.cuda.matmul.allow_tf32 = True` does. On the CPU they are computed in float32."""
    if precision not in ("highest", "high", "medium"):
        raise RuntimeError(f"set_float32_matmul_precision: expected one of highest, high, medium, got {precision!r}")
    _settings["precision"] = precision
    config.set(tf32=precision != "highest")


def get_float32_matmul_precision() -> str:
    """What set_float32_matmul_precision() was told, or `allow_tf32` since then."""
    if not config.tf32:
        return "highest"
    return "high" if _settings["precision"] == "highest" else str(_settings["precision"])


def set_flush_denormal(mode: bool) -> bool:
    """False: denormal numbers are never flushed to zero."""
    return False


def set_warn_always(b: bool) -> None:
    """Accepted: what is repeated is for `warnings` to decide."""
    if not isinstance(b, bool):
        raise RuntimeError(f"set_warn_always: takes a bool, got {type(b).__name__}")
    _settings["warn"] = b


def is_warn_always_enabled() -> bool:
    """What set_warn_always() was told."""
    return bool(_settings["warn"])


def get_num_interop_threads() -> int:
    """1: one call runs at a time."""
    return 1


def set_num_interop_threads(int: int) -> None:
    """Accepted: one call runs at a time."""


def is_inference_mode_enabled() -> bool:
    """Whether nothing is recorded: inference_mode() and no_grad() are one here."""
    return not grad_mode.enabled


def compiled_with_cxx11_abi() -> bool:
    """True; there is no C++ in it."""
    return True


def is_vulkan_available() -> bool:
    """False."""
    return False


__all__ = [
    "are_deterministic_algorithms_enabled", "compiled_with_cxx11_abi",
    "get_deterministic_debug_mode", "get_float32_matmul_precision", "get_num_interop_threads",
    "is_deterministic_algorithms_warn_only_enabled", "is_inference_mode_enabled", "is_vulkan_available",
    "is_warn_always_enabled", "set_deterministic_debug_mode", "set_float32_matmul_precision",
    "set_flush_denormal", "set_num_interop_threads", "set_printoptions", "set_warn_always",
    "use_deterministic_algorithms",
]
