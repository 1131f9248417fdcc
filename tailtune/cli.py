"""`tailtune`: the command line. It parses and prints; every verb is a function of `tailtune.api`."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Sequence

import typer

from analysis.errors import TailtuneError, UsageError
from tailtune.commands import catalogue, data, looking, rates, searching, training
from tailtune.commands.answer import to_json

app = typer.Typer(
    name="tailtune",
    help="Search training configurations for image classifiers with rare classes.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for group in (searching, looking, training, catalogue, data, rates):
    group.enrol(app)

# Typer brings its own copy of click since 0.20; the class is found where Typer's own errors inherit it.
_ClickError: type[Exception] = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 0, 1 for a failure, 2 for wrong use.

    A failure is one line on stderr (law, value; remedy), or `{"error": …}` on stdout under `--json`.
    """
    words = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    try:
        status = app(words, prog_name="tailtune", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        return _closed_pipe()
    except Exception as error:
        if "--debug" in words:
            traceback.print_exc()
        return _refuse(_as_ours(error), as_json="--json" in words)
    if status == 130:  # what Typer makes of Ctrl-C
        return _refuse(TailtuneError("interrupted"), as_json="--json" in words)
    return status if isinstance(status, int) else 0


def _as_ours(error: Exception) -> TailtuneError:
    """Return any exception as one line with an exit status."""
    if isinstance(error, TailtuneError):
        return error
    if isinstance(error, _ClickError):
        text = getattr(error, "format_message", error.__str__)()
        return UsageError(_first_line(text).rstrip("."), "see `tailtune --help` or `tailtune COMMAND --help`")
    if isinstance(error, typer.Abort):
        return TailtuneError("interrupted")
    if isinstance(error, OSError):
        return TailtuneError(_first_line(str(error)), _REMEDIES.get(error.errno or 0, ""))
    what = _first_line(str(error)) or "no message"
    return TailtuneError(
        f"unexpected {type(error).__name__}: {what}", "run it again with --debug for the traceback"
    )


_REMEDIES = {
    errno.ENOSPC: "the disk is full: free some space and run the same command again, it goes on where it was",
    errno.EDQUOT: "the disk quota is used up: free some space and run the same command again",
    errno.EACCES: "choose a folder that can be written, for example with --home",
    errno.EPERM: "choose a folder that can be written, for example with --home",
    errno.EROFS: "the file system is read-only: choose another folder with --home",
}


def _first_line(text: str) -> str:
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    return lines[0][:400] if lines else ""


def _refuse(error: TailtuneError, *, as_json: bool) -> int:
    if as_json:
        print(to_json({"error": {"message": error.message, "remedy": error.remedy}}), flush=True)
    else:
        print(f"tailtune: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
    return error.exit_status


def _closed_pipe() -> int:
    """Leave quietly where the reader of our output has gone, as in `tailtune rank STUDY | head -1`."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


if __name__ == "__main__":
    sys.exit(main())
