"""What kernels ask memory for, counted by the emulator in sectors of 32 bytes for each access of a warp, against what there
is to be read and written once. A count, no measurement of speed."""
from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import flambeau as fb
import flambeau.nn.functional as F
from flambeau import optim
from flambeau.backends.cuda import backend
from flambeau.codegen.cuda.emulator import emulate
from flambeau.codegen.cuda.lockstep import Sectors

SMALL = 1 / 6       # of a kernel's memory: smaller buffers (weights of a norm) are asked for again, and the cache has them


def traffic(monkeypatch: pytest.MonkeyPatch, run: Callable[[], object]) -> list[float]:
    """For each launch, bytes asked for by bytes that are there to be moved."""
    found: list[float] = []

    def counted(text: object, buffers: list[np.ndarray], sizes: object, status: np.ndarray) -> None:
        sectors = Sectors()
        emulate(text, buffers, sizes, status, sectors=sectors)                  # type: ignore[arg-type]
        there = {name: 32 * len(touched) for name, touched in sectors.touched.items()}
        whole = sum(there.values())
        asked = sum(sectors.asked[name] if there[name] > SMALL * whole else there[name] for name in there)
        if whole >= 32768:                                                      # the rest is a matter of launches
            found.append(asked / whole)

    with monkeypatch.context() as patch:
        patch.setattr(backend, "emulate", counted)
        run()
    return found


def gradients(f: Callable[..., fb.Tensor]) -> Callable[..., list[fb.Tensor | None]]:
    def g(*args: fb.Tensor) -> list[fb.Tensor | None]:
        inputs = [x.detach().requires_grad_() if x.dtype.is_floating_point else x for x in args]
        f(*inputs).sum().backward()
        return [x.grad for x in inputs if x.requires_grad]

    return g


def adamw() -> Callable[[fb.Tensor], None]:
    weight = fb.nn.Parameter(fb.zeros(20_000))
    optimizer = optim.AdamW([weight], lr=1e-3)

    def update(gradient: fb.Tensor) -> None:
        weight.grad = gradient
        optimizer.step()

    return update


ROWS, WEIGHT, LONG = (64, 512), (512,), (8, 4096)
CASES: dict[str, tuple[Callable[..., object], list[tuple[int, ...]]]] = {
    "gelu": (F.gelu, [ROWS]), "sum": (lambda x: x.sum(), [(64, 1000)]), "columns": (lambda x: x.sum(0), [(256, 128)]),
    "softmax": (lambda x: F.softmax(x, 1), [ROWS]), "long softmax": (lambda x: F.softmax(x, 1), [LONG]),
    "softmax backward": (gradients(lambda x: F.softmax(x, 1).pow(2)), [ROWS]),
    "norm": (lambda x, w, b: F.layer_norm(x, WEIGHT, w, b), [ROWS, WEIGHT, WEIGHT]),
    "norm backward": (gradients(lambda x, w, b: F.layer_norm(x, WEIGHT, w, b).pow(2)), [ROWS, WEIGHT, WEIGHT]),
    "cross entropy": (gradients(lambda x: F.cross_entropy(x, fb.zeros(64).to(fb.int64))), [ROWS]),
    "batch norm": (lambda x: F.batch_norm(x, None, None, training=True), [(8, 16, 16, 16)]),
    "transpose": (lambda x: x.t().contiguous(), [(128, 256)]),
    "heads": (lambda x: x.reshape(4, 32, 4, 64).permute(0, 2, 1, 3).contiguous(), [(4, 32, 256)]),
    "images": (lambda x: x.permute(0, 2, 3, 1).contiguous(), [(2, 64, 16, 32)]),
    "dropout": (lambda x: F.dropout(x, 0.5), [ROWS]), "adamw": (adamw(), [(20_000,)]),
    "gather": (lambda x: x[fb.tensor([5, 1, 7, 5] * 16)], [ROWS]),
    "argmax": (lambda x: x.argmax(1), [ROWS]), "positions": (lambda x: fb.max(x, 1), [ROWS]),
}


@pytest.mark.parametrize("dtype", (fb.float32, fb.bfloat16), ids=str)
@pytest.mark.parametrize("name", CASES)
def test_memory_is_asked_for_what_there_is_once(name: str, dtype: fb.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    f, shapes = CASES[name]
    args = [fb.randn(*shape).to(fb.float32 if name == "adamw" else dtype) for shape in shapes]
    compiled = fb.compile(f, backend="cuda-emulator")
    found = traffic(monkeypatch, lambda: compiled(*args))
    assert found and max(found) <= 1.1, f"{name}: {[round(each, 2) for each in found]}"
