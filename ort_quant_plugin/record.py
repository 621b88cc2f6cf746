"""The record file: quantization factors of every layer, as text between calibration and export.

The text layout is the one protobuf prints, line by line, because the calibration operators insert
``    scale_d: …`` lines right behind ``  key: "<layer>"`` and ``  value {`` while a model runs.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ort_quant_plugin.errors import RecordError
from ort_quant_plugin.files import read_text, write_text
from ort_quant_plugin.schemas import RECORD_SCHEMA
from ort_quant_plugin.textproto import message_class, parse_text, print_text

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping

    from ort_quant_plugin.config.model import LayerFacts

__all__ = ["LayerRecord", "Record", "RecordKey", "input_key", "output_key", "resolve_key"]

_FIELDS = RECORD_SCHEMA.message("SingleLayerRecord").fields
_EXTRAS = ("cluster", "scale_h", "offset_h", "scale_r", "offset_r", "dst_type", "fakequant_precision_mode")
_OUTPUT = "output"
_BITS = {"INT4": 4, "INT6": 6, "INT7": 7, "INT8": 8, "INT16": 16}
_CALIBRATE = "Run the calibration model at least batch_num times, then export."
_RERUN = "Make the record again with quantize_model and a calibration run; do not edit it by hand."


@dataclass
class LayerRecord:
    """Factors of one layer or tensor.

    Scales are rounded to float32 when set by the constructor; in memory they are python floats holding that value.

    Attributes:
        key: ``<layer>``, ``<layer>:<input index>`` or ``<layer>:output``.
        scale_d: Activation scale, above 0; ``None`` before calibration.
        offset_d: Activation offset in the signed range (int8: −128…127); ``None`` before calibration.
        scale_w: Weight scales: () without weight, (1,) per tensor, (Cout,) per channel.
        offset_w: Weight offsets, all 0; as many as ``scale_w``.
        shift_bit: Right shifts of joint quantization, as many as ``scale_w``, or ().
        skip_fusion: Whether nothing is folded into the layer; ``None`` = not said.
        is_tensor_quantize: Whether the entry is about a tensor.
        tensor_balance_factor: DMQ factors, (Cin,) or ().
        op_data_type: ``FLOAT32`` or ``FLOAT16``.
        act_type: ``INT8``; AMCT's format also knows ``INT4`` and ``INT16``.
        wts_type: ``INT6``, ``INT7`` or ``INT8``; AMCT's format also knows ``INT4``.
        extras: Fields only other AMCT editions write, kept as they are.
    """

    key: str
    scale_d: float | None = None
    offset_d: int | None = None
    scale_w: tuple[float, ...] = ()
    offset_w: tuple[int, ...] = ()
    shift_bit: tuple[int, ...] = ()
    skip_fusion: bool | None = None
    is_tensor_quantize: bool = False
    tensor_balance_factor: tuple[float, ...] = ()
    op_data_type: str | None = None
    act_type: str | None = None
    wts_type: str | None = None
    extras: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Round scales to float32 and make sequences tuples of plain numbers."""
        if self.scale_d is not None:
            (self.scale_d,) = _float32([self.scale_d])
        if self.offset_d is not None:
            self.offset_d = int(self.offset_d)
        self.scale_w = _float32(self.scale_w)
        self.tensor_balance_factor = _float32(self.tensor_balance_factor)
        self.offset_w = tuple(map(int, self.offset_w))
        self.shift_bit = tuple(map(int, self.shift_bit))

    @property
    def act_bits(self) -> int:
        """Width of the activation; 8 when the file does not say."""
        return _BITS[self.act_type or "INT8"]

    @property
    def wts_bits(self) -> int:
        """Width of the weight; 8 when the file does not say."""
        return _BITS[self.wts_type or "INT8"]

    @property
    def calibrated(self) -> bool:
        """Whether the activation factors are there."""
        return self.scale_d is not None and self.offset_d is not None

    @property
    def only_skips_fusion(self) -> bool:
        """Whether the entry says nothing but ``skip_fusion``: the layer stays float."""
        empty = LayerRecord(self.key, skip_fusion=self.skip_fusion)
        return self.skip_fusion is not None and dataclasses.replace(self, op_data_type=None) == empty


def _float32(values: Iterable[float]) -> tuple[float, ...]:
    with np.errstate(over="ignore"):  # a value beyond float32 becomes inf, which validate() refuses
        return tuple(np.asarray(tuple(values), dtype=np.float64).astype(np.float32).tolist())


@dataclass(frozen=True)
class RecordKey:
    """What a key means for a given model.

    Attributes:
        layer: Name of the layer.
        kind: ``layer``, ``input`` (tensor quantization) or ``output`` (range of the layer's result).
        index: Input index for ``input``, else 0.
    """

    layer: str
    kind: Literal["layer", "input", "output"]
    index: int = 0


def input_key(layer: str, index: int) -> str:
    """Key of the tensor at an input of a layer."""
    return f"{layer}:{index}"


def output_key(layer: str) -> str:
    """Key of the tensor a layer makes (an addition of ours; only the QDQ exporter reads it)."""
    return f"{layer}:{_OUTPUT}"


