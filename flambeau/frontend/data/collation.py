"""Samples -> batches. They are assembled in NumPy and become tensors at the end."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import dtypes as dt


def default_collate(batch: Sequence[Any]) -> Any:
    """Samples -> one batch. Tensors, arrays and numbers are stacked along a new first dim; tuples, lists and
    mappings are collated field by field; strings stay as they come. Raises TypeError for anything else, and
    RuntimeError for samples of different lengths or shapes.
    """
    first = batch[0]
    match first:
        case Tensor():
            return tensor_from(_stacked([sample._data() for sample in batch]), first.dtype)
        case str() | bytes():
            return batch
        case np.ndarray() | np.generic() | bool() | int():
            return _from_numpy(_stacked([np.asarray(sample) for sample in batch]))
        case float():
            return _from_numpy(np.array(batch, dtype=np.float64))
        case Mapping():
            fields = {key: default_collate([sample[key] for sample in batch]) for key in first}
            return _as(first, fields)
        case tuple() if hasattr(first, "_fields"):
            return type(first)(*map(default_collate, zip(*batch, strict=True)))
        case tuple() | list():
            if any(len(sample) != len(first) for sample in batch):
                raise RuntimeError("default_collate: samples of a batch have different numbers of fields")
            return [default_collate(field) for field in zip(*batch, strict=True)]
    raise TypeError(f"default_collate: don't know how to batch {type(first).__name__}; pass a collate_fn")


def default_convert(data: Any) -> Any:
    """A sample whose NumPy arrays are tensors, within tuples, lists and mappings too; all else as it is."""
    match data:
        case np.ndarray() | np.generic() if data.dtype.kind not in "SUOMmVc":
            return _from_numpy(np.asarray(data))
        case Mapping():
            return _as(data, {key: default_convert(value) for key, value in data.items()})
        case tuple() if hasattr(data, "_fields"):
            return type(data)(*map(default_convert, data))
        case tuple() | list():
            return type(data)(map(default_convert, data)) if isinstance(data, list) else [*map(default_convert, data)]
    return data


def _as(mapping: Mapping[Any, Any], fields: dict[Any, Any]) -> Any:
    """The fields in a mapping of the same class, where it can be made of a dict."""
    if type(mapping) is dict:
        return fields
    try:
        return type(mapping)(fields)                    # type: ignore[call-arg]
    except TypeError:
        return fields


def _stacked(arrays: Sequence[np.ndarray]) -> np.ndarray:
    shapes = {array.shape for array in arrays}
    if len(shapes) > 1:
        raise RuntimeError(f"default_collate: samples of a batch have different shapes {sorted(shapes)}; "
                           "pass a collate_fn that pads them")
    return np.stack(arrays)


def _from_numpy(array: np.ndarray) -> Tensor:
    return tensor_from(array, dt.from_numpy_dtype(array.dtype))


def tensor_from(array: np.ndarray, dtype: dt.DType) -> Tensor:
    """A tensor over the array, or over a copy where its memory is not contiguous."""
    made = Tensor._from_array(np.ascontiguousarray(array).reshape(array.shape), dtype)
    made._storage.share()
    return made
