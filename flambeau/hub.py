"""`fb.hub`: nothing is downloaded, and no code that was."""
from __future__ import annotations

from typing import Any, NoReturn

from flambeau.errors import UnsupportedError


def load_state_dict_from_url(url: str, *args: Any, **kwargs: Any) -> NoReturn:
    """Raises UnsupportedError: fb.load reads files."""
    raise UnsupportedError(f"hub.load_state_dict_from_url: nothing is downloaded ({url})",
                           hint="download the file, and read it with fb.load(path)")


def load(repo_or_dir: str, model: str, *args: Any, **kwargs: Any) -> NoReturn:
    """Raises UnsupportedError: other people's code is installed, not run from where it lies."""
    raise UnsupportedError(f"hub.load: no code is fetched from {repo_or_dir!r} to make {model!r}",
                           hint="install the package, and read its weights with fb.load(path)")
