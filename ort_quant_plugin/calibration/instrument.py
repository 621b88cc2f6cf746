"""Turn a prepared float model into the calibration model and its record: weights quantized, tensors observed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ort_quant_plugin.errors import ConfigError, UnsupportedError
from ort_quant_plugin.model import const_array, replace_constant
from ort_quant_plugin.passes.insert_observers import Observation, insert_observers, output_observations
from ort_quant_plugin.record import LayerRecord, Record, input_key
from ort_quant_plugin.weights.base import broadcast_scale, channel_major, channel_minor

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx_ir as ir

    from ort_quant_plugin.calibration.methods import CalibrationMethod, Storage
    from ort_quant_plugin.config import LayerConfig, QuantConfig, TensorConfig
    from ort_quant_plugin.layers import Layer, LayerTable
    from ort_quant_plugin.weights import QuantizedWeight, WeightQuantizer

__all__ = ["Instrumented", "enabled_layers", "instrument"]


@dataclass
class Instrumented:
    """Result of :func:`instrument`.

    Attributes:
        record: Weight factors of every layer; activation factors are still missing.
        observers: The calibration nodes.
        notes: What a user should know.
    """

    record: Record
    observers: list[ir.Node]
    notes: list[str] = field(default_factory=list)


def enabled_layers(table: LayerTable, config: QuantConfig) -> dict[str, LayerConfig]:
    """Layers the configuration quantizes, in graph order."""
    return {name: config.layers[name] for name in table if name in config.layers and config.layers[name].quant_enable}


def instrument(
    model: ir.Model,
    table: LayerTable,
    config: QuantConfig,
    *,
    record_file: str,
    methods: Mapping[str, CalibrationMethod],
    weight_quantizers: Mapping[str, WeightQuantizer],
    observe_outputs: bool = True,
    storage: Storage = "sketch",
) -> Instrumented:
    """Quantize weights and insert calibration nodes, in place.

    Args:
        model: A prepared model; its weights become fake-quantized floats ``W_q·S``.
        table: Its layers.
        config: What is quantized and how.
        record_file: Absolute path the calibration nodes will write to.
        methods: Calibration methods by name.
        weight_quantizers: Weight quantizers by name.
        observe_outputs: Also observe the layer outputs that the QDQ model needs (record keys ``<layer>:output``);
            without them the record holds AMCT's entries only.
        storage: How AMCT's operators keep their data.

    Raises:
        ConfigError: Nothing is enabled, or an entry of tensor_quantize means a constant.
        UnsupportedError: The configuration asks for DMQ balancing.
        NumericsError: A weight holds NaN or infinity, or its scale is out of range.
    """
    enabled = enabled_layers(table, config)
    config.require_enabled()
    _refuse_balancing(enabled)
    record = Record()
    observations = []
    for name, layer_config in enabled.items():
        record.add(_quantize_weight(table[name], layer_config, config, weight_quantizers))
        observations.append(Observation(name, table[name].activation, layer_config.activation))
    for tensor in config.tensor_quantize:
        value = _tensor_to_quantize(tensor, table)
        observations.append(Observation(input_key(tensor.layer_name, tensor.input_index), value, tensor.activation))
    if observe_outputs:
        activations = {name: layer_config.activation for name, layer_config in enabled.items()}
        observations += output_observations(table, activations, observations)
    for observation in observations:
        if observation.key not in record:
            record.add(LayerRecord(observation.key, is_tensor_quantize=True))
    observers = insert_observers(
        model,
        observations,
        methods,
        batch_num=config.batch_num,
        record_file=record_file,
        precision_mode=config.fakequant_precision_mode,
        storage=storage,
    )
    return Instrumented(record, observers)


def _tensor_to_quantize(tensor: TensorConfig, table: LayerTable) -> ir.Value:
    """The tensor an entry of ``tensor_quantize`` means."""
    name, index = tensor.layer_name, tensor.input_index
    value = table[name].node.inputs[index]
    if value is not None and const_array(value) is None and not value.is_initializer():
        return value
    raise ConfigError(
        f"tensor_quantize: input {index} of {name!r} cannot be quantized: it is a constant.",
        hint="Remove the entry, or choose another input_index.",
        layer=name,
        input_index=index,
    )


def _refuse_balancing(enabled: Mapping[str, LayerConfig]) -> None:
    balanced = [name for name, layer in enabled.items() if layer.dmq_balancer_param is not None]
    if balanced:
        raise UnsupportedError(
            f"The configuration asks for DMQ balancing (dmq_balancer_param) of layer {balanced[0]!r}, "
            "which this release does not do.",
            hint="Remove dmq_balancer_param (dmq_balancer in a .cfg file).",
            layers=balanced,
        )


def _quantize_weight(
    layer: Layer, config: LayerConfig, globals_: QuantConfig, quantizers: Mapping[str, WeightQuantizer]
) -> LayerRecord:
    skip_fusion = not globals_.do_fusion or layer.name in globals_.skip_fusion_layers
    if layer.weight is None or config.weight is None:
        return LayerRecord(layer.name, scale_w=(1.0,), offset_w=(0,), skip_fusion=skip_fusion)
    weight = const_array(layer.weight)
    assert weight is not None
    quantized = quantizers[config.weight.algo].quantize(
        weight.astype(np.float32),
        layer,
        num_bits=config.weight.num_bits,
        channel_wise=config.weight.channel_wise,
        **config.weight.parameters,
    )
    replace_constant(layer.node, layer.weight_index, _fake_quantized(quantized, layer).astype(weight.dtype))
    return LayerRecord(
        layer.name,
        scale_w=tuple(quantized.scale.tolist()),
        offset_w=(0,) * quantized.scale.size,
        skip_fusion=skip_fusion,
        wts_type=f"INT{config.weight.num_bits}",
    )


def _fake_quantized(quantized: QuantizedWeight, layer: Layer) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]]:
    """``W_q·S`` in float32, in the weight's own layout."""
    major = channel_major(quantized.integers, layer).astype(np.float32)
    return channel_minor(major * broadcast_scale(quantized.scale, major.ndim), layer, quantized.integers.shape)
