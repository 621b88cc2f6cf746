"""The simplified configuration: precedence, oneofs, float32 decimals, every refusal."""

from __future__ import annotations

import pytest

from ort_quant_plugin.config import (
    ActivationConfig,
    IncompleteConfigError,
    TensorConfig,
    default_config,
    load_config,
    read_config,
    read_simple_config,
    write_config,
)
from ort_quant_plugin.errors import ConfigError
from ort_quant_plugin.layers import LayerTable

SAMPLE = """
batch_num : 4
activation_offset : true
skip_layers : "stem"
common_config : {
    arq_quantize : { channel_wise : true }
    hfmg_quantize : { num_of_bins : 4096  asymmetric : false }
}
override_layer_types : {
    layer_type : "Gemm"
    calibration_config : { arq_quantize : { channel_wise : false }
                           ifmr_quantize : { search_range_start : 0.8 search_range_end : 1.2 search_step : 0.02 } }
}
tensor_quantize { layer_name : "pool1"  input_index : 0 }
"""


@pytest.fixture
def read(table, tmp_path):
    def reader(text):
        path = tmp_path / "quant.cfg"
        path.write_text(text)
        return read_simple_config(path, table)

    return reader


def test_sample(read):
    config = read(SAMPLE)
    assert config.batch_num == 4
    assert set(config.enabled_layers) == {"conv_a", "video", "avg", "fc"}
    assert config.layers["stem"].quant_enable is False
    hfmg = ActivationConfig("hfmg", asymmetric=False, parameters={"num_of_bins": 4096})
    assert config.layers["conv_a"].activation == hfmg
    assert config.layers["avg"].activation == hfmg
    fc = config.layers["fc"]
    assert fc.activation.algo == "ifmr"
    assert dict(fc.activation.parameters) == {
        "max_percentile": 0.999999,
        "min_percentile": 0.999999,
        "search_range": (0.8, 1.2),
        "search_step": 0.02,
    }
    assert fc.activation.asymmetric is False  # the type does not say, common_config does
    assert fc.weight.channel_wise is False
    assert config.tensor_quantize == (TensorConfig("pool1", 0),)
    assert config.warnings == ()


def test_empty_file_is_the_default(read, table):
    assert read("") == default_config(table)


def test_written_json_reads_back_equal(read, table, tmp_path):
    config = read(SAMPLE)
    write_config(config, tmp_path / "config.json")
    assert read_config(tmp_path / "config.json", table) == config


def test_load_config_tells_the_two_kinds_apart(read, table, tmp_path):
    config = read(SAMPLE)
    write_config(config, tmp_path / "config.json")
    assert load_config(tmp_path / "config.json", table) == config
    assert load_config(tmp_path / "quant.cfg", table) == config


def test_precedence_layer_type_common_offset(read):
    config = read("""
        activation_offset: true
        common_config { ifmr_quantize { asymmetric: false max_percentile: 0.9 } arq_quantize { quant_bits: 7 } }
        override_layer_types { layer_type: "Conv" calibration_config {
            hfmg_quantize { num_of_bins: 1024 asymmetric: true } } }
        override_layer_configs { layer_name: "stem" calibration_config {
            hfmg_quantize { num_of_bins: 2048 asymmetric: false } arq_quantize { channel_wise: false } } }
    """)
    acts = {name: layer.activation for name, layer in config.layers.items()}
    assert acts["stem"].parameters["num_of_bins"] == 2048
    assert acts["conv_a"].parameters["num_of_bins"] == 1024
    assert acts["fc"].parameters["max_percentile"] == 0.9
    assert [acts[n].asymmetric for n in ("stem", "conv_a", "fc")] == [False, True, False]
    # weights are decided on their own: the Conv override does not speak about them
    assert config.layers["conv_a"].weight.num_bits == 7
    assert config.layers["stem"].weight.num_bits == 8
    assert config.layers["stem"].weight.channel_wise is False
    assert config.layers["conv_a"].weight.channel_wise is True


def test_last_of_a_oneof_wins(read):
    config = read("common_config { hfmg_quantize { num_of_bins: 1024 } ifmr_quantize { search_step: 0.05 } }")
    assert config.layers["fc"].activation.algo == "ifmr"
    config = read("common_config { ifmr_quantize { search_step: 0.05 } hfmg_quantize { num_of_bins: 1024 } }")
    assert config.layers["fc"].activation.algo == "hfmg"


def test_float32_values_become_their_shortest_decimals(read):
    parameters = read("common_config { ifmr_quantize { search_range_start: 0.1 max_percentile: 0.9999999 } }")
    assert parameters.layers["fc"].activation.parameters["search_range"] == (0.1, 1.3)
    assert parameters.layers["fc"].activation.parameters["max_percentile"] == 0.9999999


def test_symmetric_only_layer(read):
    config = read("common_config { ifmr_quantize { asymmetric: true } }")
    assert config.layers["video"].activation.asymmetric is False
    assert config.warnings == ("Layer video does not support asymmetric quant, set symmetric.",)
    with pytest.raises(ConfigError, match="current layer video only support act symmetric quant"):
        read('override_layer_configs { layer_name: "video" calibration_config { ifmr_quantize { asymmetric: true } } }')


def test_bits_fall_back_where_the_layer_cannot(read):
    config = read("common_config { arq_quantize { quant_bits: 6 } }")
    assert config.layers["stem"].weight.num_bits == 6
    assert config.layers["fc"].weight.num_bits == config.layers["video"].weight.num_bits == 8
    assert sum("gets 8 bits" in w for w in config.warnings) == 2


