"""Functions that kernels call, in the language of kernels (`text.py`): assignments, choices, loops over ranges, and one
return at the end.

The file is read as text, and run with the names of whoever runs it: numba.cuda's types and functions, or the emulator's.
Ints narrower than 64 bits widen where they meet, as in numba, so what is to wrap says so.
"""
# ruff: noqa: F821
# mypy: ignore-errors


# -- ints -------------------------------------------------------------------------------------------------------------


def int_floordiv(a, b):
    """Python's; b is not 0."""
    return -a if b == -1 else a // b


def int_mod(a, b):
    """Python's; b is not 0."""
    return a - a if b == -1 else a % b


def int_truncdiv(a, b):
    """C's; b is not 0."""
    divisor = b if b != -1 else a - a + 1
    quotient = a // divisor
    inexact = (a % divisor != 0) & ((a < 0) != (divisor < 0))
    return -a if b == -1 else quotient + 1 if inexact else quotient


def int_fmod(a, b):
    """C's; b is not 0."""
    divisor = b if b != -1 else a - a + 1
    rest = a % divisor
    return rest - divisor if (rest != 0) & ((a < 0) != (divisor < 0)) else rest


def int_pow(base, exponent):
    """Wraps; a negative exponent gives the reciprocal truncated, so that 1 and -1 alone survive."""
    factor = int64(base)
    left = int64(exponent)
    odd = left & 1
    reciprocal = int64(1) if factor == 1 else int64(0) if factor != -1 else int64(1) - 2 * odd
    result = int64(1) if left >= 0 else reciprocal
    left = left if left >= 0 else int64(0)
    for _ in range(63):
        result = result * factor if left & 1 != 0 else result
        factor = factor * factor
        left = left >> 1
    return result


def uint64_pow(base, exponent):
    """Wraps."""
    factor = base
    left = exponent
    result = uint64(1)
    for _ in range(64):
        result = result * factor if left & uint64(1) != uint64(0) else result
        factor = factor * factor
        left = left >> uint64(1)
    return result


# -- floats -----------------------------------------------------------------------------------------------------------


def float_max(a, b):
    """The greater, NaN if either is; +0 is greater than -0."""
    return a if a != a else b if b != b else (a + b if a == 0 else a) if a == b else a if a > b else b


def float_min(a, b):
    """The lesser, NaN if either is; -0 is less than +0."""
    return a if a != a else b if b != b else (-(-a - b) if a == 0 else a) if a == b else a if a < b else b


def float_mod(rest, b):
    """Python's remainder, of the one that C gives; a zero keeps its sign."""
    return rest + b if (rest != 0) & ((rest < 0) != (b < 0)) else rest


def float_floordiv(a, b, rest, floor, copysign):
    """Python's quotient of `a` by `b` as NumPy has it. rest: C's remainder. floor, copysign: those of the type."""
    quotient = (a - rest) / b
    exact = quotient - 1 if (rest != 0) & ((rest < 0) != (b < 0)) else quotient
    whole = floor(exact)
    nearest = whole + 1 if exact - whole > 0.5 else whole
    signed = nearest if exact != 0 else copysign(exact, a / b)
    return a / b if b == 0 else signed


def key_of_f32(bits, x):
    """A number without sign, less than 2 ** 32, that is in order as `x` is: zeros are equal, NaN is the greatest."""
    flipped = 0xFFFFFFFF - int64(bits) if int64(bits) >> 31 != 0 else int64(bits) + 0x80000000
    return int64(0xFFFFFFFF) if x != x else int64(0x80000000) if x == 0 else flipped


def key_of_f64(bits, x):
    """The same for 64 bits."""
    top = uint64(0x8000000000000000)
    flipped = uint64(0xFFFFFFFFFFFFFFFF) - bits if bits & top != uint64(0) else bits | top
    return uint64(0xFFFFFFFFFFFFFFFF) if x != x else top if x == 0 else flipped


# -- random numbers ---------------------------------------------------------------------------------------------------


def philox(counter_lo, counter_hi, key, word):
    """Word 0 to 3 of Philox-4x32-10, as `flambeau.ir.philox` has it; all of u64, the word as u32."""
    low = uint64(0xFFFFFFFF)
    half = uint64(32)
    c0 = counter_lo & low
    c1 = counter_lo >> half
    c2 = counter_hi & low
    c3 = counter_hi >> half
    k0 = key & low
    k1 = key >> half
    for _ in range(10):
        product0 = c0 * uint64(0xD2511F53)
        product1 = c2 * uint64(0xCD9E8D57)
        c0 = (product1 >> half) ^ c1 ^ k0
        c2 = (product0 >> half) ^ c3 ^ k1
        c1 = product1 & low
        c3 = product0 & low
        k0 = (k0 + uint64(0x9E3779B9)) & low
        k1 = (k1 + uint64(0xBB67AE85)) & low
    return uint32(c0 if word == 0 else c1 if word == 1 else c2 if word == 2 else c3)
