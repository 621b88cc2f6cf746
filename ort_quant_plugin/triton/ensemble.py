"""An image classifier as one Triton model: encoded image in, labels out.

::

    image (BYTES) ─▶ <name>_preprocess ─▶ <name> ─▶ <name>_postprocess ─▶ label, class_id, score
                     └──────────────── <name>_ensemble ────────────────┘

The middle is the model itself, served under its own name too; the outer two run in Triton's python backend and need
nothing but numpy and Pillow there.
"""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ort_quant_plugin.errors import ConfigError, DataError, OutputError
from ort_quant_plugin.files import read_text, staging_folder, unwritable
from ort_quant_plugin.model import refuse_existing
from ort_quant_plugin.triton.config import CONFIG_NAME, ModelConfig, config_messages, config_text, parse_config
from ort_quant_plugin.triton.repository import FOLDER_MODE, WrittenModel, template_path, write_model

if TYPE_CHECKING:
    import os

    from ort_quant_plugin.calibration.images import ImagePreprocess
    from ort_quant_plugin.triton.options import RepositoryOptions

__all__ = ["Classifier", "WrittenEnsemble", "write_ensemble"]

LABELS_NAME = "labels.txt"


@dataclass(frozen=True)
class Classifier:
    """What stands around the model.

    Attributes:
        preprocess: How an image becomes the model's input.
        labels: File with the name of one class a line, in the model's order; ``None``: labels are numbers.
        top_k: Classes in the answer, best first.
        softmax: Whether the model's scores are to be made probabilities.
    """

    preprocess: ImagePreprocess
    labels: str | os.PathLike[str] | None = None
    top_k: int = 1
    softmax: bool = False


