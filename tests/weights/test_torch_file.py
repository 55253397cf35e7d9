"""PyTorch's files are read without PyTorch. A file that calls anything is refused."""

import collections
import copyreg
import functools
import io
import os
import pathlib
import pickle
import runpy
import struct
import subprocess
import tarfile
import tracemalloc
import zipfile

import numpy as np
import pytest
from torch_files import (
    PROTOCOL,
    STOP,
    call,
    encode,
    group,
    integers,
    name,
    number,
    pairs,
    storage,
    tensor,
    text,
    write_legacy,
    write_torch_file,
    write_zip,
)

import keras_arch
from keras_arch.weights.torch_file import read_torch_file

WRITERS = {"zip": write_zip, "legacy": write_legacy}
VALUE = {
    "epoch": 3,
    "best_prec1": 91.7,
    "name": "résumé",
    "nothing": None,
    "rates": [0.1, 0.01, -(2**40)],
    "state_dict": {
        "fc.weight": np.arange(6, dtype="float32").reshape(2, 3) / 7,
        "fc.bias": np.array([-1.5, np.inf], "float32"),
        "scale": np.array(2.5, "float32"),
        "empty": np.zeros((0, 4), "float32"),
    },
}


def assert_same(ours, theirs):
    """Compare values of a file with the values of `torch.load` or with NumPy arrays."""
    if isinstance(theirs, dict):
        assert list(ours) == list(theirs)
        for key in theirs:
            assert_same(ours[key], theirs[key])
    elif isinstance(theirs, (list, tuple)):
        assert len(ours) == len(theirs)
        for pair in zip(ours, theirs, strict=True):
            assert_same(*pair)
    elif hasattr(theirs, "shape"):
        assert isinstance(ours, np.ndarray)
        if hasattr(theirs, "detach"):
            kind = str(theirs.dtype).removeprefix("torch.").replace("bfloat16", "float32")
            theirs = (theirs.float() if "bfloat16" in str(theirs.dtype) else theirs).detach()
            assert ours.dtype.name == kind
        np.testing.assert_array_equal(ours, np.asarray(theirs), strict=True)
    else:
        assert type(ours) is type(theirs)
        assert ours == theirs


def read_error(path):
    """Return the message of the InputError for a file."""
    with pytest.raises(keras_arch.InputError, match=r"cannot be read.* Received: .* Save") as info:
        read_torch_file(path)
    message = str(info.value).replace(str(path), "FILE")
    assert len(message) < 290
    assert "\n" not in message
    return message


# --- files that torch.save wrote ---


def build_objects(torch):
    """Return what training scripts save, and tensors of all kinds."""
    values = torch.tensor([[0, 1, 2.5], [-3, 100, -0.0]])
    names = ("float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8")
    rows = torch.arange(24.0).reshape(4, 6)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 3), torch.nn.BatchNorm2d(2))
    return {
        "epoch": 3,
        "best_prec1": 91.7,
        "arch": "resnet20",
        "done": True,
        "none": None,
        "sizes": (1, 2, [3, 4.5]),
        "state_dict": network.state_dict(),
        "parameter": network[0].weight,
        "named": collections.OrderedDict(a=1),
        "types": {name: values.to(getattr(torch, name)) for name in names},
        "unsigned": (values.abs() % 200).to(torch.uint8),
        "bool": values > 1,
        "odd bfloat16": torch.arange(0, 2**16, 7).to(torch.int16).view(torch.bfloat16),
        "transposed": rows.T,
        "strided": rows[1:, ::2],
        "shared": [rows, rows[2], rows[0, 3]],
        "scalar": torch.tensor(7),
        "empty": [torch.zeros(0), torch.zeros(2, 0, 3), rows[:0]],
        "milestones": collections.Counter({30: 1, 60: 1}),
    }


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("protocol", [2, 4])
def test_same_as_torch(zipped, protocol, tmp_path):
    torch = pytest.importorskip("torch", reason="torch is an optional extra")
    torch.save(
        build_objects(torch),
        tmp_path / "a.pth",
        pickle_protocol=protocol,
        _use_new_zipfile_serialization=zipped,
    )
    ours = read_torch_file(tmp_path / "a.pth")
    assert_same(ours, torch.load(tmp_path / "a.pth", weights_only=False))
    rows, row, entry = ours["shared"]
    rows[2] = rows[0, 3] = 5
    assert row.tolist() == [5] * 6  # one memory, as in PyTorch
    assert entry == 5


