"""What a user's mistake causes: one exception, whose message a person can act upon."""

import difflib
import errno
import os
import re
import warnings
from contextlib import contextmanager

BOLD = re.compile(r"\x1b\[1m(.+?)\x1b\[0m", re.DOTALL)
TRACEBACK = "in user code:"  # how messages from a tf.function begin
TENSORFLOW_NODE = re.compile(r"\{\{\w+_node .*?\}\} ?| \[Op:\w+\]")  # where in a graph, which tells a user nothing
KERAS_CAUSE = "Exception encountered: "  # stands before the cause where a model cannot be made from its description

FULL = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))  # no space, file too large, quota

FEW = 50  # names that a message lists all of
LONGEST = 100  # characters of a name that are compared


class InputError(ValueError):
    """Something that a person can mend: says what was expected, what came and what would have worked.

    Scripts print it as one line and exit with status 2; any other exception is a bug of ours and keeps its traceback.
    `details` are lines that may follow, such as the names of files.
    """

    def __init__(self, message, details=()):
        super().__init__(message)
        self.details = list(details)


class DataWarning(UserWarning):
    """Something about the data that does not stop the work but that a person must know, such as files that are left out.

    Issue it with `warnings.warn`. Scripts print it as one line, `warning: ...`, on stderr.
    """


def is_disk_full(error):
    """Whether an exception, of whatever library, says that a file found no room on its disk."""
    return any(os.strerror(code) in str(error) for code in FULL)


@contextmanager
def warn_on_failure(file):
    """Issue a `DataWarning` if the block fails: `file` is not written, but the work that it shows is not lost."""
    try:
        yield
    except Exception as error:  # libraries that draw have their own ways to fail
        if is_disk_full(error):  # then nothing else can be written, either
            raise
        warnings.warn(f"{file} could not be written: {first_line(error)}", DataWarning, stacklevel=3)


class ProofError(Exception):
    """Exported files that do not keep their promise; scripts print the reasons and exit with status 1."""

    def __init__(self, folder, problems):
        super().__init__(f"{len(problems)} problem{'s' * (len(problems) > 1)}, so {folder} stays as it was:")
        self.details = problems


def choose(kind, name, names):
    """Return `name` if it is one of `names`; else raise InputError that offers the nearest, or all of them."""
    if isinstance(name, str) and name in names:
        return name
    cutoff = 0.6 if len(names) <= FEW else 0.0  # of hundreds, the three closest are of more use than a list
    near = difflib.get_close_matches(str(name).lower()[:LONGEST], names, n=3, cutoff=cutoff)
    offer = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(names)}"
    raise InputError(f"expected {kind}, got {name!r}; {offer}")


def first_line(error):
    """The first line of the cause that an exception names, or its kind where it says nothing.

    TensorFlow puts the cause behind a traceback, and Keras in bold between the layer and its arguments.
    """
    text = str(error).strip()
    if bold := BOLD.findall(text):
        text = bold[-1]
    elif text.startswith(TRACEBACK):
        text = text.rpartition("\n\n")[2]
    text = TENSORFLOW_NODE.sub("", text.rpartition(KERAS_CAUSE)[2]).strip() or type(error).__name__
    return text.splitlines()[0].strip()
