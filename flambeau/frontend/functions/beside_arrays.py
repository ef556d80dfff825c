"""A tensor beside a NumPy array. As PyTorch has it the operation is NumPy's, its promotion and its errors too, and the
result a tensor; only == and != take the array for a tensor. No gradient flows through NumPy."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from flambeau.frontend.active import active
from flambeau.frontend.functions import creation
from flambeau.frontend.functions.coerce import cast
from flambeau.frontend.functions.sharing import check_leaves_tape
from flambeau.frontend.functions.stumbles import STUMBLES, complex_instead
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import dtypes as dt

UFUNCS: Final[dict[str, np.ufunc]] = {      # what NumPy does for an operator
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "truediv": np.true_divide, "floordiv": np.floor_divide,
    "mod": np.remainder, "pow": np.power, "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor,
    "lshift": np.left_shift, "rshift": np.right_shift, "matmul": np.matmul}
Binary = Callable[[Any, Any], Tensor]


def tensor_from(array: np.ndarray) -> Tensor:
    """The array as a tensor that shares its memory, complex ones too. Raises TypeError for a dtype tensors lack."""
    try:
        return creation.from_numpy(array)
    except STUMBLES as error:
        found: Tensor = complex_instead(error, "from_numpy", array)
        return found


def array_wrap(self: Tensor, array: Any, context: Any = None, return_scalar: bool = False) -> Tensor:
    """What NumPy's functions make of their result where an argument was a tensor; bool becomes uint8, as in PyTorch."""
    array = np.asarray(array)
    return tensor_from(array.view(np.uint8) if array.dtype == np.bool_ else array)


def arithmetic(ufunc: np.ufunc, function: Binary, x: Tensor, array: np.ndarray) -> Tensor:
    """x OP array, by NumPy: f32 beside f64 or i64 is f64. Under trace `function` is computed of operands cast as NumPy
    would, the array a constant. Raises RuntimeError if x requires grad, and what NumPy raises."""
    if active.tracer is None:
        return array_wrap(x, ufunc(x.numpy(), array))
    check_leaves_tape(x)
    of_x = np.dtype(np.float32) if x.dtype is dt.bf16 else x.dtype.storage
    left, right, result = ufunc.resolve_dtypes((of_x, array.dtype, None))
    found = function(cast(x, dt.from_numpy_dtype(left)), tensor_from(array.astype(right)))
    return cast(found, dt.u8 if result == np.bool_ else dt.from_numpy_dtype(result))


def comparison(function: Binary, x: Tensor, array: np.ndarray) -> Tensor:
    """x == array or x != array, elementwise."""
    return function(x, tensor_from(array))