def test_names_that_are_no_numbers(tmp_path):
    torch = pytest.importorskip("torch", reason="torch is an optional extra")
    value = {"d": torch.bfloat16, "s": torch.Size([2, 3]), "on": torch.device("cuda", 1)}
    torch.save({**value, "u": torch.tensor([1.5]).untyped_storage()}, tmp_path / "a.pth")
    ours = read_torch_file(tmp_path / "a.pth")
    assert_same(
        ours,
        {"d": "bfloat16", "s": (2, 3), "on": "cuda", "u": np.array([0, 0, 192, 63], "uint8")},
    )


@pytest.mark.parametrize("kind", ["complex", "sparse", "quantized", "module"])
def test_other_tensors_of_torch_are_refused(kind, tmp_path):
    torch = pytest.importorskip("torch", reason="torch is an optional extra")
    value, received = {
        "complex": (torch.zeros(2, dtype=torch.complex64), "torch.ComplexFloatStorage"),
        "sparse": (torch.eye(2).to_sparse(), "torch._utils._rebuild_sparse_tensor"),
        "quantized": (torch.zeros(2, dtype=torch.float8_e4m3fn), "torch._utils._rebuild_tensor_v3"),
        "module": (torch.nn.Linear(2, 2), "torch.nn.modules.linear.Linear"),
    }[kind]
    torch.save(value, tmp_path / "a.pth")
    assert f"Received: a file that calls {received}. " in read_error(tmp_path / "a.pth")


@pytest.mark.parametrize("depth", [20, 32, 44, 56])
def test_published_files(depth, test_data):
    """They are in the legacy format, with PyTorch's first kind of tensors."""
    folder = test_data.parent / "weights" / "cifar10"
    path = next(folder.glob(f"resnet{depth}-*.th"), None)
    if path is None:
        pytest.skip(f"{folder} has no trained weights of ResNet{depth}")
    ours = read_torch_file(path)
    assert ours["best_prec1"] > 91.7
    kernel = ours["state_dict"]["module.conv1.weight"]
    assert kernel.shape == (16, 3, 3, 3)
    assert 0.1 < kernel.std() < 1
    torch = pytest.importorskip("torch", reason="torch is an optional extra")
    assert_same(ours, torch.load(path, map_location="cpu", weights_only=True))


# --- files that these tests wrote ---


@pytest.mark.parametrize("zipped", [True, False])
def test_values(zipped, tmp_path):
    write_torch_file(tmp_path / "a.pth", VALUE, zipped)
    assert_same(read_torch_file(tmp_path / "a.pth"), VALUE)


@pytest.mark.parametrize("zipped", [True, False])
def test_torch_reads_the_files_of_these_tests(zipped, tmp_path):
    torch = pytest.importorskip("torch", reason="torch is an optional extra")
    write_torch_file(tmp_path / "a.pth", VALUE, zipped)
    assert_same(VALUE, torch.load(tmp_path / "a.pth", weights_only=True))


@pytest.mark.parametrize(("order", "sign"), [(b"big", ">"), (b"little", "<"), (None, "<")])
@pytest.mark.parametrize(
    ("kind", "dtype", "numbers"),
    [
        ("Float", "f4", [1.5, -2]),
        ("Long", "i8", [2**40, -1]),
        ("Half", "f2", [0.5, 7]),
        ("Bool", "?", [True, False]),
        ("BFloat16", "u2", [0x3FC0, 0xC000]),  # 1.5 and -2
    ],
)
def test_byte_orders(order, sign, kind, dtype, numbers, tmp_path):
    content = np.array(numbers, sign + dtype if dtype != "?" else dtype).tobytes()
    write_zip(
        tmp_path / "a.pth",
        tensor(storage(kind, "k", 2), (2,), (1,)),
        {"k": content},
        byteorder=order,
    )
    expected = [1.5, -2] if kind == "BFloat16" else numbers
    assert read_torch_file(tmp_path / "a.pth").tolist() == expected


