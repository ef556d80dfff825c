"""What PyTorch programs ask for by the way: modes, marks, trees, states of schedulers, files that are not honest."""

from __future__ import annotations

import io
import zipfile
from collections import namedtuple
from collections.abc import Iterator
from typing import Any

import pytest

import flambeau as fb
from flambeau.frontend.exchange.archive import FileFormatError
from flambeau.utils import _pytree

Pair = namedtuple("Pair", "x y")


def test_inference_mode_takes_its_mode() -> None:
    with fb.inference_mode(), fb.inference_mode(mode=False):
        assert fb.is_grad_enabled()
    with fb.inference_mode(True):
        assert not fb.is_grad_enabled()
    assert fb.inference_mode(fb.is_grad_enabled)() is fb.autograd.grad_mode.no_grad()(fb.is_grad_enabled)() is False


def test_a_generators_steps_run_in_the_mode() -> None:
    @fb.no_grad()
    def steps() -> Iterator[Any]:
        sent = yield fb.is_grad_enabled()
        try:
            yield sent, fb.is_grad_enabled()
        except KeyError:
            yield fb.is_grad_enabled()
        return "end"

    made: Any = steps()
    assert next(made) is False and fb.is_grad_enabled()
    assert made.send(3) == (3, False) and fb.is_grad_enabled()
    assert made.throw(KeyError()) is False and fb.is_grad_enabled()
    with pytest.raises(StopIteration, match="end"):
        next(made)
    assert list(steps()) == [False, (None, False)]


def test_programs_ask_whether_they_are_compiled() -> None:
    @fb.compiler.disable
    def f(x: fb.Tensor) -> fb.Tensor:
        return x + 1 if fb.compiler.is_compiling() else x + 2

    assert f(fb.zeros(1)).item() == 2 and fb.compile(f)(fb.zeros(1)).item() == 1
    assert fb.compiler.disable(recursive=False)(f) is f and fb.compiler.reset() is None


def test_trees() -> None:
    torch_tree = pytest.importorskip("torch.utils._pytree")
    tree = {"b": [1, (2, None)], "a": Pair(3, "s"), "c": {4, 5}}
    leaves, spec = _pytree.tree_flatten(tree)
    assert leaves == torch_tree.tree_leaves(tree) and _pytree.tree_unflatten(leaves, spec) == tree
    assert _pytree.tree_map(lambda a, b: (a, b), tree, tree) == torch_tree.tree_map(lambda a, b: (a, b), tree, tree)
    assert _pytree.tree_map_only(int, lambda n: -n, tree) == torch_tree.tree_map_only(int, lambda n: -n, tree)
    is_pair = lambda node: isinstance(node, Pair)
    assert _pytree.tree_leaves(tree, is_leaf=is_pair) == torch_tree.tree_leaves(tree, is_leaf=is_pair)
    with pytest.raises(ValueError, match="nest"):
        _pytree.tree_map(lambda a, b: a, [1, 2], [1])
    with pytest.raises(ValueError, match="leaves"):
        _pytree.tree_unflatten([1], spec)


def test_python_for_each_element() -> None:
    x = fb.arange(6).reshape(2, 3).float()
    assert x.t().apply_(lambda v: v + 1) is not x and x.flatten().tolist() == [1, 2, 3, 4, 5, 6]
    assert x.map_(fb.tensor([10.0, 20.0, 30.0]), lambda a, b: a + b).tolist() == [[11, 22, 33], [14, 25, 36]]
    assert fb.tensor([1, 5]).apply_(lambda v: v / 4).tolist() == [0, 1]
    with pytest.raises(RuntimeError, match="grad"):
        fb.ones(1, requires_grad=True).apply_(abs)
    with pytest.raises(TypeError, match="map_"):
        x.map_(fb.arange(3), max)


