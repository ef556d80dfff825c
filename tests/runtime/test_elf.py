"""Objects are placed as LLVM's linker places them, and damaged ones are refused before anything of them runs."""
import ctypes
import random
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from flambeau.runtime import load
from flambeau.runtime.elf import Damaged, Foreign, place
from flambeau.runtime.loader import _PLACES, _linked_by_llvm, _outside, binding

pytestmark = pytest.mark.skipif(not _PLACES, reason="objects of another kind: LLVM places them")

TEXT = """
@counter = global i32 0
@zeros = internal global [300 x i64] zeroinitializer
@table = internal constant [3 x double] [double 0.5, double 1.5, double 2.5]
@names = internal constant [2 x ptr] [ptr @first, ptr @second]
@environ = external global ptr

declare double @cos(double)
declare ptr @memset(ptr, i32, i64)

define internal i32 @first() { ret i32 10 }
define internal i32 @second() { ret i32 20 }

define i32 @count() {
  %old = load i32, ptr @counter
  %new = add i32 %old, 1
  store i32 %new, ptr @counter
  ret i32 %new
}
define double @pick(i64 %n) {
  %at = getelementptr [3 x double], ptr @table, i64 0, i64 %n
  %x = load double, ptr %at
  %y = call double @cos(double %x)
  ret double %y
}
define i32 @through(i64 %n) {
  %at = getelementptr [2 x ptr], ptr @names, i64 0, i64 %n
  %f = load ptr, ptr %at
  %x = call i32 %f()
  ret i32 %x
}
define i64 @last() {
  %at = getelementptr [300 x i64], ptr @zeros, i64 0, i64 299
  %x = load i64, ptr %at
  ret i64 %x
}
define i1 @has_environment() {
  %x = load ptr, ptr @environ
  %known = icmp ne ptr %x, null
  ret i1 %known
}
define i32 @choose(i32 %n) {
  switch i32 %n, label %none [
    i32 0, label %a i32 1, label %b i32 2, label %c i32 3, label %d i32 4, label %e i32 5, label %f
  ]
a: ret i32 7
b: ret i32 11
c: ret i32 13
d: ret i32 17
e: ret i32 19
f: ret i32 23
none: ret i32 -1
}
"""
NAMES = ["count", "pick", "through", "last", "has_environment", "choose"]
MODELS = [("pic", "small", 2), ("pic", "small", 0), ("default", "jitdefault", 0), ("default", "jitdefault", 2)]


def compiled(relocation: str, model: str, level: int) -> bytes:
    llvm = binding()
    machine = llvm.Target.from_default_triple().create_target_machine(opt=level, reloc=relocation, codemodel=model)
    module = llvm.parse_assembly(TEXT)
    module.triple = machine.triple
    image: bytes = machine.emit_object(module)
    return image


@pytest.mark.parametrize("how", MODELS, ids=str)
def test_code_data_tables_and_functions_of_the_process_are_found(how: tuple[str, str, int]) -> None:
    image = compiled(*how)
    placed, linked = place([image], NAMES, {}, _outside), _linked_by_llvm([image], NAMES, {})
    for addresses in (placed.addresses, linked.addresses):
        def function(name: str, result: Any, *arguments: Any, addresses: Any = addresses) -> Any:
            return ctypes.CFUNCTYPE(result, *arguments)(addresses[name])

        count = function("count", ctypes.c_int32)
        assert [count(), count(), count()] == [1, 2, 3]
        assert function("pick", ctypes.c_double, ctypes.c_int64)(1) == pytest.approx(0.0707372)
        assert [function("through", ctypes.c_int32, ctypes.c_int64)(n) for n in range(2)] == [10, 20]
        assert function("last", ctypes.c_int64)() == 0
        assert function("has_environment", ctypes.c_bool)()
        choose = function("choose", ctypes.c_int32, ctypes.c_int32)
        assert [choose(n) for n in range(-1, 7)] == [-1, 7, 11, 13, 17, 19, 23, -1]


def test_each_placing_has_data_of_its_own() -> None:
    image = compiled("pic", "small", 2)
    libraries = [load([image], ["count"]) for _ in range(2)]
    first, second = (ctypes.CFUNCTYPE(ctypes.c_int32)(library["count"]) for library in libraries)
    assert (first(), first(), second()) == (1, 2, 1)


def test_what_is_asked_for_and_nowhere_is_named() -> None:
    with pytest.raises(KeyError, match="nothing_like_it"):
        place([compiled("pic", "small", 2)], ["nothing_like_it"], {}, _outside)
    with pytest.raises(KeyError, match="cos"):
        place([compiled("pic", "small", 2)], ["pick"], {}, lambda name: None)


def changed(image: bytes, r: random.Random) -> bytes:
    """A few bytes, or the end, are others."""
    data = bytearray(image)
    for _ in range(r.choice([1, 1, 2, 8])):
        where = r.randrange(64) if r.random() < 0.3 else r.randrange(len(data))
        if r.random() < 0.3:
            where = len(data) - 1 - r.randrange(min(len(data), 1500))      # the table of sections
        data[where] = r.choice([0, 1, 0x7F, 0x80, 0xFF, r.randrange(256)])
    return bytes(data[:r.randrange(len(data))] if r.random() < 0.15 else data)


def place_changed(seed: int) -> None:
    r = random.Random(seed)
    image = changed(IMAGES[seed % len(IMAGES)], r)
    with suppress(Foreign, Damaged, KeyError):
        place([image], NAMES, {}, _outside)


IMAGES = [compiled(*how) for how in MODELS] if _PLACES else []


def test_objects_with_any_bytes_changed_are_placed_or_refused(seeds: Iterator[int]) -> None:
    for seed in seeds:
        place_changed(seed)


if __name__ == "__main__":
    for number in range(int(sys.argv[1]), int(sys.argv[2])):
        try:
            place_changed(number)
        except BaseException as error:
            print(number, type(error).__name__, error, flush=True)
