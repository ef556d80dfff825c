"""Saving and loading, safetensors, PyTorch's files, DLPack: what goes in comes out, and hostile files are refused."""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import random
import struct
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import flambeau as fb
from flambeau import nn
from flambeau.frontend.exchange.safetensors import FileFormatError

DTYPES = [fb.float16, fb.bfloat16, fb.float32, fb.float64, fb.int8, fb.int16, fb.int32, fb.int64, fb.uint8, fb.bool]


def through(obj: Any) -> Any:
    file = io.BytesIO()
    fb.save(obj, file)
    file.seek(0)
    return fb.load(file)


def same(a: Any, b: Any) -> bool:
    """Whether two objects are equal in every part, types and bits included."""
    if isinstance(a, fb.Tensor):
        return (type(a) is type(b) and a.dtype is b.dtype and a.shape == b.shape and a.requires_grad == b.requires_grad
                and np.ascontiguousarray(a._data()).tobytes() == np.ascontiguousarray(b._data()).tobytes())
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        pairs = zip(a.items(), b.items(), strict=False)
        return len(a) == len(b) and all(same(k, q) and same(v, w) for (k, v), (q, w) in pairs)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b or a != a and b != b


def test_plain_data_and_tensors_come_back() -> None:
    obj = {"tensors": [fb.ones(2, 3, dtype=d) for d in DTYPES], 1: (None, True, 3, 2.5, float("inf"), -0.0, "é", b"\0\xff"),
           "ordered": OrderedDict(b=1, a=[{}, (), []]), ("t", 2): {1, 2}, "dtype": fb.bfloat16, "size": fb.Size([1, 2]),
           "device": fb.device("cpu"), "complex": 1 + 2j, "nan": float("nan"), "scalar": fb.tensor(3.5),
           "empty": fb.zeros(0, 3), "parameter": nn.Parameter(fb.ones(2)), "frozen": nn.Parameter(fb.ones(2), False),
           "grad": fb.ones(2, requires_grad=True), "numpy": np.float32(1.5).item(), "big": 2**80}
    assert same(through(obj), obj)


def test_memory_that_is_shared_stays_shared() -> None:
    weight = fb.arange(6.0)
    found = through({"a": weight, "b": weight, "c": weight.view(2, 3), "d": weight[1:3], "e": weight.view(2, 3).T})
    assert found["a"] is found["b"]
    found["a"].zero_()
    assert found["c"].sum().item() == 0 and found["d"].tolist() == [1.0, 2.0]
    assert found["e"].tolist() == [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]


def test_training_goes_on_where_it_was_saved(tmp_path: Path) -> None:
    def parts() -> tuple[nn.Module, Any]:
        fb.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
        return model, fb.optim.AdamW(model.parameters())

    def step(model: nn.Module, optimizer: Any) -> float:
        optimizer.zero_grad()
        loss = (model(fb.arange(12.0).reshape(4, 3)) ** 2).mean()
        loss.backward()
        optimizer.step()
        return loss.item()

    model, optimizer = parts()
    step(model, optimizer)
    fb.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "state.pt")
    expected = [step(model, optimizer) for _ in range(3)]
    model, optimizer = parts()
    saved = fb.load(tmp_path / "state.pt", map_location="cpu", weights_only=True)
    model.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
    assert [step(model, optimizer) for _ in range(3)] == expected
    assert [p.name for p in tmp_path.iterdir()] == ["state.pt"]


def test_what_can_not_be_saved_is_named() -> None:
    with pytest.raises(TypeError, match=r"object\['a'\]\[1\] is a .*Linear.*state_dict"):
        fb.save({"a": [1, nn.Linear(2, 2)]}, io.BytesIO())
    deep: list[Any] = []
    for _ in range(1000):
        deep = [deep]
    with pytest.raises(ValueError, match="nests deeper"):
        fb.save(deep, io.BytesIO())
    with pytest.raises(RuntimeError, match="cuda"):
        fb.load(io.BytesIO(), map_location="cuda")


def test_safetensors_come_back(tmp_path: Path) -> None:
    tensors = {str(d): fb.arange(6).reshape(2, 3).to(d) for d in DTYPES} | {"0-d": fb.tensor(1.5), "empty": fb.zeros(0)}
    fb.safetensors.save_file(tensors, tmp_path / "x.safetensors", metadata={"format": "pt"})
    assert same(fb.safetensors.load_file(tmp_path / "x.safetensors"), tensors)
    assert same(fb.load(tmp_path / "x.safetensors"), tensors)
    with pytest.raises(ValueError, match="share memory"):
        fb.safetensors.save({"a": tensors["f32"], "b": tensors["f32"]})
    library = pytest.importorskip("safetensors.numpy")
    known = {name: t for name, t in tensors.items() if name != "bf16"}       # which NumPy has not
    fb.safetensors.save_file(known, tmp_path / "y.safetensors")
    for name, array in library.load_file(tmp_path / "y.safetensors").items():
        np.testing.assert_array_equal(array, known[name].numpy())
    found = fb.safetensors.load(library.save({name: t.numpy() for name, t in known.items()}))
    assert set(found) == set(known) and all(same(found[name], known[name]) for name in known)


