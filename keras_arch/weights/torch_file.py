"""Reading of PyTorch's files (.pth, .th, .pt) without PyTorch.

`torch.save` writes a pickle and the numbers of the tensors. A pickle is a program for a machine
with a stack, and Python's `pickle` lets it call any function. Its instruction BUILD could even
change functions that a stricter `find_class` allows, or the memory of an array. `Machine` knows the
instructions that build data, and calls only the functions in `GLOBALS`.
"""

import io
import math
import pickletools
import zipfile
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

import numpy as np

from ..errors import InputError, first_line

MAX_DIMENSIONS = 64  # of a NumPy array
MAGIC_NUMBER = 0x1950A86A20F9469CFC6C  # the first pickle of the legacy format
ByteOrder = Literal["<", ">"]
BYTE_ORDERS: dict[bytes, ByteOrder] = {b"little": "<", b"big": ">"}
# NumPy has no bfloat16, the upper half of a float32. No storage in GLOBALS holds uint16.
BFLOAT16 = np.dtype("uint16")


class Storage(NamedTuple):
    """The numbers of one or more tensors, which are views of `array`."""

    dtype: np.dtype  # in the file
    array: np.ndarray

    def fill(self, content: bytes, order: ByteOrder = "<") -> None:
        """Write numbers of the file into the array."""
        if len(content) != self.array.size * self.dtype.itemsize:
            raise ValueError("a storage with another length than its tensors need")
        numbers = np.frombuffer(content, self.dtype.newbyteorder(order))
        if self.dtype == BFLOAT16:
            numbers = (numbers.astype("uint32") << 16).view("float32")
        self.array[:] = numbers


def build_tensor(
    array: np.ndarray,
    offset: int,
    shape: tuple,
    strides: tuple,
    grad: bool = False,
    hooks: Any = (),
) -> np.ndarray:
    """Return a view of a storage's array. `offset` and `strides` count elements."""
    # Small numbers, so that a product of them takes no time.
    if not all(
        type(number) is int and 0 <= number < 2**63 for number in (offset, *shape, *strides)
    ):
        raise ValueError("a tensor with a negative or too large size, stride or offset")
    if len(shape) > MAX_DIMENSIONS:
        raise ValueError(f"a tensor of {len(shape)} dimensions")
    last = offset + sum((size - 1) * step for size, step in zip(shape, strides, strict=True))
    if math.prod(shape) > array.size or (0 not in shape and last >= array.size):
        raise ValueError("a tensor that is larger than its storage")
    if 0 in shape:
        return np.empty(shape, array.dtype)
    steps = [array.itemsize * step for step in strides]
    return np.ndarray(shape, array.dtype, array, array.itemsize * offset, steps)


def build_dict(pairs: Any = ()) -> dict:
    """Return a dict for an OrderedDict. Python 2 saved one as a list of pairs."""
    result: dict = {}
    set_items(result, [item for key, value in pairs for item in (key, value)])
    if pairs:
        pairs.clear()  # so a pickle cannot fill the memory with copies of one list
    return result


def set_items(target: dict, items: list) -> None:
    """Add keys and values, which alternate in `items`, to a dict."""
    keys = [check_key(key) for key in items[::2]]
    dict.update(target, zip(keys, items[1::2], strict=True))


def check_key(key: Any) -> Any:
    """Return a text or a number. Python crashes when it hashes a deeply nested tuple."""
    if not isinstance(key, (str, int, float)):
        raise ValueError(f"a {type(key).__name__} as a key")
    return key


def keep_first(value: Any, *_: Any) -> Any:
    """Return the tensor of a parameter, the tuple of a torch.Size or the name of a device."""
    return value


