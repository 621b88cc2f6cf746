"""default_config: what is quantized when nobody said otherwise, and the skip lists."""

from __future__ import annotations

import pytest

from ort_quant_plugin.config import AlgorithmSpec, Parameter, default_config
from ort_quant_plugin.errors import ConfigError
from ort_quant_plugin.layers import Layer, LayerTable


def test_defaults_follow_amct(table):
    config = default_config(table)
    assert list(config.layers) == ["stem", "conv_a", "video", "avg", "fc"]
    assert (config.version, config.batch_num, config.activation_offset, config.do_fusion) == (1, 1, True, True)
    stem = config.layers["stem"]
    assert stem.quant_enable
    assert (stem.activation.algo, stem.activation.num_bits, stem.activation.asymmetric) == ("ifmr", 8, True)
    assert dict(stem.activation.parameters) == {
        "max_percentile": 0.999999,
        "min_percentile": 0.999999,
        "search_range": (0.7, 1.3),
        "search_step": 0.01,
    }
    assert (stem.weight.algo, stem.weight.num_bits, stem.weight.channel_wise) == ("arq_quantize", 8, True)
    assert config.layers["fc"].weight.channel_wise is False
    assert config.layers["avg"].weight is None
    assert stem.dmq_balancer_param is None


def test_a_layer_that_cannot_be_asymmetric_is_made_symmetric_and_reported(table):
    config = default_config(table)
    assert config.layers["video"].activation.asymmetric is False
    assert config.warnings == ("Layer video does not support asymmetric quant, set symmetric.",)
    assert default_config(table, activation_offset=False).warnings == ()


def test_activation_offset_false_makes_everything_symmetric(table):
    config = default_config(table, activation_offset=False)
    assert not any(layer.activation.asymmetric for layer in config.layers.values())


def test_skipped_layers_stay_listed_but_disabled(table):
    config = default_config(table, skip_layers=["fc"], skip_layer_types=["AveragePool"])
    assert set(config.enabled_layers) == {"stem", "conv_a", "video"}
    assert config.layers["fc"].quant_enable is False


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"skip_layers": ["conv_b"]}, "Layer conv_b does not exist in the graph. Hint: Did you mean 'conv_a'?"),
        (
            {"skip_layers": ["odd"]},
            "Layer odd does not support quantization. Hint: Reason: its weight is not constant.",
        ),
        (
            {"skip_layers": ["pool1"]},
            "Layer pool1 does not support quantization. Hint: Only an input tensor of MaxPool",
        ),
        ({"skip_layers": ["fc", "fc"]}, "Please delete repeated items in skip_layers: 'fc'."),
        ({"skip_layer_types": ["Gemm", "Gemm"]}, "Please delete repeated items in skip_layer_types: 'Gemm'."),
        ({"skip_layer_types": ["Relu"]}, "Layer type Relu does not support quantize."),
        ({"skip_layer_types": ["MaxPool"]}, "Layer type MaxPool does not support quantize."),
        (
            {"skip_layer_types": ["Conv", "Gemm", "AveragePool"]},
            "Except skip_layers, no layer needs to quantize.",
        ),
        ({"batch_num": 0}, "default configuration: batch_num = 0; expected an integer, above 0."),
        ({"batch_num": True}, "default configuration: batch_num = True; expected an integer, above 0."),
        ({"activation_offset": 1}, "default configuration: activation_offset = 1; expected true or false."),
        ({"algo": "magic"}, "act_algo = 'magic'; expected one of ifmr, hfmg."),
    ],
)
def test_refusals(table, arguments, text):
    with pytest.raises(ConfigError) as caught:
        default_config(table, **arguments)
    assert text in str(caught.value)
    assert isinstance(caught.value, ValueError)


def test_nothing_quantizable_tells_why(table):
    only_odd = LayerTable([table["odd"], table["pool1"]])
    with pytest.raises(ConfigError) as caught:
        default_config(only_odd)
    assert str(caught.value) == (
        "No layer support quantization in the graph. Hint: Candidates: odd (Gemm): its weight is not constant."
    )


def test_a_layer_named_like_a_global_key_is_refused(table):
    clash = LayerTable([Layer("batch_num", "Conv", table["stem"].node, weight=table["stem"].weight)])
    with pytest.raises(ConfigError, match="Layer batch_num has the name of a global parameter"):
        default_config(clash)


def test_algorithms_of_plugins_bring_their_parameters(table):
    spec = AlgorithmSpec("kld", "KL divergence", (Parameter("bins", "int", 2048, "above 0", "", lambda v: v > 0),))
    config = default_config(table, algo="kld", algorithms={"kld": spec})
    assert config.layers["stem"].activation.algo == "kld"
    assert dict(config.layers["stem"].activation.parameters) == {"bins": 2048}
