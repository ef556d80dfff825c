"""The package ember as one learner has it: a file of theirs where they have begun one, else the solution."""
from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location, spec_from_loader
from pathlib import Path
from types import ModuleType

from flambeau.course.exercises import EXERCISES, SOLUTIONS, Exercise
from flambeau.ir.op import OPS

INIT = '''"""Your library. What you have not begun yet is the course's."""
from flambeau.course.library import Untouched

__path__ = Untouched.path_of(__path__)
'''


class Untouched(MetaPathFinder):
    """Finds the solution of what lies in the folders as it was started: nothing has been written there yet."""

    def __init__(self, folders: Sequence[str]) -> None:
        starting = {f"{e.module}.py": e for e in EXERCISES}
        self.modules = {
            f"ember.{path.stem}" for folder in folders for path in Path(folder).glob("*.py")
            if path.name in starting and path.read_text(encoding="utf-8") == starting[path.name].starting_text()}

    def find_spec(self, fullname: str, _path: Sequence[str] | None, _target: ModuleType | None = None) -> ModuleSpec | None:
        if fullname not in self.modules:
            return None
        return spec_from_file_location(fullname, SOLUTIONS / f"{fullname.split('.')[1]}.py")

    @classmethod
    def path_of(cls, folders: Sequence[str]) -> list[str]:
        """Where the modules of a learner's package are looked for; what is untouched is found from now on."""
        sys.meta_path.insert(0, cls(folders))
        return [*folders, str(SOLUTIONS)]


def prepare_folder(folder: Path) -> None:
    """A folder in which `import ember` is the learner's library."""
    package = folder / "ember"
    package.mkdir(parents=True, exist_ok=True)
    init = package / "__init__.py"
    if not init.exists():
        init.write_text(INIT, encoding="utf-8")


@contextmanager
def ember(folders: Sequence[Path] = ()) -> Iterator[ModuleType]:
    """While it lasts `import ember.x` takes x from the first of the folders that has begun it, else from the solutions."""
    def forget() -> dict[str, ModuleType]:
        return {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] == "ember"}

    before, ops, finders = forget(), set(OPS), list(sys.meta_path)
    package = ModuleType("ember")
    package.__path__ = Untouched.path_of(list(map(str, folders)))
    sys.modules["ember"] = package
    try:
        yield package
    finally:
        forget()
        sys.meta_path[:] = finders
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
