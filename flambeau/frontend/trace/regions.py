"""A trace within a trace: a user's function that becomes a region of a node, for `cond` and `while_loop`.

What the function reads of the traces around it, and of the world, becomes operands of the node; what it changes in
place becomes further results, which the trace around it writes: parameters, statistics, the state of random numbers.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from flambeau.errors import CaptureError, FlambeauError, TraceError, UnsupportedError
from flambeau.frontend.active import active
from flambeau.frontend.again import Then
from flambeau.frontend.control import (
    Leaves,
    body_leaves,
    check_alike,
    condition_writes,
    leaves_of,
    own,
    own_on_tape,
    told,
)
from flambeau.frontend.random import default_generators
from flambeau.frontend.tape.autograd import grad_mode, key_of, origin_of, tape_of
from flambeau.frontend.tape.backward import TensorBuilder, walk
from flambeau.frontend.tape.dispatch import (
    attach_record,
    check_saved,
    check_unchanged,
    constant,
    dispatch,
)
from flambeau.frontend.tape.gradient_hooks import with_hooks
from flambeau.frontend.tensor.promotion import get_default_dtype
from flambeau.frontend.tensor.storage import Storage
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.frontend.trace.guards.markers import CompiledMarker
from flambeau.frontend.trace.outside import Outside, hook_keys
from flambeau.frontend.trace.trace import Trace
from flambeau.frontend.where import describe, user_location
from flambeau.ir import dtypes as dt
from flambeau.ir import ops
from flambeau.ir.graph import Graph, Location, Value, inline
from flambeau.ir.op import Op, RegionOp
from flambeau.ir.records import dataclass
from flambeau.ir.types import TensorType
from flambeau.passes.graph.autodiff import backpropagate

__all__ = ["NestingTrace", "Region"]


@dataclass
class Lifted:
    """Memory from outside a region: the tensor that owns its layout, and the region's input that it comes in by."""

    tensor: Tensor
    input: Value


class NestingTrace(Trace):
    """A trace that may hold others, whose functions may be the user's: they are watched, also within what rests."""

    def cond(self, pred: Tensor, true_fn: Callable[..., Any], false_fn: Callable[..., Any],
             operands: Sequence[Any]) -> Any:
        """`fb.cond` on a traced predicate bool[]."""
        return self.watched(_choose, self, pred, true_fn, false_fn, operands)

    def while_loop(self, cond_fn: Callable[..., Any], body_fn: Callable[..., Any], carried: Leaves) -> Any:
        """`fb.while_loop`."""
        return self.watched(_repeat, self, cond_fn, body_fn, carried)

    def probe(self, run: Callable[[], None], function: Callable[..., Any], who: str
              ) -> tuple[list[Tensor], dict[Storage, Value], bool]:
        """Trace a user's function, which `run` calls, without effect: the tensors from outside that it reads and that
        require grad, what all memory that it reads holds now, and whether it changes any but the state of random
        numbers."""
        return self.watched(self._probe, run, function, who)

    def _probe(self, run: Callable[[], None], function: Callable[..., Any], who: str
               ) -> tuple[list[Tensor], dict[Storage, Value], bool]:
        region = Region(self, "probe", who)
        with region.running(), self.watch.part(function, who):
            run()
        states = {generator.state._storage for generator in default_generators()}
        sources = [o.tensor for o in region.outside.values() if o.tensor._requires_grad]
        held = self.held_by([lifted.tensor for lifted in region.lifted.values()])
        return list({key_of(t): t for t in sources}.values()), held, bool(set(region.written) - states)

    def held_by(self, tensors: Sequence[Tensor]) -> dict[Storage, Value]:
        """What the memory of tensors holds now."""
        return {t._storage: self._base_value(t) for t in tensors}

    @contextmanager
    def holding(self, values: Mapping[Storage, Value]) -> Iterator[None]:
        """Memory holds what it held when a function ran that runs again: a derivative reads it as an operation saved it."""
        now = {storage: self._current[storage] for storage in values}
        for storage, value in values.items():
            self._current[storage] = value
            self.saved_in.setdefault(value, set()).add(storage)
        try:
            yield
        finally:
            self._current.update(now)


