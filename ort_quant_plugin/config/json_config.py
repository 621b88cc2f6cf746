"""AMCT's JSON configuration file."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ort_quant_plugin.config.build import Algorithms, ConfigBuilder
from ort_quant_plugin.config.parameters import refuse_repeated
from ort_quant_plugin.errors import ConfigError
from ort_quant_plugin.files import read_text, write_text

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from ort_quant_plugin.config.model import ActivationConfig, LayerConfig, LayerFacts, QuantConfig

__all__ = ["config_to_json", "load_config", "read_config", "write_config"]

_HINT = "create_quant_config (ort-quant config) makes it."
# AMCT's order: the keys of IFMR in front of the algorithm's name, those of every other algorithm at the end.
_BEFORE_ACT_ALGO = ("max_percentile", "min_percentile", "search_range", "search_step")


def read_config(
    path: str | os.PathLike[str],
    layers: Mapping[str, LayerFacts],
    *,
    algorithms: Algorithms | None = None,
    weight_algorithms: Algorithms | None = None,
) -> QuantConfig:
    """Read a JSON configuration. Missing keys get their defaults, missing layers stay float.

    Args:
        path: The file.
        layers: Layers of the prepared model by name.
        algorithms: Activation algorithms beside the built-in ones.
        weight_algorithms: Weight algorithms beside the built-in ones.

    Raises:
        ConfigError: The file is missing or no JSON (with line and column), a key is unknown, repeated, ill-typed
            or out of range, or a layer is unknown or cannot be quantized.
    """
    text = read_text(path, what="Configuration file", error=ConfigError, hint=_HINT)
    return ConfigBuilder(layers, str(path), algorithms, weight_algorithms).build(_parse(text, str(path)))


def load_config(
    path: str | os.PathLike[str],
    layers: Mapping[str, LayerFacts],
    *,
    algorithms: Algorithms | None = None,
    weight_algorithms: Algorithms | None = None,
) -> QuantConfig:
    """Read a configuration of either kind: JSON when the text starts with ``{``, else the simplified form.

    Raises:
        ConfigError: As :func:`read_config` and :func:`~ort_quant_plugin.config.simple_config.read_simple_config`.
    """
    from ort_quant_plugin.config.simple_config import read_simple_config

    text = read_text(path, what="Configuration file", error=ConfigError, hint=_HINT)
    reader = read_config if text.lstrip().startswith("{") else read_simple_config
    return reader(path, layers, algorithms=algorithms, weight_algorithms=weight_algorithms)


def config_to_json(config: QuantConfig) -> str:
    """The text of the JSON file: 4-space indent, separators ``,`` and ``:``, layers in alphabetical order."""
    document: dict[str, Any] = {
        "version": config.version,
        "batch_num": config.batch_num,
        "activation_offset": config.activation_offset,
        "joint_quant": config.joint_quant,
        "do_fusion": config.do_fusion,
    }
    if config.fakequant_precision_mode != "DEFAULT":
        document["fakequant_precision_mode"] = config.fakequant_precision_mode
    document["skip_fusion_layers"] = list(config.skip_fusion_layers)
    document["tensor_quantize"] = [
        {
            "layer_name": tensor.layer_name,
            "input_index": tensor.input_index,
            "activation_quant_params": _activation(tensor.activation),
        }
        for tensor in config.tensor_quantize
    ]
    for name in sorted(config.layers):
        document[name] = _layer(config.layers[name])
    return json.dumps(document, indent=4, separators=(",", ":"), ensure_ascii=False)


def write_config(config: QuantConfig, path: str | os.PathLike[str]) -> None:
    """Write the JSON file; it appears whole or not at all.

    Raises:
        OutputError: The file cannot be written.
    """
    write_text(path, config_to_json(config))


def _layer(layer: LayerConfig) -> dict[str, Any]:
    document: dict[str, Any] = {"quant_enable": layer.quant_enable}
    if layer.dmq_balancer_param is not None:
        document["dmq_balancer_param"] = layer.dmq_balancer_param
    document["activation_quant_params"] = _activation(layer.activation)
    if layer.weight is not None:
        document["weight_quant_params"] = {
            "num_bits": layer.weight.num_bits,
            "channel_wise": layer.weight.channel_wise,
            "wts_algo": layer.weight.algo,
            **layer.weight.parameters,
        }
    return document


def _activation(activation: ActivationConfig) -> dict[str, Any]:
    parameters = dict(activation.parameters)
    first = {name: parameters.pop(name) for name in _BEFORE_ACT_ALGO if name in parameters}
    return {
        "num_bits": activation.num_bits,
        **first,
        "act_algo": activation.algo,
        "asymmetric": activation.asymmetric,
        **parameters,
    }


def _parse(text: str, source: str) -> dict[str, Any]:
    def no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        refuse_repeated((key for key, _ in pairs), source)
        return dict(pairs)

    try:
        document = json.loads(text, object_pairs_hook=no_repeats)
    except json.JSONDecodeError as error:
        raise ConfigError(
            f"{source}, line {error.lineno}, column {error.colno}: not valid JSON: {error.msg}.",
            hint="Correct the file at that place.",
            path=source,
            line=error.lineno,
            column=error.colno,
        ) from error
    except ConfigError:
        raise
    except (RecursionError, ValueError) as error:  # nesting without end, an integer of thousands of digits
        raise ConfigError(f"{source}: not valid JSON: {error}.", hint="Correct the file.", path=source) from error
    if not isinstance(document, dict):
        raise ConfigError(f"{source}: expected a JSON object, not {type(document).__name__}.", hint=_HINT, path=source)
    return document
