"""Whatever a record or a configuration holds, writing and reading it back changes nothing."""

from __future__ import annotations

import json
import struct

import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ort_quant_plugin.config import (
    ActivationConfig,
    LayerConfig,
    QuantConfig,
    TensorConfig,
    WeightConfig,
    config_to_json,
    read_config,
    read_simple_config,
)
from ort_quant_plugin.errors import OrtQuantError
from ort_quant_plugin.layers import Layer, LayerTable
from ort_quant_plugin.record import LayerRecord, Record

NAMES = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), min_size=1, max_size=12)
FLOATS = st.floats(width=32, allow_nan=False)
INTS = st.integers(-(2**31), 2**31 - 1)
ENTRIES = st.builds(
    LayerRecord,
    key=NAMES,
    scale_d=st.none() | FLOATS,
    offset_d=st.none() | INTS,
    scale_w=st.lists(FLOATS, max_size=4).map(tuple),
    offset_w=st.lists(INTS, max_size=4).map(tuple),
    shift_bit=st.lists(st.integers(0, 2**32 - 1), max_size=3).map(tuple),
    skip_fusion=st.none() | st.booleans(),
    is_tensor_quantize=st.booleans(),
    tensor_balance_factor=st.lists(FLOATS, max_size=3).map(tuple),
    op_data_type=st.none() | NAMES,
    act_type=st.none() | NAMES,
    wts_type=st.none() | NAMES,
    extras=st.fixed_dictionaries({}, optional={"scale_h": FLOATS, "offset_h": INTS, "dst_type": NAMES}),
)
RECORDS = st.lists(ENTRIES, min_size=1, max_size=5, unique_by=lambda e: e.key).map(
    lambda entries: Record((e.key, e) for e in entries)
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("files")


def bits(value):
    return struct.pack("<f", value)


def hints_if_refused(reader, *arguments):
    """True when the file was read or refused with an error of ours that tells the cure; other errors pass through."""
    try:
        reader(*arguments)
    except OrtQuantError as error:
        return bool(error.hint)
    return True


@given(record=RECORDS)
def test_record_round_trip(folder, record):
    path = folder / "record.txt"
    record.write(path)
    assert Record.read(path) == record
    assert Record.read(path).to_text() == record.to_text()


@given(value=FLOATS)
def test_scales_survive_to_the_last_bit(folder, value):
    record = Record(a=LayerRecord("a", scale_d=value, offset_d=0))
    record.write(folder / "scale.txt")
    assert bits(Record.read(folder / "scale.txt")["a"].scale_d) == bits(value)


@given(record=RECORDS)
def test_record_layout_is_the_one_the_operators_rely_on(record):
    """Two spaces, four spaces, one field a line: nothing else, whatever the names."""
    lines = record.to_text().split("\n")
    assert lines.pop() == ""
    for line in lines:
        assert line in ("record {", "  value {", "  }", "}") or line.startswith(("  key: ", "    "))
    assert sum(line == "record {" for line in lines) == len(record)


@given(
    names=st.lists(st.from_regex(r"[A-Za-z0-9_/:.\-]{1,12}", fullmatch=True), min_size=1, max_size=4, unique=True),
    data=st.data(),
    scale=st.floats(2.0**-100, 2.0**100, width=32),
    offset=st.integers(-128, 127),
)
def test_text_inserted_by_an_operator_keeps_the_file_readable(folder, names, data, scale, offset):
    """IFMR and HFMG put their lines right behind the literal they search for."""
    record = Record((n, LayerRecord(n, scale_w=(0.5,), offset_w=(0,), wts_type="INT8")) for n in names)
    layer = data.draw(st.sampled_from(names))
    text = record.to_text()
    anchor = f'key: "{layer}"\n  value {{\n'
    assert text.count(anchor) == 1
    inserted = (
        f"    scale_d: {scale:.10g}\n    offset_d: {offset}\n    act_type: \"INT8\"\n    op_data_type: 'FLOAT32'\n"
    )
    (folder / "inserted.txt").write_text(text.replace(anchor, anchor + inserted))
    again = Record.read(folder / "inserted.txt")
    assert bits(again[layer].scale_d) == bits(scale)
    assert (again[layer].offset_d, again[layer].act_type, again[layer].op_data_type) == (offset, "INT8", "FLOAT32")
    assert again[layer].scale_w == (0.5,)
    assert all(again[n] == record[n] for n in names if n != layer)


@given(
    text=st.text(max_size=60) | st.from_regex(r"record \{( (key|value|scale_d) ?[:{} '\"0-9a-z.]*)*", fullmatch=True)
)
def test_any_text_is_a_record_or_a_record_error(folder, text):
    path = folder / "any.txt"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    assert hints_if_refused(Record.read, path)


IFMR = st.tuples(
    *(st.floats(0.5, 1.0, exclude_min=True) for _ in range(2)),
    st.floats(0.1, 1.0),
    st.floats(1.1, 3.0),
    st.floats(0.001, 0.1),
).map(lambda v: {"max_percentile": v[0], "min_percentile": v[1], "search_range": (v[2], v[3]), "search_step": v[4]})
ACTIVATIONS = st.one_of(
    st.builds(ActivationConfig, st.just("ifmr"), st.just(8), st.booleans(), IFMR),
    st.builds(
        ActivationConfig,
        st.just("hfmg"),
        st.just(8),
        st.booleans(),
        st.sampled_from([1024, 2048, 4096, 8192]).map(lambda n: {"num_of_bins": n}),
    ),
)
CONV = st.builds(
    LayerConfig,
    st.booleans(),
    ACTIVATIONS,
    st.builds(WeightConfig, num_bits=st.sampled_from([6, 7, 8]), channel_wise=st.booleans()),
    st.none() | st.floats(0.2, 0.8),
)
POOL = st.builds(LayerConfig, st.booleans(), ACTIVATIONS, st.none())
CONFIGS = st.builds(
    QuantConfig,
    batch_num=st.integers(1, 10**6),
    activation_offset=st.booleans(),
    do_fusion=st.booleans(),
    fakequant_precision_mode=st.sampled_from(["DEFAULT", "FORCE_FP16_QUANT"]),
    skip_fusion_layers=st.sampled_from([(), ("conv",), ("b:conv", "conv")]),
    tensor_quantize=st.lists(st.builds(TensorConfig, st.just("pool"), st.just(0), ACTIVATIONS), max_size=1).map(tuple),
    layers=st.fixed_dictionaries({}, optional={"conv": CONV, "b:conv": CONV, "avg": POOL}),
)


@pytest.fixture(scope="module")
def table():
    def node(op_type):
        return ir.node(op_type, [ir.Value(name="x")])

    conv = {"weight": ir.Value(name="w"), "channel_wise": True, "weight_bits": (6, 7, 8)}
    return LayerTable(
        [
            Layer("conv", "Conv", node("Conv"), **conv),
            Layer("b:conv", "Conv", node("Conv"), **conv),
            Layer("avg", "AveragePool", node("AveragePool"), balance=False),
            Layer("pool", "MaxPool", node("MaxPool"), kind="tensor"),
        ]
    )


@given(config=CONFIGS)
def test_config_round_trip(folder, table, config):
    text = config_to_json(config)
    (folder / "config.json").write_text(text)
    again = read_config(folder / "config.json", table)
    assert again == config
    assert config_to_json(again) == text
    assert json.dumps(json.loads(text), indent=4, separators=(",", ":"), ensure_ascii=False) == text


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    *(
                        "version",
                        "batch_num",
                        "do_fusion",
                        "skip_fusion_layers",
                        "tensor_quantize",
                        "conv",
                        "avg",
                        "pool",
                    ),
                    *("quant_enable", "activation_quant_params", "weight_quant_params", "num_bits", "act_algo", "x"),
                    *("search_range", "search_step", "layer_name", "input_index", "dmq_balancer_param", "asymmetric"),
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(document=JSON_VALUES)
def test_any_json_is_a_config_or_a_typed_error(folder, table, document):
    (folder / "any.json").write_text(json.dumps(document))
    assert hints_if_refused(read_config, folder / "any.json", table)


TOKENS = st.sampled_from(
    [
        *("{", "}", ":", "[", "]", "'", "\n", "0.1", "1", "-1", "nan", "true", '"conv"'),
        *("batch_num", "skip_layers", "common_config", "override_layer_configs", "layer_name", "calibration_config"),
        *("ifmr_quantize", "hfmg_quantize", "arq_quantize", "dmq_balancer", "tensor_quantize", "input_index"),
        *("search_step", "asymmetric", "quant_bits"),
    ]
)


@given(tokens=st.lists(TOKENS, max_size=25))
def test_any_text_is_a_simple_config_or_a_typed_error(folder, table, tokens):
    (folder / "any.cfg").write_text(" ".join(tokens))
    assert hints_if_refused(read_simple_config, folder / "any.cfg", table)
