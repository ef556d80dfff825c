"""`python -m flambeau train WHAT`: the examples, trained with a live bar, or with the border between two classes of points.

The models and their training are in examples/, as a user writes them; this is the show around them.
"""
from __future__ import annotations

import argparse
import importlib
import importlib.util
import io
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, TextIO

from flambeau.programs import folder_of, reachable
from flambeau.progress import Bar, progress_bar
from flambeau.scripts import positive
from flambeau.train.border import Border

__all__ = ["main"]


@dataclass(frozen=True)
class Example:
    """file: of examples/; about: what is learned; unit: what is counted; count: how many, and for --quick; needs: packages
    that do not come with Flambeau, as one imports and installs them."""

    file: str
    about: str
    unit: str
    count: int
    quick: int
    needs: tuple[tuple[str, str], ...] = ()


WHAT: Mapping[str, Example] = {
    "points": Example("points", "points of a square in two classes, by a perceptron: watch the border move", "epochs",
                      250, 40),
    "digits": Example("digits_cnn", "scanned handwritten digits of 8 x 8, by a convolutional network", "epochs", 20, 2,
                      (("sklearn", "scikit-learn"),)),
    "lenet": Example("lenet", "digits of 28 x 28 that the program draws, by a small LeNet", "epochs", 6, 1),
    "sentiment": Example("sentiment", "whether sentences praise, by a convolutional network over words", "epochs", 10, 6),
    "gpt": Example("char_transformer", "to write like Python's standard library, letter by letter", "steps", 1000, 30),
}


def main(arguments: Sequence[str]) -> int:
    """The exit code: 0 done, 1 where the examples or a package are not there."""
    options = parser().parse_args(list(arguments))
    example = WHAT[options.what]
    missing = [package for module, package in example.needs if importlib.util.find_spec(module) is None]
    if getattr(options, "picture", None) is not None and importlib.util.find_spec("matplotlib") is None:
        missing.append("matplotlib")
    if missing:
        print(f"train {options.what} needs {' and '.join(missing)}: pip install {' '.join(missing)}", file=sys.stderr)
        return 1
    folder = folder_of("examples")
    if folder is None:
        print("train runs the programs of examples/, which this installation lacks: "
              "pip install --force-reinstall flambeau", file=sys.stderr)
        return 1
    reachable(folder)                                   # where they find one another
    count = options.count or (example.quick if options.quick else example.count)
    module = importlib.import_module(example.file)
    return _points(module, options, count) if options.what == "points" else _other(module, options, example, count)


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="python -m flambeau train", formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Train one of the examples. Every one is a program in examples/ that reads in a minute, with one\n"
                    "compiled training step; nothing is downloaded.",
        epilog="examples:\n"
               "  python -m flambeau train points --dataset Circle --picture circle.png\n"
               "  python -m flambeau train gpt --count 300\n"
               "  python -m flambeau train lenet --json | tail -1\n\n"
               "NO_COLOR=1 draws without colors. Exit codes: 0 done, 1 a package is missing, 2 asked wrongly, 130 after\n"
               "Ctrl-C.")
    commands = top.add_subparsers(dest="what", required=True, metavar="WHAT")
    for name, example in WHAT.items():
        command = commands.add_parser(name, help=example.about, description=f"Learns {example.about}.",
                                      epilog=f"The program is examples/{example.file}.py.")
        command.add_argument("--count", type=positive, metavar="N", help=f"{example.unit} ({example.count})")
        command.add_argument("--seed", type=int, default=0, help="of weights, data and order (0)")
        command.add_argument("--quick", action="store_true", help=f"{example.quick} {example.unit}, to see that it runs")
        command.add_argument("--json", action="store_true", help="a line of JSON at each of them, and one with the result")
        if name == "points":
            command.add_argument("--dataset", choices=["Simple", "Diag", "Split", "Xor", "Circle", "Spiral"],
                                 default="Xor", help="of MiniTorch's (Xor)")
            command.add_argument("--picture", type=Path, metavar="FILE", help="draw the border there (.png, .svg, .pdf)")
    return top


def _points(module: ModuleType, options: argparse.Namespace, count: int) -> int:
    x, y = module.points(options.dataset, 200)
    border: Border | None = None

    def tell(done: int, total: int, model: Any, **numbers: float) -> None:
        nonlocal border
        border = border or Border(x.numpy(), y.numpy(), live=not options.json)
        if options.json:
            _as_json(done, numbers, sys.stdout)
        elif done in (1, total) or done * Border.FRAMES // total > (done - 1) * Border.FRAMES // total:
            border.show(model, f"{options.dataset}: epoch {done}/{total}  loss {numbers['loss']:.4f}", done == total)
        if done == total and options.picture is not None:
            border.picture(model, options.picture, f"{options.dataset}, epoch {done}")

    return _ended(module.run(options.dataset, count, options.seed, tell), options,
                  () if options.picture is None else (options.picture,))


def _other(module: ModuleType, options: argparse.Namespace, example: Example, count: int) -> int:
    how = {"steps": count} if example.unit == "steps" else {"epochs": count}
    if options.json:
        out = sys.stdout
        with redirect_stdout(sys.stderr):               # what programs print themselves
            result = module.run(**how, seed=options.seed,
                                tell=lambda done, total, model, **numbers: _as_json(done, numbers, out))
    else:
        print(f"learns {example.about}; the first step compiles")
        said = io.StringIO()
        with progress_bar(count, example.unit) as bar, redirect_stdout(said):      # else it would break into the bar
            result = module.run(**how, seed=options.seed, tell=_bar_tell(bar))
        print(said.getvalue(), end="")
    return _ended(result, options, ())


def _bar_tell(bar: Bar) -> Callable[..., None]:
    def tell(done: int, total: int, model: Any, **numbers: float) -> None:
        bar.update(done, "  ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in numbers.items()))

    return tell


def _ended(result: float | tuple[float, str], options: argparse.Namespace, written: Sequence[Path]) -> int:
    """result: a share told right, or a loss and a sample of writing."""
    if options.json:
        found = {"test_accuracy": result} if isinstance(result, float) else {"loss": result[0], "sample": result[1]}
        print(json.dumps({"result": found, "written": [str(path) for path in written]}), flush=True)
        return 0
    if isinstance(result, float):
        print(f"test accuracy: {result:.1%}")
    else:
        print(f"\n{result[1]}\n\ntraining loss: {result[0]:.3f} nats a character")
    for path in written:
        print(f"wrote {path}")
    return 0


def _as_json(done: int, numbers: Mapping[str, float], out: TextIO) -> None:
    print(json.dumps({"done": done, **numbers}), file=out, flush=True)
