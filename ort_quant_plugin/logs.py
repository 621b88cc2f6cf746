"""Logging as AMCT users know it: two environment variables, one format.

``AMCT_LOG_LEVEL`` sets the console (stderr), ``AMCT_LOG_FILE_LEVEL`` the file ``./amct_log/amct_onnx.log``:
``DEBUG``, ``INFO``, ``WARNING`` or ``ERROR``, in any case. A variable that is not set changes nothing: then
the package only emits records to the logger ``ort_quant_plugin``, as a library should, and makes no folder.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

from ort_quant_plugin.errors import ConfigError

__all__ = ["LOGGER", "configure_logging"]

LOGGER = logging.getLogger("ort_quant_plugin")
_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
_FORMAT = "%(asctime)s - %(levelname)s - [AMCT]:[%(module)s]: %(message)s"
_LOG_FILE = Path("amct_log") / "amct_onnx.log"


def configure_logging() -> None:
    """Install the handlers the environment asks for; runs at import.

    Raises:
        ConfigError: A variable holds anything but a level, or the log file cannot be written.
    """
    console, file = _level("AMCT_LOG_LEVEL"), _level("AMCT_LOG_FILE_LEVEL")
    if console is not None:
        _install(logging.StreamHandler(), console)
    if file is not None:
        try:
            _LOG_FILE.parent.mkdir(mode=0o750, exist_ok=True)
            _install(logging.FileHandler(_LOG_FILE, mode="w", encoding="utf-8"), file)
        except OSError as error:
            raise ConfigError(
                f"AMCT_LOG_FILE_LEVEL is set, but {str(_LOG_FILE)!r} cannot be written: {error.strerror or error}.",
                hint="Unset AMCT_LOG_FILE_LEVEL, or work in a writable folder.",
                path=str(_LOG_FILE),
            ) from error


def _level(variable: str) -> int | None:
    value = os.environ.get(variable)
    if value is None:
        return None
    if value.upper() not in _LEVELS:
        raise ConfigError(
            f"The environment variable {variable} is {value!r}; expected one of {', '.join(_LEVELS)}.",
            hint=f"Unset {variable} or give it one of these values.",
            variable=variable,
            value=value,
        )
    return int(logging.getLevelName(value.upper()))


def _install(handler: logging.Handler, level: int) -> None:
    handler.setLevel(level)
    handler.setFormatter(logging.Formatter(_FORMAT))
    LOGGER.addHandler(handler)
    LOGGER.setLevel(min(level, LOGGER.level or level))
