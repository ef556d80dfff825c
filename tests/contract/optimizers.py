"""Optimizers and schedulers: edited between calls, read inside, written by the user, copied, loaded and made inside."""
from __future__ import annotations

import copy
import pickle

import numpy as np

import flambeau as fb
from flambeau import nn, optim
from tests.contract.harness import exact, leaf, register, same


def stepper(w, o):
    """One step on the sum of squares of w * x."""
    def g(x):
        o.zero_grad()
        ((w * x) ** 2).sum().backward()
        o.step()

    return g


def trainer(m, o):
    """One step of a module on the sum of squares of its output."""
    def g(x):
        o.zero_grad()
        m(x).pow(2).sum().backward()
        o.step()

    return g


# -- optimizers of the user's -----------------------------------------------------------------------------------------


class PlainSGD(optim.Optimizer):
    """As one writes them for PyTorch."""

    def __init__(self, params, lr=0.1):
        super().__init__(params, {"lr": lr})

    @fb.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.add_(p.grad, alpha=-group["lr"])


class Lion(optim.Optimizer):
    """State that is made at the first step."""

    def __init__(self, params, lr=0.1, beta=0.9):
        super().__init__(params, {"lr": lr, "beta": beta})

    @fb.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if "m" not in state:
                    state["m"] = fb.zeros_like(p)
                m = state["m"]
                m.mul_(group["beta"]).add_(p.grad * (1 - group["beta"]))
                p.sub_(m.sign() * group["lr"])


class UpdateSGD(optim.Optimizer):
    """The documented way: _update(group)."""

    def __init__(self, params, lr=0.1):
        super().__init__(params, {"lr": lr, "maximize": False})

    def _update(self, group):
        for p, g in self._with_gradients(group):
            p.sub_(g * group["lr"])


class CountingSGD(optim.Optimizer):
    """Keeps the number of steps in a Python number, and decays the rate by it."""

    def __init__(self, params, lr=0.1):
        super().__init__(params, {"lr": lr})
        self.n = 0

    @fb.no_grad()
    def step(self):
        self.n += 1
        for group in self.param_groups:
            for p in group["params"]:
                p.add_(p.grad, alpha=-group["lr"] / self.n)


class StateCountingSGD(optim.Optimizer):
    """Keeps the number of steps per parameter in a Python number, as PyTorch's did once."""

    def __init__(self, params, lr=0.1):
        super().__init__(params, {"lr": lr})

    @fb.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state[p]
                state["step"] = state.get("step", 0) + 1
                p.add_(p.grad, alpha=-group["lr"] / state["step"])


@same
def custom_optimizer_learning_rate(compiled):
    w = leaf(1.0, 2.0)
    o = PlainSGD([w])
    f = compiled(stepper(w, o))
    f(fb.ones(2))
    yield w
    o.param_groups[0]["lr"] = 0.5
    f(fb.ones(2))
    yield w


@same
def custom_optimizer_with_scheduler(compiled):
    w = leaf(1.0, 2.0)
    o = PlainSGD([w])
    scheduler = optim.lr_scheduler.ExponentialLR(o, 0.5)
    f = compiled(stepper(w, o))
    for _ in range(4):
        f(fb.ones(2))
        yield w
        scheduler.step()


@same
def custom_optimizer_with_lazy_state(compiled):
    w = leaf(1.0, 2.0)
    o = Lion([w])
    f = compiled(stepper(w, o))
    for _ in range(3):
        f(fb.ones(2))
        yield w


@same
def custom_optimizer_state_made_outside(compiled):
    w = leaf(1.0, 2.0)
    o = Lion([w])
    o.state[w]["m"] = fb.zeros_like(w).detach()
    f = compiled(stepper(w, o))
    for beta in (0.9, 0.9, 0.1):
        o.param_groups[0]["beta"] = beta
        f(fb.ones(2))
        yield w


@same
def custom_optimizer_state_deleted(compiled):
    w = leaf(1.0, 2.0)
    o = Lion([w])
    o.state[w]["m"] = fb.zeros(2)
    f = compiled(stepper(w, o))
    f(fb.ones(2))
    yield w
    o.state.clear()
    f(-fb.ones(2))
    yield w


@same
def custom_update_learning_rate(compiled):
    w = leaf(1.0, 2.0)
    o = UpdateSGD([w])
    f = compiled(stepper(w, o))
    f(fb.ones(2))
    yield w
    o.param_groups[0]["lr"] = 0.5
    f(fb.ones(2))
    yield w


@same
def custom_optimizer_counts_steps(compiled):
    w = leaf(1.0, 2.0)
    o = CountingSGD([w])
    f = compiled(stepper(w, o))
    for _ in range(3):
        f(fb.ones(2))
        yield w


@same
def custom_optimizer_counts_steps_in_state(compiled):
    w = leaf(1.0, 2.0)
    o = StateCountingSGD([w])
    f = compiled(stepper(w, o))
    for _ in range(3):
        f(fb.ones(2))
        yield w


@same
def custom_optimizer_attribute(compiled):
    w = leaf(1.0, 2.0)

    class Scaled(PlainSGD):
        scale = 1.0

        @fb.no_grad()
        def step(self):
            for p in self.param_groups[0]["params"]:
                p.sub_(p.grad * self.scale)

    o = Scaled([w])
    f = compiled(stepper(w, o))
    f(fb.ones(2))
    yield w
    o.scale = 0.25
    f(fb.ones(2))
    yield w
    del o.scale
    Scaled.scale = 0.125
    f(fb.ones(2))
    yield w


@same
def custom_optimizer_with_closed_over_schedule(compiled):
    w = leaf(1.0, 2.0)
    schedule = {"warm": 0.1}

    class Warm(optim.Optimizer):
        @fb.no_grad()
        def step(self):
            for p in self.param_groups[0]["params"]:
                p.sub_(p.grad * schedule["warm"])

    o = Warm([w], {})
    f = compiled(stepper(w, o))
    f(fb.ones(2))
    yield w
    schedule["warm"] = 0.25
    f(fb.ones(2))
    yield w


