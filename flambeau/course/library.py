"""The package ember as one learner has it: a file of theirs where there is one, else the solution."""
from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import SourceFileLoader
from importlib.util import spec_from_loader
from pathlib import Path
from types import ModuleType

from flambeau.course.exercises import SOLUTIONS, Exercise
from flambeau.ir.op import OPS

INIT = '''"""Your library. What you have not written yet is the course's."""
from flambeau.course.exercises import SOLUTIONS

__path__ = [*__path__, str(SOLUTIONS)]
'''


def prepare_folder(folder: Path) -> None:
    """A folder in which `import ember` is the learner's library."""
    package = folder / "ember"
    package.mkdir(parents=True, exist_ok=True)
    init = package / "__init__.py"
    if not init.exists():
        init.write_text(INIT, encoding="utf-8")


@contextmanager
def ember(folders: Sequence[Path] = ()) -> Iterator[ModuleType]:
    """While it lasts `import ember.x` takes x from the first of the folders that has it, else from the solutions."""
    def forget() -> dict[str, ModuleType]:
        return {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] == "ember"}

    before, ops = forget(), set(OPS)
    package = ModuleType("ember")
    package.__path__ = [*map(str, folders), str(SOLUTIONS)]
    sys.modules["ember"] = package
    try:
        yield package
    finally:
        forget()
        sys.modules.update(before)
        for name in set(OPS) - ops:         # what a learner declares is gone with their library
            del OPS[name]


def run_file(exercise: Exercise, path: Path) -> ModuleType:
    """The learner's file as ember's module, whatever else is there. Python's own errors come through."""
    name = f"ember.{exercise.module}"
    loader = SourceFileLoader(name, str(path))
    spec = spec_from_loader(name, loader)
    assert spec is not None, "a loader is given"
    module = ModuleType(name)
    module.__spec__, module.__file__ = spec, str(path)
    module.__package__ = "ember"
    sys.modules[name] = module
    exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), module.__dict__)
    setattr(sys.modules["ember"], exercise.module, module)
    return module
