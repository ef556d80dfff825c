"""Attention in tiles: it gives what its meaning says to rounding, never has its matrix of weights, reads views where they
lie, and is chosen where it pays."""
from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

import flambeau as fb
import flambeau.nn.functional as F
from flambeau import nn
from flambeau.errors import GraphError, TypeInferenceError
from flambeau.ir import Graph, dtypes, ops
from flambeau.ir.builder import Builder
from flambeau.ir.kernel.text import parse_kernel
from flambeau.ir.kernel.verifier import verify_kernel
from flambeau.ir.target import avx2, generic_x86_64
from flambeau.ir.types import TensorType, parse_type
from flambeau.passes.pipeline import GRAPH_PASSES
from flambeau.passes.pipeline import run as run_passes
from flambeau.runtime.host import host_target
from tests.compiler.random_attention import Drawn, on_cores, run

LONG = 400                                  # rows and columns that are tiled whatever is asked for


def inputs(rows: int = LONG, columns: int | None = None, heads: int = 2, groups: int | None = None, size: int = 24,
           value: int = 16, dtype: Any = fb.float32) -> list[fb.Tensor]:
    fb.manual_seed(0)
    columns, groups = rows if columns is None else columns, groups or heads
    shapes = [(2, heads, rows, size), (2, groups, columns, size), (2, groups, columns, value)]
    return [fb.randn(*shape).to(dtype).requires_grad_() for shape in shapes]


def step(*, mask: fb.Tensor | None = None, **options: Any) -> Any:
    """The result and its gradients."""
    def function(q: fb.Tensor, k: fb.Tensor, v: fb.Tensor) -> tuple[fb.Tensor, ...]:
        out = F.scaled_dot_product_attention(q, k, v, mask, **options)
        return (out, *fb.autograd.grad((out * out.sin()).sum(), (q, k, v)))
    return function


def check(function: Any, given: list[fb.Tensor], tiled: bool = True, tolerance: float = 2e-5) -> Any:
    """Compiled it is what it is eagerly."""
    compiled = fb.compile(function)
    found, expected = compiled(*given), function(*given)
    for x, y in zip(found, expected, strict=True):
        left, right = x.detach().float().numpy(), y.detach().float().numpy()
        assert np.array_equal(np.isnan(left), np.isnan(right))
        scale = np.abs(np.nan_to_num(right)).max(initial=1e-6)
        assert np.abs(np.nan_to_num(left - right)).max(initial=0) <= tolerance * scale
    assert ("tiled=true" in compiled.ir("attention")) == tiled
    return compiled


def masks() -> dict[str, fb.Tensor]:
    fb.manual_seed(1)
    some = fb.rand(LONG, LONG) > 0.5
    some[3], some[LONG - 1] = False, False
    return {"bool": some, "float": fb.randn(2, 1, LONG, LONG), "keys": fb.rand(2, 1, 1, LONG) > 0.3,
            "none": fb.where(some, 0.0, float("-inf")), "a row": fb.randn(LONG)}


@pytest.mark.parametrize("name", ["bool", "float", "keys", "none", "a row"])
def test_masks(name: str) -> None:
    mask = masks()[name]
    added = mask.dtype is not fb.bool                           # keeps the derivative from being tiled
    check(step(mask=mask), inputs(), tiled=not added)
    check(lambda q, k, v: (F.scaled_dot_product_attention(q, k, v, attn_mask=mask),), [x.detach() for x in inputs()])


@pytest.mark.parametrize("columns", [LONG, LONG - 77, LONG + 77])
def test_causal_rows_see_columns_up_to_their_number(columns: int) -> None:
    check(step(is_causal=True), inputs(columns=columns))


def test_heads_in_groups_share_keys() -> None:
    check(step(enable_gqa=True), inputs(heads=4, groups=2))
    check(step(enable_gqa=True, mask=masks()["bool"]), inputs(heads=4, groups=1))


def test_f64_and_16_bit_floats() -> None:
    check(step(scale=0.3), inputs(dtype=fb.float64), tolerance=1e-12)
    check(step(is_causal=True), inputs(dtype=fb.bfloat16), tolerance=2e-2)
    check(step(), inputs(dtype=fb.float16), tolerance=4e-3)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), 50.0])
def test_special_numbers_show_where_they_do_otherwise(value: float) -> None:
    given = inputs()
    with fb.no_grad():
        given[0][0, 0, 5, 3] = value
        given[1][1, 1, 7, 2] = value
    check(step(), given)


