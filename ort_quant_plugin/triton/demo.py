"""A repository of the shipped demo: the digits network, float and quantized, each under a name of its own."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ort_quant_plugin.errors import OutputError

if TYPE_CHECKING:
    import os

    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Demo", "write_demo"]

_MODELS = {
    "digits_float": None,
    "digits_fake_quant": "fake_quant",
    "digits_qdq": "qdq",
    "digits_int8": "ort",
}
"""Name in the repository → what the demo is exported as."""


@dataclass(frozen=True)
class Demo:
    """What the demo repository holds and a question to ask it.

    Attributes:
        repository: The folder.
        models: Names of the models, the recommended one last.
        input: Name of their input.
        output: Name of their output, one logit a digit.
        image: A batch of one digit, ``(1, 1, 8, 8)`` float32 in [0, 1], that was not seen in training.
        label: What it is, 0 to 9.
    """

    repository: Path
    models: tuple[str, ...]
    input: str
    output: str
    image: NDArray[np.float32]
    label: int


def write_demo(repository: str | os.PathLike[str]) -> Demo:
    """Quantize the demo network and write a model repository of it; one written before is replaced.

    Raises:
        OutputError: The folder holds something else, or cannot be written.
    """
    from ort_quant_plugin.api import quantize
    from ort_quant_plugin.demo import demo_model_path, load_digits
    from ort_quant_plugin.triton.options import RepositoryOptions
    from ort_quant_plugin.triton.repository import write_model

    repository = Path(repository)
    strangers = sorted(path.name for path in repository.iterdir()) if repository.is_dir() else []
    strangers = [name for name in strangers if name not in _MODELS]
    if strangers:
        raise OutputError(
            f"Folder {repository} holds something that is not the demo's: {', '.join(strangers[:3])}.",
            hint="Name another folder.",
            path=str(repository),
        )
    digits = load_digits()
    with tempfile.TemporaryDirectory(prefix="ort-quant-") as folder:
        targets = [target for target in _MODELS.values() if target]
        report = quantize(
            demo_model_path(),
            digits.calibration,
            Path(folder) / "digits",
            targets=targets,
            batch_size=5,
            progress=False,
        )
        for name, target in _MODELS.items():
            model = report.outputs[target] if target else demo_model_path()
            write_model(model, repository, RepositoryOptions(name), force=True)
    return Demo(repository, tuple(_MODELS), "image", "logits", digits.evaluation[:1], int(digits.labels[0]))
