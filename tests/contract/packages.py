"""State in modules on disk: packages made for the case, imported outside and inside the function, in every spelling;
code that lies in unusual places."""
from __future__ import annotations

import contextlib
import importlib
import itertools
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import flambeau as fb
from tests.contract.harness import register, same

_numbers = itertools.count()


@contextlib.contextmanager
def package(folder: str = "", **files: str) -> Iterator[ModuleType]:
    """A package of these files (name -> source; __ is a dot in the name) that can be imported while the body runs.
    `import PACKAGE` in the sources means the package itself."""
    name = f"contract_package_{next(_numbers)}"
    with tempfile.TemporaryDirectory() as made:
        path = Path(made, folder) if folder else Path(made)
        root = path / name
        root.mkdir(parents=True)
        (root / "__init__.py").touch()
        for file, source in files.items():
            target = root.joinpath(*file.split("__")).with_suffix(".py") if file != "init" else root / "__init__.py"
            target.parent.mkdir(exist_ok=True)
            (target.parent / "__init__.py").touch()
            target.write_text(textwrap.dedent(source).replace("PACKAGE", name))
        sys.path.insert(0, str(path))
        importlib.invalidate_caches()
        try:
            yield importlib.import_module(name)
        finally:
            sys.path.remove(str(path))
            for loaded in [m for m in sys.modules if m == name or m.startswith(name + ".")]:
                del sys.modules[loaded]


def ones():
    return fb.ones(2)


# -- how the number is read: (files of the package, which module holds the number, edits) ------------------------------

SETTINGS = "K = 2.0\nTABLE = {'k': [2.0]}\nclass Config:\n    k = 2.0\n    class Inner:\n        k = 2.0\n"

READS = {
    "import_of_the_package": ("import PACKAGE.settings\ndef f(x): return x * PACKAGE.settings.K", "K"),
    "import_of_the_package_table": ("import PACKAGE.settings\ndef f(x): return x * PACKAGE.settings.TABLE['k'][0]",
                                    "TABLE"),
    "import_as": ("import PACKAGE.settings as s\ndef f(x): return x * s.K", "K"),
    "from_package_import_module": ("from PACKAGE import settings\ndef f(x): return x * settings.K", "K"),
    "from_module_import_name": ("from PACKAGE.settings import TABLE\ndef f(x): return x * TABLE['k'][0]", "TABLE"),
    "class_of_a_module": ("from PACKAGE import settings\ndef f(x): return x * settings.Config.k", "class"),
    "class_inside_a_class": ("from PACKAGE import settings\ndef f(x): return x * settings.Config.Inner.k", "inner"),
    "from_module_import_class": ("from PACKAGE.settings import Config\ndef f(x): return x * Config.k", "class"),
    "import_inside": ("def f(x):\n    from PACKAGE import settings\n    return x * settings.K", "K"),
    "import_name_inside": ("def f(x):\n    from PACKAGE.settings import K\n    return x * K", "K"),
    "import_as_inside": ("def f(x):\n    import PACKAGE.settings as s\n    return x * s.K", "K"),
    "import_class_inside": ("def f(x):\n    from PACKAGE.settings import Config\n    return x * Config.k", "class"),
    "import_module_function": ("import importlib\ndef f(x): return x * importlib.import_module('PACKAGE.settings').K",
                               "K"),
    "dunder_import": ("def f(x): return x * __import__('PACKAGE.settings', fromlist=['K']).K", "K"),
    "sys_modules": ("import sys\nimport PACKAGE.settings\ndef f(x): return x * sys.modules['PACKAGE.settings'].K", "K"),
    "getattr": ("from PACKAGE import settings\ndef f(x): return x * getattr(settings, 'K')", "K"),
    "vars": ("from PACKAGE import settings\ndef f(x): return x * vars(settings)['K']", "K"),
    "dict_of_a_module": ("from PACKAGE import settings\ndef f(x): return x * settings.__dict__['K']", "K"),
    "helper_in_the_module": ("from PACKAGE import helpers\ndef f(x): return helpers.scaled(x)", "K"),
    "helper_imported_by_name": ("from PACKAGE.helpers import scaled\ndef f(x): return scaled(x)", "K"),
    "helper_imported_inside": ("def f(x):\n    from PACKAGE.helpers import scaled\n    return scaled(x)", "K"),
    "module_in_a_dict": ("from PACKAGE import settings\nmods = {'s': settings}\ndef f(x): return x * mods['s'].K", "K"),
    "module_as_default": ("from PACKAGE import settings\ndef f(x, s=settings): return x * s.K", "K"),
    "module_in_an_object": ("from PACKAGE import settings\nclass Box: pass\nbox = Box()\nbox.s = settings\n"
                            "def f(x): return x * box.s.K", "K"),
    "module_chosen_at_run_time": ("from PACKAGE import settings, helpers\ndef f(x):\n"
                                  "    m = settings if x.ndim == 1 else helpers\n    return x * m.K", "K"),
    "star_import": ("from PACKAGE.settings import *\ndef f(x): return x * TABLE['k'][0] * Config.k", "TABLE"),
    "attribute_of_the_package": ("import PACKAGE\nPACKAGE.K = 2.0\ndef f(x): return x * PACKAGE.K", "package"),
    "module_getattr": ("from PACKAGE import lazy\ndef f(x): return x * lazy.K", "lazy"),
    "decorated_in_the_module": ("from PACKAGE.helpers import decorated\ndef f(x): return decorated(x)", "K"),
    "default_taken_at_definition": ("from PACKAGE import settings\ndef f(x, k=settings.K): return x * k", "K"),
}
HELPERS = """
from flambeau import no_grad
from PACKAGE import settings
K = 5.0
def scaled(x):
    return x * settings.K
@no_grad()
def decorated(x):
    return x * settings.K
"""
LAZY = "table = {'K': 2.0}\ndef __getattr__(name):\n    try:\n        return table[name]\n" \
       "    except KeyError:\n        raise AttributeError(name)\n"


