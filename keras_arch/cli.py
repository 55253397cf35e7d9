"""What all scripts share: command lines from dataclasses, and one line instead of a traceback for a user's mistake."""

import contextlib
import dataclasses
import io
import logging
import os
import re
import sys
import tempfile
import warnings
from types import NoneType
from typing import Annotated, get_args, get_origin

from .errors import (
    DataWarning,
    InputError,
    VerificationError,
    explain_surroundings,
    first_line,
    is_disk_full,
    one_line,
)
from .options import check_ranges
from .text import printable, shorten

LONGEST = 4096  # characters of an argument, as of a path on Linux
COMPLAINT = 250  # characters of what tyro says about a command line, at most


def run(main):
    """Call `main()`; turn a mistake that the user can mend into one line on stderr and exit status 2."""
    # Before TensorFlow is imported: its notices about instruction sets and absent GPUs are no news to a user.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # Before Keras is imported: scripts train and export with TensorFlow.
    os.environ["KERAS_BACKEND"] = "tensorflow"
    # oneDNN's kernels, which TensorFlow leaves off where a processor has no AVX-512: half of the speed there.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    reopen_closed_streams()
    escape_unencodable()
    try:
        with one_line_warnings(), explain_surroundings():
            main()
            sys.stdout.flush()  # a full disk is an error of ours, not of Python's end
    except BrokenPipeError:  # whoever reads, such as head, has seen enough
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())  # what Python still holds back must go somewhere
        sys.exit(1)
    except (InputError, OSError) as error:
        sys.exit(fail(error))
    except VerificationError as error:
        sys.exit(fail(error, status=1))
    except KeyboardInterrupt as stop:
        print(f"\n{printable(stop) or 'stopped'}", file=sys.stderr)
        sys.exit(130)  # 128 + SIGINT, as shells have it
    except Exception as error:
        if not is_disk_full(error):
            raise
        sys.exit(fail(first_line(error)))


def reopen_closed_streams():
    """Send what is printed to a closed stream, as by `2>&-`, to the null device.

    Else the next file that is opened gets the number of the stream, and native code prints into that file.
    """
    for name, mode in {"stdin": "r", "stdout": "w", "stderr": "w"}.items():
        if getattr(sys, name) is None:
            number = os.open(
                os.devnull, os.O_RDWR
            )  # the lowest free number, which is that of the stream
            os.set_inheritable(number, True)
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115, it lasts


def escape_unencodable():
    """Let stdout and stderr escape the characters that their encoding lacks, such as Chinese ones in cp1252."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


@contextlib.contextmanager
def one_line_warnings():
    """Print each `DataWarning` as one line on stderr, and nothing of Pillow's; other warnings stay as Python prints them.

    Pillow warns of large pictures and of damaged metadata. A picture that it refuses is an error.
    """
    logging.getLogger("PIL").setLevel(logging.CRITICAL)
    with warnings.catch_warnings():
        other = warnings.showwarning

        def show(message, category, *where, **options):
            if issubclass(category, DataWarning):
                print("warning: " + printable(" ".join(str(message).split())), file=sys.stderr)
            else:
                other(message, category, *where, **options)

        warnings.showwarning = show
        warnings.simplefilter("always", DataWarning)
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield


def fail(message, status=2):
    """Print `message` as one line on stderr, with its details below, and return the exit status for it."""
    print("error: " + one_line(printable(one_line(message))), file=sys.stderr)
    for detail in getattr(message, "details", ()):
        print(f"  {printable(detail)}", file=sys.stderr)
    return status


def parse(command, arguments, **options):
    """Return an instance of the dataclass `command`, parsed from `arguments`. Errors are one line.

    Args:
        command: dataclass of options, whose docstrings are the help texts.
        arguments: list of str.
        **options: arguments of `tyro.cli`.
    """
    import tyro

    check_arguments(arguments)

    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            plain = (
                tyro.conf.OmitArgPrefixes,
                tyro.conf.FlagCreatePairsOff,
            )  # --epochs, and no --no-overwrite
            parsed = tyro.cli(
                command, args=arguments, config=plain, registry=help_without_none(), **options
            )
    except SystemExit as stop:
        if stop.code:
            body = complaint.getvalue().split("\n", 1)[-1]  # the body repeats the title of the box
            text = " ".join(re.sub(r"[╭╮╰╯│─]+", " ", body).split())
            text = re.split("For full helptext|Got errors|Argument helptext", text)[0].strip()
            stop = SystemExit(
                fail(f"{shorten(text, COMPLAINT).rstrip('.')}; --help lists the options")
            )
        raise stop from None
    check_ranges(parsed)
    return parsed


def help_without_none():
    """Return a tyro registry whose help omits None, both as a value and as a default, and (default: False)."""
    from tyro.conf import arg
    from tyro.constructors import ConstructorRegistry, PrimitiveTypeInfo

    registry = ConstructorRegistry()
    inside = []  # not empty while tyro's own rules are asked

    def hint(default):
        return "" if default in ("None", "False", "") else f"(default: {default})"

    def metavar(kind):
        """The metavar of X for the annotation X | None; None, which keeps tyro's, for others."""
        kinds = get_args(kind)
        if NoneType not in kinds:
            return None
        return ConstructorRegistry.get_primitive_spec(PrimitiveTypeInfo.make(kinds[0], set())).metavar

    @registry.struct_rule
    def annotate_fields(info):
        if inside:
            return None
        inside.append(info)
        try:
            struct = ConstructorRegistry.get_struct_spec(info)
        finally:
            inside.pop()
        if not dataclasses.is_dataclass(info.type):
            return struct
        fields = []
        for field in struct.fields:
            annotated = get_origin(field.type) is Annotated
            kind, *notes = get_args(field.type) if annotated else (field.type,)
            if not dataclasses.is_dataclass(kind):  # a nested dataclass has no default to show
                notes = [arg(metavar=metavar(kind), help_behavior_hint=hint), *notes]
                kind = Annotated[(kind, *notes)]
                field = dataclasses.replace(field, type=kind)
            fields.append(field)
        return dataclasses.replace(struct, fields=tuple(fields))

    return registry


