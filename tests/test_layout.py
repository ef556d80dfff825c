"""Who may import whom. Imports are read with ast, those inside functions too, so nothing need be importable."""

from __future__ import annotations

import ast
import functools
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "flambeau"

# part -> the parts it may import besides itself. A part is the first name under flambeau; whatever is not named
# here (the package itself, its command line, the demo, public aliases such as flambeau.nn) is the face.
GROUND = {"errors", "warned", "config"}
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "warned": {"errors"},
    "config": {"errors", "warned"},
    "ir": GROUND,
    "passes": GROUND | {"ir"},
    "codegen": GROUND | {"ir"},
    "runtime": GROUND | {"ir"},
    "kinds": GROUND | {"ir", "passes", "codegen", "runtime"},
    "kept": GROUND | {"ir", "codegen", "runtime"},
    "backends": GROUND | {"ir", "passes", "codegen", "runtime", "kinds", "kept"},
    "verified": GROUND | {"ir", "passes", "runtime", "backends"},
    "linking": GROUND | {"ir", "passes", "codegen", "runtime", "backends", "verified"},
    "provenance": GROUND | {"ir", "passes"},
    "repro": GROUND | {"ir", "passes"},
    "compiler": GROUND | {"ir", "passes", "runtime", "kept", "backends", "verified", "linking", "provenance", "repro"},
    "frontend": GROUND | {"ir", "passes", "codegen", "runtime", "backends", "kept", "compiler", "provenance"},
}
FACE = "flambeau"

# Rooms of a part, from the ground up: a room (a folder, or a file beside them) may import those of the lines above its
# own, at run time. The part's __init__ is its face and is not held.
ROOMS: dict[str, list[str]] = {
    "ir": [
        "outside records",
        "collector dtypes gpu location markup philox quantiles quiet sealed target tokens",
        "answers",
        "dims",
        "facts size_text",
        "index_maps types",
        "literal",
        "op",
        "devices",
        "attributes evaluation kinds ops",
        "builder kernel",
        "graph",
    ],
    "passes": ["graph lowering", "fusion memory", "pipeline", "cpu cuda"],
    "codegen.cuda": ["expressions library text", "code intrinsics lockstep", "wide", "tiles", "tensor_cores",
                     "attention contractions emulator lanes scatters sorts toolchain transposes",
                     "disassemble loops occupancy worker", "workers", "compile"],
    "codegen.cpu": ["llvm toolchain", "vmath", "scalar_ops", "attention contraction loops", "backend"],
    "backends": ["base cudnn mkl mkldnn mps openmp peaks", "cpu cuda", "interpret", "registry"],
    "frontend": [
        "active checks epoch method_types missing pytree where words",
        "tensor",
        "tape",
        "random scalars",
        "again control",
        "data functions trace",
        "facts process typed",
        "methods nn",
        "func report",
        "call distributions einops optim",
        "amp exchange profile",
    ],
}
# What looks up for types alone: an op's rules are given values and a builder of graphs, a tensor has the record that
# made it, and whoever traces is told of both.
TYPES_ONLY = {
    ("ir", "answers", "dims"),
    ("ir", "op", "builder"),
    ("ir", "op", "graph"),
    ("ir", "ops", "builder"),
    ("ir", "ops", "graph"),
    ("ir", "ops", "kernel"),
    ("ir", "kinds", "kernel"),
    ("ir", "kinds", "graph"),
    ("ir", "devices", "graph"),
    ("ir", "builder", "graph"),
    ("frontend", "active", "tensor"),
    ("frontend", "active", "tape"),
    ("frontend", "tensor", "tape"),
}
# What still points the wrong way. Whoever untangles one takes it out.
TANGLED: set[tuple[str, str]] = set()


def part_of(module: str) -> str:
    """flambeau.passes.fusion.fuse -> passes; anything not in the table -> flambeau, the face."""
    names = module.split(".")
    return names[1] if len(names) > 1 and names[1] in MAY_IMPORT else FACE


def module_of(path: Path, package: Path) -> str:
    names = list(path.relative_to(package.parent).with_suffix("").parts)
    return ".".join(names[:-1] if names[-1] == "__init__" else names)


@functools.cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


@functools.cache
def statements_in(path: Path) -> list[ast.AST]:
    """All statements of a file, which may import, and all else of it where it names a function that does."""
    if re.search(r"import_module|__import__", path.read_text(encoding="utf-8")):
        return list(ast.walk(tree_of(path)))
    found: list[ast.AST] = []
    left: list[ast.AST] = [tree_of(path)]
    while left:
        node = left.pop()
        found.append(node)
        left += (inner for field in ("body", "orelse", "finalbody", "handlers", "cases")
                 for inner in getattr(node, field, []) if not isinstance(node, ast.expr))
    return found


