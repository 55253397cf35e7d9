"""Write files of PyTorch without PyTorch, also invalid ones, as bytes of pickle instructions."""

import struct
import zipfile

import numpy as np

PROTOCOL, STOP = b"\x80\x02", b"."
KINDS = {"float32": "Float", "float64": "Double", "int64": "Long", "uint8": "Byte"}


def text(value):
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def number(value):
    """Return the instruction for an integer of any size."""
    content = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(content)]) + content


def group(*items):
    return b"(" + b"".join(items) + b"t"


def integers(values):
    return group(*map(number, values))


def name(module, attribute):
    return f"c{module}\n{attribute}\n".encode()


def call(function, *arguments):
    return function + group(*arguments) + b"R"


def pairs(items):
    """Return a dict of keys and values that are instructions."""
    return b"}(" + b"".join(key + value for key, value in items) + b"u"


def storage(kind, key, count, *view):
    parts = (text("storage"), name("torch", f"{kind}Storage"), text(key), text("cpu"))
    return group(*parts, number(count), *view) + b"Q"


def tensor(stored, shape, strides, offset=0):
    hooks = call(name("collections", "OrderedDict"))
    function = name("torch._utils", "_rebuild_tensor_v2")
    return call(
        function, stored, number(offset), integers(shape), integers(strides), b"\x89", hooks
    )


def encode(value, storages, *view):
    """Return the instructions for an object. Numbers of arrays are added to `storages`.

    `view` is None as an instruction in the legacy format.
    """
    if isinstance(value, dict):
        return pairs((encode(key, {}), encode(value[key], storages, *view)) for key in value)
    if isinstance(value, list):
        return b"](" + b"".join(encode(item, storages, *view) for item in value) + b"e"
    if isinstance(value, np.ndarray):
        key = str(len(storages))
        storages[key] = value.tobytes()
        strides = [step // value.itemsize for step in np.ascontiguousarray(value).strides]
        stored = storage(KINDS[value.dtype.name], key, value.size, *view)
        return tensor(stored, value.shape, strides[: value.ndim])
    if isinstance(value, str):
        return text(value)
    if isinstance(value, float):
        return b"G" + struct.pack(">d", value)
    return b"N" if value is None else number(value)


def write_zip(path, instructions, storages, method=zipfile.ZIP_STORED, byteorder=b"little"):
    """Write the zip format. `storages` maps keys to bytes."""
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("any/data.pkl", PROTOCOL + instructions + STOP)
        if byteorder is not None:
            archive.writestr("any/byteorder", byteorder)
        archive.writestr("any/version", b"3\n")  # PyTorch looks for it
        for key, content in storages.items():
            archive.writestr(f"any/data/{key}", content)


def write_legacy(path, instructions, storages, keys=None, itemsize=4):
    """Write the legacy format."""
    magic = number(0x1950A86A20F9469CFC6C)
    keys = encode([*storages], {}) if keys is None else keys
    pickles = (magic, number(1001), pairs([]), instructions, keys)
    path.write_bytes(
        b"".join(PROTOCOL + pickle + STOP for pickle in pickles)
        + b"".join(
            struct.pack("<q", len(content) // itemsize) + content for content in storages.values()
        )
    )


def write_torch_file(path, value, zipped=True):
    """Write dicts, lists, numbers, text and float32 arrays as `torch.save` does."""
    storages: dict = {}
    if zipped:
        write_zip(path, encode(value, storages), storages)
    else:
        write_legacy(path, encode(value, storages, b"N"), storages)
