"""Tensors on "cuda", which the emulated device plays: what lies where, what is refused, and that numbers are the CPU's."""
from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import flambeau as fb
import flambeau.nn.functional as F
from flambeau import config, nn, optim
from flambeau.errors import UnsupportedError
from flambeau.frontend.tape import device_ops

CUDA = fb.device("cuda:0")


@pytest.fixture(autouse=True)
def emulated() -> Iterator[None]:
    with config.set(cuda="emulator"):
        yield


def same(found: fb.Tensor, *numbers: Any) -> None:
    assert found.device == CUDA
    np.testing.assert_allclose(found.tolist(), numbers[0] if len(numbers) == 1 else list(numbers), rtol=1e-6)


# -- where tensors lie ------------------------------------------------------------------------------------------------


FACTORIES: list[Callable[..., fb.Tensor]] = [
    lambda **k: fb.zeros(2, 3, **k), lambda **k: fb.ones((2,), **k), lambda **k: fb.empty(3, **k),
    lambda **k: fb.full((2,), 7, **k), lambda **k: fb.tensor([1, 2], **k), lambda **k: fb.as_tensor(np.ones(2), **k),
    lambda **k: fb.arange(5, **k), lambda **k: fb.linspace(0, 1, 3, **k), lambda **k: fb.logspace(0, 1, 3, **k),
    lambda **k: fb.eye(3, **k), lambda **k: fb.rand(2, **k), lambda **k: fb.randn(2, **k),
    lambda **k: fb.randint(5, (3,), **k), lambda **k: fb.randperm(4, **k), lambda **k: fb.hann_window(4, **k),
    lambda **k: fb.tril_indices(3, 3, **k), lambda **k: fb.scalar_tensor(2.0, **k), lambda **k: fb.asarray([1.0], **k),
    lambda **k: fb.empty_strided((2, 2), (2, 1), **k), lambda **k: fb.normal(0.0, 1.0, (2,), **k),
    lambda **k: fb.fft.fftfreq(4, **k),
]


@pytest.mark.parametrize("make", FACTORIES)
def test_factories_make_what_they_make_on_the_cpu_there(make: Callable[..., fb.Tensor]) -> None:
    fb.manual_seed(3)
    here = make()
    fb.manual_seed(3)
    there = make(device="cuda")
    assert there.device == CUDA and here.device == "cpu"
    assert there.tolist() == here.tolist() and there.dtype is here.dtype
    fb.manual_seed(3)
    with fb.device("cuda"):
        assert make().tolist() == here.tolist() and make().device == CUDA
        assert make(device="cpu").device == "cpu"
    assert make().device == "cpu"


def test_devices_are_named_as_in_pytorch() -> None:
    for device in ("cuda", "cuda:0", fb.device("cuda"), fb.device("cuda", 0), 0):
        x = fb.zeros(2, device=device)
        assert x.device == CUDA and x.is_cuda and not x.is_cpu and x.get_device() == 0
    assert fb.zeros(1, device="cuda:1").device == "cuda:1"
    assert not fb.zeros(1).is_cuda and fb.zeros(1).get_device() == -1
    with pytest.raises(RuntimeError, match="Invalid device string"):
        fb.zeros(1, device="cuda:x")
    with pytest.raises(RuntimeError, match="invalid device ordinal"):
        fb.zeros(1, device="cuda:7")
    with pytest.raises(UnsupportedError, match="'mps' is not available"):
        fb.zeros(1, device="mps")


def test_default_device() -> None:
    assert fb.get_default_device() == "cpu"
    fb.set_default_device("cuda")
    try:
        assert fb.get_default_device() == CUDA and fb.ones(2).device == CUDA and nn.Linear(2, 2).weight.device == CUDA
        with fb.device("cpu"):
            assert fb.ones(2).device == "cpu"
        assert fb.zeros_like(fb.ones(2, device="cpu")).device == "cpu" and fb.from_numpy(np.ones(1)).device == "cpu"
    finally:
        fb.set_default_device(None)
    assert fb.ones(2).device == "cpu"


