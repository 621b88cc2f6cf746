"""What a configuration says, as plain values: complete, checked, independent of the file it came from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from ort_quant_plugin.config.algorithms import ACTIVATION_ALGORITHMS
from ort_quant_plugin.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "ActivationConfig",
    "IncompleteConfigError",
    "LayerConfig",
    "LayerFacts",
    "NodeFacts",
    "QuantConfig",
    "TensorConfig",
    "WeightConfig",
]


class IncompleteConfigError(ConfigError, RuntimeError):
    """A configuration lacks what it cannot do without; a ``RuntimeError`` too, because AMCT raises that here."""


class NodeFacts(Protocol):
    """What is asked of a node."""

    @property
    def inputs(self) -> Sequence[object]:
        """Input values, ``None`` where one is left out."""


class LayerFacts(Protocol):
    """What configuration and record files ask of a layer (:class:`ort_quant_plugin.layers.Layer` answers it)."""

    @property
    def name(self) -> str:
        """Node name."""

    @property
    def op_type(self) -> str:
        """ONNX operator."""

    @property
    def node(self) -> NodeFacts:
        """The node."""

    @property
    def kind(self) -> str:
        """``layer``, ``tensor`` or ``other``."""

    @property
    def reason(self) -> str | None:
        """Why it cannot be quantized; ``None`` when it can."""

    @property
    def quantizable(self) -> bool:
        """Whether it can be quantized as a layer."""

    @property
    def weight(self) -> object | None:
        """The constant weight; ``None`` for AveragePool."""

    @property
    def out_channels(self) -> int:
        """Length of a per-channel ``scale_w``."""

    @property
    def in_channels(self) -> int:
        """Length of ``tensor_balance_factor``."""

    @property
    def channel_wise(self) -> bool:
        """Whether per-channel weights are possible."""

    @property
    def asymmetric(self) -> bool:
        """Whether asymmetric activations are possible."""

    @property
    def weight_bits(self) -> tuple[int, ...]:
        """Legal weight widths."""

    @property
    def balance(self) -> bool:
        """Whether DMQ balancing is possible."""


@dataclass(frozen=True)
class ActivationConfig:
    """How the range of an activation is chosen.

    Attributes:
        algo: Algorithm, by name.
        num_bits: Width of the integer; 8.
        asymmetric: Whether zero may map to an offset other than 0.
        parameters: All parameters of the algorithm, checked.
    """

    algo: str = "ifmr"
    num_bits: int = 8
    asymmetric: bool = True
    parameters: Mapping[str, Any] = field(default_factory=ACTIVATION_ALGORITHMS["ifmr"].defaults)


@dataclass(frozen=True)
class WeightConfig:
    """How a weight is quantized.

    Attributes:
        algo: Algorithm, by name.
        num_bits: Width of the integer: 6, 7 or 8.
        channel_wise: One scale per output channel instead of one per tensor.
        parameters: All parameters of the algorithm, checked.
    """

    algo: str = "arq_quantize"
    num_bits: int = 8
    channel_wise: bool = False
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class LayerConfig:
    """One layer.

    Attributes:
        quant_enable: Whether it is quantized.
        activation: How its input is quantized.
        weight: How its weight is quantized; ``None`` where there is none (AveragePool).
        dmq_balancer_param: DMQ migration strength in [0.2, 0.8]; ``None`` = no balancing.
    """

    quant_enable: bool = True
    activation: ActivationConfig = field(default_factory=ActivationConfig)
    weight: WeightConfig | None = field(default_factory=WeightConfig)
    dmq_balancer_param: float | None = None


@dataclass(frozen=True)
class TensorConfig:
    """One input tensor of a MaxPool or Add.

    Attributes:
        layer_name: Node name.
        input_index: Which input.
        activation: How it is quantized.
    """

    layer_name: str
    input_index: int
    activation: ActivationConfig = field(default_factory=ActivationConfig)


@dataclass(frozen=True)
class QuantConfig:
    """A whole configuration.

    Attributes:
        version: Always 1.
        batch_num: Number of forward passes used for calibration, above 0.
        activation_offset: Asymmetric activations where a layer does not say otherwise.
        joint_quant: As read; never acted on (see ``warnings``).
        do_fusion: Whether BatchNormalization is folded.
        fakequant_precision_mode: ``DEFAULT`` or ``FORCE_FP16_QUANT``.
        skip_fusion_layers: Layers nothing is folded into.
        tensor_quantize: Tensors to quantize.
        layers: Layers of the model by name, in the order of the model; those that the file does not mention are absent,
            those it switches off have ``quant_enable`` false.
        warnings: What the reader changed or ignored, in sentences; not part of the file.
    """

    version: int = 1
    batch_num: int = 1
    activation_offset: bool = True
    joint_quant: bool = False
    do_fusion: bool = True
    fakequant_precision_mode: str = "DEFAULT"
    skip_fusion_layers: tuple[str, ...] = ()
    tensor_quantize: tuple[TensorConfig, ...] = ()
    layers: Mapping[str, LayerConfig] = field(default_factory=dict)
    warnings: tuple[str, ...] = field(default=(), compare=False)

    @property
    def enabled_layers(self) -> dict[str, LayerConfig]:
        """The layers to quantize."""
        return {name: layer for name, layer in self.layers.items() if layer.quant_enable}

    def require_enabled(self) -> None:
        """Refuse a configuration that quantizes nothing.

        Raises:
            IncompleteConfigError: Neither a layer nor a tensor is enabled (AMCT's text).
        """
        if not self.enabled_layers and not self.tensor_quantize:
            raise IncompleteConfigError(
                "No quant enable layer in quant config file, please check the quant config file.",
                hint="Set quant_enable to true for at least one layer, or make the file with create_quant_config.",
            )
