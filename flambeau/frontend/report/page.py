"""Data -> one HTML file: the page of this folder with everything in it, the data as JSON, deflated."""
from __future__ import annotations

import base64
import html
import json
import zlib
from collections.abc import Sequence
from importlib import resources
from typing import Any

from flambeau.frontend.report.data import program

__all__ = ["page"]


def page(title: str, functions: Sequence[Any], peaks: Any) -> str:
    """functions: compiled ones that were called; of each the newest signature is shown. peaks: what the machine can do, or
    None where nothing was timed."""
    programs = [program(f"{function.name}{' backward' if number else ''}", part, function.signatures[-1], number,
                        function.explain() if number == 0 else "")
                for function in functions for number, part in enumerate(function.signatures[-1].parts)]
    data: dict[str, Any] = {"title": title, "programs": programs}
    if peaks is not None:
        data["peaks"] = [peaks.flops, peaks.bytes, peaks.by]
    packed = base64.b64encode(zlib.compress(json.dumps(data, separators=(",", ":")).encode(), 9)).decode()
    folder = resources.files("flambeau.frontend.report")
    read = {name: folder.joinpath(name).read_text(encoding="utf-8") for name in ("page.html", "page.css", "page.js")}
    text = read["page.html"].replace("@TITLE@", html.escape(title)).replace("/*CSS*/", read["page.css"])
    return text.replace("/*JS*/", read["page.js"]).replace("@DATA@", packed)
