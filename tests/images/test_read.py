"""Reading of image files: formats, depths, EXIF orientation and transparency."""

import io
import struct

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image, ImageOps

import keras_arch
from keras_arch.data.check import check_image
from keras_arch.errors import DataWarning
from keras_arch.export.saved_model import Classifier
from keras_arch.images.decode import decode_image
from keras_arch.images.read import PILLOW_FORMATS, RASTER, SUFFIXES, read_image

RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, (6, 9, 4)).astype("uint8")
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"


def on_white(colors, alpha):
    """Composite on white in floating point."""
    share = alpha[..., np.newaxis] / 255
    return np.floor(share * colors + (1 - share) * 255 + 0.5)


# --- formats ---


@pytest.fixture
def ghostscript(tmp_path, monkeypatch):
    """Path of a file that exists after the program `gs` on PATH was started."""
    from PIL import EpsImagePlugin

    program, trace = tmp_path / "bin" / "gs", tmp_path / "started"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch {trace}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)  # Pillow searches for it again
    return trace


@pytest.mark.parametrize("name", ["x.png", "x.eps"])
def test_eps_does_not_start_a_program(tmp_path, ghostscript, name):
    (tmp_path / name).write_bytes(EPS)
    with pytest.raises(keras_arch.InputError, match="cannot identify image file"):
        read_image(tmp_path / name, (8, 8, 3))
    assert "cannot identify" in check_image(str(tmp_path / name)).error
    assert not ghostscript.exists()


@pytest.mark.parametrize("suffix", sorted(SUFFIXES))
def test_files_of_each_suffix_are_read(tmp_path, suffix):
    path = tmp_path / f"x{suffix}"
    mode = "L" if suffix in (".pgm", ".pbm") else "RGB"
    Image.new(mode, (9, 6), "white").save(path)
    assert read_image(path, (None, None, 3)).shape == (6, 9, 3)
    assert read_image(path, (None, None, 3)).min() > 250
    path.rename(tmp_path / "named_otherwise.png")
    assert check_image(str(tmp_path / "named_otherwise.png")).size == (9, 6)


def test_formats_have_a_decoder_in_pillow():
    assert not set(RASTER) & {"EPS", "WMF", "PDF", "FITS", "GRIB", "BUFR", "HDF5", "MPEG"}
    assert set(PILLOW_FORMATS) <= set(RASTER)
    assert {".jpg", ".png", ".tif", ".tiff", ".jfif", ".jpe", ".ppm", ".webp"} <= SUFFIXES
    assert (".avif" in SUFFIXES) == (".avif" in Image.registered_extensions())


# --- depths ---


def test_open_files_are_read(tmp_path):
    Image.fromarray(NOISE[..., :3]).save(tmp_path / "x.png")
    content = (tmp_path / "x.png").read_bytes()
    np.testing.assert_array_equal(read_image(io.BytesIO(content), (6, 9, 3)), NOISE[..., :3])
    with pytest.raises(keras_arch.InputError, match="An open file cannot be decoded as an image"):
        read_image(io.BytesIO(content[:40]), (6, 9, 3))


def test_first_page_of_a_tiff(tmp_path):
    pages = [Image.new("L", (4, 4), value) for value in (10, 200)]
    pages[0].save(tmp_path / "x.tif", save_all=True, append_images=pages[1:])
    np.testing.assert_array_equal(read_image(tmp_path / "x.tif", (4, 4, 1)), 10)


@pytest.mark.parametrize("name", ["x.tif", "x.png", "x.pgm", "x.jp2"])
def test_16_bits_become_8(tmp_path, name):
    deep = np.array([[0, 255, 256], [4096, 0xCF12, 65535]], "uint16")
    Image.fromarray(deep).save(tmp_path / name)
    np.testing.assert_array_equal(
        read_image(tmp_path / name, (2, 3, 1))[..., 0], [[0, 0, 1], [16, 0xCF, 255]]
    )
    assert check_image(str(tmp_path / name)).gray


def test_tiff_of_12_bits_and_of_white_zero(tmp_path):
    """TIFF 6.0 packs 0xFFF and 0x800 in three bytes. White is zero if the tag is 0."""
    write_tiff(tmp_path / "12.tif", bits=12, photometric=1, pixels=b"\xff\xf8\x00")
    np.testing.assert_array_equal(read_image(tmp_path / "12.tif", (1, 2, 1)).ravel(), [255, 128])
    write_tiff(tmp_path / "16.tif", bits=16, photometric=0, pixels=b"\xff\xff\x00\x00")
    np.testing.assert_array_equal(read_image(tmp_path / "16.tif", (1, 2, 1)).ravel(), [0, 255])


