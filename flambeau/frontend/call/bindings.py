"""The memory that one signature's machine code works on from call to call: captured tensors, and gradients of leaves."""
from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from flambeau.errors import UnsupportedError
from flambeau.frontend.call.anomalies import is_watching, watched
from flambeau.frontend.call.memory import check_writable
from flambeau.frontend.epoch import grad_epoch
from flambeau.frontend.tensor.storage import Storage, Watcher
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.frontend.trace.call_plan import CallPlan, Found, Given
from flambeau.frontend.trace.gradients import Home
from flambeau.runtime.forking import ForkSafeLock

if TYPE_CHECKING:
    from flambeau.backends import Runnable
    from flambeau.compiler import Compiled


_TRIES: Final = 8                       # how often in a short while something is computed once, before it no longer is


class Bindings:
    """What changes between the calls of a plan. run: the native call, bound to where the states lie now (`pointers`, and
    the ids of `storages`). What the program computes once of the captured tensors is as old as `versions`, those of
    `read_once`; `prepare` computes it anew. plain: gives a program that computes all at every call, for tensors that
    change at every call. epoch, reads_at, homes_at: when all but the arguments, the gradients that are read, and those
    that are left were looked at last. calls: how often it ran. The generated call reads and writes these."""

    __slots__ = ("_captured", "_compiled", "_device", "_homes", "_is_watched", "_lock", "_plain", "_prepared_at",
                 "_unbound", "_unseen", "_where", "calls", "epoch", "executable", "homes_at", "plan", "pointers",
                 "read_once", "reads_at", "run", "storages", "versions")

    run: Callable[..., None]
    executable: Runnable
    pointers: list[int]
    storages: set[int]
    read_once: list[Storage | Watcher]
    versions: list[int] | None

    def __init__(self, plan: CallPlan, compiled: Compiled, device: str, plain: Callable[[], Runnable] | None = None):
        self.plan, self._compiled, self._device = plan, compiled, device
        self._unbound, self._plain = compiled.executable, plain
        self._lock, self._unseen, self._prepared_at = ForkSafeLock(), Watcher(), deque[int](maxlen=_TRIES)
        self._where = [outside.storage for outside in plan.outside]
        self._homes = [(n, state.memory, state.type, [w.leaf for w in plan.gradients if w.value is state.memory])
                       for n, state in enumerate(plan.states) if isinstance(state.memory, Home)]
        self.epoch = self.reads_at = self.homes_at = -1     # the first call looks at everything: compiling took a while
        self.calls = 0
        self.bind()

    @property
    def prepares(self) -> bool:
        """Whether the program computes something once of the captured tensors."""
        return self._plain is not None

    def prepare(self) -> None:
        """Compute anew what is computed once, unless another thread just did. Where that was so at most of the last calls,
        the program that computes it at every call takes its place."""
        with self._lock:
            if self.versions == [seen.version for seen in self.read_once]:
                return
            recent = self._prepared_at
            recent.append(self.calls)
            if self._plain is not None and len(recent) == _TRIES and self.calls - recent[0] < 2 * _TRIES:
                self._unbound, self._plain = self._plain(), None
            self.bind()

    def bind(self) -> None:
        """Point the executable at the memory of the captured tensors."""
        with self._lock:
            self._bind()

    def _bind(self) -> None:
        pointers = []
        for state in self.plan.states:
            memory = state.memory
            if isinstance(memory, Home):
                pointers.append(memory.pointer)
                continue
            if not memory._storage.is_elsewhere and not memory._storage.array.flags.c_contiguous:
                raise UnsupportedError(f"a captured tensor {memory._type} does not lie contiguously in memory",
                                       hint="make it with .contiguous() before the compiled function uses it")
            if state.is_written:
                check_writable(memory if isinstance(memory, Tensor) else memory.grad, "a captured tensor")
            pointers.append(memory._storage.buffer.ptr)
        self._captured = [s.memory._storage for s in self.plan.states if isinstance(s.memory, Tensor)]     # kept alive
        self.storages = {id(state.memory._storage) for state in self.plan.states}
        self.pointers = pointers
        self.versions = None
        self.read_once = [*self._captured, self._unseen] if self._plain is not None else []
        versions = [seen.version for seen in self.read_once]          # before they are read: changes come after
        for storage in self._captured if self.read_once else ():
            storage.watch(self._unseen)
        self.executable = self._unbound.bind_states(pointers) if pointers else self._unbound
        self._is_watched = is_watching(self.plan.looks)
        self.run = self.executable.fast_call
        if self._is_watched:
            self.run = watched(self._compiled, self.run, pointers, self._device, self.plan.looks)
        if not any(s.memory._storage.may_change_unseen(s.memory) for s in self.plan.states if self.read_once):
            self.versions = versions        # else they may be others at the next call

    def follow_anomaly_mode(self) -> None:
        """Watch calls from now on, or no longer, if that was turned on or off."""
        if self._is_watched is not is_watching(self.plan.looks):
            self.bind()

    # -- captured tensors -------------------------------------------------------------------------------------------

    def outside_holds(self) -> bool:
        """Captured tensors are what they were; those that got other memory of the same layout are bound again."""
        moved: dict[Storage, set[Storage]] = {}
        was_in: dict[int, Storage] = {}
        for outside, storage in zip(self.plan.outside, self._where, strict=True):
            if not outside.is_same_kind():
                return False
            moved.setdefault(storage, set()).add(outside.tensor._storage)
            was_in[id(outside.tensor)] = storage
        if all(now == {storage} for storage, now in moved.items()):
            return True
        captured = [s.memory for s in self.plan.states if isinstance(s.memory, Tensor)]
        owner_of = {was_in.get(id(t), t._storage): t for t in captured}
        for storage, now in moved.items():
            owner = owner_of.get(storage)
            if now != {storage} and (len(now) > 1 or not _is_plain(owner) or owner is None or owner._storage not in now):
                return False
        self._where = [outside.tensor._storage for outside in self.plan.outside]
        self.bind()
        return True

    def moved(self) -> str | None:
        """The first captured tensor that isn't what or where it was, in words."""
        for outside, storage in zip(self.plan.outside, self._where, strict=True):
            if outside.tensor._requires_grad is not outside.requires_grad:
                return f"requires_grad of a captured tensor {outside.type} changed"
            if not outside.is_same_kind() or outside.tensor._storage is not storage:
                return f"a captured tensor {outside.type} is {outside.tensor._type} now, or other memory"
        return None

    def writes(self, storage: Storage) -> bool:
        """True for the memory of a state that is changed in place."""
        return any(state.is_written and state.memory._storage is storage for state in self.plan.states)

    # -- gradients --------------------------------------------------------------------------------------------------

    def gradients_hold(self) -> bool:
        """.grad is None where it was, and another gradient than last time is bound."""
        if self.reads_at == grad_epoch.value:
            return True
        found = [read.holds(self.pointers) for read in self.plan.reads]
        if False in found or None in found and not self._rebind_gradients():
            return False
        self.reads_at = grad_epoch.value
        return True

    def _rebind_gradients(self) -> bool:
        """Gradients that were one tensor are one still, those that were not are not, and no other state is one."""
        pointer_of: dict[int, int] = {}
        for read in self.plan.reads:
            if read.state is not None and read.view is None and read.leaf._grad is not None:
                now = read.leaf._grad._storage.buffer.ptr
                if pointer_of.setdefault(read.state, now) != now:
                    return False
        homes = {n for n, *_ in self._homes}
        taken = {p for n, p in enumerate(self.pointers) if n not in pointer_of and n not in homes}
        if len({*pointer_of.values()}) < len(pointer_of) or not taken.isdisjoint(pointer_of.values()):
            return False
        self.bind()
        return True

    def ready_gradients(self) -> None:
        """Before a call: gradients that it leaves get other memory where somebody holds what they had."""
        read = {id(r.leaf._grad._storage) for r in self.plan.reads if r.state is not None and r.leaf._grad is not None}
        is_moved = False
        for number, home, type, leaves in self._homes:
            if home.is_held(leaves) or home.grad._type is not type and home.grad._type != type or \
                    read and id(home._storage) in read:
                home.renew(type)
            is_moved = is_moved or home.pointer != self.pointers[number]
        if is_moved:
            self.bind()

    def attach_gradients(self, leaves: Sequence[Any], found: Sequence[Tensor | None] = ()) -> None:
        """After a call: every `.grad` is what the function left there. found: what each `.grad` that it read was."""
        for change in self.plan.gradients:
            value: Any = change.value
            if type(value) is Home:
                value = value.grad
            elif type(value) is Found:
                value = found[value.read]
            elif type(value) is Given:
                value = leaves[value.leaf]
            if change.leaf._grad is not value:
                change.leaf._grad = value
                grad_epoch.bump()
        self.homes_at = grad_epoch.value


def _is_plain(tensor: Tensor | None) -> bool:
    """True when a state owns the memory it has now, and that is contiguous."""
    if tensor is None or tensor._base is not None or tensor._storage.is_elsewhere:
        return tensor is not None and tensor._base is None
    array = tensor._storage.array
    return array.shape == tensor._type.shape and bool(array.flags.c_contiguous)


__all__ = ["Bindings"]