def test_balancer(read):
    config = read("common_config { dmq_balancer { migration_strength: 0.3 } }")
    assert config.layers["stem"].dmq_balancer_param == 0.3
    assert config.layers["avg"].dmq_balancer_param is None
    assert any("dmq_balancer of common_config does not apply to layer 'avg'" in w for w in config.warnings)
    with pytest.raises(ConfigError, match="Layer type AveragePool does not support dmq_balancer"):
        read('override_layer_types { layer_type: "AveragePool" calibration_config { dmq_balancer {} } }')


def test_overriding_a_type_the_model_lacks_is_reported(read):
    config = read('override_layer_types { layer_type: "MatMul" calibration_config { ifmr_quantize {} } }')
    assert "the model has no MatMul that can be quantized" in "".join(config.warnings)


def test_globals(read):
    config = read(
        'do_fusion: false joint_quant: true fakequant_precision_mode: FORCE_FP16_QUANT skip_fusion_layers: "stem"'
    )
    assert config.do_fusion is False
    assert config.joint_quant is True
    assert any("joint_quant is ignored" in w for w in config.warnings)
    assert config.fakequant_precision_mode == "FORCE_FP16_QUANT"
    assert config.skip_fusion_layers == ("stem",)


def test_tensor_alone_is_enough(table, tmp_path):
    path = tmp_path / "quant.cfg"
    path.write_text('tensor_quantize { layer_name: "sum" input_index: 1 hfmg_quantize { num_of_bins: 8192 } }')
    config = read_simple_config(path, LayerTable([table["sum"], table["pool1"]]))
    assert config.layers == {}
    assert config.tensor_quantize[0].activation.algo == "hfmg"
    path.write_text("")
    with pytest.raises(ConfigError, match="No layer support quantization in the graph"):
        read_simple_config(path, LayerTable([table["sum"]]))


def override(name, body, kind="layer"):
    field = "layer_name" if kind == "layer" else "layer_type"
    message = "override_layer_configs" if kind == "layer" else "override_layer_types"
    return f'{message} {{ {field}: "{name}" calibration_config {{ {body} }} }}\n'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            'batch_num: 1\nskip_layer: "stem"',
            'line 2, column 1: not a valid AMCTConfig text: Message type "AMCTConfig"',
        ),
        ("batch_num: -1", "line 1, column 12: not a valid AMCTConfig text"),
        ("batch_num: 0", "batch_num = 0; expected an integer, above 0."),
        ("activation_offset: maybe", "not a valid AMCTConfig text"),
        ('skip_layers: ["fc", "fc"]', "Please delete repeated items in skip_layers: 'fc'."),
        ('skip_layers: "gone"', "Layer gone does not exist in the graph."),
        ('skip_layers: "odd"', "Layer odd does not support quantization."),
        ('skip_layer_types: "Relu"', "Layer type Relu does not support quantize."),
        ('skip_layer_types: ["Conv", "Gemm", "AveragePool"]', "Except skip_layers, no layer needs to quantize."),
        (override("gone", ""), "Layer gone does not exist in the graph."),
        (override("odd", ""), "Layer odd does not support quantization."),
        (override("fc", "") * 2, "Please delete repeated items in"),
        (override("Relu", "", "type"), "Layer type Relu does not support quantize."),
        (override("Conv", "", "type") * 2, "Please delete repeated items in"),
        (
            override("Gemm", "arq_quantize { channel_wise: true }", "type"),
            "The channel_wise must be False for layer type Gemm.",
        ),
        (
            override("fc", "arq_quantize { channel_wise: true }"),
            "The channel_wise must be False for layer type Gemm.",
        ),
        ("common_config { arq_quantize { quant_bits: 4 } }", "quant_bits = 4; expected 6, 7 or 8."),
        ("common_config { nuq_quantize {} }", "nuq_quantize is not supported: non-uniform weights are deprecated"),
        ('nuq_config { mapping_file: "x" }', "nuq_config is not supported"),
        ("common_config { ifmr_quantize { dst_type: INT16 } }", "num_bits = 16; only 8 is supported"),
        ("common_config { ifmr_quantize { max_percentile: 0.4 } }", "max_percentile = 0.4; expected"),
        ("common_config { ifmr_quantize { search_step: nan } }", "search_step = nan; expected"),
        ("common_config { hfmg_quantize { num_of_bins: 4000 } }", "num_of_bins = 4000; expected"),
        ("common_config { dmq_balancer { migration_strength: 0.9 } }", "dmq_balancer_param = 0.9; expected"),
        ('skip_fusion_layers: "avg"', "layer avg has type AveragePool; expected Conv or ConvTranspose"),
    ],
)
def test_refusals(read, text, expected):
    with pytest.raises(ConfigError) as caught:
        read(text)
    assert expected in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("tensor_quantize { input_index: 0 }", "layer_name"),
        ('tensor_quantize { layer_name: "sum" }', "input_index"),
        ("override_layer_configs { calibration_config {} }", "layer_name"),
        ('override_layer_types { layer_type: "Conv" }', "calibration_config"),
    ],
)
def test_missing_required_fields(read, text, missing):
    with pytest.raises(IncompleteConfigError, match=f"{missing} is missing"):
        read(text)


def test_common_channel_wise_is_left_out_where_a_layer_cannot(read):
    config = read("common_config { arq_quantize { channel_wise: true } }")
    assert config.layers["stem"].weight.channel_wise is True
    assert config.layers["fc"].weight.channel_wise is False
    assert not any("channel_wise" in warning for warning in config.warnings)
    config = read("common_config { arq_quantize { channel_wise: false } }")
    assert config.layers["stem"].weight.channel_wise is False
