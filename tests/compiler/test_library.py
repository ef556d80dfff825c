"""Kernels that call a library: text, rules, meaning, where LAPACK comes from, and a function added from outside."""
from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from unittest.mock import Mock

import numpy as np
import pytest
from checked import compiled, run

import flambeau as fb
from flambeau import doctor
from flambeau.codegen.artifact import Artifact
from flambeau.compiler import compile_graph
from flambeau.errors import GraphError, KernelError, LinAlgError, ParseError, VerificationError
from flambeau.frontend.tape.dispatch import dispatch
from flambeau.ir import Graph, ops, parse_kernel, print_kernel
from flambeau.ir.graph.interpreter import interpret
from flambeau.ir.kernel.hash import kernel_key
from flambeau.ir.kernel.interpreter import Watched
from flambeau.ir.kernel.interpreter import interpret as interpret_kernel
from flambeau.ir.kernel.verifier import verify_kernel
from flambeau.ir.op import OPS, Op, Sample
from flambeau.ir.types import TensorType
from flambeau.kinds import library
from flambeau.kinds.library import FUNCTIONS, Array, Function, LibraryKernel
from flambeau.runtime import lapack
from flambeau.runtime.executable import Executable
from flambeau.runtime.host import host_target
from flambeau.runtime.host_functions import host_address
from flambeau.runtime.program import Program

KERNEL = """library @x {
  in in0: f32[18]
  in in1: f32[12]
  out out0: f32[12]
  call solve(in0, in1) over %i0 = 2, %i1 = 3, %i2 = 2
  loc "train.py:7: x = fb.linalg.solve(a, b)"
}
"""


def sources() -> Iterator[object]:
    """Every way to LAPACK that there is here."""
    for name in ("of_scipy", "of_numpy"):
        missing = getattr(lapack, name)() is None
        yield pytest.param([getattr(lapack, name)], id=name, marks=[pytest.mark.skip("not to be had here")] * missing)
    yield pytest.param([], id="callback")


@pytest.fixture(params=sources())
def source(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lapack, "SOURCES", request.param)


def graph_of(sample: Sample) -> Graph:
    graph = Graph(name="sample")
    graph.outputs = list(graph.append(sample.op, [graph.add_input(t) for t in sample.types]).results)
    return graph


# -- text, rules, meaning ---------------------------------------------------------------------------------------------


def test_kernel_reads_back_as_printed() -> None:
    kernel = parse_kernel(KERNEL)
    assert isinstance(kernel, LibraryKernel)
    assert (kernel.function, kernel.operands, kernel.results, kernel.batch) == ("solve", (0, 1), (2,), 2)
    assert print_kernel(kernel) == KERNEL
    verify_kernel(kernel)


@pytest.mark.parametrize(("old", "new", "message"), [
    ("out0: f32[12]", "out0: f32[13]", "kernel x, param out0: has 13 elements, where solve has 12"),
    ("in0: f32[18]", "in0: f64[18]", "kernel x, param in1: is f32, where solve has f64"),
    ("in0: f32[18]", "in0: i32[18]", "kernel x: works on f32 or f64, not i32"),
    ("out out0", "in out0", "kernel x, param out0: is in, where solve has out"),
    ("in0, in1", "in0", "kernel x: solve takes 2 operands and gives 1"),
    ("in0, in1", "in0, #7", "kernel x: there is no param 7"),
    (", %i2 = 2", "", "kernel x: solve has a batch and 2 dims, not 2 extents"),
])
def test_broken_kernels_are_found(old: str, new: str, message: str) -> None:
    with pytest.raises(GraphError) as caught:
        verify_kernel(parse_kernel(KERNEL.replace(old, new)))
    assert caught.value.message == message


def test_unknown_function_is_an_error_that_names_the_known() -> None:
    with pytest.raises(ParseError, match=r"expected a function \(solve, .*cholesky.*\), found 'solvent'"):
        parse_kernel(KERNEL.replace("solve(in0", "solvent(in0"))


