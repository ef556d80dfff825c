"""Writes docs/surface.md, from PyTorch's names (torch_names.txt), from what came of its samples here
(torch_measured.txt), and from what Flambeau has now. torch_surface.py and
torch_module_surface.py write the files.

    python tests/frontend/surface_table.py
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import flambeau as fb

HERE = Path(__file__).parent
NAMES, MEASURED = HERE / "torch_names.txt", HERE / "torch_measured.txt"
MODULES_MEASURED = HERE / "torch_modules_measured.txt"
PAGE = HERE.parent.parent / "docs" / "surface.md"

# Why a name is not there: the first pattern that is found in it.
REASONS = {
    "complex32": r"^chalf$|^complex32$",
    "sparse": r"sparse|^c?crow_|^ccol_|^c?col_|row_indices|^indices|^values|smm$|sspaddmm|hspmm",
    "quantized": r"quant|^q_|^qint|^quint|^qscheme$|^int_repr$",
    "uint16, and numbers of 8 bits and fewer": r"^u?int\d$|^uint16$|^bits?\d*|^float[48]_|^scaled_",
    "nested": r"^jagged$|^to_padded_tensor$",
    "devices": r"^(ipu|mtia|xpu|Event|Stream|get_device_module|AcceleratorError|OutOfMemoryError|to_mkldnn)$",
    "distributed": r"Parallel",
    "symbolic shapes": r"^sym_|^Sym",
    "places in memory": r"_strided$|empty_permuted|dim_order|memory_format|contiguous_format|storage_type|^from_file$",
    "Python for each element": r"^apply_$|^map_$",
}
OTHER = "not implemented"
HEAD = """# The surface

Written by `tests/frontend/surface_table.py`: what PyTorch 2.13 documents, and what of it is here. Everything that is
missing raises `NotImplementedError` with its own name. [pytorch.md](pytorch.md) tells what differs where a name is
here, and [edges.md](edges.md) what differs at the edges of numbers.

## Names

| namespace | in PyTorch | here | missing |
|---|---|---|---|
"""
TABLE_HEAD = """
## Function by function

What comes of PyTorch's own samples of its operators (`torch.testing._internal`, op_db): a few of each are run here beside
PyTorch, and results, dtypes and shapes compared.

- **dtypes**: what the function takes, eagerly, with PyTorch's results. Measured are float16, bfloat16, float32, float64
  ("floats" where all four agree), uint8 and int64 ("integers"), bool and complex64 ("complex"). *not*: what PyTorch
  takes besides, or where a sample differs (`as_strided` sees the elements of its tensor alone, for one).
- **compiled**: the same results inside `@fb.compile`. "in part": results whose shape depends on data, or that are no
  tensors, are refused there with an error that says so.
- **derivative**: gradients agree in float64, or complex128. "-": PyTorch has none, or there is nothing to compare;
  "in part" and "no": [edges.md](edges.md) tells why ours is another.
- **batching**: `fb.func.vmap` gives each example its result. "loop": by one example after the other, with a warning.
  "in part" and "no": not where the result's shape depends on data or numbers are taken out of tensors, or not for all
  samples.
- **x.f**, **x.f_**, **out=**: the method; the method or function that overwrites x, or `inplace=`; a tensor for results.

| function | dtypes | compiled | derivative | batching | x.f | x.f_ | out= |
|---|---|---|---|---|---|---|---|
"""
MODULES_HEAD = """
## Modules, optimizers and transforms

What comes of PyTorch's own samples of its Modules (module_db), of the settings of its optimizers (optim_db: three steps of
two small layers), and of a function under each transform, beside PyTorch; the columns are those of the table above.
Measured are the four floating-point dtypes, for optimizers float32 and float64 (in float32 the sixty steps of LBFGS part).
*derivative*: of Modules with respect to their arguments and parameters, of transforms once more by `grad`; *batching*:
`vmap` over the arguments, with the same parameters.

| name | dtypes | compiled | derivative | batching |
|---|---|---|---|---|
"""
GROUPS = {"f16 bf16 f32 f64": "floats", "u8 i64": "integers", "c64": "complex"}


# -- data -------------------------------------------------------------------------------------------------------------


def namespaces() -> dict[str, list[str]]:
    """PyTorch's public names by namespace."""
    found: dict[str, list[str]] = {}
    names: list[str] = []
    for line in NAMES.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            names = found[line.strip("[]")] = []
        elif not line.startswith("#"):
            names += line.split()
    return found


