"""What a user's mistake causes: one exception, whose message a person can act upon."""

import difflib
import errno
import os
import re
import sys
import warnings
from contextlib import contextmanager

from .text import shorten

BOLD = re.compile(r"\x1b\[1m(.+?)\x1b\[0m", re.DOTALL)
TRACEBACK = "in user code:"  # how messages from a tf.function begin
TENSORFLOW_NODE = re.compile(
    r"\{\{\w+_node .*?\}\} ?| \[Op:\w+\]"
)  # where in a graph, which tells a user nothing
KERAS_CAUSE = "Exception encountered: "  # stands before the cause where a model cannot be made from its description
# What TensorFlow and ONNX Runtime put before the cause: the name of a function, or a file and line of their own.
PLACES = re.compile(
    r"^\[ONNXRuntimeError\] : \d+ : \w+ : (Load model from .* failed:)?|/\S+\.cc:\d+ [^)]*\)( const)? "
)
SHOWN = 110  # characters of another library's message

DISK_FULL_CODES = (
    errno.ENOSPC,
    errno.EFBIG,
    getattr(errno, "EDQUOT", errno.ENOSPC),
)  # no space, file too large, quota
# What TensorFlow says, also of a MemoryError in a function that it calls; and the system where it loads libraries.
OUT_OF_MEMORY = re.compile(
    "^ResourceExhaustedError|MemoryError: |bad_alloc|Cannot allocate memory|failed to map segment|can't start new thread"
)

FEW = 50  # names that a message lists all of
LONGEST = 100  # characters of a name that are compared
LINE = 290  # characters of a message, whatever names are in it


class InputError(ValueError):
    """Something that a person can mend: says what was expected, what came and what would have worked.

    Scripts print it as one line and exit with status 2; any other exception is a bug of ours and keeps its traceback.
    A message is one line: of a longer one `one_line` leaves out the middle. `details` are lines that may follow, such as
    the names of files.
    """

    def __init__(self, message, details=()):
        super().__init__(one_line(message))
        self.details = list(details)


class DataWarning(UserWarning):
    """Something about the data that does not stop the work but that a person must know, such as files that are left out.

    Issue it with `warnings.warn`. Scripts print it as one line, `warning: ...`, on stderr.
    """


def is_disk_full(error):
    """Whether an exception, of whatever library, says that a file found no room on its disk."""
    return any(os.strerror(code) in str(error) for code in DISK_FULL_CODES)


@contextmanager
def explain_surroundings():
    """Raise InputError if the block fails because Keras cannot be imported or memory is not enough.

    Settings of the user and the size of the machine cause these failures, wherever they happen.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise memory_error(error) from error
        if keras_failed():
            raise InputError(
                f"Keras cannot be imported. Received: {first_line(error)}. Set KERAS_BACKEND to tensorflow, jax "
                "or torch, and correct or remove ~/.keras/keras.json."
            ) from error
        raise


def keras_failed():
    """Return whether Keras was imported without success: only parts of it are there."""
    return "keras" not in sys.modules and any(name.startswith("keras.") for name in sys.modules)


def is_out_of_memory(error):
    """Return whether an exception of Python, NumPy, TensorFlow or the operating system says that memory is not enough."""
    return isinstance(error, MemoryError) or bool(
        OUT_OF_MEMORY.search(f"{type(error).__name__}: {error}")
    )


def memory_error(error):
    """Return the InputError for an exception that `is_out_of_memory`."""
    return InputError(
        f"There is not enough memory. Received: {first_line(error)}. Use a smaller --batch-size or "
        "--image-size, or a machine with more memory."
    )


@contextmanager
def warn_on_failure(file):
    """Issue a `DataWarning` if the block fails: `file` is not written, but the work that it shows is not lost."""
    try:
        yield
    except Exception as error:  # libraries that draw have their own ways to fail
        if is_disk_full(error):  # then nothing else can be written, either
            raise
        warnings.warn(
            f"{file} could not be written: {first_line(error)}", DataWarning, stacklevel=3
        )


class VerificationError(Exception):
    """Exported files that do not keep their promise; scripts print the reasons and exit with status 1."""

    def __init__(self, folder, problems):
        super().__init__(
            f"{len(problems)} problem{'s' * (len(problems) > 1)}, so {folder} stays as it was:"
        )
        self.details = problems


def one_line(message):
    """Return `message` as one line of at most `LINE` characters: paths and values of a user can have any length."""
    line = " ".join(str(message).split())
    return line if len(line) <= LINE else f"{line[: LINE // 2]} ... {line[5 - LINE // 2 :]}"


def choose(kind, name, names):
    """Return `name` if it is one of `names`; else raise InputError that offers the nearest, or all of them."""
    if isinstance(name, str) and name in names:
        return name
    cutoff = (
        0.6 if len(names) <= FEW else 0.0
    )  # of hundreds, the three closest are of more use than a list
    near = difflib.get_close_matches(str(name).lower()[:LONGEST], names, n=3, cutoff=cutoff)
    offer = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(names)}"
    raise InputError(f"expected {kind}, got {shorten(repr(name), SHOWN)}; {offer}")


def first_line(error):
    """The first line of the cause that an exception names, or its kind where it says nothing.

    TensorFlow puts the cause behind a traceback, and Keras in bold between the layer and its arguments. A line of more
    than 110 characters loses its middle.
    """
    if isinstance(error, InputError):
        return str(error)  # one line already
    text = str(error).strip()
    if bold := BOLD.findall(text):
        text = bold[-1]
    elif text.startswith(TRACEBACK):
        text = text.rpartition("\n\n")[2]
    text = TENSORFLOW_NODE.sub("", text.rpartition(KERAS_CAUSE)[2]).strip() or type(error).__name__
    return shorten(PLACES.sub("", text.splitlines()[0]).strip(), SHOWN)


NAMES_SHOWN = 5  # of the outputs that an error lists
