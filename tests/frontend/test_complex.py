"""Complex tensors: values, dtypes and gradients against PyTorch, eager and compiled; in modules; what is an error."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from against_torch import theirs

import flambeau as fb
import flambeau.nn.functional as F
from flambeau import nn, optim

Case = Callable[..., Any]


def drawn(shape: tuple[int, ...], seed: int, dtype: type[Any] = np.complex128) -> np.ndarray:
    rng = np.random.default_rng((*shape, seed))
    return np.asarray(rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(dtype)


# each takes z, w: [2, 3] complex and x: [2, 3] real
CASES: dict[str, Case] = {
    "add": lambda lib, z, w, x: [z + w, z + x, x + z, z + 2, 1j + z, lib.add(z, w, alpha=2j), z - w, 1 - z, lib.sub(z, 3j)],
    "mul": lambda lib, z, w, x: [z * w, z * x, x * z, z * 2, z * (1 + 2j), lib.mul(x, 1j), -z, +z, z.mul(w)],
    "div": lambda lib, z, w, x: [z / w, z / x, x / z, z / 2, z / (1 + 2j), 1 / z, z.reciprocal(), lib.div(2j, w)],
    "pow": lambda lib, z, w, x: [z**2, z**3, z**w, z**0.5, z**-1, z.square(), lib.pow(z, x), z**1.5],
    "exp": lambda lib, z, w, x: [z.exp(), lib.exp(z), z.log(), z.sqrt(), lib.sqrt(-z), z.rsqrt(), (z * w).log10()],
    "trigonometry": lambda lib, z, w, x: [lib.sin(z), z.cos(), z.tan(), lib.sinh(z), z.cosh(), z.tanh(), z.sigmoid()],
    "parts": lambda lib, z, w, x: [z.real, z.imag, lib.real(z), z.abs(), abs(w), z.angle(), z.conj() * z, z.sgn(),
                                   lib.view_as_real(z * w), lib.conj(z) + x],
    "made": lambda lib, z, w, x: [lib.polar(x, x * 2), lib.complex(x, x + 1),
                                  lib.view_as_complex(lib.stack([x, 2 * x], -1))],
    "compared": lambda lib, z, w, x: [z == z, z != w, z == 1, lib.isnan(z), lib.isfinite(z), lib.isclose(z, z + 1e-9)],
    "products": lambda lib, z, w, x: [z @ w.T, z @ x.T.to(z.dtype), lib.einsum("ij,kj->ik", z, w), z[0].dot(w[0]),
                                      lib.vdot(z[0], w[0]), lib.outer(z[0], w[1]), z.H @ w, lib.linalg.vecdot(z, w),
                                      lib.mv(z, w[0]), lib.einsum("ij,ij,ij->i", z, w, x.to(z.dtype)), lib.kron(z, w)],
    "sums": lambda lib, z, w, x: [z.sum(), z.sum(-1), z.mean(0, keepdim=True), z.cumsum(1), z.prod(1), z.std(), z.var(0),
                                  lib.linalg.norm(z), z.norm(dim=1)],
    "views": lambda lib, z, w, x: [z.reshape(3, 2), z.view(-1), z.T, z.permute(1, 0), z.unsqueeze(-1), z[None].squeeze(0),
                                   z[:, 1], z[..., 0], z[x > 0], z.expand(4, 2, 3), z.flatten(), z.transpose(-1, 0),
                                   z.narrow(-1, 0, 2), z.unbind(-1)[1], z.chunk(2, -1)[0], z.split(1)[1],
                                   z.unflatten(1, (3, 1)), z.movedim(0, -1), lib.diagonal(z), z.contiguous()],
    "joined": lambda lib, z, w, x: [lib.cat([z, w], -1), lib.stack([z, w], 1), lib.cat([z, x]), z.flip(0), z.roll(1, -1),
                                    lib.where(x > 0, z, w), z.masked_fill(x > 0, 1 - 2j), z.repeat(2, 1), z.tril(),
                                    z.trace(), z.index_select(1, lib.tensor([2, 0])), z.gather(1, lib.tensor([[0], [2]]))],
    "like": lambda lib, z, w, x: [lib.zeros_like(z), lib.ones_like(z), lib.full_like(z, 2j), z.new_zeros(2), z * 0 + 1,
                                  lib.zeros_like(z, dtype=lib.float32), lib.eye(2, dtype=z.dtype)],
    "in_place": lambda lib, z, w, x: [(z * 1).add_(w), (z * 1).mul_(x), (z * 2).neg_(), (z * 1).copy_(w), (z * 1).zero_()],
    "converted": lambda lib, z, w, x: [z.to(lib.complex64), z.cdouble(), x.to(lib.complex64), x.cfloat(), x.double() * z],
    "linalg": lambda lib, z, w, x: [lib.linalg.inv(z @ w.T + 5), lib.linalg.solve(z @ w.T + 5, w)],
    "rope": lambda lib, z, w, x: [lib.view_as_real(lib.view_as_complex(lib.cat([x, x], 1).reshape(2, 3, 2)) * lib.polar(
        lib.ones_like(x), x)).flatten(1)],
}


def run(lib: Any, function: Case, arrays: list[np.ndarray], is_compiled: bool = False) -> tuple[list[Any], list[Any]]:
    """Results, and gradients of a weighted sum of all their parts."""
    tensors = [lib.tensor(a).requires_grad_() for a in arrays]
    call = (lambda *tensors: function(lib, *tensors))
    found = (fb.compile(call) if is_compiled else call)(*tensors)
    total = 0.0
    for number, y in enumerate(found):
        if y.requires_grad:
            real = lib.view_as_real(lib.resolve_conj(y)) if y.is_complex() else y
            weights = np.random.default_rng(number).standard_normal(tuple(real.shape))
            total = total + (real.double() * lib.tensor(np.asarray(weights))).sum()
    if isinstance(total, float):
        return found, []
    return found, list(lib.autograd.grad(total, tensors, allow_unused=True))


def array_of(y: Any) -> np.ndarray:
    y = y.detach()
    return np.asarray(y.resolve_conj().numpy())


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_are_pytorchs(name: str) -> None:
    function, torch = CASES[name], theirs().module
    for is_compiled, kind, real in ((False, np.complex64, np.float32), (True, np.complex128, np.float64)):
        arrays = [drawn((2, 3), 0, kind), drawn((2, 3), 1, kind), drawn((2, 3), 2).real.astype(real)]
        if name in ("pow", "made"):
            arrays[2] = abs(arrays[2]) + 0.5
        if is_compiled and name == "views":
            continue                        # a bool mask
        found, grads = run(fb, function, arrays, is_compiled)
        expected, wanted = run(torch, function, arrays)
        assert len(found) == len(expected) and len(grads) == len(wanted)
        tolerance = 3e-4 if real is np.float32 else 1e-11
        for number, (a, b) in enumerate(zip([*found, *grads], [*expected, *wanted], strict=True)):
            if b is None or a is None:
                assert a is None or not array_of(a).any()
                continue
            assert a.dtype.torch_name == str(b.dtype).removeprefix("torch."), f"{number}: {a.dtype}, PyTorch's is {b.dtype}"
            x, y = array_of(a), array_of(b)
            assert x.shape == y.shape, f"{number}: {x.shape}, PyTorch's is {y.shape}"
            scale = max(1.0, abs(y).max(initial=0))
            np.testing.assert_allclose(x, y, rtol=0, atol=tolerance * scale, err_msg=f"result {number}")


def test_second_derivatives_agree_with_finite_differences() -> None:
    arrays = [drawn((2, 3), 0), drawn((2, 3), 1)]

    def slopes(z: fb.Tensor, w: fb.Tensor) -> tuple[fb.Tensor, ...]:
        y = ((z * w).exp() / (2 + z.abs()) + fb.sqrt(w) * z.tanh()).abs().sum()
        return fb.autograd.grad(y, (z, w), create_graph=True)

    directions = [drawn((2, 3), 2), drawn((2, 3), 3)]
    for decorated in (slopes, fb.compile(slopes)):
        tensors = [fb.tensor(a, requires_grad=True) for a in arrays]
        along = sum((fb.view_as_real(g) * fb.view_as_real(fb.tensor(d))).sum() for g, d in zip(
            decorated(*tensors), directions, strict=True))
        second = fb.autograd.grad(along, tensors)
        high, low = ([g.detach().numpy() for g in slopes(*[fb.tensor(a + s * d, requires_grad=True) for a, d in zip(
            arrays, directions, strict=True)])] for s in (1e-5, -1e-5))
        for found, a, b in zip(second, high, low, strict=True):
            np.testing.assert_allclose(found.numpy(), (a - b) / 2e-5, rtol=1e-5, atol=1e-5)


# -- what they are ----------------------------------------------------------------------------------------------------


def test_dtypes_and_shapes() -> None:
    z = fb.tensor([[1 + 2j, 3], [4j, 5]])
    assert (z.dtype, z.shape, z.ndim, z.numel(), z.element_size(), len(z)) == (fb.complex64, (2, 2), 2, 4, 8, 2)
    assert z.is_complex() and fb.is_complex(z) and not z.is_floating_point() and isinstance(z, fb.Tensor)
    assert fb.cfloat is fb.complex64 and fb.complex64.is_complex and fb.complex128.to_real() is fb.float64
    assert z.tolist() == [[1 + 2j, 3 + 0j], [4j, 5 + 0j]] and z[0, 0].item() == 1 + 2j and complex(z[0, 0]) == 1 + 2j
    assert repr(fb.tensor([1 + 2j])) == "tensor([1.+2.j])"
    assert repr(fb.zeros(1, dtype=fb.cdouble)) == "tensor([0.+0.j], dtype=flambeau.complex128)"
    assert z.stride() == (2, 1) and z.is_contiguous() and not z.T.is_contiguous()
    assert fb.tensor(np.zeros(2, np.complex128)).dtype is fb.complex128


def test_memory_is_shared_with_what_it_is_a_view_of() -> None:
    x = fb.zeros(3, 2)
    z = fb.view_as_complex(x)
    z[0] = 1 + 2j
    z.imag[2] = 7.0
    z.view(-1)[1].add_(1j)
    z.real = fb.tensor([1.0, 5.0, 3.0])
    assert x.tolist() == [[1.0, 2.0], [5.0, 1.0], [3.0, 7.0]]
    array = np.zeros(2, np.complex64)
    fb.from_numpy(array)[1] = 3j
    assert array.tolist() == [0, 3j]
    z.numpy()[0] = 9
    assert x[0].tolist() == [9.0, 0.0]


def test_copies_survive_pickle() -> None:
    z = fb.tensor([1 + 2j, 3], requires_grad=True)
    for twin in (copy.deepcopy(z), pickle.loads(pickle.dumps(z))):
        assert fb.equal(twin.detach(), z.detach()) and twin.requires_grad and (twin * 1).tolist() == z.tolist()


def test_leaves_have_complex_gradients() -> None:
    z = fb.tensor([1 + 2j, 3 - 1j], requires_grad=True)
    seen: list[Any] = []
    z.register_hook(lambda g: seen.append(g))
    (z * z.conj()).real.sum().backward()
    assert z.grad.dtype is fb.complex64 and z.grad.tolist() == [2 + 4j, 6 - 2j] and seen[0].tolist() == z.grad.tolist()
    w = z * 2
    w.backward(fb.tensor([1j, 1 + 0j]))
    assert z.grad.tolist() == [2 + 6j, 8 - 2j] and z.is_leaf and not w.is_leaf
    z.grad = None
    assert z.grad is None


MISUSES: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: fb.softmax(fb.ones(2, dtype=fb.cfloat), -1), NotImplementedError, "softmax: not implemented for complex64"),
    (lambda: fb.ones(2, dtype=fb.cdouble) < 1, NotImplementedError, "lt: not implemented for complex128"),
    (lambda: F.cross_entropy(fb.ones(2, 2, dtype=fb.cfloat), fb.ones(2).long()), NotImplementedError, "cross_entropy: not"),
    (lambda: fb.sort(fb.ones(2) * 1j), NotImplementedError, "sort: not implemented for complex64"),
    (lambda: fb.float_power(fb.ones(2) * 1j, 2), NotImplementedError, "not implemented for complex64"),
    (lambda: fb.imag(fb.ones(2)), RuntimeError, "imag is not implemented for tensors with non-complex dtypes"),
    (lambda: fb.ones(2).imag, RuntimeError, "imag is not implemented"),
    (lambda: fb.view_as_complex(fb.ones(3)), RuntimeError, r"takes a last dim of size 2, got f32\[3\]"),
    (lambda: fb.view_as_complex(fb.ones(2).long()), RuntimeError, "takes float32 or float64"),
    (lambda: fb.view_as_real(fb.ones(2)), TypeError, "expected a complex tensor|must be"),
    (lambda: fb.complex(fb.ones(2), fb.ones(2).double()), RuntimeError, "complex: takes two tensors"),
    (lambda: (fb.ones(2, dtype=fb.cfloat, requires_grad=True) * 1).sum().backward(), RuntimeError, "real scalar outputs"),
    (lambda: fb.ones(4, dtype=fb.cfloat).reshape(3), RuntimeError, "reshape: shape .* is invalid"),
]


@pytest.mark.parametrize("number", range(len(MISUSES)))
def test_what_takes_no_complex_numbers_says_so(number: int) -> None:
    misuse, kind, message = MISUSES[number]
    for attempt in (misuse, fb.compile(misuse)):
        with pytest.raises(kind, match=message):
            attempt()


@pytest.mark.torch
def test_eigenvalues_and_their_gradients_are_pytorchs() -> None:
    torch = theirs().module
    for array in (drawn((2, 4, 4), 0).real, drawn((3, 3), 1)):
        def sizes(lib: Any, a: Any) -> list[Any]:               # which neither order nor phases change
            values, vectors = lib.linalg.eig(a)
            return [(values.abs()**2).sum(-1), (vectors.abs()**3).sum((-1, -2)), lib.linalg.eigvals(a).sum(-1)]

        expected, wanted = run(torch, sizes, [array])
        for is_compiled in (False, True):
            found, grads = run(fb, sizes, [array], is_compiled)
            for a, b in zip([*found, *grads], [*expected, *wanted], strict=True):
                np.testing.assert_allclose(array_of(a), array_of(b), rtol=0, atol=1e-11)
    for decorated in (fb.linalg.eigvals, fb.compile(fb.linalg.eigvals)):
        assert decorated(fb.tensor([[0.0, 1.0], [-1.0, 0.0]])).tolist() == [1j, -1j]
        with pytest.raises(fb.linalg.LinAlgError, match=r"linalg\.eig: the algorithm did not converge on the matrix"):
            decorated(fb.full((2, 2), float("nan")))


# -- in programs ------------------------------------------------------------------------------------------------------


def rotations(dim: int, length: int) -> fb.Tensor:
    turns = fb.outer(fb.arange(length), 1.0 / (10000.0 ** (fb.arange(0, dim, 2)[:dim // 2].float() / dim)))
    return fb.polar(fb.ones_like(turns), turns)


class Rotary(nn.Module):
    """Self-attention with rotary positions as Llama has them."""

    def __init__(self, dim: int, heads: int, length: int):
        super().__init__()
        self.heads, self.qkv, self.out = heads, nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.register_buffer("freqs_cis", rotations(dim // heads, length), persistent=False)

    def turned(self, x: fb.Tensor) -> fb.Tensor:
        z = fb.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2))
        return fb.view_as_real(z * self.freqs_cis[:x.shape[1]].view(1, x.shape[1], 1, -1)).flatten(3).type_as(x)

    def forward(self, x: fb.Tensor) -> fb.Tensor:
        batch, length, dim = x.shape
        q, k, v = self.qkv(x).view(batch, length, 3, self.heads, -1).unbind(2)
        q, k = self.turned(q), self.turned(k)
        y = F.scaled_dot_product_attention(*(t.transpose(1, 2) for t in (q, k, v)), is_causal=True)
        return self.out(y.transpose(1, 2).reshape(batch, length, dim))


def test_rotary_attention_trains_alike_eager_and_compiled() -> None:
    losses = []
    for is_compiled in (False, True):
        fb.manual_seed(0)
        model = Rotary(16, 2, 10)
        opt = optim.SGD(model.parameters(), lr=0.1)
        x = fb.randn(2, 7, 16)

        def step(x: fb.Tensor, model: nn.Module = model, opt: Any = opt) -> fb.Tensor:
            opt.zero_grad()
            loss = ((model(x) - x) ** 2).mean()
            loss.backward()
            opt.step()
            return loss

        decorated = fb.compile(step) if is_compiled else step
        losses.append([decorated(x).item() for _ in range(5)])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)
    assert "freqs_cis" not in model.state_dict() and model.freqs_cis.is_complex()


def test_complex_arguments_results_and_state_of_compiled_functions() -> None:
    state, shift = fb.zeros(2, dtype=fb.cfloat), fb.tensor([1j, 2])

    @fb.compile
    def step(z: fb.Tensor, options: dict[str, fb.Tensor]) -> dict[str, Any]:
        state.add_(z)
        return {"sum": z + options["w"] * shift, "state": state * 1, "size": (z * options["w"]).abs()}

    z, w = fb.tensor([1 + 1j, 2 - 1j]), fb.tensor([2j, 1 + 0j])
    for count in (1, 2, 3):
        found = step(z, {"w": w})
        assert fb.allclose(found["sum"], z + w * shift) and fb.allclose(found["state"], z * count)
        assert fb.allclose(found["size"], (z * w).abs()) and fb.allclose(state, z * count)
    assert len(step.signatures) == 1
    shift.mul_(2)
    assert fb.allclose(step(z, {"w": w})["sum"], z + w * shift)