def test_moves() -> None:
    x = fb.arange(6.0).reshape(2, 3)
    for there in (x.to("cuda"), x.cuda(), x.to(device="cuda"), x.to("cuda", fb.float64), x.to(fb.ones(1, device="cuda")),
                  x.to("cuda", non_blocking=True), x.cuda(0)):
        same(there, x.tolist())
        assert there.cpu().device == "cpu" and there.cpu().tolist() == x.tolist()
    there = x.to("cuda")
    assert there.to("cuda") is there and there.cuda() is there and x.cpu() is x
    assert there.to("cuda", copy=True) is not there
    same(x.T.to("cuda"), x.T.tolist())
    assert there.T.cpu().tolist() == x.T.tolist() and there[:, 1].cpu().tolist() == [1.0, 4.0]
    same(there[1:].to("cuda:1").to("cuda:0"), [[3.0, 4.0, 5.0]])
    with pytest.raises(ValueError, match="must be cuda device"):
        x.cuda("cpu")


def test_gradients_come_back_to_where_the_leaf_lies() -> None:
    here = fb.tensor([1.0, 2.0], requires_grad=True)
    (here.to("cuda") * fb.tensor([3.0, 4.0], device="cuda")).sum().backward()
    assert here.grad is not None and here.grad.device == "cpu" and here.grad.tolist() == [3.0, 4.0]
    there = fb.tensor([1.0, 2.0], device="cuda", requires_grad=True)
    (there.cpu() ** 2).sum().backward()
    assert there.grad is not None
    same(there.grad, 2.0, 4.0)
    there.sum().backward()
    same(there.grad, 3.0, 5.0)


def test_what_reads_a_tensor_reads_it_where_it_is() -> None:
    x = fb.tensor([[1.0, 2.5], [3.0, 4.0]], device="cuda")
    assert repr(x) == "tensor([[1. , 2.5],\n        [3. , 4. ]], device='cuda:0')"
    assert repr(fb.tensor(1.0, device="cuda", dtype=fb.float64)) == "tensor(1., device='cuda:0', dtype=flambeau.float64)"
    assert x[1, 1].item() == 4.0 and bool(x.any()) and float(x[0, 0]) == 1.0 and 2.5 in x and len(x) == 2
    assert [row.tolist() for row in x] == x.tolist()
    assert x.stride() == (2, 1) and x.T.stride() == (1, 2) and x.is_contiguous() and not x.T.is_contiguous()
    assert x[1].storage_offset() == 2 and x[1].data_ptr() == x.data_ptr() + 8 and x.T.data_ptr() == x.data_ptr()
    with pytest.raises(TypeError, match="can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu"):
        x.numpy()
    with pytest.raises(TypeError, match="can't convert cuda:0"):
        np.asarray(x)
    assert x.numpy(force=True).tolist() == x.tolist() and not x._data().flags.writeable
    assert fb.view_as_complex(x).tolist() == [1 + 2.5j, 3 + 4j] and fb.view_as_complex(x).device == CUDA
    assert x.view(fb.int32).view(fb.float32).tolist() == x.tolist()


def test_new_and_like_lie_where_their_tensor_does() -> None:
    x = fb.ones(2, device="cuda")
    for made in (fb.zeros_like(x), fb.ones_like(x), fb.full_like(x, 2), fb.empty_like(x), fb.rand_like(x), fb.randn_like(x),
                 x.new_zeros(3), x.new_ones(()), x.new_full((2,), 1), x.new_empty(2), x.new_tensor([1.0]), x.new(2),
                 fb.randint_like(x, 5), x.clone(), x.isnan(), x.long().isfinite(), fb.nonzero(x), x.unique()):
        assert made.device == CUDA
    assert fb.zeros_like(x, device="cpu").device == "cpu" and x.new_tensor([1.0], device="cpu").device == "cpu"


# -- several devices --------------------------------------------------------------------------------------------------


MIXED: dict[str, Callable[[fb.Tensor, fb.Tensor], Any]] = {
    "operator": lambda x, y: x + y, "reflected": lambda x, y: y * x, "function": lambda x, y: fb.maximum(x, y),
    "in place": lambda x, y: x.add_(y), "matmul": lambda x, y: x @ y, "cat": lambda x, y: fb.cat([x, y]),
    "where": lambda x, y: fb.where(x > 0, x, y), "loss": lambda x, y: F.mse_loss(x, y), "other device": lambda x, y:
        x + y.to("cuda:1"), "layer": lambda x, y: F.linear(x[None], y[None]),
    "parameters": lambda x, y: nn.Linear(2, 2)(x), "einsum": lambda x, y: fb.einsum("i,i->", x, y),
}


@pytest.mark.parametrize("name", MIXED)
def test_tensors_of_two_devices_don_t_mix(name: str) -> None:
    x, y = fb.ones(2, device="cuda"), fb.ones(2)
    with pytest.raises(RuntimeError, match="Expected all tensors to be on the same device, but found at least two devices"):
        MIXED[name](x, y)


