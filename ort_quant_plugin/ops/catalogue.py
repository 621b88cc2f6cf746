"""The operators the library registers: domain, name, what it is for."""

from __future__ import annotations

__all__ = ["OPERATORS"]

OPERATORS = (
    ("amct.customop", "IFMR", "calibration: range search (AMCT's default)"),
    ("amct.customop", "HFMG", "calibration: histogram search"),
    ("amct.customop", "SearchN", "AMCT's models: search of shift_bit"),
    ("amct.customop", "SearchNv2", "AMCT's models: search of shift_bit in constant memory"),
    ("amct.customop", "DMQBalancer", "AMCT's models: balance factors of input channels"),
    ("amct.customop", "AscendQuant", "float to integer values"),
    ("amct.customop", "AscendDequant", "accumulator to float"),
    ("amct.customop", "AscendAntiQuant", "integer values to float"),
    ("amct.customop", "Quant", "AscendQuant in AMCT's old form"),
    ("amct.customop", "Dequant", "AscendDequant in AMCT's old form"),
    ("amct.customop.extfp16", "AscendQuant", "float16 in, float32 out"),
    ("amct.customop.extfp16", "AscendDequant", "float32 in, float16 out"),
    ("amct.customop.extfp16", "AscendAntiQuant", "float32 in, float16 out"),
    ("amct.customop.extint8", "AscendQuant", "int8 out"),
    ("ort_quant", "Observe", "calibration: sketch of a tensor, for every method"),
    ("ort_quant", "QuantizeLayout", "int8 inference: float to uint8, channels last"),
    ("ort_quant", "QConv", "int8 inference: convolution with its element-wise steps"),
    ("ort_quant", "QConvChain", "int8 inference: two or three convolutions, strip by strip"),
    ("ort_quant", "QConvTranspose", "int8 inference: transposed convolution with its element-wise steps"),
    ("ort_quant", "QGemm", "int8 inference: matrix product with its element-wise steps"),
    ("ort_quant", "QPool", "int8 inference: max, average and global average pooling"),
    ("ort_quant", "QAdd", "int8 inference: sum of two tensors"),
    ("ort_quant", "DequantizeLayout", "int8 inference: uint8, channels last, to float"),
)
