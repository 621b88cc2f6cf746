"""Models written by hand exactly as AMCT writes them run with our library, loaded the way AMCT's users load theirs."""

from __future__ import annotations

import re

import numpy as np
import onnx_ir as ir
import pytest

import ort_quant_plugin as oq

FLOAT = ir.TensorType(ir.DataType.FLOAT)
RNG = np.random.default_rng(11)
WEIGHT = RNG.normal(size=(4, 3, 3, 3)).astype(np.float32)
BIAS = RNG.normal(size=4).astype(np.float32)


def constant(name, array):
    return ir.val(name, const_value=ir.tensor(array, name=name))


def save(path, x, outputs, nodes, constants):
    for value in outputs:
        value.type = FLOAT
    opsets = {"": 11, "amct.customop": 1}
    graph = ir.Graph([x], outputs, nodes=nodes, initializers=constants, opset_imports=opsets, name="torch-jit-export")
    ir.save(ir.Model(graph, ir_version=6, producer_name="pytorch"), path)
    return str(path)


def session(path):
    """What a script for AMCT does with its own SessionOptions."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.register_custom_ops_library(oq.get_library_path())
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def ifmr_model(path, record, batch_num=2, layers=("Conv_0",)):
    x = ir.val("input", dtype=ir.DataType.FLOAT, shape=("N", 3, 8, 8))
    w, b = constant("weight", WEIGHT), constant("bias", BIAS)
    ifmr = ir.node(
        "IFMR",
        [x],
        {
            "input_stamp": "data",
            "batch_num": batch_num,
            "num_bits": 8,
            "with_offset": 1,
            "start_ratio": 0.7,
            "end_ratio": 1.3,
            "step": 0.01,
            "max_percentile": 0.999999,
            "min_percentile": 0.999999,
            "need_dump": 0,
            "dump_dir": " ",
            "record_file_path": str(record),
            "check_criterion": 0,
            "fakequant_precision_mode": "DEFAULT",
            "layer_num": len(layers),
            **{f"object_layer{i}": name for i, name in enumerate(layers)},
        },
        domain="amct.customop",
        name=f"{layers[0]}_ifmr_op",
    )
    conv = ir.node("Conv", [x, w, b], {"pads": [1, 1, 1, 1]}, name="Conv_0")
    return save(path, x, [conv.outputs[0]], [ifmr, conv], [w, b])


RECORD = """record {
  key: "Conv_0"
  value {
    scale_w: 0.01
    scale_w: 0.02
    offset_w: 0
    offset_w: 0
    wts_type: "INT8"
    skip_fusion: false
  }
}
record {
  key: "Conv_7"
  value {
  }
}
"""


def test_calibration_model(tmp_path):
    record = tmp_path / "record.txt"
    record.write_text(RECORD)
    calibration = session(ifmr_model(tmp_path / "modified.onnx", record, layers=("Conv_0", "Conv_7")))
    batches = RNG.normal(size=(3, 2, 3, 8, 8)).astype(np.float32)
    calibration.run(None, {"input": batches[0]})
    assert record.read_text() == RECORD, "written before the batch_num-th run"
    (output,) = calibration.run(None, {"input": batches[1]})
    assert output.shape == (2, 4, 8, 8)
    written = record.read_text()
    pattern = (
        r'key: "Conv_0"\n  value \{\n    scale_d: (\S+)\n    offset_d: (\S+)\n    act_type: "INT8"\n'
        r"    op_data_type: 'FLOAT32'\n    scale_w: 0.01\n"
    )
    scale, offset = re.search(pattern, written).groups()
    data = batches[:2]
    # The upper bound is one of 60 candidates between 0.7 and 1.29 times the maximum, the lower bound the minimum.
    ratio = (float(scale) * 255 + float(data.min())) / float(data.max())
    assert any(abs(ratio - (0.7 + 0.01 * i)) < 1e-4 for i in range(60))
    assert int(offset) == round(-float(data.min()) / float(scale)) - 128
    assert written.count(f"scale_d: {scale}") == 2
    calibration.run(None, {"input": batches[2]})
    assert record.read_text() == written, "a later run changed the result"


def test_fake_quant_model(tmp_path):
    scale_d, offset, scale_w = np.float32(0.03), 5, np.float32([0.01, 0.02, 0.015, 0.03])
    integers = np.clip(np.rint(WEIGHT / scale_w.reshape(-1, 1, 1, 1)), -128, 127).astype(np.float32)
    bias = np.rint(BIAS / (scale_d * scale_w)).astype(np.float32)
    packed = (scale_d * scale_w).view(np.uint32).astype(np.uint64)
    x = ir.val("input", dtype=ir.DataType.FLOAT, shape=("N", 3, 8, 8))
    w, b, p = constant("w", integers), constant("b", bias), constant("Conv_0.dequant.param", packed)
    custom = {"domain": "amct.customop"}
    quant = ir.node(
        "AscendQuant",
        [x],
        {"scale": float(1 / scale_d), "offset": float(offset), "dst_type": "INT8"},
        name="Conv_0.quant",
        **custom,
    )
    conv = ir.node("Conv", [quant.outputs[0], w, b], {"pads": [1, 1, 1, 1]}, name="Conv_0")
    dequant = ir.node("AscendDequant", [conv.outputs[0], p], name="Conv_0.dequant", **custom)
    path = save(tmp_path / "fake.onnx", x, [dequant.outputs[0]], [quant, conv, dequant], [w, b, p])
    data = RNG.normal(size=(2, 3, 8, 8)).astype(np.float32)
    (actual,) = session(path).run(None, {"input": data})

    q = np.clip(np.rint(data * np.float32(1 / scale_d)) + offset, -128, 127).astype(np.int64) - offset
    padded = np.pad(q, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    sums = np.einsum("nchwij,ocij->nohw", windows, integers.astype(np.int64)) + bias.astype(np.int64)[:, None, None]
    expected = sums.astype(np.float32) * (scale_d * scale_w)[:, None, None]
    np.testing.assert_array_equal(actual, expected)


def test_legacy_quant_and_dequant(tmp_path):
    x = ir.val("input", dtype=ir.DataType.FLOAT, shape=("N", 4))
    shift, scale = constant("shift", np.zeros(1, np.float32)), constant("scale", np.float32([0.5]))
    custom = {"domain": "amct.customop"}
    quant = ir.node("Quant", [x], {"scale": 2.0, "offset": 3, "quant_bit": 8}, name="q", **custom)
    dequant = ir.node("Dequant", [quant.outputs[0], shift, scale], {"clip_mode": 32}, name="d", **custom)
    path = save(tmp_path / "legacy.onnx", x, [dequant.outputs[0]], [quant, dequant], [shift, scale])
    (actual,) = session(path).run(None, {"input": np.float32([[0.0, 0.6, -1.1, 1000.0]])})
    # rint(x·2) + 3 clipped to [−128, 127], minus 3, times 0.5
    np.testing.assert_array_equal(actual, np.float32([[0.0, 0.5, -1.0, 62.0]]))


def test_missing_record_file_is_said(tmp_path):
    calibration = session(ifmr_model(tmp_path / "m.onnx", tmp_path / "none.txt", batch_num=1))
    with pytest.raises(Exception, match=r"(?s)Conv_0_ifmr_op.*record file .*none.txt"):
        calibration.run(None, {"input": np.ones((1, 3, 8, 8), np.float32)})


def test_the_whole_amct_script(tmp_path, cosine):
    """The documented script, with nothing changed but the import."""
    import onnxruntime as ort

    import ort_quant_plugin as amct

    x = ir.val("input", dtype=ir.DataType.FLOAT, shape=("N", 3, 8, 8))
    w, b = constant("weight", WEIGHT), constant("bias", BIAS)
    conv = ir.node("Conv", [x, w, b], {"pads": [1, 1, 1, 1]}, name="Conv_0")
    model = save(tmp_path / "net.onnx", x, [conv.outputs[0]], [conv], [w, b])
    config, record = str(tmp_path / "config.json"), str(tmp_path / "record.txt")
    modified, result = str(tmp_path / "modified.onnx"), str(tmp_path / "results" / "net")

    amct.create_quant_config(
        config_file=config,
        model_file=model,
        skip_layers=[],
        batch_num=2,
        activation_offset=True,
        config_defination=None,
    )
    amct.quantize_model(config_file=config, model_file=model, modified_onnx_file=modified, record_file=record)
    calibration = ort.InferenceSession(modified, amct.AMCT_SO)
    for _ in range(2):
        calibration.run(None, {"input": RNG.normal(size=(2, 3, 8, 8)).astype(np.float32)})
    amct.save_model(modified_onnx_file=modified, record_file=record, save_path=result)

    assert (tmp_path / "results" / "net_deploy_model.onnx").is_file()
    assert (tmp_path / "results" / "net_quant.json").is_file()
    fake = ort.InferenceSession(str(tmp_path / "results" / "net_fake_quant_model.onnx"), amct.AMCT_SO)
    data = {"input": RNG.normal(size=(2, 3, 8, 8)).astype(np.float32)}
    assert cosine(fake.run(None, data)[0], ort.InferenceSession(model).run(None, data)[0]) > 0.999