def test_numbers_of_the_cpu_mix() -> None:
    x = fb.tensor([1.0, 2.0], device="cuda")
    same(x * fb.tensor(2.0), 2.0, 4.0)
    same(fb.tensor(3) + x, 4.0, 5.0)
    same(fb.where(x > 1, x, fb.tensor(0.0)), 0.0, 2.0)
    x.mul_(fb.tensor(2.0))
    same(x, 2.0, 4.0)
    same(fb.tensor([2**60], device="cuda") + fb.tensor(2**60 + 1), [2**61 + 1])


def test_copies_and_indices_cross_devices() -> None:
    x, y = fb.zeros(3, device="cuda"), fb.tensor([1.0, 2.0, 3.0])
    same(x.copy_(y), 1.0, 2.0, 3.0)
    here = fb.zeros(3)
    assert here.copy_(x).tolist() == [1.0, 2.0, 3.0] and here.device == "cpu"
    x[1:] = y[:2]
    same(x, 1.0, 1.0, 2.0)
    same(x[fb.tensor([2, 0])], 2.0, 1.0)
    x[fb.tensor([True, False, True])] = 9
    same(x, 9.0, 1.0, 9.0)


# -- eager ------------------------------------------------------------------------------------------------------------


def test_views_share_memory_and_are_part_of_the_program() -> None:
    x = fb.arange(24.0, device="cuda").reshape(2, 3, 4)
    expected = fb.arange(24.0).reshape(2, 3, 4)
    view, here = x.transpose(0, 2)[1:, ::2], expected.transpose(0, 2)[1:, ::2]
    same(view * 2 + view, (here * 3).tolist())
    view.mul_(10)
    here.mul_(10)
    same(x, expected.tolist())
    x[0, 1] = x[1, 2]
    expected[0, 1] = expected[1, 2]
    x[:, 0] = x[:, 0].flip(0)
    expected[:, 0] = expected[:, 0].flip(0)
    x.diagonal(dim1=1, dim2=2).zero_()
    expected.diagonal(dim1=1, dim2=2).zero_()
    same(x, expected.tolist())
    with pytest.raises(UnsupportedError, match="share memory"):
        fb.zeros(1, device="cuda").expand(3).add_(1)


def test_views_follow_their_memory_whatever_became_of_their_base() -> None:
    base = fb.ones(2, 3, device="cuda")
    view = base[:, 1:]
    base.unsqueeze_(0)
    view.mul_(3)
    same(view + 1, [[4.0, 4.0]] * 2)
    same(base, [[[1.0, 3.0, 3.0]] * 2])
    assert view.stride() == (3, 1) and base.stride() == (6, 3, 1) and view.storage_offset() == 1


def test_gradients_of_what_no_gradient_reaches_lie_there() -> None:
    x = fb.ones(2, device="cuda", requires_grad=True)
    y = fb.ones(3, device="cuda", requires_grad=True)
    gradients = fb.autograd.grad((fb.fill(x, 2.0) + x.detach()).sum(), [x, y], allow_unused=True, materialize_grads=True)
    assert [g.tolist() for g in gradients] == [[0.0] * 2, [0.0] * 3] and all(g.device == CUDA for g in gradients)


def test_programs_are_kept_by_op_and_types() -> None:
    x = fb.ones(3, device="cuda")
    x * 2
    count = len(device_ops._programs)
    for number in (3, 4.5, -0.0):
        x * number
    (x + 1)[0:2]
    x[0:2] * 2
    known = len(device_ops._programs)
    assert known <= count + 2
    x[1:3] * 2
    x + 5
    assert len(device_ops._programs) <= known + 1


