"""Every error this package raises on purpose.

One base class, :class:`OrtQuantError`; each leaf also inherits the built-in
exception that AMCT raises in the same situation (`ValueError`, `RuntimeError`,
`TypeError`), so scripts written for AMCT keep catching what they caught.

An error carries a *message* (what is wrong: subject, value, what was expected), a
*hint* (the cure) and the interpolated parts as ``details``, so callers need not parse text.
"""

from __future__ import annotations

__all__ = [
    "ArgumentTypeError",
    "CalibrationError",
    "ConfigError",
    "DataError",
    "ModelError",
    "NumericsError",
    "OpLibraryError",
    "OrtQuantError",
    "OutputError",
    "PluginError",
    "RecordError",
    "RuntimeMissingError",
    "TritonError",
    "UnsupportedError",
]


class OrtQuantError(Exception):
    """Base class of all expected errors.

    Attributes:
        message: One sentence: the subject, the offending value, what was expected.
        hint: One sentence that tells the cure, or ``None``.
        details: The interpolated parts by name (``layer``, ``tensor``, ``path``, ``value`` …).
    """

    def __init__(self, message: str, *, hint: str | None = None, **details: object) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = details

    def __str__(self) -> str:
        return f"{self.message} Hint: {self.hint}" if self.hint else self.message


class ModelError(OrtQuantError, ValueError):
    """A model file is missing, unreadable, not ONNX, incomplete or structurally wrong."""


class UnsupportedError(ModelError):
    """A valid model asks for something this package does not do (opset, dtype, quantized already)."""


class ConfigError(OrtQuantError, ValueError):
    """A configuration file or argument holds an unknown, duplicate, ill-typed or out-of-range value."""


class ArgumentTypeError(OrtQuantError, TypeError):
    """A public function was called with an argument of the wrong type."""


class RecordError(OrtQuantError, RuntimeError):
    """A record file is missing, empty, incomplete, malformed or of another model."""


class DataError(OrtQuantError, ValueError):
    """Calibration or evaluation data is missing, unreadable or does not fit the model's inputs."""


class CalibrationError(OrtQuantError, RuntimeError):
    """Calibration could not produce a range (too few runs, NaN or infinity in a tensor)."""


class NumericsError(OrtQuantError, RuntimeError):
    """A value leaves the range its quantized form can hold (scale, bias, NaN in a weight)."""


class OpLibraryError(OrtQuantError, RuntimeError):
    """The custom-op library is missing, broken, or the runtime is too old for it."""


class RuntimeMissingError(OrtQuantError, ImportError):
    """No ONNX Runtime is installed."""


class OutputError(OrtQuantError, OSError):
    """An output exists already or cannot be written."""


class PluginError(OrtQuantError, RuntimeError):
    """A plugin is broken, clashes with another one, or registers something invalid."""


class TritonError(OrtQuantError, RuntimeError):
    """A Triton model repository, server or client is in a state that cannot be worked with."""
