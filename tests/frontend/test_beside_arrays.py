"""Operators between tensors and NumPy arrays: values, dtypes and errors as PyTorch has them."""
import operator
import warnings
from typing import Any

import numpy as np
import pytest

import flambeau as fb

torch = pytest.importorskip("torch")

ARITHMETIC = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "iadd", "imul", "itruediv", "imatmul")
BITS = ("and_", "or_", "xor", "lshift", "rshift", "iand")
NAMES = (*ARITHMETIC, *BITS, "eq", "lt", "ge")
COMPILED = (("float32", "int64"), ("int64", "int64"), ("bool", "int64"), ("float32", "float32"))
DTYPES = ("float16", "float32", "float64", "int64", "int32", "uint8", "bool")


def array(dtype: str) -> np.ndarray:
    return np.array([[3, 1], [2, 4]]).astype(dtype)


def outcome(lib: Any, name: str, ours: str, theirs: str, is_reflected: bool = False, is_compiled: bool = False) -> Any:
    """The dtype and elements of a tensor OP an array, or the type of the error."""
    x, a = lib.tensor(array(ours)), array(theirs).T.copy()

    def call(x: Any) -> Any:
        return getattr(operator, name)(*((a, x) if is_reflected else (x, a)))

    try:
        y = fb.compile(call)(x) if is_compiled else call(x)
    except (TypeError, ValueError, RuntimeError) as error:
        return TypeError if isinstance(error, TypeError) else type(error)
    return (y.dtype if lib is fb else getattr(fb, str(y.dtype)[6:])), y.tolist()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::RuntimeWarning")
@pytest.mark.parametrize("name", NAMES)
def test_a_tensor_beside_an_array_is_computed_by_numpy(name: str) -> None:
    for ours in DTYPES:
        for theirs in DTYPES:
            wanted = outcome(torch, name, ours, theirs)
            assert outcome(fb, name, ours, theirs) == wanted, (ours, theirs)
            if (ours, theirs) in COMPILED:
                assert outcome(fb, name, ours, theirs, is_compiled=True) == wanted, (ours, theirs)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_array_beside_a_tensor_divides_and_compares_alone() -> None:
    for name in ("truediv", "eq", "add", "sub", "mul", "pow", "matmul", "floordiv", "lt"):
        for ours, theirs in (("float32", "float32"), ("float32", "float64"), ("int64", "int64")):
            wanted = outcome(torch, name, ours, theirs, is_reflected=True)
            assert outcome(fb, name, ours, theirs, is_reflected=True) == wanted, (name, ours, theirs)
            assert outcome(fb, name, ours, theirs, is_reflected=True, is_compiled=True) == wanted, (name, ours, theirs)


def test_in_place_beside_an_array_makes_a_new_tensor() -> None:
    x = before = fb.ones(2)
    x += np.ones(2)
    assert x is not before and x.dtype == fb.float64 and before.tolist() == [1, 1]


def test_no_gradient_flows_through_numpy() -> None:
    x = fb.ones(2, requires_grad=True)
    for call in (lambda x: x + np.ones(2), lambda x: np.ones(2) / x, lambda x: x @ np.ones(2), lambda x: x.numpy()):
        with pytest.raises(RuntimeError, match="requires grad"):
            call(x)
    with pytest.raises(RuntimeError, match="requires grad"):
        fb.compile(lambda x: x + np.ones(2))(x)
    with fb.no_grad():
        assert (x + x.numpy()).tolist() == [2, 2]
    assert (x == np.ones(2)).all() and not (np.ones(2) != x).any()


def test_numpys_functions_give_tensors_for_tensors() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        x = fb.tensor([1.0, 2.0])
        assert isinstance(np.exp(x), fb.Tensor) and isinstance(np.add(np.ones(2), x), fb.Tensor)
        assert np.isnan(x).dtype == fb.uint8


def test_complex_ones_too() -> None:
    z, a = np.array([1 + 2j, 3]), np.array([1.0, 3.0])
    assert (fb.tensor(z) * a).tolist() == (z * a).tolist()
    assert (fb.tensor(a) * z).tolist() == (z * a).tolist()
    assert (fb.tensor(z) == a).tolist() == [False, True]
    assert (fb.tensor(a) != z).tolist() == [True, False]


def test_sizes_that_do_not_broadcast_and_dtypes_without_numbers() -> None:
    with pytest.raises(ValueError, match="broadcast"):
        fb.ones(2) + np.ones(3)
    with pytest.raises(TypeError):
        fb.ones(2) + np.array(["a", "b"])
    with pytest.raises(TypeError, match="can't make a tensor"):
        fb.ones(2) == np.array(["a", "b"])      # noqa: B015
