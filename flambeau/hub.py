"""`fb.hub`: nothing is downloaded, and no code that was. Files that lie where a download would put them are read."""
from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Final, NoReturn
from urllib.parse import urlparse

import flambeau
from flambeau.errors import UnsupportedError

HASH_REGEX: Final = re.compile(r"-([a-f0-9]*)\.")      # the hash in a file's name: resnet18-5c106cde.pth
_chosen: dict[str, str] = {}


def _get_torch_home() -> str:
    """$TORCH_HOME, or else torch/ in the folder of caches."""
    caches = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    return os.path.expanduser(os.environ.get("TORCH_HOME", os.path.join(caches, "torch")))


def get_dir() -> str:
    """Where downloaded files lie: what `set_dir` was told, or $TORCH_HOME/hub, by default ~/.cache/torch/hub."""
    return _chosen.get("dir") or os.path.join(_get_torch_home(), "hub")


def set_dir(d: str | os.PathLike[str]) -> None:
    """Look for downloaded files in this folder."""
    _chosen["dir"] = os.path.expanduser(d)


def load_state_dict_from_url(url: str, model_dir: str | os.PathLike[str] | None = None, map_location: Any = None,
                             progress: bool = True, check_hash: bool = False, file_name: str | None = None,
                             weights_only: bool = False) -> Any:
    """What fb.load reads from the file of that name in model_dir, by default checkpoints/ in `get_dir()`. Raises
    UnsupportedError where there is no such file."""
    folder = Path(get_dir(), "checkpoints") if model_dir is None else Path(model_dir)
    path = folder / (file_name or os.path.basename(urlparse(url).path))
    if not path.is_file():
        raise UnsupportedError(f"hub.load_state_dict_from_url: nothing is downloaded ({url})",
                               hint=f"download it to {path}, or anywhere, and read it with fb.load(path)")
    return flambeau.load(path, map_location)


def download_url_to_file(url: str, dst: str, hash_prefix: str | None = None, progress: bool = True) -> NoReturn:
    """Raises UnsupportedError."""
    raise UnsupportedError(f"hub.download_url_to_file: nothing is downloaded ({url})", hint=f"download it to {dst}")


def load(repo_or_dir: str, model: str, *args: Any, **kwargs: Any) -> NoReturn:
    """Raises UnsupportedError: other people's code is installed, not run from where it lies."""
    raise UnsupportedError(f"hub.load: no code is fetched from {repo_or_dir!r} to make {model!r}",
                           hint="install the package, and read its weights with fb.load(path)")


__all__ = ["download_url_to_file", "get_dir", "load", "load_state_dict_from_url", "set_dir", "urlparse"]