@same
def lookahead_wraps_an_optimizer(compiled):
    class Lookahead:
        def __init__(self, inner, slow, alpha):
            self.inner, self.slow, self.alpha = inner, slow, alpha

        @fb.no_grad()
        def step(self):
            self.inner.step()
            for p, s in zip(self.inner.param_groups[0]["params"], self.slow, strict=True):
                s.lerp_(p, self.alpha)
                p.copy_(s)

    w = leaf(1.0, 2.0)
    inner = optim.SGD([w], lr=0.1)
    outer = Lookahead(inner, [fb.tensor([1.0, 2.0])], 0.5)

    def g(x):
        inner.zero_grad()
        ((w * x) ** 2).sum().backward()
        outer.step()

    f = compiled(g)
    f(fb.ones(2))
    yield w
    outer.alpha = 0.25
    f(fb.ones(2))
    yield w
    inner.param_groups[0]["lr"] = 0.2
    f(fb.ones(2))
    yield w


# -- numbers of optimizers and schedulers read in the function --------------------------------------------------------


@same
def learning_rate_read_in_function(compiled):
    w = leaf(1.0, 2.0)
    o = optim.SGD([w], lr=0.1)

    def g(x):
        w.grad = None
        (w * x).sum().backward()
        lr = o.param_groups[0]["lr"]
        with fb.no_grad():
            w.sub_(w.grad * lr)
        return lr

    f = compiled(g)
    yield f(fb.ones(2))
    yield w
    o.param_groups[0]["lr"] = 0.5
    yield f(fb.ones(2))
    yield w


@same
def learning_rate_read_through_a_loop_over_groups(compiled):
    w, v = leaf(1.0, 2.0), leaf(3.0, 4.0)
    o = optim.SGD([{"params": [w], "lr": 0.1}, {"params": [v]}], lr=0.2)

    def g(x):
        total = 0.0
        for group in o.param_groups:
            total = total + group["lr"]
        return x * total

    f = compiled(g)
    yield f(fb.ones(2))
    o.param_groups[1]["lr"] = 0.5
    yield f(fb.ones(2))


@same
def learning_rate_decides(compiled):
    w = leaf(1.0, 2.0)
    o = optim.SGD([w], lr=0.1)
    f = compiled(lambda x: x * 2 if o.param_groups[0]["lr"] > 0.2 else x * 3)
    for lr in (0.1, 0.5, 0.1):
        o.param_groups[0]["lr"] = lr
        yield f(fb.ones(2))


@same
def learning_rate_returned_for_the_log(compiled):
    w = leaf(1.0, 2.0)
    o = optim.SGD([w], lr=0.1)
    scheduler = optim.lr_scheduler.StepLR(o, 1, 0.5)

    def g(x):
        o.zero_grad()
        loss = (w * x).sum()
        loss.backward()
        o.step()
        return loss, o.param_groups[0]["lr"]

    f = compiled(g)
    for _ in range(3):
        yield f(fb.ones(2))
        scheduler.step()


@same
def learning_rate_formatted_for_the_log(compiled):
    w = leaf(1.0, 2.0)
    o = optim.SGD([w], lr=0.1)
    f = compiled(lambda x: (x * 2, f"lr={o.param_groups[0]['lr']:.3f}"))
    yield f(fb.ones(2))
    o.param_groups[0]["lr"] = 0.5
    yield f(fb.ones(2))


@same
def scheduler_last_lr_read_in_function(compiled):
    w = leaf(1.0, 2.0)
    o = optim.SGD([w], lr=0.1)
    scheduler = optim.lr_scheduler.StepLR(o, 1, 0.5)
    f = compiled(lambda x: x * scheduler.get_last_lr()[0])
    yield f(fb.ones(2))
    scheduler.step()
    yield f(fb.ones(2))


@same
def scheduler_epoch_read_in_function(compiled):
    w = leaf(1.0, 2.0)
    o = optim.SGD([w], lr=0.1)
    scheduler = optim.lr_scheduler.StepLR(o, 10, 0.5)
    f = compiled(lambda x: x * min(1.0, (scheduler.last_epoch + 1) / 4))
    yield f(fb.ones(2))
    scheduler.step()
    yield f(fb.ones(2))


@same
def scheduler_base_lrs_read_in_function(compiled):
    w = leaf(1.0, 2.0)
    o = optim.SGD([w], lr=0.1)
    scheduler = optim.lr_scheduler.LambdaLR(o, lambda epoch: 0.5 ** epoch)
    f = compiled(lambda x: x * scheduler.base_lrs[0])
    yield f(fb.ones(2))
    scheduler.base_lrs[0] = 0.7
    yield f(fb.ones(2))


@same
def scheduler_state_dict_read_in_function(compiled):
    w = leaf(1.0, 2.0)
    o = optim.SGD([w], lr=0.1)
    scheduler = optim.lr_scheduler.StepLR(o, 10, 0.5)
    f = compiled(lambda x: x * scheduler.state_dict()["last_epoch"])
    yield f(fb.ones(2))
    scheduler.step()
    yield f(fb.ones(2))


@same
def optimizer_state_dict_read_in_function(compiled):
    w = leaf(1.0, 2.0)
    o = optim.SGD([w], lr=0.1)
    f = compiled(lambda x: x * o.state_dict()["param_groups"][0]["lr"])
    yield f(fb.ones(2))
    o.param_groups[0]["lr"] = 0.5
    yield f(fb.ones(2))


@same
def defaults_read_in_function(compiled):
    w = leaf(1.0, 2.0)
    o = optim.SGD([w], lr=0.1)
    f = compiled(lambda x: x * o.defaults["lr"])
    yield f(fb.ones(2))
    o.defaults["lr"] = 0.5
    yield f(fb.ones(2))


@same
def momentum_read_in_function(compiled):
    w = leaf(1.0, 2.0)
    o = optim.SGD([w], lr=0.1, momentum=0.5)
    f = compiled(lambda x: x * 2 if o.param_groups[0]["momentum"] > 0.7 else x * 3)
    yield f(fb.ones(2))
    o.param_groups[0]["momentum"] = 0.9
    yield f(fb.ones(2))


@same
def own_key_in_a_group_read_in_function(compiled):
    w = leaf(1.0, 2.0)
    o = optim.SGD([{"params": [w], "scale": 2.0}], lr=0.1)
    f = compiled(lambda x: x * o.param_groups[0]["scale"])
    yield f(fb.ones(2))
    o.param_groups[0]["scale"] = 3.0
    yield f(fb.ones(2))


@same
def betas_read_in_function(compiled):
    w = leaf(1.0, 2.0)
    o = optim.Adam([w], lr=0.1)

    def g(x):
        first, second = o.param_groups[0]["betas"]
        return x * first + second

    f = compiled(g)
    yield f(fb.ones(2))
    o.param_groups[0]["betas"] = (0.5, 0.25)
    yield f(fb.ones(2))


