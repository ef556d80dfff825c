"""Programs for a process of their own: crashes, hangs, odd environments, other modes of Python, forks and threads."""
from __future__ import annotations

import textwrap

from tests.contract.harness import Script, register, script

PREAMBLE = """
import flambeau as fb
from flambeau import nn, optim
import flambeau.nn.functional as F
def refused(f, *args, kinds=Exception):
    try:
        f(*args)
    except kinds as error:
        assert str(error), repr(error)
        return error
    raise AssertionError("no error")
"""


def program(source, **how):
    return Script(PREAMBLE + textwrap.dedent(source), **how)


# -- odd environments -------------------------------------------------------------------------------------------------

THREADS = ("0", "-1", "99999999999999999999", "²", "two", "", " 2 ", "1e3", "2.5", "０", "0x10", "4096", "nan")
for _n, _value in enumerate(THREADS):
    for _variable in ("FLAMBEAU_NUM_THREADS", "OMP_NUM_THREADS"):
        def _threads(value=_value, variable=_variable):
            """Works, or says the variable's name in one sentence of ours, at import or at the first use."""
            return Script(textwrap.dedent("""
                import sys
                try:
                    import flambeau as fb
                    f = fb.compile(lambda x: (x * 2).sum())
                    assert f(fb.ones(100000)).item() == 200000.0
                except Exception as error:
                    from flambeau.errors import FlambeauError
                    assert isinstance(error, (FlambeauError, ValueError)), repr(error)
                    assert "NUM_THREADS" in str(error), error
            """), environment={variable: value})

        _threads.__module__ = __name__
        register("script", _threads, f"{_variable}_{_n}")

for _n, _value in enumerate(("~nobody/x", "/dev/null", "/proc/nowhere", "", "\udcff", "/", "a" * 5000, "~")):
    def _cache(value=_value):
        return Script(textwrap.dedent("""
            try:
                import flambeau as fb
                f = fb.compile(lambda x: (x * 2).sum())
                assert f(fb.ones(4)).item() == 8.0
            except Exception as error:
                from flambeau.errors import FlambeauError
                assert isinstance(error, FlambeauError), repr(error)
                assert "FLAMBEAU_CACHE_DIR" in str(error), error
        """), environment={"FLAMBEAU_CACHE_DIR": value})

    _cache.__module__ = __name__
    register("script", _cache, f"FLAMBEAU_CACHE_DIR_{_n}")

for _variable, _values in {"FLAMBEAU_DISABLE_JIT": ("1", "0", "yes", "²"), "FLAMBEAU_LOGS": ("fusion", "nonsense", ","),
                           "FLAMBEAU_TARGET": ("", "nonsense"), "FLAMBEAU_DUMP": ("/dev/null/x", "")}.items():
    for _n, _value in enumerate(_values):
        def _setting(variable=_variable, value=_value):
            return Script(textwrap.dedent(f"""
                try:
                    import flambeau as fb
                    f = fb.compile(lambda x: (x * 2).sum())
                    assert f(fb.ones(4)).item() == 8.0
                except Exception as error:
                    from flambeau.errors import FlambeauError
                    assert isinstance(error, (FlambeauError, ValueError)), repr(error)
                    assert {variable!r} in str(error), error
            """), environment={variable: value})

        _setting.__module__ = __name__
        register("script", _setting, f"{_variable}_{_n}")


@script
def cache_folder_that_cannot_be_written():
    return program("""
        import os, stat, tempfile
        folder = tempfile.mkdtemp()
        os.chmod(folder, 0o500)
        os.environ["FLAMBEAU_CACHE_DIR"] = folder
        assert fb.compile(lambda x: x * 2)(fb.ones(2)).tolist() == [2.0, 2.0]
    """)


