"""Which layers are quantized and how: AMCT's JSON file, its simplified text-proto file, and the defaults."""

from __future__ import annotations

from ort_quant_plugin.config.algorithms import (
    ACTIVATION_ALGORITHMS,
    WEIGHT_ALGORITHMS,
    AlgorithmSpec,
    Parameter,
)
from ort_quant_plugin.config.defaults import default_config
from ort_quant_plugin.config.json_config import config_to_json, load_config, read_config, write_config
from ort_quant_plugin.config.model import (
    ActivationConfig,
    IncompleteConfigError,
    LayerConfig,
    LayerFacts,
    QuantConfig,
    TensorConfig,
    WeightConfig,
)
from ort_quant_plugin.config.simple_config import read_simple_config

__all__ = [
    "ACTIVATION_ALGORITHMS",
    "WEIGHT_ALGORITHMS",
    "ActivationConfig",
    "AlgorithmSpec",
    "IncompleteConfigError",
    "LayerConfig",
    "LayerFacts",
    "Parameter",
    "QuantConfig",
    "TensorConfig",
    "WeightConfig",
    "config_to_json",
    "default_config",
    "load_config",
    "read_config",
    "read_simple_config",
    "write_config",
]