@same
def number_of_parameters_read_in_function(compiled):
    w, v = leaf(1.0, 2.0), leaf(3.0, 4.0)
    o = optim.SGD([w], lr=0.1)
    f = compiled(lambda x: x * sum(len(group["params"]) for group in o.param_groups))
    yield f(fb.ones(2))
    o.add_param_group({"params": [v]})
    yield f(fb.ones(2))


@same
def state_tensor_read_in_function(compiled):
    w = leaf(1.0, 2.0)
    o = optim.SGD([w], lr=0.1, momentum=0.9)
    stepper(w, o)(fb.ones(2))
    f = compiled(lambda x: x * o.state[w]["momentum_buffer"])
    yield f(fb.ones(2))
    o.state[w]["momentum_buffer"].mul_(2)
    yield f(fb.ones(2))
    o.state[w]["momentum_buffer"] = fb.ones(2)
    yield f(fb.ones(2))


@same
def presence_of_state_read_in_function(compiled):
    w = leaf(1.0, 2.0)
    o = optim.SGD([w], lr=0.1, momentum=0.9)
    f = compiled(lambda x: x * 2 if w in o.state else x * 3)
    yield f(fb.ones(2))
    stepper(w, o)(fb.ones(2))
    yield f(fb.ones(2))


@same
def warmup_by_hand(compiled):
    w = leaf(1.0, 2.0)
    o = optim.SGD([w], lr=0.1)
    progress = {"step": 0}

    def g(x):
        for group in o.param_groups:
            group["lr"] = 0.1 * min(1.0, (progress["step"] + 1) / 4)
        stepper(w, o)(x)

    f = compiled(g)
    for step in range(4):
        progress["step"] = step
        f(fb.ones(2))
        yield w
        yield o.param_groups[0]["lr"]


# -- groups and state edited between calls ----------------------------------------------------------------------------


@same
def group_dict_replaced(compiled):
    w = leaf(1.0, 2.0)
    o = optim.SGD([w], lr=0.1)
    f = compiled(stepper(w, o))
    f(fb.ones(2))
    yield w
    o.param_groups[0] = {**o.param_groups[0], "lr": 0.5}
    f(fb.ones(2))
    yield w


@same
def all_groups_replaced(compiled):
    w = leaf(1.0, 2.0)
    o = optim.Adam([w], lr=0.1)
    f = compiled(stepper(w, o))
    f(fb.ones(2))
    yield w
    o.param_groups = [{**g, "lr": g["lr"] * 5, "betas": (0.5, 0.9)} for g in o.param_groups]
    f(fb.ones(2))
    yield w
    f(fb.ones(2))
    yield w


@same
def groups_swapped(compiled):
    w, v = leaf(1.0, 2.0), leaf(3.0, 4.0)
    o = optim.SGD([{"params": [w], "lr": 0.1}, {"params": [v], "lr": 0.2}], lr=0.1)

    def g(x):
        o.zero_grad()
        ((w + v) * x).pow(2).sum().backward()
        o.step()

    f = compiled(g)
    f(fb.ones(2))
    yield w, v
    o.param_groups.reverse()
    f(fb.ones(2))
    yield w, v
    a, b = o.param_groups
    a["lr"], b["lr"] = 0.01, 0.3
    f(fb.ones(2))
    yield w, v
    a["params"], b["params"] = b["params"], a["params"]
    f(fb.ones(2))
    yield w, v
    del o.param_groups[1]
    f(fb.ones(2))
    yield w, v


@same
def rates_of_two_groups_swapped(compiled):
    w, v = leaf(1.0, 2.0), leaf(3.0, 4.0)
    o = optim.Adam([{"params": [w], "lr": 0.1}, {"params": [v], "lr": 0.2}], lr=0.1)

    def g(x):
        o.zero_grad()
        ((w + v) * x).pow(2).sum().backward()
        o.step()

    f = compiled(g)
    f(fb.ones(2))
    yield w, v
    a, b = o.param_groups
    a["lr"], b["lr"] = b["lr"], a["lr"]
    f(fb.ones(2))
    yield w, v


@same
def params_list_edited(compiled):
    w, v = leaf(1.0, 2.0), leaf(3.0, 4.0)
    o = optim.SGD([w], lr=0.1)

    def g(x):
        w.grad = v.grad = None
        ((w + v) * x).pow(2).sum().backward()
        o.step()

    f = compiled(g)
    f(fb.ones(2))
    yield w, v
    o.param_groups[0]["params"].append(v)
    f(fb.ones(2))
    yield w, v
    o.param_groups[0]["params"][0] = v
    o.param_groups[0]["params"].pop()
    f(fb.ones(2))
    yield w, v


@same
def group_added_between_calls(compiled):
    w, v = leaf(1.0, 2.0), leaf(3.0, 4.0)
    o = optim.Adam([w], lr=0.1)

    def g(x):
        o.zero_grad()
        ((w + v) * x).pow(2).sum().backward()
        o.step()

    f = compiled(g)
    f(fb.ones(2))
    yield w
    v.grad = None
    o.add_param_group({"params": [v], "lr": 0.5})
    f(fb.ones(2))
    yield w, v


@same
def group_added_inside(compiled):
    w, v = leaf(1.0, 2.0), leaf(3.0, 4.0)
    o = optim.SGD([w], lr=0.1)

    def g(x):
        if len(o.param_groups) == 1:
            o.add_param_group({"params": [v], "lr": 0.5})
        o.zero_grad()
        ((w + v) * x).pow(2).sum().backward()
        o.step()

    f = compiled(g)
    for _ in range(2):
        f(fb.ones(2))
        yield w, v, len(o.param_groups)


@same
def state_of_two_parameters_swapped(compiled):
    w, v = leaf(1.0, 2.0), leaf(3.0, 4.0)
    o = optim.SGD([w, v], lr=0.1, momentum=0.9)

    def g(x):
        o.zero_grad()
        (w * w * x + v * x).sum().backward()
        o.step()

    f = compiled(g)
    f(fb.ones(2))
    f(fb.ones(2))
    yield w, v
    o.state[w], o.state[v] = o.state[v], o.state[w]
    f(fb.ones(2))
    yield w, v
    f(fb.ones(2))
    yield w, v


