"""The contract of @fb.compile: the same numbers as without it, never silently something else."""
from __future__ import annotations

import dataclasses
import gc
import logging
import threading

import numpy as np
import pytest

import flambeau as fb
import flambeau.nn.functional as F
from flambeau import nn, optim
from flambeau.errors import CaptureError, FlambeauError, TraceError, UnsupportedError


def test_both_spellings_of_the_decorator() -> None:
    @fb.compile
    def plain(x):
        return x + 1

    @fb.compile()
    def called(x):
        return x + 1

    x = fb.ones(3)
    assert plain(x).tolist() == called(x).tolist() == [2.0, 2.0, 2.0]
    assert plain.__name__ == "plain"


def test_one_trace_serves_every_call_of_a_signature() -> None:
    traced = []

    @fb.compile
    def f(x):
        traced.append          # read, not called: a method of a guarded list
        return x * 2

    for n in range(5):
        assert f(fb.full((3,), float(n))).tolist() == [2.0 * n] * 3
    assert len(f.signatures) == 1
    f(fb.ones(4))
    assert len(f.signatures) == 2
    assert "f32[4], was f32[3]" in f.signatures[1].reason


def test_containers_of_arguments_and_results() -> None:
    @dataclasses.dataclass
    class Pair:
        left: object
        right: object

    @fb.compile
    def f(items, *, options):
        return {"sum": items[0] + items[1]["b"], "pair": Pair(options["scale"] * items[0], 7), "none": None}

    out = f([fb.ones(2), {"b": fb.full((2,), 3.0)}], options={"scale": 2.0})
    assert out["sum"].tolist() == [4.0, 4.0]
    assert isinstance(out["pair"], Pair) and out["pair"].left.tolist() == [2.0, 2.0] and out["pair"].right == 7
    assert out["none"] is None


def test_numbers_never_recompile() -> None:
    @fb.compile
    def f(x, scale, shift):
        return x * scale + shift

    x = fb.ones(2)
    for n in range(10):
        assert f(x, 0.5 * n, n).tolist() == [0.5 * n + n] * 2
    assert len(f.signatures) == 1


def test_a_number_that_python_looks_at_is_guarded() -> None:
    @fb.compile
    def f(x, n):
        for _ in range(n):
            x = x * 2
        return x

    assert f(fb.ones(1), 3).item() == 8.0
    assert f(fb.ones(1), 4).item() == 16.0
    assert f(fb.ones(1), 3).item() == 8.0
    assert len(f.signatures) == 2


def test_int_and_float_numbers_promote_as_in_eager_mode() -> None:
    def f(x, n):
        return x * n

    ints = fb.tensor([1, 2])
    compiled = fb.compile(f)
    assert compiled(ints, 3).dtype is f(ints, 3).dtype is fb.int64
    assert compiled(ints, 3.0).dtype is f(ints, 3.0).dtype is fb.float32


def test_closures_and_globals_are_guarded() -> None:
    factor = 2.0

    @fb.compile
    def f(x):
        return x * factor

    assert f(fb.ones(1)).item() == 2.0
    factor = 3.0
    assert f(fb.ones(1)).item() == 3.0
    assert "factor" in f.signatures[1].reason


def test_a_counter_is_an_effect_that_raises() -> None:
    count = 0

    @fb.compile
    def f(x):
        nonlocal count
        count += 1
        return x + 1

    with pytest.raises(CaptureError, match="count"):
        f(fb.ones(1))


def test_appending_to_a_list_raises() -> None:
    log: list = []

    @fb.compile
    def f(x):
        log.append(1)
        return x + 1

    with pytest.raises(CaptureError, match="log"):
        f(fb.ones(1))


def test_a_dtype_is_an_argument_and_a_result_like_any_object() -> None:
    f = fb.compile(lambda x, dtype: (x.to(dtype), fb.full_like(x, 3, dtype=dtype), [dtype], x.dtype))
    x = fb.tensor([1, 2], dtype=fb.int32)
    for dtype in (fb.float64, fb.int64, fb.bfloat16, fb.float64):
        cast, filled, same, own = f(x, dtype)
        assert (cast.dtype, filled.dtype, own) == (dtype, dtype, fb.int32)
        assert same[0] is dtype
        assert cast.tolist() == [1, 2]
        assert filled.tolist() == [3, 3]
    assert len(f.signatures) == 3
    assert "argument 1" in f.signatures[1].reason


