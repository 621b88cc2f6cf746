"""What the public functions share: each step of the chain once, on objects instead of files."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ort_quant_plugin.config import config_to_json, default_config, read_simple_config
from ort_quant_plugin.errors import CalibrationError, ConfigError, ModelError
from ort_quant_plugin.export import build_plan, output_paths, write_targets
from ort_quant_plugin.export.write import select_exporters, split_save_path
from ort_quant_plugin.files import staging_folder
from ort_quant_plugin.layers import LayerTable, find_layers
from ort_quant_plugin.model import check_domains, input_specs, is_external, read_model, refuse_existing, write_model
from ort_quant_plugin.passes import PassReport, prepare
from ort_quant_plugin.passes.insert_observers import remove_observers
from ort_quant_plugin.plugins import PluginManager, build_plugin_manager
from ort_quant_plugin.record import Record
from ort_quant_plugin.report import ExportReport, QuantizationReport, layer_reports

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    import onnx_ir as ir

    from ort_quant_plugin.calibration.data import CalibrationData
    from ort_quant_plugin.calibration.instrument import Instrumented
    from ort_quant_plugin.calibration.runner import CalibrationReport
    from ort_quant_plugin.config import QuantConfig
    from ort_quant_plugin.export import Exporter, ExportOptions
    from ort_quant_plugin.progress import Progress

    PathLike = str | os.PathLike[str]

__all__ = ["Prepared", "QuantizeChain", "calibrate", "export", "load_and_prepare", "load_config", "make_config"]


@dataclass
class Prepared:
    """A float model ready for calibration.

    Attributes:
        model: After all preparation passes.
        table: Verdict on every candidate layer.
        passes: What the passes did.
        external: Whether the file's tensors lay in external data.
        plugins: Registered methods, quantizers, exporters.
        skipped: Reasons by layer for quantizable layers that a plugin keeps float.
    """

    model: ir.Model
    table: LayerTable
    passes: list[PassReport]
    external: bool
    plugins: PluginManager
    skipped: dict[str, str] = field(default_factory=dict)


def load_and_prepare(
    model_file: PathLike, *, config_file: PathLike | None = None, op_libraries: Sequence[str] = ()
) -> Prepared:
    """Read a float model and run the preparation passes.

    Args:
        model_file: Float ONNX model.
        config_file: Configuration whose ``do_fusion`` and ``skip_fusion_layers`` decide about fusions.
        op_libraries: Libraries of custom operators the model uses.

    Raises:
        ModelError: The file cannot be read, is quantized already, or uses unknown operators.
    """
    plugins = build_plugin_manager()
    original = read_model(model_file)
    check_domains(original, op_libraries=libraries(plugins, op_libraries))
    prepared = _prepare(original, plugins, config=None)
    if config_file is None:
        return prepared
    config = load_config(prepared, config_file)
    if config.do_fusion and not config.skip_fusion_layers:
        return prepared
    return _prepare(original, plugins, config=config)


def libraries(plugins: PluginManager, op_libraries: Sequence[str]) -> list[str]:
    """Custom-op libraries besides ours: the caller's and those of plugins."""
    return [*map(str, op_libraries), *map(str, plugins.op_libraries().values())]


def _prepare(original: ir.Model, plugins: PluginManager, config: QuantConfig | None) -> Prepared:
    model = original.clone()
    pipeline = plugins.pipeline(config)
    if config is None:
        reports = prepare(model, pipeline=pipeline)
    else:
        reports = prepare(
            model, do_fusion=config.do_fusion, skip_fusion_layers=config.skip_fusion_layers, pipeline=pipeline
        )
    return Prepared(model, find_layers(model), reports, is_external(original), plugins)


def load_config(prepared: Prepared, path: PathLike) -> QuantConfig:
    """Read a JSON or ``.cfg`` configuration for a prepared model; plugins may keep further layers float."""
    from ort_quant_plugin import config

    loaded = config.load_config(
        path,
        prepared.table,
        algorithms=prepared.plugins.algorithms(),
        weight_algorithms=prepared.plugins.weight_algorithms(),
    )
    return _ask_plugins(prepared, loaded)


