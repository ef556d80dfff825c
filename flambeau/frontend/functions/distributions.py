"""Random tensors: what is made of a Generator's bits.

- uniform: the upper bits of a word over their number: k * 2**-24 for float32, k * 2**-53 for float64, k * 2**-11 and
  k * 2**-8 for float16 and bfloat16; all in [0, 1).
- normal: Box and Muller, Ann. Math. Stat. 29 (1958), in float64 from the halves of one u64 word:
  sqrt(-2 log((low + 1) * 2**-32)) * cos(2 pi * high * 2**-32). float64 because a library's log and cos may differ in
  the last bit, which rounding to the result's dtype then hides.
"""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from flambeau.frontend.active import active
from flambeau.frontend.functions.calls import public
from flambeau.frontend.functions.coerce import (
    Number,
    Shape,
    cast,
    expanded,
    is_number,
    kind_of,
    matched,
    one_tensor,
    reshaped,
    sizes_of,
    spread,
    stored,
    tensor_of,
)
from flambeau.frontend.functions.elementwise import add, mul
from flambeau.frontend.functions.indexing import checked
from flambeau.frontend.functions.inplace import overwrite
from flambeau.frontend.random import Generator, default_generator, generator_on
from flambeau.frontend.scalars import Scalar, forced
from flambeau.frontend.tape.autograd import set_grad_enabled
from flambeau.frontend.tape.dispatch import dispatch
from flambeau.frontend.tape.moves import place_like
from flambeau.frontend.tensor.device import place_of
from flambeau.frontend.tensor.promotion import get_default_dtype
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import dtypes as dt
from flambeau.ir import ops
from flambeau.ir.dims import Dim, as_size
from flambeau.ir.dtypes import DType

_WORDS = {dt.f16: (dt.u32, 11), dt.bf16: (dt.u32, 8), dt.f32: (dt.u32, 24), dt.f64: (dt.u64, 53)}


def _stream(generator: Generator | None, place: str | None) -> Generator:
    """What is drawn from at a place. Raises RuntimeError for a generator of another device."""
    if generator is None:
        return default_generator if place is None else generator_on(place)
    if generator.state._type.device != (place or "cpu"):
        raise RuntimeError(f"Expected a {(place or 'cpu').partition(':')[0]!r} device type for generator but found "
                           f"{generator.state._type.device.partition(':')[0]!r}")
    return generator


def uniform(shape: Shape, dtype: DType, generator: Generator | None = None,
            place: str | None = None) -> Tensor:
    """Numbers in [0, 1), on the CPU or at `place`. Raises RuntimeError for dtypes that are not floating-point."""
    if dtype not in _WORDS:
        raise RuntimeError(f"random floats come in floating-point dtypes, not {dtype!r}")
    words, digits = _WORDS[dtype]
    bits = _stream(generator, place).bits(shape, words)
    top = dispatch(ops.shift_right, bits, tensor_of(8 * words.itemsize - digits, words))
    return dispatch(ops.mul, cast(top, dtype), tensor_of(2.0**-digits, dtype))


def standard_normal(shape: Shape, dtype: DType, generator: Generator | None = None,
                    place: str | None = None) -> Tensor:
    """Numbers of mean 0 and variance 1, at most 6.7 in magnitude."""
    if dtype not in _WORDS:
        raise RuntimeError(f"random floats come in floating-point dtypes, not {dtype!r}")
    bits = _stream(generator, place).bits(shape, dt.u64)
    low = dispatch(ops.bitwise_and, bits, tensor_of(0xFFFFFFFF, dt.u64))
    high = dispatch(ops.shift_right, bits, tensor_of(32, dt.u64))
    first = mul(add(cast(low, dt.f64), 1.0), 2.0**-32)              # in (0, 1]: its logarithm is finite
    radius = dispatch(ops.sqrt, mul(dispatch(ops.log, first), -2.0))
    angle = mul(cast(high, dt.f64), 2 * math.pi * 2.0**-32)
    return cast(dispatch(ops.mul, radius, dispatch(ops.cos, angle)), dtype)


def keep_mask(shape: Shape, p: float, generator: Generator | None = None, place: str | None = None) -> Tensor:
    """Bools, false with probability p: u >= p for u = (bits >> 8) * 2**-24, compared before the conversion."""
    bits = _stream(generator, place).bits(shape, dt.u32)
    least = math.ceil(float(np.float32(p)) * 2**24)
    if least == 2**24:                      # p = 1: no u32 is beyond
        return dispatch(ops.lt, bits, tensor_of(0, dt.u32))
    return dispatch(ops.ge, bits, tensor_of(least << 8, dt.u32))