@same
def state_entry_kept_under_another_name(compiled):
    w = leaf(1.0, 2.0)
    o = optim.SGD([w], lr=0.1, momentum=0.9)
    f = compiled(stepper(w, o))
    f(fb.ones(2))
    yield w
    o.state[w]["old"] = o.state[w]["momentum_buffer"]
    o.state[w]["momentum_buffer"] = fb.zeros(2)
    f(fb.ones(2))
    yield w
    yield o.state[w]["old"]


@same
def state_entry_replaced(compiled):
    w = leaf(1.0, 2.0)
    o = optim.Adam([w], lr=0.1)
    f = compiled(stepper(w, o))
    f(fb.ones(2))
    yield w
    o.state[w]["exp_avg"] = fb.ones(2)
    f(fb.ones(2))
    yield w
    o.state[w]["step"] = fb.tensor(10.0)
    f(fb.ones(2))
    yield w
    del o.state[w]
    f(fb.ones(2))
    yield w
    o.state = type(o.state)(dict)
    f(fb.ones(2))
    yield w
    o.state[w]["exp_avg"].zero_()
    f(fb.ones(2))
    yield w
    o.state[w]["exp_avg"].data = fb.ones(2) * 3
    f(fb.ones(2))
    yield w


@same
def two_state_entries_exchanged(compiled):
    w = leaf(1.0, 2.0)
    o = optim.Adam([w], lr=0.1)
    f = compiled(stepper(w, o))
    f(fb.ones(2))
    f(fb.ones(2))
    state = o.state[w]
    state["exp_avg"], state["exp_avg_sq"] = state["exp_avg_sq"], state["exp_avg"]
    f(fb.ones(2))
    yield w


@same
def state_shared_by_two_parameters(compiled):
    w, v = leaf(1.0, 2.0), leaf(3.0, 4.0)
    o = optim.SGD([w, v], lr=0.1, momentum=0.9)

    def g(x):
        o.zero_grad()
        (w * w * x + v * x).sum().backward()
        o.step()

    f = compiled(g)
    f(fb.ones(2))
    yield w, v
    o.state[v]["momentum_buffer"] = o.state[w]["momentum_buffer"]
    f(fb.ones(2))
    yield w, v


@same
def parameter_replaced_in_the_group(compiled):
    w, v = leaf(1.0, 2.0), leaf(3.0, 4.0)
    o = optim.SGD([w], lr=0.1, momentum=0.9)

    def g(x):
        w.grad = v.grad = None
        (w * w * x + v * v * x).sum().backward()
        o.step()

    f = compiled(g)
    f(fb.ones(2))
    yield w, v
    o.param_groups[0]["params"] = [v]
    f(fb.ones(2))
    yield w, v


@same
def step_method_replaced_on_the_instance(compiled):
    w = leaf(1.0, 2.0)
    o = optim.SGD([w], lr=0.1)
    f = compiled(stepper(w, o))
    f(fb.ones(2))
    yield w
    o.step = lambda: None
    f(fb.ones(2))
    yield w


@same
def step_method_replaced_on_the_class(compiled):
    class Mine(optim.SGD):
        def step(self):
            return super().step()

    w = leaf(1.0, 2.0)
    o = Mine([w], lr=0.1)
    f = compiled(stepper(w, o))
    f(fb.ones(2))
    yield w
    Mine.step = lambda self: None
    f(fb.ones(2))
    yield w


@same
def step_wrapped_by_the_user(compiled):
    """As schedulers and scalers do: `optimizer.step` is replaced by a function that calls the old one."""
    w = leaf(1.0, 2.0)
    o = optim.SGD([w], lr=0.1)
    plain, times = o.step, 1

    def wrapped():
        for _ in range(times):
            plain()

    o.step = wrapped
    f = compiled(stepper(w, o))
    f(fb.ones(2))
    yield w
    times = 3
    f(fb.ones(2))
    yield w


# -- numbers of all kinds ---------------------------------------------------------------------------------------------


@exact
def numpy_learning_rates(compiled):
    """A cosine schedule computed with NumPy: 70 different np.float64."""
    w = leaf(1.0, 2.0)
    o = optim.SGD([w], lr=0.1)
    f = compiled(stepper(w, o))
    for i in range(70):
        o.param_groups[0]["lr"] = 0.001 * (1 + np.cos(i / 70))
        f(fb.ones(2))
    yield w


@exact
def numpy_float32_learning_rates(compiled):
    w = leaf(1.0, 2.0)
    o = optim.Adam([w], lr=0.1)
    f = compiled(stepper(w, o))
    for lr in np.linspace(0.1, 0.01, 70, dtype=np.float32):
        o.param_groups[0]["lr"] = lr
        f(fb.ones(2))
    yield w


@exact
def numpy_betas(compiled):
    w = leaf(1.0, 2.0)
    o = optim.Adam([w], lr=0.1)
    f = compiled(stepper(w, o))
    for i in range(70):
        o.param_groups[0]["betas"] = (np.float64(0.9 - i / 1000), 0.999)
        f(fb.ones(2))
    yield w


@exact
def numpy_weight_decay_and_momentum(compiled):
    w = leaf(1.0, 2.0)
    o = optim.SGD([w], lr=0.1, momentum=0.9, weight_decay=0.1)
    f = compiled(stepper(w, o))
    for i in range(70):
        o.param_groups[0]["momentum"] = np.float64(0.5 + i / 1000)
        o.param_groups[0]["weight_decay"] = np.float32(0.01 + i / 10000)
        f(fb.ones(2) * 0.1)
    yield w


@exact
def integer_learning_rate(compiled):
    w = leaf(1.0, 2.0)
    o = optim.SGD([w], lr=0.1)
    f = compiled(stepper(w, o))
    for lr in (0.1, 0, 1, 0.5, True, False):
        o.param_groups[0]["lr"] = lr
        f(fb.ones(2) * 0.1)
        yield w


@same
def betas_as_list_and_zero(compiled):
    w = leaf(1.0, 2.0)
    o = optim.Adam([w], lr=0.1)
    f = compiled(stepper(w, o))
    for betas in ((0.9, 0.99), [0.5, 0.9], (0.0, 0.9), (0.9, 0.0), (0, 0)):
        o.param_groups[0]["betas"] = betas
        f(fb.ones(2))
        yield w


@same
def betas_list_edited_in_place(compiled):
    w = leaf(1.0, 2.0)
    o = optim.Adam([w], lr=0.1)
    o.param_groups[0]["betas"] = [0.9, 0.99]
    f = compiled(stepper(w, o))
    f(fb.ones(2))
    yield w
    o.param_groups[0]["betas"][0] = 0.1
    f(fb.ones(2))
    yield w