def test_versions_count_writes() -> None:
    x = fb.ones(3, device="cuda")
    y = x[1:]
    y.add_(1)
    x.zero_()
    assert x._version == y._version == 2
    w = fb.ones(2, device="cuda", requires_grad=True)
    squared = w * w
    loss = (squared * squared).sum()
    squared.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_streams_of_random_numbers_are_the_cpus() -> None:
    draws: list[Callable[[Any], fb.Tensor]] = [
        lambda d: fb.rand(5, device=d), lambda d: fb.randn(3, device=d), lambda d: fb.randint(9, (4,), device=d),
        lambda d: fb.randperm(5, device=d), lambda d: F.dropout(fb.ones(8, device=d)),
        lambda d: fb.zeros(3, device=d).normal_(),
        lambda d: fb.bernoulli(fb.full((6,), 0.5, device=d)), lambda d: fb.multinomial(fb.ones(4, device=d), 2),
        lambda d: fb.empty(3, device=d).uniform_(-1, 1), lambda d: fb.empty(2, device=d).exponential_()]
    found = {}
    for device in ("cpu", "cuda"):
        fb.manual_seed(11)
        found[device] = [draw(device) for draw in draws]
    for here, there in zip(found["cpu"], found["cuda"], strict=True):
        assert there.device == CUDA
        np.testing.assert_allclose(there.tolist(), here.tolist(), rtol=1e-6)


def test_generators_belong_to_a_device() -> None:
    here, there = fb.Generator().manual_seed(5), fb.Generator(device="cuda").manual_seed(5)
    assert there.device == CUDA and here.device == "cpu"
    assert fb.rand(4, generator=here).tolist() == fb.rand(4, generator=there, device="cuda").tolist()
    with pytest.raises(RuntimeError, match="Expected a 'cuda' device type for generator but found 'cpu'"):
        fb.rand(2, generator=here, device="cuda")
    state = there.get_state()
    assert state.device == "cpu"
    drawn = fb.rand(3, generator=there, device="cuda").tolist()
    there.set_state(state)
    assert fb.rand(3, generator=there, device="cuda").tolist() == drawn
    fb.rand(1, device="cuda")
    with fb.random.fork_rng():
        first = fb.rand(2, device="cuda").tolist()
    assert fb.rand(2, device="cuda").tolist() == first


# -- compiled ---------------------------------------------------------------------------------------------------------


def test_compiled_functions_follow_their_tensors() -> None:
    @fb.compile
    def affine(x: fb.Tensor, y: fb.Tensor) -> tuple[fb.Tensor, fb.Tensor]:
        return x @ y + 1, x.sum()

    x, y = fb.arange(6.0).reshape(2, 3), fb.ones(3, 2)
    for _ in range(2):
        for given in ((x, y), (x.cuda(), y.cuda()), (x.cuda().T.clone().T, y.cuda().T.clone().T)):
            product, total = affine(*given)
            assert product.tolist() == (x @ y + 1).tolist() and total.item() == 15.0
            assert product.device == total.device == given[0].device
    assert len(affine.signatures) == 2 and "@cuda:0" in affine.ir("graph")


def test_factories_in_compiled_functions() -> None:
    @fb.compile
    def f(x: fb.Tensor) -> tuple[fb.Tensor, ...]:
        mask = fb.arange(3, device=x.device) > 0
        return x.to(x.device) * mask, fb.zeros(2, device="cuda"), fb.arange(2), x.new_ones(2) + fb.ones_like(x)[:2]

    masked, zeros, here, ones = f(fb.ones(3, device="cuda"))
    same(masked, 0.0, 1.0, 1.0)
    same(zeros, 0.0, 0.0)
    same(ones, 2.0, 2.0)
    assert here.device == "cpu" and here.tolist() == [0, 1]
    made = fb.compile(lambda: fb.full((2,), 3.0, device="cuda"))
    same(made(), 3.0, 3.0)
    same(made(), 3.0, 3.0)


def this_line(error: Any) -> bool:
    return "test_cuda_tensors.py:" in (error.value.where or "")


def test_moves_in_compiled_functions_are_refused_with_the_line() -> None:
    x, here = fb.ones(3, device="cuda"), fb.ones(3)
    with pytest.raises(UnsupportedError, match=r"f32\[3\]@cuda:0 was moved to 'cpu' in a compiled function") as e:
        fb.compile(lambda x: x.cpu())(x)
    assert this_line(e) and "before the call" in (e.value.hint or "")
    with pytest.raises(UnsupportedError, match=r"f32\[3\] was moved to 'cuda:0' in a compiled function") as e:
        fb.compile(lambda x: x.cuda())(here)
    assert this_line(e)
    with pytest.raises(UnsupportedError, match="argument 1 lies on 'cpu', but argument 0 on 'cuda:0'") as e:
        fb.compile(lambda x, y: x + y)(x, here)
    assert this_line(e)
    with pytest.raises(UnsupportedError, match=r"f32\[2\]@cuda:0 is made in a function of tensors on 'cpu'") as e:
        fb.compile(lambda x: (x, fb.ones(2, device="cuda")))(here)
    assert this_line(e)
    with pytest.raises(RuntimeError, match="Expected all tensors to be on the same device"):
        fb.compile(lambda x: x + here)(x)


