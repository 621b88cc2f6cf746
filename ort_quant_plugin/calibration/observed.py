"""What a calibration model observes: which tensor, for which record entries, to be quantized how.

Every calibration node says so itself: AMCT's operators in their attributes, ours in the node's metadata. So a
calibration model can be run by whoever has it, with the methods it was made for or with others.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ort_quant_plugin.config.model import ActivationConfig
from ort_quant_plugin.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import onnx_ir as ir

__all__ = ["OBSERVER_META", "CalibrationNode", "Use", "describe", "observed_tensors", "read_calibration_node"]

OBSERVER_META = "ort_quant.observer"
"""Node metadata key of calibration nodes; the value is made by :func:`describe`."""

_IFMR_RATIOS = ("start_ratio", "end_ratio")


@dataclass(frozen=True)
class Use:
    """Record entries that get one range.

    Attributes:
        keys: The entries.
        activation: How the range is chosen.
    """

    keys: tuple[str, ...]
    activation: ActivationConfig


@dataclass(frozen=True)
class CalibrationNode:
    """One calibration node of a model.

    Attributes:
        node: The node.
        tensor: The tensor it hangs on.
        uses: What its data is for.
        batch_num: Runs whose data is used.
        record_file: Absolute path of the record file.
        exact: Whether the node must run itself (it keeps all data, AMCT's numbers).
        precision_mode: ``DEFAULT`` or ``FORCE_FP16_QUANT``.
    """

    node: ir.Node
    tensor: ir.Value
    uses: tuple[Use, ...]
    batch_num: int
    record_file: str
    exact: bool
    precision_mode: str


def describe(uses: Sequence[Use], *, batch_num: int, record_file: str, precision_mode: str) -> str:
    """Metadata of a calibration node, JSON."""
    return json.dumps(
        {
            "batch_num": batch_num,
            "record_file": record_file,
            "precision_mode": precision_mode,
            "uses": [
                {
                    "keys": list(use.keys),
                    "algo": use.activation.algo,
                    "num_bits": use.activation.num_bits,
                    "asymmetric": use.activation.asymmetric,
                    "parameters": dict(use.activation.parameters),
                }
                for use in uses
            ],
        }
    )


def read_calibration_node(node: ir.Node) -> CalibrationNode | None:
    """What a calibration node of ours or of AMCT is there for; ``None`` for any other node.

    Raises:
        ModelError: The node's description cannot be read.
    """
    described = node.metadata_props.get(OBSERVER_META)
    attributes = {name: attribute.value for name, attribute in node.attributes.items()}
    if described is None and not (node.op_type in {"IFMR", "HFMG"} and "record_file_path" in attributes):
        return None
    value = node.inputs[0] if node.inputs else None
    try:
        assert value is not None
        if described is None:
            return _from_attributes(node, value, attributes)
        return _from_metadata(node, value, json.loads(described), attributes)
    except (AssertionError, KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"Calibration node {node.name!r} ({node.op_type}) cannot be understood: {error!r}.",
            hint="Make the calibration model again with quantize_model (ort-quant prepare).",
            node=node.name,
        ) from error


def observed_tensors(nodes: Iterable[CalibrationNode]) -> dict[ir.Value, tuple[Use, ...]]:
    """Uses by tensor, in graph order."""
    found: dict[ir.Value, tuple[Use, ...]] = {}
    for node in nodes:
        found[node.tensor] = found.get(node.tensor, ()) + node.uses
    return found


def _is_exact(node: ir.Node, attributes: dict[str, Any]) -> bool:
    """An operator of AMCT's without ``storage`` keeps AMCT's numbers; other operators than ours must run themselves."""
    if node.domain == "amct.customop":
        return str(attributes.get("storage", "exact")) == "exact"
    return not (node.domain == "ort_quant" and node.op_type == "Observe")


def _from_metadata(
    node: ir.Node, value: ir.Value, described: dict[str, Any], attributes: dict[str, Any]
) -> CalibrationNode:
    uses = tuple(
        Use(
            tuple(use["keys"]),
            ActivationConfig(
                use["algo"],
                int(use["num_bits"]),
                bool(use["asymmetric"]),
                {name: tuple(v) if isinstance(v, list) else v for name, v in use["parameters"].items()},
            ),
        )
        for use in described["uses"]
    )
    return CalibrationNode(
        node,
        value,
        uses,
        int(described["batch_num"]),
        described["record_file"],
        _is_exact(node, attributes),
        described["precision_mode"],
    )


def _from_attributes(node: ir.Node, value: ir.Value, attributes: dict[str, Any]) -> CalibrationNode:
    """AMCT's own calibration models have no metadata; missing attributes have the operator's defaults."""
    parameters: dict[str, Any]
    if node.op_type == "IFMR":
        start, end = (
            float(attributes.get(name, default)) for name, default in zip(_IFMR_RATIOS, (0.7, 1.3), strict=True)
        )
        parameters = {
            "max_percentile": float(attributes.get("max_percentile", 0.999999)),
            "min_percentile": float(attributes.get("min_percentile", 0.999999)),
            "search_range": (start, end),
            "search_step": float(attributes.get("step", 0.01)),
        }
    else:
        parameters = {"num_of_bins": int(attributes.get("nbins", 4096))}
    activation = ActivationConfig(
        node.op_type.lower(),
        int(attributes.get("num_bits", 8)),
        bool(attributes.get("with_offset", 1)),
        parameters,
    )
    count = int(attributes.get("layer_num", 1))
    keys = tuple(str(attributes[f"object_layer{index}"]) for index in range(count))
    return CalibrationNode(
        node,
        value,
        (Use(keys, activation),),
        int(attributes.get("batch_num", 1)),
        str(attributes["record_file_path"]),
        _is_exact(node, attributes),
        str(attributes.get("fakequant_precision_mode", "DEFAULT")),
    )
