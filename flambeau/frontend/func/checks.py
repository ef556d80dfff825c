"""Derivatives against central differences."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from flambeau.frontend.func.forward import jvp
from flambeau.frontend.tape.autograd import no_grad, set_grad_enabled
from flambeau.frontend.tape.backward import grad
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import dtypes as dt

Function = Callable[..., Any]


class GradcheckError(RuntimeError):
    """A derivative that differs from the slope of the function, or can't be computed."""


def gradcheck(func: Function, inputs: Any, *, eps: float = 1e-6, atol: float = 1e-5, rtol: float = 1e-3,
              raise_exception: bool = True, nondet_tol: float = 0.0, check_undefined_grad: bool = True,
              check_grad_dtypes: bool = False, check_batched_grad: bool = False, check_batched_forward_grad: bool = False,
              check_forward_ad: bool = False, check_backward_ad: bool = True, fast_mode: bool = False,
              masked: bool | None = None) -> bool:
    """Whether the gradients of `func` with respect to the inputs that require grad are its central differences over eps,
    to within atol + rtol * |difference|. func takes tensors and gives a tensor or a tuple of them; use float64.

    check_forward_ad: tangents too. nondet_tol: how far two backward walks may differ. fast_mode: one random direction
    instead of every element. The other options are PyTorch's and change nothing.
    Raises GradcheckError that names output and input, unless raise_exception is False; ValueError where no input
    requires grad."""
    given = tuple(inputs) if isinstance(inputs, (tuple, list)) else (inputs,)
    wanted = [n for n, t in enumerate(given) if isinstance(t, Tensor) and t.requires_grad]
    if not wanted:
        raise ValueError("gradcheck: at least one input must require grad")
    try:
        slopes = _slopes(func, given, wanted, eps)
        if check_backward_ad:
            found = _gradients(func, given, wanted, nondet_tol)
            _compare(found, slopes, atol, rtol, "gradient")
        if check_forward_ad:
            _compare(_tangents(func, given, wanted), slopes, atol, rtol, "tangent")
    except GradcheckError:
        if raise_exception:
            raise
        return False
    return True


def gradgradcheck(func: Function, inputs: Any, grad_outputs: Any = None, *, eps: float = 1e-6, atol: float = 1e-5,
                  rtol: float = 1e-3, gen_non_contig_grad_outputs: bool = False, raise_exception: bool = True,
                  nondet_tol: float = 0.0, check_undefined_grad: bool = True, check_grad_dtypes: bool = False,
                  check_batched_grad: bool = False, check_fwd_over_rev: bool = False, check_rev_over_rev: bool = True,
                  fast_mode: bool = False, masked: bool = False) -> bool:
    """`gradcheck` of the gradients of func, with respect to inputs and grad_outputs (None: random ones)."""
    given = tuple(inputs) if isinstance(inputs, (tuple, list)) else (inputs,)
    if grad_outputs is None:
        rng = np.random.default_rng(0)
        starts = [Tensor._from_array(dt.to_storage(rng.standard_normal(tuple(y.shape)), y.dtype), y.dtype).requires_grad_()
                  for y in _outputs(func, given)]
    else:
        starts = list(grad_outputs) if isinstance(grad_outputs, (tuple, list)) else [grad_outputs]
    count = len(given)

    def gradients(*args: Any) -> tuple[Tensor, ...]:
        ours, cotangents = args[:count], args[count:]
        with set_grad_enabled(True):
            leaves = [t for t in ours if isinstance(t, Tensor) and t.requires_grad]
            found = grad(_outputs(func, ours), leaves, cotangents, create_graph=True, allow_unused=True)
        return tuple([g for g in found if g is not None])

    return gradcheck(gradients, (*given, *starts), eps=eps, atol=atol, rtol=rtol, raise_exception=raise_exception,
                     nondet_tol=nondet_tol, check_forward_ad=check_fwd_over_rev, check_backward_ad=check_rev_over_rev)


def _outputs(func: Function, given: Sequence[Any]) -> list[Tensor]:
    """The outputs that have derivatives."""
    found = func(*given)
    return [t for t in (found if isinstance(found, (tuple, list)) else (found,))
            if isinstance(t, Tensor) and t.dtype.is_floating_point]