def test_a_row_that_sees_nothing_gives_0_and_no_gradient() -> None:
    mask = fb.ones(LONG, LONG, dtype=fb.bool)
    mask[7] = False
    out, dq, _, _ = check(step(mask=mask), inputs())(*inputs())
    assert not out[:, :, 7].any() and not dq[:, :, 7].any()


def test_second_derivatives() -> None:
    def twice(q: fb.Tensor, k: fb.Tensor, v: fb.Tensor) -> tuple[fb.Tensor, ...]:
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        first = fb.autograd.grad(out.sin().sum(), (q, k, v), create_graph=True)
        return fb.autograd.grad(sum((g * g).sum() for g in first), (q, k, v))

    check(twice, inputs(rows=128, dtype=fb.float64), tolerance=1e-11)


def test_a_gradient_asked_for_outside() -> None:
    given = inputs(rows=128)
    compiled = fb.compile(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True))
    out = compiled(*given)
    found = fb.autograd.grad(out.sum(), given)
    expected = fb.autograd.grad(F.scaled_dot_product_attention(*given, is_causal=True).sum(), given)
    for x, y in zip(found, expected, strict=True):
        np.testing.assert_allclose(x.numpy(), y.numpy(), atol=2e-5)


def test_transforms_of_functions() -> None:
    given = [x.detach() for x in inputs(rows=128)]

    def loss(q: fb.Tensor, k: fb.Tensor, v: fb.Tensor) -> fb.Tensor:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True).sin().sum()

    def all_of_them(q: fb.Tensor, k: fb.Tensor, v: fb.Tensor) -> tuple[fb.Tensor, ...]:
        each = fb.func.vmap(fb.func.grad(loss), in_dims=(0, None, 0))(q, k[0], v)
        _, along = fb.func.jvp(lambda q, k, v: loss(q, k, v), (q, k, v), (k, q, v))
        return each, along

    for x, y in zip(fb.compile(all_of_them)(*given), all_of_them(*given), strict=True):
        np.testing.assert_allclose(x.numpy(), y.numpy(), atol=1e-4, rtol=1e-4)


# -- what is chosen, and what it takes --------------------------------------------------------------------------------


@pytest.mark.parametrize(("rows", "causal", "differentiated", "tiled"), [
    (1, False, False, False), (16, False, False, False), (64, False, False, True), (64, True, True, False),
    (128, False, True, False), (128, True, True, True), (400, False, True, True)])
def test_tiles_are_chosen_where_they_pay(rows: int, causal: bool, differentiated: bool, tiled: bool) -> None:
    given = [x.detach().requires_grad_(differentiated) for x in inputs(rows)]
    compiled = fb.compile(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=causal))
    compiled(*given)
    assert ("tiled=true" in compiled.ir("attention")) == tiled


def test_no_tiles_for_a_mask_with_a_gradient_nor_with_dropout() -> None:
    given = inputs()
    mask = fb.randn(LONG, LONG, requires_grad=True)
    check(lambda q, k, v: (F.scaled_dot_product_attention(q, k, v, mask),), given, tiled=False)
    compiled = fb.compile(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, dropout_p=0.5))
    fb.manual_seed(3)
    found = compiled(*given)
    fb.manual_seed(3)
    expected = F.scaled_dot_product_attention(*given, dropout_p=0.5)
    np.testing.assert_allclose(found.detach().numpy(), expected.detach().numpy(), atol=1e-5)


def test_memory_grows_with_rows_and_not_with_their_square() -> None:
    def arena(rows: int) -> int:
        compiled = fb.compile(step(is_causal=True))
        compiled(*inputs(rows, heads=1))
        return compiled.signatures[0].compiled.memory.arena_bytes

    assert arena(1024) < 2.5 * arena(512)


def test_heads_of_a_packed_projection_are_read_where_they_lie() -> None:
    def packed(x: fb.Tensor) -> fb.Tensor:
        q, k, v = x.reshape(2, 128, 3, 4, 16).permute(2, 0, 3, 1, 4)
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)

    fb.manual_seed(0)
    x = fb.randn(2, 128, 192)
    compiled = fb.compile(packed)
    np.testing.assert_allclose(compiled(x).numpy(), packed(x).numpy(), atol=1e-5)
    (kernel,) = compiled.signatures[0].compiled.kernels
    assert kernel.keyword == "attention" and [p.role for p in kernel.params] == ["in", "out"]


def test_layers_use_tiles() -> None:
    fb.manual_seed(0)
    layer, x = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True), fb.randn(2, LONG, 32)
    check(lambda x: (layer(x),), [x], tolerance=1e-5)


