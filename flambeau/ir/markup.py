"""Text as HTML, for notebooks."""
from __future__ import annotations

from typing import Final

__all__ = ["folded"]

_MOST_LINES: Final = 400


def folded(title: str, text: str, is_open: bool = True) -> str:
    """A title that folds a text away, of which a notebook shows the first lines."""
    lines = text.splitlines()
    more = f"\n... {len(lines) - _MOST_LINES} lines more" if len(lines) > _MOST_LINES else ""
    body = _escaped("\n".join(lines[:_MOST_LINES]) + more)
    return (f"<details{' open' * is_open}><summary>{_escaped(title)}</summary>"
            f'<pre style="line-height:1.35;overflow:auto;max-height:36em">{body}</pre></details>')


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
