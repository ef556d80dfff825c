"""Hooks of Modules and tensors, and Module's whole surface: programs that give in both libraries the same plain data."""

from __future__ import annotations

import copy
import pickle
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import flambeau as fb
from flambeau import nn
from flambeau.errors import CaptureError, UnsupportedError

torched = pytest.mark.torch
Program = Callable[[Any], Any]
PROGRAMS: list[Program] = []


def program(function: Program) -> Program:
    PROGRAMS.append(function)
    return function


def plain(value: Any) -> Any:
    """Tensors as lists, errors as their class, containers of them."""
    if hasattr(value, "detach"):
        return [round(v, 9) for v in value.detach().flatten().tolist()], list(value.shape)
    if isinstance(value, dict):
        return [(key, plain(v)) for key, v in value.items()]
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return value


def net(lib: Any, *sizes: int) -> Any:
    """Linear layers of known weights, f64."""
    n = lib.nn
    made = n.Sequential(*[n.Linear(a, b) for a, b in zip(sizes, sizes[1:], strict=False)]).double()
    with lib.no_grad():
        for number, p in enumerate(made.parameters()):
            p.copy_(lib.arange(p.numel()).reshape(p.shape) * 0.1 - 0.3 * number)
    return made


def x_of(lib: Any, *shape: int) -> Any:
    return (lib.arange(int(np.prod(shape))).double() * 0.25 - 1).reshape(shape)


def raised(function: Callable[[], Any]) -> str:
    try:
        function()
    except Exception as error:
        return type(error).__mro__[0].__name__ if type(error).__module__ == "builtins" else type(error).__mro__[1].__name__
    return "nothing"


# -- backward hooks ---------------------------------------------------------------------------------------------------


@program
def backward_hooks_see_and_replace(lib: Any) -> Any:
    m, seen = net(lib, 2, 3, 1), []

    def hook(module: Any, grad_input: Any, grad_output: Any) -> Any:
        seen.append((type(module).__name__, plain(grad_input), plain(grad_output)))
        return tuple(None if g is None else g * 2 for g in grad_input)

    m[0].register_full_backward_hook(hook)
    handle = m[1].register_full_backward_hook(hook)
    m[1].register_full_backward_pre_hook(lambda module, grad_output: (grad_output[0] * 3,))
    x = x_of(lib, 2, 2).requires_grad_()
    m(x).sum().backward()
    first = [x.grad.clone(), *[p.grad.clone() for p in m.parameters()]]
    handle.remove()
    m(x).sum().backward()
    return seen, first, x.grad


@program
def backward_hooks_of_modules_that_nothing_flows_into(lib: Any) -> Any:
    m, seen = net(lib, 2, 1), []
    m.register_full_backward_hook(lambda module, gi, go: seen.append((plain(gi), plain(go))))
    m(x_of(lib, 2, 2)).sum().backward()
    with lib.no_grad():
        m(x_of(lib, 2, 2))
    return seen, m[0].weight.grad


@program
def backward_hooks_of_several_inputs_and_outputs(lib: Any) -> Any:
    class Two(lib.nn.Module):
        def forward(self, a: Any, text: str, b: Any, *, scale: float) -> Any:
            return a * b * scale, text, a + b

    m, seen = Two(), []
    m.register_full_backward_hook(lambda module, gi, go: seen.append((plain(gi), plain(go))))
    m.register_full_backward_hook(lambda module, gi, go: seen.append("first"), prepend=True)
    a, b = x_of(lib, 2).requires_grad_(), x_of(lib, 2)
    first, text, second = m(a, "word", b, scale=2.0)
    (first * second).sum().backward()
    first, text, second = m(a, "word", b, scale=2.0)
    first.sum().backward()
    return seen, text, a.grad, b.requires_grad


@program
def backward_hooks_that_give_too_much(lib: Any) -> Any:
    m = net(lib, 2, 1)
    m.register_full_backward_hook(lambda module, gi, go: (gi[0], gi[0]))
    y = m(x_of(lib, 1, 2).requires_grad_()).sum()
    other = net(lib, 2, 1)
    other.register_full_backward_pre_hook(lambda module, go: ())
    z = other(x_of(lib, 1, 2)).sum()
    return raised(y.backward), raised(z.backward)


# -- forward hooks ----------------------------------------------------------------------------------------------------


@program
def forward_hooks_with_keywords_and_always_called(lib: Any) -> Any:
    class Picky(lib.nn.Module):
        def forward(self, x: Any, *, scale: float = 1.0) -> Any:
            if scale < 0:
                raise ValueError("negative")
            return x * scale

    m, seen = Picky(), []
    m.register_forward_hook(lambda module, args, kwargs, out: seen.append(("kw", kwargs, plain(out))), with_kwargs=True,
                            always_call=True)
    m.register_forward_hook(lambda module, args, out: seen.append("plain"))
    m.register_forward_pre_hook(lambda module, args, kwargs: (args, {"scale": kwargs["scale"] * 2}), with_kwargs=True)
    found = m(x_of(lib, 2), scale=2.0)
    return found, raised(lambda: m(x_of(lib, 2), scale=-1.0)), seen, len(m._forward_hooks), len(m._forward_pre_hooks)


