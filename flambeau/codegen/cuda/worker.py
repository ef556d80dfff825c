"""The process that compiles kernels: it loads numba-cuda once, and forks workers, which have it then.

    python -P -c "from flambeau.codegen.cuda.worker import main; main()" DESCRIPTOR WORKERS

`workers.py` starts it and speaks to it through the descriptor: a list of jobs comes in, and for each a pair goes out, its
number and what became of it. It ends when the other side is gone. Nothing of the user's program is in it.
"""
from __future__ import annotations

import gc
import os
import sys
import traceback
from importlib import import_module
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait

from flambeau.codegen.cuda.text import Assembled, KernelText
from flambeau.ir.gpu import GpuTarget
from flambeau.ir.records import dataclass

__all__ = ["Failed", "Job", "compiled", "main"]

Job = tuple[KernelText, GpuTarget]
_GONE = (EOFError, BrokenPipeError, ConnectionResetError)


@dataclass(frozen=True)
class Failed:
    """Why a kernel has no code."""

    words: str


def compiled(job: Job) -> Assembled | Failed:
    """The code of a kernel, made in this process; or the toolchain's words."""
    text, target = job
    toolchain = import_module("flambeau.codegen.cuda.toolchain")
    try:
        made: Assembled = toolchain.assemble(toolchain.to_ptx(text, target), target)
        return made
    except Exception:
        return Failed(traceback.format_exc(limit=-1))


def main() -> None:
    """Answer until the other side is gone."""
    os.dup2(2, 1)                               # what a library prints is not for the user's program to pass on
    client, most = Connection(int(sys.argv[1])), int(sys.argv[2])
    workers: list[_Worker] = []
    try:
        while True:
            jobs = client.recv()
            if not workers:
                import_module("flambeau.codegen.cuda.toolchain").warm_up(jobs[0][1])
                gc.freeze()                     # numba makes many objects, and little garbage that is not let go at once
                gc.set_threshold(200_000, 20, 100)
            _serve(jobs, client, workers, most)
    except (*_GONE, KeyboardInterrupt):
        os._exit(0)                             # the workers see it too


def _serve(jobs: list[Job], client: Connection, workers: list[_Worker], most: int) -> None:
    """The longest texts first, so that none is begun when all others are done."""
    waiting = sorted(range(len(jobs)), key=lambda number: len(jobs[number][0].source))
    idle = list(workers)
    busy: dict[object, tuple[_Worker, int]] = {}
    while waiting or busy:
        while waiting and (idle or len(workers) < most):
            if not idle:
                workers.append(_Worker([client, *[worker.link for worker in workers]]))
                idle.append(workers[-1])
            worker = idle.pop()
            busy[worker.link] = worker, waiting.pop()
            worker.begin(jobs[busy[worker.link][1]])
        for link in wait([worker.link for worker, _ in busy.values()]):
            worker, number = busy.pop(link)
            answer = worker.answer()
            (idle.append if worker.lives else workers.remove)(worker)
            client.send((number, answer))


class _Worker:
    """A forked process that compiles what it is sent. others: links of its parent, which it must not hold open."""

    def __init__(self, others: list[Connection]):
        self.link, link = Pipe()
        self.lives = True
        self.process = os.fork()
        if self.process == 0:
            for other in (self.link, *others):
                other.close()
            _compile_what_comes(link)
        link.close()

    def begin(self, job: Job) -> None:
        self.link.send(job)

    def answer(self) -> Assembled | Failed:
        """What it made of its job. A process that ended, for want of memory or by a fault of a library, is not asked
        again."""
        try:
            answer: Assembled | Failed = self.link.recv()
            return answer
        except _GONE:
            self.lives = False
            self.link.close()
            _, status = os.waitpid(self.process, 0)
            return Failed(f"the process that compiled it ended with status {os.waitstatus_to_exitcode(status)}")


def _compile_what_comes(link: Connection) -> None:
    try:
        while True:
            link.send(compiled(link.recv()))
    except (*_GONE, KeyboardInterrupt):
        os._exit(0)
