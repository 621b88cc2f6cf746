"""Images as model input: decode with Pillow, then only what the user asked for.

    y = (pixel - mean) / std,   pixel in 0..255                                  (per channel, float32)

Nothing is guessed from the model: no default mean, no resize, no EXIF rotation, no layout.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from ort_quant_plugin.errors import ConfigError, DataError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from PIL.Image import Image

    from ort_quant_plugin.calibration.feeds import Array
    from ort_quant_plugin.model import TensorSpec

__all__ = ["IMAGE_SUFFIXES", "ImagePreprocess", "read_image"]

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})


@dataclass(frozen=True)
class ImagePreprocess:
    """What happens to a decoded image, in this order: colour, resize, crop, (pixel - mean) / std, layout.

    Attributes:
        mean: Subtracted from pixels 0..255; one value, or one per channel in the order of ``channels``.
        std: Divides the difference; one value, or one per channel; not 0.
        resize: ``(height, width)``, or one number for the short side (aspect ratio kept, the long side is
            rounded down); bilinear with Pillow's antialiasing. ``None`` leaves the size.
        crop: Centre crop to ``(height, width)`` or to a square. ``None`` crops nothing.
        layout: Axis order of the sample; the batch axis comes first.
        channels: Colour order: ``RGB``, ``BGR`` or one ``GRAY`` channel (ITU-R 601 luma, as Pillow converts).

    Raises:
        ConfigError: a value is out of range, or mean/std have a wrong number of channels.
    """

    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    resize: tuple[int, int] | int | None = None
    crop: tuple[int, int] | int | None = None
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    channels: Literal["RGB", "BGR", "GRAY"] = "RGB"

    def __post_init__(self) -> None:
        if self.layout not in ("NCHW", "NHWC"):
            raise ConfigError(
                f"layout is {self.layout!r}; expected NCHW or NHWC.", hint="Use NCHW or NHWC.", value=self.layout
            )
        if self.channels not in ("RGB", "BGR", "GRAY"):
            raise ConfigError(
                f"channels is {self.channels!r}; expected RGB, BGR or GRAY.",
                hint="Use RGB, BGR or GRAY.",
                value=self.channels,
            )
        for name in ("mean", "std"):
            values = getattr(self, name)
            # The three-channel defaults also stand for "none" with GRAY.
            if len(values) not in {1, self.depth} and len(set(values)) != 1:
                raise ConfigError(
                    f"{name} has {len(values)} values, but {self.channels} images have {self.depth}.",
                    hint=f"Give one value, or {self.depth}.",
                    value=values,
                )
            if not all(np.isfinite(value) for value in values) or (name == "std" and 0 in values):
                raise ConfigError(
                    f"{name} is {values}; expected finite numbers{' other than 0' if name == 'std' else ''}.",
                    hint=f"Correct {name}.",
                    value=values,
                )
        for name in ("resize", "crop"):
            size = getattr(self, name)
            if size is not None and min(size if isinstance(size, tuple) else (size,)) < 1:
                raise ConfigError(
                    f"{name} is {size}; expected sizes of at least 1.", hint=f"Correct {name}.", value=size
                )

    @property
    def depth(self) -> int:
        """Number of channels: 1 for GRAY, else 3."""
        return 1 if self.channels == "GRAY" else 3

    @property
    def scales(self) -> bool:
        """Whether pixel values change at all."""
        return any(self.mean) or any(value != 1 for value in self.std)

    @property
    def identity(self) -> dict[str, object]:
        """The values, mean and std per channel in float32: equal for equal preprocessing."""
        scaling = {
            name: np.broadcast_to(self._per_channel(getattr(self, name)), self.depth).tolist()
            for name in ("mean", "std")
        }
        return {**asdict(self), **scaling}

    def _per_channel(self, values: tuple[float, ...]) -> NDArray[np.float32]:
        return np.asarray(values if len(values) == self.depth else values[:1], dtype=np.float32)


def read_image(path: Path, preprocess: ImagePreprocess, spec: TensorSpec) -> Array:
    """Decode and preprocess one image.

    Shapes: result (C, H, W) or (H, W, C), in the input's dtype. A uint8 input takes pixels as they are.

    Raises:
        DataError: the file cannot be decoded, is 16-bit or float, is smaller than the crop, or the input is of
            an integer type while mean/std are given.
    """
    image = _decode(path, preprocess)
    image = _crop(_resize(image, preprocess.resize), preprocess.crop, path)
    pixels = np.asarray(image)
    if pixels.ndim == 2:
        pixels = pixels[:, :, np.newaxis]
    if preprocess.channels == "BGR":
        pixels = pixels[:, :, ::-1]
    pixels = _scale(pixels, preprocess, spec)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1) if preprocess.layout == "NCHW" else pixels)


def _decode(path: Path, preprocess: ImagePreprocess) -> Image:
    import PIL.Image

    try:
        with PIL.Image.open(path) as image:
            if image.mode.startswith("I") or image.mode == "F":
                raise DataError(
                    f"Image {path} has mode {image.mode}; expected 8 bits per channel.",
                    hint="Convert it to 8 bits, or save the preprocessed samples as .npy.",
                    path=str(path),
                    value=image.mode,
                )
            decoded: Image = image.convert("L" if preprocess.channels == "GRAY" else "RGB")
            return decoded
    except FileNotFoundError as error:
        raise DataError(f"Image {path} does not exist.", hint="Check the path.", path=str(path)) from error
    except (OSError, SyntaxError, ValueError, PIL.Image.DecompressionBombError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"Image {path} cannot be decoded: {error}.",
            hint="Remove the file from the data, or replace it by an intact copy.",
            path=str(path),
        ) from error


def _resize(image: Image, size: tuple[int, int] | int | None) -> Image:
    import PIL.Image

    if size is None:
        return image
    if isinstance(size, int):
        width, height = image.size
        short = min(width, height)
        size = (height * size // short, width * size // short)
    height, width = size
    return image if (width, height) == image.size else image.resize((width, height), PIL.Image.Resampling.BILINEAR)


def _crop(image: Image, size: tuple[int, int] | int | None, path: Path) -> Image:
    if size is None:
        return image
    height, width = (size, size) if isinstance(size, int) else size
    if width > image.width or height > image.height:
        raise DataError(
            f"Image {path} is {image.height}x{image.width} (height x width) before the crop to {height}x{width}.",
            hint="Resize to at least the crop size (--resize), or crop less (--crop).",
            path=str(path),
            value=(image.height, image.width),
            expected=(height, width),
        )
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def _scale(pixels: Array, preprocess: ImagePreprocess, spec: TensorSpec) -> Array:
    dtype = np.dtype(spec.dtype)
    if np.issubdtype(dtype, np.floating):
        mean, std = preprocess._per_channel(preprocess.mean), preprocess._per_channel(preprocess.std)
        return ((pixels.astype(np.float32) - mean) / std).astype(dtype)
    if dtype == np.uint8 and not preprocess.scales:
        return pixels
    raise DataError(
        f"Images cannot feed input '{spec.name}' of dtype {dtype}"
        + (" with mean and std: the values would be rounded." if dtype == np.uint8 else "."),
        hint="Leave out mean and std." if dtype == np.uint8 else "Save the samples as .npy in the input's dtype.",
        input=spec.name,
        value=str(dtype),
    )
