"""How a command ends: one line on stderr and an exit code; and where results and progress go."""

from __future__ import annotations

import functools
import io
import json
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec, TypeVar

import typer

import scrimp
from scrimp.atomic import check_writable, replacing
from scrimp.cli.launched import launch, leave
from scrimp.errors import BudgetExceeded, InputError, ScrimpError

if TYPE_CHECKING:
    from rich.console import Console

FAILED, USAGE, BUDGET, BAD_INPUT, INTERRUPTED = 1, 2, 3, 4, 130

P = ParamSpec("P")
R = TypeVar("R")


def reporting(command: Callable[P, R]) -> Callable[P, R]:
    """Turn the errors that a user can mend into one line and the exit code; bugs keep their traceback."""

    @functools.wraps(command)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            with _warnings_as_notes():
                return command(*args, **kwargs)
        except InputError as error:
            raise _end(error, BAD_INPUT) from error
        except BudgetExceeded as error:
            raise _end(_with_checkpoint(error), BUDGET) from error
        except KeyboardInterrupt as error:
            raise _end("interrupted", INTERRUPTED) from error
        except BrokenPipeError as error:  # the reader of stdout has gone, as in `scrimp info | head -1`
            _drop_stdout()
            raise typer.Exit(FAILED) from error
        except (ScrimpError, OSError) as error:
            if _is_of_stdout(error):
                _drop_stdout()
            raise _end(_with_path(error), FAILED) from error
        except MemoryError as error:
            raise _end(f"out of memory: {error}", FAILED) from error

    return wrapper


@contextmanager
def ending() -> Iterator[None]:
    """End the process as `reporting` ends a command, also where help or the last of a result is written.

    From here on an interrupt ends the process with its line at once, whatever is being closed down.
    """
    code: Any = 0
    _ready_streams()
    try:
        try:
            yield
        except SystemExit as end:
            code = end.code
        if sys.stdout is not None:
            sys.stdout.flush()
    except KeyboardInterrupt:
        if code == INTERRUPTED:  # said already
            os._exit(code)
        _interrupted()
    except OSError as error:
        _drop_stdout()
        if not isinstance(error, BrokenPipeError):
            typer.echo(f"error: {_with_path(error)}", err=True)
        code = code or FAILED
    signal.signal(signal.SIGINT, lambda _signal, _frame: _interrupted())
    leave(code)
    sys.exit(code)


def _ready_streams() -> None:
    r"""Make stdout and stderr take whatever is printed.

    One that was closed (`>&-`) goes nowhere: the next file that is opened would take its place. A character
    that the encoding of the terminal lacks is written as `\xe9`.
    """
    for fd, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            if nowhere != fd:
                os.dup2(nowhere, fd)
                os.close(nowhere)
            raw = io.BufferedWriter(io.FileIO(fd, "w"))
            setattr(sys, name, io.TextIOWrapper(raw, "utf-8", "backslashreplace"))
        elif isinstance(stream := getattr(sys, name), io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _interrupted() -> NoReturn:
    os.write(2, b"error: interrupted\n")
    os._exit(INTERRUPTED)


def _drop_stdout() -> None:
    """Let what is still to be written go nowhere: the last flush at exit would fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _is_of_stdout(error: Exception) -> bool:
    """Whether writing to stdout failed: an error of the system that names no file."""
    return type(error) is OSError and error.filename is None and error.strerror is not None


def _with_path(error: Exception) -> str:
    """Return the message of an error."""
    if not _is_of_stdout(error):
        return str(error)
    return f"cannot write to standard output: {error.strerror}"  # type: ignore[attr-defined]


def _end(message: object, code: int) -> typer.Exit:
    mine = launch()
    who = f"rank {mine.rank}: " if mine.size > 1 else ""
    typer.echo(f"error: {who}{' '.join(str(message).split())}", err=True)
    return typer.Exit(code)


def _with_checkpoint(error: BudgetExceeded) -> str:
    saved = f"; saved in {error.checkpoint}, the same command goes on from there" if error.checkpoint else ""
    return f"{error}{saved}"


def hint(message: str) -> None:
    """Write a note for the user to stderr."""
    typer.echo(f"note: {message}", err=True)


@contextmanager
def _warnings_as_notes() -> Iterator[None]:
    """Show warnings to who ran a command, without the line of code that a program's author would want."""
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_where: hint(" ".join(str(message).split()))
        yield


def console() -> Console:
    """Return the console for results: as wide as the terminal, or wide enough for every table in a file."""
    from rich.console import Console

    # Names of files and columns are shown as they are: no markup, no emoji.
    width = None if sys.stdout.isatty() else 160
    return Console(width=width, highlight=False, markup=False, emoji=False)


@contextmanager
def progress(what: str) -> Iterator[Callable[[str], None]]:
    """Give a function that shows what is being done, on stderr, if that is a terminal."""
    if not sys.stderr.isatty() or launch().rank > 0:
        yield lambda text: None
        return
    from rich.console import Console

    with Console(stderr=True).status(what) as status:
        yield lambda text: status.update(f"{what} {text}")


def check_outputs(*paths: Path | None, inputs: Sequence[Path | None] = ()) -> None:
    """Find out before the work whether its results can be written, and that they replace no input."""
    taken: set[Path] = set()
    for path in paths:
        if path is None:
            continue
        check_writable(path)
        if path.resolve() in taken and (path.is_file() or not path.exists()):
            raise InputError(f"two outputs would go to {path}; choose another name for one")
        taken.add(path.resolve())
        for given in inputs:
            if given is not None and given.is_file() and path.exists() and path.samefile(given):
                raise InputError(f"the output {path} would replace the input {given}; choose another name")


def write_json(path: Path | None, command: str, result: dict[str, Any]) -> None:
    """Write a result as JSON with its schema, `scrimp.<command>/1`; None writes nothing."""
    if path is None:
        return
    document = {"schema": f"scrimp.{command}/1", "version": scrimp.__version__, **result}
    text = json.dumps(document, indent=2, allow_nan=False, ensure_ascii=False)
    with replacing(path) as file:
        file.write(text.encode(errors="backslashreplace") + b"\n")  # what is no UTF-8 is JSON's \udcff


def read_json(path: Path) -> Any:
    """Read a JSON file; InputError if it is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_number)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON: {error}") from error


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no number")


def format_score(name: str, value: float) -> str:
    """Write a score for people: r2 and accuracy to four places, an error in the target's own unit.

    Examples
    --------
    >>> format_score("r2", 0.98765), format_score("rmse", 0.0000123456789)
    ('0.9877', '1.23457e-05')
    """
    return f"{value:.6g}" if name == "rmse" else f"{value:.4f}"


def format_bytes(n: float) -> str:
    """Write a size for people, in powers of 1000.

    Examples
    --------
    >>> format_bytes(512), format_bytes(1_500_000)
    ('512 B', '1.5 MB')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if n < 1000:
            return f"{n:.0f} {unit}" if unit == "B" else f"{n:.3g} {unit}"
        n /= 1000
    return f"{n:,.2f} TB"
