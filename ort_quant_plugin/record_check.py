"""The rules a record must satisfy before it is exported, judged against the layers of a model (AMCT's load rules)."""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ort_quant_plugin.errors import RecordError
from ort_quant_plugin.record import input_key, resolve_key

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ort_quant_plugin.config.model import LayerFacts
    from ort_quant_plugin.record import LayerRecord, Record, RecordKey

__all__ = ["check_record"]

_ACT_TYPES = ("INT4", "INT8", "INT16")
_WTS_TYPES = ("INT4", "INT6", "INT7", "INT8")
_OP_DATA_TYPES = ("FLOAT32", "FLOAT16")
_FLT_EPSILON = float(np.finfo(np.float32).eps)
_CALIBRATE = "Run the calibration model at least batch_num times, then export."
_RERUN = "Make the record again with quantize_model and a calibration run; do not edit it by hand."


def check_record(
    record: Record, layers: Mapping[str, LayerFacts], *, need_activations: bool, need_weights: bool
) -> list[str]:
    """Check every entry; see :meth:`ort_quant_plugin.record.Record.validate`."""
    where = record.source or "record"
    uncalibrated = sum(not e.calibrated and not e.only_skips_fusion for e in record.values())
    silent: dict[str, list[str]] = {"act_type": [], "wts_type": []}
    for entry in record.values():
        check = _EntryCheck(entry, where)
        target, facts = check.target(layers)
        if entry.only_skips_fusion:
            continue
        check.types()
        check.activation(needed=need_activations, uncalibrated=uncalibrated)
        if target.kind == "layer":
            check.weight(facts, needed=need_weights)
            check.balance(facts)
        else:
            check.no_weight(target)
        if entry.act_type is None and entry.calibrated:
            silent["act_type"].append(entry.key)
        if entry.wts_type is None and entry.scale_w and facts.weight is not None:
            silent["wts_type"].append(entry.key)
    return [
        f"{where}: {len(keys)} entries have no {name} (first: {keys[0]!r}); INT8 is assumed."
        for name, keys in silent.items()
        if keys
    ]


