"""Eigenvalues of matrices that are not symmetric, which are complex."""
from __future__ import annotations

from typing import Any, NamedTuple

from flambeau.errors import ShapeError, TypeInferenceError
from flambeau.frontend.functions import complex_math, complex_table, complex_views, creation, views
from flambeau.frontend.functions.coerce import one_tensor, tensor_of, user_line
from flambeau.frontend.functions.complex_parts import conj, joined, split
from flambeau.frontend.functions.linear_algebra import dispatched
from flambeau.frontend.tape.custom import Function
from flambeau.frontend.tensor.complex_tensor import ComplexTensor
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import dtypes as dt
from flambeau.ir import ops

solve, matmul = complex_table.FUNCTIONS["solve"], complex_table.MATMUL["matmul"]


class Eigen(NamedTuple):
    """Eigenvalues, and eigenvectors in columns, both complex."""

    eigenvalues: Tensor
    eigenvectors: Tensor


def eig(A: Tensor) -> Eigen:
    """See `fb.linalg.eig`."""
    a = one_tensor("linalg.eig", A)
    shape, dtype = tuple(a.shape), a._pair.dtype if isinstance(a, ComplexTensor) else a.dtype
    if dtype not in (dt.f32, dt.f64):
        raise TypeInferenceError(f"linalg.eig: takes f32, f64 or complex numbers, got {a._type}", where=user_line())
    if len(shape) < 2 or shape[-1] != shape[-2]:
        raise ShapeError(f"linalg.eig: takes square matrices, got {shape}", where=user_line())
    real, imag = split(a)
    parts = _Eig.apply(real, creation.zeros_like(real) if imag is None else imag)
    return Eigen(joined(*parts[:2]), joined(*parts[2:]))


class _Eig(Function):
    """By parts, so that the tape sees real tensors."""

    generate_vmap_rule = True

    @staticmethod
    def forward(real: Tensor, imag: Tensor) -> tuple[Tensor, ...]:
        found: Any = dispatched(ops.Eig(), real, imag)
        return tuple(found)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
        ctx.save_for_backward(*output)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Any, ...]:
        """V^-H ((V^H dV - V^H V diag(re(V^H dV))) / conj(E) + diag(dL)) V^H with E_ij = L_j - L_i: vectors of length 1
        whose phase is free. C. Boeddeker et al., "On the computation of complex-valued gradients with application to
        statistically optimum beamforming", 2017, (4.77)."""
        saved = ctx.saved_tensors
        values, vectors = joined(*saved[:2]), joined(*saved[2:])
        by_values, by_vectors = joined(*gradients[:2]), joined(*gradients[2:])
        turned = conj(complex_views.matrix_transposed(vectors))
        product = matmul(turned, by_vectors)
        lengths = views.diagonal(split(product)[0], 0, -2, -1)
        free = matmul(turned, complex_math.mul(vectors, views.unsqueeze(lengths, -2)))
        gaps = complex_math.sub(complex_views.unsqueeze(values, -2), complex_views.unsqueeze(values, -1))
        n = values.shape[-1]
        on_diagonal = creation.eye(n, dtype=dt.bool_, device="cpu")
        one, zero = (tensor_of(number, values._pair.dtype) for number in (1, 0))
        re, im = split(conj(gaps))
        safe = joined(*[complex_math.choose(on_diagonal, fill, part) for fill, part in ((one, re), (zero, im))])
        middle = complex_math.div(complex_math.sub(product, free), safe)
        filled = [complex_math.choose(on_diagonal, views.diag_embed(g), m) for g, m in zip(
            split(by_values), split(middle), strict=True)]
        found = solve(turned, matmul(joined(*filled), turned))
        return tuple(split(found))


