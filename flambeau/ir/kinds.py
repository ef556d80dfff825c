"""Kinds of kernel, by name. An op names the kind that computes it (`Op.kernel_kind`), a kernel's text starts with it.

A `Kind` is all that the stages of compilation need to know: how fusion treats the op, what a fused group is lowered to,
and how each backend schedules and emits the kernel. `flambeau.kinds` lists those there are and fills this table; each is
loaded when it is first asked for.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Any, Final, Literal

from flambeau.errors import GraphError, UnsupportedError
from flambeau.ir.outside import note
from flambeau.ir.records import dataclass

if TYPE_CHECKING:
    from flambeau.ir.graph import Node
    from flambeau.ir.kernel import Kernel

__all__ = ["Implementation", "Kind", "kernel_classes", "kernel_named", "kind_named", "kind_of",
           "register_implementation", "register_kind"]


@dataclass(frozen=True, eq=False)
class Implementation:
    """How one backend runs the kernels of a kind.

    emit: makes code, in the backend's own terms; for "cpu" `emit(kernel, module, symbol, target)` adds functions to an
    LLVM module, their names beginning with `symbol`, and gives (phases, bytes of each scratch buffer); for "cuda"
    `emit(kernel, name)` gives a `codegen.cuda.text.KernelText`. schedule: the kernel with its schedule chosen, for a target
    of the backend. divide: a call, not finished yet, to several where that is faster. weight: those that take longest to
    compile have the greatest, and go first. general: a scheduled kernel as code is made of it, which may have names for
    some numbers, and the runtime numbers that it is called with (`passes.cpu.generalize`). phases: (phases, bytes of each
    scratch buffer) for `phases(kernel, general, symbol, target)`, where not all kernels have those of `emit`. host: the
    address of a function of the host, for the name that a phase calls it by (the kind, a dot, and what the kind makes of
    it); see `runtime.host_functions`. steps_itself: whether the loops of a general kernel's code carry what steps with
    them (`codegen.cpu.toolchain`)."""

    emit: Callable[..., Any]
    schedule: Callable[[Any, Any], Kernel] | None = None
    divide: Callable[[Any, Any], Sequence[Any]] | None = None
    weight: int = 0
    host: Callable[[str], int] | None = None
    general: Callable[[Any, Any], tuple[Any, tuple[int, ...]]] | None = None
    phases: Callable[..., Any] | None = None
    steps_itself: Callable[[Any], bool] | None = None


@dataclass(frozen=True, eq=False)
class Kind:
    """kernel: the class of its kernels; its `keyword` is `name`, but for a kind that lowers to kernels of another.

    lower(node, name): a fused group, as a fusion node, to kernel calls; see `passes.lowering.lower`.
    reads: what its operands are once fused. "whole": values in memory, row-major. "strided": memory seen through views
    with strides. "computed": anything that has a value at an index, so that cheap ops are computed where it reads them.
    has_epilogue: elementwise ops that read its result may join it. A kind that reads whole values and has no epilogue
    is fused with nothing: its group is the op alone, with all its results.
    finish: a call as it is built, where `lower` leaves something open for backends that divide it.
    implementations: by the name of the backend. The backend "interpret" needs none, since a kernel has a meaning."""

    name: str
    kernel: type[Kernel]
    lower: Callable[[Node, str], Sequence[Any]]
    reads: Literal["whole", "strided", "computed"] = "whole"
    has_epilogue: bool = False
    finish: Callable[[Any], Any] | None = None
    implementations: Mapping[str, Implementation] = field(default_factory=dict)

    @property
    def is_alone(self) -> bool:
        """Whether its op is fused with no other."""
        return self.reads == "whole" and not self.has_epilogue

    def has_implementation(self, backend: str) -> bool:
        return backend in self.implementations or (self.name, backend) in _IMPLEMENTATIONS

    def implementation(self, backend: str) -> Implementation:
        """That of the kind's own file, or one registered from elsewhere. Raises UnsupportedError where there is none."""
        found = self.implementations.get(backend) or _IMPLEMENTATIONS.get((self.name, backend))
        if found is None:
            elsewhere = {name for kind, name in _IMPLEMENTATIONS if kind == self.name}
            known = ", ".join(sorted({*self.implementations, *elsewhere})) or "interpret"
            raise UnsupportedError(f"there is no code for {self.name} kernels on the backend {backend!r}",
                                   hint=f"backends that have it: {known}")
        return found


_KINDS: Final[dict[str, Callable[[], Kind]]] = {}
_IMPLEMENTATIONS: Final[dict[tuple[str, str], Implementation]] = {}


def register_implementation(kind: str, backend: str, implementation: Implementation) -> None:
    """Say how a backend runs a kind, outside the kind's own file, which is loaded with every program: for a backend that is
    loaded when it is asked for. It can be taken over."""
    note(f"kind {kind}")
    _IMPLEMENTATIONS[kind, backend] = implementation


def register_kind(name: str, load: Callable[[], Kind]) -> None:
    """Add a kind, made when it is first asked for. A name can be taken over, so that a notebook cell runs twice."""
    note(f"kind {name}")
    _KINDS[name] = load


def kind_named(name: str) -> Kind:
    """Raises GraphError if there is no such kind."""
    if name not in _KINDS:
        raise GraphError(f"there is no kind of kernel called {name!r}; known are {', '.join(_KINDS)}")
    return _KINDS[name]()


def kind_of(kernel: Kernel) -> Kind:
    """The kind whose kernels these are."""
    return kind_named(kernel.keyword)


def kernel_named(keyword: str) -> type[Kernel] | None:
    """The class of kernels whose text starts with `keyword`."""
    kernel = _KINDS[keyword]().kernel if keyword in _KINDS else None
    return kernel if kernel is not None and kernel.keyword == keyword else None


def kernel_classes() -> dict[str, type[Kernel]]:
    """Every class of kernels, by its keyword."""
    return {load().kernel.keyword: load().kernel for load in _KINDS.values()}