@program
def hooks_of_all_modules(lib: Any) -> Any:
    where, m, seen = lib.nn.modules.module, net(lib, 2, 2), []
    handles = [
        where.register_module_forward_hook(lambda module, args, out: seen.append(("out", type(module).__name__))),
        where.register_module_forward_pre_hook(lambda module, args: (args[0] * 2,)),
        where.register_module_full_backward_hook(lambda module, gi, go: seen.append(("back", plain(go)))),
        where.register_module_full_backward_pre_hook(lambda module, go: (go[0] * 2,))]
    y = m(x_of(lib, 1, 2).requires_grad_())
    y.sum().backward()
    for handle in handles:
        handle.remove()
    return seen, y, m(x_of(lib, 1, 2)), m[0].weight.grad


@program
def hooks_of_registration(lib: Any) -> Any:
    where, seen = lib.nn.modules.module, []
    handles = [
        where.register_module_parameter_registration_hook(lambda module, name, p: seen.append(("parameter", name))),
        where.register_module_buffer_registration_hook(lambda module, name, b: b + 1),
        where.register_module_module_registration_hook(lambda module, name, m: seen.append(("module", name)))]
    m = lib.nn.Sequential(lib.nn.Linear(1, 1))
    m.register_buffer("b", lib.zeros(1))
    for handle in handles:
        handle.remove()
    m.register_buffer("c", lib.zeros(1))
    return seen, m.b, m.c


@program
def gradient_hooks_of_tensors(lib: Any) -> Any:
    w, seen = x_of(lib, 2).requires_grad_(), []
    handle = w.register_post_accumulate_grad_hook(lambda p: seen.append(plain(p.grad)))
    w.register_hook(lambda g: g * 10)
    (w * w).sum().backward()
    (w * 3).sum().backward()
    handle.remove()
    (w * 3).sum().backward()
    y = w * 2
    y.retain_grad()
    y.register_hook(lambda g: g + 1)
    y.sum().backward()
    return (seen, w.grad, y.grad, raised(lambda: y.register_post_accumulate_grad_hook(print)),
            raised(lambda: lib.zeros(1).register_post_accumulate_grad_hook(print)))


@program
def an_optimizer_in_the_backward_walk(lib: Any) -> Any:
    m = net(lib, 2, 3, 1)
    optimizers = {p: lib.optim.SGD([p], lr=0.1) for p in m.parameters()}

    def step(p: Any) -> None:
        optimizers[p].step()
        optimizers[p].zero_grad()

    for p in m.parameters():
        p.register_post_accumulate_grad_hook(step)
    losses = []
    for _ in range(3):
        loss = (m(x_of(lib, 4, 2)) ** 2).mean()
        loss.backward()
        losses.append(loss)
    return losses, [p.grad for p in m.parameters()], list(m.parameters())


# -- state_dict -------------------------------------------------------------------------------------------------------


@program
def hooks_of_state_dicts(lib: Any) -> Any:
    m, seen = net(lib, 1, 1), []
    m.register_state_dict_pre_hook(lambda module, prefix, keep_vars: seen.append(("pre", prefix, keep_vars)))
    m.register_state_dict_post_hook(lambda module, state, prefix, meta: state.update({prefix + "more": len(state)}))
    m[0].register_load_state_dict_pre_hook(
        lambda module, state, prefix, meta, strict, *lists: seen.append((prefix, sorted(state), strict)))
    m._register_load_state_dict_pre_hook(lambda state, prefix, *rest: state.pop("more", None))
    m.register_load_state_dict_post_hook(lambda module, keys: keys.missing_keys.clear())
    state = m.state_dict(prefix="p.", keep_vars=True)
    seen.append(sorted(state))
    own = m.state_dict()
    del own["0.bias"]
    found = m.load_state_dict(own)
    return seen, list(found.missing_keys), list(found.unexpected_keys), repr(found).replace("_Incomp", "Incomp")


