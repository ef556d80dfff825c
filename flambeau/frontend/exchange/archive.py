"""`fb.save` and `fb.load`: tensors, containers and plain data in a file that is read without running anything.

A file is a zip with "structure.json", the object with its tensors as numbers, and "tensors.safetensors", which holds
them. `fb.load` also reads safetensors files and PyTorch's.
"""
from __future__ import annotations

import base64
import io
import json
import math
import os
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, Final

import numpy as np

from flambeau.frontend.exchange.location import relocate
from flambeau.frontend.exchange.safetensors import FileFormatError, load_with_metadata, write_whole
from flambeau.frontend.exchange.safetensors import load as load_tensors
from flambeau.frontend.exchange.safetensors import save as save_tensors
from flambeau.frontend.exchange.torch_files import is_legacy_file, load_legacy, load_zip
from flambeau.frontend.nn.parameter import Parameter
from flambeau.frontend.tensor.device import Device, place_named
from flambeau.frontend.tensor.tensor import Size, Tensor
from flambeau.ir.dtypes import DTYPES, DType

_VERSION: Final = 1
_STRUCTURE, _TENSORS = "structure.json", "tensors.safetensors"
_DEEPEST: Final = 200
FileLike = str | os.PathLike[str] | IO[bytes]


def save(obj: Any, f: FileLike, pickle_module: Any = None, pickle_protocol: int = 2,
         _use_new_zipfile_serialization: bool = True, _disable_byteorder_record: bool = False) -> None:
    """Write an object: tensors, parameters, numbers, strings, bytes, None, dtypes, sizes, and dicts, lists, tuples and
    sets of these. Tensors over all of the same memory (tied weights) share it again when they are loaded; slices of it
    become copies.

    f: a path, whose file appears whole or not at all, or a file to write bytes to. Raises TypeError for anything else,
    with the place of it: save `model.state_dict()`, not the model."""
    if not isinstance(f, (str, os.PathLike)) and not hasattr(f, "write"):
        raise TypeError(f"save: f must be a path or a file to write to, got {type(f).__name__}")
    writer = _Writer()
    tree = writer.told(obj, "object", 0)
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(_STRUCTURE, json.dumps({"flambeau": _VERSION, "object": tree, "views": writer.views}))
        archive.writestr(_TENSORS, save_tensors(writer.bases))
    if isinstance(f, (str, os.PathLike)):
        write_whole(f, data.getvalue())
    else:
        f.write(data.getvalue())


def load(f: FileLike, map_location: Any = None, pickle_module: Any = None, *, weights_only: bool | None = None,
         mmap: bool | None = None, **pickle_load_args: Any) -> Any:
    """What a file holds that `fb.save`, `torch.save` or safetensors wrote. Nothing in the file is run, whatever it is.

    map_location: where tensors go: a device, a dict from saved to wanted devices, or a function of a storage and the
    device it was saved from; None: where they were saved. Raises RuntimeError for a device that is not there,
    FileFormatError for a file that is none of these or is damaged, and for one of PyTorch's that asks for anything but
    tensors and plain data (a whole pickled model: save its state_dict())."""
    if weights_only is False and pickle_load_args:
        raise TypeError(f"load: got an unexpected keyword argument {next(iter(pickle_load_args))!r}")
    if isinstance(map_location, (str, Device)):
        place_named(map_location)
    if not isinstance(f, (str, os.PathLike)) and not hasattr(f, "read"):
        raise TypeError(f"load: f must be a path or a file to read from, got {type(f).__name__}")
    data = Path(f).read_bytes() if isinstance(f, (str, os.PathLike)) else f.read()
    found, saved_on = _read(data)
    relocate(found, saved_on, map_location)
    return found


def _read(data: bytes) -> tuple[Any, dict[int, str]]:
    """The object, its tensors on the CPU, and where those were that lay elsewhere, by id."""
    try:
        if zipfile.is_zipfile(io.BytesIO(data)):
            return _load_zip(data)
        if is_legacy_file(data):
            return load_legacy(data), {}
        return _load_safetensors(data), {}
    except FileFormatError:
        raise
    except Exception as error:              # a file may be nonsense in any way, and a zip a lie
        raise FileFormatError(f"load: the file is damaged ({type(error).__name__}: {error})") from None


