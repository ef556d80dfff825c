"""Random programs whose tensors lie on the CPU and on an emulated GPU, and the registry's samples there; and what they
found."""
from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from device_programs import compiled_difference, difference, generated
from device_samples import registry, registry_difference

import flambeau as fb
from flambeau import config
from flambeau.ir.op import OPS, Sample

SECONDS = 4.0


@pytest.fixture(autouse=True)
def emulated() -> Iterator[None]:
    with config.set(cuda="emulator"):
        yield


def test_random_programs_agree_with_the_cpu() -> None:
    end, seed = time.monotonic() + SECONDS, 0
    while seed < 60 and (time.monotonic() < end or seed < 5):
        program = generated(seed)
        assert (told := difference(program)) is None, f"{program}\n{told}"
        if seed % 2:
            assert (told := compiled_difference(program)) is None, f"{program}\n{told}"
        seed += 1


def first_samples() -> list[Sample]:
    """The smallest sample of each op."""
    found: dict[str, Sample] = {}
    for _, sample in registry(list(OPS)):
        known = found.get(sample.op.name)
        if known is None or 0 < sum(t.numel for t in sample.types) < sum(t.numel for t in known.types):
            found[sample.op.name] = sample
    return list(found.values())


@pytest.mark.parametrize("part", range(4))
def test_samples_of_the_registry_run_eagerly_on_the_device(part: int) -> None:
    for sample in first_samples()[part::4]:
        assert (told := registry_difference(sample)) is None, f"{sample.op!r} of {sample.types}: {told}"


def test_a_write_of_no_elements_touches_nothing() -> None:
    x = fb.ones(2, 3, device="cuda")
    x[x > 5] = 1                            # a program without launches, once taken for one over the host's memory
    x[:, 3:].copy_(x[:, 3:])
    x.copy_(x.T.T)
    assert x.tolist() == [[1.0] * 3] * 2
    assert fb.zeros(1, 0, device="cuda")[1:].tolist() == [] and x[2:].cpu().shape == (0, 3)


def test_positions_in_what_has_no_dims_lie_where_it_does() -> None:
    x = fb.tensor(2.0, device="cuda")
    for found in (x.min(0), x.max(0), x.cummax(0), x.aminmax(), fb.histogram(x[None], 3, range=(0.0, 1.0))):
        assert {t.device for t in found} == {fb.device("cuda:0")}
    assert x.argmax(0).device == "cuda:0"


def test_what_is_written_into_a_tensor_of_the_device_stays_there() -> None:
    def f(x: fb.Tensor) -> tuple[fb.Tensor, fb.Tensor]:
        x.zero_()                           # by what has no place of its own
        return x + 2, x[0]

    a, b = fb.compile(f)(fb.ones(3, device="cuda"))
    assert a.device == b.device == "cuda:0" and a.tolist() == [2.0] * 3
