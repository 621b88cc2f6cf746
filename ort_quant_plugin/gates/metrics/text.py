"""Text recognizers: how much of the text comes out right.

Edit distances (Levenshtein: insertions, deletions, substitutions) are RapidFuzz's. Texts are compared as they are: no
case folding, no Unicode normalization.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ort_quant_plugin.errors import ConfigError, DataError
from ort_quant_plugin.files import read_text
from ort_quant_plugin.gates.metrics.base import Parameter, SampleMetric
from ort_quant_plugin.gates.metrics.extras import DECODE, call_decoder, load_decoder, one_sample, require
from ort_quant_plugin.gates.metrics.outputs import OUTPUT, check_reference, output_name, per_sample
from ort_quant_plugin.labels import match_by_name, read_table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ort_quant_plugin.calibration.data import CalibrationData
    from ort_quant_plugin.gates.metrics.base import Array, Batch, Rows

__all__ = ["CharAccuracy", "TextAccuracy", "WordAccuracy", "ctc_texts"]

_CHARACTERS = Parameter(
    "characters", "str", None, "", "File with one character a line, in the order of the classes behind the CTC blank."
)
_BLANK = Parameter("blank", "int", 0, "at least 0", "Class of the CTC blank.", lambda value: value >= 0)


class _TextMetric(SampleMetric):
    unit = "share"
    kind: Literal["own", "pair"] = "own"
    needs_labels = True
    needs_reference = False
    options = (DECODE, _CHARACTERS, _BLANK, OUTPUT)

    def read_labels(self, labels: Any, data: CalibrationData) -> Sequence[str]:
        """One text per sample: a ``.txt`` with one a line, a ``.csv`` with columns ``file`` and ``text``, or a list."""
        if isinstance(labels, (str, Path)):
            return _read_texts(Path(labels), data)
        texts = list(labels)
        if not all(isinstance(text, str) for text in texts):
            raise DataError("The labels are no texts.", hint="Give one string per sample.", value=texts[:3])
        return texts

    def _texts(self, batch: Batch, outputs: Mapping[str, Array]) -> list[str]:
        decode, characters = (batch.options.get(name) for name in ("decode", "characters"))
        if (decode is None) == (characters is None):
            raise ConfigError(
                f"The metric {self.name!r} needs one of decode= and characters=, not {'both' if decode else 'none'}.",
                hint="characters=FILE decodes CTC outputs; decode='module:callable' anything else.",
            )
        if decode is not None:
            function = load_decoder(decode)
            found = [
                call_decoder(function, name, one_sample(outputs, index, batch.size))
                for index, name in zip(range(batch.size), batch.names, strict=True)
            ]
            for name, text in zip(batch.names, found, strict=True):
                if not isinstance(text, str):
                    raise DataError(
                        f"decode returned a {type(text).__name__} for sample {name!r}; expected a str.",
                        hint=f"Correct {decode}.",
                        sample=name,
                    )
            return found
        name = output_name(outputs, batch, _is_sequence, "class scores per step, [samples, steps, classes]")
        check_reference(batch, name)
        table = _read_characters(Path(str(characters)))
        return ctc_texts(per_sample(outputs[name], batch.size, name), table, batch.options.get("blank", 0))


class CharAccuracy(_TextMetric):
    """1 − Σ edit distance / Σ length of the truth, in characters, over all samples; at least 0."""

    name = "char_accuracy"
    summary = "1 − character error rate of recognized text"

    def rows(self, batch: Batch, outputs: Mapping[str, Array]) -> Rows:
        """Edit distance and length of each sample."""
        return self._distances(batch.labels, self._texts(batch, outputs))

    def _distances(self, expected: Sequence[Any], found: Sequence[Any]) -> Rows:
        distance = require("rapidfuzz.distance", "rapidfuzz", self.name).Levenshtein.distance
        pairs = zip(expected, found, strict=True)
        return np.array([[distance(truth, text), len(truth)] for truth, text in pairs], np.float64)

    def from_mean_rows(self, mean: Rows, options: Mapping[str, Any]) -> Rows:
        """1 where there is no text and none was found, 0 where there is none and some was found."""
        del options
        distance, length = np.moveaxis(mean, -1, 0)
        rate = np.divide(distance, length, out=np.where(distance > 0, 1.0, 0.0), where=length > 0)
        return np.maximum(0.0, 1 - rate)


class WordAccuracy(CharAccuracy):
    """1 − Σ edit distance / Σ length of the truth, in words between white space, over all samples; at least 0."""

    name = "word_accuracy"
    summary = "1 − word error rate of recognized text"

    def rows(self, batch: Batch, outputs: Mapping[str, Array]) -> Rows:
        """Edit distance and length of each sample."""
        found = [text.split() for text in self._texts(batch, outputs)]
        return self._distances([text.split() for text in batch.labels], found)


class TextAccuracy(_TextMetric):
    """Share of samples whose whole text is right."""

    name = "text_accuracy"
    summary = "share of samples whose whole text is right"
    binary = True

    def rows(self, batch: Batch, outputs: Mapping[str, Array]) -> Rows:
        """One hit per sample."""
        pairs = zip(batch.labels, self._texts(batch, outputs), strict=True)
        return np.array([[float(truth == text)] for truth, text in pairs])


def ctc_texts(scores: Array, characters: Sequence[str], blank: int = 0) -> list[str]:
    """Greedy CTC decoding: the best class of each step, repeats merged, blanks dropped.

    Shapes: scores (samples, steps, classes); classes = characters + blank, or one more, which is then the space.

    Raises:
        DataError: The number of classes is another one.
    """
    classes = scores.shape[2]
    table = [*characters, " "] if classes == len(characters) + 2 else list(characters)
    if classes != len(table) + 1 or blank >= classes:
        raise DataError(
            f"The output has {classes} classes for {len(characters)} characters; expected {len(characters) + 1} "
            f"(with the blank) or {len(characters) + 2} (with blank and space).",
            hint="Give the character file the model was trained with.",
            value=classes,
        )
    table.insert(blank, "")
    best = np.argmax(scores, axis=2)
    first = np.ones(best.shape, bool)
    first[:, 1:] = best[:, 1:] != best[:, :-1]
    return ["".join(table[index] for index in row[keep]) for row, keep in zip(best, first, strict=True)]


def _is_sequence(rows: Array) -> bool:
    return rows.ndim == 3 and rows.shape[2] > 1 and rows.dtype.kind == "f"


def _read_characters(path: Path) -> list[str]:
    text = read_text(path, what="Character file", error=DataError, hint="Give a file with one character a line.")
    return [line.rstrip("\r") for line in text.removesuffix("\n").split("\n")]  # a line may hold a kind of space


def _read_texts(path: Path, data: CalibrationData) -> list[str]:
    if path.suffix.lower() == ".csv":
        rows = read_table(path)
        for line, row in enumerate(rows, 2):
            if row.get("file") is None or row.get("text") is None:
                raise DataError(
                    f"Labels {path}, line {line}: no file and text.",
                    hint="Start the file with the header line 'file,text'.",
                    path=str(path),
                    line=line,
                )
        return match_by_name({row["file"]: row["text"] for row in rows}, data, path)
    if path.suffix.lower() != ".txt":
        raise DataError(f"Labels {path} are neither .txt nor .csv.", hint="Give one of these.", path=str(path))
    text = read_text(path, what="Labels", error=DataError, hint="Give one text per sample, one a line.")
    return [line.rstrip("\r") for line in text.removesuffix("\n").split("\n")]