def test_a_container_among_the_arguments_that_is_put_into_another_raises() -> None:
    @fb.compile
    def f(items, others):
        items.append(others)

    with pytest.raises(CaptureError, match="container"):
        f([fb.ones(1)], [fb.ones(1)])


def test_if_on_a_traced_tensor_names_the_line_and_a_way_out() -> None:
    @fb.compile
    def f(x):
        if x.sum() > 0:
            return x
        return -x

    with pytest.raises(TraceError, match=r"test_compile\.py:\d+: if x\.sum\(\) > 0:") as info:
        f(fb.ones(2))
    assert "fb.where" in str(info.value)


@pytest.mark.parametrize("look", [lambda t: t.item(), float, int, bool, lambda t: t.numpy(), lambda t: t.tolist(), print,
                                  repr, str, "{:.1f}".format])
def test_values_of_traced_tensors_are_refused(look) -> None:
    @fb.compile
    def f(x):
        look(x.sum())
        return x

    with pytest.raises(TraceError):
        f(fb.ones(2))


def test_values_of_captured_tensors_are_refused() -> None:
    scale = fb.full((1,), 2.0)

    @fb.compile
    def f(x):
        return x * scale.item()

    with pytest.raises(TraceError, match="frozen"):
        f(fb.ones(2))


def test_a_leaked_traced_tensor_says_where_it_was_made() -> None:
    logger = logging.getLogger("a place that is not watched")

    @fb.compile
    def f(x):
        y = x + 1
        logger.kept = y
        return y * 2

    f(fb.ones(2))
    with pytest.raises(TraceError, match=r"test_compile\.py:\d+: y = x \+ 1"):
        logger.kept.tolist()


def test_numpy_arguments_are_refused_with_the_way_out() -> None:
    with pytest.raises(TraceError, match="NumPy") as info:
        fb.compile(lambda x: x)(np.ones(3))
    assert "from_numpy" in str(info.value)


def test_captured_tensors_change_in_place() -> None:
    total = fb.zeros(2)

    @fb.compile
    def add(x):
        total.add_(x)
        return total * 1

    for n in range(1, 4):
        assert add(fb.ones(2)).tolist() == [float(n)] * 2
    assert total.tolist() == [3.0, 3.0]


def test_arguments_change_in_place_even_through_views() -> None:
    def f(x):
        x[1:] += 10
        x.view(-1)[0] = 5
        return x.sum()

    eager, compiled = fb.arange(4.0), fb.arange(4.0)
    assert f(eager).item() == fb.compile(f)(compiled).item()
    assert eager.tolist() == compiled.tolist() == [5.0, 11.0, 12.0, 13.0]


def test_a_view_argument_changes_its_base() -> None:
    base = fb.zeros(3, 3)

    @fb.compile
    def fill(column):
        column.fill_(7.0)

    fill(base[:, 1])
    assert base.tolist() == [[0.0, 7.0, 0.0]] * 3


def test_aliased_arguments_with_a_write_raise() -> None:
    @fb.compile
    def f(a, b):
        a += 1
        return a + b

    x = fb.ones(2)
    f(fb.ones(2), fb.ones(2))
    with pytest.raises(UnsupportedError, match="share memory"):
        f(x, x.detach())
    assert x.tolist() == [1.0, 1.0]


def test_one_tensor_as_two_arguments_is_one_tensor() -> None:
    def f(a, b):
        a += 1
        return a + b, a is b

    compiled, x = fb.compile(f), fb.ones(2)
    assert not compiled(fb.ones(2), fb.ones(2))[1]
    total, is_same = compiled(x, x)
    assert total.tolist() == [4.0, 4.0] and is_same
    assert not compiled(fb.ones(2), fb.ones(2))[1]


