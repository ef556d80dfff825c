"""The examples run, learn, and are what their docstrings say."""

from __future__ import annotations

import importlib.util
import math
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import flambeau as fb

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
sys.path.append(str(EXAMPLES))              # as for a program that is run there


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up while the class is made
    spec.loader.exec_module(module)
    return module


def test_mlp_tells_the_spirals_apart() -> None:
    assert example("mlp").run(epochs=120, seed=0) > 0.97


@pytest.mark.parametrize(("dataset", "least"), [("Diag", 0.95), ("Xor", 0.9)])
def test_points_are_told_apart(dataset: str, least: float) -> None:
    assert example("points").run(dataset, epochs=80, seed=0) > least


def test_lenet_reads_drawn_digits() -> None:
    module = example("lenet")
    images, labels = module.images(20, np.random.default_rng(0))
    assert images.shape == (20, 1, 28, 28) and images.dtype == np.float32 and set(labels) <= set(range(10))
    assert len({glyph.tobytes() for glyph in module.GLYPHS}) == 10
    assert module.run(epochs=2, seed=0, n_train=1600) > 0.5


def test_sentences_are_judged_by_what_is_denied() -> None:
    module = example("sentiment")
    rng = np.random.default_rng(0)
    made = [module.sentence(True, rng) for _ in range(200)]
    assert max(map(len, made)) <= module.LENGTH and all("but" not in words or len(words) > 9 for words in made)
    assert module.run(epochs=6, seed=0) > 0.9


def test_digits_learns_in_two_epochs() -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    assert example("digits_cnn").run(epochs=2, seed=0) > 0.8


def test_transformer_learns_and_writes() -> None:
    module = example("char_transformer")
    text = module.Text(module.standard_library())
    config = module.Config(len(text.alphabet), context=32, width=32, heads=2, layers=1)
    loss, writing = module.run(steps=120, seed=0, batch_size=16, config=config)
    assert loss < 0.85 * math.log(config.n_characters)  # a blind guess costs log(n)
    assert writing.startswith("def ")
    assert len(writing) == len("def ") + 400


def test_transformer_looks_at_no_later_character() -> None:
    module = example("char_transformer")
    fb.manual_seed(0)
    config = module.Config(n_characters=11, context=8, width=16, heads=2, layers=2)
    model = module.CharTransformer(config)
    codes = np.random.default_rng(0).integers(0, 11, (1, 8))
    changed = codes.copy()
    changed[0, 5] = (codes[0, 5] + 1) % 11
    with fb.no_grad():
        before, after = (model(fb.from_numpy(array)).numpy()[0] for array in (codes, changed))
    np.testing.assert_array_equal(before[:5], after[:5])
    assert not np.allclose(before[5:], after[5:])


def test_text_survives_coding() -> None:
    module = example("char_transformer")
    text = module.Text("def f(): return 1\n")
    assert text.decode(text.codes) == "def f(): return 1\n"


def test_targets_are_the_next_characters() -> None:
    module = example("char_transformer")
    codes, targets = module.Text("abcdefghij" * 3).batch(4, 6, np.random.default_rng(0))
    assert codes.shape == targets.shape == (4, 6)
    np.testing.assert_array_equal(codes[:, 1:], targets[:, :-1])
