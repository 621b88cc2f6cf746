"""The keys of AMCT's JSON configuration: global, per layer, per tensor."""

from __future__ import annotations

from ort_quant_plugin.config.parameters import Parameter

__all__ = ["ACTIVATION_KEYS", "GLOBAL_KEYS", "LAYER_KEYS", "TENSOR_KEYS", "WEIGHT_KEYS"]


def _table(*parameters: Parameter) -> dict[str, Parameter]:
    return {parameter.name: parameter for parameter in parameters}


GLOBAL_KEYS = _table(
    Parameter("version", "int", 1, "only 1", "Version of the file format.", lambda v: v == 1),
    Parameter("batch_num", "int", 1, "above 0", "Number of forward passes used for calibration.", lambda v: v > 0),
    Parameter(
        "activation_offset",
        "bool",
        True,
        "",
        "Asymmetric activations; a layer's own `asymmetric` goes first.",
    ),
    Parameter(
        "joint_quant",
        "bool",
        False,
        "",
        "Element-wise joint quantization of some Ascend chips. Ignored with a warning when true.",
    ),
    Parameter("do_fusion", "bool", True, "", "Fold BatchNormalization into the layer in front of it."),
    Parameter(
        "fakequant_precision_mode",
        "str",
        "DEFAULT",
        "DEFAULT or FORCE_FP16_QUANT",
        "Precision of the simulated quantizer. Written only when it is not DEFAULT.",
        lambda v: v in ("DEFAULT", "FORCE_FP16_QUANT"),
    ),
    Parameter(
        "skip_fusion_layers",
        "names",
        (),
        "Conv or ConvTranspose layers, no repeats",
        "Layers that nothing is folded into.",
    ),
    Parameter("tensor_quantize", "objects", (), "", "Input tensors of MaxPool or Add to quantize."),
)
"""Global keys in the order files are written."""

LAYER_KEYS = _table(
    Parameter("quant_enable", "bool", True, "", "Whether the layer is quantized."),
    Parameter(
        "dmq_balancer_param",
        "float",
        None,
        "in [0.2, 0.8]",
        "DMQ migration strength; absent = no balancing. Not for AveragePool.",
        lambda v: 0.2 <= v <= 0.8,
    ),
    Parameter("activation_quant_params", "object", None, "", "How the layer's input is quantized."),
    Parameter("weight_quant_params", "object", None, "", "How the layer's weight is quantized. Not for AveragePool."),
)
"""Keys of a layer."""

TENSOR_KEYS = _table(
    Parameter("layer_name", "str", None, "a MaxPool or Add node", "Name of the node. Required."),
    Parameter("input_index", "int", None, "an input of the node", "Which input. Required.", lambda v: v >= 0),
    Parameter("activation_quant_params", "object", None, "", "How the tensor is quantized."),
)
"""Keys of an entry of ``tensor_quantize``."""

ACTIVATION_KEYS = _table(
    Parameter(
        "num_bits",
        "int",
        8,
        "only 8 (AMCT's files may say 4 or 16, which is refused)",
        "Width of the integer.",
        lambda v: v in (4, 8, 16),
    ),
    Parameter("act_algo", "str", "ifmr", "an activation algorithm", "How the range is chosen."),
    Parameter(
        "asymmetric",
        "bool",
        None,
        "false for Conv with a 5-D weight",
        "Whether zero may map to an offset other than 0; default `activation_offset`.",
    ),
)
"""Keys of ``activation_quant_params`` that every algorithm has."""

WEIGHT_KEYS = _table(
    Parameter(
        "num_bits",
        "int",
        8,
        "8; 6 or 7 for Conv with a 4-D weight (AMCT's files may say 4, which is refused)",
        "Width of the integer.",
        lambda v: v in (4, 6, 7, 8),
    ),
    Parameter(
        "channel_wise",
        "bool",
        None,
        "true only for Conv and ConvTranspose",
        "One scale per output channel; default true for Conv and ConvTranspose, else false.",
    ),
    Parameter("wts_algo", "str", "arq_quantize", "a weight algorithm", "How the weight is quantized."),
)
"""Keys of ``weight_quant_params`` that every algorithm has."""