@pytest.mark.parametrize("way", WRITERS)
def test_a_pickle_of_python_2(way, tmp_path):
    """Its OrderedDict is a list of pairs, and its texts are bytes."""
    array = call(
        name("torch._utils", "_rebuild_tensor"),
        storage("Float", "k", 3),
        number(1),
        integers([2]),
        integers([1]),
    )
    listed = b"](](U\x04conv" + array + b"ee"
    WRITERS[way](
        tmp_path / "a.pth",
        call(name("collections", "OrderedDict"), listed),
        {"k": struct.pack("<3f", 1, 2, 3)},
    )
    assert_same(read_torch_file(tmp_path / "a.pth"), {"conv": np.array([2, 3], "float32")})


# --- files that run code ---


class Reduced:
    """Its pickle calls a function."""

    def __init__(self, function, *arguments):
        self.parts = function, arguments

    def __reduce__(self):
        return self.parts


def build_attacks(marker):
    """Return {name that must be refused: object}."""
    write = f"open({str(marker)!r}, 'w').close()"
    return {
        f"{os.name}.system": Reduced(os.system, f"echo > {marker}"),
        "builtins.eval": Reduced(eval, write),
        "builtins.exec": Reduced(exec, write),
        "io.open": Reduced(io.open, os.fspath(marker), "w"),
        "builtins.getattr": Reduced(getattr, marker, "touch"),
        "subprocess.Popen": Reduced(subprocess.Popen, ["touch", str(marker)]),
        "pathlib.Path.touch": Reduced(pathlib.Path.touch, marker),
        "runpy.run_path": Reduced(runpy.run_path, str(marker)),
        "functools.partial": Reduced(functools.partial, os.system),
        "_pickle.loads": Reduced(pickle.loads, pickle.dumps(Reduced(eval, write))),
        "copyreg._reconstructor": Reduced(copyreg._reconstructor, collections.UserDict, dict, {}),
        "numpy.fromfile": Reduced(np.fromfile, str(marker)),
    }


@pytest.mark.parametrize("protocol", [3, 4])  # GLOBAL and STACK_GLOBAL
@pytest.mark.parametrize("refused", [*build_attacks(pathlib.Path("x")), "torch.hub.load"])
def test_code_is_refused_by_name(refused, protocol, tmp_path):
    marker, path = tmp_path / "marker", tmp_path / "attack.pth"
    if refused == "torch.hub.load":
        attack = PROTOCOL + call(name("torch.hub", "load"), text("any/repository")) + STOP
    elif refused == "pathlib.Path.touch" and protocol < 4:
        pytest.skip("pickles of this protocol cannot name an attribute of a class")
    else:
        attack = pickle.dumps(build_attacks(marker)[refused], protocol)
    if refused in ("builtins.eval", f"{os.name}.system"):
        pickle.loads(attack)  # in Python's own machine it runs
        marker.unlink()
    body = attack[2:].removesuffix(STOP)
    inside = pairs([(text("weight"), body)])
    for write in (
        lambda: path.write_bytes(attack),
        lambda: write_zip(path, inside, {}),
        lambda: write_legacy(path, inside, {}),
        lambda: write_legacy(path, pairs([]), {}, keys=body),
    ):
        write()
        assert f"Received: a file that calls {refused}. " in read_error(path)
        assert not marker.exists()


@pytest.mark.parametrize("way", WRITERS)
def test_builders_refuse_code(way, tmp_path):
    WRITERS[way](tmp_path / "a.pth", call(name("torch.hub", "load"), text("any/repository")), {})
    model = keras_arch.ResNet8(shortcut="projection")
    for load in (keras_arch.load_torchvision_weights, keras_arch.transfer_weights):
        options = ("resnet8",) if load is keras_arch.transfer_weights else ()
        with pytest.raises(keras_arch.InputError, match=r"a\.pth .* calls torch\.hub\.load\. Save"):
            load(model, tmp_path / "a.pth", *options)


