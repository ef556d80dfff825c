"""The demo as a person meets it: data, training, accuracy, what is printed and what is written."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import flambeau as fb

pytest.importorskip("sklearn", reason="scikit-learn is not installed")
pytest.importorskip("matplotlib", reason="matplotlib is not installed")

from flambeau import demo
from flambeau.demo import digits_cnn, show

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def digits() -> digits_cnn.Digits:
    return digits_cnn.load_digits()


def test_a_fifth_is_held_out_and_shares_no_scan(digits: digits_cnn.Digits) -> None:
    assert (len(digits.train_images), len(digits.test_images)) == (1437, 360)
    # The bundle holds no duplicate scans, so a scan on both sides would be a leak.
    trained = {image.tobytes() for image in digits.train_images}
    assert not trained & {image.tobytes() for image in digits.test_images}


def test_split_is_stratified(digits: digits_cnn.Digits) -> None:
    train, test = np.bincount(digits.train_labels), np.bincount(digits.test_labels)
    assert np.abs(test - (train + test) * 0.2).max() < 1


def test_pixels_are_scaled(digits: digits_cnn.Digits) -> None:
    assert digits.train_images.dtype == np.float32
    assert (digits.train_images.min(), digits.train_images.max()) == (0, 1)


def test_shifts_move_by_at_most_one_pixel_and_use_all_nine() -> None:
    image = np.zeros((1, 1, 8, 8), np.float32)
    image[0, 0, 4, 4] = 1
    moved = digits_cnn.shift_each(np.repeat(image, 500, axis=0), np.random.default_rng(0))
    places = {tuple(int(place) for place in np.argwhere(one[0])[0]) for one in moved}
    assert places == {(row, column) for row in (3, 4, 5) for column in (3, 4, 5)}
    assert moved.sum() == 500


def test_shift_brings_in_zeros_not_the_other_edge() -> None:
    ones = np.ones((200, 1, 8, 8), np.float32)
    moved = digits_cnn.shift_each(ones, np.random.default_rng(0))
    assert set(np.unique(moved.sum(axis=(1, 2, 3)))) == {49.0, 56.0, 64.0}


def test_an_epoch_deals_full_batches_without_repeats(digits: digits_cnn.Digits) -> None:
    dealt = list(digits_cnn.batches(digits, np.random.default_rng(0)))
    assert len(dealt) == digits.steps_per_epoch == 22
    assert {images.shape for images, _ in dealt} == {(64, 1, 8, 8)}


def test_compiled_training_equals_eager(digits: digits_cnn.Digits) -> None:
    """Five steps with dropout, batch norm, Adam and a moving learning rate: the same losses, one compilation."""

    def losses() -> list[float]:
        training = digits_cnn.make_training(seed=3, total_steps=5)
        steps = digits_cnn.train(training, digits, epochs=1, seed=3)
        return [step.loss for _, step in zip(range(5), steps, strict=False)]

    compiled = losses()
    with fb.config.set(disable_jit=True):
        eager = losses()
    # Sums of up to 4096 f32 terms in another order, then five steps that Adam's normalisation may amplify.
    np.testing.assert_allclose(compiled, eager, rtol=4096 * np.finfo(np.float32).eps)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_accuracy_is_at_least_98_percent(digits: digits_cnn.Digits, seed: int) -> None:
    training = digits_cnn.make_training(seed, digits_cnn.EPOCHS * digits.steps_per_epoch)
    for _ in digits_cnn.train(training, digits, digits_cnn.EPOCHS, seed):
        pass
    assert training.train_step.stats().recompiles == 0
    accuracy = np.mean(digits_cnn.predict(training, digits.test_images) == digits.test_labels)
    assert accuracy >= 0.98


def test_demo_tells_and_writes_everything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert demo.main(["--epochs", "1", "--out", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith("test accuracy: ")
    assert lines[-1].endswith("%")
    assert "What the compiler did" in lines
    for name in ("loss.png", "digits.png", "forward.png", "backward.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    dumps = sorted((tmp_path / "ir").iterdir())
    assert [dump.stem.split("-")[1] for dump in dumps] == [*show.IR_LEVELS, *show.CODE_LEVELS["cpu"]]
    assert all(dump.stat().st_size > 100 for dump in dumps)


def test_demo_refuses_zero_epochs() -> None:
    with pytest.raises(SystemExit) as left:
        demo.main(["--epochs", "0"])
    assert left.value.code == 2


def test_demo_tells_scripts_in_json(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(show, "run", lambda *_: print("told") or 98.5)
    assert demo.main(["--epochs", "1", "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["test_accuracy"] == 0.985 and captured.err == "told\n"


def _listen_to_sigint() -> None:
    """A shell's background jobs ignore SIGINT, and hand that down to what they start."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_ctrl_c_ends_the_demo_with_130_and_no_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "flambeau", "demo", "--epochs", "10000", "--out", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    running = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=_listen_to_sigint,
    )
    assert running.stdout is not None
    assert "handwritten digits" in running.stdout.readline()
    time.sleep(1.5)
    running.send_signal(signal.SIGINT)
    _, complaints = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "Traceback" not in complaints
