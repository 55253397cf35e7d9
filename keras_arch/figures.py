"""What all figures share: names are text in them, and whatever character the fonts lack, nothing is printed."""

import warnings
from contextlib import contextmanager
from pathlib import Path

from matplotlib import font_manager, rc_context, rcParams
from matplotlib.figure import Figure

from .files import save_whole
from .text import shorten

# Fonts with Chinese, Japanese and Korean characters, of which those are used that are installed.
CJK_FONTS = (
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "Source Han Sans SC", "WenQuanYi Zen Hei"),
    *("PingFang SC", "Hiragino Sans", "Apple SD Gothic Neo", "Microsoft YaHei", "Malgun Gothic", "Arial Unicode MS"),
)


@contextmanager
def drawing(path, size, dpi=100):
    """Yield a new `matplotlib.figure.Figure`, which is written to a PNG file when the block ends.

    Args:
        path: the file, or an open binary file.
        size: (width, height) in inches.
        dpi: pixels per inch.
    """
    installed = {font.name for font in font_manager.fontManager.ttflist}
    families = [*rcParams["font.family"], *(name for name in CJK_FONTS if name in installed)]
    with rc_context({"font.family": families}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from font", UserWarning)
        figure = Figure(figsize=size, layout="constrained")
        yield figure
        if isinstance(path, (str, Path)):
            kind = Path(path).suffix.removeprefix(".") or "png"
            save_whole(Path(path), lambda beside: figure.savefig(beside, dpi=dpi, format=kind))
        else:
            figure.savefig(path, dpi=dpi)


def label(name, cells=24):
    """Return a name for a figure: at most `cells` wide, and with its dollar signs, which would begin a formula, escaped."""
    return shorten(name, cells).replace("$", r"\$")
