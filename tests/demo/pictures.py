"""Pictures of 38 kinds, from which a browser and Pillow must read the same pixels."""

import struct

import numpy as np
from PIL import Image, ImageCms, PngImagePlugin

SIZE = 90, 61  # width and height of most pictures, in pixels
ORANGE, ORANGE_GRAY = (255, 165, 0), 173  # color of a rectangle, and its luma
ORIENTATION = 0x0112  # EXIF tag


def photo(mode, size):
    """Return a picture whose colors and opacities differ everywhere, except in a rectangle."""
    width, height = size
    generator = np.random.default_rng(0)
    coarse = Image.fromarray(generator.integers(0, 256, (5, 7, 4), "uint8"))
    pixels = np.asarray(coarse.resize(size, Image.Resampling.BILINEAR)).astype("int16")
    pixels += generator.integers(-20, 21, (height, 1, 4), "int16")
    pixels += generator.integers(-20, 21, (1, width, 4), "int16")
    picture = Image.fromarray(pixels.clip(0, 255).astype("uint8"))
    picture.paste(ORANGE, (0, height // 2, width // 3, height))
    if mode == "P":
        return picture.convert("RGB").quantize(200)
    if mode == "I;16":
        return Image.fromarray(np.asarray(picture.convert("L")).astype("uint16") * 256 + 200)
    return picture.convert(mode)


def orientation(number):
    exif = Image.Exif()
    exif[ORIENTATION] = number
    return exif


def gamma(value):
    chunks = PngImagePlugin.PngInfo()
    chunks.add(b"gAMA", struct.pack(">I", round(100_000 * value)))
    return chunks


def swapped_profile():
    """Return the ICC profile of a screen that shows red as blue."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for old, new in ((b"rXYZ", b"????"), (b"bXYZ", b"rXYZ"), (b"????", b"bXYZ")):
        profile = profile.replace(old, new)
    return profile


def kind(mode="RGB", size=SIZE, **options):
    """Return what `save_picture` needs. The options are those of Image.save."""
    return mode, size, options


KINDS = {
    "444.jpg": kind(subsampling="4:4:4"),
    "420.jpg": kind(subsampling="4:2:0"),
    "progressive.jpg": kind(progressive=True),
    "gray.jpg": kind("L"),
    "cmyk.jpg": kind("CMYK"),
    "12_megapixels.jpg": kind(size=(4000, 3000)),
    "profile.jpg": kind(icc_profile=swapped_profile()),
    **{f"orientation_{number}.jpg": kind(exif=orientation(number)) for number in range(1, 9)},
    "1_bit.png": kind("1"),
    "gray.png": kind("L"),
    "16_bits.png": kind("I;16"),
    "rgb.png": kind(),
    "palette.png": kind("P"),
    "rgb_alpha.png": kind("RGBA"),
    "gray_alpha.png": kind("LA"),
    "palette_alpha.png": kind("P", transparency=bytes(range(0, 256, 2))),
    "transparent_color.png": kind(transparency=ORANGE),
    "transparent_gray.png": kind("L", transparency=ORANGE_GRAY),
    "gamma.png": kind(pnginfo=gamma(1.0)),
    "profile.png": kind(icc_profile=swapped_profile()),
    "lossy.webp": kind(quality=80),
    "lossless.webp": kind(lossless=True),
    "lossy_alpha.webp": kind("RGBA", quality=80),
    "lossless_alpha.webp": kind("RGBA", lossless=True, exact=True),
    "palette.gif": kind("P"),
    "transparent.gif": kind("P", transparency=7),
    "rgb.bmp": kind(),
    "gray.bmp": kind("L"),
    "1x1.png": kind(size=(1, 1)),
    "7x300.png": kind(size=(7, 300)),
    "300x7.jpg": kind(size=(300, 7)),
}


def save_picture(name, folder):
    """Write the picture of a kind to a directory and return its path."""
    mode, size, options = KINDS[name]
    photo(mode, size).save(folder / name, **options)
    return folder / name
