"""L-BFGS. Liu and Nocedal, Mathematical Programming 45, 1989."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from flambeau.errors import TraceError
from flambeau.frontend.active import active
from flambeau.frontend.functions.creation import zeros
from flambeau.frontend.functions.joining import cat
from flambeau.frontend.optim.arguments import require_nonnegative
from flambeau.frontend.optim.line_search import Point, strong_wolfe
from flambeau.frontend.optim.optimizer import Optimizer
from flambeau.frontend.tape.autograd import enable_grad, no_grad
from flambeau.frontend.tape.writes import assign_
from flambeau.frontend.tensor.tensor import Tensor

_LEAST_CURVATURE = 1e-10                    # y . s of a pair that is remembered


class LBFGS(Optimizer):
    """step(closure) moves up to max_iter times along -H g, H being the inverse Hessian as the last history_size moves
    tell it; by lr each time, or as far as line_search_fn="strong_wolfe" says.

    closure: clears the gradients, computes the loss, calls backward and gives the loss; it may be compiled, the step
    itself, which decides by the loss, may not. One group of parameters. max_eval: 5/4 of max_iter. It ends early when
    no element of the gradient exceeds tolerance_grad, or nothing changes by more than tolerance_change."""

    def __init__(self, params: Any, lr: float | Tensor = 1, max_iter: int = 20, max_eval: int | None = None,
                 tolerance_grad: float = 1e-7, tolerance_change: float = 1e-9, history_size: int = 100,
                 line_search_fn: str | None = None):
        require_nonnegative(("learning rate", lr))
        if line_search_fn not in (None, "strong_wolfe"):
            raise RuntimeError("only 'strong_wolfe' is supported")
        super().__init__(params, {
            "lr": lr, "max_iter": max_iter, "max_eval": max_iter * 5 // 4 if max_eval is None else max_eval,
            "tolerance_grad": tolerance_grad, "tolerance_change": tolerance_change, "history_size": history_size,
            "line_search_fn": line_search_fn})
        if len(self.param_groups) != 1:
            raise ValueError("LBFGS doesn't support per-parameter options (parameter groups)")

    @no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One call moves up to max_iter times, and calls the closure at least once. Returns its first loss."""
        if active.tracer is not None:
            raise TraceError("LBFGS.step: how far it goes is decided by the loss, which a traced function doesn't have",
                             hint="compile the closure and call step outside of compiled functions")
        if closure is None:
            raise TypeError("LBFGS.step() missing 1 required positional argument: 'closure'")
        group = self.param_groups[0]
        evaluated = enable_grad()(closure)
        first = evaluated()
        loss, gradient = float(first), self._gradient()
        state = self.state[group["params"][0]]
        state["func_evals"] = state.get("func_evals", 0) + 1
        state.setdefault("n_iter", 0)
        evaluations = 1
        for number in range(1, group["max_iter"] + 1):
            if _largest(gradient) <= group["tolerance_grad"]:
                break
            state["n_iter"] += 1
            direction = _direction(state, gradient, group["history_size"])
            state["prev_flat_grad"], state["prev_loss"] = gradient, loss
            slope = float(gradient @ direction)
            state["d"] = direction
            share = 1.0 if state["n_iter"] > 1 else min(1.0, 1.0 / float(gradient.abs().sum()))
            state["t"] = share * float(group["lr"])
            if slope > -group["tolerance_change"]:
                break
            if group["line_search_fn"] is None:
                self._move(state["t"], direction)
                count = 0
                if number != group["max_iter"]:
                    loss, gradient, count = float(evaluated()), self._gradient(), 1
            else:
                found, count = self._searched(evaluated, Point(0.0, loss, gradient, slope), direction,
                                              group["max_eval"] - evaluations)
                state["t"], loss, gradient = found.at, found.loss, found.gradient
            evaluations += count
            state["func_evals"] += count
            if (evaluations >= group["max_eval"] or _largest(direction * state["t"]) <= group["tolerance_change"]
                    or abs(loss - state["prev_loss"]) < group["tolerance_change"]):
                break
        return first

    def _searched(self, evaluated: Callable[[], Any], start: Point, direction: Tensor, most: int) -> tuple[Point, int]:
        group = self.param_groups[0]
        params = group["params"]
        origin = [p.clone() for p in params]

        def evaluate(at: float) -> Point:
            self._restore(origin)
            self._move(at, direction)
            loss, gradient = float(evaluated()), self._gradient()
            return Point(at, loss, gradient, float(gradient @ direction))

        found = strong_wolfe(evaluate, start, self.state[params[0]]["t"], _largest(direction), group["tolerance_change"],
                             most)
        self._restore(origin)
        self._move(found[0].at, direction)
        return found

    def _gradient(self) -> Tensor:
        """All gradients as one vector; zeros where there is none."""
        return cat([zeros(p.numel(), dtype=p.dtype, device=p.device) if p.grad is None else p.grad.reshape(-1)
                    for p in self.param_groups[0]["params"]])

    def _move(self, step: float, direction: Tensor) -> None:
        start = 0
        for p in self.param_groups[0]["params"]:
            assign_(p, p + direction[start:start + p.numel()].reshape(p.shape) * step)
            start += p.numel()

    def _restore(self, origin: Sequence[Tensor]) -> None:
        for p, value in zip(self.param_groups[0]["params"], origin, strict=True):
            p.copy_(value)


def _largest(x: Tensor) -> float:
    return float(x.abs().max()) if x.numel() else 0.0


def _direction(state: dict[str, Any], gradient: Tensor, history_size: int) -> Tensor:
    """-H g by the two-loop recursion, after taking in the move that led here."""
    if state["n_iter"] == 1:
        state.update(old_dirs=[], old_stps=[], ro=[], H_diag=1.0)
        return -gradient
    changes, moves, weights = state["old_dirs"], state["old_stps"], state["ro"]
    change, move = gradient - state["prev_flat_grad"], state["d"] * state["t"]
    curvature = float(change @ move)
    if curvature > _LEAST_CURVATURE:
        if len(changes) == history_size:
            del changes[0], moves[0], weights[0]
        changes.append(change)
        moves.append(move)
        weights.append(1.0 / curvature)
        state["H_diag"] = curvature / float(change @ change)
    rest, shares = -gradient, []
    for change, move, weight in zip(reversed(changes), reversed(moves), reversed(weights), strict=True):
        share = float(move @ rest) * weight
        rest = rest - change * share
        shares.append(share)
    result = rest * state["H_diag"]
    for change, move, weight, share in zip(changes, moves, weights, reversed(shares), strict=True):
        result = result + move * (share - float(change @ result) * weight)
    return result