ARRAY = tensor(storage("Float", "0", 2), (2,), (1,))
INSTRUCTIONS = {
    "INST": b"(" + text("true") + b"iposix\nsystem\n",
    "OBJ": b"(" + name("collections", "OrderedDict") + b"o",
    "NEWOBJ": name("collections", "OrderedDict") + b")\x81",
    "NEWOBJ_EX": name("collections", "OrderedDict") + b")}\x92",
    "EXT1": b"\x82\x01",
    "PERSID": b"Pstorage\n",
    "DUP": b"}2",
    "BYTEARRAY8": b"\x96" + struct.pack("<Q", 1) + b"x",
}


@pytest.mark.parametrize("instruction", INSTRUCTIONS)
def test_other_instructions_are_refused(instruction, tmp_path):
    write_zip(tmp_path / "a.pth", INSTRUCTIONS[instruction], {})
    assert f"Received: a file with the pickle instruction {instruction}. " in read_error(
        tmp_path / "a.pth"
    )


def test_attributes_are_not_set(tmp_path):
    """BUILD would free the memory of a NumPy array, or change functions of this package."""
    state = group(number(1), integers([9]), b"N", b"\x89", text("x" * 36))
    attributes = pairs([(text("items"), name("torch", "Size"))])
    write_zip(
        tmp_path / "a.pth",
        b"]("
        + (ARRAY + state + b"b")
        + (call(name("collections", "OrderedDict")) + attributes + b"b")
        + (name("torch", "Size") + group(b"N", attributes) + b"b")
        + b"e",
        {"0": struct.pack("<2f", 1, 2)},
    )
    array, mapping, function = read_torch_file(tmp_path / "a.pth")
    assert array.tolist() == [1, 2]
    assert dict(mapping.items()) == {}
    assert not hasattr(function, "items")


# --- tensors that do not fit their storage ---

BAD_TENSORS = {
    "offset": ((2,), (1,), 1),
    "negative offset": ((1,), (1,), -1),
    "size": ((3,), (1,), 0),
    "negative size": ((-1,), (1,), 0),
    "stride": ((2,), (2,), 0),
    "negative stride": ((2,), (-1,), 1),
    "expanded": ((2**40,), (0,), 0),
    "product is 0 in 64 bits": ((2**32 + 1, 2**32), (2**32, 1), 0),
    "bytes are 0 in 64 bits": ((2,), (2**62,), 0),
    "span is 0 in 64 bits": ((2, 1), (2**64, 1), 0),
    "offset is 0 in 64 bits": ((2,), (1,), 2**64),
    "bytes of all steps are 0 in 64 bits": ((5,), (2**60,), 0),
    "more strides than sizes": ((2,), (1, 1), 0),
    "65 dimensions": ((1,) * 65, (1,) * 65, 0),
    "a product that takes minutes": ((2**1000,) * 20_000, (1,) * 20_000, 0),
}


def test_a_call_with_an_array_is_refused(tmp_path):
    """Python would pass each of its numbers as an argument."""
    array = tensor(storage("Float", "0", 2), (2,), (1,))
    call_with_array = name("torch", "Size") + array + b"R"
    write_zip(tmp_path / "a.pth", call_with_array, {"0": bytes(8)})
    assert "a call with a ndarray" in read_error(tmp_path / "a.pth")


@pytest.mark.parametrize("way", WRITERS)
@pytest.mark.parametrize("bad", BAD_TENSORS)
def test_tensors_outside_their_storage(bad, way, tmp_path):
    shape, strides, offset = BAD_TENSORS[bad]
    count = 5 if shape == (5,) else 2
    array = tensor(storage("Float", "0", count), shape, strides, offset)
    WRITERS[way](tmp_path / "a.pth", array, {"0": bytes(4 * count)})
    read_error(tmp_path / "a.pth")


def test_one_number_is_not_repeated(tmp_path):
    write_zip(tmp_path / "a.pth", ARRAY, {"0": bytes(4)})
    assert "a storage with another length" in read_error(tmp_path / "a.pth")


