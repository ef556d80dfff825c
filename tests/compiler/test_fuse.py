"""What becomes one kernel, and what must not."""
from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from call_counts import python_calls
from checked import check
from programs import (
    Program,
    adam_update,
    batch_norm,
    conv,
    cross_entropy,
    dropout,
    layer_norm,
    linear,
    max_pool,
    program,
    transformer,
)

from flambeau.ir import dtypes as dt
from flambeau.ir import ops
from flambeau.ir.graph import Graph, Node, Value, clone
from flambeau.ir.graph.verifier import verify
from flambeau.passes.cpu.pipeline import CPU_PASSES
from flambeau.passes.fusion.fuse import fuse
from flambeau.passes.graph.autodiff import vjp
from flambeau.passes.pipeline import run as run_passes

Build = Callable[[Program], Sequence[Value] | Value | None]


def fusions(build: Build) -> list[Node]:
    graph, _ = run_passes(clone(program(build).graph)[0], CPU_PASSES, verify=True)
    return [node for node in graph.toposort() if isinstance(node.op, ops.Fusion)]


def adam(p: Program) -> None:
    w, gradient = p.state("f32[8,8]"), p.arg("f32[8,8]")
    lr, step = p.arg("f64[]", np.array(0.1), "scalar"), p.state("f64[]", np.array(3.0))
    adam_update(p, w, gradient, lr, step)


def backward(p: Program, y: Value, *wrt: Value) -> list[Value]:
    found = vjp(p.graph, [y], [p.arg(str(y.type))], [*wrt, *p.parameters])
    return [g for g in found if g is not None]


def batch_norm_backward(p: Program) -> list[Value]:
    x = p.arg("f32[8,8,8,8]")
    return backward(p, p.b.relu(batch_norm(p, x)), x)


def softmax_backward(p: Program) -> list[Value]:
    x = p.arg("f32[8,8]")
    y = p.b.emit(ops.Softmax(1), x)
    return [y, *backward(p, y, x)]


def cross_entropy_step(p: Program) -> list[Value]:
    x = p.arg("f32[8,8]")
    loss = cross_entropy(p, x, p.arg("i64[8]"))
    (g,) = vjp(p.graph, [loss], [p.b.scalar(1.0, loss)], [x])
    assert g is not None
    return [loss, g]


def residual(p: Program) -> Value:
    x = p.arg("f32[8,8]")
    return p.b.add(x, dropout(p, linear(p, x, 8), 0.1, p.arg("i64[2]")))


ONE_KERNEL: dict[str, Build] = {
    "elementwise chain": lambda p: p.b.gelu(p.b.add(p.arg("f32[8,8]"), p.b.exp(p.arg("f32[8,8]")))),
    "views": lambda p: p.b.neg(p.b.emit(ops.Flip((0,)), p.b.permute(p.arg("f32[8,4]"), (1, 0)))),
    "softmax": lambda p: p.b.emit(ops.Softmax(1), p.arg("f32[8,8]")),
    "softmax over columns": lambda p: p.b.emit(ops.Softmax(0), p.arg("f32[8,8]")),
    "softmax and its gradient": softmax_backward,
    "layernorm": lambda p: layer_norm(p, p.arg("f32[8,8]")),
    "batchnorm, statistics, relu": lambda p: p.b.relu(batch_norm(p, p.arg("f32[8,8,8,8]"))),
    "batchnorm gradient": batch_norm_backward,
    "linear, gelu": lambda p: p.b.gelu(linear(p, p.arg("f32[8,8]"), 8)),
    "linear, dropout, residual": residual,
    "adam": adam,
}


@pytest.mark.parametrize("build", ONE_KERNEL.values(), ids=ONE_KERNEL.keys())
def test_one_kernel(build: Build) -> None:
    assert len(fusions(build)) == 1


def test_convolution_is_padding_and_a_contraction_with_bias_and_relu() -> None:
    found = fusions(lambda p: p.b.relu(conv(p, p.arg("f32[2,8,8,8]"), 8, 3, padding=1)))
    assert [node.op.kind for node in found] == ["loop", "contraction"]


def test_relu_and_pooling_fuse() -> None:
    found = fusions(lambda p: max_pool(p, p.b.relu(conv(p, p.arg("f32[2,8,8,8]"), 8, 3))))
    assert [node.op.kind for node in found] == ["contraction", "loop"]


def test_cross_entropy_is_one_kernel_over_rows_and_a_sum_of_them() -> None:
    rows, total = fusions(cross_entropy_step)
    assert rows.op.extents == (8, 8) and sorted(v.shape for v in rows.results) == [(8, 1), (8, 8)]
    assert [v.shape for v in total.results] == [()]


