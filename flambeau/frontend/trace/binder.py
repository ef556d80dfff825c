"""One call -> a graph and a plan: binds arguments, runs the function under trace, and refuses what can't be repeated."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from flambeau.errors import CaptureError, FlambeauError, TraceError, UnsupportedError, listening
from flambeau.frontend.active import active
from flambeau.frontend.pytree import Structure, flatten, unflatten
from flambeau.frontend.scalars import is_runtime_number, plain, settled
from flambeau.frontend.tape.autograd import grad_mode
from flambeau.frontend.tape.casting import Casting
from flambeau.frontend.tensor.promotion import get_default_dtype, set_default_dtype
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.frontend.trace.call_plan import Traced
from flambeau.frontend.trace.guards.watch import Watch
from flambeau.frontend.trace.planner import Planner
from flambeau.frontend.trace.regions import NestingTrace
from flambeau.ir.dtypes import DType


def trace_call(function: Callable[..., Any], name: str, leaves: Sequence[Any], paths: Sequence[str],
               structure: Structure | None) -> Traced:
    """Trace `function` on arguments that were flattened to `leaves`."""
    binder = Binder(function, name, leaves, paths, structure)
    try:
        traced = binder.run()
    except FlambeauError:
        raise
    except Exception as error:              # perhaps of code that takes nothing but real numbers: json, decimal
        if not binder.trace.numbers():
            raise
        binder = Binder(function, name, leaves, paths, structure, numbers_are_fixed=True)
        try:
            traced = binder.run()
        except Exception:                   # or of none, or of code that takes nothing but runtime numbers
            raise error from None
    captured = binder.arguments_that_are_captured()
    if captured:
        traced = Binder(function, name, leaves, paths, structure, binder.numbers_are_fixed, captured).run()
    return traced


class Binder:
    """Runs `function` once under a Trace."""

    def __init__(self, function: Callable[..., Any], name: str, leaves: Sequence[Any], paths: Sequence[str],
                 structure: Structure | None, numbers_are_fixed: bool = False, captured: frozenset[int] = frozenset()):
        self.function, self.leaves, self.paths, self.structure = function, leaves, paths, structure
        self.captured = captured            # leaves that stand for themselves: captured tensors given as arguments
        self.numbers_are_fixed = numbers_are_fixed
        self.watch = Watch(function)
        self.trace = NestingTrace(name, self.watch, numbers_are_fixed)
        self.shell_of: dict[int, Tensor] = {}               # the stand-ins of tensor arguments, by leaf

    def run(self) -> Traced:
        bound = [self._bind(number, leaf) for number, leaf in enumerate(self.leaves)]
        args, kwargs = unflatten(self.structure, bound)
        modes = grad_mode.enabled, grad_mode.casting, get_default_dtype()
        is_done = False
        try:
            with self.watch:
                active.tracer, listening.tell = self.trace, self.trace.fail
                try:
                    result = self.function(*args, **kwargs)
                except Exception as error:
                    if self.trace.failure in (None, error):
                        raise
                    raise self.trace.failure from error         # caught, and told as something else
                finally:
                    active.tracer = listening.tell = None
                    self._take_back_modes(*modes)
                self.trace.check()
                self._check_arguments((args, kwargs), bound)
                self._check_hyperparameters()
                self._check_tapes()
                planner = Planner(self.trace, self.watch, self.leaves, self.structure, self.paths, self.captured,
                                  self.shell_of)
                planner.finish(result)
            self.trace.check()
            self.watch.verify()
            is_done = True
            return planner.traced()
        finally:
            self.trace.close()
            self.watch.heap.clear_caches()
            if not is_done:
                self.watch.restore()

    def arguments_that_are_captured(self) -> frozenset[int]:
        """Tensor arguments that the code also reaches by name: `is` would take them for others."""
        known = self.watch.tensors()
        return frozenset(n for n, leaf in enumerate(self.leaves)
                         if isinstance(leaf, Tensor) and (id(leaf) in known or self.trace.has_met(leaf)))

    # -- going in ---------------------------------------------------------------------------------------------------

    def _bind(self, number: int, leaf: Any) -> Any:
        label = _label(self.paths[number])
        if number in self.captured:
            return leaf
        if isinstance(leaf, Tensor):
            for earlier, like in enumerate(self.leaves[:number]):
                if like is leaf:
                    return self.shell_of[earlier]
            shell = self.shell_of[number] = self.trace.argument(leaf, label)
            return shell
        if is_runtime_number(leaf):
            return self.trace.argument_number(plain(leaf), number, label, type(settled(leaf)))
        if hasattr(type(leaf), "__next__"):
            raise TraceError(f"argument {label} of {self.trace.graph.name} is an iterator ({type(leaf).__name__}), which a "
                             "compiled function would use up only once", hint="pass a list or a tuple")
        if isinstance(leaf, np.ndarray):
            raise TraceError(f"argument {label} of {self.trace.graph.name} is a NumPy array, which would be frozen into "
                             "the compiled function", hint="pass fb.from_numpy(array)")
        if hasattr(type(leaf), "__dlpack__"):
            raise TraceError(f"argument {label} of {self.trace.graph.name} is a tensor of another framework "
                             f"({type(leaf).__module__}.{type(leaf).__name__}), which would be frozen into the compiled "
                             "function", hint="pass fb.from_numpy(array) of its memory as a NumPy array")
        if isinstance(leaf, (complex, np.complexfloating)):
            raise TraceError(f"argument {label} of {self.trace.graph.name} is the complex number {leaf!r}: numbers are "
                             "real", hint="pass its real and imaginary parts")
        self.watch.add_argument(leaf, label)
        return leaf

    # -- coming out -------------------------------------------------------------------------------------------------

    def _check_arguments(self, tree: Any, bound: Sequence[Any]) -> None:
        """A container argument that the function changed can't be changed again on later calls."""
        leaves, _, structure = flatten(tree)
        if structure != self.structure or any(a is not b for a, b in zip(leaves, bound, strict=True)):
            raise CaptureError(f"{self.trace.graph.name} changed a container among its arguments while it was traced: a "
                               "compiled function can't repeat such a side effect", hint="return the new value instead")

    def _take_back_modes(self, grad_enabled: bool, casting: Casting | None, dtype: DType) -> None:
        now = grad_mode.enabled, grad_mode.casting, get_default_dtype()
        if now != (grad_enabled, casting, dtype):
            grad_mode.enabled = grad_enabled
            grad_mode.cast(casting)
            set_default_dtype(dtype)
            self.trace.fail(CaptureError(
                f"{self.trace.graph.name} changed the grad mode, autocast or the default dtype and left it so: a compiled "
                "function can't repeat such a side effect",
                hint="use `with fb.set_grad_enabled(...):`, or change it outside the compiled function"))

    def _check_tapes(self) -> None:
        """What outlives the call must not have become part of the tape of this trace."""
        shells = [(shell, self.leaves[number]) for number, shell in self.shell_of.items()]
        if self.trace.extends_tapes() or any(shell._record is not None for shell, _ in shells):
            raise UnsupportedError(f"{self.trace.graph.name} changes an argument or a captured tensor in place by "
                                   "something that requires grad, which would put it on a tape",
                                   hint="return the new value, detach() what is written, or write under no_grad()")
        if any(shell._requires_grad is not like._requires_grad for shell, like in shells):
            raise CaptureError(f"{self.trace.graph.name} changed requires_grad of an argument: a compiled function can't "
                               "repeat such a side effect", hint="use x.detach().requires_grad_() inside")

        if self.trace.hooks_changed():
            raise CaptureError(f"{self.trace.graph.name} registered or removed a gradient hook of an argument or of a "
                               "captured tensor: a compiled function can't repeat such a side effect",
                               hint="do it outside, or remove() the hook after backward() inside")

    def _check_hyperparameters(self) -> None:
        changed = self.trace.changed_number()
        if changed is not None:
            raise CaptureError(f"{changed.key!r} changed from {changed.value!r} to {changed.now()!r} while it was traced: "
                               "a compiled function can't repeat such a side effect",
                               hint="step the scheduler outside the compiled function")


def _label(path: str) -> str:
    """`[0][1]['x']` (args or kwargs, then position) -> a short name."""
    return path.replace("[0]", "arg", 1) if path.startswith("[0]") else path.replace("[1]", "", 1)


__all__ = ["Binder", "trace_call"]