def make_config(
    prepared: Prepared,
    simple_config: PathLike | None,
    *,
    skip_layers: Sequence[str] = (),
    skip_layer_types: Sequence[str] = (),
    batch_num: int = 1,
    activation_offset: bool = True,
    algo: str = "ifmr",
) -> QuantConfig:
    """A fresh configuration: from a simplified file, or defaults with the given choices."""
    algorithms = prepared.plugins.algorithms()
    weight_algorithms = prepared.plugins.weight_algorithms()
    if simple_config is not None:
        made = read_simple_config(
            simple_config, prepared.table, algorithms=algorithms, weight_algorithms=weight_algorithms
        )
    else:
        made = default_config(
            prepared.table,
            skip_layers=skip_layers,
            skip_layer_types=skip_layer_types,
            batch_num=batch_num,
            activation_offset=activation_offset,
            algo=algo,
            algorithms=algorithms,
            weight_algorithms=weight_algorithms,
        )
    return _ask_plugins(prepared, made)


def _ask_plugins(prepared: Prepared, config: QuantConfig) -> QuantConfig:
    layers = dict(config.layers)
    for name, layer in config.layers.items():
        reason = prepared.plugins.reason_to_skip(prepared.table[name].node, config) if layer.quant_enable else None
        if reason is not None:
            layers[name] = replace(layer, quant_enable=False)
            prepared.skipped[name] = reason
    return replace(config, layers=layers)


def write_named_model(model_file: PathLike, updated_model: PathLike) -> None:
    """Store the model as it is, but with unique, non-empty node names (AMCT ``updated_model``)."""
    from ort_quant_plugin.passes import PassContext, name_nodes

    model = read_model(model_file)
    external = is_external(model)
    name_nodes(model, PassContext())
    write_model(model, updated_model, force_external=external)


def instrument(
    prepared: Prepared, config: QuantConfig, record_file: PathLike, *, observe_outputs: bool
) -> Instrumented:
    """Quantize weights and insert observers into the prepared model, in place."""
    from ort_quant_plugin.calibration.instrument import instrument as instrument_model

    return instrument_model(
        prepared.model,
        prepared.table,
        config,
        record_file=str(Path(record_file).resolve()),
        methods=prepared.plugins.methods(),
        weight_quantizers=prepared.plugins.weight_quantizers(),
        observe_outputs=observe_outputs,
    )


def write_calibration_model(
    prepared: Prepared, config: QuantConfig, model_file: PathLike, record_file: PathLike, *, observe_outputs: bool
) -> Instrumented:
    """Write calibration model and record."""
    instrumented = instrument(prepared, config, record_file, observe_outputs=observe_outputs)
    digest = hashlib.sha256(config_to_json(config).encode()).hexdigest()
    prepared.model.metadata_props["ort_quant.config_sha256"] = digest
    write_model(prepared.model, model_file, force_external=prepared.external)
    instrumented.record.write(record_file)
    return instrumented


def batch_num_of(model: ir.Model) -> int:
    """How many runs a calibration model needs.

    Raises:
        ModelError: The model has no calibration nodes.
    """
    counts = [
        node.attributes["batch_num"].as_int()
        for node in model.graph
        if "record_file_path" in node.attributes and "batch_num" in node.attributes
    ]
    if not counts:
        raise ModelError(
            "The model has no calibration nodes.",
            hint="Give the file that quantize_model (ort-quant prepare) wrote.",
        )
    return max(counts)


def calibrate(
    model_file: PathLike,
    data: Any,
    progress: Progress | None,
    op_libraries: Sequence[str],
    data_options: Mapping[str, Any],
) -> CalibrationReport:
    """Open the data and run the calibration model over it."""
    from ort_quant_plugin.calibration.data import open_data
    from ort_quant_plugin.calibration.runner import run_calibration

    model = read_model(model_file)
    batches = open_data(data, input_specs(model), **data_options)
    others = libraries(build_plugin_manager(), op_libraries)
    return run_calibration(model_file, batches, batch_num_of(model), progress=progress, op_libraries=others)