def _set(pack, what, value):
    settings = importlib.import_module(f"{pack.__name__}.settings")
    if what == "K":
        settings.K = value
    elif what == "TABLE":
        settings.TABLE["k"][0] = value
    elif what == "class":
        settings.Config.k = value
    elif what == "inner":
        settings.Config.Inner.k = value
    elif what == "package":
        pack.K = value
    elif what == "lazy":
        importlib.import_module(f"{pack.__name__}.lazy").table["K"] = value


def _read(source, what, folder=""):
    def case(compiled):
        with package(folder, settings=SETTINGS, helpers=HELPERS, lazy=LAZY, main=source) as pack:
            f = compiled(importlib.import_module(f"{pack.__name__}.main").f)
            yield f(ones())
            _set(pack, what, 3.0)
            yield f(ones())

    case.__module__ = __name__
    return case


for _name, (_source, _what) in READS.items():
    register("same", _read(_source, _what), f"read_by_{_name}")


# -- where the code lies ----------------------------------------------------------------------------------------------

for _folder in ("src/app", "my site-packages backup", "dist-packages-mine", "python3", "lib", "flambeau_project",
                "flambeau", "tests", "<frozen app>", "with space and ünicode"):
    register("same", _read("K = 2.0\nfrom PACKAGE import settings\ndef f(x): return x * settings.K", "K", _folder),
             "code_in_a_folder_called_" + "".join(c if c.isalnum() and c.isascii() else "_" for c in _folder))


@same
def module_replaced_in_sys_modules(compiled):
    with package(settings="K = 2.0", main="def f(x):\n    from PACKAGE import settings\n    return x * settings.K") as p:
        f = compiled(importlib.import_module(f"{p.__name__}.main").f)
        yield f(ones())
        other = ModuleType("other")
        other.K = 5.0
        sys.modules[f"{p.__name__}.settings"] = other
        p.settings = other
        yield f(ones())


@same
def module_reloaded(compiled):
    with package(settings="K = 2.0", main="from PACKAGE import settings\ndef f(x): return x * settings.K") as p:
        f = compiled(importlib.import_module(f"{p.__name__}.main").f)
        yield f(ones())
        settings = importlib.import_module(f"{p.__name__}.settings")
        settings.K = 7.0
        yield f(ones())
        importlib.reload(settings)
        yield f(ones())


