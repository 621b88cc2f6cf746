"""AMCT's simplified configuration file (``quant.cfg``): text protobuf, turned into the document a JSON file holds.

Of several places that speak about a layer the most special one wins: ``override_layer_configs``, then
``override_layer_types``, then ``common_config``. This is decided for each kind of algorithm on its own (activations,
weights, balancing). ``asymmetric`` and ``channel_wise`` have no default in the format: where the winner leaves
them out, the next place decides, at last ``activation_offset`` and the layer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ort_quant_plugin.config.algorithms import WEIGHT_ALGORITHMS
from ort_quant_plugin.config.build import Algorithms, ConfigBuilder
from ort_quant_plugin.config.defaults import nothing_left, refuse_empty, refuse_unquantizable_type, skipped_layers
from ort_quant_plugin.config.model import IncompleteConfigError
from ort_quant_plugin.config.parameters import refuse_repeated
from ort_quant_plugin.errors import ConfigError
from ort_quant_plugin.files import read_text
from ort_quant_plugin.schemas import CONFIG_SCHEMA
from ort_quant_plugin.textproto import parse_text

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from ort_quant_plugin.config.model import LayerFacts, QuantConfig

__all__ = ["read_simple_config"]

_GLOBALS = ("batch_num", "activation_offset", "joint_quant", "do_fusion")
_BITS = {0: 4, 1: 8, 2: 16}
_ACT_MESSAGES = {"ifmr_quantize": "ifmr", "hfmg_quantize": "hfmg"}


def read_simple_config(
    path: str | os.PathLike[str],
    layers: Mapping[str, LayerFacts],
    *,
    algorithms: Algorithms | None = None,
    weight_algorithms: Algorithms | None = None,
) -> QuantConfig:
    """Read a simplified configuration. Layers it skips are part of the result with ``quant_enable`` false.

    Args:
        path: The file.
        layers: Layers of the prepared model by name.
        algorithms: Activation algorithms beside the built-in ones (the format cannot name them; they are only
            needed to tell their parameters from unknown ones).
        weight_algorithms: Weight algorithms beside the built-in ones (as above).

    Raises:
        ConfigError: The file is missing or malformed (with line and column), a name is unknown, repeated or not
            quantizable, a value out of range, or nothing is left to quantize.
        IncompleteConfigError: A ``tensor_quantize`` entry without name or index.
    """
    source = str(path)
    text = read_text(
        path, what="Configuration file", error=ConfigError, hint="Write one as docs/reference/config.md shows."
    )
    message = parse_text(text, CONFIG_SCHEMA, path=source, error=ConfigError)
    builder = ConfigBuilder(layers, source, algorithms, weight_algorithms)
    return builder.build(_Translation(message, builder, source).document())


@dataclass
class _Translation:
    """One parsed file on its way to a document."""

    message: Any
    builder: ConfigBuilder
    source: str
    by_name: dict[str, Any] = field(default_factory=dict)
    by_type: dict[str, Any] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        message = self.message
        layers = self.builder.layers
        if message.HasField("nuq_config"):
            raise self._no_nuq("nuq_config")
        skipped = skipped_layers(self.builder, tuple(message.skip_layers), tuple(message.skip_layer_types))
        self._collect_overrides()
        document: dict[str, Any] = {name: getattr(message, name) for name in _GLOBALS if message.HasField(name)}
        if message.fakequant_precision_mode:
            document["fakequant_precision_mode"] = "FORCE_FP16_QUANT"
        document["skip_fusion_layers"] = list(message.skip_fusion_layers)
        document["tensor_quantize"] = [self._tensor(i, entry) for i, entry in enumerate(message.tensor_quantize)]
        if not document["tensor_quantize"]:
            refuse_empty(layers)
        for name, facts in layers.items():
            if facts.quantizable:
                document[name] = {"quant_enable": name not in skipped, **self._layer(facts)}
        enabled = [name for name, facts in layers.items() if facts.quantizable and name not in skipped]
        if not enabled and not document["tensor_quantize"]:
            raise nothing_left()
        return document

    def _collect_overrides(self) -> None:
        for entry in self.message.override_layer_configs:
            self._require(entry, "override_layer_configs", "layer_name")
            self.builder.find(entry.layer_name)
        for entry in self.message.override_layer_types:
            self._require(entry, "override_layer_types", "layer_type")
            refuse_unquantizable_type(entry.layer_type)
        names = [entry.layer_name for entry in self.message.override_layer_configs]
        types = [entry.layer_type for entry in self.message.override_layer_types]
        refuse_repeated(names, f"{self.source}: override_layer_configs")
        refuse_repeated(types, f"{self.source}: override_layer_types")
        self.by_name = {entry.layer_name: entry.calibration_config for entry in self.message.override_layer_configs}
        self.by_type = {entry.layer_type: entry.calibration_config for entry in self.message.override_layer_types}
        present = {facts.op_type for facts in self.builder.layers.values() if facts.quantizable}
        self.builder.warnings += [
            f"{self.source}: override_layer_types: the model has no {op_type} that can be quantized."
            for op_type in types
            if op_type not in present
        ]

    def _require(self, entry: Any, where: str, *names: str) -> None:
        for name in (*names, *(("calibration_config",) if where.startswith("override") else ())):
            if not entry.HasField(name):
                raise IncompleteConfigError(
                    f"{self.source}: {where}: {name} is missing.", hint=f"Give {name}.", key=name, where=where
                )

    def _layer(self, facts: LayerFacts) -> dict[str, Any]:
        places = [self.by_name.get(facts.name), self.by_type.get(facts.op_type), self.message.common_config]
        document: dict[str, Any] = {"activation_quant_params": self._activation(places, facts)}
        if facts.weight is not None:
            document["weight_quant_params"] = self._weight(places, facts)
        strength = self._balance(places, facts)
        if strength is not None:
            document["dmq_balancer_param"] = strength
        return document

    def _activation(self, places: list[Any], facts: LayerFacts | None) -> dict[str, Any]:
        document: dict[str, Any] = {}
        asymmetric: bool | None = None
        by_name = False
        for rank, place in enumerate(places):
            chosen = place.WhichOneof("acts") if place is not None else None
            if chosen is None:
                continue
            algorithm = getattr(place, chosen)
            document = document or _activation_parameters(_ACT_MESSAGES[chosen], algorithm)
            if asymmetric is None and algorithm.HasField("asymmetric"):
                asymmetric = algorithm.asymmetric
                by_name = rank == 0
        if asymmetric and facts is not None and not facts.asymmetric and not by_name:
            self.builder.warnings.append(f"Layer {facts.name} does not support asymmetric quant, set symmetric.")
            asymmetric = False
        if asymmetric is not None:
            document["asymmetric"] = asymmetric
        return document

    def _weight(self, places: list[Any], facts: LayerFacts) -> dict[str, Any]:
        document: dict[str, Any] = {}
        channel_wise: bool | None = None
        common = False
        for rank, place in enumerate(places):
            chosen = place.WhichOneof("weights") if place is not None else None
            if chosen is None:
                continue
            if chosen == "nuq_quantize":
                raise self._no_nuq(chosen)
            algorithm = place.arq_quantize
            document = document or {"wts_algo": chosen, "num_bits": _weight_bits(algorithm.quant_bits, self.source)}
            if channel_wise is None and algorithm.HasField("channel_wise"):
                channel_wise = algorithm.channel_wise
                common = rank == 2
        if channel_wise and common and not facts.channel_wise:
            channel_wise = False
        if channel_wise is not None:
            document["channel_wise"] = channel_wise
        return document

    def _balance(self, places: list[Any], facts: LayerFacts) -> float | None:
        for rank, place in enumerate(places):
            if place is None or place.WhichOneof("tensor_balancer") is None:
                continue
            if facts.balance:
                return _shortest(place.dmq_balancer.migration_strength)
            if rank == 2:
                self.builder.warnings.append(
                    f"{self.source}: dmq_balancer of common_config does not apply to layer {facts.name!r}: "
                    f"{facts.op_type} has no weight to balance with."
                )
                return None
            raise ConfigError(
                f"{self.source}: layer {facts.name!r}: Layer type {facts.op_type} does not support dmq_balancer.",
                hint="Delete dmq_balancer from the override.",
                layer=facts.name,
            )
        return None

    def _tensor(self, number: int, entry: Any) -> dict[str, Any]:
        self._require(entry, f"tensor_quantize[{number}]", "layer_name", "input_index")
        return {
            "layer_name": entry.layer_name,
            "input_index": entry.input_index,
            "activation_quant_params": self._activation([entry], None),
        }

    def _no_nuq(self, where: str) -> ConfigError:
        return ConfigError(
            f"{self.source}: {where} is not supported: {WEIGHT_ALGORITHMS['nuq_quantize'].refused}.",
            hint="Delete it, or use arq_quantize.",
            key=where,
        )


def _activation_parameters(algo: str, message: Any) -> dict[str, Any]:
    document: dict[str, Any] = {"act_algo": algo, "num_bits": _BITS[message.dst_type]}
    if algo == "hfmg":
        return {**document, "num_of_bins": message.num_of_bins}
    return {
        **document,
        "max_percentile": _shortest(message.max_percentile),
        "min_percentile": _shortest(message.min_percentile),
        "search_range": [_shortest(message.search_range_start), _shortest(message.search_range_end)],
        "search_step": _shortest(message.search_step),
    }


def _weight_bits(bits: int, source: str) -> int:
    if bits not in (6, 7, 8):
        raise ConfigError(
            f"{source}: arq_quantize: quant_bits = {bits}; expected 6, 7 or 8.",
            hint="Correct quant_bits, or leave it out to get 8.",
            key="quant_bits",
            value=bits,
        )
    return bits


def _shortest(value: float) -> float:
    """The float32 value with the fewest decimals, as a python float: 0.7, not 0.699999988079071."""
    return float(str(np.float32(value)))
