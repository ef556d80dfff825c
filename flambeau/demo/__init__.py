"""`python -m flambeau demo`: a compiled network learns handwritten digits, then the compiler tells what it did.

digits_cnn.py is the model and its training, written as a user would write them; the other files are the show:
a progress bar, pictures, and the closing account.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path

from flambeau.demo.digits_cnn import EPOCHS
from flambeau.scripts import positive

_NEEDED = {"sklearn": "scikit-learn", "matplotlib": "matplotlib"}


def main(arguments: Sequence[str]) -> int:
    """Run the demo, or say what has to be installed first. The exit code: 0 done, 1 a package is missing."""
    options = parser().parse_args(list(arguments))
    missing = [package for module, package in _NEEDED.items() if importlib.util.find_spec(module) is None]
    if missing:
        print(f"the demo needs {' and '.join(missing)}: pip install {' '.join(missing)}", file=sys.stderr)
        return 1
    if options.device.startswith("cuda") and not importlib.import_module("flambeau.cuda").is_available():
        parser().error("there is no GPU that can be used here; `python -m flambeau doctor` says what is missing")
    run = importlib.import_module("flambeau.demo.show").run
    if not options.json:
        run(options.seed, options.epochs, options.out, options.device)
        return 0
    with redirect_stdout(sys.stderr):
        accuracy = run(options.seed, options.epochs, options.out, options.device)
    print(json.dumps({"test_accuracy": accuracy / 100, "epochs": options.epochs, "seed": options.seed,
                      "device": options.device, "out": str(options.out)}))
    return 0


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m flambeau demo", formatter_class=argparse.RawDescriptionHelpFormatter,
        description="A compiled convolutional network learns scanned handwritten digits; then it is held against the\n"
                    "same program without the compiler, and what the compiler made of it is drawn and written down.",
        epilog="examples:\n  python -m flambeau demo --out pictures\n  python -m flambeau demo --epochs 5 --json\n\n"
               "Needs scikit-learn, for its digits, and matplotlib; nothing is downloaded. Exit codes: 0 done, 1 a\n"
               "package is missing, 2 asked wrongly, 130 after Ctrl-C.")
    made.add_argument("--seed", type=int, default=0, help="of the weights, the shuffling and the dropout (0)")
    made.add_argument("--epochs", type=positive, default=EPOCHS, help=f"({EPOCHS})")
    made.add_argument("--device", default="cpu", help='where to train: "cpu", or "cuda" for an NVIDIA GPU')
    made.add_argument("--out", type=Path, default=Path("demo-out"), help="folder for pictures and IR (demo-out)")
    made.add_argument("--json", action="store_true", help="the result as a line of JSON; what is told goes to stderr")
    return made