def test_key_counts_function_operands_and_extents() -> None:
    kernel = parse_kernel(KERNEL)
    assert isinstance(kernel, LibraryKernel)
    assert kernel_key(kernel) == kernel_key(replace(kernel, name="other", locations=()))
    for other in (replace(kernel, function="solve_lower"), replace(kernel, operands=(1, 0)),
                  replace(kernel, extents=(1, 3, 4))):
        assert kernel_key(kernel) != kernel_key(other)


def test_kernel_means_its_op_and_reads_all_of_it() -> None:
    kernel = parse_kernel(KERNEL)
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(n).astype(np.float32) for n in (18, 12))
    out = np.empty(12, np.float32)
    interpret_kernel(kernel, [a, b, out])
    np.testing.assert_array_equal(out, np.linalg.solve(a.reshape(2, 3, 3), b.reshape(2, 3, 2)).ravel())
    hole = np.ones((18, 4), np.bool_)
    hole[5] = False
    with pytest.raises(Exception, match="reads element 5 of in0, which nothing stored"):
        interpret_kernel(kernel, [Watched.over(a, hole), b, out])


def test_table_has_every_op_that_names_the_kind() -> None:
    named = {op.name for function in FUNCTIONS.values() for op in [function.op]}
    assert named == {name for name, op in OPS.items() if getattr(op, "kernel_kind", None) == "library"}
    assert len({function.op for function in FUNCTIONS.values()}) == len(FUNCTIONS)


@pytest.mark.parametrize(("name", "wrong"), [
    ("solve", "trsm('L', 'L', 'N', 'N', n, k, 1.0, a, n, b, n)"),
    ("solve_upper", "trsm('L', 'U', 'N', 'U', n, k, 1.0, a, n, b, n)"),
    ("solve_lower", "trsm('L', 'L', 'T', 'N', n, k, 1.0, a, n, b, n)"), ("cholesky", "potrf('U', n, a, n, info)")])
def test_wrong_routine_is_found_by_verify(name: str, wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FUNCTIONS, name, replace(FUNCTIONS[name], calls=(wrong,)))
    library._address.cache_clear()
    drawn = np.random.default_rng(0).standard_normal((2, 4, 4))
    a, b = fb.from_numpy(drawn @ np.swapaxes(drawn, -1, -2) + np.eye(4)), fb.ones(2, 4, 1, dtype=fb.float64)
    op, operands = FUNCTIONS[name].op, [a, b][:len(FUNCTIONS[name].operands)]
    try:
        with pytest.raises(VerificationError, match=f"computes {op.name} wrongly: element .* code generation is to blame"):
            fb.compile(lambda *operands: dispatch(op, *operands), verify=True)(*operands)
    finally:
        library._address.cache_clear()


