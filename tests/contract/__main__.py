"""`python -m tests.contract [file | file::case | case ...] [-v]`: runs cases of the contract of @fb.compile, each in a
process of its own, and tells which fail. -v: says what the good ones did, too."""
from __future__ import annotations

import collections
import multiprocessing
import sys
import time
from multiprocessing.connection import Connection

from tests.contract import harness
from tests.contract.harness import Case, Verdict


def main(words: list[str]) -> int:
    cases = [case for case in harness.load().values() if _is_chosen(case, [w for w in words if w != "-v"])]
    failed: collections.Counter[str] = collections.Counter()
    for case in cases:
        start = time.perf_counter()
        verdict = alone(case)
        failed[case.file] += not verdict.good
        if not verdict.good or "-v" in words:
            print(f"{'  ' if verdict.good else '!!'} {verdict.word:8s} {case} ({time.perf_counter() - start:.1f} s)")
            print("     " + verdict.detail.strip().replace("\n", "\n     "), flush=True)
    for file in dict.fromkeys(case.file for case in cases):
        print(f"{file}: {sum(case.file == file for case in cases)} cases, {failed[file]} fail")
    print(f"{len(cases) - failed.total()} pass, {failed.total()} fail")
    return 1 if failed.total() else 0


def _is_chosen(case: Case, words: list[str]) -> bool:
    return not words or any(word in (case.file, case.name, str(case)) for word in words)


def alone(case: Case) -> Verdict:
    """Run a case in a child of this process, which has started no threads yet."""
    if case.kind == "script":
        return harness.run(case)
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)
    child = context.Process(target=_send_verdict, args=(case, there))
    child.start()
    there.close()
    child.join(harness.TIME_LIMIT_S + 10)
    if child.is_alive():
        child.kill()
        return Verdict("HANG", "killed")
    return here.recv() if child.exitcode == 0 and here.poll() else Verdict("CRASH", f"exit status {child.exitcode}")


def _send_verdict(case: Case, there: Connection) -> None:
    verdict = harness.run(case)
    there.send(Verdict(verdict.word, verdict.detail[:4000]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