def test_small_names() -> None:
    x = fb.arange(6.0).reshape(2, 3)
    assert [t.tolist() for t in x.split(split_size=2, dim=1)] == [[[0, 1], [3, 4]], [[2], [5]]]
    assert fb.equal(fb.spmm(x, x.t()), x @ x.t()) and fb.equal(fb.sparse.mm(x, x.t()), x @ x.t())
    model = fb.nn.Linear(1, 1)
    assert model.share_memory() is model and not isinstance(model, fb.nn.parallel.DistributedDataParallel)
    with pytest.raises(fb.errors.UnsupportedError, match="one process"):
        fb.nn.parallel.DistributedDataParallel(model)
    for ask in (fb.distributed.get_rank, fb.distributed.get_world_size):
        with pytest.raises(ValueError, match="group"):
            ask()
    assert not fb.cuda.is_bf16_supported(False) and fb.cuda.reset_peak_memory_stats(0) is None
    made = fb.testing.make_tensor((2, 3), dtype=fb.float32, device="cpu", noncontiguous=True)
    assert made.shape == (2, 3) and not made.is_contiguous()
    assert list(fb.utils.data.DataLoader([(1, "a"), (2, "b")], batch_size=2))[0][1] == ("a", "b")


def test_numbers_are_compared_in_float64() -> None:
    with pytest.raises(AssertionError, match=r"1\.000001"):
        fb.testing.assert_close(1.0, 1.000001)
    fb.testing.assert_close([1.0, 2], [1.0 + 1e-9, 2])


class Decay:
    def __init__(self, by: float):
        self.by = by

    def __call__(self, epoch: float) -> float:
        return self.by ** epoch


SCHEDULERS: dict[str, Any] = {
    "LambdaLR": lambda by: (lambda n: 0.9**n,), "MultiplicativeLR": lambda by: (lambda n: 0.9,),
    "CyclicLR": lambda by: (0.01, 0.1, 3), "LambdaLR, object": lambda by: (Decay(by),),
    "CyclicLR, object": lambda by: (0.01, 0.1, 3, None, "triangular", 1.0, Decay(by))}


@pytest.mark.parametrize("name", SCHEDULERS)
def test_states_of_schedulers_with_functions_go_both_ways(name: str) -> None:
    torch = pytest.importorskip("torch")

    def made(lib: Any, by: float) -> tuple[Any, Any]:
        optimizer = lib.optim.SGD([lib.ones(2, requires_grad=True)], lr=0.1, momentum=0.9)
        return optimizer, getattr(lib.optim.lr_scheduler, name.split(",")[0])(optimizer, *SCHEDULERS[name](by))

    def rates(optimizer: Any, scheduler: Any, count: int) -> list[float]:
        found = []
        for _ in range(count):
            optimizer.step()
            scheduler.step()
            found.append(optimizer.param_groups[0]["lr"])
        return found

    for source, target in ((torch, fb), (fb, torch), (fb, fb)):
        first, second = made(source, 0.8), made(target, 0.7)
        rates(*first, 4)
        for ours, theirs in zip(second, first, strict=True):
            ours.load_state_dict(theirs.state_dict())
        assert rates(*second, 7) == pytest.approx(rates(*first, 7))


def _zip(compression: int, **entries: bytes) -> io.BytesIO:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    file.seek(0)
    return file


def test_a_zip_that_grows_is_refused() -> None:
    with pytest.raises(FileFormatError, match="compressed"):
        fb.load(_zip(zipfile.ZIP_DEFLATED, **{"structure.json": bytes(10**6), "tensors.safetensors": b""}))
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("structure.json", bytes(1000))
        info = archive.infolist()[0]
        for n in range(50):                                     # entries over the same bytes
            other = zipfile.ZipInfo(f"a/data/{n}")
            for slot in ("header_offset", "CRC", "compress_size", "file_size"):
                setattr(other, slot, getattr(info, slot))
            archive.filelist.append(other)
        archive.filelist[1].filename = "a/data.pkl"
    file.seek(0)
    with pytest.raises(FileFormatError, match="more than it is long"):
        fb.load(file)


@pytest.mark.parametrize("call", [
    lambda: fb.tanh(1j), lambda: fb.ones(2).cumsum_(1j), lambda: fb.ones(2, 2).reshape_as(1j), lambda: fb.ones_like(1j),
    lambda: fb.ones(2).type_as(1.0), lambda: fb.ones(2).bernoulli_({}), lambda: fb.save({}, 3), lambda: fb.load(3),
    lambda: fb.frombuffer(1.0, dtype=fb.int8), lambda: fb.fori_loop(0, 2, 3, 1.0), lambda: fb.switch(0, 5),
    lambda: fb.to_dlpack(True), lambda: fb.map(1.5, fb.ones(2)),
    lambda: fb.nn.Upsample(scale_factor="mean")])
def test_what_is_of_another_kind_is_refused_in_words(call: Any) -> None:
    with pytest.raises(TypeError, match="argument|must|takes|got"):
        call()