@script
def cache_entries_that_are_broken():
    return program("""
        import os, subprocess, sys, tempfile
        folder = tempfile.mkdtemp()
        source = ("import flambeau as fb; f = fb.compile(lambda x: (x * 2).sum());"
                  "assert f(fb.ones(64)).item() == 128.0")
        env = {**os.environ, "FLAMBEAU_CACHE_DIR": folder}
        assert subprocess.run([sys.executable, "-c", source], env=env).returncode == 0
        for spoil in (b"", b"garbage", b"\\x00" * 1000):
            for root, _, files in os.walk(folder):
                for name in files:
                    open(os.path.join(root, name), "wb").write(spoil)
            done = subprocess.run([sys.executable, "-c", source], env=env, capture_output=True, text=True)
            assert done.returncode == 0, (spoil, done.stderr)
    """, time_limit_s=300)


# -- zero sizes, absurd arguments -------------------------------------------------------------------------------------


@script
def rows_of_zero_size():
    return program("""
        @fb.compile
        def f(x):
            y = (x * 2)[:700]
            return y, y.sum(1)
        for _ in range(30):
            y, s = f(fb.ones(1300, 0))
            assert y.shape == (700, 0) and s.shape == (700,) and s.sum().item() == 0
        g = fb.compile(lambda x: ((x * 3)[5:9] * 2, (x + 1)[:2].prod(1), fb.cat([x, x])[1:].mean(0)))
        for _ in range(30):
            g(fb.ones(1300, 0))
    """)


ABSURD = {
    "zeros_too_large": "fb.zeros(2**40, 2**40)",
    "zeros_negative": "fb.zeros(-1)",
    "zeros_overflowing": "fb.zeros(2**62, 4)",
    "repeat_negative": "fb.compile(lambda x: x.repeat(-1, 1))(fb.ones(2, 2))",
    "repeat_huge": "fb.compile(lambda x: x.repeat(2**40, 2**30))(fb.ones(2, 2))",
    "expand_huge": "fb.compile(lambda x: x.expand(2**40, 2**40) + 1)(fb.ones(1))",
    "reshape_overflowing": "fb.compile(lambda x: x.reshape(2**32, 2**32))(fb.ones(2))",
    "arange_huge": "fb.compile(lambda: fb.arange(2**60))()",
    "eye_negative": "fb.compile(lambda: fb.eye(-3))()",
    "linspace_negative": "fb.compile(lambda: fb.linspace(0, 1, -5))()",
    "narrow_beyond": "fb.compile(lambda x: x.narrow(0, 1, 2**40))(fb.ones(2))",
    "select_beyond": "fb.compile(lambda x: x[2**70])(fb.ones(2))",
    "pad_negative": "fb.compile(lambda x: F.pad(x, (-10, -10)))(fb.ones(2))",
    "pool_of_size_zero": "fb.compile(lambda x: F.max_pool2d(x, 0))(fb.ones(1, 1, 4, 4))",
    "convolution_of_stride_zero": "fb.compile(lambda x, w: F.conv2d(x, w, stride=0))(fb.ones(1, 1, 4, 4), "
                                  "fb.ones(1, 1, 2, 2))",
    "convolution_larger_than_the_image": "fb.compile(lambda x, w: F.conv2d(x, w))(fb.ones(1, 1, 2, 2), "
                                         "fb.ones(1, 1, 5, 5))",
    "chunk_of_zero": "fb.compile(lambda x: x.chunk(0))(fb.ones(2))",
    "split_of_zero": "fb.compile(lambda x: x.split(0))(fb.ones(2))",
    "unflatten_nonsense": "fb.compile(lambda x: x.unflatten(0, (3, -1)))(fb.ones(2))",
    "randint_empty_range": "fb.compile(lambda: fb.randint(5, 5, (2,)))()",
    "multinomial_of_zeros": "fb.compile(lambda x: fb.multinomial(x, 1))(fb.zeros(3))",
    "one_hot_negative": "F.one_hot(fb.tensor([-1]), 3)",
    "embedding_out_of_range": "fb.compile(lambda i, w: F.embedding(i, w))(fb.tensor([9]), fb.ones(3, 2))",
    "integer_division_by_zero": "fb.compile(lambda a, b: a // b)(fb.tensor([1]), fb.tensor([0]))",
    "index_out_of_range": "fb.compile(lambda x, i: x[i])(fb.ones(2), fb.tensor([2**40]))",
    "scatter_out_of_range": "fb.compile(lambda x, i: x.scatter(0, i, x))(fb.ones(2), fb.tensor([0, -9]))",
    "topk_beyond": "fb.compile(lambda x: x.topk(5))(fb.ones(2))",
    "threads_negative": "fb.set_num_threads(-1)",
    "threads_huge": "fb.set_num_threads(2**40)",
}
for _name, _expression in ABSURD.items():
    def _absurd(expression=_expression):
        """One clear error: no assert, no abort, no traceback of ours through an internal name."""
        return program(f"""
            try:
                {expression}
            except (AssertionError, SystemError, RecursionError, KeyError, AttributeError, NameError,
                    UnboundLocalError) as error:
                raise SystemExit(f"internal: {{error!r}}")
            except MemoryError:
                pass
            except Exception as error:
                assert str(error), repr(error)
            else:
                raise SystemExit("no error")
        """)

    _absurd.__module__ = __name__
    register("script", _absurd, f"absurd_{_name}")

    def _absurd_without_asserts(expression=_expression):
        return program(f"""
            try:
                {expression}
            except (SystemError, RecursionError, KeyError, AttributeError, NameError) as error:
                raise SystemExit(f"internal: {{error!r}}")
            except Exception as error:
                if not str(error) and not isinstance(error, MemoryError):
                    raise SystemExit(repr(error))
            else:
                raise SystemExit("no error")
        """, options=("-O",))

    _absurd_without_asserts.__module__ = __name__
    if _name in ("repeat_negative", "pool_of_size_zero", "convolution_of_stride_zero", "scatter_out_of_range"):
        register("script", _absurd_without_asserts, f"absurd_{_name}_without_asserts")

