"""Launches in a row as one graph of the driver's, which is asked for at once.

Each kernel stands after the one before it, as on a stream. Where a call brings other pointers than the last one, the nodes
that use them get theirs; launches that wait keep what they were asked with. A marked graph has an event before the first
kernel and one after each, others at each launch.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from flambeau.runtime.cuda.api import checked

if TYPE_CHECKING:
    from flambeau.runtime.cuda.device import Device
    from flambeau.runtime.cuda.streams import Event, Stream

__all__ = ["Graph"]


class Graph:
    """launches: by number, as `cuLaunchKernel` takes them. All that have blocks."""

    def __init__(self, device: Device, launches: Mapping[int, Sequence[Any]], is_marked: bool = False):
        self.cu, self.device = device.cu, device
        cu = self.cu
        graph = checked(cu, cu.cuGraphCreate(0))
        self.nodes: dict[int, tuple[Any, Any]] = {}
        self.marks: list[Any] = []
        unused = device.event(timing=True).made() if is_marked else None        # until marks come
        try:
            before: list[Any] = []
            if is_marked:
                before = [self._added_mark(graph, before, unused)]
            for number, (function, blocks, _, _, threads, _, _, shared_bytes, _, words, _) in launches.items():
                params = cu.CUDA_KERNEL_NODE_PARAMS()
                params.func, params.kernelParams, params.sharedMemBytes = function, words, shared_bytes
                params.gridDimX, params.gridDimY, params.gridDimZ = blocks, 1, 1
                params.blockDimX, params.blockDimY, params.blockDimZ = threads, 1, 1
                node = checked(cu, cu.cuGraphAddKernelNode(graph, before, len(before), params))
                self.nodes[number] = node, params
                before = [self._added_mark(graph, [node], unused)] if is_marked else [node]
            self.executable = checked(cu, cu.cuGraphInstantiate(graph, 0))
        finally:
            self.graph = graph              # its nodes name those of the executable
        self.launch, self.update = cu.cuGraphLaunch, cu.cuGraphExecKernelNodeSetParams

    def _added_mark(self, graph: Any, before: Sequence[Any], event: Any) -> Any:
        self.marks.append(checked(self.cu, self.cu.cuGraphAddEventRecordNode(graph, before, len(before), event)))
        return self.marks[-1]

    def mark(self, events: Sequence[Event], stream: Stream) -> None:
        """The next launch, on that stream, records these: one more than it has kernels."""
        for node, event in zip(self.marks, events, strict=True):
            checked(self.cu, self.cu.cuGraphExecEventRecordNodeSetEvent(self.executable, node, event.made()))
            event.recorded_by_graph(stream)

    def renew(self, numbers: Sequence[int]) -> None:
        """Take the parameters of these launches as they are now."""
        for number in numbers:
            node, params = self.nodes[number]
            answer = self.update(self.executable, node, params)
            if answer[0]:
                checked(self.cu, answer)

    def __del__(self) -> None:
        if hasattr(self, "executable"):
            self.device.drop_graph(self.graph, self.executable)
