"""PyTorch's files (.pt, .pth), read without running what they say.

Such a file is a pickle with the tensors' memory beside it, and a pickle is a program. It is looked through first: opcodes
and names other than those that a state dict needs are refused, and so are places in its memo that no honest file has. Only
then is it run, with the few names that are left bound to functions here.
"""
from __future__ import annotations

import io
import math
import pickle
import pickletools
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, ClassVar, Final

import numpy as np

from flambeau.frontend.exchange.safetensors import FileFormatError
from flambeau.frontend.nn.parameter import Parameter
from flambeau.frontend.tensor.device import Device
from flambeau.frontend.tensor.tensor import Size, Tensor
from flambeau.ir import dtypes as dt
from flambeau.ir.dtypes import DType

_MAGIC: Final = 0x1950A86A20F9469CFC6C
_STORAGES: Final[dict[str, DType]] = {
    "FloatStorage": dt.f32, "DoubleStorage": dt.f64, "HalfStorage": dt.f16, "BFloat16Storage": dt.bf16,
    "LongStorage": dt.i64, "IntStorage": dt.i32, "ShortStorage": dt.i16, "CharStorage": dt.i8, "ByteStorage": dt.u8,
    "BoolStorage": dt.bool_}
_DTYPES: Final[dict[str, DType]] = {dtype.torch_name: dtype for dtype in (
    dt.f16, dt.bf16, dt.f32, dt.f64, dt.i8, dt.i16, dt.i32, dt.i64, dt.u8, dt.u32, dt.u64, dt.bool_)}
_OPCODES: Final = frozenset("""
    PROTO FRAME STOP MARK POP POP_MARK DUP NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT
    BINUNICODE SHORT_BINUNICODE BINUNICODE8 UNICODE BINBYTES SHORT_BINBYTES BINBYTES8 BINSTRING SHORT_BINSTRING STRING
    EMPTY_LIST LIST APPEND APPENDS EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_DICT DICT SETITEM SETITEMS EMPTY_SET
    ADDITEMS FROZENSET GLOBAL REDUCE BUILD BINPERSID PUT BINPUT LONG_BINPUT MEMOIZE GET BINGET LONG_BINGET""".split())


class _Storage:
    """The memory of tensors: flat, of one dtype."""

    def __init__(self, array: np.ndarray, dtype: DType):
        self.array, self.dtype = array, dtype
        self.whole = Tensor._from_array(array, dtype)


class _State(OrderedDict[Any, Any]):
    """An OrderedDict that may be given attributes (`_metadata`), of which only those of a state dict are taken."""

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict) and set(state) <= {"_metadata"}:
            self.__dict__.update(state)


def _rebuilt(storage: Any, offset: Any, size: Any, stride: Any, requires_grad: Any = False, hooks: Any = None,
             metadata: Any = None) -> Tensor:
    if not isinstance(storage, _Storage):
        raise FileFormatError("load: a tensor without memory")
    numbers = [offset, *size, *stride]
    if len(size) != len(stride) or not all(type(n) is int and 0 <= n < 2**48 for n in numbers):
        raise FileFormatError("load: a tensor's shape and strides make no sense")
    count = math.prod(size)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if count and last >= len(storage.array) or count > 64 * len(storage.array) + 4096:
        raise FileFormatError("load: a tensor reaches beyond its memory")
    if count == len(storage.array) and not offset and _is_row_major(size, stride):
        made = storage.whole if len(size) == 1 else storage.whole.view(*size)
    else:
        step = storage.array.itemsize
        view = np.lib.stride_tricks.as_strided(storage.array[offset:] if count else storage.array[:0], size,
                                               [n * step for n in stride]) if count else np.empty(size, storage.array.dtype)
        made = Tensor._from_array(np.array(view, order="C"), storage.dtype)
    return made.detach().requires_grad_() if requires_grad is True else made


def _is_row_major(size: Any, stride: Any) -> bool:
    step = 1
    for n, given in zip(reversed(size), reversed(stride), strict=True):
        if n != 1 and given != step:
            return False
        step *= n
    return True


def _old_tensor(storage: Any, offset: Any, size: Any, stride: Any) -> Tensor:
    return _rebuilt(storage, offset, size, stride)