def imports_of(path: Path, package: Path) -> Iterator[tuple[int, str]]:
    """(line, flambeau module) for every import statement of the file, wherever it stands."""
    module = module_of(path, package)
    home = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    for node in statements_in(path):
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


def room_of(module: str, part: str) -> str | None:
    """flambeau.frontend.tape.dispatch in frontend -> tape; None outside of the part, and for its __init__."""
    prefix = f"flambeau.{part}."
    return module.removeprefix(prefix).split(".")[0] if module.startswith(prefix) else None


def for_types(path: Path) -> set[int]:
    """The lines under `if TYPE_CHECKING:`."""
    blocks = [
        node
        for node in statements_in(path)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    return {line for node in blocks for part in node.body for line in range(part.lineno, part.end_lineno + 1)}


def modules_imported(path: Path, package: Path) -> Iterator[tuple[int, str]]:
    """Like imports_of, with `from flambeau.ir import dtypes` as flambeau.ir.dtypes: names that are modules."""
    named = {
        (node.lineno, node.module): [alias.name for alias in node.names]
        for node in statements_in(path)
        if isinstance(node, ast.ImportFrom)
    }
    for line, module in imports_of(path, package):
        folder = package.parent.joinpath(*module.split("."))
        names = named.get((line, module), [])
        inner = [name for name in names if (folder / name).is_dir() or list(folder.glob(f"{name}.py*"))]
        yield from ((line, f"{module}.{name}") for name in inner)
        if len(inner) < len(names) or not names:
            yield line, module


def wrong_rooms(package: Path, part: str, tangled: set[tuple[str, str]]) -> list[str]:
    """`file:line: which room imports which` for imports within a part that do not point down."""
    level_of = {room: level for level, rooms in enumerate(ROOMS[part]) for room in rooms.split()}
    found = []
    for path in sorted(package.joinpath(*part.split(".")).rglob("*.py")):
        importer = module_of(path, package)
        room = room_of(importer, part)
        if room is None:
            continue
        where = path.relative_to(package.parent)
        if room not in level_of:
            found.append(f"{where}:1: {room} is no room of {part}: give it a line in ROOMS")
            continue
        type_lines = for_types(path)
        for line, module in modules_imported(path, package):
            other = room_of(module, part)
            if other in (None, room) or level_of.get(other, len(ROOMS[part])) < level_of[room]:
                continue
            if line in type_lines and (part, room, other) in TYPES_ONLY or (importer, module) in tangled:
                continue
            found.append(f"{where}:{line}: {room} imports {module}, which lies above it or beside it")
    return found


@pytest.mark.parametrize("part", ROOMS)
def test_rooms_import_what_lies_below_them(part: str) -> None:
    assert not (wrong := wrong_rooms(PACKAGE, part, TANGLED)), "\n".join(wrong)


def test_what_is_called_tangled_is() -> None:
    wrong = [line for part in ROOMS for line in wrong_rooms(PACKAGE, part, set())]
    assert len(wrong) == len(TANGLED), "take what was untangled out of TANGLED"


def test_rooms_in_the_table_exist() -> None:
    missing = [
        f"{part}.{room}"
        for part, levels in ROOMS.items()
        for room in " ".join(levels).split()
        if not list(PACKAGE.joinpath(*part.split(".")).glob(f"{room}*"))
    ]
    assert not missing, f"rooms in the table that the package lacks: {missing}"


@pytest.mark.parametrize(
    ("path", "source", "line"),
    [
        ("frontend/tape/dispatch.py", "from flambeau.frontend.trace.trace import Trace\n", 1),
        ("frontend/functions/views.py", "import os\nfrom flambeau.frontend import methods\n", 2),
        ("frontend/tape/walk.py", "if TYPE_CHECKING:\n    from flambeau.frontend.trace import trace\n", 2),
        ("frontend/tensor/size.py", "from flambeau.frontend.tape.autograd import Record\n", 1),
        ("frontend/cellar/wine.py", "import os\n", 1),
        ("ir/dtypes.py", "from flambeau.ir import ops\n", 1),
        ("ir/kernel/text.py", "from flambeau.ir.graph import Graph\n", 1),
        ("passes/lowering/loops.py", "from flambeau.passes.fusion.fuse import fuse\n", 1),
        ("codegen/cpu/loops/tasks.py", "from flambeau.codegen.cpu.contraction.plan import Plan\n", 1),
    ],
)
def test_wrong_room_is_found_with_file_and_line(tmp_path: Path, path: str, source: str, line: int) -> None:
    package = tmp_path / "flambeau"
    for folder in ("frontend/tape", "frontend/trace", "ir/ops"):
        (package / folder).mkdir(parents=True)
    (package / "frontend/methods.py").touch()
    (package / path).parent.mkdir(parents=True, exist_ok=True)
    (package / path).write_text(source, encoding="utf-8")
    found = [line for part in ROOMS for line in wrong_rooms(package, part, set())]
    assert len(found) == 1, found
    assert found[0].startswith(f"flambeau/{path}:{line}: ")


@pytest.mark.parametrize(
    ("path", "source"),
    [
        (
            "frontend/call/entry.py",
            "from flambeau.frontend.trace import trace\nfrom flambeau.frontend import active\n",
        ),
        (
            "frontend/tensor/size.py",
            "if TYPE_CHECKING:\n    from flambeau.frontend.tape.autograd import Record\n",
        ),
        ("frontend/__init__.py", "from flambeau.frontend.call.compile import compile\n"),
        (
            "ir/graph/text.py",
            "from flambeau.ir import ops, Graph\nfrom flambeau.ir.graph.structure import Node\n",
        ),
    ],
)
def test_right_room_is_allowed(tmp_path: Path, path: str, source: str) -> None:
    file = tmp_path / "flambeau" / path
    file.parent.mkdir(parents=True)
    file.write_text(source, encoding="utf-8")
    assert [line for part in ROOMS for line in wrong_rooms(tmp_path / "flambeau", part, set())] == []


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
        ("compiler.py", "from flambeau.codegen.cpu.backend import compile_kernels\n", 1),
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
        ("compiler.py", "from flambeau import backends, ir, passes, runtime\n"),
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
    optional = {"scipy", "torch", "jax", "sklearn", "matplotlib", "pytest", "hypothesis"}
    assert not optional & {name.split(">")[0].split("=")[0] for name in project["dependencies"]}
    wrong = []
    for path in PACKAGE.rglob("*.py"):
        if path.is_relative_to(PACKAGE / "demo") or path.is_relative_to(PACKAGE / "course"):
            continue
        for node in tree_of(path).body:
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


def known_devices(package: Path) -> list[str]:
    """Those whose code has a room: codegen/NAME."""
    return sorted(path.name for path in (package / "codegen").iterdir() if (path / "__init__.py").exists())


def strangers_in_rooms_of_devices(package: Path) -> list[str]:
    """Imports of passes.NAME and codegen.NAME by anyone but themselves, kinds, and the backend of that name."""
    rooms = {f"flambeau.{part}.{name}": name for name in known_devices(package) for part in ("passes", "codegen")}
    wrong = []
    for path in sorted(package.rglob("*.py")):
        importer = module_of(path, package)
        if part_of(importer) in (FACE, "kinds"):
            continue
        for line, module in imports_of(path, package):
            device = ".".join(module.split(".")[:3])
            if device in rooms and not importer.startswith(device) and not f"{importer}.".startswith(
                    f"flambeau.backends.{rooms[device]}."):
                wrong.append(f"{path.relative_to(package.parent)}:{line}: {module}")
    return wrong


def test_rooms_of_a_device_are_known_to_its_backend_and_to_kinds_only() -> None:
    assert not (wrong := strangers_in_rooms_of_devices(PACKAGE)), "\n".join(wrong)


def test_strangers_in_rooms_of_another_device_are_found(tmp_path: Path) -> None:
    package = tmp_path / "flambeau"
    for path, source in {"codegen/gpu/__init__.py": "", "backends/gpu.py": "from flambeau.codegen.gpu import emit\n",
                         "kinds/loop.py": "from flambeau.codegen.gpu import emit\n",
                         "backends/cpu.py": "from flambeau.codegen.gpu import emit\n",
                         "passes/fusion/fuse.py": "import os\nfrom flambeau.passes.gpu import limits\n"}.items():
        (package / path).parent.mkdir(parents=True, exist_ok=True)
        (package / path).write_text(source, encoding="utf-8")
    assert strangers_in_rooms_of_devices(package) == ["flambeau/backends/cpu.py:1: flambeau.codegen.gpu",
                                                      "flambeau/passes/fusion/fuse.py:2: flambeau.passes.gpu"]


def test_files_of_tests_have_names_of_their_own() -> None:
    """pytest imports a file by its name alone: of two with the same name in different folders one is never run."""
    folders: dict[str, list[str]] = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        folders.setdefault(path.name, []).append(str(path.relative_to(ROOT)))
    assert not (wrong := [paths for paths in folders.values() if len(paths) > 1]), wrong


def test_llvm_is_known_to_code_generation_kinds_and_the_loader_only() -> None:
    wrong = []
    for path in sorted(PACKAGE.rglob("*.py")):
        if part_of(module_of(path, PACKAGE)) in ("codegen", "kinds", "runtime", FACE):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else \
                [str(node.module)] if isinstance(node, ast.ImportFrom) and not node.level else []
            wrong += [f"{path.relative_to(ROOT)}:{node.lineno}: {n}" for n in names if n.split(".")[0] == "llvmlite"]
    assert not wrong, "\n".join(wrong)