def test_results_of_compiled_functions_are_differentiated_there() -> None:
    f = fb.compile(lambda x, w: (x * w).tanh().sum() * 2)
    grads = {}
    for device in ("cpu", "cuda"):
        x = fb.tensor([0.5, -1.0], device=device, requires_grad=True)
        w = fb.tensor([2.0, 3.0], device=device, requires_grad=True)
        f(x, w).backward()
        f(x, w).backward()
        assert x.grad is not None and w.grad is not None and x.grad.device == x.device
        first, = fb.autograd.grad(f(x, w), [x], create_graph=True)
        second, = fb.autograd.grad(first.sum(), [x])
        grads[device] = [*x.grad.tolist(), *w.grad.tolist(), *second.tolist()]
    np.testing.assert_allclose(grads["cuda"], grads["cpu"], rtol=1e-5)


def test_written_arguments_and_captured_state() -> None:
    count = fb.zeros(2, device="cuda")

    @fb.compile
    def f(x: fb.Tensor) -> fb.Tensor:
        x.mul_(2)
        count.add_(1)
        return x + count

    whole = fb.ones(4, 2, device="cuda")
    same(f(whole[1]), 3.0, 3.0)
    same(f(whole[1]), 6.0, 6.0)
    same(f(whole.T[:, 2]), 5.0, 5.0)
    same(whole[:3], [[1.0, 1.0], [4.0, 4.0], [2.0, 2.0]])
    same(count, 3.0, 3.0)


CONTROL: dict[str, Callable[[fb.Tensor], Any]] = {
    "cond": lambda x: fb.cond(x.sum() > 0, lambda: x * 2, lambda: x),
    "while": lambda x: fb.while_loop(lambda a: a.sum() < 20, lambda a: (a + 1,), (x,))[0],
    "counted": lambda x: fb.while_loop(lambda i, a: i < 3, lambda i, a: (i + 1, a + i), (fb.tensor(0), x))[1],
    "scan": lambda x: fb.scan(lambda c, a: (c + a, c * 2), fb.zeros(2, device=x.device), x)[1],
    "vmap": lambda x: fb.vmap(lambda a: a.sum() * fb.ones(2, device=x.device))(x),
    "grad": lambda x: fb.func.grad(lambda a: (a * a).sum())(x),
    "checkpoint": lambda x: fb.utils.checkpoint.checkpoint(lambda a: F.dropout(a, 0.5) * 2, x, use_reentrant=False)}


@pytest.mark.parametrize("name", CONTROL)
def test_control_flow_and_transforms(name: str) -> None:
    for compiled in (False, True):
        found = {}
        for device in ("cpu", "cuda"):
            fb.manual_seed(1)
            given = fb.tensor([[1.0, -2.0], [3.0, 4.0]], device=device, requires_grad=name not in ("while", "counted"))
            result = (fb.compile(CONTROL[name]) if compiled else CONTROL[name])(given)
            assert result.device.type == device
            found[device] = [result.tolist()]
            if result.requires_grad:
                result.sum().backward()
                assert given.grad is not None and given.grad.device == given.device
                found[device].append(given.grad.tolist())
        for here, there in zip(found["cpu"], found["cuda"], strict=True):
            np.testing.assert_allclose(there, here, rtol=1e-6)


def test_moves_under_transforms_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="moved to 'cpu' in a function under a transform"):
        fb.vmap(lambda a: a.cpu() + 1)(fb.ones(2, 3, device="cuda"))


# -- training ---------------------------------------------------------------------------------------------------------


class Net(nn.Module):
    def __init__(self, device: Any = None) -> None:
        super().__init__()
        self.first, self.norm = nn.Linear(3, 4, False, device), nn.BatchNorm1d(4, device=device)
        self.second = nn.Linear(4, 2, device=device)

    def forward(self, x: fb.Tensor) -> fb.Tensor:
        return self.second(F.dropout(F.gelu(self.norm(self.first(x))), 0.3, self.training))


OPTIMIZERS: dict[str, Callable[[Any], optim.Optimizer]] = {
    "sgd": lambda p: optim.SGD(p, lr=0.1, momentum=0.9), "adamw": lambda p: optim.AdamW(p, lr=0.05),
    "rmsprop": lambda p: optim.RMSprop(p, lr=0.01)}


