"""From a document (the nested mapping a JSON configuration holds) to a checked :class:`QuantConfig`.

All three sources of a configuration end here: the JSON file is such a document, the simplified
file and the defaults are turned into one. So every rule is enforced in one place.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ort_quant_plugin.config.algorithms import ACTIVATION_ALGORITHMS, WEIGHT_ALGORITHMS, AlgorithmSpec
from ort_quant_plugin.config.keys import ACTIVATION_KEYS, GLOBAL_KEYS, LAYER_KEYS, TENSOR_KEYS, WEIGHT_KEYS
from ort_quant_plugin.config.model import (
    ActivationConfig,
    IncompleteConfigError,
    LayerConfig,
    LayerFacts,
    QuantConfig,
    TensorConfig,
    WeightConfig,
)
from ort_quant_plugin.config.parameters import Parameter, refuse_repeated, refuse_unknown
from ort_quant_plugin.errors import ConfigError

__all__ = ["ConfigBuilder"]

_FUSIBLE_TYPES = ("Conv", "ConvTranspose")
_MANY_CANDIDATES = 10_000
_INSPECT = "`ort-quant inspect MODEL` lists the layers and why some cannot be quantized."

Algorithms = Mapping[str, AlgorithmSpec]


@dataclass
class ConfigBuilder:
    """Builds a configuration for the layers of one model.

    Attributes:
        layers: Layers of the prepared model by name.
        source: File name (or what else the document is), for messages.
        algorithms: Activation algorithms beside the built-in ones.
        weight_algorithms: Weight algorithms beside the built-in ones.
        warnings: What was changed or ignored so far.
    """

    layers: Mapping[str, LayerFacts]
    source: str
    algorithms: Algorithms | None = None
    weight_algorithms: Algorithms | None = None
    warnings: list[str] = field(default_factory=list)

    def build(self, document: Mapping[str, Any]) -> QuantConfig:
        """Check a document and fill in what it leaves out.

        Raises:
            ConfigError: An unknown key or layer, a value of the wrong type or out of range, a rule broken.
            IncompleteConfigError: A ``tensor_quantize`` entry without name or index.
        """
        self._refuse_clashes()
        refuse_unknown(document, [*GLOBAL_KEYS, *self.layers], self.source)
        values = {
            name: key.parse(document[name], self.source) if name in document else key.default
            for name, key in GLOBAL_KEYS.items()
        }
        self._check_skip_fusion(values["skip_fusion_layers"])
        if values["joint_quant"]:
            self.warnings.append(
                f"{self.source}: joint_quant is ignored: it only tunes element-wise chains on some Ascend chips; "
                "the layers are quantized one by one."
            )
        offset = values["activation_offset"]
        tensors = self._tensors(values.pop("tensor_quantize"), activation_offset=offset)
        layers = {
            name: layer
            for name, facts in self.layers.items()
            if name in document and (layer := self._layer(facts, document[name], activation_offset=offset)) is not None
        }
        return QuantConfig(**values, tensor_quantize=tensors, layers=layers, warnings=tuple(self.warnings))

    def find(self, name: str) -> LayerFacts:
        """The quantizable layer of that name.

        Raises:
            ConfigError: There is none, or it cannot be quantized (AMCT's texts).
        """
        if name not in self.layers:
            near = difflib.get_close_matches(name, self.layers, n=1)
            raise ConfigError(
                f"Layer {name} does not exist in the graph.",
                hint=f"Did you mean {near[0]!r}?" if near else _INSPECT,
                layer=name,
            )
        facts = self.layers[name]
        if not facts.quantizable:
            raise ConfigError(
                f"Layer {name} does not support quantization.", hint=f"{_why(facts)} {_INSPECT}", layer=name
            )
        return facts

    def _refuse_clashes(self) -> None:
        for name in self.layers:
            if name in GLOBAL_KEYS:
                raise ConfigError(
                    f"Layer {name} has the name of a global parameter of the configuration.",
                    hint="Rename the node in the model.",
                    layer=name,
                )

    def _check_skip_fusion(self, names: tuple[str, ...]) -> None:
        for name in names:
            facts = self.layers.get(name)
            if facts is None:
                near = difflib.get_close_matches(name, self.layers, n=1)
                raise ConfigError(
                    f"{self.source}: skip_fusion_layers: layer {name} does not exist in the graph.",
                    hint=f"Did you mean {near[0]!r}?" if near else _INSPECT,
                    layer=name,
                )
            if facts.op_type not in _FUSIBLE_TYPES:
                raise ConfigError(
                    f"{self.source}: skip_fusion_layers: layer {name} has type {facts.op_type}; "
                    f"expected {' or '.join(_FUSIBLE_TYPES)}, the types something is folded into.",
                    hint="Delete it from the list.",
                    layer=name,
                )

    def _layer(self, facts: LayerFacts, value: object, *, activation_offset: bool) -> LayerConfig | None:
        where = f"{self.source}: layer {facts.name!r}"
        if not isinstance(value, Mapping):
            raise ConfigError(
                f"{where}: expected an object with {', '.join(LAYER_KEYS)}, not {value!r}.",
                hint="Write the layer as create_quant_config does.",
                layer=facts.name,
                value=value,
            )
        known = [name for name in LAYER_KEYS if name != "weight_quant_params" or facts.weight is not None]
        refuse_unknown(value, known, where)
        values = {
            name: LAYER_KEYS[name].parse(value[name], where, layer=facts.name)
            if name in value
            else LAYER_KEYS[name].default
            for name in known
        }
        if not facts.quantizable:
            if values["quant_enable"]:
                raise ConfigError(
                    f"{self.source}: Layer {facts.name} does not support quantization.",
                    hint=f"{_why(facts)} Set its quant_enable to false or delete it from the file.",
                    layer=facts.name,
                )
            return None
        balance = values["dmq_balancer_param"]
        if balance is not None and not facts.balance:
            self.warnings.append(
                f"{where}: dmq_balancer_param is ignored: {facts.op_type} has no weight to balance with."
            )
            balance = None
        activation = self._activation(
            values["activation_quant_params"] or {}, where, facts=facts, activation_offset=activation_offset
        )
        weight = None
        if facts.weight is not None:
            weight = self._weight(values["weight_quant_params"] or {}, where, facts)
        return LayerConfig(values["quant_enable"], activation, weight, balance)

    def _activation(
        self, value: Mapping[str, Any], where: str, *, facts: LayerFacts | None, activation_offset: bool
    ) -> ActivationConfig:
        where = f"{where}, activation_quant_params"
        algorithms = {**ACTIVATION_ALGORITHMS, **(self.algorithms or {})}
        spec, common, parameters = _algorithm(value, where, ACTIVATION_KEYS, "act_algo", algorithms)
        self._warn_slow_search(parameters, where)
        if common["num_bits"] != 8:
            raise ConfigError(
                f"{where}: num_bits = {common['num_bits']}; only 8 is supported: AMCT reserves 4 and 16 for a few "
                "Ascend chips and no exporter here can write them.",
                hint="Set num_bits to 8.",
                key="num_bits",
                value=common["num_bits"],
            )
        asymmetric = common["asymmetric"]
        if facts is not None and not facts.asymmetric:
            if asymmetric:
                raise ConfigError(
                    f"{where}: current layer {facts.name} only support act symmetric quant.",
                    hint="Set asymmetric to false.",
                    layer=facts.name,
                    key="asymmetric",
                )
            if asymmetric is None and activation_offset:
                self.warnings.append(f"Layer {facts.name} does not support asymmetric quant, set symmetric.")
            asymmetric = False
        return ActivationConfig(
            algo=spec.name,
            asymmetric=activation_offset if asymmetric is None else asymmetric,
            parameters=parameters,
        )

    def _weight(self, value: Mapping[str, Any], where: str, facts: LayerFacts) -> WeightConfig:
        where = f"{where}, weight_quant_params"
        algorithms = {**WEIGHT_ALGORITHMS, **(self.weight_algorithms or {})}
        spec, common, parameters = _algorithm(value, where, WEIGHT_KEYS, "wts_algo", algorithms)
        channel_wise = common["channel_wise"]
        if channel_wise and not facts.channel_wise:
            raise ConfigError(
                f"{where}: The channel_wise must be False for layer type {facts.op_type}.",
                hint="Set channel_wise to false.",
                layer=facts.name,
                key="channel_wise",
            )
        bits = common["num_bits"]
        if bits == 4:
            raise ConfigError(
                f"{where}: num_bits = 4; expected one of {', '.join(map(str, facts.weight_bits))}: 4-bit weights "
                "are not offered for ONNX models.",
                hint="Set num_bits to 8.",
                layer=facts.name,
                key="num_bits",
                value=bits,
            )
        if bits not in facts.weight_bits:
            self.warnings.append(
                f"{where}: num_bits = {bits} needs a Conv with a 4-D weight; this {facts.op_type} gets 8 bits."
            )
            bits = 8
        return WeightConfig(spec.name, bits, facts.channel_wise if channel_wise is None else channel_wise, parameters)

    def _tensors(self, entries: tuple[Mapping[str, Any], ...], *, activation_offset: bool) -> tuple[TensorConfig, ...]:
        tensors = tuple(self._tensor(i, entry, activation_offset=activation_offset) for i, entry in enumerate(entries))
        refuse_repeated((f"{t.layer_name}:{t.input_index}" for t in tensors), f"{self.source}: tensor_quantize")
        adds = [t.layer_name for t in tensors if self.layers[t.layer_name].op_type == "Add"]
        for name in adds:
            if adds.count(name) > 1:
                raise ConfigError(
                    f"{self.source}: tensor_quantize: only one input of an Add can be quantized; {name!r} has several.",
                    hint="Keep one entry for it.",
                    layer=name,
                )
        return tensors

    def _tensor(self, number: int, entry: Mapping[str, Any], *, activation_offset: bool) -> TensorConfig:
        where = f"{self.source}: tensor_quantize[{number}]"
        refuse_unknown(entry, TENSOR_KEYS, where)
        for name in ("layer_name", "input_index"):
            if name not in entry:
                raise IncompleteConfigError(
                    f"{where}: {name} is missing.", hint="Give layer_name and input_index.", key=name, entry=number
                )
        name = TENSOR_KEYS["layer_name"].parse(entry["layer_name"], where)
        index = TENSOR_KEYS["input_index"].parse(entry["input_index"], where)
        where = f"{where} ({name!r})"
        facts = self.layers.get(name)
        if facts is None:
            near = difflib.get_close_matches(name, [n for n, f in self.layers.items() if f.kind == "tensor"], n=1)
            raise ConfigError(
                f"{where}: Layer {name} does not exist in the graph.",
                hint=f"Did you mean {near[0]!r}?" if near else _INSPECT,
                layer=name,
            )
        if facts.kind != "tensor" or facts.reason is not None:
            raise ConfigError(
                f"{where}: Layer {name} does not support tensor quantization: "
                f"{facts.reason or f'its type is {facts.op_type}, expected MaxPool or Add'}.",
                hint="Delete the entry.",
                layer=name,
            )
        if index >= len(facts.node.inputs):
            raise ConfigError(
                f"{where}: input_index = {index}; expected less than {len(facts.node.inputs)}, the inputs of the node.",
                hint="Count inputs from 0.",
                layer=name,
                key="input_index",
                value=index,
            )
        if f"{name}:{index}" in self.layers:
            raise ConfigError(
                f"{where}: its record key {f'{name}:{index}'!r} is the name of another layer.",
                hint="Rename one of the two nodes in the model.",
                layer=name,
            )
        value = TENSOR_KEYS["activation_quant_params"].parse(entry.get("activation_quant_params", {}), where)
        return TensorConfig(
            name, index, self._activation(value, where, facts=None, activation_offset=activation_offset)
        )

    def _warn_slow_search(self, parameters: Mapping[str, Any], where: str) -> None:
        if "search_range" in parameters and "search_step" in parameters:
            start, end = parameters["search_range"]
            candidates = (end - start) / parameters["search_step"]
            if candidates > _MANY_CANDIDATES:
                self.warnings.append(
                    f"{where}: search_step asks for {candidates:.0f} candidates; calibration will be slow."
                )


def _algorithm(
    value: Mapping[str, Any],
    where: str,
    keys: Mapping[str, Parameter],
    choice: Literal["act_algo", "wts_algo"],
    algorithms: Algorithms,
) -> tuple[AlgorithmSpec, dict[str, Any], Mapping[str, Any]]:
    """Split an object into the chosen algorithm, the common keys and the algorithm's parameters, all checked."""
    common = {name: key.parse(value[name], where) if name in value else key.default for name, key in keys.items()}
    name = common[choice]
    if name not in algorithms:
        raise ConfigError(
            f"{where}: {choice} = {name!r}; expected one of "
            f"{', '.join(a.name for a in algorithms.values() if a.refused is None)}.",
            hint="Choose one of them; `ort-quant plugins` lists what plugins add.",
            key=choice,
            value=name,
        )
    spec = algorithms[name]
    own = {p.name for p in spec.parameters}
    foreign = {p.name: a.name for a in algorithms.values() for p in a.parameters if p.name not in own}
    for key in value:
        if key in foreign:
            raise ConfigError(
                f"{where}: {key} (of {foreign[key]}) and {choice} {name} can not appear at same time.",
                hint=f"Delete {key}, or set {choice} to {foreign[key]}.",
                key=key,
                value=value[key],
            )
    refuse_unknown(value, [*keys, *own], where)
    parameters = {p.name: p.parse(value[p.name], where) if p.name in value else p.default for p in spec.parameters}
    wrong = spec.check(parameters) if spec.check else None
    if wrong:
        raise ConfigError(f"{where}: {wrong}.", hint="Correct the values.", parameters=parameters)
    if spec.refused:
        raise ConfigError(
            f"{where}: {choice} = {name!r} is not supported: {spec.refused}.",
            hint=f"Use {keys[choice].default!r}.",
            key=choice,
            value=name,
        )
    return spec, common, parameters


def _why(facts: LayerFacts) -> str:
    if facts.reason is not None:
        return f"Reason: {facts.reason}."
    return f"Only an input tensor of {facts.op_type} can be quantized, with tensor_quantize."