CONTAINERS = {
    "cyclic_list": "c = [1.0]; c.append(c)",
    "cyclic_dict": "c = {'a': 1.0}; c['self'] = c",
    "cyclic_object": "import types; c = types.SimpleNamespace(k=1.0); c.me = c",
    "cyclic_through_a_tuple": "c = []; c.append((c,))",
    "deep_list": "c = [1.0]\nfor _ in range(300): c = [c]",
    "very_deep_list": "c = [1.0]\nfor _ in range(100000): c = [c]",
    "very_deep_dict": "c = {'k': 1.0}\nfor _ in range(50000): c = {'k': c}",
    "deep_objects": "import types; c = types.SimpleNamespace(k=1.0)\nfor _ in range(5000): c = types.SimpleNamespace(k=c)",
    "wide_list": "c = [float(n) for n in range(5000)]",
    "deep_modules": "c = nn.ReLU()\nfor _ in range(400): c = nn.Sequential(c)",
}
for _name, _make in CONTAINERS.items():
    for _how, _call in (("as_argument", "fb.compile(lambda x, c: x * 2)(fb.ones(2), c)"),
                        ("captured", "fb.compile(lambda x: x * 2 if c is not None else x)(fb.ones(2))"),
                        ("as_result", "fb.compile(lambda x: (x * 2, c))(fb.ones(2))")):
        def _contained(make=_make, call=_call):
            """Works, or one error of ours."""
            return program(make + "\n" + textwrap.dedent(f"""
                for _ in range(3):
                    try:
                        {call}
                    except fb.errors.FlambeauError as error:
                        assert str(error)
                import os
                os._exit(0)     # freeing a very deep container is Python's own trouble
            """))

        _contained.__module__ = __name__
        register("script", _contained, f"{_name}_{_how}")


# -- text of the IR ---------------------------------------------------------------------------------------------------