def test_reductions_of_one_value_share_its_loads() -> None:
    found = fusions(lambda p: (lambda x: [p.b.sum(x, (0,)), p.b.amax(p.b.exp(x), (0,))])(p.arg("f32[8,8]")))
    assert len(found) == 1


def test_transformer_layer_repeats_its_kernels() -> None:
    """Each layer beyond the first adds the same number of kernels."""
    counts = [len(fusions(lambda p, n=n: transformer(p, n))) for n in (1, 2, 3)]      # type: ignore[misc]
    assert counts[2] - counts[1] == counts[1] - counts[0] <= 32


# -- what looks alike but is not; every extent is 8, so that nothing but the index tells dims apart -------------------


def row_read_by_column(p: Program) -> Value:
    """out[i, j] = x[i, j] - sum over k of x[j, k]."""
    x = p.arg("f32[8,8]")
    return p.b.sub(x, p.b.broadcast(p.b.sum(x, (1,)), (8, 8), (1,)))


def outer_sum(p: Program) -> Value:
    """One reduced value read along both dims."""
    r = p.b.sum(p.arg("f32[8,8]"), (1,))
    return p.b.add(p.b.broadcast(r, (8, 8), (0,)), p.b.broadcast(r, (8, 8), (1,)))


def two_reductions(p: Program) -> Value:
    x = p.arg("f32[8,8]")
    rows, columns = p.b.sum(x, (1,)), p.b.sum(x, (0,))
    return p.b.mul(p.b.add(rows, columns), rows)


def sum_of_sums(p: Program) -> list[Value]:
    x = p.arg("f32[8,8,8]")
    inner = p.b.sum(p.b.exp(x), (2,))
    return [inner, p.b.sum(inner, (1,)), p.b.sum(inner, (0,)), p.b.sum(x, (0, 2))]


def broadcast_elsewhere(p: Program) -> Value:
    """The dim that is added is not the one that was reduced."""
    x = p.arg("f32[8,8,8]")
    return p.b.mul(x, p.b.broadcast(p.b.amax(x, (0,)), (8, 8, 8), (0, 2)))


def reduced_pair_spread_in_another_order(p: Program) -> Value:
    x = p.arg("f32[8,8,8]")
    centred = p.b.sub(x, p.b.broadcast(p.b.sum(x, (0, 1)), (8, 8, 8), (1,)))
    return p.b.amax(centred, (0, 2))


def softmax_of_the_transpose(p: Program) -> Value:
    x = p.arg("f32[8,8]")
    return p.b.add(p.b.emit(ops.Softmax(1), x), p.b.emit(ops.Softmax(1), p.b.permute(x, (1, 0))))


def normalized_and_transposed(p: Program) -> Value:
    y = p.b.emit(ops.Normalize((1,), 1e-5), p.arg("f32[8,8]"))[0]
    return p.b.add(y, p.b.permute(y, (1, 0)))


def normalized_and_shifted(p: Program) -> Value:
    """Each element beside its neighbour in the row: read twice, at different places."""
    y = p.b.emit(ops.Softmax(1), p.arg("f32[8,8]"))
    left = p.b.emit(ops.Slice((0, 0), (8, 7), (1, 1)), y)
    right = p.b.emit(ops.Slice((0, 1), (8, 8), (1, 1)), y)
    return p.b.sub(left, right)


def position_in_reversed_rows(p: Program) -> list[Value]:
    x = p.arg("f32[8,8]")
    doubled = p.b.add(x, x)
    return [doubled, p.b.emit(ops.ArgMax(1), p.b.emit(ops.Flip((1,)), doubled))]


def position_in_transposed_pairs(p: Program) -> list[Value]:
    """argmax counts along [k, j], the producer walks [j, k]."""
    doubled = p.b.exp(p.arg("f32[8,8,8]"))
    flat = p.b.reshape(p.b.permute(doubled, (0, 2, 1)), (8, 64))
    return [doubled, p.b.sum(doubled, (1, 2)), p.b.emit(ops.ArgMax(1), flat)]


def matmul_and_its_transpose(p: Program) -> Value:
    y = p.b.matmul(p.arg("f32[8,8]"), p.arg("f32[8,8]"))
    return p.b.add(y, p.b.permute(y, (1, 0)))


