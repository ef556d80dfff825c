"""The safetensors format: named tensors in one file, which is read without running anything.

Eight bytes with the length of the header, the header as JSON ({name: {"dtype", "shape", "data_offsets"}}), then the data,
little-endian and row-major (github.com/huggingface/safetensors, "Format"). Whatever a file says is checked before it is
believed.
"""
from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from flambeau.frontend.tape.moves import moved
from flambeau.frontend.tensor.device import place_named
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import dtypes as dt
from flambeau.ir.dtypes import DType

_NAMES: Final[dict[DType, str]] = {
    dt.f64: "F64", dt.f32: "F32", dt.f16: "F16", dt.bf16: "BF16", dt.i64: "I64", dt.i32: "I32", dt.i16: "I16",
    dt.i8: "I8", dt.u8: "U8", dt.u32: "U32", dt.u64: "U64", dt.bool_: "BOOL"}
_DTYPES: Final = {name: dtype for dtype, name in _NAMES.items()}
_LARGEST_HEADER: Final = 100_000_000        # bytes, the format's own limit
_METADATA: Final = "__metadata__"
FileLike = str | os.PathLike[str]


class FileFormatError(ValueError):
    """A file that is not what it should be: cut off, damaged, or made to do harm. Nothing of it was loaded."""


def save(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> bytes:
    """The tensors as the bytes of a safetensors file. metadata: strings that are kept beside them.

    Raises TypeError for what is no tensor or no str, ValueError for tensors that share memory."""
    header: dict[str, Any] = {}
    if metadata:
        if not all(isinstance(text, str) for pair in metadata.items() for text in pair):
            raise TypeError("safetensors: metadata must be a dict of str to str")
        header[_METADATA] = dict(metadata)
    arrays, start = [], 0
    seen: dict[tuple[int, int], str] = {}
    for name, tensor in tensors.items():
        if not isinstance(name, str) or name == _METADATA:
            raise TypeError(f"safetensors: names must be str other than {_METADATA!r}, got {name!r}")
        if not isinstance(tensor, Tensor):
            raise TypeError(f"safetensors: {name!r} must be a Tensor, got {type(tensor).__name__}")
        place = (tensor._address(), tensor.numel())
        if tensor.numel() and place in seen:
            raise ValueError(f"safetensors: {seen[place]!r} and {name!r} share memory, which the format can't say: "
                             "leave one of them out, or clone() it")
        seen[place] = name
        array = np.ascontiguousarray(tensor.detach()._data())
        arrays.append(array.astype(array.dtype.newbyteorder("<"), copy=False))
        header[name] = {"dtype": _NAMES[tensor.dtype], "shape": list(tensor.shape),
                        "data_offsets": [start, start + array.nbytes]}
        start += array.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([len(text).to_bytes(8, "little"), text, *[array.tobytes() for array in arrays]])


def save_file(tensors: Mapping[str, Tensor], filename: FileLike, metadata: Mapping[str, str] | None = None) -> None:
    """Write the tensors to a file, which appears whole or not at all."""
    write_whole(filename, save(tensors, metadata))


def load(data: bytes) -> dict[str, Tensor]:
    """The tensors in the bytes of a safetensors file. Raises FileFormatError for bytes that are none."""
    return load_with_metadata(data)[0]


def load_file(filename: FileLike, device: Any = "cpu") -> dict[str, Tensor]:
    """The tensors in a safetensors file, on `device`. Raises FileFormatError for a file that is none."""
    found = load(Path(filename).read_bytes())
    place = place_named(device)
    return found if place is None else {name: moved(t, place) for name, t in found.items()}


def load_with_metadata(data: bytes) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the metadata."""
    header, start = _header(data)
    metadata = header.pop(_METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise FileFormatError("safetensors: the metadata are no strings")
    places = sorted((*_place(name, entry), name) for name, entry in header.items())
    found, end = {}, 0
    for begin, stop, name in places:
        if begin != end:
            raise FileFormatError(f"safetensors: {name!r} does not begin where what is before it ends")
        end = stop
    if start + end != len(data):
        raise FileFormatError(f"safetensors: {len(data) - start} bytes of data, the header says {end}")
    for name, entry in header.items():
        begin, stop = _place(name, entry)
        found[name] = _tensor(data[start + begin:start + stop], _DTYPES[entry["dtype"]], entry["shape"])
    return found, metadata


def _header(data: bytes) -> tuple[dict[str, Any], int]:
    """The header and where the data begin."""
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > min(_LARGEST_HEADER, len(data) - 8):
        raise FileFormatError("safetensors: the header is longer than the file")
    try:
        header = json.loads(data[8:8 + length].decode(), object_pairs_hook=_without_repeats)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise FileFormatError(f"safetensors: the header is no JSON ({error})") from None
    if not isinstance(header, dict):
        raise FileFormatError("safetensors: the header is no JSON object")
    return header, 8 + length


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise FileFormatError("safetensors: a name is there twice")
    return found


def _place(name: str, entry: Any) -> tuple[int, int]:
    """Where the data of one tensor begin and end. Raises FileFormatError for an entry that does not add up."""
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise FileFormatError(f"safetensors: {name!r} has no dtype, shape and data_offsets")
    dtype, shape, offsets = _DTYPES.get(str(entry["dtype"])), entry["shape"], entry["data_offsets"]
    if dtype is None:
        raise FileFormatError(f"safetensors: {name!r} has dtype {entry['dtype']!r}, which tensors don't have")
    if not _are_sizes(shape) or not _are_sizes(offsets) or len(offsets) != 2:
        raise FileFormatError(f"safetensors: {name!r} has a shape or offsets that are no sizes")
    begin, stop = offsets
    if stop - begin != math.prod(shape) * dtype.itemsize:
        raise FileFormatError(f"safetensors: {name!r} has {stop - begin} bytes for {dtype!r} of shape {shape}")
    return begin, stop


def _are_sizes(value: Any) -> bool:
    return isinstance(value, list) and all(type(n) is int and 0 <= n < 2**63 for n in value)


def _tensor(data: bytes, dtype: DType, shape: list[int]) -> Tensor:
    stored = np.frombuffer(bytearray(data), dtype.storage.newbyteorder("<"))
    if sys.byteorder != "little":
        stored = stored.astype(dtype.storage)
    if dtype is dt.bool_ and stored.view(np.uint8).max(initial=0) > 1:
        raise FileFormatError("safetensors: a bool that is neither 0 nor 1")
    return Tensor._from_array(stored.astype(dtype.storage, copy=False).reshape(shape), dtype)


def write_whole(filename: FileLike, data: bytes) -> None:
    """Write a file by way of one beside it, so that it is never there in part."""
    path = Path(filename)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        beside.write_bytes(data)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


__all__ = ["FileFormatError", "load", "load_file", "save", "save_file"]