def _parameter(data: Any, requires_grad: Any, hooks: Any, state: Any = None) -> Parameter:
    return Parameter(data, requires_grad=bool(requires_grad))


def _made_as(function: Any, kind: Any, args: Any, state: Any) -> Any:
    if function is not _rebuilt or not isinstance(args, tuple):
        raise FileFormatError("load: a tensor of a class of its own")
    return function(*args)


_GLOBALS: Final[dict[tuple[str, str], Any]] = {
    ("collections", "OrderedDict"): _State,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuilt, ("torch._utils", "_rebuild_tensor"): _old_tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter, ("torch._utils", "_rebuild_parameter_with_state"): _parameter,
    ("torch._tensor", "_rebuild_from_type_v2"): _made_as, ("torch", "Tensor"): Tensor,
    ("torch.nn.parameter", "Parameter"): Parameter,
    ("torch", "Size"): lambda items=(): Size(items), ("torch", "device"): Device,
    ("torch.serialization", "_get_layout"): lambda name: None,
    **{(module, name): kind for module in ("builtins", "__builtin__") for name, kind in (
        ("set", set), ("frozenset", frozenset), ("complex", complex), ("bytearray", lambda *args: None))},
    ("_codecs", "encode"): lambda text, kind: str(text).encode("latin1"),
    **{("torch", name): dtype for name, dtype in _DTYPES.items()},
    **{("torch", name): _STORAGES[name] for name in _STORAGES},
    **{("torch.storage", name): _STORAGES[name] for name in _STORAGES},
}
_CALLED: Final = [value for value in _GLOBALS.values() if callable(value) and value not in (Tensor, Parameter)]


class _Unpickler(pickle._Unpickler):
    """The unpickler that is written in Python, whose opcodes can be narrowed: state is set on dicts alone (on a class or
    a tensor it would change what they are), and nothing is called but the functions above."""

    stack: list[Any]
    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)

    def __init__(self, data: io.BytesIO, memory_of: Callable[[Any], Any]):
        super().__init__(data, encoding="utf-8")
        self.memory_of = memory_of

    def load_build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if type(target) is not _State:
            raise FileFormatError(f"load: the file gives state to a {type(target).__name__}")
        target.__setstate__(state)

    def load_reduce(self) -> None:
        args, function = self.stack.pop(), self.stack[-1]
        if type(args) is not tuple or not any(function is known for known in _CALLED):
            raise FileFormatError("load: the file calls what it may not")
        self.stack[-1] = function(*args)

    dispatch[pickle.BUILD[0]], dispatch[pickle.REDUCE[0]] = load_build, load_reduce

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _GLOBALS:
            raise refused(module, name)
        return _GLOBALS[module, name]

    def persistent_load(self, pid: Any) -> Any:
        return self.memory_of(pid)


def refused(module: str, name: str) -> FileFormatError:
    """The error for a file that asks for more than tensors and plain data."""
    return FileFormatError(f"load: the file asks for {module}.{name}, which could run code: only tensors, containers and "
                           "plain data are read. Save a state_dict() instead of a model")


def unpickled(data: bytes, start: int, memory_of: Callable[[Any], Any]) -> tuple[Any, int]:
    """The object of the pickle that begins at `start`, and where it ends. Raises FileFormatError for a pickle that asks
    for more than tensors and plain data, or is none."""
    end = _looked_through(data, start)
    try:
        return _Unpickler(io.BytesIO(data[start:end]), memory_of).load(), end
    except FileFormatError:
        raise
    except Exception as error:          # a pickle may be nonsense in any way
        raise FileFormatError(f"load: the file is damaged ({type(error).__name__}: {error})") from None


def _looked_through(data: bytes, start: int) -> int:
    count = 0
    stream = io.BytesIO(data)
    stream.seek(start)
    try:
        for opcode, argument, _ in pickletools.genops(stream):
            count += 1
            if opcode.name not in _OPCODES:
                raise FileFormatError(f"load: the file has the opcode {opcode.name}, which could run code")
            if opcode.name == "GLOBAL":
                module, _, name = str(argument).partition(" ")
                if (module, name) not in _GLOBALS:
                    raise refused(module, name)
            if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and int(str(argument)) > 4 * count + 64:
                raise FileFormatError("load: the file has a memo that no honest file has")
    except FileFormatError:
        raise
    except Exception as error:
        raise FileFormatError(f"load: the file is neither safetensors, nor one of PyTorch's or ours ({error})") from None
    return stream.tell()