@pytest.mark.parametrize("way", WRITERS)
@pytest.mark.parametrize("count", [-1, 0, 1, 3, 10_000, 2**28, 2**62, 2**64 + 2])
def test_storages_of_another_length(count, way, tmp_path):
    """No memory is allocated for a number in the file."""
    array = tensor(storage("Float", "0", count), (min(count, 2),), (1,))
    WRITERS[way](tmp_path / "a.pth", array, {"0": bytes(8)})
    tracemalloc.start()
    read_error(tmp_path / "a.pth")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10**6


BAD_PARTS = {
    "a text as storage": tensor(text("0"), (1,), (1,)),
    "a dict as storage": tensor(b"}", (1,), (1,)),
    "a type as storage": tensor(name("torch", "FloatStorage"), (1,), (1,)),
    "a text as type": group(*map(text, ("storage", "float32", "0", "cpu")), number(2)) + b"Q",
    "a function as type": group(
        text("storage"), name("torch", "Size"), text("0"), text("cpu"), number(2)
    )
    + b"Q",
    "a float as count": group(
        text("storage"), name("torch", "FloatStorage"), text("0"), text("cpu"), encode(2.0, {})
    )
    + b"Q",
    "a view of a storage": storage("Float", "0", 2, integers([1, 0, 2])),
    "a module": group(text("module"), name("torch", "Size"), text("a.py"), text("1")) + b"Q",
    "metadata": ARRAY[:-2] + pairs([(text("neg"), b"\x88")]) + b"tR",
    "a call of an array": ARRAY + b")R",
    "a call of a text": text("eval") + b")R",
    "arguments that are a number": name("torch", "Size") + number(1) + b"R",
    "a name that is a number": number(1) + number(2) + b"\x93",
    "items of a list": b"](" + text("a") + text("b") + b"u",
    "elements of a dict": b"}(" + text("a") + b"e",
    "a key without a value": b"}(" + text("a") + b"u",
    "a tuple as key": b"}" + b")N" + b"s",
    "no mark": b"t",
    "an empty stack": b"",
    "an unknown memo": b"h\x07",
}


@pytest.mark.parametrize("way", WRITERS)
@pytest.mark.parametrize("part", BAD_PARTS)
def test_parts_of_another_type(part, way, tmp_path):
    WRITERS[way](tmp_path / "a.pth", BAD_PARTS[part], {"0": bytes(8)})
    read_error(tmp_path / "a.pth")


# --- small files that need much ---

DEPTH = 50_000


def test_deep_nesting(tmp_path):
    write_zip(tmp_path / "a.pth", b"]" * DEPTH + b"a" * (DEPTH - 1), {})
    (inner,) = read_torch_file(tmp_path / "a.pth")
    assert isinstance(inner, list)


def test_a_deeply_nested_key(tmp_path):
    """Python crashes when it hashes such a tuple."""
    write_zip(tmp_path / "a.pth", b"})" + b"\x85" * 2 * DEPTH + b"Ns", {})
    assert "a tuple as a key" in read_error(tmp_path / "a.pth")


def test_a_file_that_contains_itself(tmp_path):
    """Its state_dict has a state_dict, and so on without end."""
    write_zip(tmp_path / "a.pth", b"}q\x00" + text("state_dict") + b"h\x00s", {})
    with pytest.raises(keras_arch.InputError, match="must hold a state_dict"):
        keras_arch.ResNet8(shortcut="projection", weights=tmp_path / "a.pth")


def test_a_list_that_is_copied_often(tmp_path):
    """Python 2's OrderedDict copies a list. 10,000 copies of 10,000 items need 10 GB."""
    listed = b"](" + b"".join(b"]" + b"(" + number(n) + b"Ne" for n in range(10_000)) + b"eq\x00"
    copies = (name("collections", "OrderedDict") + b"h\x00\x85R") * 10_000
    write_zip(tmp_path / "a.pth", listed + b"(" + copies + b"t", {})
    first, *others = read_torch_file(tmp_path / "a.pth")
    assert len(first) == 10_000
    assert not any(others)


