"""How a command ends: signals, errors, exit codes.

0 done, 1 our own fault, 2 anything the user can mend, 130 interrupted, 141 the reader of our output went away, 143 terminated.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from typing import NoReturn

from mfd_cli.base.errors import MfdError, OutputError
from mfd_cli.base.files import is_full
from mfd_cli.base.locks import claims
from mfd_cli.base.urls import is_url, without_secrets
from mfd_cli.cli.shared import process_number

OUR_FAULT, USER_CAN_MEND = 1, 2
"""Exit codes of errors."""
SCARCE = ("allocate memory", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "std::bad_alloc")
"""What libraries say in a RuntimeError where memory does not suffice."""


class Stopped(BaseException):
    """SIGINT, SIGTERM outside training, or the reader of our output is gone (SIGPIPE): leave through every `finally`, so that
    no temporary file stays."""


def ended(command: Callable[[], object], debug: Callable[[], bool], as_json: bool) -> None:
    """Run a command and leave with its exit code; with `debug` errors are raised as they are, with `as_json` the last line on
    stderr is one JSON object of them."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE):
        signal.signal(number, _stop)
    sys.unraisablehook = _unraisable
    global _caught
    _caught = 0
    try:
        with claims():
            command()
    except Stopped as stop:
        _leave_stopped(stop.args[0], as_json)
    except Exception as error:
        if _caught:  # what we raised was turned into another error on its way: an import was cut short
            _leave_stopped(_caught, as_json)
        if debug():
            raise
        known = as_known(error)
        if known is None:
            _leave_at_fault(error, as_json)
        exit_code = getattr(known, "exit_code", USER_CAN_MEND)  # a training that was interrupted has its own
        if not process_number():
            from mfd_cli.cli.console import show_error

            add_similar_name(known, sys.argv[1:])
            show_error(known, exit_code, as_json)
        sys.exit(exit_code)


def add_similar_name(error: MfdError, words: Sequence[str]) -> None:
    """Give an error on a path that is not there, and that was typed, the hint of what lies beside it and is called much the
    same. Paths of a table have none: accessions are all much the same."""
    if error.hint or str(error.path) not in words or is_url(str(error.path)) or os.path.lexists(str(error.path)):
        return
    import difflib  # here: it takes long to load, and most commands make no mistake

    folder, name = os.path.split(str(error.path).rstrip("/"))
    try:
        beside = os.listdir(folder or ".")
    except OSError:
        return
    if match := difflib.get_close_matches(name, beside, n=1, cutoff=0.8):
        error.hint = f"did you mean {os.path.join(folder, match[0])}?"


def as_known(error: Exception) -> MfdError | None:
    """Return the error that a user can mend which this one is: ours, a wrong command line, a lack of memory, a full disk; None
    for anything else."""
    if isinstance(error, MfdError):
        return error
    if hasattr(error, "format_message"):  # of the command line's parser, which shows its errors itself but with --json
        return MfdError(error.format_message(), hint="mfd COMMAND --help lists the options")
    says_scarce = isinstance(error, RuntimeError) and any(text in str(error) for text in SCARCE)
    if isinstance(error, MemoryError) or says_scarce or (isinstance(error, SystemError) and _is_scarce()):
        return MfdError(
            "there is not enough memory",
            hint='a smaller --batch-size, in training train.batch_size or train.memory = "host"; fewer --threads',
        )
    if is_full(error):
        return OutputError("no space left on the disk", path=getattr(error, "filename", None))
    return None


def _is_scarce() -> bool:
    """Whether 64 MB cannot be had: C code that fails for want of memory may not say why, which Python calls a SystemError."""
    try:
        return not bytearray(1 << 26)
    except MemoryError:
        return True


def _leave_stopped(number: int, as_json: bool) -> NoReturn:
    """End as a shell expects of a process that a signal stopped: 128 and its number."""
    if number == signal.SIGPIPE:  # as in `mfd info | head`: nothing is left to say, and nobody to say it to
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    elif as_json:
        from mfd_cli.cli.console import show_error

        show_error(MfdError("stopped"), 128 + number, as_json)
    else:
        print("mfd: stopped", file=sys.stderr)
    sys.exit(128 + number)


def _leave_at_fault(error: Exception, as_json: bool) -> NoReturn:
    """End with exit code 1 for an error that no user can mend, and leave a report of it in a file."""
    import tempfile
    import traceback

    from mfd_cli.cli.console import note, show_error

    message = without_secrets(f"internal error: {type(error).__name__}: {error}")
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="mfd-error-", suffix=".txt", delete=False, encoding="utf-8"
        ) as report:
            text = f"mfd {' '.join(sys.argv[1:])}\n{''.join(traceback.format_exception(error))}"
            report.write(without_secrets(text))
        reported = f"the file {report.name}"
    except (OSError, MemoryError):
        reported = "the output of mfd --debug ..."
    hint = f"this is a fault of mfd, not yours; please report it with {reported}"
    if as_json:
        show_error(MfdError(message, hint=hint), OUR_FAULT, as_json)
    else:
        note(f"mfd: {message}")
        note(f"hint: {hint}")
    sys.exit(OUR_FAULT)


_caught = 0
"""The signal that has come, if any."""


def _stop(number: int, _: object) -> NoReturn:
    global _caught
    _caught = number
    raise Stopped(number)


def _unraisable(what: sys.UnraisableHookArgs) -> None:
    """Where a signal came while an object was being removed, Python drops what we raise: then the signal is sent once more."""
    if isinstance(what.exc_value, Stopped):
        threading.Timer(0.01, os.kill, (os.getpid(), what.exc_value.args[0])).start()
    else:
        sys.__unraisablehook__(what)