def export(
    modified_file: PathLike, record_file: PathLike, save_path: PathLike, targets: Sequence[str], options: ExportOptions
) -> ExportReport:
    """Write the targets' models from a calibration model and its record."""
    plugins = build_plugin_manager()
    exporters = select_exporters(plugins.exporters(), targets)
    record = Record.read(record_file)
    model = read_model(modified_file)
    batch_num_of(model)  # a float model would be exported unfused, with the scales of fused weights
    refuse_existing(output_paths(save_path, exporters).values(), inputs=[modified_file, record_file], force=True)
    options = replace(options, op_libraries=tuple(libraries(plugins, options.op_libraries)))
    return _export(model, record, save_path, exporters, options=options, plugins=plugins)


def _export(
    model: ir.Model,
    record: Record,
    save_path: PathLike,
    exporters: Sequence[Exporter],
    *,
    options: ExportOptions,
    plugins: PluginManager,
    skipped: Mapping[str, str] | None = None,
    extra_files: Mapping[str, str] | None = None,
) -> ExportReport:
    remove_observers(model)
    plan = build_plan(model, record)
    model.metadata_props.update(provenance(plugins))
    paths, results = write_targets(model, plan, save_path, exporters, options, extra_files=extra_files)
    notes = plan.notes + [f"{target}: {note}" for target, result in results.items() for note in result.notes]
    stayed = {target: result.stayed_float for target, result in results.items() if result.stayed_float}
    return ExportReport(paths, layer_reports(plan, skipped=skipped or {}, notes=stayed), notes)


def provenance(plugins: PluginManager) -> dict[str, str]:
    """Metadata that tells where a produced model comes from (the deploy model stays plain for ATC)."""
    from ort_quant_plugin import __version__

    stamps = {"ort_quant.version": __version__}
    if others := plugins.provenance():
        stamps["ort_quant.plugins"] = "; ".join(map(str, others))
    return stamps


class QuantizeChain:
    """:func:`ort_quant_plugin.quantize`, step by step; nothing is written before the last one."""

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
        folder, prefix = split_save_path(save_path)
        self.record_path = folder / f"{prefix}_record.txt"
        outputs = [*output_paths(save_path, self.exporters).values(), self.record_path]
        refuse_existing(outputs, inputs=inputs, force=force)

    def prepare(
        self,
        model: PathLike,
        config: PathLike | None,
        *,
        method: str,
        skip_layers: Sequence[str],
        skip_layer_types: Sequence[str],
        activation_offset: bool,
    ) -> None:
        """Read and prepare the model, decide what is quantized."""
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
                algo=method,
            )
        self.from_file = config is not None

    def open_data(self, data: Any, data_options: Mapping[str, Any], batch_num: int | None) -> None:
        """Open the data and settle the number of batches."""
        from ort_quant_plugin.calibration.data import open_data

        self.data: CalibrationData = open_data(data, input_specs(self.prepared.model), **data_options)
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

    def run(self, progress: Progress | None) -> QuantizationReport:
        """Calibrate and export."""
        from ort_quant_plugin.calibration.runner import run_calibration

        folder, _ = split_save_path(self.save_path)
        observe_outputs = any(exporter.target == "qdq" for exporter in self.exporters)
        with staging_folder(folder) as temporary:
            model_file, record_file = temporary / "calibration.onnx", temporary / "record.txt"
            write_calibration_model(
                self.prepared, self.config, model_file, record_file, observe_outputs=observe_outputs
            )
            calibration = run_calibration(
                model_file, self.data, self.config.batch_num, progress=progress, op_libraries=self.options.op_libraries
            )
            record = Record.read(record_file)
            exported = _export(
                self.prepared.model,
                record,
                self.save_path,
                self.exporters,
                options=self.options,
                plugins=self.plugins,
                skipped=self._skipped(),
                extra_files={self.record_path.name: record.to_text()},
            )
        report = QuantizationReport(
            exported.outputs,
            exported.layers,
            exported.notes,
            passes=self.prepared.passes,
            warnings=[*self.config.warnings, *getattr(self.data, "notes", ())],
            record=self.record_path,
            batches=calibration.batches,
            calibration_seconds=calibration.seconds,
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


def as_progress(progress: bool | Progress) -> Progress | None:
    """A callback from what callers pass: True shows a bar when stderr is a terminal, False nothing."""
    if progress is True:
        from ort_quant_plugin.progress import terminal_progress

        return terminal_progress()
    return None if progress is False else progress
