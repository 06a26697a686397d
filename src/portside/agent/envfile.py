"""Variables from a file that an earlier container wrote into an emptyDir (``fileKeyRef``).

The format is the documented subset of a POSIX shell's: one ``NAME='value'`` per line, the value in single quotes and taken
literally (it may span lines), comments and blank lines in between. What follows the wanted key is not looked at.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from portside.agent import beneath

LARGEST = 1 << 20  # bytes of such a file
_SKIPPED = re.compile(r"[ \t]*(?:#[^\n]*)?(?:\n|\Z)")
_NAME = re.compile(r"[ \t]*([^=\n]*)(=?)")
_VALUE = re.compile(r"'([^']*)('?)[ \t]*(?:#[^\n]*)?")


class BadEnvFile(Exception):
    """The file is not in the format, too large, or not a plain file."""


def value_of(text: str, key: str) -> str | None:
    """The key's value; None when the file does not give it. Raises BadEnvFile for a fault before it, with its line."""

    def bad(what: str) -> BadEnvFile:
        return BadEnvFile(f"line {1 + text.count(chr(10), 0, at)}: {what}")

    at = 0
    while at < len(text):
        if blank := _SKIPPED.match(text, at):
            at = blank.end()
            continue
        found = _NAME.match(text, at)
        assert found is not None
        name = found[1]
        if not found[2]:
            raise bad("missing '='")
        if not name.rstrip(" \t"):
            raise bad("no name before '='")
        if name[-1] in " \t":
            raise bad("whitespace before '='")
        at = found.end()
        if text[at : at + 1] in (" ", "\t"):  # as a shell has it: NAME= 'x' assigns nothing
            if name == key:
                return None
            at = (text.find("\n", at) + 1) or len(text)
            continue
        value = _VALUE.match(text, at)
        if value is None:
            raise bad("the value is not in single quotes")
        if not value[2]:
            raise bad("the single quote is not closed")
        if text[value.end() : value.end() + 1] not in ("", "\n"):
            raise bad("something follows the closing quote")
        if name == key:
            return value[1]
        at = value.end() + 1
    return None


def read(volume: Path, path: str) -> str:
    """The text of a file inside a volume; links may not lead out of it. Raises FileNotFoundError, BadEnvFile."""
    try:
        root = os.open(volume, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            # Not blocking: what containers put there may be a pipe nobody writes to.
            file = beneath.open_beneath(root, path, os.O_RDONLY | os.O_NONBLOCK)
        finally:
            os.close(root)
    except FileNotFoundError:
        raise
    except OSError as problem:
        raise BadEnvFile(problem.strerror or str(problem)) from problem
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise BadEnvFile("not a regular file")
        with os.fdopen(file, "rb", closefd=False) as opened:
            data = opened.read(LARGEST + 1)
    finally:
        os.close(file)
    if len(data) > LARGEST:
        raise BadEnvFile(f"larger than {LARGEST >> 20} MiB")
    return data.decode("utf-8", "surrogateescape").replace("\r\n", "\n")
