"""Calibrate a model with data: one pass of sketches, then any methods; AMCT's exact operators on request."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ort_quant_plugin.calibration.choose import fill_record
from ort_quant_plugin.calibration.observed import Use, observed_tensors, read_calibration_node
from ort_quant_plugin.calibration.runner import (
    CalibrationModel,
    CalibrationReport,
    collect_sketches,
    digest_files,
    run_operators,
)
from ort_quant_plugin.config.model import ActivationConfig
from ort_quant_plugin.errors import CalibrationError, ConfigError, ModelError
from ort_quant_plugin.memory import return_freed_memory
from ort_quant_plugin.model import write_model
from ort_quant_plugin.passes.insert_observers import insert_sketches, remove_observers
from ort_quant_plugin.record import Record

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import onnx_ir as ir

    from ort_quant_plugin.calibration.batches import BatchData
    from ort_quant_plugin.calibration.methods import CalibrationMethod
    from ort_quant_plugin.calibration.observed import CalibrationNode
    from ort_quant_plugin.calibration.sketch import Sketch
    from ort_quant_plugin.progress import Progress

__all__ = ["CalibrationOptions", "Calibrator", "calibration_nodes"]


@dataclass(frozen=True)
class CalibrationOptions:
    """How a calibration pass is run.

    Attributes:
        checkpoint: Sketch file that is written as the pass goes on and continued from; ``None`` for none.
        keep: Whether the checkpoint stays when the pass is complete.
        workers: Processes that share the data.
        op_libraries: Libraries of custom operators the model uses.
    """

    checkpoint: Path | None = None
    keep: bool = False
    workers: int = 1
    op_libraries: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ConfigError(
                f"workers is {self.workers}; expected at least 1.", hint="Use 1 or more.", value=self.workers
            )


def calibration_nodes(model: ir.Model) -> list[CalibrationNode]:
    """The calibration nodes of a model, in graph order.

    Raises:
        ModelError: It has none, or one that cannot be understood.
    """
    nodes = [found for node in model.graph if (found := read_calibration_node(node)) is not None]
    if not nodes:
        raise ModelError(
            "The model has no calibration nodes.",
            hint="Give the file that quantize_model (ort-quant prepare) wrote.",
        )
    return nodes


class Calibrator:
    """A calibration model about to be calibrated.

    Attributes:
        nodes: Its calibration nodes.
        batch_num: Runs whose data counts.
        record_file: The record they fill.
    """

    def __init__(self, model: ir.Model, methods: Mapping[str, CalibrationMethod]) -> None:
        """Read what the model wants observed.

        Args:
            model: The calibration model; it is not changed.
            methods: Registered methods by name.

        Raises:
            ModelError: It has no calibration nodes.
        """
        self.model = model
        self.nodes = calibration_nodes(model)
        self.batch_num = max(node.batch_num for node in self.nodes)
        self.record_file = Path(self.nodes[0].record_file)
        self._methods = methods
        self._sketches: Mapping[str, Sketch] | None = None
        self._seconds = 0.0
        self._resumed = 0

    def override(self, method: str) -> None:
        """Let one method choose all ranges, with its default parameters, whatever the model was made for.

        Raises:
            ConfigError: There is no such method.
        """
        self.nodes = [
            dataclasses.replace(node, exact=False, uses=tuple(self._with_method(use, method) for use in node.uses))
            for node in self.nodes
        ]

    def _with_method(self, use: Use, method: str) -> Use:
        if method not in self._methods:
            raise ConfigError(
                f"There is no calibration method {method!r}.",
                hint=f"Use one of: {', '.join(self._methods)}.",
                method=method,
            )
        if use.activation.algo == method:
            return use
        defaults = {parameter.name: parameter.default for parameter in self._methods[method].parameters}
        return Use(use.keys, ActivationConfig(method, use.activation.num_bits, use.activation.asymmetric, defaults))

    def run(self, data: BatchData, options: CalibrationOptions, progress: Progress | None) -> None:
        """Run the data through the model: operators that keep all data first, then one pass of sketches.

        Raises:
            CalibrationError: Too few batches, NaN or infinity, or an operator's refusal.
            DataError: A batch does not fit the model.
            ConfigError: Several workers for operators that keep all data.
        """
        if len(data) < self.batch_num:
            raise CalibrationError(
                f"The data has {len(data)} batches, the calibration model needs batch_num = {self.batch_num}.",
                hint="Give more data, or set a smaller batch_num.",
                batches=len(data),
                batch_num=self.batch_num,
            )
        started = time.perf_counter()
        data = data.select(0, self.batch_num)
        if any(node.exact for node in self.nodes):
            self._run_exact(data, options, progress)
        if not all(node.exact for node in self.nodes):
            self._sketches = self._collect(data, options, progress)
        self._seconds = time.perf_counter() - started

    def _run_exact(self, data: BatchData, options: CalibrationOptions, progress: Progress | None) -> None:
        if options.workers > 1:
            raise ConfigError(
                "Calibration with storage 'exact' runs in one process: the operators keep the data of all batches.",
                hint="Use storage 'sketch', or one worker.",
                workers=options.workers,
            )
        sketched = {node.node.name or "" for node in self.nodes if not node.exact}
        with _work_folder() as folder:
            model = self.model.clone()
            remove_observers(model, only=sketched)
            (path, *_) = write_model(model, folder / "calibration.onnx")
            run_operators(path, data, progress=progress, op_libraries=options.op_libraries)

    def _collect(self, data: BatchData, options: CalibrationOptions, progress: Progress | None) -> Mapping[str, Sketch]:
        with _work_folder() as folder:
            observing = self._observing_model(folder, options.op_libraries)
            return_freed_memory()
            collected = collect_sketches(
                observing,
                data,
                checkpoint=options.checkpoint,
                keep=options.keep,
                workers=options.workers,
                progress=progress,
            )
        return_freed_memory()
        self._resumed = collected.resumed
        return collected.file.sketches

    def _observing_model(self, folder: Path, op_libraries: Sequence[str]) -> CalibrationModel:
        """The model with observers only: the same file whatever the methods, so a second method finds its sketches."""
        layers = {
            value.name or "": tuple(key for use in uses for key in use.keys)
            for value, uses in observed_tensors(node for node in self.nodes if not node.exact).items()
        }
        model = self.model.clone()
        remove_observers(model)
        model.metadata_props.clear()
        by_name = {value.name: value for value in _values(model)}
        insert_sketches(model, [by_name[name] for name in layers])
        paths = write_model(model, folder / "observe.onnx", force_external=True)  # mapped by ONNX Runtime, not copied
        return CalibrationModel(paths[0], digest_files(paths), layers, tuple(op_libraries))

    def use(self, sketches: Mapping[str, Sketch]) -> None:
        """Take sketches by tensor that were collected elsewhere, instead of a run."""
        self._sketches = sketches

    def fill(self, record: Record) -> None:
        """Write the ranges of all sketched tensors into a record, in memory.

        Raises:
            CalibrationError: A tensor's data has no range.
            RecordError: The record is not of this model.
            NumericsError: A scale is out of range.
        """
        if self._sketches is not None:
            sketched = [node for node in self.nodes if not node.exact]
            fill_record(record, sketched, self._sketches, self._methods)

    def write_records(self, methods: Sequence[str]) -> dict[str, Path]:
        """Fill the record file; with several methods, one more file each: ``<record>_<method>.txt``.

        Returns:
            Files by method; the key is empty where every tensor has its own method.

        Raises:
            RecordError, CalibrationError, NumericsError: See :meth:`fill`. Nothing is written then.
            OutputError: A file cannot be written.
        """
        written = {}
        for method in methods or [""]:
            if method:
                self.override(method)
            record = Record.read(self.record_file)
            self.fill(record)
            path = self.record_file
            if len(methods) > 1:
                path = path.with_name(f"{path.stem}_{method}{path.suffix}")
            written[path] = (method, record)
        for path, (_, record) in written.items():
            record.write(path)
        return {method: path for path, (method, _) in written.items()}

    def report(self, *, records: dict[str, Path] | None = None, sketches: Path | None = None) -> CalibrationReport:
        """What was done."""
        return CalibrationReport(self.batch_num, self._seconds, self._resumed, records or {}, sketches)


@contextmanager
def _work_folder() -> Iterator[Path]:
    """A folder for models that live as long as the run; not beside the results, where a killed run would leave it."""
    with tempfile.TemporaryDirectory(prefix="ort-quant-") as name:
        yield Path(name)


def _values(model: ir.Model) -> list[ir.Value]:
    return [*model.graph.inputs, *(output for node in model.graph for output in node.outputs)]
