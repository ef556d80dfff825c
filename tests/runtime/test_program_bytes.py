"""Programs and artifacts are data: printed, pickled, and bytes that another process runs."""
from __future__ import annotations

import hashlib
import itertools
import json
import pickle
import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_kernels import bytes_spec, program_of
from small_kernels import executable as on_small_kernels
from tree_programs import kernels, library, outcome, random_tree

import flambeau as fb
import flambeau.nn.functional as F
from flambeau import nn, optim
from flambeau.codegen.artifact import _VERSION as VERSION
from flambeau.codegen.artifact import Artifact, Phase, TaskDim
from flambeau.errors import FlambeauError, ParseError, VerificationError
from flambeau.ir.kernel.hash import kernel_key
from flambeau.ir.sealed import seal, unseal
from flambeau.ir.types import parse_type
from flambeau.runtime import (
    Blocks,
    Branch,
    Executable,
    HostCall,
    Launch,
    Loop,
    Program,
    Signature,
    SizeOf,
    SizeSpec,
    Slot,
    TensorSpec,
)

EVERYTHING = Program(
    (Slot("arg", 0, 1), Slot("state", 0, 8), Slot("arena", 64, 32, "cpu"), Slot("const", 0, 3)),
    (Launch("a", (Blocks(SizeOf(0, 3), 4), Blocks(7)), 2, True, (1, 2), (5, SizeOf(0)), ((1, "no {0}"), (2, "two")), 1),
     HostCall("b", (2,), (SizeOf(0),), ((7, "seven"),), 0),
     Loop(0, (Branch(0, (Launch("c", 9, 1, False, ()),), ()), Loop(0, ())))),
    Signature((TensorSpec("x", parse_type("bool[]")),), (TensorSpec("w", parse_type("f32[2]"), b"12345678"),),
              (TensorSpec("lr", parse_type("f64[]")),), (TensorSpec("y", parse_type("f32[2*n,3]")),), (SizeSpec("n", 10),)),
    128, (b"abc", b""), True, ("a.py:1: x = 1", "b.py:2: é"))

WITH_ONCE = Program(
    (Slot("arg", 0, 8), Slot("state", 0, 8), Slot("state", 1, 12)), (Launch("use", 1, 1, False, (0, 1, 2)),),
    Signature((TensorSpec("x", parse_type("f32[2]")),),
              (TensorSpec("w", parse_type("f32[2]")), TensorSpec("kept[0]", parse_type("f32[3]")))),
    once=Program((Slot("state", 0, 8), Slot("out", 0, 12), Slot("const", 0, 3)), (Launch("make", 1, 1, False, (0, 1, 2)),),
                 Signature(states=(TensorSpec("w", parse_type("f32[2]")),),
                           outs=(TensorSpec("kept[0]", parse_type("f32[3]")),)),
                 consts=(b"abc",), locations=("c.py:3",)))


def same(found: Program, wanted: Program) -> bool:
    """Locations too, which == leaves out."""
    return found == wanted and repr(found) == repr(wanted) and \
        all(getattr(found, f.name) == getattr(wanted, f.name) for f in fields(Program)) and \
        [spec.initial for spec in found.signature.states] == [spec.initial for spec in wanted.signature.states]


def copies(program: Program) -> Iterator[Program]:
    yield Program.from_bytes(program.to_bytes())
    yield pickle.loads(pickle.dumps(program))


def test_every_field_of_a_program_comes_back() -> None:
    for program in (EVERYTHING, WITH_ONCE):
        program.check()
        for copy in copies(program):
            assert same(copy, program)


@pytest.mark.parametrize("wrong", [
    replace(WITH_ONCE, once=replace(WITH_ONCE.once, writes_state=True)),
    replace(WITH_ONCE, once=replace(WITH_ONCE.once, once=WITH_ONCE.once)),
    replace(WITH_ONCE, once=replace(WITH_ONCE.once, signature=Signature(outs=WITH_ONCE.once.signature.outs * 2))),
    replace(WITH_ONCE, once=replace(WITH_ONCE.once, signature=Signature(outs=WITH_ONCE.once.signature.outs * 9))),
    replace(WITH_ONCE, once=replace(WITH_ONCE.once, slots=(Slot("out", 1, 12),))),
])
def test_what_runs_once_must_fit(wrong: Program) -> None:
    with pytest.raises(VerificationError, match="runs once|names a missing out"):
        wrong.check()


def test_random_programs_come_back_and_run_as_before(seeds: Iterator[int]) -> None:
    for seed in itertools.islice(seeds, 200):
        tree = random_tree(seed)
        for copy in copies(tree.program):
            assert same(copy, tree.program)
            assert outcome(Executable(copy, library().addresses), seed) == outcome(tree.native(), seed), f"seed {seed}"


