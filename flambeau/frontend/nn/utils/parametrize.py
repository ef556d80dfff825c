"""nn.utils.parametrize: a tensor of a module as a function of others, `module.weight = f(original)`.

What is learned lies in `module.parametrizations.weight.original` (or original0, original1, ...), and the functions are
modules in the list `module.parametrizations.weight`.
"""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from flambeau.frontend.active import active
from flambeau.frontend.nn.containers import ModuleDict, ModuleList
from flambeau.frontend.nn.module import Module
from flambeau.frontend.nn.parameter import Parameter
from flambeau.frontend.nn.utils.computed import compute, compute_no_more, plain_class, register
from flambeau.frontend.tape.autograd import no_grad
from flambeau.frontend.tensor.tensor import Tensor

_PREFIX = "Parametrized"


class _Cache:
    """What parametrizations gave within `cached()`. By trace: traced values mean nothing outside."""

    depth = 0
    values: dict[Any, tuple[Any, Tensor]] = {}


@contextmanager
def cached() -> Iterator[None]:
    """Within, each parametrized tensor is computed once."""
    _Cache.depth += 1
    try:
        yield
    finally:
        _Cache.depth -= 1
        if not _Cache.depth:
            _Cache.values.clear()


class _Parametrized:
    """Computes an attribute from the list of its parametrizations."""

    def __init__(self, name: str):
        self.name = name

    def get(self, module: Any) -> Tensor:
        functions = module._modules["parametrizations"][self.name]
        if not _Cache.depth:
            found: Tensor = functions()
            return found
        key = id(active.tracer), id(module), self.name
        if key not in _Cache.values:
            _Cache.values[key] = module, functions()
        return _Cache.values[key][1]

    def set(self, module: Any, value: Any) -> None:
        module._modules["parametrizations"][self.name].right_inverse(value)


class ParametrizationList(ModuleList):
    """The functions of one tensor, the first applied first, and what they are applied to: `original`, or as many as the
    first one's right_inverse gave, `original0`, `original1`, ..."""

    def __init__(self, modules: Sequence[Module], original: Tensor, unsafe: bool = False):
        if not modules:
            raise ValueError("ParametrizationList requires one or more modules.")
        super().__init__(modules)
        self.unsafe = unsafe
        new: Any = original
        with no_grad():
            for module in reversed(modules):
                new = _inverted(module, new)
        if not isinstance(new, (Tensor, Sequence)):
            raise ValueError("'right_inverse' must return a Tensor or a Sequence of tensors (list, tuple...). Got "
                             f"{type(new).__name__}")
        self.is_tensor = isinstance(new, Tensor)
        self.ntensors = 1 if self.is_tensor else len(new)
        if isinstance(new, Tensor):
            if new.dtype is not original.dtype:
                raise ValueError(f"When `right_inverse` outputs one tensor, it may not change the dtype: it made "
                                 f"{new.dtype} of {original.dtype}")
            if new is not original:
                _refill(original, new)
            register(self, "original", original)
        else:
            for number, part in enumerate(new):
                if not isinstance(part, Tensor):
                    raise ValueError("'right_inverse' must return a Tensor or a Sequence of tensors (list, tuple...). Got "
                                     f"element {number} of the sequence with type {type(part).__name__}.")
                own = part.detach()
                if isinstance(original, Parameter):
                    own = Parameter(own.clone() if own._storage is original._storage else own, original.requires_grad)
                register(self, f"original{number}", own)
        if not unsafe:
            _check_like(self(), original, "Registering a parametrization may not change the {} of the tensor: it was {}, "
                                          "and the parametrized one is {}")

    def originals(self) -> list[Tensor]:
        """What the functions are applied to."""
        return [getattr(self, name) for name in
                (("original",) if self.is_tensor else [f"original{n}" for n in range(self.ntensors)])]

    def right_inverse(self, value: Tensor) -> None:
        """Set the originals so that the functions give `value`, as far as their right_inverse does.

        Raises RuntimeError if a function has none, ValueError if it gives something else than is there."""
        with no_grad():
            new: Any = value
            for module in reversed(list(self)):
                if not hasattr(module, "right_inverse"):
                    raise RuntimeError(f"parametrization {type(module).__name__} does not implement right_inverse.")
                new = module.right_inverse(new)
            if self.is_tensor and not isinstance(new, Tensor):
                raise ValueError(f"`right_inverse` should return a tensor. Got {type(new).__name__}")
            given = [new] if self.is_tensor else list(new)
            if len(given) != self.ntensors:
                raise ValueError(f"'right_inverse' must return a sequence of tensors of length {self.ntensors}. Got a "
                                 f"sequence of length {len(given)}.")
            for target, part in zip(self.originals(), given, strict=True):
                if not isinstance(part, Tensor):
                    raise ValueError(f"`right_inverse` should return tensors. Got {type(part).__name__}")
                if part.dtype is not target.dtype:
                    raise ValueError(f"the tensor returned by `right_inverse` has dtype {part.dtype} while `original` has "
                                     f"dtype {target.dtype}")
                _overwrite(target, part)

    def forward(self) -> Tensor:
        found: Tensor = self[0](*self.originals())
        for module in list(self)[1:]:
            found = module(found)
        return found


def _inverted(module: Module, value: Any) -> Any:
    """What the module would make `value` of; `value` itself where it does not say."""
    if not hasattr(module, "right_inverse"):
        return value
    try:
        return module.right_inverse(value)
    except NotImplementedError:
        return value