Blocks = list[list[np.ndarray]]             # by output, by input: [elements of the output, elements of the input]


def _slopes(func: Function, given: Sequence[Any], wanted: Sequence[int], eps: float) -> Blocks:
    """Central differences. The inputs are moved in place, and put back."""
    columns: list[list[list[np.ndarray]]] = []
    for n in wanted:
        moved = given[n].detach().clone()
        args = [moved.requires_grad_() if m == n else t.detach().requires_grad_(t.requires_grad) if isinstance(t, Tensor)
                and t.dtype.is_floating_point else t for m, t in enumerate(given)]
        data, of_input = moved._data(), []
        for place in np.ndindex(data.shape):
            saved, ends = data[place].copy(), []
            for sign in (1, -1):
                data[place] = saved + sign * eps
                ends.append([np.array(y.detach().double().numpy()).ravel() for y in _outputs(func, args)])
            data[place] = saved
            of_input.append([(a - b) / (2 * eps) for a, b in zip(*ends, strict=True)])
        columns.append(of_input)
    sizes = [y.numel() for y in _outputs(func, given)]
    return [[np.stack([column[k] for column in of_input], 1) if of_input else np.zeros((size, 0)) for of_input in columns]
            for k, size in enumerate(sizes)]


def _gradients(func: Function, given: Sequence[Any], wanted: Sequence[int], nondet_tol: float) -> Blocks:
    with set_grad_enabled(True):
        outputs = _outputs(func, given)
    leaves = [given[n] for n in wanted]
    blocks: Blocks = []
    for y in outputs:
        rows: list[list[np.ndarray]] = [[] for _ in leaves]
        for place in range(y.numel()):
            start = np.zeros(y.numel())
            start[place] = 1
            ct = Tensor._from_array(dt.to_storage(start.reshape(tuple(y.shape)), y.dtype), y.dtype)
            walks = [grad([y], leaves, [ct], retain_graph=True, allow_unused=True) if y.requires_grad
                     else (None,) * len(leaves) for _ in range(2)]
            for row, leaf, g, again in zip(rows, leaves, *walks, strict=True):
                row.append(np.zeros(leaf.numel()) if g is None else g.double().numpy().ravel())
                moved = 0.0 if again is None else np.abs(row[-1] - again.double().numpy().ravel()).max(initial=0.0)
                if moved > nondet_tol:
                    raise GradcheckError("gradcheck: backward is not reentrant: two walks over one tape gave different "
                                         "gradients; allow it with nondet_tol")
        blocks.append([np.stack(row) if row else np.zeros((0, leaf.numel()))
                       for row, leaf in zip(rows, leaves, strict=True)])
    return blocks


def _tangents(func: Function, given: Sequence[Any], wanted: Sequence[int]) -> Blocks:
    columns: list[list[list[np.ndarray]]] = []
    for n in wanted:
        of_input = []
        for place in range(given[n].numel()):
            direction = np.zeros(given[n].numel())
            direction[place] = 1
            t = Tensor._from_array(dt.to_storage(direction.reshape(tuple(given[n].shape)), given[n].dtype), given[n].dtype)
            with no_grad():
                _, along = jvp(lambda x, n=n: tuple(_outputs(func, [x if m == n else a for m, a in enumerate(given)])),
                               (given[n],), (t,))
            of_input.append([a.double().numpy().ravel() for a in along])
        columns.append(of_input)
    return [[np.stack([column[k] for column in of_input], 1) for of_input in columns]
            for k in range(len(columns[0][0]) if columns and columns[0] else 0)]


def _compare(found: Blocks, slopes: Blocks, atol: float, rtol: float, what: str) -> None:
    for output, (blocks, expected) in enumerate(zip(found, slopes, strict=False)):
        for number, (a, n) in enumerate(zip(blocks, expected, strict=True)):
            if not np.allclose(a, n, rtol, atol, equal_nan=True):
                raise GradcheckError(f"gradcheck: the {what} of output {output} with respect to input {number} is not the "
                                     f"slope of the function\nnumerical:\n{n}\nanalytical:\n{a}")


__all__ = ["GradcheckError", "gradcheck", "gradgradcheck"]