def write_tiff(path, bits, photometric, pixels):
    """Write a grayscale TIFF of two pixels in one row."""
    tags = {
        256: 2,
        257: 1,
        258: bits,
        259: 1,
        262: photometric,
        273: 8 + 2 + 12 * 9 + 4,
        277: 1,
        278: 1,
        279: len(pixels),
    }
    entries = b"".join(
        number.to_bytes(2, "little") + b"\x04\0" + b"\x01\0\0\0" + value.to_bytes(4, "little")
        for number, value in tags.items()
    )
    path.write_bytes(
        b"II*\0\x08\0\0\0" + len(tags).to_bytes(2, "little") + entries + bytes(4) + pixels
    )


@pytest.mark.parametrize("dtype", ["float32", "int32"])
def test_pixels_of_unknown_range_are_an_error(tmp_path, dtype):
    Image.fromarray(np.linspace(0, 1000, 16).reshape(4, 4).astype(dtype)).save(tmp_path / "x.tif")
    with pytest.raises(
        keras_arch.InputError,
        match=r"the pixel range is unknown in mode [FI], so save the image with 8 or 16 bits",
    ):
        read_image(tmp_path / "x.tif", (4, 4, 1))
    assert "unknown" in check_image(str(tmp_path / "x.tif")).error


# --- EXIF ---

BYTE, ASCII, SHORT, LONG, RATIONAL, FLOAT = 1, 2, 3, 4, 5, 11  # TIFF types
SIDEWAYS = (0x0112, SHORT, 1, b"\6\0")  # orientation 6


def exif_block(*entries, order="<", count=None, offset=8):
    """Return an EXIF block with one directory of entries: tag, type, count, value or offset."""
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", offset)
    rows = [
        struct.pack(f"{order}HHI", *entry[:3]) + entry[3].ljust(4, b"\0")[:4] for entry in entries
    ]
    return (
        head
        + struct.pack(f"{order}H", len(rows) if count is None else count)
        + b"".join(rows)
        + bytes(4)
    )


def orientation_block(value, kind=SHORT, count=1):
    return exif_block((0x0112, kind, count, value))