@dataclass(frozen=True)
class WrittenEnsemble:
    """What was written.

    Attributes:
        model: The model in the middle.
        name: Name of the ensemble, which clients ask for.
        folders: The folders of the ensemble and of what stands around the model.
        notes: What the user should know.
    """

    model: WrittenModel
    name: str
    folders: tuple[Path, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The fields by name, paths as text."""
        return {
            **self.model.to_dict(),
            "ensemble": self.name,
            "ensemble_folders": [str(folder) for folder in self.folders],
            "notes": list(self.notes),
        }


def write_ensemble(
    model: str | os.PathLike[str],
    repository: str | os.PathLike[str],
    options: RepositoryOptions,
    classifier: Classifier,
    *,
    force: bool = False,
) -> WrittenEnsemble:
    """Write a classifier with the image decoding in front of it and the choice of the best class behind it.

    Args:
        model: The ONNX file: one image input, one output with a score for each class.
        repository: The repository's folder.
        options: How the model itself is served.
        classifier: What stands around it.
        force: Overwrite what exists.

    Raises:
        ConfigError: The model is no image classifier, or the preprocessing gives another shape than it takes.
        DataError: The labels cannot be read, or are not as many as there are classes.
        OrtQuantError: See :func:`~ort_quant_plugin.triton.repository.write_model`.
    """
    from ort_quant_plugin.triton.config import build_config
    from ort_quant_plugin.triton.signature import read_signature

    repository = Path(repository)
    roles = ("preprocess", "postprocess", "ensemble")
    folders = {role: repository / f"{options.name}_{role}" for role in roles}
    refuse_existing(list(folders.values()), force=force)
    config = build_config({options.version: read_signature(model)}, options)
    labels = _check(config, classifier)
    written = write_model(model, repository, options, force=force)
    config = parse_config(written.config)
    configs = {
        "preprocess": _preprocess_config(config, classifier.preprocess),
        "postprocess": _postprocess_config(config, classifier),
        "ensemble": _ensemble_config(config, classifier.top_k),
    }
    try:
        with staging_folder(repository, mode=FOLDER_MODE) as staging:
            for role, built in configs.items():
                _write_stage(staging / built.name, role, built, labels)
            for role, folder in folders.items():
                if folder.exists():
                    folder.rename(staging / f"replaced_{role}")
                (staging / folder.name).rename(folder)
    except OutputError:  # an OSError too, and complete
        raise
    except OSError as error:
        raise unwritable(Path(error.filename or repository), error) from error
    notes = [*written.notes, *_notes(config, classifier.preprocess)]
    return WrittenEnsemble(written, folders["ensemble"].name, tuple(folders.values()), tuple(notes))


def _check(config: ModelConfig, classifier: Classifier) -> str | None:
    """Refuse what is no image classifier, before anything is written; returns the text of the labels."""
    if len(config.input) != 1 or len(config.output) != 1:
        raise ConfigError(
            f"Model {config.name!r} has {len(config.input)} inputs and {len(config.output)} outputs; an ensemble is "
            "written for image classifiers, which have one of each.",
            hint="Write the model without --ensemble and call it with tensors.",
        )
    if classifier.top_k < 1:
        raise ConfigError(f"top_k is {classifier.top_k}; expected at least 1.", hint="Correct --top-k.")
    _check_image(config, classifier.preprocess)
    classes = _classes(config)
    if classes is not None and classifier.top_k > classes:
        raise ConfigError(
            f"top_k is {classifier.top_k}, but the model has {classes} classes.", hint="Lower --top-k.", classes=classes
        )
    if classifier.labels is None:
        return None
    text = read_text(classifier.labels, what="Label file", error=DataError, hint="Give one class name a line.")
    lines = len(text.splitlines())
    if classes is not None and lines != classes:
        raise DataError(
            f"Label file {str(classifier.labels)!r} has {lines} lines, but the model has {classes} classes.",
            hint="Give one class name a line, in the model's order.",
            path=str(classifier.labels),
            value=lines,
            expected=classes,
        )
    return text


def _check_image(config: ModelConfig, preprocess: ImagePreprocess) -> None:
    entry = config.input[0]
    made = _image_dims(preprocess)
    dims = list(entry.dims)[-3:]
    fits = len(dims) == 3 and all(-1 in {a, b} or a == b for a, b in zip(dims, made, strict=True))
    if not fits:
        raise ConfigError(
            f"Preprocessing gives {made} ({preprocess.layout}, {preprocess.channels}), but input {entry.name!r} takes "
            f"{list(entry.dims)}.",
            hint="Set --resize, --crop, --layout and --channels as in calibration.",
            value=made,
            expected=list(entry.dims),
        )
    kind = config_messages().DataType.Name(entry.data_type)
    if kind not in {"TYPE_FP16", "TYPE_FP32", "TYPE_FP64"} and (kind != "TYPE_UINT8" or preprocess.scales):
        raise ConfigError(
            f"Images cannot feed input {entry.name!r} of {kind}"
            + (" with mean and std." if preprocess.scales else "."),
            hint="A uint8 input takes pixels as they are: leave out --mean and --std. Other integer types take none.",
            value=kind,
        )


def _image_dims(preprocess: ImagePreprocess) -> list[int]:
    """Shape of one preprocessed image; -1 where it depends on the image."""
    size = preprocess.crop if preprocess.crop is not None else preprocess.resize
    if isinstance(size, int):
        size = (size, size) if preprocess.crop is not None else None
    height, width = size or (-1, -1)
    depth = preprocess.depth
    return [depth, height, width] if preprocess.layout == "NCHW" else [height, width, depth]


def _classes(config: ModelConfig) -> int | None:
    """How many classes the output scores; ``None`` where an axis is free."""
    entry = config.output[0]
    dims = list(entry.dims) if config.max_batch_size else list(entry.dims)[1:]
    if sum(size != 1 for size in dims) > 1 or not dims:
        raise ConfigError(
            f"Output {entry.name!r} has shape {list(entry.dims)}; expected one score for each class.",
            hint="Write the model without --ensemble and call it with tensors.",
            value=list(entry.dims),
        )
    return None if -1 in dims else math.prod(dims)


def _notes(config: ModelConfig, preprocess: ImagePreprocess) -> list[str]:
    if -1 not in _image_dims(preprocess) or -1 in list(config.input[0].dims)[-3:]:
        return []
    return ["Images must have exactly the model's size: neither --crop nor --resize HEIGHT,WIDTH is given."]


def _count_dims(config: ModelConfig, last: int | None = None) -> list[int]:
    """Shape with one entry an image: the batch axis is the server's, or the model's own first axis."""
    if config.max_batch_size:
        return [1 if last is None else last]
    samples = config.input[0].dims[0]
    return [samples] if last is None else [samples, last]


def _python_config(config: ModelConfig, role: str) -> ModelConfig:
    messages = config_messages()
    built = messages.ModelConfig(name=f"{config.name}_{role}", backend="python", max_batch_size=config.max_batch_size)
    built.instance_group.add(kind=messages.ModelInstanceGroup.KIND_CPU, count=1)
    return built


def _preprocess_config(config: ModelConfig, preprocess: ImagePreprocess) -> ModelConfig:
    built = _python_config(config, "preprocess")
    built.input.add(name="image", data_type="TYPE_STRING", dims=_count_dims(config))
    taken = config.input[0]
    built.output.add(name=taken.name, data_type=taken.data_type, dims=taken.dims)
    values = {
        "mean": _numbers(preprocess.mean),
        "std": _numbers(preprocess.std),
        "resize": _numbers(preprocess.resize),
        "crop": _numbers(preprocess.crop),
        "layout": preprocess.layout,
        "channels": preprocess.channels,
    }
    for name, value in values.items():
        if value:
            built.parameters[name].string_value = value
    return built


def _numbers(values: tuple[float, ...] | int | None) -> str:
    """``127.5,127,1``: the shortest text that is read back as the same number."""
    if values is None:
        return ""
    values = values if isinstance(values, tuple) else (values,)
    shown = values[:1] if len(set(values)) == 1 and isinstance(values[0], float) else values
    return ",".join(np.format_float_positional(np.float64(value), trim="-") for value in shown)


def _postprocess_config(config: ModelConfig, classifier: Classifier) -> ModelConfig:
    built = _python_config(config, "postprocess")
    scores = config.output[0]
    built.input.add(name=scores.name, data_type=scores.data_type, dims=scores.dims)
    _add_answer(built, config, classifier.top_k)
    if classifier.labels is not None:
        built.parameters["labels"].string_value = LABELS_NAME
    if classifier.softmax:
        built.parameters["softmax"].string_value = "true"
    return built


def _add_answer(built: ModelConfig, config: ModelConfig, top_k: int) -> None:
    for name, kind in (("label", "TYPE_STRING"), ("class_id", "TYPE_INT64"), ("score", "TYPE_FP32")):
        built.output.add(name=name, data_type=kind, dims=_count_dims(config, top_k))


def _ensemble_config(config: ModelConfig, top_k: int) -> ModelConfig:
    built = config_messages().ModelConfig(
        name=f"{config.name}_ensemble", platform="ensemble", max_batch_size=config.max_batch_size
    )
    built.input.add(name="image", data_type="TYPE_STRING", dims=_count_dims(config))
    _add_answer(built, config, top_k)
    for key, value in config.metric_tags.items():
        built.metric_tags[key] = value
    tensor, scores = config.input[0].name, config.output[0].name
    steps = (
        (f"{config.name}_preprocess", {"image": "image"}, {tensor: "tensor"}),
        (config.name, {tensor: "tensor"}, {scores: "scores"}),
        (f"{config.name}_postprocess", {scores: "scores"}, {output.name: output.name for output in built.output}),
    )
    for name, inputs, outputs in steps:
        built.ensemble_scheduling.step.add(model_name=name, model_version=-1, input_map=inputs, output_map=outputs)
    return built


def _write_stage(stage: Path, role: str, config: ModelConfig, labels: str | None) -> None:
    version = stage / "1"
    version.mkdir(parents=True)
    (stage / CONFIG_NAME).write_text(config_text(config), encoding="utf-8")
    if role == "ensemble":
        (version / ".keep").touch()  # object stores and git keep no empty folders, and Triton wants this one
        return
    shutil.copyfile(template_path(role), version / "model.py")
    if role == "postprocess" and labels is not None:
        (stage / LABELS_NAME).write_text(labels, encoding="utf-8")
