"""Every warning of ours, by its id. A warning ends with that, `[FB013]`; docs/warnings.md, which is written from this
table, says what it means and what to do.

    warn("FB013", "vmap: eigh has no batching rule and is applied to one example after the other", stacklevel=2)

    warnings.filterwarnings("ignore", category=fb.errors.FlambeauWarning)       # all of them
    warnings.filterwarnings("ignore", message=r".*\\[FB013\\]")                 # one
"""
from __future__ import annotations

import warnings
from collections.abc import Mapping

from flambeau.errors import (
    FlambeauDeprecationWarning,
    FlambeauFutureWarning,
    FlambeauRuntimeWarning,
    FlambeauWarning,
)

__all__ = ["WARNINGS", "Told", "page", "warn"]


class Told:
    """when: it is given; remedy: what to do."""

    __slots__ = ("category", "remedy", "when")

    def __init__(self, when: str, remedy: str, category: type[FlambeauWarning] = FlambeauWarning) -> None:
        self.when, self.remedy, self.category = when, remedy, category


WARNINGS: Mapping[str, Told] = {
    "FB001": Told("An environment variable `FLAMBEAU_...` holds what makes no sense for it. It is ignored, so that a slip "
                  "in a shell keeps no program from starting.", "Mend or unset the variable; "
                  "[inspect.md](inspect.md#the-environment-and-its-twin-in-python) lists them.", FlambeauRuntimeWarning),
    "FB002": Told("`OMP_NUM_THREADS` does not start with a number of threads.",
                  "Set it to one, or say `FLAMBEAU_NUM_THREADS`.", FlambeauRuntimeWarning),
    "FB003": Told("A function of `nn.init` was called by the name it had before it ended in an underscore.",
                  "Call it with the underscore.", FlambeauFutureWarning),
    "FB004": Told("A recurrent layer of one layer was given a dropout, which acts between layers alone.",
                  "Leave `dropout` out, or set `num_layers` to 2 or more."),
    "FB005": Told("`forward` raised, and then a hook with `always_call=True` did too: the error of `forward` is the one "
                  "that you see.", "Mend the hook so that it bears with a forward that failed."),
    "FB006": Told("A Module with backward hooks returned something else than a tensor or a tuple of tensors: the hooks are "
                  "not called.", "Return tensors, or register a hook of the tensor itself."),
    "FB007": Told("`clip_grad_norm_` was given an empty iterable of parameters; often a generator that was used up.",
                  "Pass `model.parameters()` anew, or a list."),
    "FB008": Told("`clip_grad_norm` was called by its old name.", "Call `clip_grad_norm_`.", FlambeauFutureWarning),
    "FB009": Told("`autocast` was asked for a device that is not there. It does nothing.",
                  'Say `device_type="cpu"`, or see `python -m flambeau doctor`.'),
    "FB010": Told("`autocast` was asked for a dtype that it does not cast to. It does nothing.",
                  "Say `torch.bfloat16` or `torch.float16`."),
    "FB011": Told("A `GradScaler` was made for a device that is not there. It does nothing.",
                  'Say `device="cpu"`, or `enabled=False`.'),
    "FB012": Told("`fb.compile` was given an option of `torch.compile`'s that means nothing here (`mode`, `options`, a "
                  "backend of PyTorch's).", "Leave it out; [compile.md](compile.md) has the options that there are."),
    "FB013": Told("`vmap` met an op without a rule for batches and applies it to one example after the other, which is "
                  "slow for many examples.", "Batch that op by hand, or bear with it: the numbers are right."),
    "FB014": Told("A function of `nn.functional` is there under its old name.", "Call `interpolate`."),
    "FB015": Told("`checkpoint` was given no tensor that requires grad: nothing will be differentiated through it.",
                  "Call `requires_grad_()` on an input, or pass `use_reentrant=False`."),
    "FB016": Told("`cov` has as many corrections as observations: it divides by zero.",
                  "Give more observations, or a smaller `correction`."),
    "FB017": Told("A tensor given as `out=` had another shape, with elements in it, and was resized.",
                  "Make it with the shape of the result, or with no elements."),
    "FB018": Told("`backward` was given `grad_variables`, the old name of `grad_tensors`.", "Say `grad_tensors`.",
                  FlambeauFutureWarning),
    "FB019": Told("`grad` was given `only_inputs=False`, which has no effect.", "Leave it out; call `backward()` for "
                  "gradients of all leaves.", FlambeauFutureWarning),
    "FB020": Told("A Function reads `ctx.saved_variables`.", "Read `ctx.saved_tensors`.", FlambeauDeprecationWarning),
}


def warn(id: str, message: str, stacklevel: int = 1) -> None:
    """Give the warning of that id. stacklevel: as `warnings.warn` takes it, counted from the caller."""
    warnings.warn(WARNINGS[id].category(f"{message} [{id}]"), stacklevel=stacklevel + 1)


def page() -> str:
    """docs/warnings.md."""
    lines = ["# Warnings", "",
             "Each warning of Flambeau's ends with an id, which stands here with what it means and what to do. They are of",
             "the classes of the standard library that PyTorch uses for the same, and all are",
             "`fb.errors.FlambeauWarning`s.", "",
             "```python", "import warnings", "import flambeau as fb", "",
             "with warnings.catch_warnings():                                                # or without, for good",
             '    warnings.filterwarnings("ignore", message=r".*\\[FB013\\]")                # silences one',
             '    warnings.filterwarnings("error", category=fb.errors.FlambeauWarning)     # makes errors of all',
             "```", "",
             "This page is `flambeau.warned.page()`."]
    for id, told in WARNINGS.items():
        base = told.category.__bases__[-1].__name__
        lines += ["", f"## {id}", "", f"*{base}.* {told.when}", "", told.remedy]
    return "\n".join(lines) + "\n"

