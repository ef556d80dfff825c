"""`python -m tests.contract [file | file::case | case ...] [-v]`: runs cases of the contract of @fb.compile in a child of
its own, and tells which fail. A child that crashes or hangs costs the one case. -v: says what the good ones did, too."""
from __future__ import annotations

import collections
import multiprocessing
import sys
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection

from tests.contract import harness
from tests.contract.harness import TIME_LIMIT_S, Case, Verdict


def main(words: list[str]) -> int:
    chosen = [case for case in harness.load().values() if _is_chosen(case, [w for w in words if w != "-v"])]
    failed: collections.Counter[str] = collections.Counter()
    for case, verdict in verdicts(chosen):
        failed[case.file] += not verdict.good
        if not verdict.good or "-v" in words:
            print(f"{'  ' if verdict.good else '!!'} {verdict.word:8s} {case}")
            print("     " + verdict.detail.strip().replace("\n", "\n     "), flush=True)
    for file in dict.fromkeys(case.file for case in chosen):
        print(f"{file}: {sum(case.file == file for case in chosen)} cases, {failed[file]} fail")
    print(f"{len(chosen) - failed.total()} pass, {failed.total()} fail")
    return 1 if failed.total() else 0


def _is_chosen(case: Case, words: list[str]) -> bool:
    return not words or any(word in (case.file, case.name, str(case)) for word in words)


def verdicts(cases: Sequence[Case]) -> Iterator[tuple[Case, Verdict]]:
    """Each case with its verdict. One child runs them in order; when it is lost, another goes on behind the case."""
    context = multiprocessing.get_context("fork")       # of a process that has no threads and has compiled nothing
    done = 0
    while done < len(cases):
        here, there = context.Pipe(duplex=False)
        child = context.Process(target=_run_all, args=(cases[done:], there))
        child.start()
        there.close()
        while done < len(cases):
            verdict = _received(here)
            yield cases[done], verdict
            done += 1
            if verdict.word in ("CRASH", "HANG"):
                break
        child.kill()
        child.join()


def _received(here: Connection) -> Verdict:
    try:
        return here.recv() if here.poll(TIME_LIMIT_S + 30) else Verdict("HANG", "killed")
    except EOFError:
        return Verdict("CRASH", "the process is gone")


def _run_all(cases: Sequence[Case], there: Connection) -> None:
    for case in cases:
        verdict = harness.run(case)
        there.send(Verdict(verdict.word, verdict.detail[:4000]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
