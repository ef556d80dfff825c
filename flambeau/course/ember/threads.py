"""Work in shares, one for each thread."""
import os
from concurrent.futures import ThreadPoolExecutor

WORKERS = os.cpu_count() or 1
POOL = ThreadPoolExecutor(WORKERS)


def shares(n, workers):
    """[(begin, end), ...] that cut 0..n into `workers` parts, in order, that differ by one at most; fewer if n is less, and
    none of nothing."""
    # <solution>
    workers = min(n, workers)
    cuts = [n * worker // workers for worker in range(workers + 1)] if workers else []
    return list(zip(cuts, cuts[1:], strict=False))
    # </solution>


def parallel(kernel, n, *arguments, least=20_000, workers=WORKERS):
    """kernel(*arguments, begin, end) over all of 0..n, and wait until all is done: by the calling thread if n is less than
    `least`, for waking others takes longer then; else by the pool. What a kernel raises is raised here."""
    # <solution>
    if n < least or workers == 1:
        kernel(*arguments, 0, n)
        return
    waiting = [POOL.submit(kernel, *arguments, begin, end) for begin, end in shares(n, workers)]
    for one in waiting:
        one.result()
    # </solution>
