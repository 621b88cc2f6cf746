"""The two text-protobuf formats of AMCT: record file and simplified configuration, as one table.

Only names matter in text form. Numbers follow AMCT's schema where it is public; fields that only other
AMCT editions write (``scale_h``, ``cluster``, ``dst_type`` …) and a few of the configuration have numbers of ours.
"""

from __future__ import annotations

from ort_quant_plugin.textproto import EnumType, Field, MessageType, Schema

__all__ = ["CONFIG_SCHEMA", "RECORD_SCHEMA"]

RECORD_SCHEMA = Schema(
    name="scale_offset_record",
    root="ScaleOffsetRecord",
    page="formats.md",
    messages=(
        MessageType(
            "SingleLayerRecord",
            "Quantization factors of one layer or tensor.",
            (
                Field("scale_d", "float", 1, "Scale of the activation, one per tensor; finite, above 0."),
                Field("offset_d", "int32", 2, "Offset (zero point) of the activation in the signed range."),
                Field("scale_w", "float", 3, "Scale of the weight: 1 value or one per output channel.", "repeated"),
                Field("offset_w", "int32", 4, "Offset of the weight, as many as `scale_w`; all 0.", "repeated"),
                Field(
                    "shift_bit", "uint32", 5, "Right shift per channel (joint quantization); 0, or 1 to 16.", "repeated"
                ),
                Field("skip_fusion", "bool", 6, "Do not fold BatchNormalization into this layer.", default="true"),
                Field("is_tensor_quantize", "bool", 10, "The record is about a tensor, not a layer.", default="false"),
                Field("tensor_balance_factor", "float", 13, "DMQ balance factors, one per input channel.", "repeated"),
                Field("op_data_type", "string", 15, "Type of the layer in the user's model: `FLOAT32` or `FLOAT16`."),
                Field("act_type", "string", 20, "Width of the activation: `INT4`, `INT8` or `INT16`.", default="INT8"),
                Field(
                    "wts_type", "string", 21, "Width of the weight: `INT4`, `INT6`, `INT7` or `INT8`.", default="INT8"
                ),
                Field("cluster", "int32", 30, "Centres of non-uniform weights: 16 or 32 values in int8.", "repeated"),
                Field("scale_h", "float", 31, "Scale of the initial state (RNN, other AMCT editions)."),
                Field("offset_h", "int32", 32, "Offset of the initial state (RNN, other AMCT editions)."),
                Field("scale_r", "float", 33, "Scale of the recurrence weight (RNN, other AMCT editions).", "repeated"),
                Field(
                    "offset_r", "int32", 34, "Offset of the recurrence weight (RNN, other AMCT editions).", "repeated"
                ),
                Field("dst_type", "string", 35, "Width of the activation in older PyTorch records."),
                Field(
                    "fakequant_precision_mode", "string", 36, "`FORCE_FP16_QUANT` when the quantizer runs in float16."
                ),
            ),
        ),
        MessageType(
            "MapFiledEntry",
            "One entry of the file. (The misspelling is AMCT's.)",
            (
                Field("key", "string", 1, "`<layer>`, `<layer>:<input index>` or `<layer>:output`."),
                Field("value", "SingleLayerRecord", 2, "The factors."),
            ),
        ),
        MessageType(
            "ScaleOffsetRecord",
            "The whole record file.",
            (Field("record", "MapFiledEntry", 1, "One entry per layer or tensor.", "repeated"),),
        ),
    ),
)