def test_noncontiguous_zero_size_and_0d_arguments() -> None:
    def f(x):
        return (x * 2).sum() + x.sum()

    compiled = fb.compile(f)
    for x in (fb.arange(12.0).reshape(3, 4).t(), fb.arange(12.0)[::2], fb.zeros(0, 4), fb.tensor(3.0)):
        assert compiled(x).item() == f(x).item()


def test_results_are_differentiable_outside() -> None:
    weight = fb.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)

    def f(x):
        return fb.tanh(x @ weight)

    x = fb.tensor([[0.1, 0.2]], requires_grad=True)
    f(x).sum().backward()
    expected = weight.grad.tolist(), x.grad.tolist()
    weight.grad = x.grad = None
    (fb.compile(f)(x).sum() * 1.0).backward()
    np.testing.assert_allclose(weight.grad.numpy(), expected[0], rtol=1e-6)
    np.testing.assert_allclose(x.grad.numpy(), expected[1], rtol=1e-6)


def test_no_grad_is_part_of_the_signature() -> None:
    weight = fb.ones(2, requires_grad=True)

    @fb.compile
    def f(x):
        return x * weight

    assert f(fb.ones(2)).requires_grad
    with fb.no_grad():
        assert not f(fb.ones(2)).requires_grad
    assert len(f.signatures) == 2 and "grad mode" in f.signatures[1].reason


def test_a_compiled_function_inside_another_becomes_part_of_it() -> None:
    @fb.compile
    def inner(x):
        return x * 3

    @fb.compile
    def outer(x):
        return inner(x) + 1

    assert outer(fb.ones(1)).item() == 4.0
    assert not inner.signatures and len(outer.signatures) == 1


def test_methods_compile() -> None:
    class Scaler:
        def __init__(self, factor):
            self.factor = factor

        @fb.compile
        def __call__(self, x):
            return x * self.factor

        @fb.compile
        def twice(self, x):
            return x * self.factor * 2

    two, three = Scaler(2.0), Scaler(3.0)
    assert two.twice(fb.ones(1)).item() == 4.0
    assert three.twice(fb.ones(1)).item() == 6.0
    two.factor = 5.0
    assert two.twice(fb.ones(1)).item() == 10.0


def test_a_compiled_module_stays_a_module() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    compiled = fb.compile(model)
    assert isinstance(compiled, nn.Sequential) and isinstance(compiled, nn.Module)
    assert [n for n, _ in compiled.named_parameters()] == [n for n, _ in model.named_parameters()]
    x = fb.randn(5, 4)
    np.testing.assert_allclose(compiled(x).detach().numpy(), model(x).detach().numpy(), rtol=1e-5, atol=1e-6)
    compiled(x).sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    compiled.eval()
    assert not model.training


def make_step(model, optimizer, loss=F.mse_loss):
    def step(x, y):
        optimizer.zero_grad()
        value = loss(model(x), y)
        value.backward()
        optimizer.step()
        return value
    return step


@pytest.mark.parametrize("optimizer", [
    lambda p: optim.SGD(p, lr=0.1), lambda p: optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01),
    lambda p: optim.Adam(p, lr=0.01), lambda p: optim.AdamW(p, lr=0.01)], ids=["sgd", "momentum", "adam", "adamw"])