@same
def function_of_a_module_replaced(compiled):
    source = "from PACKAGE import helpers\ndef f(x): return helpers.scaled(x)"
    with package(settings=SETTINGS, helpers=HELPERS, main=source) as p:
        f = compiled(importlib.import_module(f"{p.__name__}.main").f)
        yield f(ones())
        importlib.import_module(f"{p.__name__}.helpers").scaled = lambda x: x * 100
        yield f(ones())


@same
def function_bound_by_from_import_is_not_replaced(compiled):
    source = "from PACKAGE.helpers import scaled\ndef f(x): return scaled(x)"
    with package(settings=SETTINGS, helpers=HELPERS, main=source) as p:
        main = importlib.import_module(f"{p.__name__}.main")
        f = compiled(main.f)
        yield f(ones())
        importlib.import_module(f"{p.__name__}.helpers").scaled = lambda x: x * 100
        yield f(ones())
        main.scaled = lambda x: x * 10
        yield f(ones())


@same
def module_counts_calls(compiled):
    source = "calls = 0\ndef f(x):\n    global calls\n    calls += 1\n    return x * calls"
    with package(main=source) as p:
        main = importlib.import_module(f"{p.__name__}.main")
        f = compiled(main.f)
        yield f(ones())
        yield f(ones())
        yield main.calls


@same
def helper_module_counts_calls(compiled):
    source = "from PACKAGE import helper\ndef f(x): return helper.step(x)"
    helper = "calls = 0\ndef step(x):\n    global calls\n    calls += 1\n    return x"
    with package(helper=helper, main=source) as p:
        f = compiled(importlib.import_module(f"{p.__name__}.main").f)
        f(ones())
        f(ones())
        yield importlib.import_module(f"{p.__name__}.helper").calls


@same
def module_attribute_written_inside(compiled):
    source = "from PACKAGE import settings\ndef f(x):\n    settings.last = settings.K + 1\n    return x * settings.K"
    with package(settings="K = 2.0\nlast = 0", main=source) as p:
        f = compiled(importlib.import_module(f"{p.__name__}.main").f)
        settings = importlib.import_module(f"{p.__name__}.settings")
        yield f(ones())
        yield settings.last
        settings.last = 0
        yield f(ones())
        yield settings.last


@same
def conditional_import(compiled):
    source = """
    def f(x):
        try:
            from PACKAGE.optional import K
        except ImportError:
            K = 5.0
        return x * K
    """
    with package(main=source) as p:
        f = compiled(importlib.import_module(f"{p.__name__}.main").f)
        yield f(ones())
        made = sys.modules[f"{p.__name__}.optional"] = ModuleType("optional")
        made.K = 2.0
        yield f(ones())


@same
def class_of_a_package_with_methods(compiled):
    source = """
    from PACKAGE.layers import Layer
    layer = Layer()
    def f(x):
        return layer(x)
    """
    layers = """
    from flambeau import nn
    from PACKAGE import settings
    class Layer(nn.Module):
        gain = 2.0
        def forward(self, x):
            return x * settings.K * self.gain
    """
    with package(settings="K = 2.0", layers=layers, main=source) as p:
        f = compiled(importlib.import_module(f"{p.__name__}.main").f)
        yield f(ones())
        importlib.import_module(f"{p.__name__}.settings").K = 3.0
        yield f(ones())
        importlib.import_module(f"{p.__name__}.layers").Layer.gain = 5.0
        yield f(ones())


@same
def nested_packages(compiled):
    source = "import PACKAGE\ndef f(x): return x * PACKAGE.sub.inner.K"
    with package(sub__inner="K = 2.0", main=source) as p:
        inner = importlib.import_module(f"{p.__name__}.sub.inner")
        f = compiled(importlib.import_module(f"{p.__name__}.main").f)
        yield f(ones())
        inner.K = 3.0
        yield f(ones())


@same
def relative_import_inside(compiled):
    source = """
    def f(x):
        from . import settings
        from .settings import TABLE
        return x * settings.K * TABLE['k'][0]
    """
    with package(settings=SETTINGS, main=source) as p:
        f = compiled(importlib.import_module(f"{p.__name__}.main").f)
        yield f(ones())
        settings = importlib.import_module(f"{p.__name__}.settings")
        settings.K = 3.0
        yield f(ones())
        settings.TABLE["k"][0] = 5.0
        yield f(ones())
