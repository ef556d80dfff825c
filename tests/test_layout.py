"""Who may import whom. Imports are read with ast, those inside functions too, so nothing need be importable."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "flambeau"

# part -> the parts it may import besides itself. A part is the first name under flambeau; whatever is not named
# here (the package itself, its command line, the demo, public aliases such as flambeau.nn) is the face.
GROUND = {"errors", "config"}
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "config": {"errors"},
    "ir": GROUND,
    "passes": GROUND | {"ir"},
    "codegen": GROUND | {"ir"},
    "runtime": GROUND | {"ir"},
    "backends": GROUND | {"ir", "codegen", "runtime"},
    "verified": GROUND | {"ir", "passes", "runtime", "backends"},
    "linking": GROUND | {"ir", "passes", "runtime", "backends", "verified"},
    "compiler": GROUND | {"ir", "passes", "codegen", "runtime", "backends", "verified", "linking"},
    "frontend": GROUND | {"ir", "passes", "codegen", "runtime", "backends", "compiler"},
}
FACE = "flambeau"


def part_of(module: str) -> str:
    """flambeau.passes.fusion.fuse -> passes; anything not in the table -> flambeau, the face."""
    names = module.split(".")
    return names[1] if len(names) > 1 and names[1] in MAY_IMPORT else FACE


def module_of(path: Path, package: Path) -> str:
    names = list(path.relative_to(package.parent).with_suffix("").parts)
    return ".".join(names[:-1] if names[-1] == "__init__" else names)


def imports_of(path: Path, package: Path) -> Iterator[tuple[int, str]]:
    """(line, flambeau module) for every import statement of the file, wherever it stands."""
    module = module_of(path, package)
    home = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names if is_ours(alias.name))
        elif isinstance(node, ast.ImportFrom):
            base = home[: len(home) - node.level + 1] if node.level else []
            origin = ".".join(base + ([node.module] if node.module else []))
            if origin == "flambeau":  # from flambeau import passes: the names are what is imported
                yield from ((node.lineno, f"flambeau.{alias.name}") for alias in node.names)
            elif is_ours(origin):
                yield node.lineno, origin
        elif (
            isinstance(node, ast.Call) and called_name(node) in {"import_module", "__import__"} and node.args
        ):
            target = node.args[0]
            if isinstance(target, ast.Constant) and isinstance(target.value, str) and is_ours(target.value):
                yield node.lineno, target.value


def is_ours(module: str) -> bool:
    return module.split(".")[0] == "flambeau"


def called_name(node: ast.Call) -> str:
    match node.func:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""


def violations(package: Path) -> list[str]:
    """`file:line: who imports whom` for every import that points the wrong way."""
    found = []
    for path in sorted(package.rglob("*.py")):
        importer = part_of(module_of(path, package))
        if importer == FACE:
            continue
        for line, module in imports_of(path, package):
            if part_of(module) not in MAY_IMPORT[importer] | {importer}:
                allowed = ", ".join(sorted(MAY_IMPORT[importer])) or "nothing of ours"
                where = path.relative_to(package.parent)
                found.append(f"{where}:{line}: {importer} imports {module}; it may import {allowed}")
    return found


def test_imports_point_from_the_face_to_the_ground() -> None:
    assert not (wrong := violations(PACKAGE)), "\n".join(wrong)


def test_table_of_parts_matches_the_package() -> None:
    missing = [part for part in MAY_IMPORT if not list(PACKAGE.glob(f"{part}.py")) + list(PACKAGE.glob(part))]
    assert not missing, f"parts in the table that the package lacks: {missing}"


@pytest.mark.parametrize(
    ("path", "source", "line"),
    [
        ("passes/fuse.py", "import os\nimport flambeau.runtime.pool\n", 2),
        ("passes/fuse.py", "def f():\n    from flambeau.codegen import cpu\n", 2),
        ("codegen/cpu/emit.py", "from ...passes import fuse\n", 1),
        ("codegen/__init__.py", "from ..runtime import arena\n", 1),
        ("ir/graph.py", "from flambeau import frontend\n", 1),
        ("ir/graph.py", "import flambeau as fb\n", 1),
        ("runtime/pool.py", "import importlib\nimportlib.import_module('flambeau.passes')\n", 2),
        ("compiler.py", "from flambeau.frontend.tensor.tensor import Tensor\n", 1),
        ("errors.py", "from . import config\n", 1),
    ],
)
def test_wrong_direction_is_found_with_file_and_line(
    tmp_path: Path, path: str, source: str, line: int
) -> None:
    file = tmp_path / "flambeau" / path
    file.parent.mkdir(parents=True)
    file.write_text(source, encoding="utf-8")
    found = violations(tmp_path / "flambeau")
    assert len(found) == 1, found
    assert found[0].startswith(f"flambeau/{path}:{line}: ")


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("passes/fuse.py", "from flambeau.ir.graph import Graph\nfrom . import pipeline\nimport networkx\n"),
        ("compiler.py", "from flambeau import codegen, ir, passes, runtime\n"),
        ("frontend/tensor.py", "from .. import config, compiler\nfrom ..ir import dtypes\n"),
        ("demo/pictures.py", "import flambeau as fb\nfrom flambeau.frontend import nn\n"),
    ],
)
def test_right_direction_is_allowed(tmp_path: Path, path: str, source: str) -> None:
    file = tmp_path / "flambeau" / path
    file.parent.mkdir(parents=True)
    file.write_text(source, encoding="utf-8")
    assert violations(tmp_path / "flambeau") == []


def test_base_dependencies_are_all_that_the_package_imports_at_once() -> None:
    """Optional packages (PyTorch, JAX, scikit-learn, matplotlib) are imported where they are used, not on top."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    optional = {"torch", "jax", "sklearn", "matplotlib", "pytest", "hypothesis"}
    assert not optional & {name.split(">")[0].split("=")[0] for name in project["dependencies"]}
    wrong = []
    for path in PACKAGE.rglob("*.py"):
        if path.is_relative_to(PACKAGE / "demo"):
            continue
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            match node:
                case ast.Import(names=aliases):
                    names = [alias.name for alias in aliases]
                case ast.ImportFrom(module=str(module), level=0):
                    names = [module]
                case _:
                    names = []
            if {name.split(".")[0] for name in names} & optional:
                wrong.append(f"{path.relative_to(ROOT)}:{node.lineno}: {names}")
    assert not wrong, "\n".join(wrong)


def test_llvm_is_known_to_code_generation_and_the_loader_only() -> None:
    wrong = []
    for path in sorted(PACKAGE.rglob("*.py")):
        if part_of(module_of(path, PACKAGE)) in ("codegen", "runtime", FACE):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else \
                [str(node.module)] if isinstance(node, ast.ImportFrom) and not node.level else []
            wrong += [f"{path.relative_to(ROOT)}:{node.lineno}: {n}" for n in names if n.split(".")[0] == "llvmlite"]
    assert not wrong, "\n".join(wrong)
