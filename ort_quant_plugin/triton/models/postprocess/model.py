"""Turns the scores of a classifier into its best classes: label, number and score, best first.

Runs inside Triton's python backend; needs numpy there. Parameters in ``config.pbtxt``: ``softmax``: true makes scores
probabilities; ``labels``: file beside ``config.pbtxt`` with one name a line (without it the label is the number).
The output's last size says how many classes are given.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils  # the server provides it

__all__ = ["TritonPythonModel"]


class TritonPythonModel:
    """One instance; it keeps nothing between requests."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read the parameters and the labels."""
        _check_exchange()
        config = json.loads(args["model_config"])
        parameters = {name: entry["string_value"] for name, entry in config.get("parameters", {}).items()}
        self._softmax = parameters.get("softmax") == "true"
        self._count = int(config["output"][0]["dims"][-1])
        self._input = config["input"][0]["name"]
        name = parameters.get("labels")
        self._labels = None
        if name:
            text = (Path(args["model_repository"]) / name).read_text(encoding="utf-8")
            self._labels = np.array([line.encode() for line in text.splitlines()], dtype=object)

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer every request."""
        return [self._respond(request) for request in requests]

    def _respond(self, request: Any) -> Any:
        scores = pb_utils.get_input_tensor_by_name(request, self._input).as_numpy().astype(np.float32)
        scores = scores.reshape(scores.shape[0], -1)
        values = _softmax(scores) if self._softmax else scores
        if np.isnan(values).any():
            error = pb_utils.TritonError("the model's scores hold NaN: no class wins")
            return pb_utils.InferenceResponse(error=error)
        best = np.argsort(-scores, axis=1, kind="stable")[:, : self._count]  # of equals the first, as argmax
        if self._labels is not None and best.max() >= len(self._labels):
            message = f"class {best.max()} has no label; labels has {len(self._labels)} lines"
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(message))
        labels = self._labels[best] if self._labels is not None else best.astype(str).astype(bytes).astype(object)
        outputs = {
            "label": labels,
            "class_id": best.astype(np.int64),
            "score": np.take_along_axis(values, best, axis=1),
        }
        wanted = request.requested_output_names()
        return pb_utils.InferenceResponse(
            output_tensors=[pb_utils.Tensor(name, value) for name, value in outputs.items() if name in wanted]
        )


def _softmax(scores: Any) -> Any:
    with np.errstate(invalid="ignore"):  # of infinities: the result is NaN, and reported
        powers = np.exp(scores.astype(np.float64) - scores.max(axis=1, keepdims=True))
    return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)


def _check_exchange() -> None:
    """Refuse a numpy the server cannot read: with numpy 2 older servers take zeros in and give nothing out."""
    sent = np.arange(1, 4, dtype=np.float32)
    tensor = pb_utils.Tensor("probe", sent)
    if not np.array_equal(pb_utils.Tensor.from_dlpack("probe", tensor.to_dlpack()).as_numpy(), sent):
        raise RuntimeError(f"this server cannot exchange tensors with numpy {np.__version__}; install numpy<2 for it")