FAR = struct.pack("<I", 2**31)
DIRECTORY = struct.pack("<I", 8)  # offset of the first one
ODD_EXIF = {
    "empty": (b"", False),
    "one byte": (b"I", False),
    "text": (b"not a directory", False),
    "header alone": (b"II*\0\x08\0\0\0", False),
    "unknown byte order": (b"XX*\0" + exif_block(SIDEWAYS)[4:], False),
    "directory behind the end": (exif_block(SIDEWAYS, offset=10_000), False),
    "directory at 4 GiB": (exif_block(SIDEWAYS, offset=2**32 - 1), False),
    "directory in the header": (exif_block(SIDEWAYS, offset=0), False),
    "no entry": (exif_block(), False),
    "65,535 entries": (exif_block(SIDEWAYS, count=65_535), True),
    "65,535 entries without one": (exif_block((0x010F, ASCII, 4, b"abc"), count=65_535), False),
    "cut in the entry": (exif_block(SIDEWAYS)[:15], False),
    "orientation 0": (orientation_block(b"\0"), False),
    "orientation 9": (orientation_block(b"\x09"), False),
    "orientation 65,535": (orientation_block(b"\xff\xff"), False),
    "orientation as text": (orientation_block(b"6\0", ASCII, 2), False),
    "orientation as a float": (orientation_block(struct.pack("<f", 6.5), FLOAT), False),
    "orientation as not a number": (
        orientation_block(struct.pack("<f", float("nan")), FLOAT),
        False,
    ),
    "orientation as two bytes": (orientation_block(b"\6\6", BYTE, 2), False),
    "orientation as two numbers": (orientation_block(b"\6\0\6\0", SHORT, 2), False),
    "orientation of no number": (orientation_block(b"\6\0", SHORT, 0), False),
    "orientation of 4 billion numbers": (orientation_block(FAR, SHORT, 2**32 - 1), False),
    "orientation as a fraction nowhere": (orientation_block(FAR, RATIONAL), False),
    "orientation of an unknown kind": (orientation_block(b"\6\0", 99), False),
    "resolution nowhere": (exif_block((0x011A, RATIONAL, 1, FAR), SIDEWAYS), True),
    "resolution as text": (
        exif_block(SIDEWAYS, (0x011A, ASCII, 4, b"abc"), (0x0128, ASCII, 4, b"abc")),
        True,
    ),
    "resolution of two numbers": (
        exif_block(SIDEWAYS, (0x011A, SHORT, 2, b"\0\0\0\0"), (0x0128, SHORT, 1, b"\2")),
        True,
    ),
    "resolution that divides by zero": (
        exif_block(SIDEWAYS, (0x011A, RATIONAL, 1, DIRECTORY)),
        True,
    ),
    "maker's note nowhere": (
        exif_block(SIDEWAYS, (0x8769, LONG, 1, FAR), (0x8825, LONG, 1, FAR)),
        True,
    ),
    "a directory in itself": (exif_block(SIDEWAYS, (0x8769, LONG, 1, DIRECTORY)), True),
    "a directory that is text": (
        exif_block(SIDEWAYS, (0x8769, ASCII, 4, b"abc"), (0x8825, FLOAT, 1, b"")),
        True,
    ),
    "a string cut short": (exif_block((0x010F, ASCII, 100, DIRECTORY), SIDEWAYS), True),
    "text of a camera cut short": (
        exif_block((0x9286, 7, 3, b"ab"), SIDEWAYS, (0x0110, 8, 3, b"a")),
        True,
    ),
}
BIG_ENDIAN = {
    f"big-endian {n}": (exif_block((0x0112, SHORT, 1, bytes([0, n])), order=">"), 5 <= n <= 8)
    for n in range(10)
}
CONTAINERS = {"jpg": {"quality": 100, "subsampling": 0}, "png": {}, "webp": {"lossless": True}}


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("suffix", CONTAINERS)
def test_images_with_damaged_exif_are_read(tmp_path, suffix):
    """Images of 12x6 pixels, white on the left. Orientation 6 gives 6x12, white on top."""
    picture = Image.fromarray(
        np.repeat(np.array([[255] * 6 + [0] * 6], "uint8"), 6, axis=0)
    ).convert("RGB")
    for name, (block, sideways) in ODD_EXIF.items():
        path = tmp_path / f"{name}.{suffix}"
        picture.save(path, exif=b"Exif\0\0" + block, **CONTAINERS[suffix])
        image = read_image(path, (None, None, 3)).astype(int)
        assert image.shape == ((12, 6, 3) if sideways else (6, 12, 3)), name
        assert image[:3, :3].min() > 250, name
        assert image[-3:, -3:].max() < 5, name
        checked = check_image(str(path))
        assert (checked.error, checked.size) == (None, image.shape[1::-1]), name
        assert checked.plain_jpeg == (suffix == "jpg" and not sideways), name


# Positions of the first row and column for each orientation (EXIF 2.32, 4.6.4).
CORNERS = {
    1: "ab cd",
    2: "ba dc",
    3: "dc ba",
    4: "cd ab",
    5: "ac bd",
    6: "ca db",
    7: "db ca",
    8: "bd ac",
}


@pytest.mark.parametrize("suffix", CONTAINERS)
@pytest.mark.parametrize("order", "<>")
def test_the_eight_orientations(tmp_path, suffix, order):
    """The quarters of an image are grays a, b in the first row and c, d in the second."""
    grays = {"a": 0, "b": 80, "c": 160, "d": 240}
    quarters = np.kron(np.array([[0, 80], [160, 240]], "uint8"), np.ones((8, 16), "uint8"))
    for orientation, corners in CORNERS.items():
        block = exif_block((0x0112, SHORT, 1, struct.pack(f"{order}H", orientation)), order=order)
        path = tmp_path / f"{orientation}.{suffix}"
        Image.fromarray(quarters).convert("RGB").save(
            path, exif=b"Exif\0\0" + block, **CONTAINERS[suffix]
        )
        image = read_image(path, (None, None, 3))[..., 0].astype(int)
        assert image.shape == ((16, 32) if orientation < 5 else (32, 16))
        found = [[image[0, 0], image[0, -1]], [image[-1, 0], image[-1, -1]]]
        np.testing.assert_allclose(
            found, [[grays[corner] for corner in row] for row in corners.split()], atol=2
        )