FLOATS = ("float64", "float32", "float16", "bfloat16")
INTEGERS = ("int64", "int32", "int16", "int8", "uint8", "bool")
# All that a pickle may name: types of storages and tensors, and functions to call.
GLOBALS: dict[str, Any] = {
    "torch.FloatStorage": np.dtype("float32"),
    "torch.DoubleStorage": np.dtype("float64"),
    "torch.HalfStorage": np.dtype("float16"),
    "torch.BFloat16Storage": BFLOAT16,
    "torch.LongStorage": np.dtype("int64"),
    "torch.IntStorage": np.dtype("int32"),
    "torch.ShortStorage": np.dtype("int16"),
    "torch.CharStorage": np.dtype("int8"),
    "torch.ByteStorage": np.dtype("uint8"),
    "torch.BoolStorage": np.dtype("bool"),
    "torch.storage.UntypedStorage": np.dtype("uint8"),
    **{f"torch.{name}": name for name in (*FLOATS, *INTEGERS)},
    "torch._utils._rebuild_tensor": build_tensor,  # of the first versions
    "torch._utils._rebuild_tensor_v2": build_tensor,
    "torch._utils._rebuild_parameter": keep_first,
    "torch._utils._rebuild_parameter_with_state": keep_first,
    "torch.Size": keep_first,
    "torch.device": keep_first,
    "collections.OrderedDict": build_dict,
    "collections.Counter": keep_first,  # of learning rate schedules
}


def find_global(name: str) -> Any:
    """Return what stands for a name of Python. The name is not imported."""
    if name not in GLOBALS:
        raise ValueError(f"a file that calls {name}")
    return GLOBALS[name]