class Region(NestingTrace):
    """The trace of one region; `who` names the user's function in errors."""

    def __init__(self, around: NestingTrace, name: str, who: str):
        super().__init__(name, around.watch, around.numbers_are_fixed)
        self.around: NestingTrace = around
        self.who, self.loc = who, user_location()
        self.lifted: dict[Storage, Lifted] = {}
        self.told: dict[Storage, int] = {}      # how many changes the trace around this one was told of at the end
        self.carried: list[tuple[Storage, Value]] = []
        self.memory_of: dict[int, Storage] = {}     # of tensors made here over memory from outside, by id
        self.name_of, self.argument_of = around.name_of, around.argument_of
        self._phase = around._phase

    @contextmanager
    def running(self) -> Iterator[None]:
        """Ops inside are recorded here. Raises UnsupportedError for what a region can't do to tensors around it."""
        saved, active.tracer = active.tracer, self
        modes = grad_mode.mode, get_default_dtype()
        try:
            yield
            self._check_tensors_outside()
            if modes != (grad_mode.mode, get_default_dtype()):
                raise CaptureError(f"{self.who} changed the grad mode, autocast or the default dtype and left it so: "
                                   "a compiled function can't repeat such a side effect",
                                   hint="use `with fb.set_grad_enabled(...):`")
        except Exception as error:
            if self.differentiated is None:
                self.fail(error)        # even if it is caught: calls that run another function would not raise it
            raise
        finally:
            active.tracer = saved
            self.closed = True
            for outside in self.outside.values():
                if outside.is_on_tape_of(self):
                    outside.restore_tape()
            self.memory_of = {id(made): made._storage for made in self.made.values()}
            for made in self.made.values():         # over memory from outside, on the tape of this trace
                made._storage = Storage(trace=self, origin=self.loc)        # type: ignore[arg-type]

    @contextmanager
    def differentiating(self) -> Iterator[None]:
        """Ops inside are recorded after those of the function, as its derivative. Raises UnsupportedError for effects."""
        before, saved = self.effects(), (self._phase, self.differentiated)
        for made in self.made.values():             # loops of the function run again, and read them
            made._storage = self.memory_of[id(made)]
        self.closed, self._phase, self.differentiated = False, "backward", self.loc
        try:
            with self.running(), self.watch.part(backpropagate, f"the backward of {self.who}"):
                yield
        finally:
            self._phase, self.differentiated = saved
        if self.effects() != before:
            raise UnsupportedError(f"the backward of {self.who} (a gradient hook, or a Function's backward) changes a "
                                   "tensor in place or sets .grad", where=describe(self.loc))

    def _check_tensors_outside(self) -> None:
        for outside in self.outside.values():
            t = outside.tensor
            if outside.is_on_tape_of(self):
                raise UnsupportedError(f"{self.who} changes a tensor from outside of it in place by something that "
                                       "requires grad, which would put it on a tape", where=describe(self.loc),
                                       hint="return the new value, or write under no_grad()")
            if t._requires_grad is not outside.requires_grad or hook_keys(t) != outside.hooks:
                raise UnsupportedError(f"{self.who} changes requires_grad or the gradient hooks of a tensor from outside "
                                       "of it", where=describe(self.loc), hint="do it before")

    def carry(self, like: Sequence[Tensor | None], requires_grad: Sequence[bool]) -> list[Tensor | None]:
        """Stand-ins for what a loop carries, which are the first inputs. They are no leaves: in-place ops may change
        them."""
        made: list[Tensor | None] = []
        for t, requires in zip(like, requires_grad, strict=True):
            if t is None:
                made.append(None)
                continue
            value = self.graph.add_input(t._type, f"carried{len(self.carried)}")
            shell = self._shell(value, None)
            self.carried.append((shell._storage, value))
            if requires:
                shell._requires_grad = True
                shell = own(shell)
                self.carried[-1] = (shell._storage, self._current[shell._storage])
            made.append(shell)
        return made

    @property
    def written(self) -> list[Storage]:
        """Memory from outside that holds something else now."""
        return [storage for storage, lifted in self.lifted.items() if self._current[storage] is not lifted.input]

    def changes_anything(self) -> bool:
        """True when memory from outside, or what is carried, was changed in place."""
        return bool(self.written) or any(self._current[storage] is not value for storage, value in self.carried)

    def input_for(self, storage: Storage, lifted: Lifted) -> Value:
        """The input by which memory comes in that another region reads."""
        if storage not in self.lifted:
            value = self.graph.add_input(lifted.input.type, lifted.input.node.op.label)      # type: ignore[attr-defined]
            self.lifted[storage] = Lifted(lifted.tensor, value)
            self._current[storage] = value
        return self.lifted[storage].input

    def finished(self, inputs: Sequence[Value], outputs: Sequence[Value]) -> Graph:
        """The region, with its inputs in this order, and all that its outputs and effects need."""
        made = Graph(name=self.graph.name)
        new_of = {v: made.add_input(v.type, v.node.op.label) for v in inputs}               # type: ignore[attr-defined]
        needed = {value.node for value in outputs}
        for node in reversed(self.graph.toposort()):
            if node in needed or not node.is_pure:
                needed.update([node, *[value.node for value in node.operands]])
        new_of = inline(self.graph, made, new_of, nodes=[node for node in self.graph.toposort() if node in needed])
        made.outputs = [new_of[v] for v in outputs]
        return made

    # -- what a trace is asked --------------------------------------------------------------------------------------

    def _base_value(self, t: Tensor) -> Value:
        storage = t._storage
        if storage.trace is not self and storage not in self._current:
            owner = _met(t)
            base = owner if owner._base is None else owner._base
            known = self.around._base_value(base).node.op           # or an error
            value = self.graph.add_input(base._type, getattr(known, "label", f"outside{len(self.lifted)}"))
            self.lifted[storage] = Lifted(base, value)
            self._current[storage] = value
        return super()._base_value(t)

    def meet(self, t: Tensor) -> None:
        if t._storage.trace is self or id(t) in self.outside or id(t) in self.made:
            return
        self.around.meet(t)
        for met in (_met(t), t._base):
            if met is not None and met._saved_version == -1:
                self.outside.setdefault(id(met), Outside.of(met))

    def version_of(self, t: Tensor) -> int:
        own = super().version_of(t)
        return own if t._storage.trace is self else own + self.around.version_of(t) - self.told.get(t._storage, 0)

    def saved_version_of(self, t: Tensor) -> int:
        self.around.saved_version_of(t)         # which counts
        return super().saved_version_of(t)

    def get_grad(self, t: Tensor, adding: bool = False) -> Tensor | None:
        if origin_of(t)._storage.trace is self:
            return super().get_grad(t, adding)
        if adding:
            raise self._sets_grad()
        return self.around.get_grad(t)

    def set_grad(self, t: Tensor, grad: Tensor | None, adding: bool = False) -> None:
        if origin_of(t)._storage.trace is not self:
            raise self._sets_grad()
        super().set_grad(t, grad, adding)

    def _sets_grad(self) -> UnsupportedError:
        return UnsupportedError(f"{self.who} sets .grad of a tensor from outside of it", where=describe(user_location()),
                                hint="return what fb.autograd.grad() gives, and set .grad outside")

    @contextmanager
    def backward_phase(self) -> Iterator[None]:
        with self.around.backward_phase(), super().backward_phase():
            yield

    def scalar(self, owner: dict[str, Any], key: str) -> Any:
        return self.around.scalar(owner, key)

    def strides_in(self, storage: Storage) -> tuple[int, ...] | None:
        return self.around.strides_in(storage)

    def fail(self, error: Exception) -> None:
        self.around.fail(error)

    def concrete_data_error(self, t: Tensor) -> Exception:
        return self.around.concrete_data_error(t)

    def no_data_error(self, t: Tensor) -> Exception:
        if not self.closed:
            return self.around.no_data_error(t)
        origin = t._storage.origin
        made = describe(origin) or "its start"                  # type: ignore[arg-type]
        return TraceError(f"a tensor ({t._type}) that was made in {self.who} was kept, and used outside of it; it was made "
                          f"at {made}", where=describe(user_location()), hint="return it from the function instead")