def train_step() -> Any:
    fb.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 4))
    opt = optim.AdamW(model.parameters(), lr=1e-3)

    @fb.compile
    def step(x: Any, y: Any) -> Any:
        opt.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        opt.step()
        return loss

    step(fb.rand(5, 1, 8, 8), fb.tensor([0, 1, 2, 3, 0]))
    return step.signatures[0].compiled


def test_a_training_step_comes_back_with_names_types_and_artifacts() -> None:
    compiled = train_step()
    signature = compiled.program.signature
    assert [f"{spec.name} : {spec.type}" for spec in signature.args] == ["arg[0] : f32[5,1,8,8]", "arg[1] : i64[5]"]
    assert "sequential.0.weight : f32[2,1,3,3]" in [f"{spec.name} : {spec.type}" for spec in signature.states]
    assert "lr : f64[]" in [f"{spec.name} : {spec.type}" for spec in signature.scalars]
    assert [f"{spec.name} : {spec.type}" for spec in signature.outs] == ["result[0] : f32[]"]
    assert all(same(copy, compiled.program) for copy in copies(compiled.program))
    for built in compiled.built:
        assert Artifact.from_bytes(built.artifact.to_bytes()) == built.artifact
        copy = pickle.loads(pickle.dumps(built))
        assert copy.artifact == built.artifact and kernel_key(copy.kernel) == kernel_key(built.kernel)


LOADED = """
import pickle, sys
import numpy as np
from flambeau.codegen.artifact import Artifact
from flambeau.runtime import Executable, Program, load
program, *artifacts = pickle.load(open(sys.argv[1], "rb"))
artifacts = [Artifact.from_bytes(data) for data in artifacts]
symbols = [phase.symbol for artifact in artifacts for phase in artifact.phases]
code = load([artifact.object for artifact in artifacts], symbols)
call = Executable(Program.from_bytes(program), code.addresses, keep=code).fast_call
x, out = np.arange(12, dtype=np.float32).reshape(3, 4), np.empty((3, 4), np.float32)
call(x.ctypes.data, out.ctypes.data)
sys.stdout.write(out.tobytes().hex())
"""


def test_another_process_runs_what_was_kept(tmp_path: Path) -> None:
    softmax = fb.compile(lambda x: F.softmax(x, dim=1))
    wanted = softmax(fb.arange(12.0).reshape(3, 4))
    compiled = softmax.signatures[0].compiled
    artifacts = {built.artifact.phases[0].symbol: built.artifact for built in compiled.built}
    file = tmp_path / "softmax"
    file.write_bytes(pickle.dumps([compiled.program.to_bytes(), *[a.to_bytes() for a in artifacts.values()]]))
    done = subprocess.run([sys.executable, "-c", LOADED, str(file)], capture_output=True, text=True, timeout=100,
                          env={"PYTHONPATH": str(Path(fb.__file__).parents[1])})
    assert done.stdout == wanted.numpy().tobytes().hex(), done.stderr


def test_states_begin_with_what_the_program_brings() -> None:
    spec = replace(bytes_spec("count", 8), initial=(41).to_bytes(8, "little"))
    program = Program((Slot("state", 0, 8), Slot("arg", 0, 8), Slot("arena", 0, 8)), (
        Launch("visit", 1, 1, False, (0,)),), Signature((bytes_spec("x", 8),), (spec,)), arena_bytes=64, writes_state=True)
    first, second = (on_small_kernels(Program.from_bytes(program.to_bytes())).bind_initial() for _ in range(2))
    x = np.zeros(1, np.int64)
    for bound, calls in ((first, 2), (second, 1)):
        for _ in range(calls):
            bound.fast_call(x.ctypes.data)
        (buffer,) = bound._memory.states_owner
        assert fb.runtime.as_ndarray(buffer, np.int64, ()) == 41 + calls
    without = program_of((Slot("state", 0, 8),), n_states=1)
    with pytest.raises(VerificationError, match="brings no initial value of state0"):
        on_small_kernels(without).bind_initial()


# -- hostile bytes ----------------------------------------------------------------------------------------------------

ARTIFACT = Artifact((Phase("f", None, (0, 1), 4, True, (TaskDim("n", 64, 0), TaskDim(3)), ((1, "index {0}"),)),
                     Phase("g", 8, (2,), host=True, sizes=(3, 1)), Phase("h", 1, (0, 2), packs=(0, 2))), (128,), b"code")
HOSTILE = (None, True, -1, 0, 1, 2**63, 2**64, 2**200, 1.5, "", "f32[", "f32[-1]", "cpu", "x" * 2000, [], [0], [[]], {},
           [0, 0], [0, -1], ["loop", 0, []], ["launch"])


def test_an_artifact_comes_back() -> None:
    assert Artifact.from_bytes(ARTIFACT.to_bytes()) == ARTIFACT == pickle.loads(pickle.dumps(ARTIFACT))