# Instructions that add a number or text from the file, or a constant, to the stack.
NUMBERS = ("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT")
TEXTS = ("BINUNICODE", "SHORT_BINUNICODE", "BINSTRING", "SHORT_BINSTRING")
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
# Number of objects that an instruction takes from the stack. Others take none.
TAKES = {
    **{"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3, "APPEND": 1, "SETITEM": 2},
    **{"STACK_GLOBAL": 2, "REDUCE": 2, "BUILD": 1, "BINPERSID": 1, "STOP": 1},
}
TAKES_TO_MARK = ("TUPLE", "APPENDS", "SETITEMS")


class Machine:
    """Runs pickles that build data and tensors.

    Args:
        size: Size of the file in bytes. Storages that need more are refused.
    """

    def __init__(self, size: int):
        self.bytes_left = size
        self.storages: dict[str, Storage] = {}  # to be filled after the pickle

    def run(self, file: BinaryIO) -> Any:
        """Run the pickle at the position of a file, and return the object that it builds."""
        stack: list = []
        marks: list[int] = []  # heights of the stack
        memo: dict[int, Any] = {}
        argument: Any
        for instruction, argument, _ in pickletools.genops(file):
            name = instruction.name
            height = marks.pop() if name in TAKES_TO_MARK else len(stack) - TAKES.get(name, 0)
            taken = stack[height:]
            del stack[height:]
            match name:
                case "STOP":
                    return taken[0]
                case "PROTO" | "FRAME":
                    pass
                case "MARK":
                    marks.append(len(stack))
                case "EMPTY_DICT":
                    stack.append({})
                case "EMPTY_LIST":
                    stack.append([])
                case "TUPLE" | "TUPLE1" | "TUPLE2" | "TUPLE3":
                    stack.append(tuple(taken))
                case "APPEND" | "APPENDS":
                    list.extend(stack[-1], taken)
                case "SETITEM" | "SETITEMS":
                    set_items(stack[-1], taken)
                case "BINPUT" | "LONG_BINPUT":
                    memo[argument] = stack[-1]
                case "MEMOIZE":
                    memo[len(memo)] = stack[-1]
                case "BINGET" | "LONG_BINGET":
                    stack.append(memo[argument])
                case "GLOBAL" | "STACK_GLOBAL":  # a module and a name in it
                    stack.append(find_global(".".join(taken or argument.split(" "))))
                case "REDUCE":
                    function, arguments = taken
                    if type(arguments) is not tuple:
                        raise ValueError(f"a call with a {type(arguments).__name__}")
                    stack.append(function(*arguments))
                case "BUILD":
                    pass  # attributes of an OrderedDict, such as _metadata
                case "BINPERSID":
                    stack.append(self.find_storage(*taken[0]))
                case _ if name in CONSTANTS:
                    stack.append(CONSTANTS[name])
                case _ if name in NUMBERS or name in TEXTS:
                    stack.append(argument)
                case _:
                    raise ValueError(f"a file with the pickle instruction {name}")

    def find_storage(
        self, word: str, dtype: Any, key: str, place: str, count: int, view: Any = None
    ) -> np.ndarray:
        """Return the array of a storage. Its `count` numbers are not there yet."""
        if (word, view) != ("storage", None) or type(count) is not int or count < 0:
            raise ValueError("a storage with unknown attributes")
        if check_key(key) not in self.storages:
            self.bytes_left -= count * dtype.itemsize
            if self.bytes_left < 0:
                raise ValueError("a file that is shorter than its tensors")
            array = np.empty(count, np.float32 if dtype == BFLOAT16 else dtype)
            self.storages[key] = Storage(dtype, array)
        return self.storages[key].array


def read_torch_file(path: str | Path) -> Any:
    """Return the object that `torch.save` wrote, with NumPy arrays for tensors.

    Both formats are known: the zip archive of PyTorch 1.6 and later, and the legacy format. Arrays
    of bfloat16 become float32, an OrderedDict a dict, and a dtype or device its name. No code in
    the file is executed.

    Raises:
        InputError (a ValueError): The file is damaged, or holds more than tensors, numbers, text,
            lists and dicts.
    """
    try:
        return read_archive(path) if zipfile.is_zipfile(path) else read_legacy(path)
    except Exception as error:  # damaged bytes can raise any exception
        raise InputError(
            f"{path} cannot be read as tensors. Received: {first_line(error)}. "
            "Save a state_dict: torch.save(model.state_dict(), FILE)."
        ) from error


def read_archive(path: str | Path) -> Any:
    """Read a zip archive: NAME/data.pkl, and the storages in NAME/data/."""
    machine = Machine(Path(path).stat().st_size)
    with zipfile.ZipFile(path) as archive:
        if any(item.compress_type != zipfile.ZIP_STORED for item in archive.infolist()):
            raise ValueError("a compressed archive, and torch.save compresses none")
        names = archive.namelist()
        folder = next((name[:-8] for name in names if name.endswith("/data.pkl")), None)
        if folder is None:
            raise ValueError("an archive without data.pkl")
        result = machine.run(io.BytesIO(archive.read(f"{folder}data.pkl")))
        order = f"{folder}byteorder"  # older versions did not write it
        byte_order = BYTE_ORDERS[archive.read(order) if order in names else b"little"]
        for key, storage in machine.storages.items():
            storage.fill(archive.read(f"{folder}data/{key}"), byte_order)
    return result


def read_legacy(path: str | Path) -> Any:
    """Read the legacy format: five pickles, then each storage as its length and its numbers.

    The pickles are a number, a version, facts about the machine, the object and the storages' keys.
    """
    machine = Machine(Path(path).stat().st_size)
    with open(path, "rb") as file:
        if file.peek(1)[:1] != b"\x80" or machine.run(file) != MAGIC_NUMBER:
            raise ValueError("neither the zip format nor the legacy format of torch.save")
        _version, _facts, result, keys = (machine.run(file) for _ in range(4))
        for key in keys:
            storage = machine.storages.pop(check_key(key))
            if int.from_bytes(file.read(8), "little") != storage.array.size:
                raise ValueError(f"a storage of another length than its tensors need: {key}")
            storage.fill(file.read(storage.array.size * storage.dtype.itemsize))
    if machine.storages:
        raise ValueError("tensors without numbers")
    return result