HEADERS: list[Any] = [
    b"", b"\xff" * 8, b"{", b"[]", b'{"a":{}}', b'{"a":1,"a":1}', b"[" * 100_000,
    {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}},
    {"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, -4]}},
    {"a": {"dtype": "F32", "shape": [2**62, 8], "data_offsets": [0, 0]}},
    {"a": {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}},
    {"a": {"dtype": "F32", "shape": [1.0], "data_offsets": [0, 4]}},
    {"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}},
    dict.fromkeys("ab", {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}),
    {"__metadata__": {"a": 1}},
]


@pytest.mark.parametrize("header", HEADERS, ids=lambda header: str(header)[:40])
def test_damaged_safetensors_are_refused(header: Any) -> None:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    with pytest.raises(FileFormatError):
        fb.safetensors.load(struct.pack("<Q", len(text)) + text + b"\0" * 8)


def test_changed_and_cut_files_are_refused_or_read() -> None:
    """Whatever bits are flipped, loading gives an object or FileFormatError, and nothing else happens."""
    rng, files = random.Random(0), []
    for save in (lambda f: fb.save({"a": fb.ones(2, 3), "b": [1, "x", 2.5]}, f), _torch_like):
        file = io.BytesIO()
        save(file)
        files.append(file.getvalue())
    files.append(fb.safetensors.save({"a": fb.ones(2, 3)}))
    for data in files:
        for _ in range(300):
            damaged = bytearray(data)
            for _ in range(rng.choice((1, 1, 4))):
                damaged[rng.randrange(len(damaged))] = rng.randrange(256)
            damaged = damaged[:rng.randrange(len(damaged))] if rng.random() < 0.2 else damaged
            with contextlib.suppress(FileFormatError):
                fb.load(io.BytesIO(bytes(damaged)))


def _storage(key: bytes = b"0") -> bytes:
    return b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0" + key + b"X\3\0\0\0cpuK\6tQ"


def _tensor(storage: bytes, offset: bytes, size: bytes, stride: bytes) -> bytes:
    """A call of _rebuild_tensor_v2, each number as the opcodes that push it."""
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + offset + b"(" + size + b"t(" + stride + \
        b"t\x89ccollections\nOrderedDict\n)RtR"


def _torch_like(file: io.BytesIO) -> None:
    """A zip as torch.save writes it, its pickle written by hand."""
    with zipfile.ZipFile(file, "w") as archive:
        tensor = _tensor(_storage(), b"K\0", b"K\2K\3", b"K\3K\1")
        archive.writestr("archive/data.pkl", b"\x80\x02}X\x01\0\0\0a" + tensor + b"s.")
        archive.writestr("archive/byteorder", "little")
        archive.writestr("archive/data/0", np.arange(6, dtype="<f4").tobytes())


def test_a_zip_of_pytorchs_is_read() -> None:
    file = io.BytesIO()
    _torch_like(file)
    assert fb.load(io.BytesIO(file.getvalue()))["a"].tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]


class Hostile:
    """Its pickle calls a function."""

    def __reduce__(self) -> Any:
        return sys.setrecursionlimit, (123,)


