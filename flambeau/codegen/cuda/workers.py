"""Jobs -> machine code, by a process of their own: a fork would have the locks and devices of this one, and one that
`multiprocessing` starts would run the user's script again."""
from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from multiprocessing import Pipe

from flambeau.codegen.cuda.text import Assembled
from flambeau.codegen.cuda.worker import Failed, Job, compiled
from flambeau.errors import FlambeauError

__all__ = ["Workers"]

_COMMAND = "from flambeau.codegen.cuda.worker import main; main()"


class Workers:
    """A process that is started for the first job, and ends with this one. most: jobs at once. The caller sees to it that
    one thread asks at a time."""

    def __init__(self, most: int):
        self.most = most
        self.owner = 0                          # who started it: after a fork the child has none

    def start(self) -> None:
        """At once, so that it loads what it needs while something else is done here."""
        if self.owner == os.getpid():
            return
        self.link, theirs = Pipe()
        path = os.pathsep.join(filter(None, sys.path))
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", _COMMAND, str(theirs.fileno()), str(self.most)], pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": path})
        theirs.close()
        self.owner = os.getpid()

    def compiled(self, jobs: Sequence[Job]) -> Iterator[tuple[int, Assembled | Failed]]:
        """The number of each job and what became of it, in the order in which they are done. Raises FlambeauError where
        the process has ended, and starts another the next time."""
        if not hasattr(os, "fork"):
            yield from enumerate(map(compiled, jobs))
            return
        self.start()
        try:
            self.link.send(list(jobs))
            for _ in jobs:
                yield self.link.recv()
        except (EOFError, OSError):
            self.owner = 0
            self.link.close()
            status = self.process.wait()
            raise FlambeauError(f"the process that compiles kernels for GPUs ended with status {status}") from None
        except BaseException:                   # interrupted: answers would be taken for those of other jobs
            self.owner = 0
            self.link.close()
            raise
