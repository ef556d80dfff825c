import pickle

import pytest

from flambeau import errors
from flambeau.errors import FlambeauError, KernelError, ShapeError, TypeInferenceError, UnsupportedError


def test_message_alone_prints_as_is():
    assert str(FlambeauError("no such op")) == "no such op"


def test_where_and_hint_go_on_the_second_line():
    error = TypeInferenceError("matmul: dims differ", where="train.py:31: h @ w", hint="did you mean w.T?")
    assert (
        str(error) == "matmul: dims differ\n  traced at train.py:31: h @ w          hint: did you mean w.T?"
    )


def test_errors_are_the_builtins_users_catch():
    assert issubclass(ShapeError, RuntimeError) and issubclass(ShapeError, ValueError)
    assert issubclass(TypeInferenceError, RuntimeError)
    assert issubclass(errors.IndexOutOfRangeError, IndexError)
    assert issubclass(UnsupportedError, NotImplementedError)


@pytest.mark.parametrize("name", [name for name in errors.__all__ if issubclass(getattr(errors, name), FlambeauError)])
def test_every_error_survives_pickling(name):
    error = getattr(errors, name)("what", where="a.py:1", hint="do this")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error) and str(copy) == str(error)


def test_kernel_error_carries_status_and_details():
    error = pickle.loads(pickle.dumps(KernelError("bad index", status=1, details=(7, 5))))
    assert (error.status, error.details) == (1, (7, 5))
