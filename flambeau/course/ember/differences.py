"""Derivatives by trying: what every derivative rule is held against."""


def central_difference(f, *xs, arg=0, eps=1e-6):
    """The derivative of f at xs with respect to argument `arg`: how much f changes between half an eps below and half an eps
    above, by eps. Its error falls with eps**2, that of one side only with eps."""
    # <solution>
    def at(step):
        return f(*xs[:arg], xs[arg] + step, *xs[arg + 1:])

    return (at(eps / 2) - at(-eps / 2)) / eps
    # </solution>


def gradient_by_differences(f, *xs, eps=1e-6):
    """The derivatives with respect to each of xs, as a list."""
    # <solution>
    return [central_difference(f, *xs, arg=arg, eps=eps) for arg in range(len(xs))]
    # </solution>


def worst_difference(f, gradient, *xs):
    """How far `gradient(*xs)`, a list, is from the differences: the largest |a - b| / max(1, |b|), b being the difference."""
    # <solution>
    wanted = gradient_by_differences(f, *xs)
    return max(abs(a - b) / max(1.0, abs(b)) for a, b in zip(gradient(*xs), wanted, strict=True))
    # </solution>
