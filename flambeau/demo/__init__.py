"""`python -m flambeau demo`: a compiled network learns handwritten digits, then the compiler tells what it did.

digits_cnn.py is the model and its training, written as a user would write them; the other files are the show:
a progress bar, pictures, and the closing account.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence

_NEEDED = {"sklearn": "scikit-learn", "matplotlib": "matplotlib"}


def main(arguments: Sequence[str]) -> int:
    """Run the demo, or say what has to be installed first. Returns the exit code."""
    missing = [package for module, package in _NEEDED.items() if importlib.util.find_spec(module) is None]
    if missing:
        print(f"the demo needs {' and '.join(missing)}: pip install {' '.join(missing)}", file=sys.stderr)
        return 1
    return int(importlib.import_module("flambeau.demo.show").main(arguments))
