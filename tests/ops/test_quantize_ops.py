from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from ort_quant_plugin.ops import reference
from ort_quant_plugin.ops.library import onnxruntime_module, session_options

F32, F16 = np.float32, np.float16
ONNX = {np.dtype(F32): "float", np.dtype(F16): "float16", np.dtype(np.int8): "int8"}
VALUES = np.array(
    [0, -0.0, 0.5, 1.5, 2.5, -0.5, -2.5, 63.7, -64.3, 1e6, -1e6, np.inf, -np.inf, np.nan, 0.24999999, 3e-6], F32
)


def quant_graph(domain, x_type, y_type, attributes="scale: float = 2.0, offset: float = 3.0"):
    return f"g ({x_type}[N] x) => ({y_type}[N] y) {{ y = {domain}.AscendQuant <{attributes}> (x) }}"


def test_float_output_keeps_nan_and_stays_offset_free(run_op):
    (y,) = run_op(quant_graph("amct.customop", "float", "float"), {"x": VALUES})
    np.testing.assert_array_equal(y, reference.ascend_quant(VALUES, 2.0, 3.0))
    assert y[8] == -128 - 3 + 2  # −64.3·2 = −128.6 → −129 + 3 = −126, minus the offset again
    assert y[9:11].tolist() == [127 - 3, -128 - 3]
    assert np.isnan(y[13])


FLAVOURS = [
    ("amct.customop", F32, F32),
    ("amct.customop", F16, F16),
    ("amct.customop.extfp16", F16, F32),
    ("amct.customop.extint8", F32, np.int8),
    ("amct.customop.extint8", F16, np.int8),
]
WIDTHS = [(4, -8), (8, 0), (8, 127), (8, -128), (16, 1000)]


@pytest.mark.parametrize("mode", ["DEFAULT", "FORCE_FP16_QUANT"])
@pytest.mark.parametrize(
    ("domain", "x_dtype", "y_dtype", "bits", "offset"),
    [(*flavour, *width) for flavour in FLAVOURS for width in WIDTHS if not (flavour[2] is np.int8 and width[0] == 16)],
)
def test_flavours_equal_reference(run_op, to_dtype, isa, domain, x_dtype, y_dtype, mode, bits, offset):
    int8_output = y_dtype is np.int8
    x = to_dtype(np.concatenate([VALUES, np.linspace(-300, 300, 4099, dtype=F32)]), x_dtype)
    attributes = (
        f'scale: float = 0.731, offset: float = {offset}.0, dst_type: string = "INT{bits}", '
        f'fakequant_precision_mode: string = "{mode}"'
    )
    graph = quant_graph(domain, ONNX[np.dtype(x_dtype)], ONNX[np.dtype(y_dtype)], attributes)
    (y,) = run_op(graph, {"x": x})
    assert y.dtype == y_dtype
    want = reference.ascend_quant(x, F32(0.731), offset, bits, mode=mode, int8_output=int8_output)
    np.testing.assert_array_equal(y, want.astype(y_dtype))
    if int8_output:
        assert y[13] == 0  # NaN


def test_tiny_and_huge_scales_in_half_precision(run_op):
    x = np.linspace(-200, 200, 77, dtype=F32)
    for scale in (1e-6, 70000.0):
        attributes = f'scale: float = {scale!r}, fakequant_precision_mode: string = "FORCE_FP16_QUANT"'
        (y,) = run_op(quant_graph("amct.customop", "float", "float", attributes), {"x": x})
        np.testing.assert_array_equal(y, reference.ascend_quant(x, F32(scale), mode="FORCE_FP16_QUANT"))


@pytest.mark.parametrize("shape", [(), (0,), (1,), (2, 3, 5), (1, 3, 64, 65)])
def test_shapes(run_op, shape):
    dims = f"[{','.join(map(str, shape))}]" if shape else ""
    graph = f"g (float{dims} x) => (float{dims} y) {{ y = amct.customop.AscendQuant <scale: float = 2.0> (x) }}"
    x = np.full(shape, 1.3, F32)
    (y,) = run_op(graph, {"x": x})
    assert y.shape == shape
    np.testing.assert_array_equal(y, np.full(shape, 3.0, F32))


def test_unknown_rank_is_not_taken_for_a_scalar(make_session):
    graph = """g (float x, int64[K] shape) => (y) {
        r = Reshape (x, shape)
        y = amct.customop.AscendQuant <scale: float = 2.0> (r) }"""
    session = make_session(graph.replace("(y)", "(float[A,B] y)"))
    (y,) = session.run(None, {"x": np.array(1.3, F32), "shape": np.array([1, 1], np.int64)})
    assert y.shape == (1, 1)


def test_shape_inference_keeps_names(make_session):
    graph = "g (float[batch,3] x) => (float y) { y = amct.customop.AscendQuant <scale: float = 2.0> (x) }"
    graph = graph.replace("(float y)", "(float[batch,3] y)")
    assert make_session(graph).get_outputs()[0].shape == ["batch", 3]


