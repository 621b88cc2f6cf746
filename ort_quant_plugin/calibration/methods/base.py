"""The interface of a calibration method: a sketch and a grid of integers in, scale and offset out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy as np

from ort_quant_plugin.config.parameters import Parameter
from ort_quant_plugin.errors import ConfigError
from ort_quant_plugin.qparams import QuantParams, asymmetric_params, integer_range, sanitize_scale, symmetric_scale

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike

    from ort_quant_plugin.calibration.sketch import Sketch
    from ort_quant_plugin.config.model import ActivationConfig

__all__ = [
    "GRID_PARAMETERS",
    "CalibrationMethod",
    "Grid",
    "ObserverSpec",
    "RecordingMethod",
    "ReferenceMethod",
    "Storage",
    "common_attributes",
    "grid_of",
]

AttributeValue = int | float | str
Storage = Literal["sketch", "exact"]
"""How AMCT's operators keep their data: bounded, or all of it for AMCT's very numbers."""

GRID_PARAMETERS = (
    Parameter(
        "unsigned_symmetric",
        "bool",
        False,
        "",
        "Symmetric form: data without negative values gets all codes (offset −2^(b−1)).",
    ),
    Parameter("strict_symmetric", "bool", False, "", "Symmetric form: leave out the lowest code, −2^(b−1)."),
    Parameter(
        "reduce_range",
        "bool",
        False,
        "",
        "Use one bit less, so that 8-bit products cannot saturate 16-bit sums on CPUs without VNNI.",
    ),
)
"""Parameters of every method but AMCT's: the grid's fine print."""


@dataclass(frozen=True)
class Grid:
    """The integers a range is mapped to.

    Attributes:
        num_bits: Width of the integers: 4, 8 or 16.
        symmetric: Offset 0; else zero may map to any code.
        unsigned_symmetric: Symmetric, but data without negative values gets all codes: offset ``−2^(b−1)``.
        strict_symmetric: Symmetric, without the lowest code.
        reduce_range: One bit less is used: ``[−2^(b−2), 2^(b−2)−1]``.

    Raises:
        ConfigError: ``num_bits`` is none of these.
    """

    num_bits: int = 8
    symmetric: bool = False
    unsigned_symmetric: bool = False
    strict_symmetric: bool = False
    reduce_range: bool = False

    def __post_init__(self) -> None:
        if self.num_bits not in (4, 8, 16):
            raise ConfigError(
                f"num_bits is {self.num_bits}; expected 4, 8 or 16.",
                hint="Give a legal width.",
                value=self.num_bits,
            )

    @property
    def bits(self) -> int:
        """Bits really used."""
        return self.num_bits - self.reduce_range

    @property
    def steps(self) -> int:
        """Distance between the lowest and the highest code, ``2^b − 1``."""
        return (1 << self.bits) - 1

    @property
    def positive_codes(self) -> int:
        """Highest code of the symmetric form, ``2^(b−1) − 1``."""
        return integer_range(self.bits)[1]

    def one_sided(self, low: float) -> bool:
        """Whether the symmetric form gives data from ``low`` upwards all codes."""
        return self.symmetric and self.unsigned_symmetric and low >= 0

    def params(self, low: float, high: float) -> QuantParams:
        """Parameters of the range ``[low, high]``, widened to contain 0 (N3, N4).

        Args:
            low: Lower bound.
            high: Upper bound.

        Raises:
            NumericsError: The range is too wide for a scale.
        """
        if not self.symmetric or self.one_sided(low):
            params = asymmetric_params(low, high, self.bits, subject="its data")
            return QuantParams(params.scale, params.offset, self.num_bits)
        if self.strict_symmetric:
            magnitude = max(abs(low), abs(high))
            return QuantParams(
                np.float32(sanitize_scale(magnitude / self.positive_codes, "its data")), 0, self.num_bits
            )
        return QuantParams(np.float32(symmetric_scale(low, high, self.bits, subject="its data")), 0, self.num_bits)


@dataclass(frozen=True)
class ObserverSpec:
    """A calibration op that writes the record itself (AMCT's contract).

    Attributes:
        domain: Domain of the custom op.
        op_type: The custom op; one input (the tensor), one float[1] output (the scale).
        attributes: Its attributes.
    """

    domain: str
    op_type: str
    attributes: Mapping[str, AttributeValue]


class CalibrationMethod(Protocol):
    """A way to choose the range of an activation."""

    @property
    def name(self) -> str:
        """Name in configuration files (``act_algo``) and on the command line (``--method``)."""

    @property
    def summary(self) -> str:
        """One line for listings."""

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """Parameters a configuration file may set, with types, defaults and ranges."""

    def choose(self, sketch: Sketch, grid: Grid, **parameters: Any) -> QuantParams:
        """Choose from the sketch of all data.

        Args:
            sketch: Of at least one finite value; NaN and infinities were refused before.
            grid: The integers.
            parameters: Those of :attr:`parameters`, complete and checked (:data:`GRID_PARAMETERS` are in ``grid``).

        Raises:
            CalibrationError: The data has no sensible range.
            NumericsError: The scale is out of range.
        """


@runtime_checkable
class ReferenceMethod(Protocol):
    """A method that also exists as the published algorithm on raw values; golden vectors pin it."""

    def reference(self, values: ArrayLike, grid: Grid, **parameters: Any) -> QuantParams:
        """Choose from all values at once (finite, any shape, at least one), as published."""


@runtime_checkable
class RecordingMethod(Protocol):
    """A method with a custom op of its own, which writes the record in any ONNX Runtime process."""

    def observer(
        self,
        activation: ActivationConfig,
        *,
        batch_num: int,
        object_layers: Sequence[str],
        record_file: str,
        storage: Storage = "sketch",
    ) -> ObserverSpec:
        """Calibration op for one tensor.

        Args:
            activation: Validated configuration of the tensor.
            batch_num: Runs whose data is used; the range is written in the last of them.
            object_layers: Keys of the record entries that receive the result.
            record_file: Absolute path of the record file.
            storage: How the operator keeps its data.
        """


def grid_of(activation: ActivationConfig) -> tuple[Grid, dict[str, Any]]:
    """The grid an activation is configured for, and the parameters left for the method."""
    names = {parameter.name for parameter in GRID_PARAMETERS}
    fine_print = {name: value for name, value in activation.parameters.items() if name in names}
    rest = {name: value for name, value in activation.parameters.items() if name not in names}
    return Grid(activation.num_bits, not activation.asymmetric, **fine_print), rest


def common_attributes(
    activation: ActivationConfig, *, batch_num: int, object_layers: Sequence[str], record_file: str
) -> dict[str, AttributeValue]:
    """Attributes IFMR and HFMG share (AMCT's operator contract)."""
    return {
        "input_stamp": "data",
        "batch_num": batch_num,
        "num_bits": activation.num_bits,
        "with_offset": int(activation.asymmetric),
        "need_dump": 0,
        "dump_dir": "",
        "record_file_path": record_file,
        "check_criterion": 0,
        "fakequant_precision_mode": "DEFAULT",
        "layer_num": len(object_layers),
        **{f"object_layer{i}": layer for i, layer in enumerate(object_layers)},
    }