def test_large_numbers_allocate_nothing(tmp_path):
    """The number of a memo entry and the length of a text are no sizes of memory."""
    write_zip(tmp_path / "a.pth", b"}r\xff\xff\xff\xff", {})
    assert read_torch_file(tmp_path / "a.pth") == {}
    for instruction in (b"X\xff\xff\xff\x7f", b"\x8b\xff\xff\xff\x7f"):
        write_zip(tmp_path / "a.pth", instruction, {})
        read_error(tmp_path / "a.pth")


# --- archives and other files ---


def test_compressed_archives_are_refused(tmp_path):
    array = tensor(storage("Float", "0", 10**6), (10**6,), (1,))
    write_zip(tmp_path / "a.pth", array, {"0": bytes(4 * 10**6)}, zipfile.ZIP_DEFLATED)
    assert (tmp_path / "a.pth").stat().st_size < 10_000
    assert "compressed archive" in read_error(tmp_path / "a.pth")


@pytest.mark.parametrize("missing", ["data.pkl", "data/0"])
def test_members_that_are_missing(missing, tmp_path):
    write_zip(tmp_path / "a.pth", ARRAY, {"0": bytes(8)})
    with (
        zipfile.ZipFile(tmp_path / "a.pth") as complete,
        zipfile.ZipFile(tmp_path / "b.pth", "w") as other,
    ):
        for member in complete.namelist():
            if not member.endswith(missing):
                other.writestr(member, complete.read(member))
    assert missing in read_error(tmp_path / "b.pth")


def test_a_wrong_checksum(tmp_path):
    write_zip(tmp_path / "a.pth", ARRAY, {"0": b"12345678"})
    content = (tmp_path / "a.pth").read_bytes()
    assert content.count(b"12345678") == 1
    (tmp_path / "a.pth").write_bytes(content.replace(b"12345678", b"12345679"))
    assert "CRC" in read_error(tmp_path / "a.pth")


@pytest.mark.parametrize("keys", [[], ["0", "0"], ["1"], ["0", "1"], [0], 5, None])
def test_other_keys_in_the_legacy_format(keys, tmp_path):
    write_legacy(tmp_path / "a.pth", ARRAY, {"0": bytes(8)}, keys=encode(keys, {}))
    read_error(tmp_path / "a.pth")


def test_other_formats(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:  # of PyTorch before 0.1.10
        for member in ("storages", "tensors", "pickle"):
            archive.addfile(tarfile.TarInfo(member), io.BytesIO())
    (tmp_path / "a.txt").write_text("version https://git-lfs.github.com/spec/v1")
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"weight": 1}))
    (tmp_path / "empty").write_bytes(b"")
    for path in tmp_path.iterdir():
        assert "neither the zip format nor the legacy format of torch.save" in read_error(path)
    assert "No such file" in read_error(tmp_path / "missing.pth")


# --- damaged files ---


@pytest.mark.parametrize("zipped", [True, False])
def test_cut_files(zipped, tmp_path):
    write_torch_file(tmp_path / "a.pth", VALUE["state_dict"], zipped)
    complete = (tmp_path / "a.pth").read_bytes()
    for part in range(50):
        (tmp_path / "cut.pth").write_bytes(complete[: len(complete) * part // 50])
        read_error(tmp_path / "cut.pth")


@pytest.mark.parametrize("zipped", [True, False])
def test_changed_files(zipped, tmp_path):
    """A zip archive has checksums. In the legacy format other numbers are possible."""
    value = VALUE["state_dict"]
    write_torch_file(tmp_path / "a.pth", value, zipped)
    complete = (tmp_path / "a.pth").read_bytes()
    refused = 0
    places = range(0, len(complete), 7)
    for place in places:
        changed = bytearray(complete)
        changed[place] ^= (0x01, 0x80, 0xFF)[place % 3]
        (tmp_path / "changed.pth").write_bytes(changed)
        try:
            result = read_torch_file(tmp_path / "changed.pth")
        except keras_arch.InputError:
            refused += 1
        else:
            if zipped:
                assert_same(result, value)
    assert refused > len(places) // 3