def mutated(content: Any, draw: random.Random) -> Any:
    """The content with one thing in it replaced, doubled or left out."""
    copy = json.loads(json.dumps(content))
    holder, key = {"": copy}, ""
    while isinstance(holder[key], list | dict) and holder[key] and draw.random() < 0.9:
        holder = holder[key]
        key = draw.choice(list(holder)) if isinstance(holder, dict) else draw.randrange(len(holder))
    match draw.randrange(4):
        case 0 if isinstance(holder, list):
            del holder[key]
        case 1 if isinstance(holder, list):
            holder.insert(key, holder[key])
        case _:
            holder[key] = draw.choice(HOSTILE)
    return copy if key != "" else holder[""]


def test_changed_programs_are_refused_or_other_programs(seeds: Iterator[int]) -> None:
    """Sealed anew, so that the checksum is right: whatever is wrong is found by reading or by the check."""
    for seed in seeds:
        draw = random.Random(seed)
        program = (EVERYTHING, random_tree(seed).program, WITH_ONCE)[seed % 3]
        content, blobs = unseal(program.to_bytes(), "program", 2)
        data = seal("program", 2, mutated(content, draw), blobs)
        try:
            found = Program.from_bytes(data)
            found.check()
        except (ParseError, VerificationError):
            continue
        assert same(Program.from_bytes(found.to_bytes()), found), f"seed {seed}"


def test_changed_artifacts_are_refused_or_other_artifacts(seeds: Iterator[int]) -> None:
    for seed in itertools.islice(seeds, 2000):
        content, blobs = unseal(ARTIFACT.to_bytes(), "artifact", VERSION)
        data = seal("artifact", VERSION, mutated(content, random.Random(seed)), blobs)
        try:
            found = Artifact.from_bytes(data)
        except ParseError:
            continue
        assert Artifact.from_bytes(found.to_bytes()) == found, f"seed {seed}"


@pytest.mark.parametrize(("step", "message"), [
    (["launch", "f"], "expected a list of 8 items"),
    (["jump", 3], "expected a step: launch, host, loop or branch"),
    (["host", "f", [True], [], [], None], "expected an int, found true"),
    (["loop", 0, {}], r"expected a list, found \{\}"),
    (["launch", "f", [[0]], 1, False, [], [], [], None], "expected a list of 2 items"),
    (["launch", "f", 1, 1, 0, [], [], [], None], "expected true or false, found 0"),
    (["launch", 5, 1, 1, False, [], [], [], None], "expected a string, found 5"),
])
def test_what_is_no_step_is_named(step: Any, message: str) -> None:
    content, blobs = unseal(EVERYTHING.to_bytes(), "program", 2)
    with pytest.raises(ParseError, match=message):
        Program.from_bytes(seal("program", 2, content | {"steps": [step]}, blobs))


@pytest.mark.parametrize("depth", [300, 100_000])
def test_bodies_that_nest_without_end_are_refused(depth: int) -> None:
    content, blobs = unseal(EVERYTHING.to_bytes(), "program", 2)
    body = '["loop",0,[' * depth + "]]" * depth
    header = json.dumps({"kind": "program", "version": 1, "blobs": [len(b) for b in blobs],
                         "content": content | {"steps": "HERE"}}).replace('"HERE"', f"[{body}]").encode()
    with pytest.raises(FlambeauError):
        Program.from_bytes(resealed(header, blobs)).check()


def resealed(header: bytes, blobs: list[bytes]) -> bytes:
    """Bytes with this header, which json.dumps could not write, and a right checksum."""
    rest = b"".join([len(header).to_bytes(8, "little"), header, *blobs])
    return seal("program", 2, 0)[:8] + hashlib.sha256(rest).digest() + rest


@pytest.mark.parametrize(("changes", "message"), [
    ({"consts": 4}, "a program of 4 constants has 3 blobs"),
    ({"consts": -1}, "a program of -1 constants"),
    ({"states": [["w", "f32[2]", 9]]}, "the initial value of state w is blob 9 of 3"),
    ({"states": [["w", "f32[2]", 0]]}, "the initial value of state w is blob 0 of 3"),
    ({"args": [["x", "float32[4]"]]}, "names a type that is none: not a tensor type"),
    ({"args": [["x", f"f32[{'*'.join('n' * 9000)}]"]]}, "names a type in 18004 characters"),
    ({"slots": [["arg", 0, 1]]}, "expected a list of 4 items"),
])
def test_what_is_wrong_with_a_program_is_named(changes: dict[str, Any], message: str) -> None:
    content, blobs = unseal(EVERYTHING.to_bytes(), "program", 2)
    with pytest.raises(ParseError, match=message):
        Program.from_bytes(seal("program", 2, content | changes, blobs))


def test_a_program_is_no_artifact() -> None:
    with pytest.raises(ParseError, match="these bytes are no artifact, but a program"):
        Artifact.from_bytes(EVERYTHING.to_bytes())


def test_built_kernels_are_data() -> None:
    for built in kernels().values():
        assert pickle.loads(pickle.dumps(built)) == built
