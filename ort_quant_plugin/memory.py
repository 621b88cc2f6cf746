"""Memory that this process no longer uses."""

from __future__ import annotations

import ctypes
import gc
import sys

__all__ = ["return_freed_memory"]


def return_freed_memory() -> None:
    """Give memory that nobody uses back to the system, as far as the platform can.

    Graphs are full of reference cycles, so a model that is done with lives on until Python looks for garbage, which
    it does by the number of objects, not by their megabytes; and glibc keeps what was freed below the last block in
    use. Without this, the models that the steps read, copy and write would add up.
    """
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
