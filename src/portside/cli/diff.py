"""portside diff: see ``history``, which it is a part of."""

from portside.cli.history import diff as run
from portside.cli.history import diff_arguments as arguments

__all__ = ["arguments", "run"]
