"""Functions of the user's that a program calls, on the thread that runs it: `fb.debug_callback`."""
from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np

from flambeau.ir.graph import Node
from flambeau.ir.kinds import Implementation, Kind
from flambeau.ir.ops.printing import call_back
from flambeau.ir.records import dataclass
from flambeau.kinds.print import PythonKernel, emit_python, python_call, python_host
from flambeau.passes.lowering.lower import Call, lone_op


@dataclass(frozen=True)
class CallbackKernel(PythonKernel):
    """what: the number of the function."""

    keyword = "callback"

    @staticmethod
    def call(what: str, arrays: Sequence[np.ndarray]) -> None:
        call_back(int(what), arrays)


def _lower(node: Node, name: str) -> list[Call]:
    return python_call(node, name, CallbackKernel, str(lone_op(node)[0].op.number))     # type: ignore[attr-defined]


@cache
def _host(symbol: str) -> int:
    return python_host(CallbackKernel, symbol)


KIND = Kind("callback", CallbackKernel, _lower, implementations={"cpu": Implementation(emit_python, host=_host)})