def _met(t: Tensor) -> Tensor:
    """The tensor that an alias on the tape stands for, if it has the same memory (what stands for an argument has not)."""
    origin = origin_of(t)
    return origin if origin._storage is t._storage else t


# -- nodes ------------------------------------------------------------------------------------------------------------


class Undifferentiated(Op):
    """The tape's op for a node with regions: it says that there is no derivative, once one is asked for."""

    def __init__(self, name: str, loc: Location | None):
        self.name, self.loc = name, loc

    def vjp(self, b: Any, operands: Sequence[Any], results: Sequence[Any], cotangents: Sequence[Any]) -> Sequence[Any]:
        where = "" if self.loc is None else f"\n  traced at {describe(self.loc)}"
        raise NotImplementedError(
            f"{self.name} in a compiled function or under vmap has no derivative without a bound, and one was asked for"
            f"{where}          hint: give it the most rounds that it may take, {self.name}(..., max_steps=N), or detach() "
            "what it is given")


class Choice(Undifferentiated):
    """The tape's op for a `cond`. Its derivative is another: each branch computes again what it did, then walks its own
    tape from the cotangents of what it gave to those of what it read.

    given: what the functions, which take `arguments`, gave. operand_of: the value, when the choice was made, of memory
    from outside."""

    def __init__(self, regions: Sequence[Region], given: Sequence[Leaves], operand_of: dict[Storage, Value],
                 predicate: Value, loc: Location | None, functions: Sequence[Callable[..., Any]], arguments: Sequence[Any]):
        super().__init__("cond", loc)
        self.regions, self.given, self.operand_of, self.predicate = regions, given, operand_of, predicate
        self.functions, self.arguments, self.then = functions, arguments, Then(*functions)

    def vjp(self, b: Any, operands: Sequence[Any], results: Sequence[Any], cotangents: Sequence[Any]) -> Sequence[Any]:
        trace = active.tracer
        assert isinstance(trace, NestingTrace), "a choice is on the tape of a trace"
        if grad_mode.enabled:
            return self._differentiable(trace, operands, cotangents)
        reads = [region.saved_reads for region in self.regions]
        found, seeds = zip(*[self._walked(region, leaves, cotangents)
                             for region, leaves in zip(self.regions, self.given, strict=True)], strict=True)
        if reads != [region.saved_reads for region in self.regions]:
            for t in operands:
                check_saved(t)
        keys = [key_of(t) for t in operands]
        reached = [n for n, key in enumerate(keys) if any(key in gradients for gradients in found)]
        lifted = {storage: known for region in self.regions for storage, known in region.lifted.items()}
        graphs = []
        for region, gradients, arriving in zip(self.regions, found, seeds, strict=True):
            with region.differentiating():
                outputs = [region.value_of(gradients[keys[n]] if keys[n] in gradients else _zeros(operands[n]._type))
                           for n in reached]
            inputs = [*[region.input_for(storage, known) for storage, known in lifted.items()], *arriving]
            graphs.append(region.finished(inputs, outputs))
        values = [self._operand(trace, storage, known) for storage, known in lifted.items()]
        values += [trace.value_of(ct) for ct in cotangents if ct is not None]
        return self._emitted(trace, [self.predicate, *values], graphs, reached, len(operands))

    def _differentiable(self, trace: NestingTrace, operands: Sequence[Tensor], cotangents: Sequence[Tensor | None]
                        ) -> Sequence[Tensor]:
        """The same gradients, to be differentiated again: of the functions, which run again, by another choice."""
        if any(region.written for region in self.regions):
            raise NotImplementedError("cond in a compiled function has no second derivative where a function draws random "
                                      f"numbers or changes tensors from outside of it\n  traced at {describe(self.loc)}")
        for t in operands:
            check_unchanged(t, self.name)

        true_fn, false_fn = [_Gradients(f, self.arguments, operands, cotangents) for f in self.functions]
        with self.then.again(), trace.holding(self.operand_of):
            chosen: Sequence[Tensor] = trace.cond(trace._shell(self.predicate, self.loc), true_fn, false_fn, ())
        return chosen

    def _walked(self, region: Region, leaves: Leaves, cotangents: Sequence[Tensor | None]) -> \
            tuple[dict[Any, Tensor], list[Value]]:
        """The gradients that a branch gives, by key, and the inputs that its cotangents come in by."""
        starts: dict[Any, Tensor] = {}
        arriving: list[Value] = []
        roots = []
        with region.differentiating():
            tensors = [t for t in leaves.tensors if t is not None]
            for t, ct in zip(tensors, cotangents, strict=True):
                if ct is None:
                    continue
                gradient = region.input_tensor(ct._type, f"grad{len(arriving)}")
                arriving.append(region.value_of(gradient))
                if t._requires_grad:
                    roots.append(t)
                    key = key_of(t)
                    starts[key] = dispatch(ops.add, starts[key], gradient) if key in starts else gradient
            builder = TensorBuilder()
            found = backpropagate(builder, with_hooks((), tape_of(roots), None, False), starts, builder.parts_of,
                                  lambda key: key is not None)
        return found, arriving

    def _operand(self, trace: NestingTrace, storage: Storage, known: Lifted) -> Value:
        """What memory held when the choice was made, which the derivative reads as an operation saved it."""
        if storage not in self.operand_of:
            return trace._base_value(known.tensor)
        value = self.operand_of[storage]
        trace.saved_in.setdefault(value, set()).add(storage)
        return value

    def _emitted(self, trace: NestingTrace, values: Sequence[Value], graphs: Sequence[Graph], reached: Sequence[int],
                 count: int) -> list[Tensor | None]:
        left = ops.Cond().trimmed(graphs, [True] * len(reached))
        kept = range(len(values)) if left is None else left.operands
        node = trace.graph.append(ops.Cond(), [values[n] for n in kept], loc=self.loc, phase=trace._phase,
                                  regions=tuple(graphs))
        gradients: list[Tensor | None] = [None] * count
        for n, value in zip(reached, node.results, strict=True):
            gradients[n] = trace._shell(value, self.loc)
        return gradients


