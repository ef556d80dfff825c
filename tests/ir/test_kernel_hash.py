import struct
from dataclasses import fields, is_dataclass, replace

import kernel_samples as samples
import pytest

from flambeau.ir.dtypes import DType, bf16, f32, i64
from flambeau.ir.kernel import Address, LoopKernel, Param, Store
from flambeau.ir.kernel.hash import kernel_key


def constant_kernel(value, dtype=f32):
    b = samples.Body()
    stage, _ = b.stage(stores=[Store(Address(0), b.const(value, dtype))])
    return LoopKernel("constant", (Param("y", dtype, 1, "out"),), (), 0, (stage,))


def nan_of(bits):
    return struct.unpack("<d", struct.pack("<Q", bits))[0]


def test_key_is_stable_across_processes():
    assert kernel_key(constant_kernel(1.0)) == (
        "b510ac67588331d7b6d24d20bdd7c86bfe3925d11603f2a20853b5b687fc9b38")


@pytest.mark.parametrize("make", [samples.softmax, samples.matmul, samples.scatter_add])
def test_equal_kernels_share_a_key(make):
    assert kernel_key(make()) == kernel_key(make()) and len(kernel_key(make())) == 64


def test_samples_all_differ():
    keys = [kernel_key(kernel) for kernel in samples.all_samples()]
    assert len(set(keys)) == len(keys)


def test_names_and_locations_do_not_count():
    kernel = samples.softmax()
    params = tuple(replace(p, name=p.name + "_1") for p in kernel.params)
    assert kernel_key(replace(kernel, name="other", params=params, locations=())) == kernel_key(kernel)


def test_names_of_runtime_sizes_do_not_count():
    assert kernel_key(samples.scale_rows("n")) == kernel_key(samples.scale_rows("batch"))


def test_which_size_is_where_counts():
    b = samples.Body()
    stage, _ = b.stage(stores=[Store(Address(0), b.const(1.0))])

    def kernel(*sizes):
        return LoopKernel("k", (Param("y", f32, 1, "out"),), sizes, len(sizes), (stage,))

    assert kernel_key(kernel("n", "m")) == kernel_key(kernel("m", "n"))
    assert kernel_key(kernel("n", "m")) != kernel_key(kernel("n", "n"))


def test_numbers_of_values_do_not_count():
    kernel = samples.gather()
    text = {value: 100 - 3 * value for value in range(10)}

    def renumber(item):
        if isinstance(item, Address):
            return replace(item, guard=text.get(item.guard), dynamic=tuple((text[v], s) for v, s in item.dynamic))
        if isinstance(item, tuple):
            return tuple(renumber(part) for part in item)
        if is_dataclass(item) and not isinstance(item, DType):
            changed = {f.name: renumber(getattr(item, f.name)) for f in fields(item)}
            for name in {"id", "value"} & changed.keys():
                changed[name] = text[changed[name]]
            if "operands" in changed:
                changed["operands"] = tuple(text[v] for v in item.operands)
            return type(item)(**changed)
        return item

    assert renumber(kernel) != kernel
    assert kernel_key(renumber(kernel)) == kernel_key(kernel)


def test_which_operand_comes_first_counts():
    kernel = samples.elementwise("sub", [f32, f32], f32)
    stage = kernel.stages[0]
    swapped = replace(stage.body[2], operands=stage.body[2].operands[::-1])
    assert kernel_key(replace(kernel, stages=(replace(stage, body=(*stage.body[:2], swapped)),))) != kernel_key(kernel)


@pytest.mark.parametrize(("one", "other"), [
    (constant_kernel(0.0), constant_kernel(-0.0)),
    (constant_kernel(1), constant_kernel(True)),
    (constant_kernel(1), constant_kernel(1.0)),
    (constant_kernel(nan_of(0x7FF8 << 48)), constant_kernel(nan_of((0x7FF8 << 48) + 1))),
    (constant_kernel(1.0, f32), constant_kernel(1.0, bf16)),
])
def test_what_python_may_call_equal_differs(one, other):
    assert kernel_key(one) != kernel_key(other)


def test_nans_of_equal_bits_are_equal():
    assert kernel_key(constant_kernel(nan_of(0x7FF8 << 48))) == kernel_key(constant_kernel(float("nan")))


def test_schedule_counts():
    kernel = samples.softmax()
    keys = {kernel_key(replace(kernel, schedule=s)) for s in (
        None, kernel.schedule, replace(kernel.schedule, unroll=2), replace(kernel.schedule, parallel=False))}
    assert len(keys) == 4


def test_every_part_of_an_address_counts():
    def kernel(**changes):
        b = samples.Body()
        b.index(0), b.const(True, i64)
        stage, _ = b.stage(stores=[Store(replace(Address(0, 1, ((0, 1),)), **changes), 0)])
        return LoopKernel("k", (Param("y", i64, 9, "out"), Param("z", i64, 9, "out")), (3, 3), 2, (stage,))

    keys = {kernel_key(kernel(**changes)) for changes in (
        {}, {"buffer": 1}, {"offset": 0}, {"strides": ((1, 1),)}, {"strides": ((0, 2),)}, {"strides": ()},
        {"dynamic": ((0, 1),)}, {"dynamic": ((1, 1),)}, {"guard": 0}, {"guard": 1})}
    assert len(keys) == 10