def test_legacy_quant(run_op, to_dtype):
    for onnx_type, dtype in (("float", F32), ("float16", F16)):
        graph = (
            f"g ({onnx_type}[N] x) => ({onnx_type}[N] y) "
            "{ y = amct.customop.Quant <scale: float = 1.5, offset: int = -3, quant_bit: int = 6> (x) }"
        )
        x = to_dtype(VALUES, dtype)
        (y,) = run_op(graph, {"x": x})
        np.testing.assert_array_equal(y, reference.quant(x, 1.5, -3, 6).astype(dtype))


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ("offset: float = 1.0", "attribute 'scale' is missing"),
        ("scale: int = 2", "attribute 'scale' is of type INT, expected FLOAT"),
        ('scale: string = "2"', "attribute 'scale' is of type STRING, expected FLOAT"),
        ("scale: float = -1.0", "attribute 'scale' is -1, expected a finite number > 0"),
        ("scale: float = 0.0", "attribute 'scale' is 0, expected a finite number > 0"),
        ("scale: float = 1.0, offset: float = 128.0", "attribute 'offset' is 128, expected an integer in [-128, 127]"),
        ("scale: float = 1.0, offset: float = 0.5", "attribute 'offset' is 0.5, expected an integer"),
        ('scale: float = 1.0, offset: float = 8.0, dst_type: string = "INT4"', "expected an integer in [-8, 7]"),
        ('scale: float = 1.0, dst_type: string = "INT7"', "attribute 'dst_type' is \"INT7\", expected INT4, INT8"),
        ("scale: float = 1.0, dst_type: int = 2", "attribute 'dst_type' is of type INT, expected STRING"),
        ('scale: float = 1.0, fakequant_precision_mode: string = "FAST"', "expected DEFAULT or FORCE_FP16_QUANT"),
    ],
)
def test_bad_attributes_are_refused(make_session, attributes, message):
    graph = f"g (float[N] x) => (float[N] y) {{ y = amct.customop.AscendQuant <{attributes}> (x) }}"
    with pytest.raises(Exception, match="AscendQuant node 'node_y': ") as caught:
        make_session(graph)
    assert message in str(caught.value)


def test_non_finite_attributes_are_refused():
    header = '<ir_version: 8, opset_import: ["": 17, "amct.customop": 1]>'
    text = header + quant_graph("amct.customop", "float", "float")
    for value in (np.nan, np.inf):
        model = ir.from_onnx_text(text)
        next(iter(model.graph)).attributes["scale"] = ir.AttrFloat32("scale", value)
        with pytest.raises(Exception, match=r"attribute 'scale' is (nan|inf), expected a finite number"):
            onnxruntime_module().InferenceSession(
                ir.to_proto(model).SerializeToString(),
                session_options(log_severity_level=4),
                providers=["CPUExecutionProvider"],
            )


def test_int8_output_refuses_16_bits(make_session):
    with pytest.raises(Exception, match="expected INT4 or INT8 for an int8 output"):
        make_session(
            quant_graph("amct.customop.extint8", "float", "int8", 'scale: float = 1.0, dst_type: string = "INT16"')
        )


def test_trailing_blanks_of_strings_are_ignored(run_op):
    attributes = 'scale: float = 2.0, dst_type: string = "INT4  "'
    (y,) = run_op(quant_graph("amct.customop", "float", "float", attributes), {"x": np.array([100], F32)})
    assert y[0] == 7


@pytest.mark.parametrize("bits", [1, 17])
def test_legacy_quant_refuses_widths(make_session, bits):
    graph = (
        "g (float[N] x) => (float[N] y) "
        f"{{ y = amct.customop.Quant <scale: float = 1.0, quant_bit: int = {bits}> (x) }}"
    )
    with pytest.raises(Exception, match=rf"attribute 'quant_bit' is {bits}, expected an integer in \[2, 16\]"):
        make_session(graph)


def test_dimensions_without_a_name_are_not_taken_for_equal(make_session, capfd):
    """Unnamed dimensions of different size once looked alike to the memory planner, which then warned in every run."""
    graph = """g (float[?,3,?,?] x) => (float[?,3,?,?] y) {
        a = amct.customop.AscendQuant <scale: float = 2.0> (x)
        b = MaxPool <kernel_shape = [2,2], strides = [2,2]> (a)
        c = amct.customop.AscendQuant <scale: float = 2.0> (b)
        d = MaxPool <kernel_shape = [2,2], strides = [2,2]> (c)
        e = amct.customop.AscendQuant <scale: float = 2.0> (d)
        y = Relu (e)
    }"""
    session = make_session(graph, log_severity_level=2)
    (y,) = session.run(None, {"x": np.ones((1, 3, 16, 8), F32)})
    assert y.shape == (1, 3, 4, 2)
    assert "Shape mismatch" not in capfd.readouterr().err
