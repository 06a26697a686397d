"""portside undo: see ``history``, which it is a part of."""

from portside.cli.history import undo as run
from portside.cli.history import undo_arguments as arguments

__all__ = ["arguments", "run"]
