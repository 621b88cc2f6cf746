"""Which instruction sets the op library can use on this machine."""

from __future__ import annotations

import os
import re

from ort_quant_plugin.errors import OpLibraryError
from ort_quant_plugin.ops.library import session_options

__all__ = ["FORCING_VARIABLE", "instruction_sets"]

FORCING_VARIABLE = "ORT_QUANT_ISA"
"""Environment variable that forces one of them."""


def instruction_sets() -> tuple[str, ...]:
    """Ask the library; its refusal of an unknown one lists them. The last is the one it chooses.

    Raises:
        OpLibraryError: The library is missing, broken, or the runtime is too old for it.
        RuntimeMissingError: ONNX Runtime is not installed.
    """
    forced = os.environ.get(FORCING_VARIABLE)
    os.environ[FORCING_VARIABLE] = "?"
    try:
        session_options()
    except OpLibraryError as error:
        found = re.search(r"expected one of: ([\w, ]+)", error.message)
        if found is None:
            raise
        return tuple(found[1].split(", "))
    finally:
        if forced is None:
            del os.environ[FORCING_VARIABLE]
        else:
            os.environ[FORCING_VARIABLE] = forced
    return ()