def _load_safetensors(data: bytes) -> dict[str, Tensor]:
    try:
        return load_with_metadata(data)[0]
    except FileFormatError as error:
        raise FileFormatError("load: the file is neither one of fb.save or torch.save nor a whole safetensors file "
                              f"({error})") from None


def _load_zip(data: bytes) -> tuple[Any, dict[int, str]]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        # Neither writer compresses: a file that does, or whose entries overlap, would grow as it is read.
        entries = archive.infolist()
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise FileFormatError("load: the zip is compressed, which those of fb.save and torch.save never are")
        if sum(entry.file_size for entry in entries) > len(data):
            raise FileFormatError("load: the zip says that it holds more than it is long")
        names = set(archive.namelist())
        if _STRUCTURE not in names:
            return load_zip(archive), {}
        if _TENSORS not in names:
            raise FileFormatError(f"load: the file has no {_TENSORS}")
        try:
            structure = json.loads(archive.read(_STRUCTURE))
            reader = _Reader(load_tensors(archive.read(_TENSORS)), structure["views"])
            if structure["flambeau"] != _VERSION:
                raise FileFormatError(f"load: the file is of version {structure['flambeau']!r}, this reads {_VERSION}")
            return reader.read(structure["object"], 0), reader.saved_on
        except (json.JSONDecodeError, UnicodeDecodeError, RecursionError, KeyError, IndexError, TypeError, ValueError) as e:
            if isinstance(e, FileFormatError):
                raise
            raise FileFormatError(f"load: the structure of the file makes no sense ({type(e).__name__}: {e})") from None


# -- writing ----------------------------------------------------------------------------------------------------------


class _Writer:
    """Objects as JSON: what JSON has is itself, everything else a list [kind, ...]."""

    def __init__(self) -> None:
        self.bases: dict[str, Tensor] = {}                  # the memory, once each
        self.views: list[dict[str, Any]] = []               # the tensors, as views of it
        self._base_of: dict[int, str] = {}
        self._number_of: dict[int, int] = {}                # of tensors, by id: one object stays one

    def told(self, obj: Any, place: str, depth: int) -> Any:
        if depth > _DEEPEST:
            raise ValueError(f"save: {place[:80]}... nests deeper than {_DEEPEST} containers")
        kind = type(obj)
        if obj is None or kind in (bool, int, str):
            return obj
        if kind is float:
            return obj if obj == obj and abs(obj) != float("inf") else ["float", repr(obj)]
        if isinstance(obj, Tensor):
            return ["tensor", self._view(obj)]
        if kind in (list, tuple, set, frozenset, Size):
            return [_CONTAINERS[kind], *[self.told(item, f"{place}[{n}]", depth + 1) for n, item in enumerate(obj)]]
        if isinstance(obj, Mapping) and kind in (dict, OrderedDict):
            pairs = [[self.told(key, f"a key of {place}", depth + 1), self.told(value, f"{place}[{key!r}]", depth + 1)]
                     for key, value in obj.items()]
            return ["dict" if kind is dict else "ordered", *pairs]
        if kind is bytes:
            return ["bytes", base64.b64encode(obj).decode()]
        if isinstance(obj, DType):
            return ["dtype", obj.name]
        if isinstance(obj, Device):
            return ["device", str(obj)]
        if kind is complex:
            return ["complex", repr(obj.real), repr(obj.imag)]
        if isinstance(obj, np.generic) and obj.dtype.kind in "biuf":
            return self.told(obj.item(), place, depth)
        raise TypeError(f"save: {place} is a {kind.__module__}.{kind.__qualname__}, neither a tensor nor plain data; save "
                        "what it is made of, such as model.state_dict()")

    def _view(self, t: Tensor) -> int:
        if id(t) in self._number_of:
            return self._number_of[id(t)]
        base = t if t._base is None else t._base
        name = self._base_of.get(id(base._storage))
        strides, offset = list(t.stride()), t.storage_offset() if t._base is not None else 0
        if name is None or not base.is_contiguous():
            name = str(len(self.bases))
            whole = base if base.is_contiguous() else t
            self.bases[name] = _flat(whole)
            if base.is_contiguous():
                self._base_of[id(base._storage)] = name
            else:
                strides, offset = list(_row_major(t)), 0
        self.views.append({"base": name, "shape": list(t.shape), "stride": strides, "offset": offset,
                           "requires_grad": t.requires_grad and t._record is None, "parameter": isinstance(t, Parameter),
                           **({} if t._type.device == "cpu" else {"device": t._type.device})})
        self._number_of[id(t)] = len(self.views) - 1
        return len(self.views) - 1


