"""The interface of a calibration method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ort_quant_plugin.config.algorithms import Parameter
    from ort_quant_plugin.config.model import ActivationConfig

__all__ = ["CalibrationMethod", "ObserverSpec", "common_attributes"]

AttributeValue = int | float | str


@dataclass(frozen=True)
class ObserverSpec:
    """The calibration node a method hangs onto a tensor.

    Attributes:
        domain: Domain of the custom op.
        op_type: The custom op; one input (the tensor), one float[1] output (the scale).
        attributes: Its attributes.
    """

    domain: str
    op_type: str
    attributes: Mapping[str, AttributeValue]


class CalibrationMethod(Protocol):
    """A way to choose the range of an activation, computed by a custom op while the model runs."""

    @property
    def name(self) -> str:
        """Name in configuration files (``act_algo``) and on the command line (``--method``)."""

    @property
    def summary(self) -> str:
        """One line for listings."""

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """Parameters a configuration file may set, with types, defaults and ranges."""

    def observer(
        self,
        activation: ActivationConfig,
        *,
        batch_num: int,
        object_layers: Sequence[str],
        record_file: str,
    ) -> ObserverSpec:
        """Calibration op for one tensor.

        Args:
            activation: Validated configuration of the tensor.
            batch_num: Runs whose data is used; the range is written in the last of them.
            object_layers: Keys of the record entries that receive the result.
            record_file: Absolute path of the record file.
        """


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
