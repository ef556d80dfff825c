"""`fb.onnx`: nothing is exported, which models may ask."""
from __future__ import annotations

from flambeau.frontend.missing import refusing


def is_in_onnx_export() -> bool:
    """False."""
    return False


__getattr__ = refusing(__name__)