def test_any_exception_of_pillow_is_an_input_error(tmp_path, monkeypatch):
    """The message has the path of the file."""

    def fail(file):
        raise AssertionError

    Image.new("L", (4, 4)).save(tmp_path / "x.png")
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load_end", fail)
    with pytest.raises(
        keras_arch.InputError, match=r"x\.png cannot be decoded .* Received: AssertionError"
    ):
        read_image(tmp_path / "x.png", (4, 4, 1))
    assert check_image(str(tmp_path / "x.png")).error == "AssertionError"


# --- transparency ---


def test_transparency_is_composited_on_white(tmp_path):
    Image.fromarray(NOISE).save(tmp_path / "rgba.png")
    np.testing.assert_array_equal(
        read_image(tmp_path / "rgba.png", (6, 9, 3)), on_white(NOISE[..., :3], NOISE[..., 3])
    )
    Image.fromarray(NOISE[..., :2]).save(tmp_path / "la.png")
    expected = on_white(NOISE[..., :1], NOISE[..., 1])
    np.testing.assert_array_equal(read_image(tmp_path / "la.png", (6, 9, 1)), expected)
    assert check_image(str(tmp_path / "la.png")).gray
    assert not check_image(str(tmp_path / "rgba.png")).gray


def test_transparent_palettes(tmp_path):
    numbers = RNG.integers(0, 4, (6, 9)).astype("uint8")
    palette, alpha = NOISE[0, :4, :3], np.array([0, 128, 255, 255])
    image = Image.fromarray(numbers)
    image.putpalette(palette.tobytes())
    image.save(tmp_path / "p.png", transparency=bytes(alpha.tolist()))
    expected = on_white(palette[numbers], alpha[numbers])
    np.testing.assert_array_equal(read_image(tmp_path / "p.png", (6, 9, 3)), expected)
    image.save(tmp_path / "p.gif", transparency=2)
    expected = np.where(numbers[..., np.newaxis] == 2, 255, palette[numbers])
    np.testing.assert_array_equal(read_image(tmp_path / "p.gif", (6, 9, 3)), expected)


@pytest.mark.parametrize("depth", ["uint8", "uint16"])
def test_a_transparent_shade_of_gray(tmp_path, depth):
    shades = np.array([[0, 100], [30, 100]], depth) * (1 if depth == "uint8" else 257)
    Image.fromarray(shades).save(tmp_path / "l.png", transparency=int(shades[0, 1]))
    np.testing.assert_array_equal(
        read_image(tmp_path / "l.png", (2, 2, 1))[..., 0], [[0, 255], [30, 255]]
    )
    assert check_image(str(tmp_path / "l.png")).gray


def test_a_transparent_color(tmp_path):
    Image.fromarray(NOISE[..., :3]).save(
        tmp_path / "rgb.png", transparency=tuple(NOISE[2, 3, :3].tolist())
    )
    expected = NOISE[..., :3].copy()
    expected[2, 3] = 255
    np.testing.assert_array_equal(read_image(tmp_path / "rgb.png", (6, 9, 3)), expected)


# --- TensorFlow: serve_bytes and TFDS ---