def _made(t: Tensor, requires_grad: bool) -> Tensor:
    return t.requires_grad_() if requires_grad else t


def rand(*size: Any, generator: Generator | None = None, dtype: DType | None = None, device: Any = None,
         requires_grad: bool = False) -> Tensor:
    """Uniform numbers in [0, 1): `rand(2, 3)` or `rand((2, 3))`, from `generator` or the default one."""
    place = place_of(device)
    return _made(uniform(sizes_of(size, "rand"), dtype or get_default_dtype(), generator, place), requires_grad)


def randn(*size: Any, generator: Generator | None = None, dtype: DType | None = None, device: Any = None,
          requires_grad: bool = False) -> Tensor:
    """Normal numbers of mean 0 and variance 1."""
    place = place_of(device)
    return _made(standard_normal(sizes_of(size, "randn"), dtype or get_default_dtype(), generator, place), requires_grad)


def rand_like(input: Tensor, *, dtype: DType | None = None, device: Any = None, requires_grad: bool = False,
              generator: Generator | None = None) -> Tensor:
    """rand() of the shape and dtype of `input`."""
    place = place_like(input, device)
    return _made(uniform(input._type.static_shape, dtype or input.dtype, generator, place), requires_grad)


def randn_like(input: Tensor, *, dtype: DType | None = None, device: Any = None, requires_grad: bool = False,
               generator: Generator | None = None) -> Tensor:
    """randn() of the shape and dtype of `input`."""
    place = place_like(input, device)
    return _made(standard_normal(input._type.static_shape, dtype or input.dtype, generator, place), requires_grad)