def resolve_key(key: str, layers: Mapping[str, object]) -> RecordKey | None:
    """Interpret a key: an exact layer name first, else the last ``:`` splits off an input index or ``output``.

    Layer names may contain ``:`` themselves, so the model decides.

    Returns:
        The meaning, or ``None`` when the model has no such layer.
    """
    if key in layers:
        return RecordKey(key, "layer")
    name, colon, suffix = key.rpartition(":")
    if not colon or name not in layers:
        return None
    if suffix == _OUTPUT:
        return RecordKey(name, "output")
    if suffix.isascii() and suffix.isdecimal():
        return RecordKey(name, "input", int(suffix))
    return None


class Record(dict[str, LayerRecord]):
    """A record file: entries by key, in file order.

    Attributes:
        source: Path the record was read from, for messages; ``None`` for one made in memory.
    """

    source: str | None = None

    def add(self, entry: LayerRecord) -> None:
        """Put an entry under its own key, replacing an older one."""
        self[entry.key] = entry

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Record:
        """Read a record file. Values are not judged; :meth:`validate` does that against a model.

        Raises:
            RecordError: The file is missing, unreadable, empty, not a record (with line and column), or an
                entry has no key or value, or one key appears twice.
        """
        name = str(path)
        text = read_text(
            path, what="Record file", error=RecordError, hint="quantize_model (ort-quant prepare) makes it."
        )
        message = parse_text(text, RECORD_SCHEMA, path=name, error=RecordError)
        record = cls()
        record.source = name
        for number, entry in enumerate(message.record, 1):
            missing = [part for part in ("key", "value") if not entry.HasField(part)]
            if missing:
                raise RecordError(
                    f"{name}: entry {number} has no {' and no '.join(missing)}.", hint=_RERUN, path=name, entry=number
                )
            if entry.key in record:
                raise RecordError(
                    f"{name}: layer {entry.key!r} appears twice.", hint=_RERUN, path=name, layer=entry.key
                )
            record.add(_from_message(entry.key, entry.value))
        if not record:
            raise RecordError(
                "record_file is empty, no layers to be quantized. "
                f"Please ensure that calibration is finished. (File {name!r}.)",
                hint=_CALIBRATE,
                path=name,
            )
        return record

    def to_text(self) -> str:
        """The file's text, in protobuf's standard layout.

        Raises:
            RecordError: A value does not fit its field (an offset beyond int32, an unknown extra).
        """
        message = message_class(RECORD_SCHEMA)()
        for entry in self.values():
            target = message.record.add(key=entry.key)
            target.value.SetInParent()
            _to_message(entry, target.value)
        return print_text(message)

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the file; it appears whole or not at all.

        Raises:
            RecordError: A value does not fit its field.
            OutputError: The file cannot be written.
        """
        write_text(path, self.to_text())

    def validate(
        self, layers: Mapping[str, LayerFacts], *, need_activations: bool = True, need_weights: bool = True
    ) -> list[str]:
        """Check every entry against the layers of a model.

        Args:
            layers: Layers of the prepared model by name.
            need_activations: Whether ``scale_d``/``offset_d`` must be there (False before calibration).
            need_weights: Whether ``scale_w``/``offset_w`` must be there (False between balancing and quantize_model).

        Returns:
            Remarks that are no errors: factors of an old release without ``act_type``/``wts_type``.

        Raises:
            RecordError: The first entry that names an unknown or unquantizable layer, lacks a factor or holds
                an illegal one; details ``layer``, ``field``, ``value``.
        """
        from ort_quant_plugin.record_check import check_record

        return check_record(self, layers, need_activations=need_activations, need_weights=need_weights)


def _from_message(key: str, value: Any) -> LayerRecord:
    entry: dict[str, Any] = {}
    extras: dict[str, Any] = {}
    for spec in _FIELDS:
        content = getattr(value, spec.name)
        if spec.label == "repeated":
            if not content:
                continue
            content = tuple(content)
        elif not value.HasField(spec.name):
            continue
        (extras if spec.name in _EXTRAS else entry)[spec.name] = content
    return LayerRecord(key, **entry, extras=extras)


def _to_message(entry: LayerRecord, message: Any) -> None:
    values: dict[str, Any] = {f.name: getattr(entry, f.name) for f in _FIELDS if f.name not in _EXTRAS}
    values["is_tensor_quantize"] = entry.is_tensor_quantize or None
    for name, value in values.items():
        _set_field(message, name, value, entry.key)
    for name, value in entry.extras.items():
        if name not in _EXTRAS:
            raise RecordError(
                f"Layer {entry.key!r}: the record format has no field {name!r}.",
                hint=f"Extras are {', '.join(_EXTRAS)}.",
                layer=entry.key,
                field=name,
                value=value,
            )
        _set_field(message, name, value, entry.key)


def _set_field(message: Any, name: str, value: Any, layer: str) -> None:
    try:
        if isinstance(value, tuple | list):
            getattr(message, name).extend(value)
        elif value is not None:
            setattr(message, name, value)
    except (AttributeError, TypeError, ValueError) as error:
        raise RecordError(
            f"Layer {layer!r}: {name} = {value!r} cannot be written: {error}.",
            hint="Give a value of the field's type (docs/reference/formats.md).",
            layer=layer,
            field=name,
            value=value,
        ) from error