def trained(device: str, compiled: bool, name: str) -> list[Any]:
    fb.manual_seed(2)
    net = Net().to(device)
    opt = OPTIMIZERS[name](net.parameters())
    rng = np.random.default_rng(0)
    x, y = fb.tensor(rng.normal(size=(5, 3)).astype(np.float32)), fb.tensor([0, 1, 1, 0, 1])

    def step(x: fb.Tensor, y: fb.Tensor) -> fb.Tensor:
        opt.zero_grad()
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        opt.step()
        return loss

    run = fb.compile(step) if compiled else step
    fb.manual_seed(4)
    losses = [run(x.to(device), y.to(device)).item() for _ in range(3)]
    assert all(p.device == p.grad.device == fb.device(x.to(device).device) for p in net.parameters() if p.grad is not None)
    assert all(v.device.type == device for state in opt.state.values() for v in state.values() if isinstance(v, fb.Tensor))
    return [losses, [p.tolist() for p in net.parameters()], net.norm.running_mean.tolist()]


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("compiled", [False, True])
def test_a_train_step_is_the_cpus(name: str, compiled: bool) -> None:
    here, there = trained("cpu", compiled, name), trained("cuda", compiled, name)
    for x, y in zip(here, there, strict=True):
        for a, b in zip(x, y, strict=True):
            np.testing.assert_allclose(b, a, rtol=2e-3, atol=2e-5)


def test_modules_move_with_their_tensors_in_place() -> None:
    net = Net()
    weight = net.first.weight
    net(fb.ones(2, 3)).sum().backward()
    assert net.to("cuda") is net and net.first.weight is weight and weight.device == CUDA
    assert weight.grad is not None and weight.grad.device == CUDA
    assert all(b.device == CUDA for b in net.buffers()) and net.norm.num_batches_tracked.dtype is fb.int64
    assert net.cpu().first.weight.device == "cpu" and net.cuda().norm.running_var.device == CUDA
    assert net.to_empty(device="cpu").first.weight.device == "cpu"
    assert Net(device="cuda").second.bias.device == CUDA
    assert net.to("cuda", fb.float64).first.weight.dtype is fb.float64


def test_optimizer_state_follows_parameters() -> None:
    here, there = nn.Linear(2, 2), nn.Linear(2, 2, device="cuda")
    first, second = optim.Adam(here.parameters()), optim.Adam(there.parameters())
    here(fb.ones(1, 2)).sum().backward()
    first.step()
    second.load_state_dict(first.state_dict())
    state = second.state[there.weight]
    assert all(value.device == CUDA for value in state.values())
    same(state["exp_avg"], first.state[here.weight]["exp_avg"].tolist())


def test_copies_pickles_and_files() -> None:
    net = Net("cuda")
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert twin.first.weight.device == CUDA and twin.first.weight.tolist() == net.first.weight.tolist()
        assert twin.first.weight is not net.first.weight
    file = io.BytesIO()
    fb.save(net.state_dict(), file)
    for where, device in ((None, CUDA), ("cpu", "cpu"), ("cuda:1", "cuda:1"), (lambda storage, place: storage, "cpu"),
                          ({"cuda:0": "cpu"}, "cpu")):
        file.seek(0)
        loaded = fb.load(file, map_location=where)
        assert {t.device for t in loaded.values()} == {fb.device(device)}
        assert loaded["first.weight"].tolist() == net.first.weight.tolist()
    other = Net()
    other.load_state_dict(net.state_dict())
    assert other.first.weight.device == "cpu" and other.first.weight.tolist() == net.first.weight.tolist()


def test_gradients_are_scaled_there() -> None:
    net = nn.Linear(2, 1, device="cuda")
    opt, scaler = optim.SGD(net.parameters(), lr=0.1), fb.amp.GradScaler("cuda", init_scale=8.0)
    x = fb.ones(3, 2, device="cuda")
    before = net.weight.tolist()
    for _ in range(2):
        opt.zero_grad()
        with fb.autocast("cuda", dtype=fb.float16):
            loss = net(x).float().mean()
        scaler.scale(loss).backward()
        scaler.step(opt)
        scaler.update()
    assert scaler.get_scale() == 8.0 and net.weight.tolist() != before
    x.requires_grad_()
    (net(x) * float("inf")).sum().backward()
    scaler.unscale_(opt)
    kept = net.weight.tolist()
    scaler.step(opt)
    scaler.update()
    assert net.weight.tolist() == kept and scaler.get_scale() == 4.0
