"""Results are stored whole, each element once: proved from index maps, and held against counting on small boxes."""
from __future__ import annotations

import random

import numpy as np
import pytest

from flambeau.errors import GraphError
from flambeau.ir.dtypes import f32
from flambeau.ir.kernel import Address, Instr, LoopKernel, Param, Stage, Store
from flambeau.ir.kernel.coverage import coverage_mistake
from flambeau.ir.kernel.text import parse_kernel
from flambeau.ir.kernel.verifier import verify_kernel


def kernel_of(body: str, dims: str = "parallel %i0 = 3", out: str = "f32[12]"):
    return parse_kernel(f"loop @k {{ in j: i64[3] out y: {out} {dims} {body} }}")


def stores(*places: str, stage: str = "()") -> str:
    lines = "".join(f"store %{n} to y[{place}] " for n, place in enumerate(places))
    return f"stage {stage} {{ " + "".join(f"%{n} = const 1.0 : f32 " for n in range(len(places))) + lines + "}"


@pytest.mark.parametrize(("places", "dims", "mistake"), [
    # one store
    (["%i0"], "parallel %i0 = 12", ""),
    (["-%i0 + 11"], "parallel %i0 = 12", ""),
    (["%i0 + %i1*3"], "parallel %i0 = 3, %i1 = 4", ""),
    (["%i0*4 - %i1 + 3"], "parallel %i0 = 3, %i1 = 4", ""),
    (["%i0*4"], "parallel %i0 = 3", "leaves out element 1 of 12"),
    (["%i0"], "parallel %i0 = 3", "ends at element 3 of 12"),
    (["%i0 + 3"], "parallel %i0 = 9", "element 0 of 12"),
    (["%i0*2 + %i1"], "parallel %i0 = 5, %i1 = 3", "element 2 of 12 more than once"),
    (["%i0"], "parallel %i0 = 12, %i1 = 2", "each of its elements 2 times"),
    # pieces
    (["%i0", "%i0 + 6"], "parallel %i0 = 6", ""),
    (["%i0*2", "%i0*2 + 1"], "parallel %i0 = 6", ""),
    (["%i0*4 + %i1", "%i0*4 + %i1 + 2"], "parallel %i0 = 3, %i1 = 2", ""),
    (["%i0", "%i0 + 5"], "parallel %i0 = 6", "leave out 1 of 12 elements and write 1 more than once"),
    (["%i0", "%i0 + 5"], "parallel %i0 = 5", "10 stores for its 12 elements"),
    (["%i0*4 + %i1", "%i0*4 + %i1 + 1"], "parallel %i0 = 3, %i1 = 2", "leave out"),
])
def test_affine_stores(places, dims, mistake):
    kernel = kernel_of(stores(*places), dims)
    found = coverage_mistake(kernel, 1)
    assert (mistake in found) if mistake else not found, found


def test_a_result_anchored_at_one_column_is_refused():
    """x.sum(1) + c[:, 1], with c itself a result: c was stored at its second column only."""
    kernel = parse_kernel("""
    loop @merged {
      in y: f32[8]  in x: f32[10]  out c: f32[8]  out total: f32[2]
      parallel %i0 = 2
      inner %i1 = 5
      stage (%i1) {
        %0 = load x[%i0*5 + %i1] : f32
        %1 = reduce sum %0 : f32
      }
      stage () {
        %2 = load y[%i0*4 + 1] : f32
        %3 = tanh %2 : f32
        %4 = add %1, %3 : f32
        store %3 to c[%i0*4 + 1]
        store %4 to total[%i0]
      }
      loc "model.py:3: return x.sum(1) + c[:, 1], c"
    }""")
    with pytest.raises(GraphError, match=r"kernel merged, param c: .*element 0 of 8") as caught:
        verify_kernel(kernel)
    assert caught.value.where == "model.py:3: return x.sum(1) + c[:, 1], c"


def test_a_result_stored_as_a_prefix_is_refused():
    """x.mean(1) * c[:3], with c of eight a result."""
    with pytest.raises(GraphError, match=r"param y: its store ends at element 3 of 8"):
        verify_kernel(kernel_of(stores("%i0"), out="f32[8]"))


