"""Tensors of the CPU beside those on "cuda": what is refused with PyTorch's words, and what goes along."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

import flambeau as fb
import flambeau.nn.functional as F
from flambeau import config, nn
from flambeau.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

CUDA = fb.device("cuda:0")


@pytest.fixture(autouse=True)
def emulated() -> Iterator[None]:
    with config.set(cuda="emulator"):
        yield


INDEXED: dict[str, Callable[[fb.Tensor, fb.Tensor], Any]] = {
    "places": lambda here, at: here[at], "mask": lambda here, at: here[at > 0], "two": lambda here, at: here[None][:, at],
    "write": lambda here, at: here.__setitem__(at, 1.0), "write by mask": lambda here, at: here.__setitem__(at > 0, 1.0),
    "put": lambda here, at: here.index_put((at,), fb.ones(1)),
    "put in place": lambda here, at: here.index_put_((at,), fb.ones(1)),
}


@pytest.mark.parametrize("name", INDEXED)
def test_indices_of_a_device_find_nothing_on_the_cpu(name: str) -> None:
    here = fb.arange(3.0)
    with pytest.raises(RuntimeError, match="indices should be either on cpu or on the same device as the indexed tensor"):
        INDEXED[name](here, fb.tensor([1, 0, 2], device="cuda"))
    assert here.tolist() == [0.0, 1.0, 2.0]


def test_an_index_without_dims_is_a_number_wherever_it_lies() -> None:
    here, at, there = fb.arange(3.0), fb.tensor(1, device="cuda"), fb.tensor([5.0, 6.0], device="cuda")
    assert here[at].device == "cpu" and here[at].item() == 1.0
    here[at] = there[1]
    here[fb.tensor([0])] = there[0]
    assert here.tolist() == [5.0, 6.0, 2.0] and here.device == "cpu"


def test_results_are_written_where_they_lie() -> None:
    there, here = fb.ones(3, device="cuda"), fb.ones(3)
    with pytest.raises(RuntimeError, match="Expected out tensor to have device cuda:0, but got cpu instead"):
        fb.add(there, there, out=here)
    assert here.tolist() == [1.0, 1.0, 1.0]
    assert fb.add(there, 1, out=there).tolist() == [2.0, 2.0, 2.0]
    assert fb.arange(3.0, out=there).device == CUDA and there.tolist() == [0.0, 1.0, 2.0]


def test_gradients_start_where_the_result_lies() -> None:
    x = fb.ones(3, device="cuda", requires_grad=True)
    with pytest.raises(RuntimeError, match="invalid gradient at index 0 - expected device cuda:0 but got cpu"):
        (x * 2).backward(fb.ones(3))
    with pytest.raises(RuntimeError, match="invalid gradient at index 0 - expected device cuda:0 but got cpu"):
        fb.autograd.grad(x * 2, x, fb.ones(3))
    (x * 2).sum().backward(fb.tensor(3.0))
    assert x.grad is not None and x.grad.device == CUDA and x.grad.tolist() == [6.0, 6.0, 6.0]


def test_tensors_of_a_device_in_lists() -> None:
    x = fb.tensor([1.0, 2.0], device="cuda")
    made = fb.tensor([[x[0], 3], (x[1], 4.0)])
    assert made.device == "cpu" and made.tolist() == [[1.0, 3.0], [2.0, 4.0]]
    assert fb.tensor([x[0], x[1]], device="cuda").device == CUDA


def test_type_as_moves() -> None:
    x = fb.ones(2, device="cuda", dtype=fb.float64)
    assert fb.ones(2).type_as(x).device == CUDA and fb.ones(2).type_as(x).dtype == fb.float64
    assert x.type_as(fb.ones(2)).device == "cpu"


@pytest.mark.parametrize("lengths", [[3, 2], [2, 3], [3, 3]])
def test_packed_sequences(lengths: list[int]) -> None:
    layer, results = nn.GRU(2, 2, batch_first=True), {}
    for device in ("cpu", "cuda"):
        layer.to(device)
        x = fb.arange(12.0, device=device).reshape(2, 3, 2)
        packed = pack_padded_sequence(x, fb.tensor(lengths), batch_first=True, enforce_sorted=False)
        assert packed.batch_sizes.device == "cpu" and packed.data.device == packed.unsorted_indices.device == x.device
        output, last = layer(packed)
        padded, found = pad_packed_sequence(output, batch_first=True)
        assert padded.device == x.device and found.device == "cpu" and found.tolist() == lengths
        results[device] = fb.cat([padded.flatten(), last.flatten()]).cpu()
    assert fb.allclose(results["cpu"], results["cuda"], atol=1e-6)


def test_ctc_loss_takes_lengths_of_the_cpu() -> None:
    scores, results = fb.linspace(-1, 1, 24).reshape(4, 2, 3), {}
    for device in ("cpu", "cuda"):
        x = scores.to(device, copy=True).requires_grad_()
        targets = fb.tensor([[1, 2], [1, 1]], device=device)
        loss = F.ctc_loss(x.log_softmax(2), targets, fb.tensor([4, 3]), fb.tensor([2, 1]))
        loss.backward()
        assert x.grad is not None and loss.device == x.grad.device == x.device
        results[device] = fb.cat([loss.detach().reshape(1), x.grad.flatten()]).cpu()
    assert fb.allclose(results["cpu"], results["cuda"], atol=1e-6)


def test_complex_tensors_move_and_say_where_they_lie() -> None:
    z = fb.tensor([1 + 2j, 3 - 1j])
    there = z.cuda()
    assert there.device == CUDA and z.cuda(1).device == "cuda:1" and there.cuda() is there and z.cpu() is z
    assert there.cpu().device == "cpu" and there.cpu().numpy().tolist() == [1 + 2j, 3 - 1j]
    assert repr(there) == "tensor([1.+2.j, 3.-1.j], device='cuda:0')"
    assert z.type_as(there).device == CUDA and fb.ones(2).type_as(there).device == CUDA and there.type_as(z).device == "cpu"


@pytest.mark.parametrize("default", ["cpu", "cuda:1"])
@pytest.mark.parametrize("device", ["cpu", "cuda:0"])
def test_what_a_method_makes_lies_where_its_tensor_does(device: str, default: str) -> None:
    x = fb.ones(3, 4, device=device)
    try:
        fb.set_default_device(default)
        made = [x.new(), x.new(2), x.new([1.0, 2.0]), x.new(2, 3), x.as_strided((0,), (1,)), x.new_zeros(2)]
    finally:
        fb.set_default_device(None)
    assert [t.device for t in made] == [device] * len(made)


def test_names_of_types_say_the_device() -> None:
    x = fb.ones(2)
    there = x.type("torch.cuda.DoubleTensor")
    assert there.device == CUDA and there.type() == "flambeau.cuda.DoubleTensor"
    assert there.type(there.type()) is there and there.type(x.type()).device == "cpu"
    assert fb.device(0) == CUDA and fb.device(1) == fb.device("cuda:1")
