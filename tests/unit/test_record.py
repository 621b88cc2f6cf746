"""The record file: AMCT's layout, what may be read, and every load rule."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from ort_quant_plugin.errors import OutputError, RecordError
from ort_quant_plugin.layers import Layer, LayerTable
from ort_quant_plugin.record import LayerRecord, Record, RecordKey, input_key, output_key, resolve_key

# The example of AMCT's manual (values invented there): fields in the order the operators insert them.
EXAMPLE = """\
record {
  key: "stem_conv"
  value {
    scale_d: 0.0183456
    offset_d: -128
    act_type: "INT8"
    op_data_type: 'FLOAT32'
    scale_w: 0.0021
    scale_w: 0.0034
    scale_w: 0.0009
    offset_w: 0
    offset_w: 0
    offset_w: 0
    wts_type: "INT8"
    skip_fusion: false
  }
}
record {
  key: "head_fc"
  value {
    scale_d: 0.051
    offset_d: 3
    scale_w: 0.0042
    offset_w: 0
    tensor_balance_factor: 0.97
    tensor_balance_factor: 1.31
  }
}
record {
  key: "maxpool_3:0"
  value {
    scale_d: 0.0231
    offset_d: -128
    is_tensor_quantize: true
    act_type: "INT8"
  }
}
"""

# What protobuf prints for it: fields by number, double quotes, shortest float32 decimals.
CANONICAL = """\
record {
  key: "stem_conv"
  value {
    scale_d: 0.0183456
    offset_d: -128
    scale_w: 0.0021
    scale_w: 0.0034
    scale_w: 0.0009
    offset_w: 0
    offset_w: 0
    offset_w: 0
    skip_fusion: false
    op_data_type: "FLOAT32"
    act_type: "INT8"
    wts_type: "INT8"
  }
}
record {
  key: "head_fc"
  value {
    scale_d: 0.051
    offset_d: 3
    scale_w: 0.0042
    offset_w: 0
    tensor_balance_factor: 0.97
    tensor_balance_factor: 1.31
  }
}
record {
  key: "maxpool_3:0"
  value {
    scale_d: 0.0231
    offset_d: -128
    is_tensor_quantize: true
    act_type: "INT8"
  }
}
"""


def _node(op_type, inputs):
    return ir.node(op_type, [ir.Value(name=f"x{i}") for i in range(inputs)])


@pytest.fixture
def table():
    weight = ir.Value(name="w")
    conv = {"weight": weight, "channel_wise": True, "weight_bits": (6, 7, 8)}
    return LayerTable(
        [
            Layer("stem_conv", "Conv", _node("Conv", 2), out_channels=3, in_channels=3, **conv),
            Layer("head_fc", "Gemm", _node("Gemm", 2), weight=weight, out_channels=5, in_channels=2),
            Layer("maxpool_3", "MaxPool", _node("MaxPool", 1), kind="tensor"),
            Layer("avg", "AveragePool", _node("AveragePool", 1), balance=False),
            Layer("odd", "MatMul", _node("MatMul", 2), reason="both inputs are variable"),
        ]
    )


def read(tmp_path, text):
    path = tmp_path / "record.txt"
    path.write_text(text)
    return Record.read(path)


def entry(key="stem_conv", **values):
    complete = {
        "scale_d": 0.5,
        "offset_d": 3,
        "scale_w": (0.25,),
        "offset_w": (0,),
        "act_type": "INT8",
        "wts_type": "INT8",
    }
    return LayerRecord(key, **{**complete, **values})


def record_of(*entries):
    record = Record()
    for one in entries:
        record.add(one)
    return record


def test_example_is_read_and_validated(tmp_path, table):
    record = read(tmp_path, EXAMPLE)
    assert list(record) == ["stem_conv", "head_fc", "maxpool_3:0"]
    stem = record["stem_conv"]
    assert stem.scale_d == float(np.float32(0.0183456))
    assert stem.scale_w == tuple(np.float32([0.0021, 0.0034, 0.0009]).tolist())
    assert (stem.offset_d, stem.offset_w, stem.skip_fusion) == (-128, (0, 0, 0), False)
    assert (stem.op_data_type, stem.act_type, stem.wts_type) == ("FLOAT32", "INT8", "INT8")
    assert record["head_fc"].tensor_balance_factor == tuple(np.float32([0.97, 1.31]).tolist())
    assert record["maxpool_3:0"].is_tensor_quantize is True
    remarks = record.validate(table)
    assert [r.split(": ", 1)[1] for r in remarks] == [
        "1 entries have no act_type (first: 'head_fc'); INT8 is assumed.",
        "1 entries have no wts_type (first: 'head_fc'); INT8 is assumed.",
    ]


def test_written_as_protobuf_prints_it(tmp_path):
    record = read(tmp_path, EXAMPLE)
    assert record.to_text() == CANONICAL
    record.write(tmp_path / "new" / "copy.txt")
    assert (tmp_path / "new" / "copy.txt").read_text() == CANONICAL
    assert Record.read(tmp_path / "new" / "copy.txt") == record


def test_layout_the_operators_search_for():
    text = record_of(LayerRecord("conv", scale_w=(0.5,), offset_w=(0,)), LayerRecord("pool")).to_text()
    assert 'record {\n  key: "conv"\n  value {\n    scale_w: 0.5\n' in text
    assert 'record {\n  key: "pool"\n  value {\n  }\n}\n' in text


def test_inserted_lines_win_over_nothing_and_duplicates_over_older_ones(tmp_path):
    record = read(
        tmp_path,
        "record { key: 'a' value {\n    scale_d: 0.5\n    scale_d: 0.25\n    offset_d: 1\n    offset_d: -2\n  }\n}\n",
    )
    assert (record["a"].scale_d, record["a"].offset_d) == (0.25, -2)


def test_values_are_float32():
    one = LayerRecord("a", scale_d=0.1, scale_w=(0.1, 1e-30), tensor_balance_factor=np.float64([0.3]))
    assert one.scale_d == float(np.float32(0.1)) != 0.1
    assert one.scale_w == (float(np.float32(0.1)), float(np.float32(1e-30)))
    assert one.tensor_balance_factor == (float(np.float32(0.3)),)
    assert LayerRecord("a", scale_d=1e50).scale_d == float("inf")


def test_names_of_any_kind_survive(tmp_path):
    keys = ["model/conv:0", "层", 'quo"te', "back\\slash", "new\nline", "a b"]
    record = record_of(*(LayerRecord(key, scale_d=1.0, offset_d=0) for key in keys))
    assert list(read(tmp_path, record.to_text())) == keys
    assert 'key: "层"' in record.to_text()


def test_extras_of_other_editions_are_kept(tmp_path):
    text = (
        "record { key: 'rnn' value { scale_d: 1 offset_d: 0 scale_h: 0.5 offset_h: -3 scale_r: [1, 2] offset_r: [0, 0]"
        " cluster: [1, 2] dst_type: 'INT8' fakequant_precision_mode: 'FORCE_FP16_QUANT' } }"
    )
    extras = read(tmp_path, text)["rnn"].extras
    assert extras == {
        "scale_h": 0.5,
        "offset_h": -3,
        "scale_r": (1.0, 2.0),
        "offset_r": (0, 0),
        "cluster": (1, 2),
        "dst_type": "INT8",
        "fakequant_precision_mode": "FORCE_FP16_QUANT",
    }
    assert read(tmp_path, read(tmp_path, text).to_text())["rnn"].extras == extras


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "record_file is empty, no layers to be quantized"),
        ("  # only a comment\n", "record_file is empty, no layers to be quantized"),
        ("record {\n  key: 'a'\n  valu {}\n}", r"record.txt, line 3, column 3: .* no field named \"valu\""),
        ("record { key: 'a' value { scale_d: x } }", r"line 1, column 36: .*Couldn't parse float: x"),
        ("record { key: 'a' value { scale_d: 1 }", "not a valid ScaleOffsetRecord text"),
        ("record { key: '\\377' }", "not a valid ScaleOffsetRecord text"),
        ("record { key: 'a' }", "entry 1 has no value"),
        ("record { value {} }", "entry 1 has no key"),
        ("record {}", "entry 1 has no key and no value"),
        ("record { key: 'a' value {} } record { key: 'a' value {} }", "layer 'a' appears twice"),
    ],
)
def test_unreadable_records(tmp_path, text, message):
    with pytest.raises(RecordError, match=message) as caught:
        read(tmp_path, text)
    assert caught.value.hint
    assert isinstance(caught.value, RuntimeError)


def test_missing_and_binary_files(tmp_path):
    with pytest.raises(RecordError, match=r"Record file '.*gone.txt' does not exist"):
        Record.read(tmp_path / "gone.txt")
    (tmp_path / "binary").write_bytes(b"record\xff")
    with pytest.raises(RecordError, match=r"is not UTF-8 text \(byte 6\)"):
        Record.read(tmp_path / "binary")


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "record.txt"
    path.write_text("old")
    with pytest.raises(RecordError, match=r"Layer 'a': offset_d = 4294967296 cannot be written"):
        record_of(LayerRecord("a", offset_d=2**32)).write(path)
    with pytest.raises(RecordError, match="the record format has no field 'colour'"):
        record_of(LayerRecord("a", extras={"colour": "red"})).write(path)
    assert path.read_text() == "old"
    with pytest.raises(OutputError, match="Cannot write"):
        record_of(entry()).write(tmp_path / "record.txt" / "below")
    assert [p.name for p in tmp_path.iterdir()] == ["record.txt"]


def test_keys():
    layers = {"conv": 1, "conv:0": 1, "a:b": 1}
    assert resolve_key("conv", layers) == RecordKey("conv", "layer")
    assert resolve_key("conv:0", layers) == RecordKey("conv:0", "layer")  # an exact name goes first
    assert resolve_key("conv:1", layers) == RecordKey("conv", "input", 1)
    assert resolve_key("conv:0:1", layers) == RecordKey("conv:0", "input", 1)
    assert resolve_key(output_key("a:b"), layers) == RecordKey("a:b", "output")
    assert resolve_key(input_key("a:b", 12), layers) == RecordKey("a:b", "input", 12)
    for unknown in ("gone", "gone:0", "conv:x", "conv:-1", "conv:", "conv:²", ":0"):
        assert resolve_key(unknown, layers) is None


def test_valid_records(table):
    balanced = entry(tensor_balance_factor=(1.0, 2.0, 0.5), scale_w=(1, 2, 3), offset_w=(0, 0, 0), wts_type="INT7")
    assert record_of(balanced).validate(table) == []
    assert record_of(entry(shift_bit=(4,))).validate(table) == []
    assert record_of(entry(shift_bit=(0,))).validate(table) == []
    assert record_of(entry("avg", scale_w=(1.0,))).validate(table) == []
    assert record_of(entry("avg", scale_w=(), offset_w=())).validate(table) == []
    output = entry("odd:output", scale_w=(), offset_w=(), is_tensor_quantize=True)
    assert record_of(output).validate(table) == []
    assert record_of(LayerRecord("stem_conv", skip_fusion=True)).validate(table) == []


def test_before_calibration_only_weights_are_needed(table):
    record = record_of(entry(scale_d=None, offset_d=None), LayerRecord("avg"))
    assert record.validate(table, need_activations=False) == []
    with pytest.raises(RecordError) as caught:
        record.validate(table)
    assert caught.value.message == (
        "cannot find scale_d of layer stem_conv in record_file, please check data calibration process!"
    )
    assert "2 of the entries" in caught.value.hint
    balancing = record_of(LayerRecord("stem_conv", tensor_balance_factor=(1, 1, 1)))
    assert balancing.validate(table, need_activations=False, need_weights=False) == []


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (entry("gone"), "layer 'gone' does not exist in the model"),
        (entry("maxpool"), "layer 'maxpool' does not exist in the model"),
        (entry("odd"), "layer 'odd' does not support quantization: both inputs are variable"),
        (entry("maxpool_3"), r"of MaxPool only an input tensor is quantized \('maxpool_3:0'\)"),
        (entry("head_fc:0"), "Gemm is quantized as a layer, under its own name"),
        (entry("maxpool_3:1"), "the node has 1 inputs"),
        (entry(is_tensor_quantize=True), "is_tensor_quantize is True; expected false"),
        (entry(scale_d=None), "cannot find scale_d of layer stem_conv in record_file"),
        (entry(offset_d=None), "cannot find offset_d of layer stem_conv in record_file"),
        (entry(scale_d=0.0), "scale_d is 0.0; expected a finite number above 0"),
        (entry(scale_d=-1.0), "scale_d is -1.0"),
        (entry(scale_d=float("nan")), "scale_d is nan"),
        (entry(scale_d=float("inf")), "scale_d is inf"),
        (entry(offset_d=128), r"offset_d is 128; expected an integer in \[-128, 127\]"),
        (entry(offset_d=-129), "offset_d is -129"),
        (entry(scale_w=(), offset_w=()), "scale_w is None; expected the weight's scale"),
        (entry(offset_w=()), "offset_w is '0 values'; expected as many as scale_w"),
        (entry(scale_w=(1, 1), offset_w=(0, 0)), "scale_w is '2 values'; expected 1 or 3 for this Conv"),
        (entry("head_fc", scale_w=(1,) * 5, offset_w=(0,) * 5), "expected 1 for this Gemm"),
        (entry("avg", scale_w=(1, 1), offset_w=(0, 0)), "expected 1 for this AveragePool"),
        (entry(scale_w=(1, 0, 1), offset_w=(0, 0, 0)), "scale_w is 0.0; expected a finite number above 0"),
        (entry(scale_w=(float("inf"),)), "scale_w is inf"),
        (entry(offset_w=(1,)), "offset_w is 1; expected 0"),
        (entry(shift_bit=(17,)), r"shift_bit is 17; expected all 0, or every value in \[1, 16\]"),
        (entry(scale_w=(1, 1, 1), offset_w=(0, 0, 0), shift_bit=(0, 1, 1)), "shift_bit is 0; expected all 0"),
        (entry(shift_bit=(1, 1)), "shift_bit is '2 values'"),
        (entry("avg", shift_bit=(1,)), "shift_bit is 1; expected none for AveragePool.*Please delete shift_bit"),
        (entry(tensor_balance_factor=(1, 1)), r"tensor_balance_factor is '2 values'; expected 3 \(input channels\)"),
        (entry(tensor_balance_factor=(1, 0, 1)), "tensor_balance_factor is 0.0; expected a value in"),
        (entry(tensor_balance_factor=(1, 1e8, 1)), "tensor_balance_factor is 100000000.0"),
        (entry("avg", tensor_balance_factor=(1,)), "expected none for AveragePool"),
        (entry(act_type="int8"), "act_type is 'int8'; expected one of INT4, INT8, INT16"),
        (entry(act_type="INT16"), "act_type is 'INT16'; expected INT8"),
        (entry(wts_type="INT16"), "wts_type is 'INT16'; expected one of INT4, INT6, INT7, INT8"),
        (entry(wts_type="INT4"), "wts_type is 'INT4'; expected INT6, INT7, INT8 for this Conv"),
        (entry("head_fc", wts_type="INT7"), "wts_type is 'INT7'; expected INT8 for this Gemm"),
        (entry(op_data_type="BF16"), "op_data_type is 'BF16'; expected one of FLOAT32, FLOAT16"),
        (entry(extras={"cluster": (1,) * 8}), "cluster is '8 values'"),
        (entry("maxpool_3:0"), "scale_w is 0.25; expected none for an input tensor"),
        (entry("stem_conv:output", scale_w=()), "offset_w is 0; expected none for an output tensor"),
    ],
)
def test_load_rules(table, bad, message):
    good = entry("avg", scale_w=(), offset_w=())
    with pytest.raises(RecordError, match=message) as caught:
        record_of(good if bad.key != "avg" else entry(), bad).validate(table)
    assert caught.value.details["layer"] == bad.key
    assert caught.value.hint