def test_rows_of_no_elements_store_nothing():
    assert not coverage_mistake(kernel_of(stores("%i0"), "parallel %i0 = 0", "f32[0]"), 1)
    assert "0 stores for its 7" in coverage_mistake(kernel_of(stores("%i0"), "parallel %i0 = 0", "f32[7]"), 1)
    assert "13" in coverage_mistake(kernel_of(stores("%i0"), "parallel %i0 = 13", "f32[7]"), 1)


def test_a_stage_may_store_anew_what_an_earlier_one_stored():
    again = stores("%i0*4 + %i1", stage="(%i1)") + " " + stores("%i0*4 + %i1", stage="(%i1)").replace("%0", "%9")
    assert not coverage_mistake(kernel_of(again, "parallel %i0 = 3 inner %i1 = 4"), 1)
    elsewhere = stores("%i0*4 + %i1", stage="(%i1)") + " " + stores("%i0*4 - %i1 + 3", stage="(%i1)").replace("%0", "%9")
    assert "24 stores for its 12" in coverage_mistake(kernel_of(elsewhere, "parallel %i0 = 3 inner %i1 = 4"), 1)


def test_sizes_of_run_time():
    assert not coverage_mistake(kernel_of(stores("%i0"), "parallel %i0 = n", "f32[n]"), 1)
    assert coverage_mistake(kernel_of(stores("%i0"), "parallel %i0 = n", "f32[12]"), 1)
    assert coverage_mistake(kernel_of(stores("%i0*2"), "parallel %i0 = n", "f32[n]"), 1)


SCATTER = """
stage (%i1) {{ %0 = const 0.0 : f32  store %0 to y[{filled}] }}
stage (%i2) {{ %1 = const 1.0 : f32  %2 = load j[%i2] : i64  accumulate %1 to y[{added}] }}
"""


@pytest.mark.parametrize(("filled", "added", "mistake"), [
    ("%i0*4 + %i1", "%i0*4 + %2", ""),
    ("%i0 + %i1*3", "%i0 + %2*3", ""),
    ("%i0*4", "%i0*4 + %2", "each of its elements 4 times"),
    ("%i0*4 + %i1", "%2", "points of %i0, which are parallel, may store to one element"),
    ("%i0*4 + %i1", "%i0*4 + %2*4", ""),                # the index is below the next stride, by its check
    ("%i0*4 + %i1", "%i0*2 + %i2*2", "points of %i0"),
])
def test_scattered_sums_fill_first_and_keep_apart(filled, added, mistake):
    kernel = kernel_of(SCATTER.format(filled=filled, added=added), "parallel %i0 = 3 inner %i1 = 4, %i2 = 3")
    found = coverage_mistake(kernel, 1)
    assert (mistake in found) if mistake else not found, found


@pytest.mark.parametrize(("updates", "mistake"), [(0, ""), (3, "points of %i0")])
def test_a_sum_over_no_points_shares_nothing(updates, mistake):
    kernel = kernel_of(SCATTER.format(filled="%i0*4 + %i1", added="%2"), f"parallel %i0 = 3 inner %i1 = 4, %i2 = {updates}")
    found = coverage_mistake(kernel, 1)
    assert (mistake in found) if mistake else not found, found


def test_a_sum_is_not_scattered_into_memory_that_holds_nothing():
    body = SCATTER.format(filled="%i0*4 + %i1", added="%i0*4 + %2").split("\n")
    swapped = kernel_of("\n".join([body[2], body[1]]), "parallel %i0 = 3 inner %i1 = 4, %i2 = 3")
    assert "before it is filled" in coverage_mistake(swapped, 1)
    assert "0 stores for its 12" in coverage_mistake(kernel_of(body[2], "parallel %i0 = 3 inner %i1 = 4, %i2 = 3"), 1)