def encoded(image, kind, **options):
    """Return the bytes of a file with a Pillow image."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


PICTURE = Image.fromarray(NOISE)
GRAY = Image.fromarray(NOISE[..., 0])
PALETTE = PICTURE.convert("RGB").quantize(8)
FILES = {
    "rgba": encoded(PICTURE, "PNG"),
    "la": encoded(PICTURE.convert("LA"), "PNG"),
    "palette": encoded(PALETTE, "PNG", transparency=bytes([0, 40, 255, 200, 100, 0, 7, 255])),
    "one of a palette": encoded(PALETTE, "PNG", transparency=3),
    "rgb with a transparent color": encoded(
        PICTURE.convert("RGB"), "PNG", transparency=tuple(NOISE[2, 3, :3].tolist())
    ),
    "gray with a transparent shade": encoded(GRAY, "PNG", transparency=int(NOISE[2, 3, 0])),
    "rgb": encoded(PICTURE.convert("RGB"), "PNG"),
    "gray": encoded(GRAY, "PNG"),
    "palette without transparency": encoded(PALETTE, "PNG"),
    "palette of four": encoded(PICTURE.convert("RGB").quantize(4), "PNG", transparency=1),
    "gray of 1 bit": encoded(GRAY.convert("1"), "PNG"),
    "gray of 1 bit with a transparent one": encoded(GRAY.convert("1"), "PNG", transparency=1),
    "gray of 16 bits": encoded(Image.fromarray(NOISE[..., 0].astype("uint16") * 250), "PNG"),
    "gif": encoded(PALETTE, "GIF"),
    "bmp": encoded(PICTURE.convert("RGB"), "BMP"),
    "jpeg": encoded(PICTURE.convert("RGB"), "JPEG", quality=95),
    "gray jpeg": encoded(GRAY, "JPEG", quality=95),
}


SMOOTH = Image.fromarray(NOISE[..., :3]).resize((48, 36), Image.Resampling.BICUBIC)
SHARP = Image.fromarray(RNG.integers(0, 256, (36, 48, 3)).astype("uint8"))


def orientation_exif(value):
    return b"Exif\0\0" + orientation_block(bytes([value, 0]))


ENCODINGS = {
    "jpeg": encoded(SMOOTH, "JPEG", quality=90),
    "jpeg, sharp": encoded(SHARP, "JPEG", quality=95),
    "jpeg, 4:4:4": encoded(SMOOTH, "JPEG", quality=90, subsampling=0),
    "jpeg, 4:2:2": encoded(SMOOTH, "JPEG", quality=90, subsampling=1),
    "jpeg, progressive": encoded(SMOOTH, "JPEG", quality=90, progressive=True),
    "jpeg, restart markers": encoded(SMOOTH, "JPEG", quality=90, restart_marker_rows=1),
    "jpeg, coarse": encoded(SMOOTH, "JPEG", quality=10),
    "jpeg, gray": encoded(SMOOTH.convert("L"), "JPEG", quality=90),
    "jpeg, CMYK": encoded(SMOOTH.convert("CMYK"), "JPEG", quality=95),
    **{
        f"jpeg, orientation {n}": encoded(SMOOTH, "JPEG", quality=90, exif=orientation_exif(n))
        for n in range(10)
    },
    **{
        f"png, orientation {n}": encoded(SMOOTH, "PNG", exif=orientation_exif(n)) for n in range(10)
    },
    "png, sharp": encoded(SHARP, "PNG"),
    "png, gray": encoded(SMOOTH.convert("L"), "PNG"),
    "png, palette": encoded(SMOOTH.quantize(50), "PNG"),
    "png, transparent, sharp": encoded(SHARP.convert("RGBA").rotate(30), "PNG"),
    "bmp, sharp": encoded(SHARP, "BMP"),
    "gif, palette": encoded(SMOOTH.quantize(50), "GIF"),
}


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_tensorflow_decodes_to_the_pixels_of_pillow(tmp_path):
    damaged = {
        f"jpeg, {name}": encoded(SMOOTH, "JPEG", quality=90, exif=b"Exif\0\0" + block)
        for name, (block, _) in (ODD_EXIF | BIG_ENDIAN).items()
    }
    by_tensorflow = tf.function(decode_image, input_signature=[tf.TensorSpec((), tf.string)])
    for name, content in (ENCODINGS | damaged).items():
        (tmp_path / "picture").write_bytes(content)
        expected = read_image(tmp_path / "picture", (None, None, 3))
        np.testing.assert_array_equal(by_tensorflow(content), expected, err_msg=name)


# Slightly above the measured maximum differences, of 255. At the edges of a crop, Pillow averages
# with pixels outside the crop and TensorFlow does not.
INSIDE, EDGE, SHARP_EDGE = 2, 20, 40


@pytest.mark.parametrize("shape", [(12, 16, 3), (12, 12, 1), (12, 12, 3), (50, 50, 3)])
def test_serve_bytes_resizes_like_read_image(tmp_path, shape):
    for name, answer in zip(ENCODINGS, served(tmp_path, shape, ENCODINGS.values()), strict=True):
        (tmp_path / "picture").write_bytes(ENCODINGS[name])
        difference = np.abs(answer - read_image(tmp_path / "picture", shape))
        assert difference[2:-2, 2:-2].max() <= INSIDE, name
        with Image.open(tmp_path / "picture") as file:
            upright = ImageOps.exif_transpose(file)
        crop = upright.width * shape[0] != upright.height * shape[1]
        assert difference.max() <= (
            INSIDE if not crop else SHARP_EDGE if "sharp" in name else EDGE
        ), name


def served(folder, shape, contents):
    """Return the images that `serve_bytes` of a SavedModel gives to its model."""
    image = keras.Input(shape)
    (folder / "labels.txt").write_text("")
    model = keras.Model(image, keras.layers.Flatten()(image))
    classifier = Classifier(model, folder / "labels.txt", [""] * model.output_shape[-1])
    return (
        classifier.serve_bytes(tf.constant([*contents]))["probabilities"]
        .numpy()
        .reshape(-1, *shape)
    )


@pytest.mark.parametrize("channels", [1, 3])
def test_serve_bytes_composites_on_white_like_read_image(tmp_path, channels):
    for name, answer in zip(FILES, served(tmp_path, (6, 9, channels), FILES.values()), strict=True):
        (tmp_path / "picture").write_bytes(FILES[name])
        expected = read_image(tmp_path / "picture", (6, 9, channels)).astype(int)
        # For gray, TensorFlow truncates and Pillow rounds.
        tolerance = channels == 1 and "gray" not in name and name != "la"
        np.testing.assert_allclose(answer, expected, atol=tolerance, err_msg=name)


@pytest.fixture
def tfds_set(tmp_path, monkeypatch):
    """Function that loads TFDS data. All splits have the same files, each in its own class."""

    def load(shape, encoding, contents, **options):
        with tfds.core.registered.skip_registration():

            class Icons(tfds.core.GeneratorBasedBuilder):
                VERSION = tfds.core.Version("1.0.0")

                def _info(self):
                    features = {
                        "image": tfds.features.Image(shape=shape, encoding_format=encoding),
                        "label": tfds.features.ClassLabel(num_classes=len(contents)),
                    }
                    return tfds.core.DatasetInfo(
                        builder=self,
                        features=tfds.features.FeaturesDict(features),
                        supervised_keys=("image", "label"),
                    )

                def _split_generators(self, dl_manager):
                    return {
                        split: self._generate_examples()
                        for split in ("train", "validation", "test")
                    }

                def _generate_examples(self):
                    for label, content in enumerate(contents):
                        yield label, {"image": io.BytesIO(content), "label": label}

        monkeypatch.setattr(
            "keras_arch.data.tfds.find_builder", lambda name, data_dir: Icons(data_dir=data_dir)
        )
        monkeypatch.setattr(
            "keras_arch.data.tfds.prepare_data",
            lambda name, builder: builder.download_and_prepare(),
        )
        with pytest.warns(DataWarning, match="test images are also in the train split"):
            return keras_arch.load_dataset("icons", tmp_path, **options)

    return load


SLOW = pytest.mark.slow


@pytest.mark.parametrize("channels", [pytest.param(1, marks=SLOW), pytest.param(3, marks=SLOW), 4])
def test_tfds_records_are_composited_on_white(tmp_path, channels, tfds_set):
    """TFDS features of 1, 3 or 4 channels store files unchanged."""
    names = (
        ("la", "gray with a transparent shade", "gray")
        if channels == 1
        else ("rgba", "palette", "rgb")
    )
    dataset = tfds_set((6, 9, channels), "png", [FILES[name] for name in names])
    assert dataset.image_shape == (6, 9, min(channels, 3))
    for image, label in zip(dataset.test.images, dataset.test.labels, strict=True):
        (tmp_path / "picture").write_bytes(FILES[names[label]])
        np.testing.assert_array_equal(image, read_image(tmp_path / "picture", dataset.image_shape))


@pytest.mark.parametrize("shape", [(None, None, 3), pytest.param((36, 48, 3), marks=SLOW)])
def test_tfds_jpegs_are_upright(tmp_path, shape, tfds_set):
    """The feature can also have a fixed size, which is that of the stored images."""
    contents = [ENCODINGS[f"jpeg, orientation {n}"] for n in range(10)]
    dataset = tfds_set(shape, "jpeg", contents, image_size=(36, 48))
    for image, label in zip(dataset.test.images, dataset.test.labels, strict=True):
        (tmp_path / "picture").write_bytes(contents[label])
        difference = np.abs(image.astype(int) - read_image(tmp_path / "picture", (36, 48, 3)))
        assert difference[2:-2, 2:-2].max() <= (INSIDE if 5 <= label <= 8 else 0)
