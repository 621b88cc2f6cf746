"""Raise the opset of a model where a target needs operators that an older one lacks."""

from __future__ import annotations

import onnx_ir as ir

from ort_quant_plugin.errors import UnsupportedError
from ort_quant_plugin.model import default_opset

__all__ = ["raise_opset"]


def raise_opset(model: ir.Model, minimum: int) -> ir.Model:
    """Convert the default domain to ``minimum`` with ONNX's version converter; newer models are returned as they are.

    Raises:
        UnsupportedError: The converter cannot do it (the reason is quoted).
    """
    current = default_opset(model)
    if current >= minimum:
        return model
    import onnx
    from onnx import version_converter

    try:
        ir.external_data.load_to_model(model)
        proto = version_converter.convert_version(ir.to_proto(model), minimum)
        onnx.checker.check_model(proto)
    except (RuntimeError, ValueError, onnx.checker.ValidationError) as error:
        raise UnsupportedError(
            f"The model has opset {current}, this target needs {minimum}, and ONNX's version converter refused: "
            f"{str(error).splitlines()[0]}",
            hint=f"Export the float model with opset {minimum} or newer.",
            opset=current,
            needed=minimum,
        ) from error
    converted = ir.from_proto(proto)
    converted.metadata_props.update(model.metadata_props)
    return converted