def measured_rows() -> list[dict[str, str]]:
    """The lines of torch_measured.txt, by column."""
    return rows_of(MEASURED)


def rows_of(path: Path) -> list[dict[str, str]]:
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    columns = lines[0].split("; ")
    return [dict(zip(columns, line.split("; "), strict=True)) for line in lines[1:]]


# -- names ------------------------------------------------------------------------------------------------------------


def has(namespace: str, name: str) -> bool:
    """Whether a name of PyTorch's is here."""
    if namespace == "torch.Tensor":
        return hasattr(fb.Tensor, name)
    return hasattr(importlib.import_module(namespace.replace("torch", "flambeau", 1)), name)


def reason(name: str) -> str:
    return next((said for said, pattern in REASONS.items() if re.search(pattern, name)), OTHER)


def listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def names_part() -> str:
    table, sections = [], []
    known: list[int] = []
    there: list[int] = []
    # There, but to say that they are not.
    refused = {f"torch.{row['name']}" for row in measured_rows() if row["dtypes"] == row["compiled"] == "-"}
    for namespace, names in namespaces().items():
        here = [name for name in names if has(namespace, name) and f"{namespace}.{name}" not in refused]
        missing: dict[str, list[str]] = {}
        for name in names:
            if name not in here:
                missing.setdefault(reason(name), []).append(name)
        known.append(len(names))
        there.append(len(here))
        ours = namespace.replace("torch", "fb", 1)
        why = ", ".join(f"{len(group)} {said}" for said, group in sorted(missing.items()))
        table.append(f"| `{ours}` | {len(names)} | {len(here)} | {why or '-'} |\n")
        lines = [f"- {said}: {listed(missing[said])}\n" for said in (*REASONS, OTHER) if said in missing]
        sections.append(f"\n### {ours}\n\n{listed(here)}\n" + ("\nMissing:\n\n" + "".join(lines) if lines else ""))
    total = f"| all | {sum(known)} | {sum(there)} | |\n"
    return "".join([HEAD, *table, total, *sections])


# -- functions --------------------------------------------------------------------------------------------------------


def dtypes_cell(row: dict[str, str]) -> str:
    taken, missing = grouped(row["dtypes"]), grouped(row["not"])
    return " ".join([taken] * (taken != "-") + [f"*not* {missing}"] * (missing != "-"))


def grouped(dtypes: str) -> str:
    for several, name in GROUPS.items():
        dtypes = re.sub(rf"(?<!\S){several}(?!\S)", name, dtypes)
    return ", ".join(dtypes.split())


def called(name: str) -> Any:
    """Our function of an operator's name, or None."""
    found: Any = fb
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


def takes(function: Any, parameter: str) -> bool:
    try:
        return parameter in inspect.signature(function, follow_wrapped=False).parameters or (
            parameter in inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return False


def function_row(row: dict[str, str], methods: set[str]) -> str:
    name = row["name"]
    home, _, last = name.rpartition(".")
    function, is_method = called(name), home in ("", "nn.functional")
    aliases = [] if row["aliases"] == "-" else [alias.removeprefix("torch.") for alias in row["aliases"].split()]
    over = called(f"{name}_") or (getattr(fb.Tensor, f"{last}_", None) if is_method else None)
    cells = (listed([name, *[alias for alias in aliases if called(alias) is not None]]), dtypes_cell(row), row["compiled"],
             row["derivative"], row["batching"], "yes" if is_method and last in methods else "-",
             "yes" if over is not None else "inplace=" if takes(function, "inplace") else "-",
             "yes" if takes(function, "out") else "-")
    return "| " + " | ".join(cells) + " |\n"


def page() -> str:
    methods = {name for name in namespaces()["torch.Tensor"] if has("torch.Tensor", name)}
    modules = [f"| `{row['name']}` | {dtypes_cell(row)} | {row['compiled']} | {row['derivative']} | {row['batching']} |\n"
               for row in rows_of(MODULES_MEASURED)]
    return "".join([names_part(), TABLE_HEAD, *[function_row(row, methods) for row in measured_rows()],
                    MODULES_HEAD, *modules])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