@dataclass(frozen=True)
class _EntryCheck:
    """AMCT's load rules for one entry, each with a message that names layer, field, value and cure."""

    entry: LayerRecord
    where: str

    def error(self, name: str, value: object, expected: str, hint: str = _RERUN) -> RecordError:
        return RecordError(
            f"{self.where}: layer {self.entry.key!r}: {name} is {value!r}; expected {expected}.",
            hint=hint,
            layer=self.entry.key,
            field=name,
            value=value,
        )

    def target(self, layers: Mapping[str, LayerFacts]) -> tuple[RecordKey, LayerFacts]:
        entry = self.entry
        target = resolve_key(entry.key, layers)
        if target is None:
            near = difflib.get_close_matches(entry.key, layers, n=1)
            raise RecordError(
                f"{self.where}: layer {entry.key!r} does not exist in the model.",
                hint=f"Use the record of this model{f' (did you mean {near[0]!r}?)' if near else ''}.",
                layer=entry.key,
                field="key",
                value=entry.key,
            )
        facts = layers[target.layer]
        reason = facts.reason
        if reason is None and target.kind == "layer" and facts.kind != "layer":
            reason = f"of {facts.op_type} only an input tensor is quantized ({input_key(target.layer, 0)!r})"
        if reason is None and target.kind == "input":
            if facts.kind != "tensor":
                reason = f"{facts.op_type} is quantized as a layer, under its own name"
            elif target.index >= len(facts.node.inputs):
                reason = f"the node has {len(facts.node.inputs)} inputs"
        if reason is not None and target.kind != "output":
            raise RecordError(
                f"{self.where}: layer {entry.key!r} does not support quantization: {reason}.",
                hint="Use the record of this model.",
                layer=entry.key,
                field="key",
                value=entry.key,
            )
        if entry.is_tensor_quantize and target.kind == "layer":
            raise self.error("is_tensor_quantize", True, f"false: {entry.key!r} is a layer, not a tensor of one")
        return target, facts

    def activation(self, *, needed: bool, uncalibrated: int) -> None:
        entry = self.entry
        for name in ("scale_d", "offset_d"):
            if getattr(entry, name) is None and (needed or entry.scale_d is not None or entry.offset_d is not None):
                raise RecordError(
                    f"cannot find {name} of layer {entry.key} in record_file, please check data calibration process!",
                    hint=f"{_CALIBRATE} ({uncalibrated} of the entries in {self.where} have no activation factors.)",
                    layer=entry.key,
                    field=name,
                    value=None,
                )
        if entry.scale_d is not None:
            self._positive("scale_d", (entry.scale_d,))
        if entry.act_type not in (None, "INT8"):
            raise self.error(
                "act_type",
                entry.act_type,
                "INT8: 4- and 16-bit activations are reserved for a few Ascend chips and not exported here",
            )
        high = 2 ** (entry.act_bits - 1)
        if entry.offset_d is not None and not -high <= entry.offset_d < high:
            raise self.error("offset_d", entry.offset_d, f"an integer in [{-high}, {high - 1}]")

    def weight(self, facts: LayerFacts, *, needed: bool) -> None:
        entry = self.entry
        if facts.weight is not None and needed and not entry.scale_w:
            raise self.error("scale_w", None, "the weight's scale")
        if len(entry.scale_w) != len(entry.offset_w):
            raise self.error("offset_w", f"{len(entry.offset_w)} values", f"as many as scale_w ({len(entry.scale_w)})")
        lengths = sorted({1, facts.out_channels} if facts.channel_wise else {1})
        if entry.scale_w and len(entry.scale_w) not in lengths:
            raise self.error(
                "scale_w",
                f"{len(entry.scale_w)} values",
                f"{' or '.join(map(str, lengths))} for this {facts.op_type}",
                hint="Use the record of this model.",
            )
        self._positive("scale_w", entry.scale_w)
        if facts.weight is not None and entry.wts_bits not in facts.weight_bits:
            legal = ", ".join(f"INT{bits}" for bits in facts.weight_bits)
            raise self.error("wts_type", entry.wts_type, f"{legal} for this {facts.op_type}")
        for value in entry.offset_w:
            if value != 0:
                raise self.error("offset_w", value, "0: weights are symmetric")
        self._shift_bit(facts)

    def _shift_bit(self, facts: LayerFacts) -> None:
        shifts = self.entry.shift_bit
        if not shifts:
            return
        if facts.weight is None:
            raise self.error(
                "shift_bit", shifts[0], f"none for {facts.op_type}", hint="Please delete shift_bit from the record."
            )
        if len(shifts) != len(self.entry.scale_w):
            raise self.error("shift_bit", f"{len(shifts)} values", f"as many as scale_w ({len(self.entry.scale_w)})")
        if any(shifts):
            for shift in shifts:
                if not 1 <= shift <= 16:
                    raise self.error("shift_bit", shift, "all 0, or every value in [1, 16]")

    def no_weight(self, target: RecordKey) -> None:
        what = "an input tensor" if target.kind == "input" else "an output tensor"
        for name in ("scale_w", "offset_w", "shift_bit", "tensor_balance_factor"):
            if values := getattr(self.entry, name):
                raise self.error(name, values[0], f"none for {what}", hint=f"Please delete {name} from this entry.")

    def balance(self, facts: LayerFacts) -> None:
        factors = self.entry.tensor_balance_factor
        if not factors:
            return
        if not facts.balance:
            raise self.error("tensor_balance_factor", factors[0], f"none for {facts.op_type}")
        if len(factors) != facts.in_channels:
            raise self.error("tensor_balance_factor", f"{len(factors)} values", f"{facts.in_channels} (input channels)")
        for factor in factors:
            if not _FLT_EPSILON <= factor <= 1 / _FLT_EPSILON:
                raise self.error(
                    "tensor_balance_factor", factor, f"a value in [{_FLT_EPSILON:g}, {1 / _FLT_EPSILON:g}]"
                )

    def types(self) -> None:
        entry = self.entry
        if entry.act_type is not None and entry.act_type not in _ACT_TYPES:
            raise self.error("act_type", entry.act_type, f"one of {', '.join(_ACT_TYPES)}")
        if entry.wts_type is not None and entry.wts_type not in _WTS_TYPES:
            raise self.error("wts_type", entry.wts_type, f"one of {', '.join(_WTS_TYPES)}")
        if entry.op_data_type is not None and entry.op_data_type not in _OP_DATA_TYPES:
            raise self.error("op_data_type", entry.op_data_type, f"one of {', '.join(_OP_DATA_TYPES)}")
        cluster = entry.extras.get("cluster", ())
        if cluster and (len(cluster) not in (16, 32) or not all(-128 <= c <= 127 for c in cluster)):
            raise self.error("cluster", f"{len(cluster)} values", "16 or 32 values in [-128, 127]")

    def _positive(self, name: str, values: tuple[float, ...]) -> None:
        for value in values:
            if not (math.isfinite(value) and value > 0):
                raise self.error(name, value, "a finite number above 0")