def test_inaccurate_solution_is_found_by_verify(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds follow the condition of the matrix: a relative error of 1e-9 is much here, and nothing there."""
    def solve(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.linalg.inv(a) @ b * (1 + 1e-9)

    monkeypatch.setattr(lapack, "SOURCES", [])
    monkeypatch.setattr(library, "_meaning", lambda function, operands: [solve(*operands)])
    f = fb.compile(lambda a, b: fb.linalg.solve(a, b), verify=True)
    b = fb.from_numpy(np.random.default_rng(0).standard_normal((9, 1)))
    hilbert = fb.from_numpy(1 / (1.0 + np.add.outer(np.arange(9), np.arange(9))))
    assert f(hilbert, b).isfinite().all()
    with pytest.raises(VerificationError, match="computes solve wrongly"):
        f(hilbert + 9 * fb.eye(9, dtype=fb.float64), b)


# -- where LAPACK comes from ------------------------------------------------------------------------------------------

NAMED = [name for name, op in OPS.items() if getattr(op, "kernel_kind", None) == "library"]
SAMPLES = [(f"{name}-{number}", sample) for name in (*NAMED, "qr", "det", "slogdet", "pinv")
           for number, sample in enumerate(OPS[name].samples())]


@pytest.mark.parametrize("sample", [s for _, s in SAMPLES], ids=[name for name, _ in SAMPLES])
def test_every_source_gives_the_same_to_rounding(source: None, sample: Sample) -> None:
    graph = graph_of(sample)
    results = run(compiled(graph), sample.operands).outputs
    eps = np.finfo(sample.operands[0].dtype).eps
    for found, meant in zip(results, interpret(graph, sample.operands)[0], strict=True):
        if sample.op.name in ("eigh", "svd"):               # vectors may point the other way
            found, meant = np.abs(found), np.abs(meant)
        np.testing.assert_allclose(found, meant, rtol=0, atol=1e3 * eps * np.nanmax(np.abs(meant), initial=1))
    again = run(compile_graph(graph), sample.operands).outputs
    assert [a.tobytes() for a in again] == [found.tobytes() for found in results]


def test_every_source_says_what_is_wrong(source: None) -> None:
    a = np.stack([np.eye(3), np.diag([1.0, -1.0, 1.0]), np.zeros((3, 3))])
    factor, solve = fb.compile(lambda a: fb.cholesky(a)), fb.compile(lambda a: fb.linalg.solve(a, a))
    assert factor(fb.from_numpy(a[:1])).shape == (1, 3, 3)
    for bad in (a, np.where(a < 0, np.nan, a)):
        with pytest.raises(LinAlgError, match="matrix 1 of the batch is not positive-definite: .* order 2 ") as caught:
            factor(fb.from_numpy(bad))
        assert (caught.value.status, caught.value.details) == (4, (1, 2))
    with pytest.raises(LinAlgError, match="linalg.solve: matrix 2 of the batch is singular"):
        solve(fb.from_numpy(a))


def test_every_source_runs_on_poisoned_memory(source: None) -> None:
    a = fb.from_numpy(np.random.default_rng(0).standard_normal((5, 6, 6)) + 9 * np.eye(6))

    def f(a: fb.Tensor) -> fb.Tensor:
        return (fb.cholesky(a @ a.mT) * fb.linalg.solve(a, a.sin())).sum(-1)

    with fb.config.set(poison=True):
        for backend in ("cpu", "interpret"):
            np.testing.assert_allclose(fb.compile(f, backend=backend)(a).numpy(), f(a).numpy(), rtol=1e-9)


def test_sources_are_asked_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def none() -> None:
        asked.append(1)

    monkeypatch.setattr(lapack, "SOURCES", [none, lapack.of_numpy, none])
    assert lapack.lapack() is lapack.of_numpy()
    assert len(asked) == (1 if lapack.of_numpy() else 2)


def test_host_function_has_one_address_for_each_name() -> None:
    assert host_address("library.solve.f32") == host_address("library.solve.f32")
    addresses = {host_address(f"library.{name}.{dtype}") for name in FUNCTIONS for dtype in ("f32", "f64")}
    assert len(addresses) == 2 * len(FUNCTIONS)
    for name in ("library.solvent.f32", "library.solve.f31", "loop.solve.f32"):
        with pytest.raises(VerificationError, match=f"there is no host function '{name}'"):
            host_address(name)


def test_callback_that_python_breaks_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lapack, "SOURCES", [])
    f = fb.compile(lambda a: fb.cholesky(a))
    f(fb.eye(2))
    for error in (ZeroDivisionError, KeyboardInterrupt):
        monkeypatch.setattr(np.linalg, "cholesky", Mock(side_effect=error))
        with pytest.raises(KernelError, match="cholesky: Python, which computes it here, was interrupted or raised"):
            f(fb.eye(2))
    monkeypatch.undo()
    assert f(fb.eye(2)).tolist() == [[1.0, 0.0], [0.0, 1.0]]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_callback_that_ctypes_gives_up_on_is_no_success(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where Ctrl-C strikes before the callback's first line: ctypes says so on stderr, and returns anything."""
    def broken(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(lapack, "SOURCES", [])
    monkeypatch.setattr(library, "_callback", lambda *_: library._CALLBACK(broken))
    library._address.cache_clear()
    try:
        f = fb.compile(lambda a: fb.cholesky(a))
        with pytest.raises(KernelError, match="cholesky: Python, which computes it here, was interrupted"):
            f(fb.eye(2))
    finally:
        library._address.cache_clear()


def test_doctor_names_the_source() -> None:
    assert dict(doctor.facts(host_target()))["LAPACK"].startswith(("SciPy", "NumPy"))


def test_scipy_is_loaded_by_whoever_needs_it() -> None:
    code = ("import sys, flambeau as fb; f = fb.compile(lambda x: x + 1); f(fb.ones(3));"
            "fb.linalg.solve(fb.eye(2), fb.ones(2));"
            "assert not any(name.split('.')[0] == 'scipy' for name in sys.modules);"
            "assert 'flambeau.kinds.library' not in sys.modules;"
            "print(fb.compile(fb.linalg.solve)(fb.eye(2), fb.ones(2)).tolist())")
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert found.stdout.strip() == "[1.0, 1.0]", found.stderr


def test_program_calls_the_host_without_code_of_its_own() -> None:
    f = fb.compile(lambda a, b: fb.linalg.solve(a, b))
    f(fb.eye(3), fb.ones(3, 2))
    (call,) = f.signatures[0].compiled.program.launches
    assert (call.symbol, call.sizes) == ("library.solve.f32", (1, 3, 2, 1))
    assert "library     over 1 x 3 x 2" in f.explain()


def test_every_level_prints_where_nothing_is_called() -> None:
    f = fb.compile(lambda a, b: fb.linalg.solve(a, b) + fb.sort(b).values)
    f(fb.zeros(0, 0), fb.zeros(0, 2))
    assert all(f.ir(level) for level in ("kernels", "llvm", "asm"))


def test_program_of_bytes_finds_the_library_again() -> None:
    made = compile_graph(graph_of(next(ops.Solve.samples())))
    a, b = (np.ascontiguousarray(x) for x in next(ops.Solve.samples()).operands)
    program, found = Program.from_bytes(made.program.to_bytes()), np.empty_like(b)
    Executable(program, {}).fast_call(a.ctypes.data, b.ctypes.data, found.ctypes.data)
    np.testing.assert_allclose(found, np.linalg.solve(a, b), rtol=1e-12)
    artifact = made.built[0].artifact
    assert Artifact.from_bytes(artifact.to_bytes()) == artifact and artifact.phases[0].sizes == (1, 3, 2, 1)


# -- another function -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Symmetric(Op):
    """Symmetric matrices -> (eigenvalues in order, eigenvectors in columns); of two results the routine works in place."""

    name = "symmetric"
    kernel_kind = "library"

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        return operands[0].with_shape(operands[0].shape[:-1]), operands[0]

    def evaluate(self, *operands: np.ndarray) -> tuple[np.ndarray, ...]:
        found = np.linalg.eigh(*operands)
        return found.eigenvalues, found.eigenvectors


SYMMETRIC = Function(
    Symmetric(), (("n", 0, -1),),
    {"a": Array("n", "n", loads=0, gives=1), "values": Array("n", gives=0), "work": Array("1+6*n+2*n*n"),
     "integers": Array("3+5*n", holds="integers")},
    ("syevd('V', 'L', n, a, n, values, work, 1+6*n+2*n*n, integers, 3+5*n, info)",), fails=4)


def test_another_function_is_one_entry(source: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(OPS, "symmetric", Symmetric)
    monkeypatch.setitem(FUNCTIONS, "symmetric", SYMMETRIC)
    drawn = np.random.default_rng(0).standard_normal((3, 5, 5))
    a = drawn + np.swapaxes(drawn, -1, -2)

    def f(a: fb.Tensor) -> Sequence[fb.Tensor]:
        values, vectors = dispatch(Symmetric(), a * 2)
        return values, vectors, vectors @ (values[..., None] * vectors.mT)

    for options in ({}, {"backend": "interpret"}):
        values, vectors, product = (t.numpy() for t in fb.compile(f, **options)(fb.from_numpy(a)))
        np.testing.assert_allclose(values, np.linalg.eigvalsh(2 * a), rtol=1e-12)
        np.testing.assert_allclose(product, 2 * a, rtol=0, atol=1e-12)
        np.testing.assert_allclose(vectors @ np.swapaxes(vectors, -1, -2), np.broadcast_to(np.eye(5), a.shape), atol=1e-13)
    assert len({f.op for f in FUNCTIONS.values()} & {ops.Solve(), Symmetric()}) == 2