CONFIG_SCHEMA = Schema(
    name="calibration_config",
    root="AMCTConfig",
    page="config.md",
    messages=(
        MessageType(
            "AMCTConfig",
            "The whole simplified configuration file.",
            (
                Field("batch_num", "uint32", 1, "Number of forward passes used for calibration.", default="1"),
                Field("activation_offset", "bool", 2, "Asymmetric activations.", default="true"),
                Field("skip_layers", "string", 10, "Layers (node names) that stay float.", "repeated"),
                Field("skip_layer_types", "string", 11, "Op types that stay float.", "repeated"),
                Field("nuq_config", "NuqConfig", 12, "Non-uniform weights: refused, see `nuq_quantize`."),
                Field(
                    "joint_quant",
                    "bool",
                    13,
                    "Element-wise joint quantization: ignored with a warning.",
                    default="false",
                ),
                Field(
                    "fakequant_precision_mode", "FakequantPrecisionMode", 21, "Precision of the simulated quantizer."
                ),
                Field("common_config", "CalibrationConfig", 50, "Algorithms for all layers."),
                Field("override_layer_types", "OverrideLayerType", 51, "Algorithms for one op type.", "repeated"),
                Field("override_layer_configs", "OverrideLayer", 100, "Algorithms for one layer.", "repeated"),
                Field("do_fusion", "bool", 200, "Fold BatchNormalization.", default="true"),
                Field("skip_fusion_layers", "string", 201, "Layers that nothing is folded into.", "repeated"),
                Field("tensor_quantize", "TensorQuantize", 202, "Inputs of MaxPool or Add to quantize.", "repeated"),
            ),
        ),
        MessageType(
            "OverrideLayerType",
            "Algorithms for all layers of one op type.",
            (
                Field("layer_type", "string", 1, "ONNX op type (`Conv`, `Gemm` …).", "required"),
                Field("calibration_config", "CalibrationConfig", 2, "The algorithms.", "required"),
            ),
        ),
        MessageType(
            "OverrideLayer",
            "Algorithms for one layer.",
            (
                Field("layer_name", "string", 1, "Name of the node.", "required"),
                Field("calibration_config", "CalibrationConfig", 2, "The algorithms.", "required"),
            ),
        ),
        MessageType(
            "CalibrationConfig",
            "At most one algorithm of each kind; of two of a kind the last one counts.",
            (
                Field("arq_quantize", "ARQuantize", 13, "Uniform weights.", oneof="weights"),
                Field(
                    "nuq_quantize",
                    "NUQuantize",
                    14,
                    "Non-uniform weights: refused, no benefit on any device.",
                    oneof="weights",
                ),
                Field("ifmr_quantize", "FMRQuantize", 100, "IFMR range search.", oneof="acts"),
                Field("hfmg_quantize", "HFMGQuantize", 101, "HFMG range search on histograms.", oneof="acts"),
                Field(
                    "dmq_balancer", "DMQBalancer", 200, "Balance activations against weights.", oneof="tensor_balancer"
                ),
            ),
        ),
        MessageType(
            "ARQuantize",
            "Uniform weight quantization.",
            (
                Field(
                    "channel_wise", "bool", 1, "One scale per output channel; default true for Conv and ConvTranspose."
                ),
                Field("quant_bits", "uint32", 10, "6, 7 or 8; 6 and 7 only for Conv with a 4-D weight.", default="8"),
            ),
        ),
        MessageType(
            "NUQuantize",
            "Non-uniform weight quantization (deprecated).",
            (
                Field("num_steps", "uint32", 1, "16 or 32.", default="32"),
                Field("num_of_iteration", "uint32", 2, "0 to 5.", default="1"),
            ),
        ),
        MessageType(
            "NuqConfig",
            "Non-uniform weights from a mapping file (deprecated).",
            (
                Field("mapping_file", "string", 1, "JSON made by ATC.", "required"),
                Field("nuq_quantize", "NUQuantize", 2, "Parameters."),
            ),
        ),
        MessageType(
            "FMRQuantize",
            "IFMR: the range with the smallest quantization error.",
            (
                Field("search_range_start", "float", 1, "Smallest factor tried; above 0.", default="0.7"),
                Field("search_range_end", "float", 2, "Largest factor tried.", default="1.3"),
                Field("search_step", "float", 3, "Step between factors.", default="0.01"),
                Field("max_percentile", "float", 4, "Position of the maximum, in (0.5, 1].", default="0.999999"),
                Field("min_percentile", "float", 5, "Position of the minimum, in (0.5, 1].", default="0.999999"),
                Field("asymmetric", "bool", 6, "Asymmetric activations; default `activation_offset`."),
                Field("dst_type", "CalibrationDataType", 10, "Only INT8 is supported.", default="INT8"),
            ),
        ),
        MessageType(
            "HFMGQuantize",
            "HFMG: the range search on a histogram, with little memory.",
            (
                Field("num_of_bins", "uint32", 1, "1024, 2048, 4096 or 8192.", default="4096"),
                Field("asymmetric", "bool", 2, "Asymmetric activations; default `activation_offset`."),
                Field("dst_type", "CalibrationDataType", 10, "Only INT8 is supported.", default="INT8"),
            ),
        ),
        MessageType(
            "DMQBalancer",
            "Move quantization difficulty from activations to weights.",
            (Field("migration_strength", "float", 1, "In [0.2, 0.8].", default="0.5"),),
        ),
        MessageType(
            "TensorQuantize",
            "Quantize one input of a MaxPool or Add; IFMR when no algorithm is given.",
            (
                Field("layer_name", "string", 1, "Name of the node.", "required"),
                Field("input_index", "uint32", 2, "Which input.", "required"),
                Field("ifmr_quantize", "FMRQuantize", 3, "IFMR range search.", oneof="acts"),
                Field("hfmg_quantize", "HFMGQuantize", 4, "HFMG range search on histograms.", oneof="acts"),
            ),
        ),
    ),
    enums=(
        EnumType(
            "FakequantPrecisionMode", "Precision of the simulated quantizer.", (("DEFAULT", 0), ("FORCE_FP16_QUANT", 1))
        ),
        EnumType("CalibrationDataType", "Integer width.", (("INT4", 0), ("INT8", 1), ("INT16", 2))),
    ),
)
