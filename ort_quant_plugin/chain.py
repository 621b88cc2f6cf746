"""The whole chain on one model: prepare, calibrate, choose, export. Nothing is written before the last step."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ort_quant_plugin.calibration.calibrate import CalibrationOptions, Calibrator
from ort_quant_plugin.calibration.data import open_data
from ort_quant_plugin.calibration.search import search_threshold
from ort_quant_plugin.errors import CalibrationError, ConfigError
from ort_quant_plugin.export import output_paths
from ort_quant_plugin.export.write import select_exporters, split_save_path
from ort_quant_plugin.files import check_writable
from ort_quant_plugin.model import input_specs, refuse_existing
from ort_quant_plugin.plugins import build_plugin_manager
from ort_quant_plugin.record import Record
from ort_quant_plugin.report import QuantizationReport
from ort_quant_plugin.steps import export_prepared, instrument, libraries, load_and_prepare, load_config, make_config

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from ort_quant_plugin.calibration.methods import Storage
    from ort_quant_plugin.calibration.search import MethodScore, Score
    from ort_quant_plugin.export import ExportOptions
    from ort_quant_plugin.progress import Progress

    PathLike = str | os.PathLike[str]

__all__ = ["QuantizeChain"]


class QuantizeChain:
    """:func:`ort_quant_plugin.quantize`, step by step."""

    def __init__(
        self,
        save_path: PathLike,
        targets: Sequence[str],
        options: ExportOptions,
        *,
        inputs: Sequence[PathLike | None],
        force: bool,
    ) -> None:
        self.plugins = build_plugin_manager()
        self.exporters = select_exporters(self.plugins.exporters(), targets)
        self.options = replace(options, op_libraries=tuple(libraries(self.plugins, options.op_libraries)))
        self.save_path = save_path
        self.scores: list[MethodScore] = []
        folder, prefix = split_save_path(save_path)
        self.record_path = folder / f"{prefix}_record.txt"
        outputs = [*output_paths(save_path, self.exporters).values(), self.record_path]
        refuse_existing(outputs, inputs=inputs, force=force)

    def prepare(
        self,
        model: PathLike,
        config: PathLike | None,
        *,
        methods: Sequence[str],
        skip_layers: Sequence[str],
        skip_layer_types: Sequence[str],
        activation_offset: bool,
    ) -> None:
        """Read and prepare the model, decide what is quantized."""
        if config is not None and len(methods) > 1:
            raise ConfigError(
                "Several methods and a configuration file exclude each other: the file names the method of each layer.",
                hint="Leave out the configuration, or give no methods.",
                methods=tuple(methods),
            )
        self.original = model
        self.prepared = load_and_prepare(model, config_file=config, op_libraries=self.options.op_libraries)
        if config is not None:
            self.config = load_config(self.prepared, config)
        else:
            self.config = make_config(
                self.prepared,
                None,
                skip_layers=skip_layers,
                skip_layer_types=skip_layer_types,
                activation_offset=activation_offset,
                algo=methods[0],
            )
        self.from_file = config is not None

    def open_data(self, data: Any, data_options: Mapping[str, Any], batch_num: int | None) -> None:
        """Open the data and settle the number of batches."""
        self.data = open_data(data, input_specs(self.prepared.model), **data_options)
        wanted = batch_num if batch_num is not None else self.config.batch_num if self.from_file else len(self.data)
        if wanted < 1:
            raise ConfigError(f"batch_num is {wanted}; expected at least 1.", hint="Give a positive batch_num.")
        if wanted > len(self.data):
            raise CalibrationError(
                f"The data has {len(self.data)} batches, batch_num is {wanted}.",
                hint="Give more data, or set a smaller batch_num.",
                batches=len(self.data),
                batch_num=wanted,
            )
        self.config = replace(self.config, batch_num=wanted)

    def run(self, progress: Progress | None, *, storage: Storage, sketches: PathLike | None, workers: int) -> None:
        """Calibrate."""
        observe_outputs = any(exporter.target == "qdq" for exporter in self.exporters)
        folder, prefix = split_save_path(self.save_path)
        check_writable(folder)
        options = CalibrationOptions(
            Path(sketches) if sketches is not None else folder / f"{prefix}_calibration.sketches",
            keep=sketches is not None,
            workers=workers,
            op_libraries=self.options.op_libraries,
        )
        with tempfile.TemporaryDirectory(prefix="ort-quant-") as temporary:
            record_file = Path(temporary) / "record.txt"
            instrumented = instrument(
                self.prepared, self.config, record_file, observe_outputs=observe_outputs, storage=storage
            )
            instrumented.record.write(record_file)
            self.calibrator = Calibrator(self.prepared.model, self.plugins.methods())
            self.calibrator.run(self.data, options, progress)
            self.record = Record.read(record_file)

    def choose(self, methods: Sequence[str], score: Score, samples: int, progress: Progress | None) -> None:
        """Fill the record: with the configured method, or with the best of several on the whole net."""
        if len(methods) <= 1:
            self.calibrator.fill(self.record)
            return
        self.record, self.scores = search_threshold(
            self.calibrator,
            self.record,
            methods,
            self._fake_quant_of,
            float_model=self.original,
            data=self.data.select(0, min(samples, len(self.data))),
            score=score,
            op_libraries=self.options.op_libraries,
            progress=progress,
        )

    def _fake_quant_of(self, record: Record, folder: Path) -> Path:
        """Write the fake_quant model of a record."""
        exporters = [exporter for exporter in self.plugins.exporters().values() if exporter.target == "fake_quant"]
        model = self.prepared.model.clone()
        exported = export_prepared(
            model, record, folder / "trial", exporters, options=self.options, plugins=self.plugins
        )
        return exported.outputs["fake_quant"]

    def export(self) -> QuantizationReport:
        """Write the targets' models."""
        exported = export_prepared(
            self.prepared.model,
            self.record,
            self.save_path,
            self.exporters,
            options=self.options,
            plugins=self.plugins,
            skipped=self._skipped(),
            extra_files={self.record_path.name: self.record.to_text()},
            external=self.prepared.external,
        )
        calibration = self.calibrator.report()
        report = QuantizationReport(
            exported.outputs,
            exported.layers,
            exported.notes,
            passes=self.prepared.passes,
            warnings=[*self.config.warnings, *getattr(self.data, "notes", ())],
            record=self.record_path,
            batches=calibration.batches,
            resumed=calibration.resumed,
            calibration_seconds=calibration.seconds,
            scores=self.scores,
        )
        report.sections = {section.title: section.text for section in self.plugins.report_sections(report)}
        return report

    def _skipped(self) -> dict[str, str]:
        chosen = {
            name: "it is in skip_layers or switched off in the configuration"
            for name, layer in self.config.layers.items()
            if not layer.quant_enable
        }
        return chosen | self.prepared.skipped