def _overwrite(target: Tensor, value: Tensor) -> None:
    """Another value, in place where it has the same shape: compiled functions can do that."""
    with no_grad():
        if tuple(value.shape) == tuple(target.shape):
            target.copy_(value)
        else:
            _refill(target, value)


def _refill(target: Tensor, value: Tensor) -> None:
    """Another value in other memory: what shares the old one keeps what it has."""
    target.data = value.detach().clone()


def _check_like(made: Any, original: Tensor, message: str) -> None:
    if not isinstance(made, Tensor):
        raise ValueError(f"A parametrization must return a tensor. Got {type(made).__name__}.")
    for what in ("dtype", "shape"):
        then, now = getattr(original, what), getattr(made, what)
        if then != now:
            raise ValueError(message.format(what, then, now))


def register_parametrization(module: Module, tensor_name: str, parametrization: Module, *,
                             unsafe: bool = False) -> Module:
    """Make `module.tensor_name` what `parametrization` gives for what it was; the same module.

    A second one is applied to what the first gives. If it has `right_inverse`, assigning to the tensor works, and with the
    first the original becomes what that gives (a tensor, or several, which forward then takes). unsafe: shape and dtype may
    change, and are not checked. Raises ValueError for a tensor that is not there, or a parametrization that changes it."""
    parametrization.train(module.training)
    if is_parametrized(module, tensor_name):
        functions: Any = module.parametrizations[tensor_name]
        if not unsafe:
            _check_on(getattr(module, tensor_name), parametrization)
        functions.append(parametrization)
        functions.unsafe |= unsafe
    elif tensor_name in module._parameters or tensor_name in module._buffers:
        original = getattr(module, tensor_name)
        functions = ParametrizationList([parametrization], original, unsafe)
        delattr(module, tensor_name)
        if not is_parametrized(module):
            module.parametrizations = ModuleDict()
        module.parametrizations[tensor_name] = functions
        compute(module, tensor_name, _Parametrized(tensor_name), _PREFIX)
    else:
        raise ValueError(f"Module '{module}' does not have a parameter, a buffer, or a parametrized element with name "
                         f"'{tensor_name}'")
    return module


def _check_on(value: Tensor, parametrization: Module) -> None:
    """One more function keeps type and shape, and so does its inverse."""
    made = parametrization(value)
    _check_like(made, value, "Registering a parametrization may not change the {} of the tensor: it was {}, and the "
                             "parametrized one is {}")
    inverse = _inverted(parametrization, made)
    _check_like(inverse, value, "The tensor returned by parametrization.right_inverse must have the {} of the tensor: it "
                                "is {}, and right_inverse gave {}")


def is_parametrized(module: Module, tensor_name: str | None = None) -> bool:
    """True for a module of which this tensor, or any, is parametrized."""
    found = module.__dict__.get("_modules", {}).get("parametrizations")
    if not isinstance(found, ModuleDict):
        return False
    return len(found) > 0 if tensor_name is None else tensor_name in found


def remove_parametrizations(module: Module, tensor_name: str, leave_parametrized: bool = True) -> Module:
    """Make the tensor a parameter or buffer again, with the value that it has, or with leave_parametrized=False that of
    the original; the same module.

    Raises ValueError if it is not parametrized, or if it has several originals and is not to be left as it is."""
    if not is_parametrized(module, tensor_name):
        raise ValueError(f"Module {module} does not have a parametrization on {tensor_name}")
    functions: Any = module.parametrizations[tensor_name]
    if not functions.is_tensor and not leave_parametrized:
        raise ValueError("leave_parametrized=False: a tensor that is computed from several originals has no value without "
                         "its parametrization")
    originals = functions.originals()
    kept = originals[0]
    if leave_parametrized:
        with no_grad():
            value = getattr(module, tensor_name)
        if functions.is_tensor:
            _refill(kept, value)
        else:
            learned = any(t.requires_grad for t in originals)
            kept = Parameter(value.detach().clone()) if learned else value.detach().clone()
    compute_no_more(module, tensor_name)
    del module.parametrizations[tensor_name]
    if not len(module.parametrizations):
        del module.parametrizations
    register(module, tensor_name, kept)
    return module


def type_before_parametrizations(module: Module) -> type:
    """The class that the module had before any tensor of it was parametrized."""
    return plain_class(module) if is_parametrized(module) else type(module)


def transfer_parametrizations_and_params(from_module: Module, to_module: Module,
                                         tensor_name: str | None = None) -> Module:
    """Give `to_module` the parametrizations of `from_module`, of one tensor or of all, and the originals; `to_module`."""
    if not is_parametrized(from_module):
        return to_module
    functions: Any = from_module.parametrizations
    for name in [tensor_name] if tensor_name is not None else list(functions):
        if not hasattr(to_module, name):
            setattr(to_module, name, Parameter(getattr(from_module, name).detach().clone()))
        for parametrization in functions[name]:
            register_parametrization(to_module, name, parametrization)
        for target, value in zip(to_module.parametrizations[name].originals(), functions[name].originals(), strict=True):
            _overwrite(target, value)
    return to_module


__all__ = ["ParametrizationList", "cached", "is_parametrized", "register_parametrization", "remove_parametrizations",
           "transfer_parametrizations_and_params", "type_before_parametrizations"]
