"""Streams and events: work waits in queues, and runs when it is waited for."""
from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable

__all__ = ["Event", "Queue", "Queues", "Record"]

_MOST_WAITING = 1024                # as of a real device, whose queues are so long too


class Record:
    """One recording of an event: done at a time, once the work before it ran."""

    def __init__(self, queue: Queue):
        self.queue = queue
        self.done_at: float | None = None


class Event:
    """has_times: unless it was made without."""

    def __init__(self, has_times: bool = True) -> None:
        self.record: Record | None = None
        self.has_times = has_times

    def __int__(self) -> int:
        return id(self)


class Queue:
    """The work of a stream. An item is a function to run, or a Record: one of its own is done then, one of another stream
    is waited for."""

    def __init__(self, device: int):
        self.device = device
        self.items: deque[Callable[[], None] | Record] = deque()

    def __int__(self) -> int:
        return id(self)


class Queues:
    """All streams. chance: of each piece of work to run at once when more is asked for, in place of the real device, which
    goes on by itself."""

    def __init__(self) -> None:
        self.all: list[Queue] = []
        self.chance, self.random = 0.0, random.Random(0)

    def new(self, device: int) -> Queue:
        self.all.append(Queue(device))
        return self.all[-1]

    def ask(self, queue: Queue, item: Callable[[], None] | Record) -> None:
        queue.items.append(item)
        if len(queue.items) > _MOST_WAITING:
            self.step(queue)
        while self.chance and self.random.random() < self.chance:
            self.step(self.random.choice(self.all))

    def record(self, event: Event, queue: Queue) -> None:
        event.record = Record(queue)
        self.ask(queue, event.record)

    def step(self, queue: Queue) -> bool:
        """Run the first item, what it waits for before it; whether there was one."""
        if not queue.items:
            return False
        item = queue.items[0]
        if isinstance(item, Record):
            if item.queue is not queue:
                self.finish(item)
            elif item.done_at is None:
                item.done_at = time.perf_counter()
        if queue.items and queue.items[0] is item:
            queue.items.popleft()
            if not isinstance(item, Record):
                item()
        return True

    def drain(self, queue: Queue) -> None:
        while self.step(queue):
            pass

    def drain_all(self) -> None:
        for queue in self.all:
            self.drain(queue)

    def finish(self, record: Record) -> None:
        while record.done_at is None and self.step(record.queue):
            pass
