"""What the command imports stays as long as it runs: no collection of garbage goes through it.

Collections while it imports, and the one at its end, take a third of the CPU of a short command.
"""

import gc

__all__ = ["collect", "hold"]


def hold() -> None:
    """Collect nothing until `collect`."""
    gc.disable()


def collect() -> None:
    """Collect from now on what comes from now on. Each command calls it once it has imported what
    it works with; a program in which the command is only a part has its collections as they are.
    """
    if not gc.isenabled():
        gc.freeze()
        gc.enable()