TEXTS = {
    "deep_nesting": "'(' * 100000",
    "long_literal": "'graph @g { %0 = input arg \"x\" : f32[' + '9' * 5000 + '] return %0 }'",
    "long_number": "'graph @g { %0 = constant(' + '7' * 5000 + ') : i64[] return %0 }'",
    "huge_dims": "'graph @g { %0 = input arg \"x\" : f32[' + ','.join(['99999'] * 2000) + '] return %0 }'",
    "unknown_dtype": "'graph @g { %0 = input arg \"x\" : f32[2] %1 = cast(%0, dtype=foo) : f32[2] return %1 }'",
    "input_without_result": "'graph @g { input arg \"x\" : f32[2] }'",
    "negative_dim": "'graph @g { %0 = input arg \"x\" : f32[-2] return %0 }'",
    "no_text": "''",
    "nul_bytes": "'graph @g {\\x00}'",
    "unfinished": "'graph @g { %0 = input arg \"x'",
    "missing_value": "'graph @g { return %7 }'",
    "deep_regions": "'graph @g {' * 3000",
    "deep_tuple": "'graph @g { %0 = input arg \"x\" : f32[2] %1 = permute(%0, dims=' + '(' * 5000 + ')' * 5000 + ') }'",
    "surrogates": "'graph @g { %0 = input arg \"\\udcff\" : f32[2] return %0 }'",
    "huge_value_number": "'graph @g { %' + '9' * 6000 + ' = input arg \"x\" : f32[2] return %0 }'",
}
for _name, _text in TEXTS.items():
    def _parsed(text=_text):
        return program(f"""
            text = {text}
            try:
                fb.ir.parse(text)
            except fb.errors.FlambeauError as error:
                assert str(error)
            else:
                assert {"deep" not in _name and "no_text" != _name}
        """)

    _parsed.__module__ = __name__
    register("script", _parsed, f"text_{_name}")


# -- processes and threads --------------------------------------------------------------------------------------------


@script
def fork_after_compiling():
    return program("""
        import os
        f = fb.compile(lambda x: (x @ x).sum())
        x = fb.ones(300, 300)
        assert f(x).item() == 300.0 ** 3
        child = os.fork()
        if child == 0:
            ok = f(x).item() == 300.0 ** 3 and fb.compile(lambda x: x.sum())(x).item() == 90000.0
            os._exit(0 if ok else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert f(x).item() == 300.0 ** 3
    """)


@script
def multiprocessing_spawn_with_a_compiled_module():
    return Script(PREAMBLE + textwrap.dedent("""
        import multiprocessing, pickle
        m = nn.Linear(2, 2)
        f = fb.compile(m)
        expected = f(fb.ones(1, 2)).tolist()
        copy = pickle.loads(pickle.dumps(f))
        assert copy(fb.ones(1, 2)).tolist() == expected
    """))


@script
def threads_call_one_function():
    return program("""
        import threading
        total = fb.zeros(2)
        @fb.compile
        def f(x):
            total.add_(x)
            return x * 2
        bad = []
        def work():
            for _ in range(50):
                if f(fb.ones(2)).tolist() != [2.0, 2.0]:
                    bad.append(1)
        threads = [threading.Thread(target=work) for _ in range(8)]
        [t.start() for t in threads]; [t.join() for t in threads]
        assert not bad and total.tolist() == [400.0, 400.0], total
    """)


@script
def threads_compile_at_once():
    return program("""
        import threading
        bad = []
        def work(k):
            f = fb.compile(lambda x: (x * k).sum() + x.mean())
            for _ in range(5):
                if f(fb.ones(50)).item() != 50.0 * k + 1:
                    bad.append(k)
        threads = [threading.Thread(target=work, args=(k,)) for k in range(1, 9)]
        [t.start() for t in threads]; [t.join() for t in threads]
        assert not bad
    """)


@script
def thread_traces_while_another_runs_eagerly():
    return program("""
        import threading, time
        stop, bad = [], []
        def eager():
            w = fb.ones(2, requires_grad=True)
            while not stop:
                w.grad = None
                (w * 3).sum().backward()
                if w.grad.tolist() != [3.0, 3.0]:
                    bad.append(w.grad.tolist())
        thread = threading.Thread(target=eager); thread.start()
        for k in range(10):
            assert fb.compile(lambda x: x * k)(fb.ones(2)).tolist() == [k, k]
        stop.append(1); thread.join()
        assert not bad, bad[:3]
    """)


@script
def exit_while_threads_run():
    return program("""
        import threading
        f = fb.compile(lambda x: (x @ x).sum())
        def work():
            while True:
                f(fb.ones(64, 64))
        threading.Thread(target=work, daemon=True).start()
        f(fb.ones(64, 64))
    """)