@same
def weight_decay_none(compiled):
    w = leaf(1.0, 2.0)
    o = optim.SGD([w], lr=0.1)
    f = compiled(stepper(w, o))
    f(fb.ones(2))
    yield w
    o.param_groups[0]["weight_decay"] = None
    try:
        f(fb.ones(2))
        yield w
    except TypeError:
        yield "TypeError"


@same
def learning_rate_tensor(compiled):
    w = leaf(1.0, 2.0)
    lr = fb.tensor(0.1)
    o = optim.Adam([w], lr=lr)
    f = compiled(stepper(w, o))
    f(fb.ones(2))
    yield w
    lr.fill_(0.5)
    f(fb.ones(2))
    yield w
    o.param_groups[0]["lr"] = fb.tensor(0.01)
    f(fb.ones(2))
    yield w
    o.param_groups[0]["lr"] = 0.2
    f(fb.ones(2))
    yield w


@same
def learning_rate_is_infinite_or_nan(compiled):
    w = leaf(1.0, 2.0)
    o = optim.SGD([w], lr=0.1)
    f = compiled(stepper(w, o))
    for lr in (0.1, float("inf"), 0.1, float("nan")):
        o.param_groups[0]["lr"] = lr
        f(fb.ones(2))
        yield w.detach().clone()
        with fb.no_grad():
            w.copy_(fb.tensor([1.0, 2.0]))


@same
def learning_rate_becomes_a_string(compiled):
    w = leaf(1.0, 2.0)
    o = optim.SGD([w], lr=0.1)
    f = compiled(stepper(w, o))
    f(fb.ones(2))
    yield w
    o.param_groups[0]["lr"] = "0.1"
    try:
        f(fb.ones(2))
        yield w
    except TypeError:
        yield "TypeError"


TOGGLES = {
    optim.SGD: {"momentum": [0, 0.9, 0], "weight_decay": [0, 0.1, 0], "nesterov": [False, True, False],
                "maximize": [True, False], "dampening": [0, 0.5, 0]},
    optim.Adam: {"weight_decay": [0, 0.1, 0], "amsgrad": [True, False], "maximize": [True, False],
                 "eps": [1e-3, 1.0], "decoupled_weight_decay": [True, False], "betas": [(0.5, 0.5), (0.9, 0.99)]},
    optim.AdamW: {"weight_decay": [0, 0.1, 0.5], "amsgrad": [True, False], "lr": [0.1, 0, 0.3]},
    optim.RMSprop: {"momentum": [0, 0.9, 0], "centered": [True, False], "alpha": [0.5, 0.0], "weight_decay": [0.1, 0],
                    "eps": [1.0, 1e-8]},
    optim.Adagrad: {"lr_decay": [0, 0.1], "weight_decay": [0.1, 0], "eps": [1.0, 1e-8]},
}


def _toggled(kind, key, values):
    def case(compiled):
        w = leaf(1.0, -2.0)
        o = kind([w], lr=0.1, **({"momentum": 0.9} if kind is optim.SGD else {}))
        f = compiled(stepper(w, o))
        f(fb.tensor([0.5, 0.25]))
        for value in values:
            o.param_groups[0][key] = value
            f(fb.tensor([0.5, 0.25]))
            yield value, w

    return case


for _kind, _settings in TOGGLES.items():
    for _key, _values in _settings.items():
        _case = _toggled(_kind, _key, _values)
        _case.__module__ = __name__
        register("same", _case, f"toggled_{_kind.__name__}_{_key}")


# -- schedulers outside the function ----------------------------------------------------------------------------------

SCHEDULERS = {
    "StepLR": lambda o: optim.lr_scheduler.StepLR(o, 1, 0.5),
    "MultiStepLR": lambda o: optim.lr_scheduler.MultiStepLR(o, [1, 3], 0.5),
    "ExponentialLR": lambda o: optim.lr_scheduler.ExponentialLR(o, 0.9),
    "LambdaLR": lambda o: optim.lr_scheduler.LambdaLR(o, lambda epoch: 1 / (epoch + 1)),
    "CosineAnnealingLR": lambda o: optim.lr_scheduler.CosineAnnealingLR(o, 4),
    "OneCycleLR": lambda o: optim.lr_scheduler.OneCycleLR(o, max_lr=0.5, total_steps=6),
}


def _scheduled(make):
    def case(compiled):
        w = leaf(1.0, -2.0)
        o = optim.SGD([w], lr=0.1, momentum=0.9)
        scheduler = make(o)
        f = compiled(stepper(w, o))
        for _ in range(5):
            f(fb.tensor([0.5, 0.25]))
            scheduler.step()
            yield o.param_groups[0]["lr"], w

    return case


for _name, _make in SCHEDULERS.items():
    _case = _scheduled(_make)
    _case.__module__ = __name__
    register("exact", _case, f"scheduled_{_name}")


@same
def scheduler_stepped_inside(compiled):
    w = leaf(1.0, 2.0)
    o = optim.SGD([w], lr=0.1)
    scheduler = optim.lr_scheduler.StepLR(o, 1, 0.5)

    def g(x):
        stepper(w, o)(x)
        scheduler.step()

    f = compiled(g)
    for _ in range(3):
        f(fb.ones(2))
        yield w
        yield o.param_groups[0]["lr"], scheduler.last_epoch


# -- copies, state dicts ----------------------------------------------------------------------------------------------


@same
def deepcopied_model_and_optimizer(compiled):
    m = nn.Linear(2, 2)
    o = optim.SGD(m.parameters(), lr=0.1, momentum=0.9)
    m2, o2 = copy.deepcopy((m, o))
    f, f2 = compiled(trainer(m, o)), compiled(trainer(m2, o2))
    x = fb.ones(1, 2)
    f(x)
    f(x)
    f2(x)
    yield list(m.parameters())
    yield list(m2.parameters())
    o2.param_groups[0]["lr"] = 0.5
    f2(x)
    f(x)
    yield list(m.parameters())
    yield list(m2.parameters())


@same
def pickled_model_and_optimizer(compiled):
    m = nn.Linear(2, 2)
    o = optim.Adam(m.parameters(), lr=0.1)
    f = compiled(trainer(m, o))
    x = fb.ones(1, 2)
    f(x)
    f(x)
    m2, o2 = pickle.loads(pickle.dumps((m, o)))
    f2 = compiled(trainer(m2, o2))
    f2(x)
    f(x)
    yield list(m.parameters())
    yield list(m2.parameters())


