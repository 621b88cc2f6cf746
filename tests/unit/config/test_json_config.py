"""The JSON configuration: layout byte for byte, defaults filled, every refusal with its text."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from ort_quant_plugin.config import (
    ActivationConfig,
    AlgorithmSpec,
    IncompleteConfigError,
    LayerConfig,
    Parameter,
    QuantConfig,
    TensorConfig,
    WeightConfig,
    config_to_json,
    default_config,
    load_config,
    read_config,
    read_simple_config,
    write_config,
)
from ort_quant_plugin.errors import ConfigError, OutputError

# The example of AMCT's manual (values invented there), spread over lines the way json.dump(indent=4) does.
EXAMPLE = """\
{
    "version":1,
    "batch_num":2,
    "activation_offset":true,
    "joint_quant":false,
    "do_fusion":true,
    "skip_fusion_layers":[],
    "tensor_quantize":[
        {
            "layer_name":"pool1",
            "input_index":0,
            "activation_quant_params":{
                "num_bits":8,
                "max_percentile":0.999999,
                "min_percentile":0.999999,
                "search_range":[
                    0.7,
                    1.3
                ],
                "search_step":0.01,
                "act_algo":"ifmr",
                "asymmetric":true
            }
        }
    ],
    "conv_a":{
        "quant_enable":true,
        "dmq_balancer_param":0.5,
        "activation_quant_params":{
            "num_bits":8,
            "max_percentile":0.999999,
            "min_percentile":0.999999,
            "search_range":[
                0.7,
                1.3
            ],
            "search_step":0.01,
            "act_algo":"ifmr",
            "asymmetric":true
        },
        "weight_quant_params":{
            "num_bits":8,
            "channel_wise":true,
            "wts_algo":"arq_quantize"
        }
    },
    "fc":{
        "quant_enable":true,
        "activation_quant_params":{
            "num_bits":8,
            "act_algo":"hfmg",
            "asymmetric":false,
            "num_of_bins":4096
        },
        "weight_quant_params":{
            "num_bits":8,
            "channel_wise":false,
            "wts_algo":"arq_quantize"
        }
    }
}"""

EXAMPLE_CONFIG = QuantConfig(
    batch_num=2,
    tensor_quantize=(TensorConfig("pool1", 0),),
    layers={
        "conv_a": LayerConfig(weight=WeightConfig(channel_wise=True), dmq_balancer_param=0.5),
        "fc": LayerConfig(activation=ActivationConfig("hfmg", asymmetric=False, parameters={"num_of_bins": 4096})),
    },
)


@pytest.fixture
def read(table, tmp_path):
    def reader(content):
        path = tmp_path / "config.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return read_config(path, table)

    return reader


def test_example_is_read_and_written_byte_for_byte(read):
    config = read(EXAMPLE)
    assert config == EXAMPLE_CONFIG
    assert config_to_json(config) == EXAMPLE
    assert config.warnings == ()


def test_layers_are_written_in_alphabetical_order(table):
    document = json.loads(config_to_json(default_config(table, skip_layers=["fc"])))
    assert list(document) == [
        *("version", "batch_num", "activation_offset", "joint_quant", "do_fusion"),
        *("skip_fusion_layers", "tensor_quantize", "avg", "conv_a", "fc", "stem", "video"),
    ]
    assert document["fc"]["quant_enable"] is False
    assert "weight_quant_params" not in document["avg"]


def test_precision_mode_is_written_only_when_forced(read, table):
    config = replace(default_config(table), fakequant_precision_mode="FORCE_FP16_QUANT")
    document = json.loads(config_to_json(config))
    assert list(document)[4:7] == ["do_fusion", "fakequant_precision_mode", "skip_fusion_layers"]
    assert read(document).fakequant_precision_mode == "FORCE_FP16_QUANT"


def test_file_of_an_old_release_is_filled_with_defaults(read):
    """Old files have no num_bits, asymmetric or tensor_quantize."""
    config = read(
        {
            "version": 1,
            "batch_num": 1,
            "activation_offset": False,
            "joint_quant": False,
            "do_fusion": True,
            "skip_fusion_layers": [],
            "conv_a": {
                "quant_enable": True,
                "activation_quant_params": {
                    "max_percentile": 0.99,
                    "min_percentile": 1,
                    "search_range": [0.8, 1.2],
                    "search_step": 0.02,
                    "act_algo": "ifmr",
                },
                "weight_quant_params": {"wts_algo": "arq_quantize", "channel_wise": False},
            },
        }
    )
    layer = config.layers["conv_a"]
    assert layer.activation == ActivationConfig(
        asymmetric=False,
        parameters={"max_percentile": 0.99, "min_percentile": 1.0, "search_range": (0.8, 1.2), "search_step": 0.02},
    )
    assert layer.weight == WeightConfig(channel_wise=False)
    assert list(config.layers) == ["conv_a"]  # absent layers stay float


def test_empty_object_enables_nothing(read):
    config = read({})
    assert config == QuantConfig()
    with pytest.raises(RuntimeError, match="No quant enable layer in quant config file, please check"):
        config.require_enabled()


def test_disabled_layer_is_kept_and_unquantizable_one_dropped(read):
    config = read({"fc": {"quant_enable": False}, "odd": {"quant_enable": False}, "stem": {}})
    assert {name: layer.quant_enable for name, layer in config.layers.items()} == {"stem": True, "fc": False}
    config.require_enabled()


def test_tensor_alone_is_enough(read):
    config = read({"tensor_quantize": [{"layer_name": "sum", "input_index": 1}]})
    config.require_enabled()
    assert config.tensor_quantize == (TensorConfig("sum", 1),)


def test_layer_asymmetric_goes_before_activation_offset(read):
    config = read({"activation_offset": False, "stem": {"activation_quant_params": {"asymmetric": True}}, "fc": {}})
    assert config.layers["stem"].activation.asymmetric is True
    assert config.layers["fc"].activation.asymmetric is False


def test_joint_quant_is_ignored_with_a_warning(read):
    config = read({"joint_quant": True, "stem": {}})
    assert config.joint_quant is True
    assert len(config.warnings) == 1
    assert "joint_quant is ignored" in config.warnings[0]


def test_weight_bits(read):
    config = read({"stem": {"weight_quant_params": {"num_bits": 6}}, "fc": {"weight_quant_params": {"num_bits": 7}}})
    assert config.layers["stem"].weight.num_bits == 6
    assert config.layers["fc"].weight.num_bits == 8
    assert len(config.warnings) == 1
    assert "layer 'fc', weight_quant_params: num_bits = 7 needs a Conv with a 4-D weight" in config.warnings[0]


def test_balancing_an_average_pool_is_ignored_with_a_warning(read):
    config = read({"avg": {"dmq_balancer_param": 0.4}, "stem": {"dmq_balancer_param": 0.8}})
    assert config.layers["avg"].dmq_balancer_param is None
    assert config.layers["stem"].dmq_balancer_param == 0.8
    assert "dmq_balancer_param is ignored" in config.warnings[0]


def test_slow_search_is_reported(read):
    config = read({"stem": {"activation_quant_params": {"search_step": 0.00001}}})
    assert "60000 candidates; calibration will be slow" in config.warnings[0]


@pytest.mark.parametrize(
    ("parameters", "shown"),
    [
        ({"search_step": 1e-6}, "asks for 600000 candidates in the search_range [0.7, 1.3]"),
        ({"search_range": [0.7, 1000.0], "search_step": 0.009}, "asks for 111033 candidates"),
        ({"search_step": 1e-300}, "asks for inf candidates"),
        ({"search_range": [0.7, 1e300]}, "asks for inf candidates"),
    ],
)
def test_more_candidates_than_the_operator_takes_are_refused(read, parameters, shown):
    with pytest.raises(ConfigError, match=re.escape(shown)) as caught:
        read({"stem": {"activation_quant_params": parameters}})
    assert "layer 'stem', activation_quant_params" in caught.value.message
    assert caught.value.message.endswith("expected at most 100000.")


def test_as_many_candidates_as_the_operator_takes_are_legal(read):
    parameters = {"search_range": [1.0, 2.0], "search_step": 1.0001e-5}
    assert (
        "99990 candidates; calibration will be slow"
        in read({"stem": {"activation_quant_params": parameters}}).warnings[0]
    )


CHOICE = {"fc": {"weight_quant_params": {"wts_algo": "mine", "strength": 3}}}
MINE = {"mine": AlgorithmSpec("mine", "My own.", (Parameter("strength", "int", 2, "above 0", "", lambda v: v > 0),))}


@pytest.mark.parametrize("reader", [read_config, load_config])
def test_weight_algorithms_of_plugins(table, tmp_path, reader):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(CHOICE))
    with pytest.raises(ConfigError, match="wts_algo = 'mine'; expected one of arq_quantize"):
        reader(path, table)
    config = reader(path, table, weight_algorithms=MINE)
    assert config.layers["fc"].weight == WeightConfig("mine", parameters={"strength": 3})
    write_config(config, path)
    assert reader(path, table, weight_algorithms=MINE) == config


def test_readers_that_cannot_name_a_weight_algorithm_take_them_too(table, tmp_path):
    (tmp_path / "quant.cfg").write_text("batch_num: 1\n")
    assert read_simple_config(tmp_path / "quant.cfg", table, weight_algorithms=MINE) == read_simple_config(
        tmp_path / "quant.cfg", table
    )
    assert load_config(tmp_path / "quant.cfg", table, weight_algorithms=MINE).layers
    assert default_config(table, weight_algorithms=MINE) == default_config(table)


def test_step_as_wide_as_the_range_is_legal_despite_binary_fractions(read):
    parameters = {"search_range": [1.0, 1.2], "search_step": 0.2}  # 1.2 - 1.0 < 0.2 in binary
    assert (
        read({"stem": {"activation_quant_params": parameters}}).layers["stem"].activation.parameters["search_step"]
        == 0.2
    )


def act(**values):
    return {"stem": {"activation_quant_params": values}}


def wts(layer="stem", **values):
    return {layer: {"weight_quant_params": values}}


@pytest.mark.parametrize(
    ("document", "text"),
    [
        ({"nonsense": 1}, "nonsense is an invalid layer name or parameter."),
        ({"conv_b": {}}, "conv_b is an invalid layer name or parameter. Hint: Did you mean 'conv_a'?"),
        ({"stem": {"enable": True}}, "layer 'stem': enable is an invalid layer name or parameter."),
        (act(percentile=1), "percentile is an invalid layer name or parameter."),
        ({"avg": {"weight_quant_params": {}}}, "weight_quant_params is an invalid layer name or parameter."),
        ({"weight_offset": False}, "weight_offset is an invalid layer name or parameter."),
        ({"version": 2}, "version = 2; expected an integer, only 1."),
        ({"version": 1.0}, "version = 1.0; expected an integer, only 1."),
        ({"version": True}, "version = True; expected"),
        ({"batch_num": 0}, "batch_num = 0; expected an integer, above 0."),
        ({"batch_num": "2"}, "batch_num = '2'; expected an integer, above 0."),
        ({"do_fusion": 0}, "do_fusion = 0; expected true or false."),
        ({"joint_quant": None}, "joint_quant = None; expected true or false."),
        ({"fakequant_precision_mode": "FP16"}, "expected a string, DEFAULT or FORCE_FP16_QUANT."),
        ({"skip_fusion_layers": "stem"}, "skip_fusion_layers = 'stem'; expected a list of strings"),
        ({"skip_fusion_layers": ["gone"]}, "skip_fusion_layers: layer gone does not exist in the graph."),
        ({"skip_fusion_layers": ["fc"]}, "layer fc has type Gemm; expected Conv or ConvTranspose"),
        ({"skip_fusion_layers": ["stem", "stem"]}, "Please delete repeated items in "),
        ({"stem": 5}, "layer 'stem': expected an object with quant_enable"),
        ({"stem": {"quant_enable": 1}}, "layer 'stem': quant_enable = 1; expected true or false."),
        ({"odd": {}}, "Layer odd does not support quantization. Hint: Reason: its weight is not constant."),
        ({"pool1": {}}, "Layer pool1 does not support quantization."),
        ({"stem": {"dmq_balancer_param": 0.9}}, "dmq_balancer_param = 0.9; expected a number, in [0.2, 0.8]."),
        ({"stem": {"activation_quant_params": [1]}}, "activation_quant_params = [1]; expected an object."),
        (act(max_percentile=0.5), "max_percentile = 0.5; expected a number, in (0.5, 1]."),
        (act(max_percentile=1.1), "max_percentile = 1.1;"),
        (act(min_percentile=True), "min_percentile = True;"),
        (act(search_range=[1.3, 0.7]), "search_range = [1.3, 0.7]; expected a list of two numbers, 0 < start < end."),
        (act(search_range=[0, 1]), "search_range = [0, 1];"),
        (act(search_range=[1]), "search_range = [1];"),
        (act(search_range=[0.7, "1"]), "search_range = [0.7, '1'];"),
        (act(search_step=0), "search_step = 0; expected a number, in (0, end - start], at most 100000 steps."),
        (act(search_step=0.7), "search_step = 0.7 is larger than the search_range [0.7, 1.3]."),
        (act(num_bits=16), "num_bits = 16; only 8 is supported"),
        (act(num_bits=4), "num_bits = 4; only 8 is supported"),
        (act(num_bits=7), "num_bits = 7; expected an integer, only 8"),
        (act(num_bits=8.0), "num_bits = 8.0; expected an integer"),
        (act(act_algo="kl"), "act_algo = 'kl'; expected one of ifmr, hfmg."),
        (act(act_algo="hfmg", num_of_bins=1000), "num_of_bins = 1000; expected an integer, 1024, 2048, 4096 or 8192."),
        (act(act_algo="hfmg", search_step=0.1), "search_step (of ifmr) and act_algo hfmg can not appear at same time."),
        (act(num_of_bins=1024), "num_of_bins (of hfmg) and act_algo ifmr can not appear at same time."),
        (wts(channel_wise=1), "channel_wise = 1; expected true or false"),
        (wts("fc", channel_wise=True), "The channel_wise must be False for layer type Gemm."),
        (wts(num_bits=4), "num_bits = 4; expected one of 6, 7, 8"),
        (wts(num_bits=5), "num_bits = 5; expected an integer, 8;"),
        (
            wts(wts_algo="nuq_quantize"),
            "wts_algo = 'nuq_quantize' is not supported: non-uniform weights are deprecated",
        ),
        (wts(wts_algo="nuq_quantize", num_steps=8), "num_steps = 8; expected an integer, 16 or 32."),
        (wts(wts_algo="ada_quantize"), "wts_algo = 'ada_quantize' is not supported: AMCT offers it for PyTorch only"),
        (wts(num_steps=16), "num_steps (of nuq_quantize) and wts_algo arq_quantize can not appear at same time."),
        (
            {"video": {"activation_quant_params": {"asymmetric": True}}},
            "current layer video only support act symmetric quant.",
        ),
        ({"tensor_quantize": {}}, "tensor_quantize = {}; expected a list of objects."),
        ({"tensor_quantize": [{"layer_name": "gone", "input_index": 0}]}, "Layer gone does not exist in the graph."),
        (
            {"tensor_quantize": [{"layer_name": "fc", "input_index": 0}]},
            "Layer fc does not support tensor quantization: its type is Gemm, expected MaxPool or Add.",
        ),
        ({"tensor_quantize": [{"layer_name": "sum", "input_index": 2}]}, "input_index = 2; expected less than 2"),
        ({"tensor_quantize": [{"layer_name": "sum", "input_index": -1}]}, "input_index = -1; expected an integer"),
        ({"tensor_quantize": [{"layer_name": "sum", "input_index": 0, "x": 1}]}, "x is an invalid layer name"),
        ({"tensor_quantize": [{"layer_name": "pool1", "input_index": 0}] * 2}, "repeated items in"),
        (
            {"tensor_quantize": [{"layer_name": "sum", "input_index": i} for i in (0, 1)]},
            "only one input of an Add can be quantized; 'sum' has several.",
        ),
        ([], "expected a JSON object, not list."),
        ('{"batch_num": 1, "batch_num": 1}', "Please delete repeated items in "),
        ('{"stem": {"quant_enable": true, "quant_enable": true}}', "'quant_enable'. Hint: Keep one of each."),
        ('{"batch_num": 1,\n  "do_fusion" true}', "config.json, line 2, column 15: not valid JSON: Expecting ':'"),
        ('{"batch_num": ' + "9" * 5000 + "}", "not valid JSON"),
        ('{"stem": {"activation_quant_params": {"search_step": NaN}}}', "search_step = nan; expected a number"),
        ('{"stem": {"activation_quant_params": {"search_step": 1e999}}}', "search_step = inf; expected a number"),
        ("[" * 100_000, "not valid JSON"),
        ("", "not valid JSON"),
    ],
)
def test_refusals(read, document, text):
    with pytest.raises(ConfigError) as caught:
        read(document)
    assert text in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize("entry", [{"input_index": 0}, {"layer_name": "sum"}])
def test_incomplete_tensor_entry_is_a_runtime_error_as_in_amct(read, entry):
    with pytest.raises(
        IncompleteConfigError, match=r"tensor_quantize\[0\]: (layer_name|input_index) is missing"
    ) as caught:
        read({"tensor_quantize": [entry]})
    assert isinstance(caught.value, RuntimeError)
    assert isinstance(caught.value, ValueError)


def test_missing_unreadable_and_binary_files_are_named(table, tmp_path):
    with pytest.raises(ConfigError, match=r"Configuration file '.*gone.json' does not exist"):
        read_config(tmp_path / "gone.json", table)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_config(tmp_path, table)
    (tmp_path / "binary").write_bytes(b"\xff\xfe{}")
    with pytest.raises(ConfigError, match=r"is not UTF-8 text \(byte 0\)"):
        read_config(tmp_path / "binary", table)


def test_a_byte_order_mark_does_no_harm(table, tmp_path):
    (tmp_path / "bom.json").write_bytes(b"\xef\xbb\xbf{}")
    assert read_config(tmp_path / "bom.json", table) == QuantConfig()


def test_write_replaces_whole_files_only(table, tmp_path):
    path = tmp_path / "new" / "config.json"
    write_config(default_config(table), path)
    first = path.read_text()
    write_config(EXAMPLE_CONFIG, path)
    assert path.read_text() == EXAMPLE != first
    assert [p.name for p in path.parent.iterdir()] == ["config.json"]
    assert path.stat().st_mode & 0o137 == 0  # at most 0640
    with pytest.raises(OutputError, match="Cannot write"):
        write_config(EXAMPLE_CONFIG, path / "below_a_file.json")