def check_arguments(arguments):
    """Raise InputError if an argument is empty, which as a path would be the current folder, or longer than any path."""
    for before, argument in zip(("the first argument", *arguments), arguments, strict=False):
        if argument == "" or re.fullmatch("--[^=]+=", argument):
            raise InputError(
                f"Arguments must not be empty. Received: {argument!r} after {before}. Check the variables of the shell."
            )
        if len(argument) > LONGEST:
            raise InputError(
                f"Arguments must have {LONGEST:,} characters or fewer. Received: {len(argument):,} characters after {before}."
            )


def say(text):
    """Print one line about files and classes, whose names may hold anything."""
    print(printable(text))


def print_table(rows):
    """Print `rows`, a list of dicts of text with the same keys. Nothing in the text is markup."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(header_style="bold")
    for column, value in rows[0].items():
        table.add_column(
            Text(shorten(column)),
            overflow="fold",
            justify="right" if value[:1].isdigit() else "left",
        )
    for row in rows:
        table.add_row(*(Text(printable(value)) for value in row.values()))
    Console(highlight=False).print(table)


def progress(batches, total):
    """Give `batches` on and show on a terminal how many of `total` are done."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    return track(
        batches, "", total, console=console, transient=True, disable=not console.is_terminal
    )


def announce(files, total):
    """Give the items of {name: ...} on and print each name first; stderr, where bars are drawn, may be held back."""
    for number, (name, file) in enumerate(files, start=1):
        print(f"  {number}/{total} {name}", flush=True)
        yield name, file


@contextlib.contextmanager
def quiet():
    """Hold back what native code writes to stderr, such as TensorFlow's notices at start-up; show it if all fails.

    The notices come before TensorFlow has read its log level, so that no setting stops them. A `DataWarning` is shown
    at the end of the block.
    """
    sys.stderr.flush()
    stderr = os.dup(2)
    with repeat_warnings(), tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            with explain_surroundings():
                yield
        except (InputError, VerificationError, KeyboardInterrupt):
            raise
        except BaseException:
            held.seek(0)
            os.write(stderr, held.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)


@contextlib.contextmanager
def repeat_warnings():
    """Issue each `DataWarning` of the block when the block has ended, however it ends."""
    issued: list[warnings.WarningMessage] = []
    try:
        with warnings.catch_warnings(record=True) as issued:
            yield
    finally:
        for one in issued:
            if issubclass(one.category, DataWarning):
                warnings.showwarning(one.message, one.category, one.filename, one.lineno)
