"""The configuration of a model when nobody said otherwise, and the rules for skipping layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ort_quant_plugin.config.build import Algorithms, ConfigBuilder
from ort_quant_plugin.config.parameters import refuse_repeated
from ort_quant_plugin.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ort_quant_plugin.config.model import LayerFacts, QuantConfig

__all__ = ["default_config", "refuse_unquantizable_type", "skipped_layers"]


def default_config(
    layers: Mapping[str, LayerFacts],
    *,
    skip_layers: Iterable[str] = (),
    skip_layer_types: Iterable[str] = (),
    batch_num: int = 1,
    activation_offset: bool = True,
    algo: str = "ifmr",
    algorithms: Algorithms | None = None,
    weight_algorithms: Algorithms | None = None,
) -> QuantConfig:
    """Quantize every layer that can be, with AMCT's defaults.

    Skipped layers are part of the result with ``quant_enable`` false, so that a written file shows them.

    Args:
        layers: Layers of the prepared model by name.
        skip_layers: Names of quantizable layers that stay float.
        skip_layer_types: Quantizable op types that stay float.
        batch_num: Forward passes used for calibration, above 0.
        activation_offset: Asymmetric activations.
        algo: Activation algorithm, with its default parameters.
        algorithms: Activation algorithms beside the built-in ones.
        weight_algorithms: Weight algorithms beside the built-in ones.

    Raises:
        ConfigError: A name is unknown, repeated or not quantizable, or nothing is left to quantize.
    """
    builder = ConfigBuilder(layers, "default configuration", algorithms, weight_algorithms)
    refuse_empty(layers)
    skipped = skipped_layers(builder, tuple(skip_layers), tuple(skip_layer_types))
    document: dict[str, Any] = {"batch_num": batch_num, "activation_offset": activation_offset}
    enabled = 0
    for name, facts in layers.items():
        if facts.quantizable:
            document[name] = {"quant_enable": name not in skipped, "activation_quant_params": {"act_algo": algo}}
            enabled += name not in skipped
    if not enabled:
        raise nothing_left()
    return builder.build(document)


def skipped_layers(builder: ConfigBuilder, names: tuple[str, ...], types: tuple[str, ...]) -> set[str]:
    """The quantizable layers that lists of names and types take out.

    Raises:
        ConfigError: A name or type is unknown, repeated or not quantizable (AMCT's texts).
    """
    refuse_repeated(names, "skip_layers")
    refuse_repeated(types, "skip_layer_types")
    for op_type in types:
        refuse_unquantizable_type(op_type)
    skipped = {builder.find(name).name for name in names}
    return skipped | {name for name, facts in builder.layers.items() if facts.quantizable and facts.op_type in types}


def refuse_unquantizable_type(op_type: str) -> None:
    """Refuse an op type that is never quantized as a layer.

    Raises:
        ConfigError: With the types that are (AMCT's text).
    """
    from ort_quant_plugin.layers import QUANTIZABLE_TYPES

    if op_type not in QUANTIZABLE_TYPES:
        raise ConfigError(
            f"Layer type {op_type} does not support quantize.",
            hint=f"Types that do: {', '.join(QUANTIZABLE_TYPES)}.",
            layer_type=op_type,
        )


def refuse_empty(layers: Mapping[str, LayerFacts]) -> None:
    """Refuse a model with nothing to quantize.

    Raises:
        ConfigError: No layer can be quantized (AMCT's text); the hint tells why the first candidates cannot.
    """
    if not any(facts.quantizable for facts in layers.values()):
        reasons = [f"{f.name} ({f.op_type}): {f.reason}" for f in layers.values() if f.reason][:3]
        raise ConfigError(
            "No layer support quantization in the graph.",
            hint=f"Candidates: {'; '.join(reasons)}." if reasons else "The model has no Conv, Gemm, MatMul or pooling.",
        )


def nothing_left() -> ConfigError:
    """The error for skipping everything (AMCT's text)."""
    return ConfigError("Except skip_layers, no layer needs to quantize.", hint="Skip fewer layers or layer types.")
