"""Which trace, if any, records the ops of this thread."""
from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from flambeau.ir.location import Location
from flambeau.ir.op import Op

if TYPE_CHECKING:
    from flambeau.frontend.tape.autograd import Record
    from flambeau.frontend.tape.custom import Function
    from flambeau.frontend.tensor.storage import Storage
    from flambeau.frontend.tensor.tensor import Tensor
    from flambeau.ir.ops import View


class Tracer(Protocol):
    """What an active trace (see `trace.py`), or a level of a transform (see `func/level.py`), offers to eager code.
    location: the user's line of the newest op; differentiated: of the op whose derivative rule runs, None for code of
    the user's own. name_of: labels of graph inputs by id(tensor). argument_of: the caller's tensors by id of what stands
    for them. is_level: whether it is a level. around: what this one is within. hides_values: whether Python can't look at
    the numbers in a tensor."""

    location: Location | None
    differentiated: Location | None
    name_of: dict[int, str]
    argument_of: dict[int, Tensor]

    is_level: bool

    @property
    def around(self) -> Tracer | None: ...

    @property
    def hides_values(self) -> bool: ...

    def record(self, op: Op, operands: tuple[Tensor, ...]) -> tuple[Tensor, ...]: ...

    def record_view(self, op: View, x: Tensor) -> Tensor: ...

    def cond(self, pred: Tensor, true_fn: Any, false_fn: Any, operands: Any) -> Any: ...

    def while_loop(self, cond_fn: Any, body_fn: Any, carried: Any) -> Any: ...

    def recorded(self, operands: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None: ...

    def apply_function(self, function: type[Function], args: tuple[Any, ...]) -> Any: ...

    def probe(self, run: Any, function: Any, who: str) -> tuple[list[Tensor], dict[Storage, Any], bool]: ...

    def write(self, target: Tensor, value: Tensor) -> None: ...

    def put_off(self, question: Callable[[], None], tensors: Sequence[Tensor]) -> None: ...

    def settle(self, t: Tensor) -> None: ...

    def version_of(self, t: Tensor) -> int: ...

    def saved_version_of(self, t: Tensor) -> int: ...

    def check_leaf(self, t: Tensor, what: str) -> None: ...

    def get_grad(self, t: Tensor, adding: bool = False) -> Tensor | None: ...

    def set_grad(self, t: Tensor, grad: Tensor | None, adding: bool = False) -> None: ...

    def copied(self, t: Tensor) -> Tensor: ...

    def was_there(self, t: Tensor) -> bool: ...

    def may_move(self, t: Tensor, value: Tensor) -> bool: ...

    def keep(self, made: Tensor, source: Tensor) -> None: ...

    def scalar(self, owner: dict[str, Any], key: str) -> Any: ...

    def meet(self, t: Tensor) -> None: ...

    def is_leaf(self, t: Tensor) -> bool: ...

    def record_of(self, t: Tensor) -> Record | None: ...

    def is_from_outside(self, t: Tensor) -> bool: ...

    def data_of(self, t: Tensor) -> Any: ...

    def known(self, t: Tensor) -> Any: ...

    def shown(self, t: Tensor) -> str: ...

    def backward_phase(self) -> Any: ...


class _Active(threading.local):
    """module, kind: the dotted name and the class of the Module whose call is traced, or profiled; "" outside of any."""

    tracer: Tracer | None = None
    module: str = ""
    kind: str = ""

    @property
    def hides_values(self) -> bool:
        """True where Python can't look at the numbers in tensors."""
        return self.tracer is not None and self.tracer.hides_values

    def hides(self, t: Tensor) -> bool:
        """Whether Python can't look at the numbers in this one: constants, and what all examples of a vmap share, show."""
        tracer: Any = self.tracer
        if tracer is None:
            return False
        return tracer.hides(t) if tracer.is_level else tracer.hides_values and tracer.known(t) is None

    def differentiates(self, t: Tensor, tangents: bool = True) -> bool:
        """Whether a derivative may be asked for: of a tensor of a transform, also by what is around. tangents: of either
        kind, else gradients alone."""
        tracer: Any = self.tracer
        return tracer.differentiates(t, tangents) if tracer is not None and tracer.is_level else t._requires_grad

    @property
    def hider(self) -> str:
        """What messages call that which hides values."""
        tracer = self.tracer
        while tracer is not None and tracer.is_level:
            tracer = tracer.around
        return "a function under vmap" if tracer is None else "a compiled function"


active = _Active()


@contextmanager
def traced_by(tracer: Tracer | None) -> Iterator[None]:
    """Ops inside are recorded by `tracer`, or run eagerly."""
    saved, active.tracer = active.tracer, tracer
    try:
        yield
    finally:
        active.tracer = saved