def test_train_steps_equal_eager_ones_and_lr_never_recompiles(optimizer) -> None:
    fb.manual_seed(0)
    models = [nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 2)).double() for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    optimizers = [optimizer(m.parameters()) for m in models]
    eager = make_step(models[0], optimizers[0])
    compiled = fb.compile(make_step(models[1], optimizers[1]))
    x, y = fb.randn(8, 6).double(), fb.randn(8, 2).double()
    for n in range(12):
        for opt in optimizers:
            opt.param_groups[0]["lr"] = 0.1 / (n + 1)
        np.testing.assert_allclose(compiled(x, y).item(), eager(x, y).item(), rtol=1e-12)
    assert len(compiled.signatures) == 1
    for p, q in zip(models[0].parameters(), models[1].parameters(), strict=True):
        np.testing.assert_allclose(q.detach().numpy(), p.detach().numpy(), rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(q.grad.numpy(), p.grad.numpy(), rtol=1e-10, atol=1e-14)


def test_train_and_eval_recompile_once_each_and_say_why() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
    run = fb.compile(lambda x: model(x))
    x = fb.randn(8, 4)
    for _ in range(3):
        model.train()
        run(x)
        model.eval()
        run(x)
    assert len(run.signatures) == 2
    assert "training" in run.signatures[1].reason


def test_dropout_draws_are_those_of_eager_mode() -> None:
    def f(x):
        return F.dropout(x, 0.5)

    compiled, x = fb.compile(f), fb.ones(1000)
    fb.manual_seed(3)
    eager = [f(x).tolist() for _ in range(3)]
    fb.manual_seed(3)
    assert [compiled(x).tolist() for _ in range(3)] == eager
    assert eager[0] != eager[1]


def test_batch_norm_statistics_are_state() -> None:
    models = [nn.BatchNorm2d(3) for _ in range(2)]
    compiled = fb.compile(lambda x: models[1](x))
    for n in range(4):
        x = fb.randn(4, 3, 5, 5) + n
        np.testing.assert_allclose(compiled(x).detach().numpy(), models[0](x).detach().numpy(), rtol=2e-5, atol=2e-6)
    for name, buffer in models[0].named_buffers():
        np.testing.assert_allclose(dict(models[1].named_buffers())[name].numpy(), buffer.numpy(), rtol=1e-6)
    assert models[1].num_batches_tracked.item() == 4


def test_gradients_accumulate_when_nothing_clears_them() -> None:
    weight = fb.ones(2, requires_grad=True)

    @fb.compile
    def f(x):
        (x * weight).sum().backward()

    for n in range(1, 5):
        f(fb.ones(2))
        assert weight.grad.tolist() == [float(n)] * 2


def test_backward_of_a_returned_loss_a_second_time_raises() -> None:
    weight = fb.ones(2, requires_grad=True)

    @fb.compile
    def f(x):
        loss = (x * weight).sum()
        loss.backward()
        return loss

    with pytest.raises(RuntimeError, match="second time"):
        f(fb.ones(2)).backward()


def test_loading_a_state_dict_needs_no_recompile() -> None:
    model = nn.Linear(2, 1)
    run = fb.compile(lambda x: model(x))
    run(fb.ones(1, 2))
    model.load_state_dict({"weight": fb.tensor([[1.0, 2.0]]), "bias": fb.tensor([3.0])})
    assert run(fb.ones(1, 2)).item() == 6.0
    assert len(run.signatures) == 1


def test_replacing_a_parameter_recompiles() -> None:
    model = nn.Linear(2, 1, bias=False)
    run = fb.compile(lambda x: model(x))
    run(fb.ones(1, 2))
    model.weight = nn.Parameter(fb.tensor([[4.0, 5.0]]))
    assert run(fb.ones(1, 2)).item() == 9.0
    assert len(run.signatures) == 2


def test_the_recompile_limit_is_an_error_with_the_count() -> None:
    f = fb.compile(lambda x: x + 1, recompile_limit=3, dynamic=False)
    for n in range(1, 4):
        f(fb.ones(n))
    with pytest.raises(UnsupportedError, match="3 signatures"):
        f(fb.ones(9))


def test_an_error_inside_leaves_no_trace_active() -> None:
    @fb.compile
    def f(x):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        f(fb.ones(1))
    assert (fb.ones(1) + 1).item() == 2.0


def test_shape_errors_under_trace_name_the_line() -> None:
    @fb.compile
    def f(x, y):
        return x @ y

    with pytest.raises(RuntimeError, match=r"test_compile\.py:\d+: return x @ y"):
        f(fb.ones(2, 3), fb.ones(2, 3))


def test_threads_may_call_one_compiled_function_at_once() -> None:
    f = fb.compile(lambda x: (x * 2).sum())
    f(fb.ones(1000))
    results: list[float] = []

    def work(n: int) -> None:
        for _ in range(50):
            results.append(f(fb.full((1000,), float(n))).item() - 2000.0 * n)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert results == [0.0] * 200


def test_disable_jit_runs_eagerly() -> None:
    f = fb.compile(lambda x: x + 1)
    with fb.config.set(disable_jit=True):
        assert f(fb.ones(1)).item() == 2.0
    assert not f.signatures


def test_ir_text_of_every_level() -> None:
    model = nn.Linear(3, 2)
    opt = optim.SGD(model.parameters(), lr=0.1)
    step = fb.compile(make_step(model, opt))
    step(fb.ones(4, 3), fb.ones(4, 2))
    for level in ("graph", "autodiff", "fused"):
        assert str(fb.ir.parse(step.ir(level))) == step.ir(level)
    assert "phase=backward" in step.ir("autodiff") or "backward" in step.ir("autodiff")
    assert "@k0" in step.ir("kernels") and "define" in step.ir("llvm") and step.ir("asm")
    assert step.ir("cse")
    with pytest.raises(ValueError, match="no IR level"):
        step.ir("nonsense")
    text = step.explain()
    assert "launches" in text and "lr" in text
    assert step.stats().n_kernels == step.stats()["n_kernels"] > 0


def test_dump_writes_numbered_files(tmp_path) -> None:
    with fb.config.set(dump=str(tmp_path)):
        fb.compile(lambda x: x * 2 + 1)(fb.ones(3))
    (folder,) = list(tmp_path.iterdir())
    names = sorted(p.name for p in folder.iterdir())
    assert names[0].startswith("00-") and any("fuse" in n for n in names) and names[-1].endswith(".s")


def test_dump_that_cannot_be_written_names_the_setting(tmp_path) -> None:
    (tmp_path / "file").write_text("in the way")
    with fb.config.set(dump=tmp_path / "file"), pytest.raises(FlambeauError, match="FLAMBEAU_DUMP.*file"):
        fb.compile(lambda x: x + 1)(fb.ones(3))


def test_dump_of_a_function_with_any_name_is_one_folder(tmp_path) -> None:
    f = fb.compile(lambda x: x + 1)
    f.name = "../a/b"
    with fb.config.set(dump=tmp_path / "dumps"):
        f(fb.ones(3))
    (folder,) = (tmp_path / "dumps").iterdir()
    assert (folder / "00-input.txt").exists() and len(list(tmp_path.iterdir())) == 1


def test_recompiles_are_logged(capsys) -> None:
    f = fb.compile(lambda x: x + 1)
    with fb.config.set(logs="recompiles"):
        f(fb.ones(1))
        f(fb.ones(2))
    assert "recompiles because" in capsys.readouterr().err


def test_calls_do_not_grow_memory() -> None:
    f = fb.compile(lambda x: (x * 2, x.sum()))
    x = fb.ones(1000)
    f(x)
    gc.collect()
    before = len(gc.get_objects())
    for _ in range(200):
        f(x)
    gc.collect()
    assert len(gc.get_objects()) - before < 50


def test_ir_of_a_function_that_changes_its_argument_parses() -> None:
    @fb.compile
    def double(x):
        x.mul_(2)

    double(fb.ones(3))
    for level in ("graph", "fused"):
        assert str(fb.ir.parse(double.ir(level))) == double.ir(level)


def test_requires_grad_that_a_function_sets_is_what_it_finds_the_next_time() -> None:
    def f(w, x):
        if w[0].requires_grad:
            w[0].requires_grad_(False)
            return x * 2
        return x * 3

    def seen(function) -> list[float]:
        w = [fb.ones(1, requires_grad=True)]
        found = [function(w, fb.ones(1)).item() for _ in range(3)]
        w[0].requires_grad_(True)
        return [*found, function(w, fb.ones(1)).item(), float(w[0].requires_grad)]

    weights = [fb.ones(1, requires_grad=True)]
    compiled = fb.compile(lambda x: f(weights, x))
    found = [compiled(fb.ones(1)).item() for _ in range(3)]
    weights[0].requires_grad_(True)
    assert [*found, compiled(fb.ones(1)).item(), float(weights[0].requires_grad)] == seen(f)