@same
def loaded_state_with_other_learning_rate(compiled):
    w = leaf(1.0, 2.0)
    o = optim.Adam([w], lr=0.1)
    f = compiled(stepper(w, o))
    f(fb.ones(2))
    saved = copy.deepcopy(o.state_dict())
    saved["param_groups"][0]["lr"] = 0.5
    saved["param_groups"][0]["amsgrad"] = True
    f(fb.ones(2))
    yield w
    o.load_state_dict(saved)
    f(fb.ones(2))
    f(fb.ones(2))
    yield w


@same
def loaded_state_into_an_empty_optimizer(compiled):
    w, v = leaf(1.0, 2.0), leaf(1.0, 2.0)
    first, second = optim.Adam([w], lr=0.1), optim.Adam([v], lr=0.3)
    stepper(w, first)(fb.ones(2))
    f = compiled(stepper(v, second))
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    f(fb.ones(2))
    yield v
    f(fb.ones(2))
    yield v


@same
def model_checkpoint_restored(compiled):
    m = nn.Linear(2, 2)
    o = optim.SGD(m.parameters(), lr=0.1, momentum=0.9)
    f = compiled(trainer(m, o))
    x = fb.ones(1, 2)
    f(x)
    saved = copy.deepcopy(m.state_dict())
    f(x)
    f(x)
    m.load_state_dict(saved)
    f(x)
    yield list(m.parameters())


@same
def optimizer_replaced_by_a_new_one(compiled):
    w = leaf(1.0, 2.0)
    holder = {"o": optim.SGD([w], lr=0.1)}

    def g(x):
        holder["o"].zero_grad()
        (w * x).sum().backward()
        holder["o"].step()

    f = compiled(g)
    f(fb.ones(2))
    yield w
    holder["o"] = optim.Adam([w], lr=0.2)
    f(fb.ones(2))
    yield w
    f(fb.ones(2))
    yield w


@same
def optimizer_is_an_argument(compiled):
    w = leaf(1.0, 2.0)
    a, b = optim.SGD([w], lr=0.1), optim.SGD([w], lr=0.3)

    def g(o, x):
        o.zero_grad()
        (w * x).sum().backward()
        o.step()

    f = compiled(g)
    for o in (a, b, a):
        f(o, fb.ones(2))
        yield w
    a.param_groups[0]["lr"] = 0.7
    f(a, fb.ones(2))
    yield w


# -- optimizers made inside, several steps in one call ----------------------------------------------------------------


@same
def optimizer_made_inside(compiled):
    """An inner loop with an optimizer of its own (meta-learning, adaptation at test time)."""
    w = fb.zeros(2)

    def g(x):
        fast = w.clone().requires_grad_()
        o = optim.SGD([fast], lr=0.1, momentum=0.9)
        for _ in range(2):
            o.zero_grad()
            ((fast - x) ** 2).sum().backward()
            o.step()
        return fast.detach()

    f = compiled(g)
    for _ in range(3):
        yield f(fb.ones(2))


@same
def optimizer_made_inside_over_captured(compiled):
    w = leaf(0.0, 0.0)

    def g(x):
        o = optim.Adam([w], lr=0.1)
        for _ in range(2):
            o.zero_grad()
            ((w - x) ** 2).sum().backward()
            o.step()

    f = compiled(g)
    for _ in range(3):
        f(fb.ones(2))
        yield w


@same
def optimizer_made_inside_with_number_argument(compiled):
    w = leaf(0.0, 0.0)

    def g(x, lr):
        o = optim.SGD([w], lr=lr)
        o.zero_grad()
        ((w - x) ** 2).sum().backward()
        o.step()

    f = compiled(g)
    for lr in (0.1, 0.2, 0.3):
        f(fb.ones(2), lr)
        yield w


@same
def closure_step(compiled):
    w = leaf(1.0, 2.0)
    o = optim.SGD([w], lr=0.1)

    def g(x):
        def closure():
            o.zero_grad()
            loss = ((w - x) ** 2).sum()
            loss.backward()
            return loss

        return o.step(closure)

    f = compiled(g)
    for _ in range(3):
        yield f(fb.ones(2))
        yield w


@same
def two_steps_in_one_call(compiled):
    w = leaf(1.0, 2.0)
    o = optim.Adam([w], lr=0.1)

    def g(x):
        for _ in range(2):
            o.zero_grad()
            ((w - x) ** 2).sum().backward()
            o.step()

    f = compiled(g)
    for lr in (0.1, 0.2, 0.3):
        o.param_groups[0]["lr"] = lr
        f(fb.ones(2))
        yield w


@same
def two_optimizers_in_one_call(compiled):
    """A generator and a discriminator."""
    w, v = leaf(1.0, 2.0), leaf(3.0, 4.0)
    a, b = optim.Adam([w], lr=0.1), optim.SGD([v], lr=0.01)

    def g(x):
        a.zero_grad()
        (w * v.detach() * x).sum().backward()
        a.step()
        b.zero_grad()
        (-(w.detach() * v * x)).sum().backward()
        b.step()

    f = compiled(g)
    for rate in (0.1, 0.3, 0.2):
        a.param_groups[0]["lr"] = b.param_groups[0]["lr"] = rate
        f(fb.ones(2))
        yield w, v


@same
def learning_rate_changed_inside(compiled):
    w = leaf(1.0, 2.0)
    o = optim.SGD([w], lr=0.1)

    def g(x):
        o.zero_grad()
        (w * x).sum().backward()
        o.step()
        o.param_groups[0]["lr"] *= 0.5
        o.zero_grad()
        (w * x).sum().backward()
        o.step()

    f = compiled(g)
    for _ in range(3):
        f(fb.ones(2))
        yield w
        yield o.param_groups[0]["lr"]


@same
def learning_rate_changed_and_restored_inside(compiled):
    w = leaf(1.0, 2.0)
    o = optim.SGD([w], lr=0.1)

    def g(x):
        old = o.param_groups[0]["lr"]
        o.param_groups[0]["lr"] = old * 10
        o.zero_grad()
        (w * x).sum().backward()
        o.step()
        o.param_groups[0]["lr"] = old

    f = compiled(g)
    for lr in (0.1, 0.1, 0.2):
        o.param_groups[0]["lr"] = lr
        f(fb.ones(2))
        yield w


