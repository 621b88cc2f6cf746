"""What the public functions share: each step of the chain once, on objects instead of files."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ort_quant_plugin.config import config_to_json, default_config, read_simple_config
from ort_quant_plugin.errors import UnsupportedError
from ort_quant_plugin.export import build_plan, output_paths, write_targets
from ort_quant_plugin.export.write import select_exporters
from ort_quant_plugin.layers import LayerTable, find_layers
from ort_quant_plugin.model import check_domains, input_specs, is_external, read_model, refuse_existing, write_model
from ort_quant_plugin.passes import PassReport, prepare
from ort_quant_plugin.passes.insert_observers import remove_observers
from ort_quant_plugin.plugins import PluginManager, build_plugin_manager
from ort_quant_plugin.record import Record
from ort_quant_plugin.report import ExportReport, layer_reports

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import onnx_ir as ir

    from ort_quant_plugin.calibration.calibrate import CalibrationOptions
    from ort_quant_plugin.calibration.instrument import Instrumented
    from ort_quant_plugin.calibration.methods import Storage
    from ort_quant_plugin.calibration.runner import CalibrationReport
    from ort_quant_plugin.config import QuantConfig
    from ort_quant_plugin.export import Exporter, ExportOptions
    from ort_quant_plugin.lowering import LoweringReport
    from ort_quant_plugin.progress import Progress

    PathLike = str | os.PathLike[str]

__all__ = [
    "Prepared",
    "as_progress",
    "calibrate",
    "export",
    "export_prepared",
    "instrument",
    "libraries",
    "load_and_prepare",
    "load_config",
    "lower",
    "make_config",
    "write_calibration_model",
    "write_named_model",
    "write_ranges",
]


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
    prepared: Prepared,
    config: QuantConfig,
    record_file: PathLike,
    *,
    observe_outputs: bool,
    storage: Storage = "sketch",
) -> Instrumented:
    """Quantize weights and insert observers into the prepared model, in place."""
    from ort_quant_plugin.calibration.instrument import instrument as instrument_model

    digest = hashlib.sha256(config_to_json(config).encode()).hexdigest()
    prepared.model.metadata_props["ort_quant.config_sha256"] = digest
    return instrument_model(
        prepared.model,
        prepared.table,
        config,
        record_file=str(Path(record_file).resolve()),
        methods=prepared.plugins.methods(),
        weight_quantizers=prepared.plugins.weight_quantizers(),
        observe_outputs=observe_outputs,
        storage=storage,
    )


def write_calibration_model(
    prepared: Prepared,
    config: QuantConfig,
    model_file: PathLike,
    record_file: PathLike,
    *,
    observe_outputs: bool,
    storage: Storage,
) -> Instrumented:
    """Write calibration model and record."""
    instrumented = instrument(prepared, config, record_file, observe_outputs=observe_outputs, storage=storage)
    write_model(prepared.model, model_file, force_external=prepared.external)
    instrumented.record.write(record_file)
    return instrumented


def sketch_file_of(model_file: PathLike) -> Path:
    """Sketch file beside the record file of a calibration model."""
    from ort_quant_plugin.calibration.calibrate import calibration_nodes

    record = Path(calibration_nodes(read_model(model_file))[0].record_file)
    return record.with_name(f"{record.stem}.sketches")


def calibrate(
    model_file: PathLike,
    data: Any,
    progress: Progress | None,
    options: CalibrationOptions,
    data_options: Mapping[str, Any],
    *,
    methods: Sequence[str] = (),
) -> CalibrationReport:
    """Open the data, run the calibration model over it, write the record."""
    from ort_quant_plugin.calibration.calibrate import Calibrator
    from ort_quant_plugin.calibration.data import open_data

    model = read_model(model_file)
    plugins = build_plugin_manager()
    calibrator = Calibrator(model, plugins.methods())
    for method in methods:
        calibrator.override(method)
    if options.checkpoint is None:
        record = calibrator.record_file
        options = replace(options, checkpoint=record.with_name(f"{record.stem}.sketches"))
    options = replace(options, op_libraries=tuple(libraries(plugins, options.op_libraries)))
    calibrator.run(open_data(data, input_specs(model), **data_options), options, progress)
    records = calibrator.write_records(methods)
    return calibrator.report(records=records, sketches=options.checkpoint if options.keep else None)


def write_ranges(
    model_file: PathLike, sketches: bytes | PathLike | Sequence[bytes], methods: Sequence[str]
) -> dict[str, Path]:
    """Fill the record of a calibration model from sketches collected elsewhere."""
    from ort_quant_plugin.calibration.calibrate import Calibrator
    from ort_quant_plugin.calibration.sketch import Sketch, merge
    from ort_quant_plugin.calibration.sketch_file import SketchFile

    calibrator = Calibrator(read_model(model_file), build_plugin_manager().methods())
    for method in methods:
        calibrator.override(method)
    if isinstance(sketches, (str, os.PathLike)):
        calibrator.use(SketchFile.read(Path(sketches)).sketches)
    else:
        blobs = [sketches] if isinstance(sketches, bytes) else sketches
        calibrator.use(merge(sketch for blob in blobs for sketch in Sketch.split(blob)))
    return calibrator.write_records(methods)


def export(
    modified_file: PathLike, record_file: PathLike, save_path: PathLike, targets: Sequence[str], options: ExportOptions
) -> ExportReport:
    """Write the targets' models from a calibration model and its record."""
    from ort_quant_plugin.calibration.calibrate import calibration_nodes

    plugins = build_plugin_manager()
    exporters = select_exporters(plugins.exporters(), targets)
    record = Record.read(record_file)
    model = read_model(modified_file)
    calibration_nodes(model)  # a float model would be exported unfused, with the scales of fused weights
    refuse_existing(output_paths(save_path, exporters).values(), inputs=[modified_file, record_file], force=True)
    options = replace(options, op_libraries=tuple(libraries(plugins, options.op_libraries)))
    return export_prepared(model, record, save_path, exporters, options=options, plugins=plugins)


