"""Layers of images and volumes against PyTorch: convolutions, lazy modules, norms, padding, fused batch norms; and whole
small models, trained by a compiled step."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import flambeau as fb
from flambeau import nn

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch
TOLERANCE = {"rtol": 1e-9, "atol": 1e-11}


def both(build: Callable[[Any], Any]) -> tuple[Any, Any]:
    """`build(lib.nn)` in both frameworks, f64, with the same values."""
    ours, theirs = build(nn).double(), build(torch.nn).double()
    rng = np.random.default_rng(0)
    with torch.no_grad():
        for p in theirs.parameters():
            p.copy_(torch.from_numpy(rng.normal(size=p.shape) * 0.3))
    ours.load_state_dict({key: value.numpy().copy() for key, value in theirs.state_dict().items()})
    return ours, theirs


def assert_same_state(ours: Any, theirs: Any, gradients: bool = True) -> None:
    wanted = theirs.state_dict()
    assert list(ours.state_dict()) == list(wanted)
    for name, value in ours.state_dict().items():
        np.testing.assert_allclose(value.numpy(), wanted[name].numpy(), err_msg=name, **TOLERANCE)
    for (name, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        if gradients:
            np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), err_msg=name, **TOLERANCE)


def assert_same_run(ours: Any, theirs: Any, *shapes: tuple[int, ...], call: dict[str, Any] | None = None) -> None:
    """Results, gradients and state, in training and evaluation."""
    rng = np.random.default_rng(1)
    for training in (True, False):
        ours.train(training), theirs.train(training)
        arrays = [rng.normal(size=shape) for shape in shapes]
        mine, other = ([lib.tensor(x, requires_grad=True) for x in arrays] for lib in (fb, torch))
        y, z = ours(*mine, **(call or {})), theirs(*other, **(call or {}))
        np.testing.assert_allclose(y.detach().numpy(), z.detach().numpy(), **TOLERANCE)
        cotangent = rng.normal(size=tuple(z.shape))
        y.backward(fb.from_numpy(cotangent)), z.backward(torch.from_numpy(cotangent))
        for a, b in zip(mine, other, strict=True):
            np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), **TOLERANCE)
        assert_same_state(ours, theirs)


MODULES: list[tuple[str, tuple[tuple[int, ...], ...]]] = [
    ("Conv3d(2, 4, (2, 3, 1), stride=(1, 2, 1), padding=(0, 1, 2), groups=2)", ((2, 2, 4, 5, 3),)),
    ("Conv3d(2, 2, 2, padding='same', bias=False)", ((2, 3, 4, 3),)),
    ("Conv3d(1, 2, 3, padding=1, padding_mode='replicate')", ((1, 1, 3, 4, 3),)),
    ("Conv3d(1, 2, 3, padding=(1, 0, 1), dilation=(1, 2, 1), padding_mode='circular')", ((1, 1, 3, 5, 3),)),
    ("Conv2d(1, 2, 3, padding='same', padding_mode='reflect')", ((1, 1, 4, 4),)),
    ("ConvTranspose1d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2)", ((2, 4, 5),)),
    ("ConvTranspose2d(3, 4, (3, 2), stride=(2, 3), padding=(1, 0), dilation=(1, 2))", ((2, 3, 4, 5),)),
    ("ConvTranspose2d(3, 4, 4, 2, 1, bias=False)", ((3, 4, 5),)),
    ("ConvTranspose3d(2, 3, 2, stride=2)", ((2, 2, 3, 2, 3),)),
    ("BatchNorm3d(3)", ((2, 3, 2, 3, 2),)), ("SyncBatchNorm(3, momentum=None)", ((4, 3, 2),)),
    ("InstanceNorm1d(3)", ((2, 3, 5),)), ("InstanceNorm1d(3, affine=True)", ((3, 5),)),
    ("InstanceNorm2d(3, affine=True, track_running_stats=True, momentum=0.3)", ((2, 3, 4, 5),)),
    ("InstanceNorm2d(3, track_running_stats=True)", ((3, 4, 5),)),
    ("InstanceNorm3d(2, eps=0.1, affine=True, bias=False)", ((2, 2, 2, 3, 2),)),
    ("LocalResponseNorm(3, alpha=0.5, k=2.0)", ((2, 5, 3, 3),)), ("LocalResponseNorm(2)", ((2, 3, 4),)),
    ("Bilinear(3, 4, 5)", ((2, 3), (2, 4))), ("Bilinear(2, 3, 2, bias=False)", ((2, 2, 2), (2, 2, 3))),
    ("ReflectionPad1d(2)", ((2, 3, 4),)), ("ReflectionPad2d((1, 2, 0, 1))", ((3, 4, 4),)),
    ("ReflectionPad3d(1)", ((2, 3, 2, 3, 2),)), ("ReplicationPad1d((3, 1))", ((3, 2),)),
    ("ReplicationPad2d(2)", ((1, 2, 2, 2),)), ("ReplicationPad3d((1, 0, 2, 1, 0, 1))", ((1, 2, 2, 3, 2),)),
    ("CircularPad1d(2)", ((2, 3, 4),)), ("CircularPad2d((1, 0, 2, 1))", ((2, 3, 4),)),
    ("CircularPad3d(1)", ((1, 2, 2, 2, 2),)), ("ZeroPad1d(1)", ((2, 3),)), ("ZeroPad2d((1, -1, 0, 2))", ((2, 3, 3),)),
    ("ZeroPad3d(1)", ((2, 2, 2, 2),)), ("ConstantPad1d((1, 2), 3.5)", ((2, 3),)),
    ("ConstantPad2d(1, -1)", ((2, 3, 3),)), ("ConstantPad3d((0, 1, 2, 0, 1, 1), 2.0)", ((2, 2, 2, 2),)),
]


@pytest.mark.parametrize(("text", "shapes"), MODULES, ids=[text for text, _ in MODULES])
def test_modules_agree(text: str, shapes: tuple[tuple[int, ...], ...]) -> None:
    ours, theirs = both(lambda nn: eval(f"nn.{text}", {"nn": nn}))
    assert repr(ours) == repr(theirs)
    assert_same_run(ours, theirs, *shapes)


@pytest.mark.parametrize("text", ["CrossMapLRN2d(3, alpha=0.5)", "CrossMapLRN2d(4, 0.5, 0.6, 2)", "CrossMapLRN2d(1)"])
def test_normalization_across_maps_agrees(text: str) -> None:           # PyTorch's gradient is not that of its result
    ours, theirs = both(lambda nn: eval(f"nn.{text}", {"nn": nn}))
    x = np.random.default_rng(0).normal(size=(2, 5, 3, 2))
    assert repr(ours) == repr(theirs)
    np.testing.assert_allclose(ours(fb.tensor(x)).numpy(), theirs(torch.tensor(x)).numpy(), **TOLERANCE)


@pytest.mark.parametrize("size", [(9, 8), (10, 9), (1, 2, 9, 9), [10, 8]])
def test_a_transposed_convolution_gives_the_size_asked_for(size: Any) -> None:
    ours, theirs = both(lambda nn: nn.ConvTranspose2d(2, 2, (3, 2), stride=2, padding=(1, 0)))
    assert_same_run(ours, theirs, (1, 2, 5, 4), call={"output_size": size})


def test_a_size_that_no_output_padding_gives_is_an_error() -> None:
    module = nn.ConvTranspose2d(2, 2, 3, stride=2)
    for size in ((13, 11), (10, 11), (11,)):
        with pytest.raises(ValueError, match="output_size"):
            module(fb.zeros(1, 2, 5, 5), output_size=size)
    with pytest.raises(ValueError, match='Only "zeros" padding mode'):
        nn.ConvTranspose1d(2, 2, 3, padding_mode="reflect")


def test_norms_say_what_they_take() -> None:
    for module, shape, message in (
        (nn.BatchNorm3d(3), (2, 3, 4, 4), "expected 5D input"), (nn.InstanceNorm1d(3), (2,), "expected 2D or 3D input"),
        (nn.InstanceNorm2d(3, affine=True), (2, 5, 4, 4), r"to match num_features \(3\), but got: 5"),
        (nn.SyncBatchNorm(3), (3,), "at least 2D"), (nn.CrossMapLRN2d(3), (2, 3, 4), "to be 4D"),
        (nn.CircularPad1d(1), (3,), "expected 2D or 3D input"), (nn.InstanceNorm1d(3), (2, 3, 1), "more than 1"),
    ):
        with pytest.raises(ValueError, match=message):
            module(fb.zeros(*shape))


def test_subclasses_compute_with_other_weights() -> None:
    def build(nn: Any) -> Any:
        class Centred(nn.Conv2d):
            def forward(self, x: Any) -> Any:
                return self._conv_forward(x, self.weight - self.weight.mean(), self.bias)

        return Centred(2, 3, 3, padding=(1, 2), padding_mode="circular")

    ours, theirs = both(build)
    assert list(ours._reversed_padding_repeated_twice) == list(theirs._reversed_padding_repeated_twice)
    assert_same_run(ours, theirs, (1, 2, 4, 4))


def test_batch_norms_become_sync_batch_norms_with_their_state() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Sequential(nn.BatchNorm2d(2), nn.ReLU()), nn.BatchNorm2d(2, affine=False))
    model.eval()
    weight, y = model[1][0].weight, model(fb.ones(2, 1, 3, 3))
    made = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    assert type(made[1][0]) is type(made[2]) is nn.SyncBatchNorm and made[1][0].weight is weight
    np.testing.assert_array_equal(made(fb.ones(2, 1, 3, 3)).detach().numpy(), y.detach().numpy())


# -- lazy modules -----------------------------------------------------------------------------------------------------

LAZY = [
    ("LazyLinear(3)", (2, 4), "Linear(4, 3)"), ("LazyLinear(3, bias=False)", (4,), "Linear(4, 3, bias=False)"),
    ("LazyConv1d(4, 2, stride=2, groups=2)", (2, 6, 5), "Conv1d(6, 4, 2, 2, groups=2)"),
    ("LazyConv2d(3, 2, padding=1, padding_mode='circular')", (2, 3, 3),
     "Conv2d(2, 3, 2, padding=1, padding_mode='circular')"),
    ("LazyConv3d(2, 2, bias=False)", (1, 2, 3, 3, 3), "Conv3d(2, 2, 2, bias=False)"),
    ("LazyConvTranspose1d(4, 3, groups=2)", (2, 6, 5), "ConvTranspose1d(6, 4, 3, groups=2)"),
    ("LazyConvTranspose2d(3, 2, stride=2, output_padding=1)", (1, 2, 3, 3),
     "ConvTranspose2d(2, 3, 2, 2, output_padding=1)"),
    ("LazyConvTranspose3d(2, 2)", (1, 2, 3, 3, 3), "ConvTranspose3d(2, 2, 2)"),
    ("LazyBatchNorm1d()", (3, 4), "BatchNorm1d(4)"), ("LazyBatchNorm2d(affine=False)", (3, 4, 2, 2),
                                                      "BatchNorm2d(4, affine=False)"),
    ("LazyBatchNorm3d(track_running_stats=False)", (3, 4, 2, 2, 2), "BatchNorm3d(4, track_running_stats=False)"),
    ("LazyInstanceNorm1d()", (3, 4, 2), "InstanceNorm1d(4, affine=True, track_running_stats=True)"),
    ("LazyInstanceNorm2d(bias=False)", (3, 4, 2, 2),
     "InstanceNorm2d(4, affine=True, track_running_stats=True, bias=False)"),
    ("LazyInstanceNorm3d(affine=False)", (3, 4, 2, 2, 2), "InstanceNorm3d(4, track_running_stats=True)"),
]


@pytest.mark.parametrize(("text", "shape", "ordinary"), LAZY, ids=[case[0] for case in LAZY])
def test_lazy_modules_become_the_ordinary_ones_at_the_first_call(text: str, shape: tuple[int, ...], ordinary: str) -> None:
    lazy, theirs = eval(f"nn.{text}", {"nn": nn}), eval(f"nn.{text}", {"nn": torch.nn})
    assert repr(lazy) == repr(theirs) and list(lazy.state_dict()) == list(theirs.state_dict())
    assert [repr(p) for p in lazy.parameters()] == [repr(p) for p in theirs.parameters()]
    parameters = list(lazy.parameters())
    x = fb.rand(*shape)
    fb.manual_seed(3)
    y = lazy(x)
    fb.manual_seed(3)
    module = eval(f"nn.{ordinary}", {"nn": nn})
    assert type(lazy) is type(module) and repr(lazy) == repr(module)
    np.testing.assert_array_equal(y.detach().numpy(), module(x).detach().numpy())
    assert [id(p) for p in lazy.parameters()] == [id(p) for p in parameters]        # an optimizer may hold them
    assert all(type(p) is nn.Parameter for p in parameters)
    copied = eval(f"nn.{text}", {"nn": nn}).double()
    copied.load_state_dict(module.state_dict())
    copied(x.double())
    assert repr(copied) == repr(module)
    for a, b in zip(copied.parameters(), module.parameters(), strict=True):
        np.testing.assert_array_equal(a.detach().numpy(), b.detach().double().numpy())


def test_an_uninitialized_parameter_is_copied_converted_and_not_used() -> None:
    module = nn.LazyLinear(3)
    for copied in (copy.deepcopy(module), pickle.loads(pickle.dumps(module)), module.double()):
        assert repr(copied.weight) == "<UninitializedParameter>" and copied.weight.requires_grad
    assert module.weight.dtype == fb.float64 and isinstance(module.weight, nn.Parameter)
    for use in (lambda w: w.shape, lambda w: w.numel(), lambda w: w + 1, lambda w: fb.relu(w), lambda w: w.tolist()):
        with pytest.raises(ValueError, match="call the module's forward"):
            use(module.weight)
    with pytest.raises(RuntimeError, match="call the module's forward"):
        nn.Linear(2, 3).load_state_dict(module.state_dict())
    another = nn.LazyLinear(3)
    another.load_state_dict(module.state_dict())
    assert another.has_uninitialized_params()


def test_a_lazy_module_is_called_once_before_it_is_compiled() -> None:
    model = nn.Sequential(nn.LazyConv2d(2, 3), nn.LazyBatchNorm2d(), nn.Flatten(), nn.LazyLinear(2))
    compiled, x = fb.compile(model), fb.rand(2, 3, 5, 5)
    with pytest.raises(NotImplementedError, match="call the model once before it is compiled"):
        compiled(x)
    model(x)
    np.testing.assert_allclose(compiled(x).detach().numpy(), model(x).detach().numpy(), rtol=1e-4, atol=1e-6)


def test_modules_of_users_can_be_lazy() -> None:
    class Scale(nn.modules.lazy.LazyModuleMixin, nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.UninitializedParameter()
            self.register_buffer("seen", nn.UninitializedBuffer(dtype=fb.int64))

        def initialize_parameters(self, x: fb.Tensor) -> None:
            if self.has_uninitialized_params():
                self.scale.materialize(x.shape[-1:])
                self.seen.materialize((2,))
                nn.init.ones_(self.scale)

        def forward(self, x: fb.Tensor) -> fb.Tensor:
            return x * self.scale

    module = Scale()
    assert module(fb.ones(2, 3)).tolist() == module(fb.ones(2, 3)).tolist() == [[1.0] * 3] * 2
    assert type(module) is Scale and type(module.seen) is fb.Tensor and module.seen.dtype == fb.int64


# -- fused batch norms ------------------------------------------------------------------------------------------------

FUSED = [
    (lambda nn: nn.Sequential(nn.Conv2d(2, 3, 2), nn.BatchNorm2d(3)), (2, 2, 4, 4), "fuse_conv_bn_eval", ()),
    (lambda nn: nn.Sequential(nn.Conv3d(2, 4, 1, groups=2, bias=False), nn.BatchNorm3d(4, affine=False)), (2, 2, 2, 2, 2),
     "fuse_conv_bn_eval", ()),
    (lambda nn: nn.Sequential(nn.ConvTranspose2d(2, 3, 2), nn.BatchNorm2d(3)), (2, 2, 4, 4), "fuse_conv_bn_eval", (True,)),
    (lambda nn: nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)), (4, 2), "fuse_linear_bn_eval", ()),
]


@pytest.mark.parametrize(("build", "shape", "name", "args"), FUSED)
def test_a_batch_norm_is_folded_into_the_layer_before_it(build: Any, shape: tuple[int, ...], name: str, args: Any) -> None:
    ours, theirs = both(build)
    x = np.random.default_rng(0).normal(size=shape)
    ours(fb.tensor(x)), theirs(torch.tensor(x))
    with pytest.raises(AssertionError, match="evaluation"):
        getattr(nn.utils, name)(*ours, *args)
    ours.eval(), theirs.eval()
    fused = getattr(nn.utils, name)(*ours, *args)
    expected = getattr(torch.nn.utils.fusion, name)(*theirs, *args)
    assert_same_state(fused, expected, gradients=False)
    assert [p.requires_grad for p in fused.parameters()] == [p.requires_grad for p in expected.parameters()]
    np.testing.assert_allclose(fused(fb.tensor(x)).detach().numpy(), ours(fb.tensor(x)).detach().numpy(), **TOLERANCE)


# -- whole models -----------------------------------------------------------------------------------------------------


def block(nn: Any, inner: int, outer: int) -> list[Any]:
    return [nn.Conv3d(inner, outer, 3, padding=1, bias=False), nn.BatchNorm3d(outer), nn.ReLU()]


def volume_unet(nn: Any) -> Any:
    """A U-Net of volumes: down by a strided convolution, up by a transposed one, and across."""
    class UNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Sequential(*block(nn, 1, 3)), nn.Sequential(*block(nn, 6, 3), nn.Conv3d(3, 2, 1))
            self.down = nn.Sequential(nn.Conv3d(3, 4, 2, stride=2), nn.InstanceNorm3d(4, affine=True), nn.LeakyReLU(0.1))
            self.up = nn.ConvTranspose3d(4, 3, 2, stride=2)

        def forward(self, x: Any) -> Any:
            x = self.first(x)
            up = self.up(self.down(x))
            return self.last((fb if isinstance(x, fb.Tensor) else torch).cat([x, up], 1))

    return UNet()


def dcgan(nn: Any) -> Any:
    """Generator and discriminator behind each other."""
    return nn.Sequential(
        nn.ConvTranspose2d(5, 6, 4, 1, 0, bias=False), nn.BatchNorm2d(6), nn.ReLU(True),
        nn.ConvTranspose2d(6, 4, 4, 2, 1, bias=False), nn.BatchNorm2d(4), nn.ReLU(True),
        nn.ConvTranspose2d(4, 1, 4, 2, 1, bias=False), nn.Tanh(),
        nn.Conv2d(1, 4, 4, 2, 1, bias=False), nn.LeakyReLU(0.2, True),
        nn.Conv2d(4, 6, 4, 2, 1, bias=False), nn.BatchNorm2d(6), nn.LeakyReLU(0.2, True),
        nn.Conv2d(6, 1, 4, 1, 0, bias=False), nn.Flatten(), nn.Sigmoid())


def translator(nn: Any) -> Any:
    """As pix2pix and CycleGAN have it: reflected borders, instance norms, down, a residual block, up."""
    class Residual(nn.Module):
        def __init__(self, size: int) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.ReflectionPad2d(1), nn.Conv2d(size, size, 3), nn.InstanceNorm2d(size), nn.ReLU())

        def forward(self, x: Any) -> Any:
            return x + self.body(x)

    return nn.Sequential(
        nn.ReflectionPad2d(3), nn.Conv2d(2, 3, 7), nn.InstanceNorm2d(3), nn.ReLU(),
        nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.InstanceNorm2d(4), nn.ReLU(), Residual(4),
        nn.ConvTranspose2d(4, 3, 3, stride=2, padding=1, output_padding=1), nn.InstanceNorm2d(3), nn.ReLU(),
        nn.ReplicationPad2d(1), nn.Conv2d(3, 2, 3), nn.Tanh())


MODELS = {"volume_unet": (volume_unet, (2, 1, 2, 4, 2)), "dcgan": (dcgan, (3, 5, 1, 1)),
          "translator": (translator, (2, 2, 8, 8))}


@pytest.mark.parametrize("name", MODELS)
def test_whole_models_agree_and_train_compiled(name: str) -> None:
    build, shape = MODELS[name]
    ours, theirs = both(build)
    assert_same_run(ours, theirs, shape)
    ours.train(), theirs.train()
    optimizers = [lib.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
                  for lib, model in ((fb, ours), (torch, theirs))]

    def step(model: Any, optimizer: Any, x: Any) -> Any:
        optimizer.zero_grad()
        loss = (model(x) ** 2 + model(x * 0.5)).mean()
        loss.backward()
        optimizer.step()
        return loss

    compiled, rng = fb.compile(lambda x: step(ours, optimizers[0], x)), np.random.default_rng(2)
    for _ in range(2):
        x = rng.normal(size=shape)
        found, expected = compiled(fb.tensor(x)), step(theirs, optimizers[1], torch.tensor(x))
        np.testing.assert_allclose(found.item(), expected.item(), rtol=1e-8)
    assert_same_state(ours, theirs)