def matmul_of_its_residual(p: Program) -> Value:
    """The operand of the matmul is read by its epilogue too; it must stay in memory."""
    h = p.b.relu(p.arg("f32[8,8]"))
    return p.b.add(p.b.matmul(h, p.arg("f32[8,8]")), h)


def matmul_row_softmax(p: Program) -> Value:
    return p.b.emit(ops.Softmax(1), p.b.matmul(p.arg("f32[8,8]"), p.arg("f32[8,8]")))


def matmul_of_constants(p: Program) -> Value:
    """Operands without strides: a spread scalar, a count."""
    ones = p.b.broadcast(p.b.scalar(1.5, dt.f32), (8, 8), ())
    count = p.b.broadcast(p.b.cast(p.b.iota(8, dt.i64), dt.f32), (8, 8), (1,))
    return p.b.matmul(ones, p.b.matmul(count, p.arg("f32[8,8]")))


def diamond(p: Program) -> list[Value]:
    """exp may not join both of its readers: one leads to the other through a matmul."""
    e = p.b.exp(p.arg("f32[8,8]"))
    product = p.b.matmul(e, e)
    return [p.b.add(e, p.b.emit(ops.Softmax(1), product)), p.b.sum(e, (0,))]


def two_paths_of_reductions(p: Program) -> Value:
    """max over rows, then over columns of what is left, then both meet again."""
    x = p.arg("f32[8,8]")
    a = p.b.sub(x, p.b.expand_reduced(p.b.amax(x, (1,)), (8, 8), (1,)))
    b = p.b.sub(a, p.b.expand_reduced(p.b.amax(a, (0,)), (8, 8), (0,)))
    return p.b.add(p.b.add(a, b), p.b.expand_reduced(p.b.sum(b, (1,)), (8, 8), (1,)))


def reshaped_between_reductions(p: Program) -> Value:
    x = p.arg("f32[8,8,8]")
    centred = p.b.sub(x, p.b.expand_reduced(p.b.amax(x, (1, 2)), (8, 8, 8), (1, 2)))
    flat = p.b.reshape(centred, (8, 64))
    return p.b.reshape(p.b.emit(ops.Softmax(1), flat), (8, 8, 8))


def rows_updated_in_place(p: Program) -> None:
    """A state whose row sums feed its own update and that of another state of the same shape."""
    a, b = p.state("f32[8,8]"), p.state("f32[8,8]")
    total = p.b.expand_reduced(p.b.sum(p.b.mul(a, b), (1,)), (8, 8), (1,))
    p.graph.writes[a], p.graph.writes[b] = p.b.sub(a, total), p.b.sub(p.b.permute(b, (1, 0)), total)


def row_values_from_elsewhere(p: Program) -> list[Value]:
    """Per-row maths that two row kernels read."""
    x, scale = p.arg("f32[8,8]"), p.b.exp(p.arg("f32[8]"))
    y = p.b.mul(x, p.b.broadcast(scale, (8, 8), (0,)))
    z = p.b.mul(x, p.b.broadcast(scale, (8, 8), (1,)))
    return [p.b.sum(y, (1,)), p.b.sum(z, (0,)), p.b.amax(p.b.mul(y, z), (1,))]


def cut(p: Program, x: Value, starts: tuple[int, ...], limits: tuple[int, ...]) -> Value:
    return p.b.emit(ops.Slice(starts, limits, (1,) * len(starts)), x)


def column_beside_a_sum(p: Program) -> list[Value]:
    """A row kernel reads one column of a value that is stored whole."""
    x, z = p.arg("f32[4,8]"), p.b.tanh(p.arg("f32[4,8]"))
    column = p.b.reshape(cut(p, z, (0, 3), (4, 4)), (4,))
    return [p.b.add(p.b.sum(x, (1,)), column), z]


def element_beside_a_sum(p: Program) -> list[Value]:
    x, z = p.arg("f32[4,8]"), p.b.tanh(p.arg("f32[8]"))
    return [p.b.add(p.b.sum(x, (0, 1)), p.b.reshape(cut(p, z, (5,), (6,)), ())), z]


def prefix_beside_a_sum(p: Program) -> list[Value]:
    """Rows read the first elements of a longer value, which is stored whole and summed."""
    x, z = p.arg("f32[3,8]"), p.b.cos(p.arg("f32[8]"))
    return [p.b.mul(p.b.sum(x, (1,)), cut(p, z, (0,), (3,))), z, p.b.sum(z, (0,))]


