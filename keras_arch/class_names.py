"""Class names: how they are stored with a model, read and compared."""

import re
from collections.abc import Iterable
from numbers import Integral

from .errors import InputError
from .text import shorten

# What a file of labels cannot hold in a name: editors add carriage returns and byte order marks, and surrogate characters
# stand for bytes that are not UTF-8.
NOT_IN_LABELS = re.compile("[\r\n\ufeff\ud800-\udfff]")


def check_class_names(class_names):
    """Return class names as a tuple of text, or raise InputError.

    Args:
        class_names: texts, or whole numbers such as `range(10)`, which become text. Each must be one line of UTF-8.
    """
    listed = isinstance(class_names, Iterable) and not isinstance(class_names, (str, bytes))
    names = tuple(class_names) if listed else ()
    wrong = [name for name in names if not isinstance(name, (str, Integral)) or isinstance(name, bool)]
    if not names or wrong:
        received = shorten(repr(wrong[0] if wrong else class_names))
        raise InputError(
            f"`class_names` must be texts or whole numbers, one for each class. Received: {received}. "
            'Pass a list such as ["cat", "dog"].'
        )
    names = tuple(map(str, names))
    unfit = [name for name in names if not name or NOT_IN_LABELS.search(name)]
    if unfit:
        raise InputError(
            "Class names must be UTF-8 text, not empty, without line breaks or byte order marks. "
            f"Received: {shorten(repr(unfit[0]))}. Rename the class."
        )
    return names