@same
def learning_rate_set_from_an_argument(compiled):
    w = leaf(1.0, 2.0)
    o = optim.SGD([w], lr=0.1)

    def g(x, lr):
        o.param_groups[0]["lr"] = lr
        stepper(w, o)(x)

    f = compiled(g)
    for lr in (0.1, 0.2, 0.3):
        f(fb.ones(2), lr)
        yield w
        yield o.param_groups[0]["lr"]


# -- gradients that optimizers find -----------------------------------------------------------------------------------


@same
def parameter_frozen_keeps_its_gradient(compiled):
    w, v = leaf(1.0, 2.0), leaf(3.0, 4.0)
    o = optim.SGD([w, v], lr=0.1, momentum=0.5)

    def g(x):
        (w * v * x).sum().backward()
        o.step()

    f = compiled(g)
    f(fb.ones(2))
    yield w, v
    v.requires_grad_(False)
    f(fb.ones(2))
    yield w, v
    v.grad = None
    f(fb.ones(2))
    yield w, v
    v.requires_grad_(True)
    f(fb.ones(2))
    yield w, v


@same
def gradients_set_by_hand(compiled):
    w = leaf(1.0, 2.0)
    o = optim.SGD([w], lr=0.1)
    f = compiled(lambda: o.step())
    f()
    yield w
    w.grad = fb.ones(2)
    f()
    yield w
    w.grad = fb.ones(2) * 2
    f()
    yield w
    w.grad.mul_(3)
    f()
    yield w
    w.grad = fb.arange(4.0)[::2]
    f()
    yield w
    w.grad = fb.ones(1).expand(2)
    f()
    yield w
    w.grad = None
    f()
    yield w


@same
def step_outside_of_gradients_made_inside(compiled):
    w = leaf(1.0, 2.0)
    o = optim.Adam([w], lr=0.1)

    def g(x):
        o.zero_grad()
        ((w * x) ** 2).sum().backward()

    f = compiled(g)
    for _ in range(3):
        f(fb.ones(2))
        o.step()
        yield w


@same
def step_inside_of_gradients_made_outside(compiled):
    w = leaf(1.0, 2.0)
    o = optim.Adam([w], lr=0.1)
    f = compiled(lambda: o.step())
    for _ in range(3):
        o.zero_grad()
        ((w * w) ** 2).sum().backward()
        f()
        yield w


@same
def eager_and_compiled_steps_alternate(compiled):
    w = leaf(1.0, 2.0)
    o = optim.Adam([w], lr=0.1, weight_decay=0.1)
    plain = stepper(w, o)
    f = compiled(plain)
    for n in range(4):
        (f if n % 2 else plain)(fb.ones(2))
        yield w


@same
def shared_gradient_tensor(compiled):
    w, v = leaf(1.0, 2.0), leaf(3.0, 4.0)
    zeros = fb.zeros(2)
    w.grad = zeros
    v.grad = zeros
    o = optim.SGD([w, v], lr=0.1)

    def g(x):
        o.zero_grad()
        (w * x + v * x * 3).sum().backward()
        o.step()

    f = compiled(g)
    f(fb.ones(2))
    yield w, v
    f(fb.ones(2))
    yield w, v


@same
def shared_gradient_tensor_accumulated(compiled):
    w, v = leaf(1.0, 2.0), leaf(3.0, 4.0)
    zeros = fb.zeros(2)
    w.grad = zeros
    v.grad = zeros

    def g(x):
        (w * x + v * x * 3).sum().backward()

    f = compiled(g)
    f(fb.ones(2))
    yield w, v, zeros
    f(fb.ones(2))
    yield w, v, zeros


@same
def gradient_kept_by_the_user_is_not_written(compiled):
    """Comparing the eager gradient with the compiled one."""
    w = leaf(1.0, 2.0)
    (w * 5).sum().backward()
    expected = w.grad

    def g(x):
        w.grad = None
        (w * x).sum().backward()

    f = compiled(g)
    f(fb.ones(2))
    yield expected
    yield w.grad


@same
def gradient_given_by_the_user_is_not_written(compiled):
    w = leaf(1.0, 2.0)
    mine = fb.full((2,), 7.0)
    w.grad = mine
    o = optim.SGD([w], lr=0.1)
    f = compiled(stepper(w, o))
    f(fb.ones(2))
    yield mine
    yield w.grad


@same
def gradient_is_an_argument(compiled):
    w = leaf(1.0, 2.0)
    x = fb.ones(2) * 3
    w.grad = x
    o = optim.SGD([w], lr=0.1)
    f = compiled(stepper(w, o))
    f(x)
    yield x, w.grad, w
    f(x)
    yield x, w.grad, w


@same
def gradient_snapshots_across_calls(compiled):
    """Documented: .grad is the same tensor from call to call."""
    w = leaf(1.0, 2.0)

    def g(x):
        w.grad = None
        (w * x).sum().backward()

    f = compiled(g)
    f(fb.ones(2))
    first = w.grad.clone()
    f(fb.ones(2) * 5)
    yield first, w.grad


@same
def zero_grad_that_keeps_zeros(compiled):
    w, v = leaf(1.0, 2.0), leaf(3.0, 4.0)
    o = optim.SGD([w, v], lr=0.1, weight_decay=0.5)

    def g(x):
        o.zero_grad(set_to_none=False)
        (w * x).sum().backward()
        o.step()

    f = compiled(g)
    f(fb.ones(2))
    yield w, v
    v.grad = fb.ones(2)
    f(fb.ones(2))
    yield w, v
    f(fb.ones(2))
    yield w, v


@same
def unused_parameter_is_not_decayed(compiled):
    w, v = leaf(1.0, 2.0), leaf(3.0, 4.0)
    o = optim.AdamW([w, v], lr=0.1, weight_decay=0.5)
    f = compiled(stepper(w, o))
    f(fb.ones(2))
    yield w, v
    f(fb.ones(2))
    yield w, v


@same
def part_of_the_model_trained_by_turns(compiled):
    a, b = nn.Linear(2, 2), nn.Linear(2, 2)
    o = optim.SGD([*a.parameters(), *b.parameters()], lr=0.1, momentum=0.9, weight_decay=0.1)

    def g(x, second):
        o.zero_grad()
        (b(a(x)) if second else a(x)).pow(2).sum().backward()
        o.step()

    f = compiled(g)
    for second in (True, False, True, False):
        f(fb.ones(1, 2), second)
        yield list(a.parameters()), list(b.parameters())