def _zeros(type: TensorType) -> Tensor:
    zero = constant(0, type.dtype)
    return dispatch(ops.Broadcast(type.static_shape, ()), zero) if type.shape else zero


class _Gradients(CompiledMarker):
    """A function of a choice, as one that gives its gradients with respect to `operands`. Guards see the function only."""

    def __init__(self, function: Callable[..., Any], arguments: Sequence[Any], operands: Sequence[Tensor],
                 cotangents: Sequence[Tensor | None]):
        self.function, self.arguments, self.operands, self.cotangents = function, arguments, operands, cotangents

    def __call__(self) -> tuple[Tensor, ...]:
        given = leaves_of(self.function(*self.arguments), "cond").tensors
        tensors = [own_on_tape(t) for t in given if t is not None]
        pairs = [(t, ct) for t, ct in zip(tensors, self.cotangents, strict=True) if ct is not None and t._requires_grad]
        found = walk([t for t, _ in pairs], [ct for _, ct in pairs], True, "cond", self.operands)[0] if pairs else {}
        return tuple([found[key_of(t)] if key_of(t) in found else _zeros(t._type) for t in self.operands])


def _choose(trace: NestingTrace, pred: Tensor, true_fn: Callable[..., Any], false_fn: Callable[..., Any],
            operands: Sequence[Any]) -> Any:
    loc = user_location()
    regions: list[Region] = []
    given: list[Leaves] = []
    outputs: list[list[Value]] = []
    for name, function in (("true", true_fn), ("false", false_fn)):
        region = Region(trace, name, f"cond: {name}_fn")
        with region.running(), trace.watch.part(function, region.who, operands):
            leaves = leaves_of(function(*operands), region.who)
            leaves.tensors = [t if t is None else own_on_tape(t) for t in leaves.tensors]
            outputs.append([region.value_of(t) for t in leaves.tensors if t is not None])
        regions.append(region)
        given.append(leaves)
    check_alike(*given)
    lifted = {storage: found for region in regions for storage, found in region.lifted.items()}
    written = [s for s in lifted if any(s in region.written for region in regions)]
    graphs = []
    for region, values in zip(regions, outputs, strict=True):
        inputs = [region.input_for(storage, found) for storage, found in lifted.items()]
        graphs.append(region.finished(inputs, [*values, *[region._current[s] for s in written]]))
    operand_values = [trace.value_of(pred), *[trace._base_value(found.tensor) for found in lifted.values()]]
    requires = [any(t is not None and t._requires_grad for t in pair)
                for pair in zip(*[leaves.tensors for leaves in given], strict=True)]
    choice = Choice(regions, given, dict(zip(lifted, operand_values[1:], strict=True)), operand_values[0], loc,
                    (true_fn, false_fn), operands)
    return given[0].tree(_emitted(trace, ops.Cond(), operand_values, graphs, given[0], requires, regions, written, choice))


