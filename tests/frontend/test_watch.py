"""Which code is watched, which names it holds, and what a trace leaves behind."""
from __future__ import annotations

import os
import random
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

import flambeau as fb
from flambeau import nn, optim
from flambeau.errors import CaptureError, TraceError
from flambeau.frontend.trace.guards import reads


def test_what_code_reads_by_name() -> None:
    def f(x, config):
        import json
        return x * config.model.width + len(getattr(config, "name")) + json.loads(SCALE).real      # noqa: B009

    found = reads.reads_of(f.__code__)
    assert found.globals == ("len", "getattr", "SCALE")
    assert found.attributes == {"model", "width", "name", "loads", "real"}
    assert found.modules == ("json",)
    assert not found.is_open


def test_attributes_are_found_the_short_way_too() -> None:
    def odd(x, *names):
        match x:
            case complex(real=real):
                return real
        del x.gone
        return super(type(x), x).above.format("{0.width}") + getattr(x, "named") + x.called(len).stored      # noqa: B009

    long = "\n".join(["def long(x):", *(f" x.name{n} = y{n}" for n in range(300))])
    scope: dict = {}
    exec(long, scope)
    classes = [fb.Tensor, nn.Module, nn.LSTM, optim.AdamW, optim.LBFGS, types.SimpleNamespace, subprocess.Popen]
    codes = [code for kind in classes for base in kind.__mro__ for value in vars(base).values()
             for code in reads._codes_in(value)]
    assert len(codes) > 500
    for code in [*codes, odd.__code__, scope["long"].__code__]:
        assert reads.attributes_of(code) == reads.reads_of(code).attributes, code


@pytest.mark.parametrize("body", ["getattr(x, name)", "getattr(x, f'layer{name}')", "vars(x)", "x.__dict__[name]",
                                  "getattr(x, 'a' + name)", "setattr(x, name, 1)"])
def test_computed_names_open_an_object(body) -> None:
    code = compile(f"lambda x, name: {body}", "<test>", "eval").co_consts[0]
    assert reads.reads_of(code).is_open


@pytest.mark.parametrize(("path", "is_the_users"), [
    ("/usr/src/app/train.py", True),                # Python's prefix is /usr in every container
    ("/usr/lib/python3.11-project/train.py", True),
    ("/usr/lib/python3.11/random.py", False),
    ("/usr/lib/python3.11/site-packages/einops/layers.py", False),
    ("/usr/local/lib/python3.11/dist-packages/einops/layers.py", False),
    ("<stdin>", True),
    ("<ipython-input-3-0c1d>", True),
    ("<frozen importlib._bootstrap>", False),
])
def test_where_code_lies(monkeypatch, path, is_the_users) -> None:
    monkeypatch.setattr(reads, "_STDLIB", ("/usr/lib/python3.11/",))
    monkeypatch.setattr(reads, "_INSTALLED", ("/usr/local/lib/python3.11/dist-packages/",))
    monkeypatch.setattr(reads, "_is_user_file", {})
    assert reads.is_user_file(path) is is_the_users


def test_numpy_is_no_user_code_wherever_it_lies() -> None:
    """As `pip install --target` puts it: what it keeps to be faster (the limits of a dtype) is no effect of the user's."""
    assert not reads.is_user_file(np.__file__)
    shown = "import sys; sys.path[:0] = sys.argv[1:]; import numpy; from flambeau.frontend.trace.guards import reads; " \
            "print(reads.is_user_file(numpy.__file__), reads.is_user_file(sys.argv[1] + '/of_mine.py'))"
    folders = [str(Path(module.__file__).parents[1]) for module in (np, fb)]
    found = subprocess.run([os.path.realpath(sys.executable), "-S", "-I", "-c", shown, *folders], capture_output=True,
                           text=True, check=True)
    assert found.stdout.split() == ["False", "True"]


def test_eval_of_a_deep_network_is_noticed() -> None:
    net: nn.Module = nn.Dropout(0.5)
    for _ in range(60):
        net = nn.Sequential(net)
    compiled = fb.compile(net)
    x = fb.ones(400)
    assert (compiled(x) == 0).any().item()
    net.eval()
    assert compiled(x).tolist() == x.tolist()


def test_the_last_of_two_thousand_layers_is_noticed() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words = {f"word {n}": n for n in range(1200)}
            self.layers = nn.ModuleList(nn.Identity() for _ in range(2000))
            self.scale = 2.0

        def forward(self, x):
            for layer in self.layers:
                x = layer(x)
            return x * self.scale * len(self.words)

    net = Net()
    compiled = fb.compile(net)
    assert compiled(fb.ones(1)).item() == 2400.0
    net.scale = 5.0
    assert compiled(fb.ones(1)).item() == 6000.0
    net.layers[1999] = nn.ReLU()
    assert compiled(-fb.ones(1)).item() == 0.0
    net.words["word 1200"] = 1200
    assert compiled(fb.ones(1)).item() == 6005.0


