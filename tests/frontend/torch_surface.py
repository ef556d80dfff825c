"""What docs/surface.md knows from PyTorch: its public names (torch_names.txt), and what comes of its samples of operators
here (torch_measured.txt).

    python tests/frontend/torch_surface.py names
    python tests/frontend/torch_surface.py measured [GLOB ...]

write these files anew (the second takes minutes; of what the globs leave out, the old lines stay). Then run
surface_table.py, which writes the page and needs no PyTorch.
"""

from __future__ import annotations

import fnmatch
import importlib
import sys
import types
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch_samples
from surface_table import MEASURED, NAMES, measured_rows
from torch_samples import LOOSE, REFUSED, function_of, leaves, operators, run, translated

import flambeau as fb
from flambeau.frontend.pytree import flatten, unflatten

DTYPES = ("f16", "bf16", "f32", "f64", "u8", "i64", "bool", "c64")
NAMESPACES = """torch torch.Tensor torch.nn torch.nn.functional torch.nn.init torch.nn.utils torch.nn.utils.parametrizations
    torch.nn.utils.parametrize torch.nn.utils.prune torch.nn.utils.rnn torch.optim torch.optim.lr_scheduler
    torch.optim.swa_utils torch.linalg torch.special torch.fft torch.func torch.distributions torch.autograd torch.amp
    torch.random torch.utils.checkpoint torch.utils.data""".split()
CONSTANTS = (torch.dtype, torch.layout, torch.memory_format, float)
# Classes of the C++ library that users name; the others of `torch` are TorchScript's.
CLASSES = frozenset("Generator Size Tensor device dtype finfo iinfo layout memory_format newaxis".split())
# With a docstring, and yet not for users.
INTERNAL = frozenset("""
    AggregationType DefaultDeviceType DispatchKey GraphExecGroup LoggerBase NestedIOFunction ScalingType SwizzleType Tag
    ScriptClass ScriptFunction classproperty debug_unwrap enforce_grad_layout_policy factory_kwargs fork get_file_path
    has_torch_function has_torch_function_unary has_torch_function_variadic import_ir_module import_ir_module_from_buffer
    index init_num_threads merge_type_from_type_comment parse_ir parse_schema parse_type_comment
    prepare_multiprocessing_environment profiler_allow_cudagraph_cupti_lazy_reinit_cuda12 quantized_gru quantized_lstm
    unify_type_list wait""".split())


# -- names ------------------------------------------------------------------------------------------------------------


def public(namespace: str) -> list[str]:
    """The names that PyTorch documents in a namespace: those with a docstring, types of numbers and layouts."""
    owner: Any = torch.Tensor if namespace == "torch.Tensor" else importlib.import_module(namespace)
    names = owner.__all__ if hasattr(owner, "__all__") and namespace not in ("torch", "torch.nn") else dir(owner)
    return sorted({n for n in names if not n.startswith("_") and _is_documented(owner, namespace, n)})


def _is_documented(owner: Any, namespace: str, name: str) -> bool:
    value = getattr(owner, name, None)
    if name in INTERNAL:
        return False
    if isinstance(value, CONSTANTS) or namespace == "torch" and (name in CLASSES or name.endswith("Tensor")):
        return True
    if namespace == "torch.Tensor":
        return bool(value.__doc__) or name in ("data", "dtype", "grad_fn", "layout")
    if isinstance(value, types.ModuleType) or not callable(value) or not value.__doc__:
        return False
    if isinstance(value, types.BuiltinFunctionType):
        return True
    module = getattr(value, "__module__", None) or ""
    if namespace.startswith("torch.nn"):
        return module.startswith("torch.nn")
    return module.startswith("torch") and not (namespace == "torch" and module.startswith("torch._C"))


def write_names() -> None:
    lines = ["# PyTorch's public names, by namespace. Written by tests/frontend/torch_surface.py.\n"]
    for namespace in NAMESPACES:
        lines.append(f"\n[{namespace}]\n")
        line = ""
        for name in public(namespace):
            if len(line) + len(name) > 118:
                lines.append(line.rstrip() + "\n")
                line = ""
            line += name + " "
        lines.append(line.rstrip() + "\n")
    NAMES.write_text("".join(lines), encoding="utf-8")


# -- measures ---------------------------------------------------------------------------------------------------------