def randint(low: int, high: Any = None, size: Any = None, *, generator: Generator | None = None,
            dtype: DType | None = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Integers in [low, high): `randint(10, (3,))` or `randint(-5, 5, (3,))`. Raises RuntimeError if it is empty.

    A 64-bit word modulo high - low: the bias is below (high - low) * 2**-64."""
    place = place_of(device)
    if size is None:
        high, size = None, high
    if high is None:
        low, high = 0, low
    if size is None:
        raise TypeError("randint: argument 'size' is missing: randint(high, size) or randint(low, high, size)")
    first, last = (n if isinstance(n, Dim) else int(n) for n in (forced(low), forced(high)))
    if first >= last:
        raise RuntimeError(f"randint: low {first} is not below high {last}")
    return _made(_integers(first, last, sizes_of((size,), "randint"), dtype or dt.i64, generator, place), requires_grad)


def _integers(low: Any, high: Any, shape: Shape, dtype: DType, generator: Generator | None,
              place: str | None = None) -> Tensor:
    bits = _stream(generator, place).bits(shape, dt.u64)
    offset = cast(dispatch(ops.remainder, bits, tensor_of(high - low, dt.u64)), dt.i64)
    return cast(dispatch(ops.add, offset, tensor_of(low, dt.i64)), dtype)


def randint_like(input: Tensor, low: int, high: int | None = None, *, dtype: DType | None = None, device: Any = None,
                 requires_grad: bool = False, generator: Generator | None = None) -> Tensor:
    """randint() of the shape and dtype of `input`."""
    x = one_tensor("randint_like", input)
    return randint(low, high, x._type.static_shape, generator=generator, dtype=dtype or x.dtype,
                   device=place_like(x, device) or "cpu", requires_grad=requires_grad)


def randperm(n: int, *, generator: Generator | None = None, dtype: DType = dt.i64, device: Any = None,
             requires_grad: bool = False) -> Tensor:
    """0 ... n-1 in random order: each place's rank among n random words, whose lowest bits are the places themselves,
    so that no two are equal."""
    return _made(cast(_permutation(as_size(n), generator, place_of(device)), dtype or dt.i64), requires_grad)


def _permutation(n: int, generator: Generator | None, place: str | None) -> Tensor:
    """The ranks, as i64."""
    words = _stream(generator, place).bits((n,), dt.u64)
    places = (1 << max(n - 1, 0).bit_length()) - 1
    high = dispatch(ops.bitwise_and, words, tensor_of((1 << 64) - 1 - places, dt.u64))
    keys = dispatch(ops.bitwise_or, high, dispatch(ops.Iota(n, dt.u64)))
    _, order = dispatch(ops.Sort(0), keys)
    return dispatch(ops.ScatterAlongAdd(n, 0), order, dispatch(ops.Iota(n, dt.i64)))


def bernoulli(input: Tensor, p: Any = None, *, generator: Generator | None = None) -> Tensor:
    """1 with the probability each element gives (or `p` everywhere), else 0, in the dtype of `input`. Raises RuntimeError
    for a probability outside [0, 1], as far as it is known."""
    x = one_tensor("bernoulli", input)
    shape = x._type.static_shape
    dtype = x.dtype if x.dtype.is_floating_point else get_default_dtype()
    _check_chance("bernoulli", x if p is None else p)
    u = uniform(shape, dt.f64 if dtype is dt.f64 else dt.f32, generator, place_like(x))
    chance = (cast(p, u.dtype) if isinstance(p, Tensor) else stored("bernoulli p", p, u.dtype)) if p is not None else \
        cast(x, u.dtype)
    found, chance = matched("bernoulli", [u, chance])
    return cast(dispatch(ops.lt, found, chance), x.dtype)


def _check_chance(name: str, p: Any) -> None:
    """Raise RuntimeError for a number, or eager numbers, outside [0, 1]."""
    if isinstance(p, Tensor):
        chances = None if active.tracer is not None else dt.to_compute(p._data(), p.dtype)
        is_fine = chances is None or bool(((chances >= 0) & (chances <= 1)).all())
    else:
        if not isinstance(p, Scalar) and not is_number(p):
            raise TypeError(f"{name}: argument 'p' must be a number or a tensor, got {kind_of(p)}")
        is_fine = isinstance(p, Scalar) or 0 <= p <= 1
    if not is_fine:
        raise RuntimeError(f"{name}: a probability is not in [0, 1]")


def normal(mean: Any = 0.0, std: Any = 1.0, size: Any = None, *, generator: Generator | None = None,
           dtype: DType | None = None, layout: Any = None, device: Any = None, pin_memory: bool = False,
           requires_grad: bool = False) -> Tensor:
    """Normal numbers; mean and std are numbers or tensors, whose shape the result has when no size is given. Raises
    RuntimeError for a negative std, as far as it is known."""
    place = place_of(device)
    if isinstance(std, (int, float)) and not std >= 0:
        raise RuntimeError(f"normal: std must not be negative, got {std}")
    if isinstance(std, Tensor) and active.tracer is None and (dt.to_compute(std._data(), std.dtype) < 0).any():
        raise RuntimeError("normal: std must not be negative")
    given = [v for v in (mean, std) if isinstance(v, Tensor)]
    if size is None and not given:
        raise TypeError("normal: pass a size, or a tensor as mean or std")
    shape = sizes_of((size,), "normal") if size is not None else add(*given)._type.static_shape if len(given) == 2 \
        else given[0]._type.static_shape
    if given and place is None:
        place = next((t._type.device for t in given if t._type.device != "cpu"), None)
    z = standard_normal(shape, dtype or (given[0].dtype if given else get_default_dtype()), generator, place)
    return _made(add(mul(z, std), mean), requires_grad)


def multinomial(input: Tensor, num_samples: int, replacement: bool = False, *,
                generator: Generator | None = None) -> Tensor:
    """i64 indices drawn from each row's weights, which need not add up to 1: [..., num_samples].

    With replacement, by the running sum of the weights; without, the greatest of weight / exponential (each index
    at most once). Raises RuntimeError for too many samples, for weights that are negative, infinite or NaN, for rows of
    zeros, and for fewer positive weights in a row than samples are drawn without replacement (KernelError in a compiled
    function, which finds it as it runs)."""
    x = one_tensor("multinomial", input)
    rows = reshaped(x, (1, *x._type.static_shape)) if x.ndim == 1 else x
    num_samples = as_size(num_samples)
    if x.ndim not in (1, 2) or not x.dtype.is_floating_point:
        raise RuntimeError(f"multinomial: takes one or two dims of floats, got {x._type}")
    if num_samples < 1 or (not replacement and num_samples > x._type.static_shape[-1]):
        raise RuntimeError(f"multinomial: can't draw {num_samples} samples from {x._type} "
                           f"{'with' if replacement else 'without'} replacement")
    with set_grad_enabled(False):
        found = _by_running_sum(rows, num_samples, generator) if replacement or num_samples == 1 else \
            _by_races(rows, num_samples, generator)
        found = _of_fine_rows(rows, found)
    return reshaped(found, (num_samples,)) if x.ndim == 1 else found


def _of_fine_rows(rows: Tensor, found: Tensor) -> Tensor:
    """What was drawn, for rows of finite weights >= 0, not all of them 0."""
    zero = tensor_of(0, rows.dtype)
    is_weight = dispatch(ops.logical_and, dispatch(ops.ge, rows, zero), dispatch(ops.isfinite, rows))
    is_fine = dispatch(ops.logical_and, dispatch(ops.All((1,)), is_weight),
                       dispatch(ops.Any((1,)), dispatch(ops.gt, rows, zero)))
    if active.tracer is None:
        if not is_fine._data().all():
            raise RuntimeError("multinomial: a row has a weight that is negative, infinite or NaN, or no positive one")
        return found
    shape = found._type.static_shape
    found = dispatch(ops.where, spread(is_fine, shape, (0,)), found, tensor_of(-1, dt.i64))
    return checked(found, rows._type.static_shape[1])


def _by_running_sum(rows: Tensor, count: int, generator: Generator | None) -> Tensor:
    """The number of running sums <= u * total, so that a weight of 0 is never drawn."""
    n, k = rows._type.static_shape
    running = dispatch(ops.Cumsum(1), cast(rows, dt.f64))
    total = dispatch(ops.Slice((0, k - 1), (n, k), (1, 1)), running)
    target = dispatch(ops.mul, uniform((n, count), dt.f64, generator, place_like(rows)), expanded(total, (n, count)))
    wide = (n, count, k)
    passed = dispatch(ops.le, spread(running, wide, (0, 2)), spread(target, wide, (0, 1)))
    return dispatch(ops.Sum((2,)), cast(passed, dt.i64))


def _by_races(rows: Tensor, count: int, generator: Generator | None) -> Tensor:
    """Efraimidis and Spirakis, Inf. Proc. Letters 97 (2006): the indices whose exponential(weight) arrives first."""
    u, weights = uniform(rows._type.static_shape, dt.f64, generator, place_like(rows)), cast(rows, dt.f64)
    waiting = dispatch(ops.neg, dispatch(ops.log1p, dispatch(ops.neg, u)))
    arrival, first = dispatch(ops.Sort(1, False, count), dispatch(ops.div, waiting, weights))
    is_drawn = dispatch(ops.isfinite, arrival)
    if active.tracer is None and not is_drawn._data().all():
        raise RuntimeError(f"multinomial: fewer than {count} positive weights in a row")
    return checked(dispatch(ops.where, is_drawn, first, tensor_of(-1, dt.i64)), rows._type.static_shape[1])


# -- in place ---------------------------------------------------------------------------------------------------------


def _from(name: str, from_: Any, kwargs: dict[str, Any]) -> Any:
    """The lower end, which a dict may pass by its name in PyTorch. Raises TypeError for other keywords."""
    low = kwargs.pop("from", from_)
    if kwargs:
        raise TypeError(f"{name}: unknown arguments {sorted(kwargs)}")
    return low


def uniform_(self: Tensor, from_: Number = 0.0, to: Number = 1.0, *, generator: Generator | None = None,
             **kwargs: Number) -> Tensor:
    """Fill with uniform numbers in [from, to). (`from`, a keyword of Python, can be passed in a dict.)"""
    low = _from("uniform_", from_, kwargs)
    u = uniform(self._type.static_shape, self.dtype, generator, place_like(self))
    if not (isinstance(low, (int, float)) and isinstance(to, (int, float)) and (low, to) == (0, 1)):
        u = add(mul(u, to - low), low)
    return overwrite(self, u, "uniform_")


def normal_(self: Tensor, mean: Number = 0.0, std: Number = 1.0, *, generator: Generator | None = None) -> Tensor:
    """Fill with normal numbers. Raises RuntimeError for a negative std."""
    if isinstance(std, (int, float)) and not std >= 0:
        raise RuntimeError(f"normal_: std must not be negative, got {std}")
    z = standard_normal(self._type.static_shape, self.dtype, generator, place_like(self))
    return overwrite(self, add(mul(z, std), mean), "normal_")


def bernoulli_(self: Tensor, p: Any = 0.5, *, generator: Generator | None = None) -> Tensor:
    """Fill with 1 (probability p) and 0."""
    return overwrite(self, bernoulli(self, p, generator=generator), "bernoulli_")


_DIGITS = {dt.f64: 53, dt.f32: 24, dt.f16: 11, dt.bf16: 8, dt.bool_: 1, dt.u64: 63}


def random_(self: Tensor, from_: int | None = None, to: int | None = None, *, generator: Generator | None = None,
            **kwargs: int) -> Tensor:
    """Fill with integers in [from_, to), or below `from_` when it stands alone; without either with all from 0 up to the
    greatest of the dtype (2**24 for float32: those below are all there). Raises RuntimeError if there are none."""
    from_ = _from("random_", from_, kwargs)
    if from_ is None and to is None:
        low, high = 0, 1 << _DIGITS.get(self.dtype, 8 * self.dtype.itemsize - self.dtype.is_signed)
        high += self.dtype.kind == "float"
    else:
        low, high = (0, int(forced(from_))) if to is None else (int(forced(from_ or 0)), int(forced(to)))
    if low >= high:
        raise RuntimeError(f"random_: from {low} is not below to {high}")
    drawn = _integers(low, high, self._type.static_shape, self.dtype, generator, place_like(self))
    return overwrite(self, drawn, "random_")


def exponential_(self: Tensor, lambd: float = 1.0, *, generator: Generator | None = None) -> Tensor:
    """Fill with numbers of density lambd * exp(-lambd * x)."""
    if not lambd > 0:
        raise RuntimeError(f"exponential_: lambd must be positive, got {lambd}")
    u = uniform(self._type.static_shape, dt.f64, generator, place_like(self))
    waits = mul(dispatch(ops.log1p, dispatch(ops.neg, u)), -1.0 / lambd)
    return overwrite(self, cast(waits, self.dtype), "exponential_")


def geometric_(self: Tensor, p: float, *, generator: Generator | None = None) -> Tensor:
    """Fill with the number of trials up to the first success, each of which has the chance p. Raises RuntimeError unless
    0 < p < 1."""
    if not isinstance(p, Scalar) and not 0 < p < 1:
        raise RuntimeError(f"geometric_: p must be in (0, 1), got {p}")
    u = uniform(self._type.static_shape, dt.f64, generator, place_like(self))
    fails = dispatch(ops.log1p, dispatch(ops.neg, stored("geometric_ p", p, dt.f64)))
    trials = dispatch(ops.ceil, dispatch(ops.div, dispatch(ops.log1p, dispatch(ops.neg, u)), fails))
    return overwrite(self, cast(dispatch(ops.maximum, trials, tensor_of(1.0, dt.f64)), self.dtype), "geometric_")


def cauchy_(self: Tensor, median: Number = 0.0, sigma: Number = 1.0, *, generator: Generator | None = None) -> Tensor:
    """Fill with Cauchy's numbers: median + sigma * tan(pi * (u - 1/2)). Raises RuntimeError for sigma <= 0."""
    _check_float_fill("cauchy_", self, sigma)
    u = uniform(self._type.static_shape, dt.f64, generator, place_like(self))
    slopes = dispatch(ops.tan, mul(add(u, -0.5), math.pi))
    return overwrite(self, cast(add(mul(slopes, sigma), median), self.dtype), "cauchy_")


def log_normal_(self: Tensor, mean: Number = 1.0, std: Number = 2.0, *, generator: Generator | None = None) -> Tensor:
    """Fill with numbers whose logarithms are normal. Raises RuntimeError for std <= 0."""
    _check_float_fill("log_normal_", self, std)
    z = standard_normal(self._type.static_shape, dt.f64, generator, place_like(self))
    return overwrite(self, cast(dispatch(ops.exp, add(mul(z, std), mean)), self.dtype), "log_normal_")


def _check_float_fill(name: str, self: Tensor, scale: Number) -> None:
    if not self.dtype.is_floating_point:
        raise RuntimeError(f"{name}: takes floating-point tensors, got {self._type}")
    if not isinstance(scale, Scalar) and not scale > 0:
        raise RuntimeError(f"{name}: the scale must be positive, got {scale}")


__all__ = ["bernoulli", "multinomial", "normal", "rand", "rand_like", "randint", "randint_like", "randn", "randn_like",
           "randperm"]
public(globals(), [*__all__, "bernoulli_", "cauchy_", "exponential_", "geometric_", "log_normal_", "normal_", "random_",
                   "uniform_"])

METHODS: dict[str, Any] = {"uniform_": uniform_, "normal_": normal_, "bernoulli_": bernoulli_, "random_": random_,
                           "exponential_": exponential_, "geometric_": geometric_, "cauchy_": cauchy_,
                           "log_normal_": log_normal_, "bernoulli": bernoulli, "multinomial": multinomial}