HOSTILE: dict[str, bytes] = {
    "call": pickle.dumps(Hostile(), 2), "call-4": pickle.dumps(Hostile(), 4), "os": b"cos\nsystem\n(X\x04\0\0\0truetR.",
    "builtins": b"cbuiltins\neval\n(X\x01\0\0\0" b"1tR.", "instance": b"(ibuiltins\nlist\n.", "extension": b"\x82\x01.",
    "memo": b"\x80\x02]r\xff\xff\xff\x7f.", "attribute": b"ctorch._utils\n_rebuild_tensor_v2\n}X\x01\0\0\0aK\1sb.",
    "no-storage": _tensor(b"N", b"K\0", b"K\1", b"K\1") + b".", "unfinished": b"\x80\x02]", "not": b"hello",
    "beyond": _tensor(_storage(), b"K\0", b"J\xff\xff\xff\x0f", b"K\0") + b".",
    "outside": _tensor(_storage(), b"K\3", b"K\6", b"K\1") + b".",
    "class": b"ctorch\nTensor\n(N}X\3\0\0\0addK\1stb.", "slots": _tensor(_storage(), b"K\0", b"K\1", b"K\1")
    + b"(N}X\5\0\0\0_typeK\1stb.", "called": b"ctorch\nfloat32\n)R.", "type": b"ctorch\nTensor\n(K\2K\3tR.",
    "negative": _tensor(_storage(), b"J\xff\xff\xff\xff", b"K\1", b"K\1") + b".",
    "no-memory": _tensor(_storage(b"9"), b"K\0", b"K\1", b"K\1") + b".",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pickles_are_refused(name: str) -> None:
    limit = sys.getrecursionlimit()
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", HOSTILE[name])
        archive.writestr("archive/data/0", np.arange(6, dtype="<f4").tobytes())
    for data in (file.getvalue(), HOSTILE[name]):
        with pytest.raises(FileFormatError, match="load"):
            fb.load(io.BytesIO(data))
    assert sys.getrecursionlimit() == limit


@pytest.mark.torch
@pytest.mark.parametrize("is_zip", [True, False])
def test_state_dicts_of_torch_are_read(is_zip: bool) -> None:
    import torch

    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(4, 2)).sum().backward()
    optimizer.step()
    dtypes = [torch.float16, torch.bfloat16, torch.float64, torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8,
              torch.bool]
    shared = torch.arange(6.0)
    file = io.BytesIO()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "list": [1, 2.5, "x", None, (True,)],
                "dtypes": [torch.ones(2, dtype=d) for d in dtypes], "t": shared.reshape(2, 3).t(), "part": shared[2:4],
                "parameter": torch.nn.Parameter(torch.ones(2)), "size": torch.Size([1]), "dtype": torch.float32,
                "empty": torch.zeros(0, 3), "0-d": torch.tensor(2.0), "set": {1}}, file,
               _use_new_zipfile_serialization=is_zip)
    found = fb.load(io.BytesIO(file.getvalue()))
    ours = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    ours.load_state_dict(found["model"])
    fb.optim.AdamW(ours.parameters()).load_state_dict(found["optimizer"])
    for key, value in model.state_dict().items():
        np.testing.assert_array_equal(ours.state_dict()[key].numpy(), value.numpy())
    assert [t.dtype.torch_name for t in found["dtypes"]] == [str(d).removeprefix("torch.") for d in dtypes]
    assert all(t.float().tolist() == [1.0, 1.0] for t in found["dtypes"]) and found["list"] == [1, 2.5, "x", None, (True,)]
    assert found["t"].tolist() == shared.reshape(2, 3).t().tolist() and found["part"].tolist() == [2.0, 3.0]
    assert isinstance(found["parameter"], nn.Parameter) and found["size"] == (1,) and found["dtype"] is fb.float32
    assert found["empty"].shape == (0, 3) and found["0-d"].item() == 2 and found["set"] == {1}
    whole = io.BytesIO()
    torch.save(model, whole, _use_new_zipfile_serialization=is_zip)
    with pytest.raises(FileFormatError, match="state_dict"):
        fb.load(io.BytesIO(whole.getvalue()))


def test_memory_is_shared_by_dlpack() -> None:
    array = np.arange(6.0).reshape(2, 3)
    t = fb.from_dlpack(array)
    t[0, 0] = 7
    assert array[0, 0] == 7 and np.from_dlpack(t)[0, 0] == 7 and t.__dlpack_device__() == (1, 0)
    for wrong, match in ((fb.ones(1, requires_grad=True), "gradient"), (fb.ones(1, dtype=fb.bfloat16), "bfloat16")):
        with pytest.raises(BufferError, match=match):
            wrong.__dlpack__()
    with pytest.raises(TypeError, match="__dlpack__"):
        fb.from_dlpack([1, 2])
    assert fb.frombuffer(bytearray(b"\1\0\2\0"), dtype=fb.int16).tolist() == [1, 2]
    with pytest.raises(ValueError, match="buffer"):
        fb.frombuffer(b"", dtype=fb.int8)
    if sys.version_info >= (3, 12):
        assert memoryview(fb.ones(2)).nbytes == 8


@pytest.mark.torch
def test_memory_is_shared_with_torch() -> None:
    import torch

    theirs = torch.arange(4.0)
    ours = fb.from_dlpack(theirs)
    ours.mul_(2)
    assert theirs.tolist() == [0.0, 2.0, 4.0, 6.0] and torch.from_dlpack(ours).data_ptr() == theirs.data_ptr()