def test_state_that_no_code_names_never_recompiles() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(2, 2)
            self.losses: list[float] = []
            self.trainer: object = None

        def forward(self, x):
            return self.fc(x)

    class Trainer:
        def __init__(self, net: Net) -> None:
            self.net, self.count = net, 0
            net.trainer = self
            self.opt = optim.SGD(net.parameters(), lr=0.1)
            self.step = fb.compile(self.train)

        def train(self, x):
            self.opt.zero_grad()
            loss = self.net(x).square().mean()
            loss.backward()
            self.opt.step()
            return loss

    trainer = Trainer(Net())
    for _ in range(100):
        trainer.net.losses.append(trainer.step(fb.ones(1, 2)).item())
        trainer.count += 1
    assert len(trainer.step.signatures) == 1


def test_what_an_equal_object_replaces_is_compared_by_identity_again() -> None:
    config = types.SimpleNamespace(sizes=[1, 2])
    compiled = fb.compile(lambda x: x * config.sizes[1])
    compiled(fb.ones(1))
    entry = compiled.signatures[0].entry
    config.sizes = [1, 2]
    assert not entry.guards.quick()
    assert compiled(fb.ones(1)).item() == 2.0 and entry.guards.quick()
    config.sizes[1] = 3
    assert compiled(fb.ones(1)).item() == 3.0 and len(compiled.signatures) == 2


FACTOR = 2.0


def scaled(x):
    return x * FACTOR


def by_eval(x):
    return eval("scaled(x)")


def by_exec(x):
    space = {"scaled": scaled, "x": x}
    exec("y = scaled(x)", space)
    return space["y"]


@pytest.mark.parametrize("function", [by_eval, by_exec])
def test_what_runs_inside_eval_and_exec_is_watched(monkeypatch, function) -> None:
    compiled = fb.compile(function)
    assert compiled(fb.ones(1)).item() == 2.0
    monkeypatch.setitem(globals(), "FACTOR", 3.0)
    assert compiled(fb.ones(1)).item() == 3.0


class Wanted(Exception):
    pass


@pytest.mark.parametrize("error", [Wanted, KeyboardInterrupt, None])
def test_a_trace_that_fails_leaves_nothing_behind(error) -> None:
    net = nn.Linear(2, 2)
    opt = optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    log, table, seen, box = [1], {"a": [2]}, {3}, types.SimpleNamespace(kept=None)
    before = net.weight, net.weight.tolist()

    def step(x):
        y = net(x)
        log.append(y)
        table["a"].append(y)
        table["b"] = y
        seen.add(4)
        box.kept = box.new = y
        opt.param_groups[0]["lr"] = 0.5
        net.weight.register_hook(lambda g: g)
        net.training = False
        net.extra = y
        (y.sum() * 2).backward()
        opt.step()
        if error is not None:
            raise error
        return y

    profile = sys.getprofile()
    for _ in range(2):
        with pytest.raises(error or CaptureError):
            fb.compile(step)(fb.ones(1, 2))
        assert log == [1] and table == {"a": [2]} and seen == {3} and vars(box) == {"kept": None}
        assert opt.param_groups[0]["lr"] == 0.1 and not opt.state and net.training and not hasattr(net, "extra")
        assert net.weight is before[0] and net.weight.tolist() == before[1] and net.weight.grad is None
        assert not net.weight._hooks and net.weight.requires_grad and sys.getprofile() is profile


GENERATOR = np.random.default_rng(0)


@pytest.mark.parametrize("draw", [random.random, lambda: random.uniform(0, 1), lambda: np.random.rand(),
                                  lambda: GENERATOR.normal(), lambda: random.choice([1, 2])])
def test_random_numbers_of_python_are_refused(draw) -> None:
    with pytest.raises(TraceError, match="random number"):
        fb.compile(lambda x: x * draw())(fb.ones(1))


def test_changing_the_environment_is_refused() -> None:
    def f(x):
        os.environ["FLAMBEAU_TEST_GUARDS"] = "1"
        return x

    with pytest.raises(CaptureError, match="environ"):
        fb.compile(f)(fb.ones(1))
    assert "FLAMBEAU_TEST_GUARDS" not in os.environ


SCALE = "2"


DRAWS = """
import sys
import numpy as np
import flambeau as fb

@fb.compile
def of_python(x):
    import random
    return x * random.random()

@fb.compile
def of_numpy(x):
    return x * np.random.rand()

x = fb.ones(2)
for function, module in ((of_python, "random"), (of_numpy, "numpy.random")):
    sys.modules.pop(module, None)
    try:
        function(x)
    except fb.errors.TraceError as error:
        assert "random number" in error.message, error.message
    else:
        raise AssertionError(f"{module} was drawn from")
"""


def test_draws_are_found_of_generators_whose_module_is_loaded_while_tracing(tmp_path: Path) -> None:
    (tmp_path / "draws.py").write_text(DRAWS, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run([sys.executable, str(tmp_path / "draws.py")], env=environment, check=True, timeout=120)