def _repeat(trace: NestingTrace, cond_fn: Callable[..., Any], body_fn: Callable[..., Any], carried: Leaves) -> Any:
    loc = user_location()
    recording = grad_mode.enabled
    requires = [recording and t is not None and t._requires_grad for t in carried.tensors]
    while True:
        condition, body = Region(trace, "condition", "while_loop: cond_fn"), Region(trace, "body", "while_loop: body_fn")
        with condition.running(), trace.watch.part(cond_fn, condition.who):
            pred = told(cond_fn(*carried.tree(condition.carry(carried.tensors, requires))))
            holds = condition.value_of(constant(pred, dt.bool_) if isinstance(pred, bool) else pred)
            if condition.changes_anything():
                raise condition_writes()
        with body.running(), trace.watch.part(body_fn, body.who):
            given = body_leaves(body_fn(*carried.tree(body.carry(carried.tensors, requires))), carried)
            nexts = [body.value_of(t) for t in given.tensors if t is not None]
        now = [a or recording and t is not None and t._requires_grad for a, t in zip(requires, given.tensors, strict=True)]
        if now == requires:
            break
        requires = now                      # what is carried back requires grad too
    regions = [condition, body]
    lifted = {storage: found for region in regions for storage, found in region.lifted.items()}
    written = body.written
    ordered = [*written, *[s for s in lifted if s not in written]]
    inputs = [[*region.graph.inputs[:len(nexts)], *[region.input_for(s, lifted[s]) for s in ordered]] for region in regions]
    graphs = [condition.finished(inputs[0], [holds]),
              body.finished(inputs[1], [*nexts, *[body._current[s] for s in written]])]
    operand_values = [*[trace.value_of(t) for t in carried.tensors if t is not None],
                      *[trace._base_value(lifted[s].tensor) for s in ordered]]
    undifferentiated = Undifferentiated("while_loop", loc)
    return carried.tree(_emitted(trace, ops.WhileLoop(), operand_values, graphs, carried, requires, regions, written,
                                 undifferentiated))