@same
def gradient_accumulation_over_micro_batches(compiled):
    w = leaf(1.0, 2.0)
    o = optim.SGD([w], lr=0.1)

    def accumulate(x):
        ((w * x) ** 2).sum().div(2).backward()

    def apply():
        o.step()
        o.zero_grad()

    f, finish = compiled(accumulate), compiled(apply)
    for _ in range(2):
        for n in range(2):
            f(fb.ones(2) * (n + 1))
            yield w
        finish()
        yield w


@same
def gradient_accumulation_inside_with_a_flag(compiled):
    w = leaf(1.0, 2.0)
    o = optim.SGD([w], lr=0.1)

    def g(x, last):
        ((w * x) ** 2).sum().backward()
        if last:
            o.step()
            o.zero_grad()

    f = compiled(g)
    for n in range(6):
        f(fb.ones(2) * n, n % 3 == 2)
        yield w


@same
def clip_grad_with_number_argument(compiled):
    w = leaf(3.0, 4.0)

    def g(x, limit):
        w.grad = None
        (w * x).sum().backward()
        norm = nn.utils.clip_grad_norm_([w], limit)
        nn.utils.clip_grad_value_([w], limit)
        return norm

    f = compiled(g)
    for limit in (0.1, 1.0, 100.0, 2):
        yield f(fb.ones(2) * 3, limit)
        yield w


@same
def clip_grad_with_a_number_in_a_cell(compiled):
    w = leaf(3.0, 4.0)
    limit = 1.0

    def g(x):
        w.grad = None
        (w * x).sum().backward()
        return nn.utils.clip_grad_norm_([w], limit)

    f = compiled(g)
    yield f(fb.ones(2) * 3), w
    limit = 0.1
    yield f(fb.ones(2) * 3), w


@same
def clip_grad_norm_with_norm_type_argument(compiled):
    w = leaf(3.0, 4.0)

    def g(x, p):
        w.grad = None
        (w * x).sum().backward()
        return nn.utils.clip_grad_norm_([w], 1.0, norm_type=p)

    f = compiled(g)
    for p in (2.0, 1.0, float("inf"), 2.0, 3):
        yield f(fb.tensor([3.0, -4.0]), p), w


@same
def error_if_nonfinite(compiled):
    w = leaf(3.0, 4.0)

    def g(x):
        w.grad = None
        (w * x).sum().backward()
        return nn.utils.clip_grad_norm_([w], 1.0, error_if_nonfinite=True)

    f = compiled(g)
    yield f(fb.ones(2))


@same
def clip_over_a_generator_of_parameters(compiled):
    m = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    o = optim.SGD(m.parameters(), lr=0.1)

    def g(x):
        o.zero_grad()
        m(x).sum().backward()
        norm = nn.utils.clip_grad_norm_((p for p in m.parameters() if p.requires_grad), 0.5)
        o.step()
        return norm

    f = compiled(g)
    yield f(fb.ones(1, 2))
    m[0].requires_grad_(False)
    yield f(fb.ones(1, 2))
    yield list(m.parameters())


# -- averages of parameters -------------------------------------------------------------------------------------------


@same
def moving_average_of_parameters(compiled):
    m = nn.Linear(2, 2)
    average = copy.deepcopy(m)
    o = optim.SGD(m.parameters(), lr=0.1)
    settings = {"decay": 0.9}

    def g(x):
        trainer(m, o)(x)
        with fb.no_grad():
            for a, p in zip(average.parameters(), m.parameters(), strict=True):
                a.mul_(settings["decay"]).add_(p, alpha=1 - settings["decay"])

    f = compiled(g)
    for decay in (0.9, 0.9, 0.5):
        settings["decay"] = decay
        f(fb.ones(1, 2))
        yield list(average.parameters())


@same
def moving_average_through_a_state_dict(compiled):
    m = nn.Linear(2, 2)
    average = {name: value.clone() for name, value in m.state_dict().items()}
    o = optim.SGD(m.parameters(), lr=0.1)

    def g(x):
        trainer(m, o)(x)
        with fb.no_grad():
            for name, value in m.state_dict().items():
                average[name].lerp_(value, 0.5)

    f = compiled(g)
    for _ in range(3):
        f(fb.ones(1, 2))
        yield average


@same
def moving_average_rebinding_the_dict(compiled):
    m = nn.Linear(2, 2)
    average = {name: value.clone() for name, value in m.state_dict().items()}
    o = optim.SGD(m.parameters(), lr=0.1)

    def g(x):
        trainer(m, o)(x)
        with fb.no_grad():
            for name, value in m.state_dict().items():
                average[name] = average[name] * 0.5 + value * 0.5

    f = compiled(g)
    for _ in range(3):
        f(fb.ones(1, 2))
        yield average


@same
def average_of_weights_with_a_count(compiled):
    """Stochastic weight averaging with a Python count."""
    w, mean = leaf(1.0, 2.0), fb.zeros(2)
    o = optim.SGD([w], lr=0.1)
    count = [0]

    def g(x):
        stepper(w, o)(x)
        with fb.no_grad():
            mean.add_((w - mean) / (count[0] + 1))

    f = compiled(g)
    for n in range(3):
        count[0] = n
        f(fb.ones(2))
        yield mean


@same
def target_network_updated_every_few_steps(compiled):
    m, target = nn.Linear(2, 2), nn.Linear(2, 2)
    settings = {"every": 2}

    def g(x, n):
        if n % settings["every"] == 0:
            with fb.no_grad():
                for t, p in zip(target.parameters(), m.parameters(), strict=True):
                    t.copy_(p)
        return target(x)

    f = compiled(g)
    for n in range(1, 5):
        with fb.no_grad():
            m.weight.add_(1)
        yield f(fb.ones(1, 2), n)
    settings["every"] = 5
    yield f(fb.ones(1, 2), 6)


@same
def loss_scaler(compiled):
    """A gradient scaler as one writes it: scale, unscale, a number that changes between calls."""
    class Scaler:
        def __init__(self):
            self.scale = 128.0

        def backward(self, loss):
            (loss * self.scale).backward()

        def unscale(self, params):
            for p in params:
                p.grad.div_(self.scale)

    scaler = Scaler()
    w = leaf(1.0, 2.0)
    o = optim.SGD([w], lr=0.1)

    def g(x):
        o.zero_grad()
        loss = (w * x).sum()
        scaler.backward(loss)
        scaler.unscale([w])
        o.step()
        return loss.detach() * scaler.scale

    f = compiled(g)
    yield f(fb.ones(2)), w
    scaler.scale = 64.0
    yield f(fb.ones(2)), w
