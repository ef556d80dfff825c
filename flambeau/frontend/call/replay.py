"""Graph -> a function of tensors that does what the graph says, op by op: eagerly, or traced. Any graph will do that the
parser reads, before or after passes."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from flambeau.errors import UnsupportedError
from flambeau.frontend.control import cond, while_loop
from flambeau.frontend.functions.creation import as_tensor
from flambeau.frontend.tape.dispatch import dispatch, write
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import ops
from flambeau.ir.graph import Graph, Node, Value

__all__ = ["function_of"]


def function_of(graph: Graph) -> Callable[..., Any]:
    """A function whose arguments are the inputs of `graph`, in order, as tensors (numbers, for scalars), and whose result
    is its outputs: one, or a tuple. What the graph writes is written to the arguments in place. Raises UnsupportedError
    for a graph whose sizes are names."""
    for value in graph.inputs:
        if not value.type.is_static:
            raise UnsupportedError(f"an input of {graph.name} is {value.type}: only graphs of fixed sizes are compiled")

    def run(*arguments: Any) -> Any:
        if len(arguments) != len(graph.inputs):
            raise TypeError(f"{graph.name}() takes {len(graph.inputs)} arguments, {len(arguments)} were given")
        given = [_checked(value, argument, graph.name) for value, argument in zip(graph.inputs, arguments, strict=True)]
        outputs, written = _replayed(graph, given)
        if graph.writes:                        # views of what is written show what was there before
            outputs, written = [value.clone() for value in outputs], [value.clone() for value in written]
        for (state, _), value in zip(graph.writes.items(), written, strict=True):
            write(given[graph.inputs.index(state)], value)
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    run.__name__ = run.__qualname__ = graph.name
    return run


def _checked(value: Value, argument: Any, name: str) -> Tensor:
    op: Any = value.node.op
    found = argument if isinstance(argument, Tensor) else as_tensor(argument, value.type.dtype)
    if found._type != value.type:
        raise TypeError(f"{name}: {op.kind} {op.label!r} is {value.type}, got {found._type}")
    return found


def _replayed(graph: Graph, given: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """(outputs, written values)."""
    tensor_of = dict(zip(graph.inputs, given, strict=True))
    for node in graph.toposort():
        if node.op.name != "input":
            results = _results(node, [tensor_of[value] for value in node.operands])
            tensor_of.update(zip(node.results, results, strict=True))
    return [tensor_of[value] for value in graph.outputs], [tensor_of[value] for value in graph.writes.values()]


def _results(node: Node, operands: list[Tensor]) -> Sequence[Tensor]:
    if isinstance(node.op, ops.Fusion):
        return _replayed(node.regions[0], operands)[0]
    if isinstance(node.op, ops.Cond):
        then, otherwise = [_of_region(region) for region in node.regions]
        return tuple(cond(operands[0], then, otherwise, tuple(operands[1:])))
    if isinstance(node.op, ops.WhileLoop):
        condition, body = [_of_region(region) for region in node.regions]
        count = len(node.results)                   # what is carried; the rest stays as it is
        fixed = operands[count:]
        return tuple(while_loop(lambda *carried: condition(*carried, *fixed)[0], lambda *carried: body(*carried, *fixed),
                                tuple(operands[:count])))
    found = dispatch(node.op, *operands)
    return found if isinstance(found, tuple) else (found,)


def _of_region(region: Graph) -> Callable[..., tuple[Tensor, ...]]:
    return lambda *operands: tuple(_replayed(region, operands)[0])
