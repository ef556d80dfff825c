"""Where the programs are that come with Flambeau, `examples/` and `benchmarks/`: in a checkout beside the package, else
where an installation put them (pyproject.toml has the list, as data files)."""
from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

__all__ = ["folder_of", "reachable"]

ROOT = Path(__file__).resolve().parents[1]


def folder_of(name: str) -> Path | None:
    """The folder "examples" or "benchmarks"; None where neither a checkout nor an installation has it."""
    if (ROOT / "pyproject.toml").exists() and (ROOT / name).is_dir():
        return ROOT / name
    try:
        installed = files("flambeau") or []
    except PackageNotFoundError:
        return None
    for file in installed:
        if file.parts[-4:-1] == ("share", "flambeau", name) and Path(str(file.locate())).exists():
            return Path(str(file.locate())).resolve().parent
    return None


def reachable(folder: Path) -> None:
    """Let imports find what lies in it."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
