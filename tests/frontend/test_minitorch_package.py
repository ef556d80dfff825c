"""flambeau.minitorch: MiniTorch's names, checked as its course checks them, by properties and central differences."""
from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import flambeau as fb
import flambeau.minitorch as minitorch
from flambeau.minitorch import operators

ONE, TWO, RED = minitorch.MathTestVariable._comp_testing()
numbers = st.floats(-100, 100, allow_nan=False)
few = settings(max_examples=8, deadline=None, derandomize=True)
BACKENDS = [minitorch.SimpleBackend, minitorch.TensorBackend(minitorch.FastOps), minitorch.TensorBackend(minitorch.CudaOps)]


def named(case: Any) -> str:
    return str(case[0])


def random_tensor(seed: int, shape: tuple[int, ...], backend: Any = minitorch.SimpleBackend) -> minitorch.Tensor:
    """f64 of that shape, permuted in memory."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(shape))
    stored = minitorch.TensorData(rng.uniform(-10, 10, int(np.prod(shape))), tuple([shape[d] for d in order]))
    return minitorch.Tensor(stored.permute(*np.argsort(order)), backend=backend)


# -- module 0 ---------------------------------------------------------------------------------------------------------


@given(numbers, numbers, numbers)
@few
def test_operators_obey_the_laws_of_numbers(a: float, b: float, c: float) -> None:
    assert operators.mul(a, b) == operators.mul(b, a) == a * b and operators.id(a) == a and operators.neg(a) == -a
    assert operators.max(a, b) == max(a, b) and operators.lt(a, b) == float(a < b) and operators.eq(a, a) == 1.0
    assert operators.is_close(operators.mul(c, operators.add(a, b)), c * a + c * b)
    assert 0 <= operators.sigmoid(a) <= 1 and operators.sigmoid(a) == pytest.approx(1 - operators.sigmoid(-a), abs=1e-12)
    assert operators.relu(a) == (a if a > 0 else 0) and operators.relu_back(a, b) == (b if a > 0 else 0)
    assert operators.log_back(abs(a) + 1, b) == b / (abs(a) + 1 + operators.EPS)
    assert operators.inv_back(abs(a) + 1, b) == -b / (abs(a) + 1) ** 2


@pytest.mark.parametrize("name", "neg relu sigmoid exp id inv log".split())
def test_operators_take_tensors(name: str) -> None:
    function, x = getattr(operators, name), [0.5, 1.0, 30.0]
    assert function(fb.tensor(x, dtype=fb.float64)).tolist() == pytest.approx([function(v) for v in x], rel=1e-15)


def test_lists_are_mapped_zipped_and_folded() -> None:
    assert operators.negList([1, -2]) == [-1, 2] and operators.addLists([1, 2], [3, 4]) == [4, 6]
    assert operators.sum([1, 2, 3]) == 6 and operators.prod([2, 3, 4]) == 24 and operators.sum([]) == 0
    assert operators.reduce(lambda x, before: before - x, 10)([1, 2]) == 7
    assert operators.zipWith(operators.max)([1, 5], [3, 2]) == [3, 5]


class Inner(minitorch.Module):
    def __init__(self) -> None:
        super().__init__()
        self.p = minitorch.Parameter(2)
        self.add_parameter("q", minitorch.Scalar(3))


class Outer(minitorch.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.top, self.plain = Inner(), minitorch.Parameter(1), 7


def test_modules_name_their_parameters_and_pass_their_mode_on() -> None:
    module = Outer()
    assert [name for name, _ in module.named_parameters()] == ["top", "a.p", "a.q"]
    assert [p.value for p in module.parameters()][:2] == [1, 2] and module.plain == 7
    assert module.modules() == [module.a] and module.a.q.value.name == "q"
    module.eval()
    assert not module.a.training and module.mode == "eval"
    module.train()
    assert module.a.training and repr(module) == "Outer(\n  (a): Inner()\n)"
    with pytest.raises(AttributeError, match="missing"):
        module.missing
    with pytest.raises(NotImplementedError):
        module()


@pytest.mark.parametrize("name", minitorch.datasets)
def test_datasets_have_both_classes(name: str) -> None:
    random.seed(1)
    graph = minitorch.datasets[name](50)
    assert graph.N == len(graph.X) == len(graph.y) == 50 and set(graph.y) == {0, 1}
    assert all(-0.1 < v < 1.1 for point in graph.X for v in point)


# -- module 1 ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ONE, ids=named)
@given(numbers)
@few
def test_scalars_of_one_argument(case: Any, a: float) -> None:
    _, of_floats, of_scalars = case
    assert operators.is_close(of_scalars(minitorch.Scalar(a)).data, of_floats(a))
    minitorch.derivative_check(of_scalars, minitorch.Scalar(a))


@pytest.mark.parametrize("case", TWO, ids=named)
@given(numbers, numbers)
@few
def test_scalars_of_two_arguments(case: Any, a: float, b: float) -> None:
    _, of_floats, of_scalars = case
    if b != -5.5:
        assert operators.is_close(of_scalars(minitorch.Scalar(a), minitorch.Scalar(b)).data, of_floats(a, b))
        if abs(a + 1.2 - b) > 1e-3:
            minitorch.derivative_check(of_scalars, minitorch.Scalar(a), minitorch.Scalar(b))


class Product(minitorch.ScalarFunction):
    """x * y + x, with a derivative by x that is too large by 100."""

    @staticmethod
    def forward(ctx: minitorch.Context, x: float, y: float) -> float:
        ctx.save_for_backward(x, y)
        return x * y + x

    @staticmethod
    def backward(ctx: minitorch.Context, d_output: float) -> tuple[float, float]:
        x, y = ctx.saved_values
        return d_output * (y + 101), d_output * x


def test_histories_tell_who_made_a_scalar() -> None:
    x, y, constant = minitorch.Scalar(5), minitorch.Scalar(10), minitorch.Scalar(1, None)
    z = Product.apply(x, y)
    assert z.data == 55 and z.history.last_fn is Product and [p.data for p in z.parents] == [5, 10]
    assert x.is_leaf() and not z.is_leaf() and constant.is_constant() and constant.history is None
    assert [d for _, d in z.chain_rule(2)] == [222, 10]
    z.backward(3)
    assert (x.derivative, y.derivative) == (333, 15)
    made = [x * y, x.relu(), x > y, y.exp(), minitorch.tensor([[1]], requires_grad=True) @ minitorch.tensor([[1]])]
    assert [v.history.last_fn.__name__ for v in made] == ["Mul", "ReLU", "LT", "Exp", "MatMul"]
    assert (x * y).chain_rule(1)[0][1] == 10
    by_hand = minitorch.Scalar(0.0, minitorch.ScalarHistory(Product, z.history.ctx, [x, x]))
    assert [d for _, d in by_hand.chain_rule(1)] == [111, 5]


def test_leaves_keep_their_names_in_histories() -> None:
    x, y = minitorch.Scalar(2, name="x"), minitorch.tensor([[1, 2]], requires_grad=True)
    y.name = "y"
    assert [p.name for p in (x * 3 + 1).parents[0].parents if not p.is_constant()] == ["x"]
    z = y * y
    assert z.parents[1].name == "y" and z.name == str(z.unique_id)
    z.name = "z"
    assert z.name == "z"


def test_backpropagation_by_the_protocol_is_that_of_backward() -> None:
    def network(leaves: list[minitorch.Scalar]) -> minitorch.Scalar:
        x, y = leaves
        u = x * y + x.sigmoid()
        return u * u + Product.apply(u, y) + (u < y)

    first, second = ([minitorch.Scalar(1.5), minitorch.Scalar(-0.5)] for _ in range(2))
    network(first).backward()
    out = network(second)
    order = minitorch.topological_sort(out)
    place = {v.unique_id: i for i, v in enumerate(order)}
    assert len(place) == len(order)
    assert all(place[v.unique_id] < place[p.unique_id] for v in order if not v.is_leaf() for p in v.parents
               if not p.is_constant())
    minitorch.backpropagate(out, 1.0)
    assert [v.derivative for v in first] == pytest.approx([v.derivative for v in second], rel=1e-14)


@pytest.mark.parametrize("name", "Add Mul LT EQ Inv Neg Log Exp Sigmoid ReLU".split())
def test_scalar_functions_have_a_forward_and_a_backward(name: str) -> None:
    function, tensors = getattr(minitorch.scalar_functions, name), getattr(minitorch.tensor_functions, name)
    inputs = [0.5, 2.0] if name in ("Add", "Mul", "LT", "EQ") else [0.5]
    ctx, of_tensors = minitorch.Context(), minitorch.Context()
    found = function.forward(ctx, *inputs)
    wrapped = [minitorch.tensor([x]) for x in inputs]
    assert found == function.apply(*inputs).data == tensors.forward(of_tensors, *wrapped)[0] == tensors.apply(*wrapped)[0]
    assert function.backward(ctx, 2.0) == tuple([d[0] for d in tensors.backward(of_tensors, minitorch.tensor([2.0]))])
    minitorch.derivative_check(function.apply, *map(minitorch.Scalar, inputs))


# -- module 2 ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_indices_strides_and_positions_agree(seed: int) -> None:
    shape = tuple(np.random.default_rng(seed).integers(1, 4, 1 + seed % 4).tolist())
    data = random_tensor(seed, shape)._tensor
    indices = list(data.indices())
    assert len(set(indices)) == data.size == len(indices)
    assert sorted(minitorch.index_to_position(i, data.strides) for i in indices) == list(range(data.size))
    out = [0] * data.dims
    for ordinal, index in enumerate(indices):
        minitorch.to_index(ordinal, shape, out)
        assert tuple(out) == index and data.index(index) == data.permute(*range(data.dims)[::-1]).index(index[::-1])
    with pytest.raises(minitorch.IndexingError):
        data.index((-1,) * data.dims)
    with pytest.raises(minitorch.IndexingError):
        data.index((0,) * (data.dims + 1))


def test_shapes_broadcast() -> None:
    assert minitorch.shape_broadcast((5, 1, 5, 1), (1, 5, 1, 5)) == (5, 5, 5, 5)
    assert minitorch.shape_broadcast((2, 5), (5,)) == (2, 5) and minitorch.strides_from_shape((4, 2, 3)) == (6, 3, 1)
    with pytest.raises(minitorch.IndexingError):
        minitorch.shape_broadcast((5, 2), (5,))
    out = [9, 9]
    minitorch.broadcast_index((3, 1, 2), (4, 2, 3), (1, 3), out)
    assert out == [0, 2]
    with pytest.raises(minitorch.IndexingError):
        minitorch.TensorData([0] * 15, (3, 5), (6,))
    assert not minitorch.TensorData([0] * 15, (5, 3), (1, 5)).is_contiguous()


@pytest.mark.parametrize("case", ONE + RED, ids=named)
def test_tensors_of_one_argument(case: Any) -> None:
    name, of_floats, of_tensors = case
    for seed, backend in enumerate(BACKENDS):
        t = random_tensor(seed, (2, 3, 2)[:1 + seed], backend)
        found = of_tensors(t)
        assert found.backend is backend
        if not name.endswith("red"):
            for index in found._tensor.indices():
                assert operators.is_close(found[index], of_floats(t[index]))
        minitorch.grad_check(of_tensors, t)


@pytest.mark.parametrize("case", TWO, ids=named)
def test_tensors_of_two_arguments_broadcast(case: Any) -> None:
    _, of_floats, of_tensors = case
    a, b = random_tensor(1, (2, 3)), random_tensor(2, (2, 3))
    found = of_tensors(a, b)
    for index in found._tensor.indices():
        assert operators.is_close(found[index], of_floats(a[index], b[index]))
    for lhs, rhs in ((a, b), (a.sum(0), b), (a, b.sum(1))):
        minitorch.grad_check(of_tensors, lhs, rhs)


def test_tensors_reduce_view_and_permute() -> None:
    t = minitorch.tensor([[2, 3], [4, 6], [5, 7]])
    assert t.sum(0).is_close(minitorch.tensor([[11, 16]])).all().item() == 1 and t.sum().shape == (1,)
    assert t.mean(1).shape == (3, 1) and t.size == 6 and t.dims == 2 and t.to_numpy().shape == (3, 2)
    assert t.view(6)[4] == 5 and t.permute(1, 0)[1, 2] == 7 and (t > 4).sum()[0] == 3
    with pytest.raises(RuntimeError):
        t.permute(1, 0).view(6)
    with pytest.raises(minitorch.IndexingError):
        t[50, 2]
    t[0, 1] = 9
    assert t[0, 1] == 9 and t.detach().requires_grad() is False and "9.00" in repr(t)
    minitorch.grad_check(lambda a: a.permute(1, 0).contiguous().view(6), t)
    minitorch.grad_check(lambda a, b: a @ b, t, random_tensor(3, (2, 4)))
    for seed in range(2):
        a, b = (random_tensor(seed + i, (2, 3)) for i in range(2))
        minitorch.grad_check(lambda a, b: minitorch.tensor_functions.Mul.apply(a, b), a, b)


class Square(minitorch.Function):
    """x * x, with a derivative that is too large by 1."""

    @staticmethod
    def forward(ctx: minitorch.Context, x: minitorch.Tensor) -> minitorch.Tensor:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx: minitorch.Context, d: minitorch.Tensor) -> minitorch.Tensor:
        (x,) = ctx.saved_values
        return d * (x + x + 1)


def test_a_users_function_of_tensors_runs_its_backward() -> None:
    x = minitorch.tensor([1, 2], requires_grad=True)
    y = Square.apply(x)
    y.sum().backward()
    assert x.grad.to_numpy().tolist() == [3, 5] and y.history.last_fn is Square
    assert y.chain_rule(minitorch.tensor([1, 10]))[0][1].to_numpy().tolist() == [3, 50]


def test_backends_map_zip_and_reduce() -> None:
    a, b = random_tensor(1, (2, 3)), random_tensor(2, (2, 1))
    for ops in (minitorch.SimpleOps, minitorch.FastOps, minitorch.CudaOps):
        for fn in (operators.mul, lambda x, y: x * y if x > -100 else 0.0):         # whole tensors, and single elements
            assert ops.zip(fn)(a, b).is_close(a * b).all().item() == 1
            assert ops.reduce(fn, 1.0)(a, 1).is_close(a.all(1)).all().item() == 1
        out = a.zeros()
        assert ops.map(operators.neg)(b, out) is out and out.is_close(a.zeros() - b).all().item() == 1
        assert ops.matrix_multiply(a.permute(1, 0), b).shape == (3, 1)
        backend = minitorch.TensorBackend(ops)
        assert backend.relu_back_zip(a, b).is_close((a > 0) * b).all().item() == 1 and backend.cuda is False


def test_storages_are_mapped_zipped_and_folded() -> None:
    a, b, out = random_tensor(1, (2, 3)), random_tensor(2, (1, 3)), minitorch.zeros((2, 3))
    target = out._tensor
    minitorch.tensor_map(operators.exp)(*target.tuple(), *b.tuple())
    assert out.is_close(b.exp()).all().item() == 1
    minitorch.tensor_zip(operators.add)(*target.tuple(), *a.tuple(), *b.tuple())
    assert out.is_close(a + b).all().item() == 1
    total = minitorch.zeros((2, 1))
    minitorch.tensor_reduce(operators.add)(*total._tensor.tuple(), *a.tuple(), 1)
    assert total.is_close(a.sum(1)).all().item() == 1
    minitorch.tensor_matrix_multiply(*target.tuple(), *minitorch.tensor([[0, 1], [1, 0]]).tuple(), *a.tuple())
    assert [out[0, i] for i in range(3)] == [a[1, i] for i in range(3)]
    x = minitorch.rand((48,))
    assert sum(minitorch.sum_practice(x)._storage) == pytest.approx(x.sum()[0])
    m = minitorch.rand((2, 2))
    assert list(minitorch.mm_practice(m, m)._storage) == pytest.approx((m @ m).to_numpy().reshape(-1).tolist())


# -- module 4 ---------------------------------------------------------------------------------------------------------


def test_convolutions_are_anchored_left_and_padded_right() -> None:
    out = minitorch.conv1d(minitorch.tensor([[[0, 1, 2, 3]]]), minitorch.tensor([[[1, 2, 3]]]))
    assert out.to_numpy().tolist() == [[[8, 14, 8, 3]]]
    minitorch.grad_check(minitorch.conv1d, random_tensor(1, (2, 2, 6)), random_tensor(2, (3, 2, 2)))
    minitorch.grad_check(minitorch.Conv2dFun.apply, random_tensor(1, (2, 2, 6, 6)), random_tensor(2, (3, 2, 2, 4)))


@pytest.mark.parametrize("reverse", [False, True])
def test_storages_are_convolved_both_ways(reverse: bool) -> None:
    """Kernels of one row make images of one row convolve as rows do."""
    x, w, out = random_tensor(1, (2, 2, 5)), random_tensor(2, (3, 2, 2)), minitorch.zeros((2, 3, 5))
    data = out._tensor
    minitorch.tensor_conv1d(*data.tuple(), data.size, *x.tuple(), *w.tuple(), reverse)
    for n, o, i in data.indices():
        places = [(c, k, i - k if reverse else i + k) for c in range(2) for k in range(2)]
        wanted = sum(x[n, c, place] * w[o, c, k] for c, k, place in places if 0 <= place < 5)
        assert out[n, o, i] == pytest.approx(wanted)
    flat = [t.contiguous().view(*t.shape[:2], 1, t.shape[2]) for t in (x, w)]
    images = minitorch.zeros((2, 3, 1, 5))
    minitorch.tensor_conv2d(*images._tensor.tuple(), images.size, *flat[0].tuple(), *flat[1].tuple(), reverse)
    assert images.view(2, 3, 5).is_close(out).all().item() == 1


def test_pooling_softmax_and_dropout() -> None:
    t = random_tensor(1, (2, 3, 4, 4))
    tiles, rows, columns = minitorch.tile(t, (2, 1))
    assert (tiles.shape, rows, columns) == ((2, 3, 2, 4, 2), 2, 4)
    assert minitorch.avgpool2d(t, (2, 1)).is_close(tiles.mean(4).view(2, 3, 2, 4)).all().item() == 1
    assert minitorch.maxpool2d(t, (2, 1)).is_close(minitorch.max(tiles, 4).view(2, 3, 2, 4)).all().item() == 1
    assert minitorch.max_reduce(t, 2).is_close(minitorch.max(t, 2)).all().item() == 1
    assert minitorch.argmax(t, 2).sum(2).is_close(minitorch.zeros((2, 3, 1, 4)) + 1).all().item() == 1
    assert minitorch.logsoftmax(t, 3).exp().is_close(minitorch.softmax(t, 3)).all().item() == 1
    for function in (lambda a: minitorch.max(a, 1), lambda a: minitorch.softmax(a, 1), lambda a: minitorch.logsoftmax(a, 2),
                     lambda a: minitorch.avgpool2d(a, (2, 2)), lambda a: minitorch.maxpool2d(a, (2, 2))):
        minitorch.grad_check(function, t)
    for kept in (minitorch.dropout(t, 0.0), minitorch.dropout(t, 1.0, ignore=True)):
        assert kept.is_close(t).all().item() == 1
    assert minitorch.dropout(t, 1.0).sum()[0] == 0


class Linear(minitorch.Module):
    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.weights = minitorch.Parameter(2 * (minitorch.rand((n_in, n_out)) - 0.5))
        self.bias = minitorch.Parameter(2 * (minitorch.rand((n_out,)) - 0.5))

    def forward(self, x: minitorch.Tensor) -> minitorch.Tensor:
        return x @ self.weights.value + self.bias.value


class Network(minitorch.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = Linear(2, 8), Linear(8, 1)

    def forward(self, x: minitorch.Tensor) -> minitorch.Tensor:
        return self.last(self.first(x).relu()).sigmoid()


def test_a_training_step_in_its_names_compiles() -> None:
    """One signature, and the numbers of the eager step."""
    def losses(compiled: bool) -> list[float]:
        fb.manual_seed(0)
        random.seed(0)
        data, network = minitorch.datasets["Simple"](40), Network()
        optimizer = minitorch.SGD(network.parameters(), 0.5)

        def step(x: minitorch.Tensor, y: minitorch.Tensor) -> minitorch.Tensor:
            optimizer.zero_grad()
            out = network(x).view(40)
            loss = -(out * y + (out - 1.0) * (y - 1.0)).log().sum() / 40
            loss.backward()
            optimizer.step()
            return loss

        run = fb.compile(step) if compiled else step
        found = [run(minitorch.tensor(data.X), minitorch.tensor(data.y))[0] for _ in range(40)]
        assert not compiled or len(run.signatures) == 1  # type: ignore[attr-defined]
        return found

    eager = losses(False)
    assert eager[-1] < 0.5 * eager[0]
    assert losses(True) == pytest.approx(eager, rel=1e-10)


@pytest.mark.parametrize("compiled", [False, True])
def test_scalars_train(compiled: bool) -> None:
    inner = Inner()
    w = inner.add_parameter("w", minitorch.Scalar(0.0))
    optimizer = minitorch.SGD([w], 0.1)

    def step(x: minitorch.Scalar) -> None:
        optimizer.zero_grad()
        error = w.value * 2 - x
        (error * error).backward()
        optimizer.step()

    run = fb.compile(step) if compiled else step
    for _ in range(50):
        run(minitorch.Scalar(6, name="x"))
    assert w.value.data == pytest.approx(3)
    assert not compiled or len(run.signatures) == 1  # type: ignore[attr-defined]


def test_images_and_sentences_train_compiled() -> None:
    """One step of a convolutional network in these names is that of the eager code."""
    backend = BACKENDS[1]

    def step(images: minitorch.Tensor, sentences: minitorch.Tensor, w2: minitorch.Tensor, w1: minitorch.Tensor) -> Any:
        pooled = minitorch.avgpool2d(minitorch.conv2d(images, w2).relu(), (2, 2))
        found = minitorch.max(minitorch.conv1d(sentences.permute(0, 2, 1), w1).relu(), 2)
        loss = minitorch.logsoftmax(pooled.contiguous().view(2, 12), dim=1).sum() + found.sigmoid().log().sum()
        loss.backward()
        return loss, w2.grad, w1.grad

    def given() -> list[minitorch.Tensor]:
        shapes = [(2, 1, 4, 4), (2, 5, 3), (3, 1, 3, 3), (4, 3, 2)]
        made = [random_tensor(seed, shape, backend) for seed, shape in enumerate(shapes)]
        for weight in made[2:]:
            weight.requires_grad_(True)
        return made

    for eager, compiled in zip(step(*given()), fb.compile(step)(*given()), strict=True):
        np.testing.assert_allclose(compiled.to_numpy(), eager.to_numpy(), rtol=1e-12, atol=1e-14)


# -- the page ---------------------------------------------------------------------------------------------------------

PAGE = Path(__file__).resolve().parents[2] / "docs" / "minitorch.md"
ROW = re.compile(r"^\| (`.*?) \| (.*) \|$", re.MULTILINE)
NOT_SAID = {"MAX_DIMS", "TensorLike", "ScalarLike", "UserIndex", "UserShape", "UserStrides", "Index", "OutIndex", "Shape",
            "Storage", "Strides", "version"}                    # types of annotations, and the version


def resolved(path: str, start: Any) -> Any:
    for name in path.split("."):
        start = getattr(start, name)
    return start


def test_the_page_names_everything_and_every_name_is_there() -> None:
    rows = ROW.findall(PAGE.read_text(encoding="utf-8"))
    theirs = {name for left, _ in rows for name in re.findall(r"`([\w.]+)`", left)}
    ours = {name for _, right in rows for name in re.findall(r"`(fb[\w.]+|x\.\w+|m\.\w+)[`(]", right)}
    assert len(theirs) > 150 and len(ours) > 60
    whose = {"t": minitorch.tensor([1], requires_grad=True), "s": minitorch.Scalar(1), "d": minitorch.TensorData([1], (1,)),
             "module": minitorch.Module(), "p": minitorch.Parameter(1), "op": minitorch.SGD([])}
    for name in theirs:
        first, _, rest = name.partition(".")
        if first in whose:
            resolved(rest, whose[first])
        else:
            resolved(name, minitorch)
    for name in ours:
        first, _, rest = name.partition(".")
        resolved(rest, {"fb": fb, "x": fb.zeros(2), "m": fb.nn.Linear(1, 1)}[first])
    public = {name for name in dir(minitorch) if not name.startswith("_")} - NOT_SAID
    files = {name for name in public if type(getattr(minitorch, name)) is type(minitorch)}
    assert not public - files - {name.rpartition(".")[2] for name in theirs}
    said = {name.rpartition(".")[2] for name in theirs if name.startswith("operators.")}
    assert said >= {fn.__name__ for fn in operators.OF_ELEMENTS}