def measured(name: str) -> dict[str, str]:
    """What comes of a sample of each dtype, two of float32 and float64: `aliases`, `dtypes` whose eager results are
    PyTorch's, `not` those that PyTorch takes besides, and `compiled`, `derivative`, `batching`."""
    passed, failed = set(), set()
    derivative = compiled = "-"
    for dtype in DTYPES:
        report = run(name, (dtype,), 2 if dtype in ("f32", "f64") else 1, errors=False)
        wrong = {line.partition(":")[0] for line in report.differences}
        if report.passed["eager"] and "eager" not in wrong:
            passed.add(dtype)
        elif wrong:
            failed.add(dtype)
        if dtype == "f32" or compiled == "-":
            compiled = _told(report, wrong, "compiled")
        if dtype == "f64":
            derivative = _told(report, wrong, "gradient")
    if derivative == "-" and "c64" in passed and "f64" not in passed:
        report = run(name, ("c128",), 2, errors=False)
        derivative = _told(report, {line.partition(":")[0] for line in report.differences}, "gradient")
    if compiled == "yes" and name in REFUSED:
        compiled = "in part"
    if name in LOOSE and any(op.supports_autograd for op in operators()[name]):
        derivative = _each(name, "f64", _differentiated) or "-"
    aliases = sorted({alias.name for op in operators()[name] for alias in op.aliases})
    return {"aliases": " ".join(aliases) or "-", "dtypes": _listed(passed), "not": _listed(failed), "compiled": compiled,
            "derivative": derivative, "batching": _each(name, "f32", _batched) or _each(name, "i64", _batched) or "-"}


def _told(report: torch_samples.Report, wrong: set[str], mode: str) -> str:
    return "in part" if mode in wrong and report.passed[mode] else "no" if mode in wrong else (
        "yes" if report.passed[mode] else "-")


def _listed(dtypes: Iterable[str]) -> str:
    return " ".join(d for d in DTYPES if d in dtypes) or "-"


def _each(name: str, dtype: str, look: Callable[[Any, Any], str]) -> str:
    """What `look` says of an operator's samples, the worst of it; "" where there are none."""
    said = set()
    for op in operators()[name]:
        for sample in torch_samples._samples(op, dtype, 2):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    op.op(sample.input, *sample.args, **sample.kwargs)
                    said.add(look(op, sample))
                except Exception:
                    said.add("no")
    worst = next((word for word in ("loop", "no", "yes") if word in said), "")
    return "in part" if worst == "no" and "yes" in said else worst


def _differentiated(op: Any, sample: Any) -> str:
    """For results that can't be compared: whether there is a gradient at all, where PyTorch has one."""
    pairs: list[tuple[Any, fb.Tensor]] = []
    args = translated((sample.input, *sample.args), pairs)
    result = function_of(op)(*args, **translated(sample.kwargs, pairs))
    floats = [y for y in leaves(result, fb.Tensor) if isinstance(y, fb.Tensor) and y.requires_grad]
    if not floats or not pairs:
        return ""
    sum([y.abs().sum() for y in floats]).backward()
    return "yes"


def _batched(op: Any, sample: Any) -> str:
    """`vmap` over two copies of the sample beside the sample itself."""
    function = function_of(op)
    given = translated((sample.input, *sample.args)), translated(sample.kwargs)
    values, _, structure = flatten(given)
    places = [i for i, value in enumerate(values) if isinstance(value, fb.Tensor)]
    if not places:
        return ""

    def call(*tensors: fb.Tensor) -> Any:
        filled = list(values)
        for i, tensor in zip(places, tensors, strict=True):
            filled[i] = tensor
        args, kwargs = unflatten(structure, filled)
        return function(*args, **kwargs)

    tensors = [values[i].detach() for i in places]
    one = call(*tensors)
    if not any(isinstance(leaf, fb.Tensor) for leaf in leaves(one, fb.Tensor)):
        return ""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        both = fb.func.vmap(call, randomness="different")(*[fb.stack([t, t]) for t in tensors])
    pairs = zip(leaves(one, fb.Tensor), leaves(both, fb.Tensor), strict=True)
    if op.name not in LOOSE:
        for x, y in pairs:
            fb.testing.assert_close(y[1], x, equal_nan=True, rtol=1e-4, atol=1e-4)
    return "loop" if any("one example after the other" in str(w.message) for w in told) else "yes"


def write_measured(globs: list[str]) -> None:
    rows = {row["name"]: row for row in measured_rows()}
    for name in operators():
        if any(fnmatch.fnmatch(name, pattern) for pattern in globs or ["*"]):
            rows[name] = {"name": name, **measured(name)}
    columns = ["name", "aliases", "dtypes", "not", "compiled", "derivative", "batching"]
    lines = ["# What comes of PyTorch's samples here. Written by tests/frontend/torch_surface.py.\n",
             "; ".join(columns) + "\n"]
    for name in sorted(set(rows) & set(operators())):
        if (rows[name]["dtypes"], rows[name]["not"]) != ("-", "-"):     # those that no sample came through are no row
            lines.append("; ".join(rows[name][column] for column in columns) + "\n")
    MEASURED.write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:] == ["names"]:
        write_names()
    elif sys.argv[1:2] == ["measured"]:
        write_measured(sys.argv[2:])
    else:
        sys.exit(__doc__)