@script
def garbage_collected_functions():
    return program("""
        import gc, weakref
        for n in range(20):
            w = fb.ones(2, requires_grad=True)
            f = fb.compile(lambda x: (x * w * n).sum())
            y = f(fb.ones(2)); alive = weakref.ref(f)
            del f
            gc.collect()
            y.backward()
            assert w.grad.tolist() == [float(n)] * 2
    """)


@script
def results_outlive_everything():
    return program("""
        import gc
        def made():
            f = fb.compile(lambda x: (x * 2, x[1:] + 1, x.sum()))
            return [f(fb.arange(5.0) + n) for n in range(50)]
        kept = made(); gc.collect()
        junk = [fb.rand(1000) for _ in range(100)]
        for n, (a, b, s) in enumerate(kept):
            assert a.tolist() == [2.0 * (i + n) for i in range(5)] and s.item() == 10 + 5 * n
    """)


@script
def warnings_are_errors():
    return program("""
        m = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 1))
        o = optim.Adam(m.parameters(), lr=0.1)
        @fb.compile
        def step(x):
            o.zero_grad(); loss = m(x).pow(2).mean(); loss.backward(); o.step()
            return loss
        for _ in range(3):
            step(fb.ones(2, 4))
        fb.compile(lambda x: (x / 0, x.log(), x.sqrt()))(-fb.ones(3))
    """, options=("-W", "error"))


@script
def optimized_twice():
    return program("""
        f = fb.compile(lambda x: (x.softmax(-1), x.cumsum(0), x[1:] * x[:-1]))
        out = f(fb.arange(6.0).view(2, 3))
        if abs(out[0].sum().item() - 2) > 1e-5 or out[1].tolist() != [[0.0, 1.0, 2.0], [3.0, 5.0, 7.0]]:
            raise SystemExit(1)
    """, options=("-OO",))


@script
def isolated_from_the_environment():
    return program("""
        assert fb.compile(lambda x: x * 2)(fb.ones(2)).tolist() == [2.0, 2.0]
    """, environment={"HOME": "/nonexistent", "XDG_CACHE_HOME": "/nonexistent", "TMPDIR": "/nonexistent"})


@script
def settrace_and_setprofile_of_the_users():
    return program("""
        import sys
        events = []
        def hook(frame, event, arg):
            events.append(event)
        k = 2.0
        def g(x):
            return x * k
        sys.setprofile(hook)
        f = fb.compile(g)
        assert f(fb.ones(2)).tolist() == [2.0, 2.0]
        assert sys.getprofile() is hook
        sys.setprofile(None)
        k = 3.0
        assert f(fb.ones(2)).tolist() == [3.0, 3.0]
        sys.settrace(lambda *a: None)
        k = 4.0
        assert f(fb.ones(2)).tolist() == [4.0, 4.0]
    """)


@script
def profiler_is_running():
    return program("""
        import cProfile
        k = 2.0
        f = fb.compile(lambda x: x * k)
        profile = cProfile.Profile()
        profile.enable()
        assert f(fb.ones(2)).tolist() == [2.0, 2.0]
        profile.disable()
        k = 3.0
        assert f(fb.ones(2)).tolist() == [3.0, 3.0]
    """)


@script
def low_recursion_limit_inside():
    return program("""
        import sys
        def deep(x, n):
            return x if n == 0 else deep(x + 1, n - 1)
        f = fb.compile(lambda x: deep(x, 300))
        assert f(fb.zeros(1)).item() == 300.0
        g = fb.compile(lambda x: g(x))
        error = refused(lambda: g(fb.ones(1)))
        assert isinstance(error, (RecursionError, fb.errors.FlambeauError)), repr(error)
        assert fb.compile(lambda x: x + 1)(fb.ones(1)).item() == 2.0
    """)


