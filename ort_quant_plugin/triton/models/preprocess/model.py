"""Turns encoded images (JPEG, PNG, …) into the tensor a model takes: decode, resize, crop, (pixel - mean) / std.

Runs inside Triton's python backend; needs numpy and Pillow there. The parameters in ``config.pbtxt`` mean what the
options of the same names mean to ``ort-quant calibrate``, and the result is the same bit for bit:
``mean``, ``std``: numbers separated by commas; ``resize``: short side, or height,width; ``crop``: one size, or
height,width; ``layout``: NCHW or NHWC; ``channels``: RGB, BGR or GRAY; ``max_pixels``: larger images are refused.
"""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import PIL.Image
import triton_python_backend_utils as pb_utils  # the server provides it

__all__ = ["TritonPythonModel"]


class TritonPythonModel:
    """One instance; it keeps nothing between requests."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read the parameters."""
        _check_exchange()
        config = json.loads(args["model_config"])
        parameters = {name: entry["string_value"] for name, entry in config.get("parameters", {}).items()}
        self._mean = _numbers(parameters.get("mean", "0"), np.float32)
        self._std = _numbers(parameters.get("std", "1"), np.float32)
        self._resize = _numbers(parameters.get("resize", ""), int)
        self._crop = _numbers(parameters.get("crop", ""), int)
        self._channels_first = parameters.get("layout", "NCHW") == "NCHW"
        self._channels = parameters.get("channels", "RGB")
        self._max_pixels = int(parameters.get("max_pixels", 50_000_000))
        self._output = config["output"][0]["name"]
        self._dims = config["output"][0]["dims"][-3:]
        self._dtype = pb_utils.triton_string_to_numpy(config["output"][0]["data_type"])

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer every request; a bad image fails its own request only."""
        return [self._respond(request) for request in requests]

    def _respond(self, request: Any) -> Any:
        encoded = pb_utils.get_input_tensor_by_name(request, "image").as_numpy().reshape(-1)
        try:
            samples = [self._sample(data, number) for number, data in enumerate(encoded, 1)]
            if any(sample.shape != samples[0].shape for sample in samples):
                raise ValueError(f"the images of a request give different shapes: {[s.shape for s in samples]}")
        except ValueError as error:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error)))
        return pb_utils.InferenceResponse(output_tensors=[pb_utils.Tensor(self._output, np.stack(samples))])

    def _sample(self, data: bytes, number: int) -> Any:
        image = self._decode(data, number)
        image = self._cropped(self._resized(image), number)
        pixels = np.asarray(image)
        if pixels.ndim == 2:
            pixels = pixels[:, :, np.newaxis]
        if self._channels == "BGR":
            pixels = pixels[:, :, ::-1]
        if np.issubdtype(self._dtype, np.floating):
            pixels = ((pixels.astype(np.float32) - self._mean) / self._std).astype(self._dtype)
        pixels = np.ascontiguousarray(pixels.transpose(2, 0, 1) if self._channels_first else pixels)
        if any(size not in {-1, given} for size, given in zip(self._dims, pixels.shape, strict=True)):
            raise ValueError(f"image {number} gives a tensor {list(pixels.shape)}; the model takes {self._dims}")
        return pixels

    def _decode(self, data: bytes, number: int) -> PIL.Image.Image:
        try:
            image = PIL.Image.open(io.BytesIO(data))
            if image.width * image.height > self._max_pixels:
                raise ValueError(f"it is {image.height}x{image.width}; at most {self._max_pixels} pixels are decoded")
            if image.mode.startswith("I") or image.mode == "F":
                raise ValueError(f"it has mode {image.mode}; expected 8 bits per channel")
            return image.convert("L" if self._channels == "GRAY" else "RGB")
        except (OSError, SyntaxError, ValueError, TypeError, PIL.Image.DecompressionBombError) as error:
            raise ValueError(f"image {number} cannot be decoded: {error}") from error

    def _resized(self, image: PIL.Image.Image) -> PIL.Image.Image:
        if self._resize is None:
            return image
        if self._resize.size == 1:
            short = min(image.size)
            width, height = (side * int(self._resize[0]) // short for side in image.size)
        else:
            height, width = map(int, self._resize)
        if (width, height) == image.size:
            return image
        return image.resize((width, height), PIL.Image.Resampling.BILINEAR)

    def _cropped(self, image: PIL.Image.Image, number: int) -> PIL.Image.Image:
        if self._crop is None:
            return image
        height, width = int(self._crop[0]), int(self._crop[-1])
        if width > image.width or height > image.height:
            raise ValueError(f"image {number} is {image.height}x{image.width}, smaller than the crop {height}x{width}")
        left, top = (image.width - width) // 2, (image.height - height) // 2
        return image.crop((left, top, left + width, top + height))


def _numbers(text: str, dtype: Any) -> Any:
    return np.array([float(part) for part in text.split(",")], dtype=dtype) if text else None


def _check_exchange() -> None:
    """Refuse a numpy the server cannot read: with numpy 2 older servers take zeros in and give nothing out."""
    sent = np.arange(1, 4, dtype=np.float32)
    tensor = pb_utils.Tensor("probe", sent)
    if not np.array_equal(pb_utils.Tensor.from_dlpack("probe", tensor.to_dlpack()).as_numpy(), sent):
        raise RuntimeError(f"this server cannot exchange tensors with numpy {np.__version__}; install numpy<2 for it")