def _flat(t: Tensor) -> Tensor:
    array = np.ascontiguousarray(t.detach()._data()).reshape(-1)
    return Tensor._from_array(array, t.dtype)


def _row_major(t: Tensor) -> tuple[int, ...]:
    steps, step = [], 1
    for size in reversed(t._type.static_shape):
        steps.append(step)
        step *= max(size, 1)
    return tuple(reversed(steps))


_CONTAINERS: Final[dict[type, str]] = {list: "list", tuple: "tuple", set: "set", frozenset: "frozenset", Size: "size"}


# -- reading ----------------------------------------------------------------------------------------------------------


class _Reader:
    def __init__(self, bases: dict[str, Tensor], views: Any):
        self.tensors = [self._tensor(bases, view) for view in views]
        self.saved_on = {id(t): str(Device(view["device"])) for t, view in zip(self.tensors, views, strict=True)
                         if "device" in view}

    def _tensor(self, bases: dict[str, Tensor], view: dict[str, Any]) -> Tensor:
        base = bases[view["base"]]
        data = strided(base, view["shape"], view["stride"], view["offset"])
        if view["parameter"]:
            return Parameter(data, requires_grad=bool(view["requires_grad"]))
        return data.requires_grad_() if view["requires_grad"] else data

    def read(self, tree: Any, depth: int) -> Any:
        if depth > _DEEPEST + 1:
            raise FileFormatError("load: the structure nests too deep")
        if not isinstance(tree, list):
            if isinstance(tree, dict):
                raise FileFormatError("load: the structure of the file makes no sense")
            return tree
        kind, *rest = tree
        if kind in ("dict", "ordered"):
            pairs = [(self.read(key, depth + 1), self.read(value, depth + 1)) for key, value in rest]
            return dict(pairs) if kind == "dict" else OrderedDict(pairs)
        if kind in _MADE_OF_ITEMS:
            return _MADE_OF_ITEMS[kind]([self.read(item, depth + 1) for item in rest])
        return self.tensors[rest[0]] if kind == "tensor" else _MADE_OF_TEXT[kind](*rest)


_MADE_OF_ITEMS: Final[dict[str, Callable[[list[Any]], Any]]] = {
    "list": list, "tuple": tuple, "set": set, "frozenset": frozenset, "size": Size}
_MADE_OF_TEXT: Final[dict[str, Callable[..., Any]]] = {
    "float": float, "bytes": lambda text: base64.b64decode(text, validate=True), "dtype": lambda name: DTYPES[name],
    "device": Device, "complex": lambda real, imag: complex(float(real), float(imag))}


def strided(base: Tensor, shape: Any, strides: Any, offset: Any) -> Tensor:
    """A tensor over the memory of a flat one. Raises FileFormatError where it would reach beyond it."""
    sizes = [*shape, *strides, offset]
    if len(shape) != len(strides) or not all(type(n) is int and 0 <= n < 2**62 for n in sizes):
        raise FileFormatError("load: a tensor's shape and strides make no sense")
    last = offset + sum((size - 1) * step for size, step in zip(shape, strides, strict=True))
    if 0 not in shape and (last >= base.numel() or math.prod(shape) > 64 * base.numel() + 4096):
        raise FileFormatError("load: a tensor reaches beyond its memory")
    flat = base._data()
    if 0 in shape:
        return Tensor._from_array(np.empty(shape, flat.dtype), base.dtype)
    if offset == 0 and len(flat) == math.prod(shape) and list(strides) == list(_steps(shape)):
        return base.view(*shape) if shape != [base.numel()] else base
    view = np.lib.stride_tricks.as_strided(flat[offset:], shape, [step * flat.itemsize for step in strides])
    return Tensor._from_array(np.array(view, order="C"), base.dtype)


def _steps(shape: Any) -> list[int]:
    steps, step = [], 1
    for size in reversed(shape):
        steps.append(step)
        step *= size
    return steps[::-1]


__all__ = ["FileFormatError", "load", "save"]