@script
def interrupted_by_a_signal_while_running():
    return program("""
        import signal
        f = fb.compile(lambda x: (x @ x).sum())
        rang = []
        signal.signal(signal.SIGALRM, lambda *a: rang.append(1))
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        for _ in range(200):
            assert f(fb.ones(50, 50)).item() == 125000.0
        signal.setitimer(signal.ITIMER_REAL, 0)
    """)


@script
def interrupted_by_a_signal_while_traced():
    return program("""
        import signal
        rang = []
        signal.signal(signal.SIGALRM, lambda *a: rang.append(1))
        while not rang:
            f = fb.compile(lambda x: sum((x @ x).sum() * i for i in range(200)))
            signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
            f(fb.ones(5, 5))
            signal.setitimer(signal.ITIMER_REAL, 0)
    """)


@script
def code_below_the_prefix_of_python():
    """A prefix that is a prefix of the path: /usr and /usr/src/app, or PREFIX and PREFIX-project."""
    return program("""
        import importlib, os, sys, tempfile
        top = tempfile.mkdtemp()
        for n, folder in enumerate(("src/app", "../" + os.path.basename(top) + "-project")):
            path = os.path.normpath(os.path.join(top, folder))
            os.makedirs(path, exist_ok=True)
            name = f"below_{n}"
            open(os.path.join(path, name + ".py"), "w").write(
                "K = 2.0\\nclass Box:\\n    def __init__(self): self.k = 1.0\\n"
                "    def scale(self, x): return x * self.k * K\\n"
                "box = Box()\\ndef f(x): return box.scale(x)\\n")
            sys.path.insert(0, path)
            prefixes = sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix
            sys.prefix = sys.base_prefix = sys.exec_prefix = sys.base_exec_prefix = top
            module = importlib.import_module(name)
            f = fb.compile(module.f)
            assert f(fb.ones(2)).tolist() == [2.0, 2.0]
            module.K = 3.0
            got = f(fb.ones(2)).tolist()
            module.box.k = 2.0
            again = f(fb.ones(2)).tolist()
            sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix = prefixes
            assert got == [3.0, 3.0] and again == [6.0, 6.0], (folder, got, again)
    """)


@script
def source_that_is_not_on_disk():
    return program("""
        namespace = {"K": 2.0}
        exec(compile("def g(x):\\n    return x * K", "<made up>", "exec"), namespace)
        f = fb.compile(namespace["g"])
        assert f(fb.ones(2)).tolist() == [2.0, 2.0]
        namespace["K"] = 3.0
        assert f(fb.ones(2)).tolist() == [3.0, 3.0]
        exec(compile("def h(x):\\n    return x * float(x.sum())", "", "exec"), namespace)
        refused(fb.compile(namespace["h"]), fb.ones(2), kinds=fb.errors.TraceError)
    """)


@script
def memory_does_not_grow_with_refusals():
    return program("""
        import gc, resource
        w = fb.ones(1000, requires_grad=True)
        @fb.compile
        def f(x):
            y = (w * x).sum()
            return y * float(y)
        def peak():
            gc.collect()
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for _ in range(50):
            refused(f, fb.ones(1000), kinds=fb.errors.TraceError)
        before = peak()
        for _ in range(300):
            refused(f, fb.ones(1000), kinds=fb.errors.TraceError)
        assert peak() - before < 30_000, peak() - before
    """)


@script
def compiled_functions_at_exit():
    return program("""
        import atexit
        f = fb.compile(lambda x: (x * 2).sum())
        f(fb.ones(2))
        class Late:
            def __del__(self):
                f(fb.ones(2))
        late = Late()
        @atexit.register
        def last():
            assert f(fb.ones(3)).item() == 6.0
    """)


@script
def options_of_torch_compile_are_taken():
    return program("""
        import warnings
        warnings.simplefilter("ignore")
        for options in ({"mode": "max-autotune"}, {"fullgraph": True}, {"dynamic": False}, {"dynamic": True},
                        {"backend": "inductor"}, {"mode": None}):
            try:
                f = fb.compile(lambda x: x * 2, **options)
                assert f(fb.ones(2)).tolist() == [2.0, 2.0]
            except fb.errors.FlambeauError as error:
                assert str(error)
    """)