# -- the zip that torch.save writes -----------------------------------------------------------------------------------


def load_zip(archive: zipfile.ZipFile) -> Any:
    """What torch.save wrote: NAME/data.pkl, and NAME/data/KEY for each storage."""
    names = {name: info for info in archive.infolist() for name in [info.filename]}
    pickles = [name for name in names if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise FileFormatError("load: the zip holds neither a file of fb.save nor one of torch.save")
    root = pickles[0].removesuffix("data.pkl")
    big = f"{root}byteorder" in names and archive.read(f"{root}byteorder") == b"big"
    known: dict[str, _Storage] = {}

    def memory_of(pid: Any) -> _Storage:
        dtype, key, count = _checked_pid(pid)
        if key not in known:
            info = names.get(f"{root}data/{key}")
            if info is None or info.file_size != count * dtype.itemsize or info.compress_type != zipfile.ZIP_STORED:
                raise FileFormatError(f"load: the memory {key!r} is missing or has another size than it should")
            stored = np.frombuffer(bytearray(archive.read(info)), dtype.storage.newbyteorder(">" if big else "<"))
            known[key] = _Storage(stored.astype(dtype.storage, copy=False), dtype)
        if known[key].dtype is not dtype:
            raise FileFormatError(f"load: the memory {key!r} is of two dtypes")
        return known[key]

    return unpickled(archive.read(pickles[0]), 0, memory_of)[0]


def _checked_pid(pid: Any) -> tuple[DType, str, int]:
    if not (isinstance(pid, tuple) and len(pid) >= 5 and pid[0] == "storage" and isinstance(pid[1], DType)
            and isinstance(pid[2], str) and type(pid[4]) is int and 0 <= pid[4] < 2**48):
        raise FileFormatError("load: the file refers to memory in a way that PyTorch's files don't")
    return pid[1], pid[2], pid[4]


# -- what torch.save wrote before it wrote zips -----------------------------------------------------------------------


def is_legacy_file(data: bytes) -> bool:
    """Whether the bytes begin as those files do."""
    return data[:2] == b"\x80\x02" and data[2:14] == b"\x8a\x0a" + _MAGIC.to_bytes(10, "little")


def load_legacy(data: bytes) -> Any:
    """Pickles one after the other: a magic number, a version, facts of the machine, the object, the keys of the
    storages; then the storages."""
    nothing = _no_memory
    _, end = unpickled(data, 0, nothing)
    _, end = unpickled(data, end, nothing)
    machine, end = unpickled(data, end, nothing)
    if not isinstance(machine, dict) or machine.get("little_endian") is not True:
        raise FileFormatError("load: the file was written on a big-endian machine, or is damaged")
    known: dict[str, _Storage] = {}

    def memory_of(pid: Any) -> _Storage:
        dtype, key, count = _checked_pid(pid)
        if count * dtype.itemsize > len(data):
            raise FileFormatError("load: the file is shorter than the memory it speaks of")
        if len(pid) > 5 and pid[5] is not None:
            raise FileFormatError("load: the file shares memory in a way that is not read")
        if key not in known:
            known[key] = _Storage(np.zeros(count, dtype.storage), dtype)
        return known[key]

    start = end
    _, end = unpickled(data, start, memory_of)              # to learn where the memory begins
    keys, end = unpickled(data, end, nothing)
    for key in keys if isinstance(keys, list) else [None]:
        storage = known.get(key) if isinstance(key, str) else None
        if storage is None:
            raise FileFormatError("load: the file holds memory that nothing refers to")
        count = int.from_bytes(data[end:end + 8], "little")
        size = len(storage.array) * storage.dtype.itemsize
        if count != len(storage.array) or end + 8 + size > len(data):
            raise FileFormatError("load: the file is cut off")
        storage.array[...] = np.frombuffer(data[end + 8:end + 8 + size], storage.dtype.storage)
        end += 8 + size
    return unpickled(data, start, memory_of)[0]


def _no_memory(pid: Any) -> Any:
    raise FileFormatError("load: the file refers to memory where there is none")