def test_products_of_other_ranks_and_broadcast_batches() -> None:
    def function(q: fb.Tensor, k: fb.Tensor, v: fb.Tensor) -> tuple[fb.Tensor, ...]:
        out = F.scaled_dot_product_attention(q, k[0], v[:1], is_causal=True)
        return (out, *fb.autograd.grad(out.sin().sum(), (q, k, v)))

    check(function, inputs(128))
    check(lambda q, k, v: (F.scaled_dot_product_attention(q[0, 0], k[0, 0], v[0, 0]),), [x.detach() for x in inputs()])


# -- rules ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("types", "message"), [
    (["f32[2,3]", "f32[2,4]", "f32[2,5]"], "q has rows of 3, k has rows of 4"),
    (["f32[2,3]", "f32[2,3]", "f32[4,5]"], "k has 2 rows, v has 4"),
    (["f32[1,2,3]", "f32[2,2,3]", "f32[2,2,3]"], "batch dims differ"),
    (["f32[2,3]", "f32[2,3]", "f64[2,3]"], "dtype"),
    (["i32[2,3]", "i32[2,3]", "i32[2,3]"], "float"),
    (["f32[2,3]", "f32[4,3]", "f32[4,3]", "f32[2,3]"], r"takes a mask of \[2, 4\]"),
    (["f32[2,3]", "f32[4,3]", "f32[4,3]", "i32[2,4]"], "takes a mask of bools or f32"),
    (["f32[2,3]"], "takes q, k, v"),
])
def test_operands_that_do_not_fit_are_errors(types: list[str], message: str) -> None:
    with pytest.raises(TypeInferenceError, match=message):
        ops.Attention(1.0).infer(*map(parse_type, types))


TEXT = """attention @a {
  in x: f32[24]
  out y: f32[8]
  out s: f32[4]
  rows %i0 = 4
  columns %i1 = 4
  size %i2 = 2
  value %i3 = 2
  softmax 0.5 causal
  q x[%i0*2 + %i2]
  k x[8 + %i1*2 + %i2]
  v x[16 + %i1*2 + %i3]
  out y[%i0*2 + %i3]
  lse s[%i0]
}
"""


@pytest.mark.parametrize(("old", "new", "message"), [
    ("16 + %i1", "17 + %i1", "v: "), ("out y[%i0*2", "out y[%i0", "do not lie in their order"),
    ("  lse s[%i0]\n", "", "s"), ("lse s[%i0]", "lse s[%i1]", "lse"), ("q x[%i0*2 + %i2]", "q y[%i0*2 + %i2]", "q: "),
    ("  out y[%i0*2 + %i3]", "  out s[%i0]", "s"), ("f32[24]", "i32[24]", "works on floats")])
def test_a_kernel_that_breaks_a_rule_is_an_error(old: str, new: str, message: str) -> None:
    verify_kernel(parse_kernel(TEXT))
    assert old in TEXT
    with pytest.raises(GraphError, match=f"kernel a.*{message}"):
        verify_kernel(parse_kernel(TEXT.replace(old, new)))


def test_a_composition_of_both_directions_makes_weights_once() -> None:
    graph = Graph(name="both")
    t = TensorType((5, 3), dtypes.f32)
    q, k, v, g = (graph.add_input(t) for _ in range(4))
    b = Builder(graph)
    out, lse = b.emit(ops.Attention(0.5), q, k, v)
    graph.outputs = [out, *b.emit(ops.AttentionBackward(0.5), q, k, v, out, lse, g)]
    fused = run_passes(graph, GRAPH_PASSES)[0]
    assert str(fused).count("matmul(") == 6


# -- random programs --------------------------------------------------------------------------------------------------

TARGETS = [host_target(), avx2(), generic_x86_64()]


@pytest.mark.parametrize("part", range(2))
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_random_programs_give_what_they_mean(part: int) -> None:
    """As many as 10 seconds allow; more of them: range(0, 5000)."""
    with fb.config.set(poison=True):
        start, seed = time.perf_counter(), part
        while time.perf_counter() - start < 4:
            target = on_cores(TARGETS[seed % 3], (1, 2, 7)[seed // 3 % 3])
            assert not (wrong := run(Drawn(seed), target)), f"Drawn({seed}): {wrong}"
            seed += 2


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("seed", range(40))
def test_kernels_mean_what_ops_do(seed: int) -> None:
    assert not (wrong := run(Drawn(seed, largest=33), backend="interpret")), wrong