def test_contractions_store_over_batch_m_and_n():
    text = """contraction @mm {{ in a: f32[6] in b: f32[12] out y: f32[8] dims %i0 = {m}, %i1 = 4, %i2 = 3 m %i0 n %i1 k %i2
    sum a[%i0*3 + %i2] * b[%i1 + %i2*4] : f32 epilogue () {{ %0 = acc : f32 store %0 to y[{place}] }} }}"""
    assert not coverage_mistake(parse_kernel(text.format(m=2, place="%i0*4 + %i1")), 2)
    assert not coverage_mistake(parse_kernel(text.format(m=2, place="%i0 + %i1*2")), 2)
    assert "element 1 of 8 more than once" in coverage_mistake(parse_kernel(text.format(m=2, place="%i0 + %i1")), 2)
    assert "ends at element 4 of 8" in coverage_mistake(parse_kernel(text.format(m=1, place="%i1")), 2)


def test_large_pieces_are_proved_without_counting():
    """cat of [2**20, 96] and [2**20, 160] along the columns: 2**28 elements."""
    rows = 1 << 20
    pieces = (Store(Address(0, 0, ((0, 256), (1, 1))), 0), Store(Address(0, 96, ((0, 256), (2, 1))), 0))
    one = Instr(0, "const", f32, (), 1.0)

    def kernel(second: Store) -> LoopKernel:
        stages = (Stage((1,), (one,), (), pieces[:1]), Stage((2,), (Instr(1, "const", f32, (), 1.0),), (), (second,)))
        return LoopKernel("cat", (Param("y", f32, rows * 256, "out"),), (rows, 96, 160), 1, stages)

    assert not coverage_mistake(kernel(Store(Address(0, 96, ((0, 256), (2, 1))), 1)), 0)
    assert "leave out" in coverage_mistake(kernel(Store(Address(0, 64, ((0, 256), (2, 1))), 1)), 0)


def random_kernel(rng: random.Random) -> LoopKernel:
    """One to three stores of random strides, more often right than wrong."""
    extents = [rng.choice([1, 1, 2, 2, 3, 4]) for _ in range(rng.randint(1, 4))]
    n_parallel = rng.randint(0, len(extents))
    inner = tuple(d for d in range(n_parallel, len(extents)) if rng.random() < 0.7)
    walked = [*range(n_parallel), *inner]
    order, strides, reached = rng.sample(walked, len(walked)), {}, 1
    for dim in order:
        strides[dim] = reached if rng.random() < 0.9 else rng.randint(-4, 6)
        reached *= extents[dim]
    count = rng.choice([1, 1, 2, 3])
    scale, step = rng.choice([(1, reached), (count, 1)])
    made = []
    for n in range(count):
        pairs, offset = [], n * step if rng.random() < 0.9 else rng.randint(0, 4)
        for dim, stride in sorted(strides.items()):
            if rng.random() < 0.1:
                offset, stride = offset + stride * scale * (extents[dim] - 1), -stride
            if stride:
                pairs.append((dim, stride * scale))
        made.append(Store(Address(0, offset, tuple(pairs)), 0))
    elements = reached * count if rng.random() < 0.9 else rng.randint(0, 20)
    stage = Stage(inner, (Instr(0, "const", f32, (), 1.0),), (), tuple(made))
    return LoopKernel("random", (Param("y", f32, elements, "out"),), tuple(extents), n_parallel, (stage,))


def counted(kernel: LoopKernel) -> list[int]:
    """How often each element is stored; those outside the buffer count too."""
    (stage,), elements = kernel.stages, kernel.params[0].elements
    times: dict[int, int] = {}
    dims = [*range(kernel.n_parallel), *stage.dims]
    for point in np.ndindex(*[kernel.extents[d] for d in dims]):
        at = dict(zip(dims, point, strict=True))
        for store in stage.stores:
            place = store.address.offset + sum(at[d] * s for d, s in store.address.strides)
            times[place] = times.get(place, 0) + 1
    return [times.get(n, 0) for n in range(elements)] + [-1 for n in times if not 0 <= n < elements]


def test_proofs_agree_with_counting():
    rng, right = random.Random(0), 0
    for seed in range(3000):
        kernel = random_kernel(rng)
        whole = set(counted(kernel)) <= {1}
        right += whole
        assert (coverage_mistake(kernel, 0) == "") is whole, (seed, kernel)
    assert 500 < right < 2900
