"""Modules as functions of their parameters."""
from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from flambeau.frontend.functions.joining import stack
from flambeau.frontend.nn.batchnorm import _BatchNorm
from flambeau.frontend.nn.module import Module
from flambeau.frontend.tensor.tensor import Tensor


def functional_call(module: Module, parameter_and_buffer_dicts: Mapping[str, Tensor] | Sequence[Mapping[str, Tensor]],
                    args: Any = None, kwargs: Mapping[str, Any] | None = None, *, tie_weights: bool = True,
                    strict: bool = False) -> Any:
    """module(*args, **kwargs) with other tensors in the place of its parameters and buffers, by their names in
    state_dict(); those that are not named stay. Several dicts may be given, which share no name.

    args: a tuple, or the one argument. tie_weights: what takes the place of a tensor that has several names takes it under
    all. strict: every name must be given, and no other. Raises ValueError for a name in two dicts and for tied tensors
    that are given different values, RuntimeError for names that strict refuses."""
    given = _joined(parameter_and_buffer_dicts)
    arguments = () if args is None else args if isinstance(args, tuple) else (args,)
    with _replaced(module, given, tie_weights, strict):
        return module(*arguments, **(kwargs or {}))


def stack_module_state(models: Sequence[Module]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """(parameters, buffers) of modules of one class, each stacked along a new first dim: what `vmap` over `functional_call`
    takes to run an ensemble. The stacked parameters are leaves. Raises RuntimeError for modules that differ."""
    if not models:
        raise RuntimeError("stack_module_state: takes at least one module")
    if len({model.training for model in models}) > 1:
        raise RuntimeError("stack_module_state: all modules must be in the same training or eval mode")
    if len({type(model) for model in models}) > 1:
        raise RuntimeError("stack_module_state: all modules must be of one class")
    parameters, buffers = ({name: [dict(of(model))[name] for model in models] for name, _ in of(models[0])}
                           for of in (Module.named_parameters, Module.named_buffers))
    return ({name: _stacked_leaf(tensors) for name, tensors in parameters.items()},
            {name: _stacked_leaf(tensors) for name, tensors in buffers.items()})


def replace_all_batch_norm_modules_(root: Module) -> Module:
    """Let every BatchNorm in `root` normalize by its batch alone: running statistics that all examples share can't be kept
    under vmap. Returns root, which is changed in place."""
    for module in root.modules():
        if isinstance(module, _BatchNorm):
            module.track_running_stats = False
            module.running_mean = module.running_var = module.num_batches_tracked = None
    return root


def _stacked_leaf(tensors: Sequence[Any]) -> Tensor:
    if len({t.requires_grad for t in tensors}) > 1:
        raise RuntimeError("stack_module_state: tensors of one name must agree in requires_grad")
    return stack(list(tensors)).detach().requires_grad_(tensors[0].requires_grad)


def _joined(dicts: Any) -> dict[str, Tensor]:
    if isinstance(dicts, Mapping):
        return dict(dicts)
    if not isinstance(dicts, (tuple, list)) or not all(isinstance(d, Mapping) for d in dicts):
        raise ValueError("functional_call: takes a dict of tensors, or a tuple or list of such dicts")
    found: dict[str, Tensor] = {}
    for each in dicts:
        if repeated := sorted(found.keys() & each.keys()):
            raise ValueError(f"functional_call: {repeated[0]!r} appears in two of the dicts")
        found.update(each)
    return found


@contextmanager
def _replaced(module: Module, given: Mapping[str, Tensor], tie_weights: bool, strict: bool) -> Iterator[None]:
    places = {f"{path}.{name}" if path else name: (members, name)
              for path, each in module.named_modules(remove_duplicate=False)
              for members in (each._parameters, each._buffers)
              for name, member in members.items() if member is not None}
    tied: dict[int, list[str]] = {}
    for name, (members, key) in places.items():
        tied.setdefault(id(members[key]), []).append(name)
    if strict:
        _check_names(given, places, tied if tie_weights else {})
    wanted: dict[str, Tensor] = {}
    for name in (name for name in given if name in places):
        members, key = places[name]
        for same in tied[id(members[key])] if tie_weights else (name,):
            if same != name and same in given and given[same] is not given[name]:
                raise ValueError(f"functional_call: {name!r} and {same!r} are one tensor, but were given different values; "
                                 "give one of them, or tie_weights=False")
            wanted[same] = given[name]
    saved = [(*places[name], places[name][0][places[name][1]]) for name in wanted]
    try:
        for name, tensor in wanted.items():
            members, key = places[name]
            members[key] = tensor
        yield
    finally:
        for members, key, tensor in saved:
            members[key] = tensor


def _check_names(given: Mapping[str, Tensor], places: Mapping[str, Any], tied: Mapping[int, Sequence[str]]) -> None:
    known = {same for names in tied.values() if any(name in given for name in names) for same in names}
    missing = [name for name in places if name not in given and name not in known]
    unexpected = [name for name in given if name not in places]
    if missing or unexpected:
        said = [f"{what} {', '.join(map(repr, names))}" for what, names in
                (("missing", missing), ("unexpected", unexpected)) if names]
        raise RuntimeError(f"functional_call: strict=True, and names are {'; '.join(said)}")


__all__ = ["functional_call", "replace_all_batch_norm_modules_", "stack_module_state"]