def export_prepared(
    model: ir.Model,
    record: Record,
    save_path: PathLike,
    exporters: Sequence[Exporter],
    *,
    options: ExportOptions,
    plugins: PluginManager,
    skipped: Mapping[str, str] | None = None,
    extra_files: Mapping[str, str] | None = None,
    external: bool = False,
) -> ExportReport:
    """Write the targets' models from a calibration model in memory, whose observers go."""
    remove_observers(model)
    plan = build_plan(model, record)
    model.metadata_props.update(provenance(plugins))
    paths, results = write_targets(
        model, plan, save_path, exporters, options, extra_files=extra_files, external=external
    )
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


def lower(deploy_file: PathLike, out: PathLike | None, *, force: bool, op_libraries: Sequence[str]) -> LoweringReport:
    """Lower a deploy model file; the result is loaded once before it gets its name."""
    from ort_quant_plugin.files import staging_folder
    from ort_quant_plugin.inspection import model_kind
    from ort_quant_plugin.lowering import lower as lower_graph
    from ort_quant_plugin.ops.library import open_session

    source = Path(deploy_file)
    target = (
        Path(out)
        if out is not None
        else source.with_name(f"{source.stem.removesuffix('_deploy_model')}_ort_model.onnx")
    )
    plugins = build_plugin_manager()
    known = libraries(plugins, op_libraries)
    model = read_model(source)
    if (kind := model_kind(model)) != "deploy":
        raise UnsupportedError(
            f"{str(source)!r} is a {kind} model; expected a deploy model.",
            hint="Give the file <prefix>_deploy_model.onnx.",
            path=str(source),
            kind=kind,
        )
    check_domains(model, op_libraries=known)
    refuse_existing([target], inputs=[source], force=force)
    external = is_external(model)
    report = lower_graph(model)
    model.metadata_props.update(provenance(plugins))
    with staging_folder(target.parent) as staging:
        written = write_model(model, staging / target.name, external_suffix="_ort.external", force_external=external)
        open_session(staging / target.name, known)
        for file in reversed(written):
            file.replace(target.parent / file.name)
    report.output = target
    return report


def as_progress(progress: bool | Progress) -> Progress | None:
    """A callback from what callers pass: True shows a bar when stderr is a terminal, False nothing."""
    if progress is True:
        from ort_quant_plugin.progress import terminal_progress

        return terminal_progress()
    return None if progress is False else progress