def state_written_in_part_and_read(p: Program) -> Value:
    """s = x.sum(); x[5] = y; s + x[2]"""
    x = p.state("f32[8]")
    changed = p.b.emit(ops.UpdateSlice((5,), (1,)), x, p.arg("f32[1]"))
    p.graph.writes[x] = changed
    return p.b.add(p.b.sum(x, (0,)), p.b.reshape(cut(p, changed, (2,), (3,)), ()))


def pinned_at_shifted_places(p: Program) -> Value:
    """What follows a reduction is read at its place and beside it."""
    x = p.b.erf(p.arg("f32[4,8]"))
    y = p.b.mul(p.b.emit(ops.LogSoftmax(1), x), p.b.cos(x))
    return p.b.add(y, p.b.emit(ops.Pad((0, 1), (0, 0), (0, 0)), cut(p, y, (0, 0), (4, 7))))


def empty_rows_cut(p: Program) -> list[Value]:
    y = p.b.mul(p.arg("f32[13,0]"), p.b.scalar(2.0, dt.f32))
    some = cut(p, y, (0, 0), (7, 0))
    return [some, p.b.sum(some, (1,)), p.b.sum(y, (0,)), y]


LOOKALIKES = [row_read_by_column, outer_sum, two_reductions, sum_of_sums, broadcast_elsewhere,
              reduced_pair_spread_in_another_order, softmax_of_the_transpose, normalized_and_transposed,
              normalized_and_shifted, position_in_reversed_rows, position_in_transposed_pairs,
              matmul_and_its_transpose, matmul_of_its_residual, matmul_row_softmax, matmul_of_constants, diamond,
              two_paths_of_reductions, reshaped_between_reductions, rows_updated_in_place, row_values_from_elsewhere,
              column_beside_a_sum, element_beside_a_sum, prefix_beside_a_sum, state_written_in_part_and_read,
              pinned_at_shifted_places, empty_rows_cut]


@pytest.mark.parametrize("build", LOOKALIKES)
def test_dims_of_equal_size_are_not_confused(build: Build) -> None:
    made = program(build)
    check(made.graph, made.arrays, roundings=32)


# -- the pass itself --------------------------------------------------------------------------------------------------


def test_fused_groups_are_small_enough_to_compile() -> None:
    def build(p: Program) -> Value:
        x = p.arg("f32[8]")
        for _ in range(500):
            x = p.b.sin(x)
        return x

    sizes = [len(node.regions[0]) for node in fusions(build)]
    assert sum(sizes) >= 500 and max(sizes) <= 200 and len(sizes) <= 5


def test_fuse_leaves_its_graph_as_it_was() -> None:
    graph, _ = run_passes(program(cross_entropy_step).graph, CPU_PASSES[:-1])
    before = str(graph)
    fused = fuse(graph)
    verify(fused)
    assert str(graph) == before


def wide_graph(count: int) -> Graph:
    """Many updates that share two scalars, and a long chain that reads what all of it made."""
    def build(p: Program) -> Value:
        lr, total = p.arg("f64[]", kind="scalar"), p.arg("f32[8,8]")
        rate = p.b.cast(lr, dt.f32)
        made = []
        for _ in range(count // 6):
            w = p.state("f32[8,8]")
            made.append(p.b.sub(w, p.b.mul(p.b.tanh(p.b.mul(total, w)), rate)))
            p.graph.writes[w] = made[-1]
            total = p.b.relu(p.b.sub(total, made[len(made) // 2]))
        return total

    return program(build).graph


def test_fuse_work_grows_with_the_graph_not_its_square() -> None:
    calls = []
    for size in (500, 2000):
        graph = wide_graph(size)
        nodes = len(graph)
        calls.append(python_calls(functools.partial(fuse, graph)) / nodes)
    assert calls[1] < 1.5 * calls[0], f"{calls[0]:.0f} calls a node became {calls[1]:.0f}"


@pytest.mark.parametrize("deep", ["pads", "reshapes", "gathers"])
def test_long_chains_of_index_maps_lower_without_recursion(deep: str) -> None:
    def build(p: Program) -> Value:
        x = p.arg("f32[4,6]")
        reversed_columns = p.arg("i64[6]", np.arange(6)[::-1])
        for _ in range(150):
            match deep:
                case "pads":
                    x = p.b.emit(ops.Pad((0, 1), (0, 0), (0, 0)), cut(p, x, (0, 0), (4, 5)))
                case "reshapes":
                    x = p.b.reshape(p.b.permute(p.b.reshape(x, (8, 3)), (1, 0)), (4, 6))
                case _:
                    x = p.b.emit(ops.Take(1), x, reversed_columns)
        return p.b.neg(x)

    made = program(build)
    check(made.graph, made.arrays)
