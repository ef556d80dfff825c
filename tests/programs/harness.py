"""Model files, each run with Flambeau and with PyTorch: what they hold, how they are loaded and compared.

A file gives `make()`, a model and two tuples, what its forward takes and what its loss takes besides the output, and
`loss(output, *targets)`, a scalar. One whose training is more than that gives `optimizers(model)` and
`train_step(model, optimizers, inputs, targets)` too, which returns the loss or several."""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import flambeau as fb

FOLDER = Path(__file__).parent / "models"
FILES = sorted(FOLDER.glob("*.py"))
# Their steps give losses alone, so what is between is looked at in a test of its own.
SPLIT = [path for path in FILES if "def train_step" in path.read_text()]
STEPS = 3


def load(path: Path, library: str = "flambeau") -> types.ModuleType:
    """The file as a module. With library="torch" nothing but the name of the library it imports is changed."""
    name = f"{library}_{path.stem}"
    spec = importlib.util.spec_from_loader(name, loader=None, origin=str(path))
    assert spec is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    module.__file__ = str(path)
    source = path.read_text().replace("flambeau", library)
    exec(compile(source, str(path) if library == "flambeau" else f"{path} in {library}", "exec"), vars(module))
    return module


def tensors_in(value: Any) -> Iterator[Any]:
    """The floating-point tensors of a result, in order."""
    if isinstance(value, (tuple, list)):
        for each in value:
            yield from tensors_in(each)
    elif isinstance(value, dict):
        yield from tensors_in(list(value.values()))
    elif dataclasses.is_dataclass(value):
        yield from tensors_in([getattr(value, field.name) for field in dataclasses.fields(value)])
    elif hasattr(value, "requires_grad") and (value.is_floating_point() or value.is_complex()):
        yield value


def dtype_name(tensor: Any) -> str:
    return getattr(tensor.dtype, "torch_name", None) or str(tensor.dtype).removeprefix("torch.")


def magnitude(tensor: Any) -> float:
    values = np.abs(tensor.detach().numpy())
    return float(np.max(values[np.isfinite(values)], initial=0.0))


def same(found: Any, expected: Any, what: str, tolerance: float) -> None:
    """Equal to within `tolerance` of the largest value of each tensor, or of a tenth of the largest of all: biases
    before a batch norm have gradients of nothing but roundings."""
    mine, theirs = list(tensors_in(found)), list(tensors_in(expected))
    assert len(mine) == len(theirs), what
    floor = 0.1 * max((magnitude(t) for t in theirs), default=0.0)
    for n, (a, b) in enumerate(zip(mine, theirs, strict=True)):
        assert tuple(a.shape) == tuple(b.shape), f"{what} {n}: shape {tuple(a.shape)} != {tuple(b.shape)}"
        assert dtype_name(a) == dtype_name(b), f"{what} {n}"
        x, y = a.detach().numpy(), b.detach().numpy()
        atol = tolerance * max(magnitude(b), floor)
        np.testing.assert_allclose(x, y, rtol=0, atol=atol, err_msg=f"{what} {n}")


def gradients(model: Any) -> dict[str, Any]:
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def forward_and_gradients(program: Any, call: Callable[..., Any], model: Any, inputs: Any, targets: Any) -> Any:
    """What the model gives, and the gradients of its loss."""
    for p in model.parameters():
        p.grad = None
    output = call(*inputs)
    program.loss(output, *targets).backward()
    return output, gradients(model)


def trained(program: Any, library: Any, model: Any, inputs: Any, targets: Any, compiled: bool) -> list[Any]:
    """What each of STEPS steps of training gives: the model's output, its loss and the gradients, or, of a file with
    steps of its own, the losses."""
    if hasattr(program, "train_step"):
        optimizers = program.optimizers(model)

        def step(inputs: Any, targets: Any) -> Any:
            return program.train_step(model, optimizers, inputs, targets)
    else:
        optimizer = library.optim.AdamW(model.parameters(), lr=1e-3, eps=1e-3)

        def step(inputs: Any, targets: Any) -> Any:
            optimizer.zero_grad()
            output = model(*inputs)
            loss = program.loss(output, *targets)
            loss.backward()
            found = [p.grad.clone() for p in model.parameters() if p.grad is not None]
            optimizer.step()
            return output, loss, found

    run = fb.compile(step) if compiled else step
    return [run(inputs, targets) for _ in range(STEPS)]


def to_torch(torch: Any, value: Any) -> Any:
    if isinstance(value, fb.Tensor):
        return torch.from_numpy(np.array(value.detach().numpy())).requires_grad_(value.requires_grad)
    if isinstance(value, (tuple, list)):
        return type(value)(to_torch(torch, each) for each in value)
    if isinstance(value, dict):
        return type(value)({key: to_torch(torch, each) for key, each in value.items()})
    return value