@program
def extra_state_and_overridden_saving(lib: Any) -> Any:
    class Counted(lib.nn.Module):
        _version = 3

        def __init__(self) -> None:
            super().__init__()
            self.inner, self.count = lib.nn.Linear(1, 1), 5

        def get_extra_state(self) -> Any:
            return {"count": self.count}

        def set_extra_state(self, state: Any) -> None:
            self.count = state["count"]

        def _load_from_state_dict(self, state_dict: Any, prefix: str, metadata: Any, *rest: Any) -> None:
            self.seen = (prefix, metadata.get("version"))
            super()._load_from_state_dict(state_dict, prefix, metadata, *rest)

    m = lib.nn.Sequential(Counted())
    state = m.state_dict()
    state["0._extra_state"] = {"count": 7}
    m.load_state_dict(state)
    del state["0._extra_state"]
    keys = m.load_state_dict(state, strict=False)
    bare = raised(lambda: lib.nn.Linear(1, 1).get_extra_state())
    return list(state), dict(state._metadata), m[0].count, m[0].seen, list(keys.missing_keys), bare


@program
def errors_of_loading(lib: Any) -> Any:
    m = net(lib, 2, 2)
    texts = []
    for state in ({}, {"0.weight": lib.zeros(1), "0.bias": lib.zeros(2), "a.b": lib.zeros(1), "0.x": lib.zeros(1)},
                  {"0.weight": 3, "0.bias": lib.zeros(2)}):
        with pytest.raises(RuntimeError) as error:
            m.load_state_dict(state)
        texts.append(str(error.value).replace("torch.Size", "flambeau.Size").splitlines()[:3])
    return texts[:2], raised(lambda: m.load_state_dict([1]))


@program
def assigning_and_destinations(lib: Any) -> Any:
    m, other = net(lib, 2, 2), net(lib, 2, 2)
    old, value = m[0].weight, lib.ones(2, 2).double()
    m[0].weight.requires_grad_(False)
    m.load_state_dict({"0.weight": value, "0.bias": lib.ones(2).double()}, assign=True)
    destination: Any = OrderedDict(first=1)
    m.state_dict(destination=destination, prefix="x.")
    value.fill_(3)
    return m[0].weight is old, m[0].weight.requires_grad, m[0].weight, list(destination), list(other.state_dict(prefix="p"))


# -- the tree ---------------------------------------------------------------------------------------------------------


@program
def submodules_are_set_by_path(lib: Any) -> Any:
    m = lib.nn.Sequential(net(lib, 2, 2), lib.nn.ReLU())
    m.set_submodule("0.0", lib.nn.Identity())
    m.set_submodule("0.new", lib.nn.ReLU())
    return (repr(m), raised(lambda: m.set_submodule("", lib.nn.ReLU())),
            raised(lambda: m.set_submodule("a.b", lib.nn.ReLU())),
            raised(lambda: m.set_submodule("0", 3)), raised(lambda: m.set_submodule("x", lib.nn.ReLU(), strict=True)),
            raised(lambda: m.set_submodule("training", lib.nn.ReLU())), raised(lambda: m.get_submodule("0.5")))


@program
def walks_with_and_without_duplicates(lib: Any) -> Any:
    m = net(lib, 2, 2, 2)
    m.add_module("again", m[0])
    m.register_buffer("kept", lib.zeros(1))
    m.register_buffer("scratch", lib.zeros(1), persistent=False)
    m.made = lib.nn.Buffer(lib.ones(2), persistent=False)
    m.missing = None
    return ([n for n, _ in m.named_modules(remove_duplicate=False)], len(list(m.modules(remove_duplicate=False))),
            [n for n, _ in m.named_parameters("p", remove_duplicate=False)], list(m.state_dict()),
            [n for n, _ in m.named_buffers(recurse=False)], [n for n, _ in m._named_members(lambda m: m._modules.items())])


@program
def super_init_takes_arguments_where_asked(lib: Any) -> Any:
    class Named:
        def __init__(self, name: str = "?"):
            self.name = name

    class Both(lib.nn.Module, Named):
        call_super_init = True

        def __init__(self) -> None:
            super().__init__(name="both")

    class Strict(lib.nn.Module):
        pass

    return Both().name, raised(lambda: Strict(1)), raised(lambda: Strict(a=1)), Strict.dump_patches, Strict._version


@program
def conversions_go_through_apply(lib: Any) -> Any:
    class Watched(lib.nn.Linear):
        def _apply(self, fn: Any, recurse: bool = True) -> Any:
            self.calls = getattr(self, "calls", 0) + 1
            return super()._apply(fn, recurse)

    m = lib.nn.Sequential(Watched(2, 2))
    m.register_buffer("count", lib.tensor([1, 2]))
    m[0](lib.ones(1, 2)).sum().backward()
    m.double().float().half().to(lib.float64).to(device="cpu", dtype=lib.float32, non_blocking=True)
    kinds = [t.dtype == lib.float32 for t in (m[0].weight, m[0].weight.grad)], m.count.tolist()
    m.type(lib.float64)
    empty = lib.nn.Linear(3, 2).to_empty(device="cpu")
    return kinds, m[0].calls, m.count.dtype == lib.float64, list(empty.weight.shape), m.apply(lambda m: None) is m