def _emitted(trace: NestingTrace, op: RegionOp, operands: Sequence[Value], graphs: Sequence[Graph],
             like: Leaves, requires_grad: Sequence[bool], regions: Sequence[Region], written: Sequence[Storage],
             on_tape: Undifferentiated) -> list[Tensor | None]:
    """The tensors that the node gives, as many as `like`, after what it writes is written."""
    loc = on_tape.loc
    try:
        node = trace.graph.append(op, operands, loc=loc, phase=trace._phase, regions=tuple(graphs))
    except FlambeauError as error:
        error.where = error.where or describe(loc)
        raise
    values = iter(node.results)
    made = [None if t is None else trace._shell(next(values), loc) for t in like.tensors]
    for storage, value in zip(written, values, strict=True):
        trace.check_given(storage)
        trace._current[storage] = value
        changes = sum(region._versions.get(storage, 0) for region in regions)
        trace._versions[storage] = trace._versions.get(storage, 0) + changes
        for region in regions:
            region.told[storage] = changes
    if grad_mode.enabled and any(requires_grad):
        given = [*[o.tensor for region in regions for o in region.outside.values()], *like.tensors]
        starts = {key_of(t): t for t in given if t is not None and t._requires_grad and t._storage.trace not in regions}
        tensors = tuple([t for t in made if t is not None])
        attach_record(on_tape, tuple(starts.values()), tensors)
        for t, requires in zip(made, requires_grad, strict=True):
            if t is not None and not requires:
                t._requires_grad, t._record = False, None
    return made
