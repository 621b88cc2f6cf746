"""The public recipe: AMCT's four steps, :func:`quantize` for everything at once, and :func:`inspect`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ort_quant_plugin.errors import ArgumentTypeError, ConfigError
from ort_quant_plugin.logs import LOGGER

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from ort_quant_plugin.calibration.methods import Storage
    from ort_quant_plugin.calibration.runner import CalibrationReport
    from ort_quant_plugin.calibration.search import Score
    from ort_quant_plugin.lowering import LoweringReport
    from ort_quant_plugin.progress import Progress
    from ort_quant_plugin.report import ExportReport, InspectReport, QuantizationReport

    PathLike = str | os.PathLike[str]

__all__ = [
    "DEFAULT_TARGETS",
    "calibrate",
    "create_quant_config",
    "default_sketch_file",
    "inspect",
    "lower_model",
    "prepare_model",
    "quantize",
    "quantize_model",
    "save_model",
    "write_ranges",
]

DEFAULT_TARGETS = ("fake_quant", "ascend", "ort")


def create_quant_config(
    config_file: str,
    model_file: str,
    skip_layers: list[str] | None = None,
    batch_num: int = 1,
    activation_offset: bool = True,
    config_defination: str | None = None,
    updated_model: str | None = None,
    *,
    op_libraries: Sequence[str] = (),
) -> None:
    """Step 1: write the JSON configuration of a model (AMCT ``create_quant_config``).

    Args:
        config_file: JSON file to write; overwritten.
        model_file: Float ONNX model.
        skip_layers: Names of quantizable layers to leave float.
        batch_num: Forward passes whose data decides the activation ranges, above 0.
        activation_offset: Asymmetric (True) or symmetric activations.
        config_defination: Simplified text-proto ``.cfg``; when given, the three arguments before are ignored.
            (The spelling is part of AMCT's API.)
        updated_model: Where to store the model with unique, non-empty node names; pass that file on then.
        op_libraries: Libraries of custom operators the model uses.

    Raises:
        ModelError: The model cannot be read or is quantized already.
        ConfigError: A layer is unknown, repeated or not quantizable, or nothing is left to quantize.
        OutputError: A file cannot be written.
    """
    _check_types(
        "create_quant_config",
        config_file=(config_file, str),
        model_file=(model_file, str),
        skip_layers=(skip_layers, (list, type(None))),
        batch_num=(batch_num, int),
        activation_offset=(activation_offset, bool),
        config_defination=(config_defination, (str, type(None))),
        updated_model=(updated_model, (str, type(None))),
    )
    from ort_quant_plugin import steps
    from ort_quant_plugin.config import write_config
    from ort_quant_plugin.model import refuse_existing

    outputs = [config_file, *([updated_model] if updated_model is not None else [])]
    refuse_existing(outputs, inputs=[model_file, config_defination], force=True)
    prepared = steps.load_and_prepare(model_file, op_libraries=op_libraries)
    config = steps.make_config(
        prepared,
        config_defination,
        skip_layers=skip_layers or (),
        batch_num=batch_num,
        activation_offset=activation_offset,
    )
    if updated_model is not None:
        steps.write_named_model(model_file, updated_model)
    write_config(config, config_file)
    LOGGER.info("Configuration of %d layers written to %s", len(config.layers), config_file)


def quantize_model(
    config_file: str,
    model_file: str,
    modified_onnx_file: str,
    record_file: str,
    *,
    observe_outputs: bool = True,
    storage: Storage = "sketch",
    op_libraries: Sequence[str] = (),
) -> None:
    """Step 2: fuse, quantize weights, insert calibration operators (AMCT ``quantize_model``).

    Args:
        config_file: JSON from :func:`create_quant_config`.
        model_file: The same float model.
        modified_onnx_file: Calibration model to write.
        record_file: Record file to write; the calibration operators fill in activation factors.
        observe_outputs: Also observe the layer outputs the QDQ model needs (``<layer>:output`` entries). False
            gives AMCT's record exactly; the QDQ model then keeps such layers in float and says so.
        storage: How the calibration operators keep their data: ``sketch`` needs a fixed amount of memory, ``exact``
            keeps all values and gives AMCT's very numbers.
        op_libraries: Libraries of custom operators the model uses.

    Raises:
        ModelError, ConfigError, NumericsError, OutputError: See the classes.
    """
    _check_types(
        "quantize_model",
        config_file=(config_file, str),
        model_file=(model_file, str),
        modified_onnx_file=(modified_onnx_file, str),
        record_file=(record_file, str),
    )
    from ort_quant_plugin import steps
    from ort_quant_plugin.model import refuse_existing

    refuse_existing([modified_onnx_file, record_file], inputs=[config_file, model_file], force=True)
    prepared = steps.load_and_prepare(model_file, config_file=config_file, op_libraries=op_libraries)
    config = steps.load_config(prepared, config_file)
    steps.write_calibration_model(
        prepared, config, modified_onnx_file, record_file, observe_outputs=observe_outputs, storage=storage
    )
    LOGGER.info("Calibration model written to %s, record to %s", modified_onnx_file, record_file)


def calibrate(
    modified_onnx_file: PathLike,
    data: Any,
    *,
    method: str | Sequence[str] | None = None,
    sketches: PathLike | None = None,
    workers: int = 1,
    progress: bool | Progress = False,
    op_libraries: Sequence[str] = (),
    **data_options: Any,
) -> CalibrationReport:
    """Step 3 for those who do not write the loop themselves: run the calibration model over data, fill its record.

    One pass sketches every tensor, then any number of methods choose from the sketches. A run that was interrupted or
    killed is continued by the same call. The ranges do not depend on batch size, order or workers.

    Args:
        modified_onnx_file: From :func:`quantize_model`.
        data: Whatever :func:`ort_quant_plugin.calibration.data.open_data` takes.
        method: Method that chooses all ranges, with its defaults; default: those the model was made for. Several
            methods write a record file each: ``<record>_<method>.txt``.
        sketches: Where to keep the sketches; a later call with the same model and data, and any method, needs no
            inference. Default: they are gone when the record is written.
        workers: Processes that share the data.
        progress: A callback for :class:`~ort_quant_plugin.progress.ProgressEvent`, or True for a bar on the terminal.
        op_libraries: Libraries of custom operators the model uses.
        data_options: Further arguments of ``open_data`` (``batch_size``, ``preprocess``, …).

    Raises:
        DataError: The data does not fit.
        CalibrationError: Too few batches, NaN or infinity in a tensor, or no range.
        ConfigError: An unknown method, or several workers for a model made with ``storage="exact"``.
        OutputError: ``sketches`` belongs to another model or other data, or a file cannot be written.
    """
    from ort_quant_plugin import steps
    from ort_quant_plugin.calibration.calibrate import CalibrationOptions

    options = CalibrationOptions(
        Path(sketches) if sketches is not None else None,
        keep=sketches is not None,
        workers=workers,
        op_libraries=tuple(op_libraries),
    )
    methods = () if method is None else _names(method)
    return steps.calibrate(
        modified_onnx_file, data, steps.as_progress(progress), options, data_options, methods=methods
    )


def default_sketch_file(modified_onnx_file: PathLike) -> Path:
    """Where the sketches of a calibration model go unless something else is said: beside its record file.

    Raises:
        ModelError: The file is no calibration model.
    """
    from ort_quant_plugin import steps

    return steps.sketch_file_of(modified_onnx_file)


def write_ranges(
    modified_onnx_file: PathLike,
    sketches: bytes | PathLike | Sequence[bytes],
    *,
    method: str | Sequence[str] | None = None,
) -> dict[str, Path]:
    """Fill the record of a calibration model from sketches that were collected elsewhere.

    Whoever runs the model (a C++ program, Triton, several machines) feeds ``ort_quant.flush = [true]`` in a run and
    gets the sketches of all runs since the last flush as output ``ort_quant.sketches``. Several such answers merge
    exactly, in any order.

    Args:
        modified_onnx_file: The calibration model, from :func:`quantize_model`.
        sketches: Flushed bytes, a list of them, or a sketch file of :func:`calibrate`.
        method: As for :func:`calibrate`.

    Returns:
        The record files by method.

    Raises:
        CalibrationError: The bytes are damaged, a tensor is missing, or its data has no range.
        RecordError: The model's record file is missing or of another model.
    """
    from ort_quant_plugin import steps

    return steps.write_ranges(modified_onnx_file, sketches, () if method is None else _names(method))


def save_model(
    modified_onnx_file: str,
    record_file: str,
    save_path: str,
    *,
    targets: Sequence[str] = DEFAULT_TARGETS,
    fake_quant_form: Literal["custom", "onnx"] = "custom",
    op_libraries: Sequence[str] = (),
) -> ExportReport:
    """Step 4: write the quantized models (AMCT ``save_model``).

    Args:
        modified_onnx_file: From :func:`quantize_model`.
        record_file: Filled by the calibration run.
        save_path: Folder and file-name prefix: ``out/net`` → ``out/net_fake_quant_model.onnx`` …; existing files
            are overwritten, as AMCT does.
        targets: Models to write.
        fake_quant_form: ``custom`` (AMCT's operators) or ``onnx`` (standard operators only).
        op_libraries: Libraries of custom operators the model uses.

    Raises:
        RecordError: The record is empty, incomplete or of another model.
        NumericsError: A bias does not fit into int32.
        OutputError: A file cannot be written.
    """
    _check_types(
        "save_model",
        modified_onnx_file=(modified_onnx_file, str),
        record_file=(record_file, str),
        save_path=(save_path, str),
    )
    from ort_quant_plugin import steps
    from ort_quant_plugin.export import ExportOptions

    return steps.export(
        modified_onnx_file, record_file, save_path, targets, ExportOptions(fake_quant_form, tuple(op_libraries))
    )


def quantize(
    model: PathLike,
    data: Any,
    save_path: PathLike,
    *,
    config: PathLike | None = None,
    method: str | Sequence[str] = "ifmr",
    score: Score = "cosine",
    search_samples: int = 30,
    storage: Storage = "sketch",
    sketches: PathLike | None = None,
    workers: int = 1,
    targets: Sequence[str] = DEFAULT_TARGETS,
    batch_num: int | None = None,
    skip_layers: Sequence[str] = (),
    skip_layer_types: Sequence[str] = (),
    activation_offset: bool = True,
    fake_quant_form: Literal["custom", "onnx"] = "custom",
    progress: bool | Progress = True,
    force: bool = False,
    op_libraries: Sequence[str] = (),
    **data_options: Any,
) -> QuantizationReport:
    """The whole chain: float model and data in, quantized models out.

    Args:
        model: Float ONNX model.
        data: Calibration data, anything :func:`ort_quant_plugin.calibration.data.open_data` takes.
        save_path: Folder and file-name prefix of the results.
        config: JSON or ``.cfg`` configuration; without one every quantizable layer is quantized with defaults.
        method: Calibration method when no configuration is given. Of several, the one whose quantized net is nearest
            to the float net wins (TPU-MLIR's search_threshold); all of them choose from one pass over the data.
        score: How nets are compared then: ``cosine`` or ``snr``.
        search_samples: Batches to compare on.
        storage: How AMCT's methods (ifmr, hfmg) keep their data: ``sketch`` needs a fixed amount of memory; ``exact``
            keeps all values and gives AMCT's very numbers.
        sketches: Where to keep the sketches; a later call with the same model and data, and any method, needs no
            inference. Default: they are gone when the models are written. In either case the same call continues a
            run that was interrupted or killed.
        workers: Processes that share the data.
        targets: Models to write.
        batch_num: Batches to use; default: the configuration's, without one all of the data.
        skip_layers: Layers to leave float (without ``config``).
        skip_layer_types: Operator types to leave float (without ``config``).
        activation_offset: Asymmetric activations (without ``config``).
        fake_quant_form: ``custom`` (AMCT's operators) or ``onnx`` (standard operators only).
        progress: True shows a bar on a terminal; a callable receives the events; False is silent.
        force: Overwrite existing results.
        op_libraries: Libraries of custom operators the model uses.
        data_options: Further arguments of ``open_data`` (``batch_size``, ``preprocess``, …).

    Returns:
        What was written and the verdict on every layer.

    Raises:
        OrtQuantError: A leaf that names what is wrong; nothing is written then.
    """
    from ort_quant_plugin import steps
    from ort_quant_plugin.chain import QuantizeChain
    from ort_quant_plugin.export import ExportOptions

    started = time.perf_counter()
    methods = _names(method)
    options = ExportOptions(fake_quant_form, tuple(op_libraries))
    chain = QuantizeChain(save_path, targets, options, inputs=[model, config], force=force)
    chain.prepare(
        model,
        config,
        methods=methods,
        skip_layers=skip_layers,
        skip_layer_types=skip_layer_types,
        activation_offset=activation_offset,
    )
    chain.open_data(data, data_options, batch_num)
    shown = steps.as_progress(progress)
    chain.run(shown, storage=storage, sketches=sketches, workers=workers)
    chain.choose(methods, score, search_samples, shown)
    report = chain.export()
    report.seconds = time.perf_counter() - started
    return report


def prepare_model(
    model: PathLike, output: PathLike, *, force: bool = False, op_libraries: Sequence[str] = ()
) -> list[Any]:
    """Write the float model as calibration sees it: constants folded, BatchNormalization fused, names unique.

    Returns:
        One :class:`~ort_quant_plugin.passes.PassReport` a pass.
    """
    from ort_quant_plugin import steps
    from ort_quant_plugin.model import refuse_existing, write_model

    refuse_existing([output], inputs=[model], force=force)
    prepared = steps.load_and_prepare(model, op_libraries=op_libraries)
    write_model(prepared.model, output, force_external=prepared.external)
    return prepared.passes


def inspect(
    model: PathLike,
    *,
    config: PathLike | None = None,
    record: PathLike | None = None,
    op_libraries: Sequence[str] = (),
) -> InspectReport:
    """List the layers of a float or quantized model: quantized or why not, with scales where they are known.

    Args:
        model: Float model, or one this package (or AMCT) made.
        config: Configuration that decides which layers of a float model would be quantized.
        record: Record file with scales for a float or calibration model.
        op_libraries: Libraries of custom operators the model uses.

    Raises:
        OrtQuantError: A file cannot be read or does not belong to the model.
    """
    from ort_quant_plugin.inspection import inspect_model

    return inspect_model(model, config, record, op_libraries)


def lower_model(
    deploy_model: PathLike, out: PathLike | None = None, *, force: bool = False, op_libraries: Sequence[str] = ()
) -> LoweringReport:
    """Turn a deploy model (from this package or from AMCT) into a fast int8 model for ONNX Runtime on CPUs.

    The result computes the same bits as the fake_quant model and needs :func:`register_custom_ops` only.

    Args:
        deploy_model: ``<prefix>_deploy_model.onnx``.
        out: Model to write; default: ``<prefix>_ort_model.onnx`` beside it.
        force: Overwrite an existing result.
        op_libraries: Libraries of custom operators the model uses.

    Returns:
        What became of every quantized layer, and why where it stays float.

    Raises:
        ModelError: The file cannot be read or is no deploy model, or ONNX Runtime refuses the result.
        OutputError: The result exists already or cannot be written.
    """
    from ort_quant_plugin import steps

    return steps.lower(deploy_model, out, force=force, op_libraries=op_libraries)


def _names(method: str | Sequence[str]) -> tuple[str, ...]:
    """One method or several, as a tuple without repetitions."""
    names = (method,) if isinstance(method, str) else tuple(dict.fromkeys(method))
    if not names:
        raise ConfigError("No calibration method is given.", hint="Name at least one.", methods=names)
    return names


def _check_types(function: str, **arguments: tuple[object, type | tuple[type, ...]]) -> None:
    """AMCT checks argument types and says ``Func <f> argument <a> must be <type>``."""
    for name, (value, expected) in arguments.items():
        kinds = expected if isinstance(expected, tuple) else (expected,)
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            names = " or ".join("None" if k is type(None) else k.__name__ for k in kinds)
            raise ArgumentTypeError(
                f"Func {function} argument {name} must be {names}, not {type(value).__name__} ({value!r}).",
                hint=f"Pass {name} as {names}.",
                argument=name,
                value=value,
            )