@program
def copies_and_pickles_keep_hooks_apart(lib: Any) -> Any:
    m = net(lib, 2, 1)
    m.register_full_backward_hook(print_nothing)
    m.register_state_dict_pre_hook(print_nothing)
    made = copy.deepcopy(m)
    made._backward_hooks.clear()
    again = pickle.loads(pickle.dumps(m))
    counts = len(m._backward_hooks), len(again._backward_hooks), len(again._state_dict_pre_hooks)
    return counts, list(again.parameters())


def print_nothing(*args: Any) -> None:
    pass


@torched
@pytest.mark.filterwarnings("ignore:Full backward hook is firing")
@pytest.mark.parametrize("run", PROGRAMS, ids=[p.__name__ for p in PROGRAMS])
def test_a_program_gives_what_it_gives_in_pytorch(run: Program) -> None:
    import torch

    expected = plain(run(torch))
    assert plain(run(fb)) == expected


# -- compiled ---------------------------------------------------------------------------------------------------------


def test_backward_hooks_in_a_compiled_step() -> None:
    def step_of(m: Any) -> Callable[[Any], Any]:
        def step(x: Any) -> Any:
            for p in m.parameters():
                p.grad = None
            m(x).sum().backward()
        return step

    eager, traced = net(fb, 2, 3, 1), net(fb, 2, 3, 1)
    compiled = fb.compile(step_of(traced))
    x = x_of(fb, 2, 2)
    compiled(x)
    for m in (eager, traced):
        m[1].register_full_backward_hook(lambda module, gi, go: (gi[0] * 2,))
        m[0].register_full_backward_pre_hook(lambda module, go: (go[0] + 1,))
    for _ in range(2):
        compiled(x), step_of(eager)(x)
        for p, q in zip(traced.parameters(), eager.parameters(), strict=True):
            np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=1e-12)
    assert len(compiled.signatures) == 2
    kept = []
    traced[1].register_full_backward_hook(lambda module, gi, go: kept.append(1))
    with pytest.raises(CaptureError, match="kept"):
        compiled(x)


def test_compiled_functions_notice_hooks_of_all_modules() -> None:
    m = net(fb, 2, 1)
    compiled, x = fb.compile(lambda x: m(x)), x_of(fb, 1, 2)
    first = compiled(x).item()
    with nn.modules.module.register_module_forward_hook(lambda module, args, out: out * 2):
        assert compiled(x).item() == pytest.approx(first * 4) and m(x).item() == pytest.approx(first * 4)
    assert compiled(x).item() == first


def test_an_optimizer_in_a_compiled_backward_walk() -> None:
    def trained(wrap: Any) -> Any:
        m = net(fb, 2, 3, 1)
        optimizers = {id(p): fb.optim.SGD([p], lr=0.1) for p in m.parameters()}
        for p in m.parameters():
            p.register_post_accumulate_grad_hook(lambda p: optimizers[id(p)].step())

        @wrap
        def step(x: Any) -> Any:
            m.zero_grad()
            loss = (m(x) ** 2).mean()
            loss.backward()
            return loss

        return [step(x_of(fb, 4, 2)).item() for _ in range(3)], list(m.parameters())

    (eager, weights), (compiled, others) = trained(lambda f: f), trained(fb.compile)
    assert compiled == pytest.approx(eager, rel=1e-9)
    assert plain(weights[0]) == plain(others[0])


def test_a_module_compiles_itself() -> None:
    m = net(fb, 2, 3, 1)
    x, before = x_of(fb, 2, 2), net(fb, 2, 3, 1)(x_of(fb, 2, 2))
    m.compile()
    np.testing.assert_allclose(m(x).detach().numpy(), before.detach().numpy(), rtol=1e-12)
    m.register_forward_hook(lambda module, args, out: out * 2)
    np.testing.assert_allclose(m(x).detach().numpy(), 2 * before.detach().numpy(), rtol=1e-12)
    assert "_compiled_call_impl" in m.__dict__ and "_compiled_call_impl" not in copy.deepcopy(m).__dict__
    assert len(m.__dict__["_compiled_call_impl"].signatures) == 2


def test_what_is_not_there_says_so() -> None:
    for name in ("xpu", "ipu", "mtia", "cuda"):
        with pytest.raises(UnsupportedError, match=name):
            getattr(nn.Linear(1, 1), name)()
    with pytest.raises(UnsupportedError, match="cuda"):
        nn.Linear(1, 1).to_empty(device="cuda")


def test_states_without_a_version_may_lack_the_count_of_batches() -> None:
    m = nn.BatchNorm1d(2)
    state = {key: value for key, value in m.state_dict().items() if key != "num_batches_tracked"}
    m.load_state_dict(state)
    current = m.state_dict()
    del current["num_batches_tracked"]
    with pytest.raises(RuntimeError, match="Missing key.*num_batches_tracked"):
        m.load_state_dict(current)
