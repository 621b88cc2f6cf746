"""Options that several verbs share, each declared once."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ort_quant_plugin.cli.output import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np

    from ort_quant_plugin.calibration.images import ImagePreprocess

__all__ = [
    "calibration_options",
    "data_options",
    "export_options",
    "force_option",
    "image_options",
    "json_option",
    "methods_option",
    "model_argument",
    "op_library_option",
    "output_options",
    "parse_shapes",
    "storage_option",
    "workers_option",
]

Function = TypeVar("Function", bound="Callable[..., Any]")

# AMCT's --data_types
DATA_TYPES = (
    "float64",
    "float32",
    "float16",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "bool",
)


def _stack(*decorators: Callable[[Any], Any]) -> Callable[[Function], Function]:
    """Apply decorators in reading order, so that --help lists the options as they are written."""

    def decorate(function: Function) -> Function:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


def _setting(*names: str, field: str, value: object = True, help: str, **attributes: Any) -> Callable[[Any], Any]:  # noqa: A002
    """An option that is accepted before and after the verb and lands in :class:`Settings`."""

    def store(ctx: click.Context, _: click.Parameter, given: Any) -> None:
        if given:
            setattr(ctx.find_root().ensure_object(Settings), field, given if attributes.get("count") else value)

    attributes.setdefault("is_flag", not attributes.get("count"))
    return click.option(*names, expose_value=False, is_eager=True, callback=store, help=help, **attributes)


_QUIET = (
    _setting("-q", "--quiet", field="quiet", help="Print no notes and no progress."),
    _setting("-v", "--verbose", field="verbose", count=True, help="Print details; -vv also the log."),
    _setting("--no-color", field="color", value=False, help="Print no colours (NO_COLOR is honoured too)."),
    _setting("--debug", field="debug", help="Show the traceback of a failure."),
)
_JSON = _setting("--json", field="json", help="Print one JSON document on stdout.")


def output_options(function: Function) -> Function:
    """-q, -v, --no-color, --debug."""
    return _stack(*_QUIET)(function)


def json_option(function: Function) -> Function:
    """--json and the output options."""
    return _stack(_JSON, *_QUIET)(function)


def model_argument(help_text: str) -> Callable[[Function], Callable[..., Any]]:
    """The model as first argument, or as AMCT's ``--model``; the function receives ``model``."""

    def decorate(function: Function) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapper(*args: Any, model_argument: str | None, model_option: str | None, **kwargs: Any) -> Any:
            if (model_argument is None) == (model_option is None):
                text = "Missing argument 'MODEL'." if model_argument is None else "MODEL and --model are both given."
                raise click.UsageError(text, click.get_current_context())
            return function(*args, model=model_argument or model_option, **kwargs)

        return _stack(
            click.argument("model_argument", metavar="MODEL", required=False),
            click.option("--model", "model_option", metavar="FILE", help=f"{help_text} (instead of MODEL)."),
        )(wrapper)

    return decorate


def force_option(function: Function) -> Function:
    """--force."""
    return click.option("--force", is_flag=True, help="Overwrite existing outputs.")(function)


def op_library_option(function: Function) -> Function:
    """--op-library."""
    return click.option(
        "--op-library",
        "op_libraries",
        metavar="FILE",
        multiple=True,
        help="Library of custom operators the model uses. Repeatable.",
    )(function)


def methods_option(help_text: str) -> Callable[[Function], Function]:
    """--method, names separated by commas; the function receives ``methods``, a tuple."""

    def split(_: click.Context, __: click.Parameter, value: str | None) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name.strip() for name in (value or "").split(",") if name.strip()))

    return click.option("--method", "methods", metavar="NAME[,NAME…]", callback=split, help=help_text)


def storage_option(function: Function) -> Function:
    """--storage."""
    return click.option(
        "--storage",
        type=click.Choice(["sketch", "exact"]),
        default="sketch",
        show_default=True,
        help="How ifmr and hfmg keep their data: in a fixed amount of memory, or all of it (AMCT's very numbers).",
    )(function)


def workers_option(function: Function) -> Function:
    """--workers."""
    return click.option(
        "--workers",
        type=click.IntRange(1),
        default=1,
        show_default=True,
        help="Processes that share the data; the result is the same for any number.",
    )(function)


def export_options(function: Function) -> Function:
    """--target and --fake-quant-form."""
    return _stack(
        click.option(
            "-t",
            "--target",
            "targets",
            metavar="NAME",
            multiple=True,
            help="Model to write: fake_quant, ascend, ort, qdq, or a plugin's. Repeatable.  "
            "[default: fake_quant, ascend, ort]",
        ),
        click.option(
            "--fake-quant-form",
            type=click.Choice(["custom", "onnx"]),
            default="custom",
            show_default=True,
            help="Operators of the fake_quant model: AMCT's custom ones, or standard ONNX.",
        ),
    )(function)


def calibration_options(function: Function) -> Function:
    """What is quantized and how, when no configuration file says it; see :func:`check_calibration_options`."""
    return _stack(
        click.option(
            "--skip-layer", "skip_layers", metavar="NAME", multiple=True, help="Layer to leave float. Repeatable."
        ),
        click.option(
            "--skip-layer-type",
            "skip_layer_types",
            metavar="TYPE",
            multiple=True,
            help="Operator type to leave float, such as Gemm. Repeatable.",
        ),
        click.option("--symmetric", is_flag=True, help="Symmetric activations (offset 0) instead of asymmetric ones."),
    )(function)


def data_options(function: Function) -> Callable[..., Any]:
    """--data with AMCT's --data-dir and everything that says how to read it; the function receives ``source``.

    ``source`` is a :class:`DataSource`, or ``None`` when no data is given.
    """

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        names = ("data", "batch_size", "split", "input_shape", "data_types")
        given = {name: kwargs.pop(name) for name in names}
        preprocess = {name: value for name in _IMAGE_NAMES if (value := kwargs.pop(name)) is not None}
        source = DataSource(**given, preprocess=preprocess) if given["data"] is not None else None
        return function(*args, source=source, **kwargs)

    return _stack(
        click.option(
            "-d",
            "--data",
            "--data-dir",
            "data",
            metavar="DATA",
            help="Folder of images, .npy, .npz, text or .csv list, raw folders 'dir1;dir2', or module:callable.",
        ),
        click.option("--batch-size", type=click.IntRange(1), default=1, show_default=True, help="Samples per batch."),
        click.option("--split", metavar="NAME", help="Rows of a .csv list whose split column has this value."),
        *_image_options(),
        click.option("--input-shape", metavar="SHAPES", help="Raw folders: 'name1:n,c,h,w;name2:…'."),
        click.option("--data-types", metavar="TYPES", help="Raw folders: 'float32;int64', one per input."),
    )(wrapper)


_IMAGE_NAMES = ("mean", "std", "resize", "crop", "layout", "channels")


def _image_options() -> tuple[Callable[[Any], Any], ...]:
    return (
        click.option(
            "--mean", type=_Numbers(), help="Images: subtracted from pixels 0..255, one number or one per channel."
        ),
        click.option("--std", type=_Numbers(), help="Images: divides the difference, one number or one per channel."),
        click.option("--resize", type=_Size(), help="Images: short side, or height,width."),
        click.option("--crop", type=_Size(), help="Images: centre crop, one number or height,width."),
        click.option("--layout", type=click.Choice(["NCHW", "NHWC"]), help="Images: axis order.  [default: NCHW]"),
        click.option("--channels", type=click.Choice(["RGB", "BGR", "GRAY"]), help="Images: colours.  [default: RGB]"),
    )


def image_options(function: Function) -> Callable[..., Any]:
    """How an image becomes a model's input; the function receives ``preprocess``, what of it is given."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        given = {name: kwargs.pop(name) for name in _IMAGE_NAMES}
        return function(*args, preprocess={k: v for k, v in given.items() if v is not None}, **kwargs)

    return _stack(*_image_options())(wrapper)


class DataSource:
    """Data as the command line names it.

    Attributes:
        data: The ``--data`` value.
    """

    def __init__(
        self,
        data: str,
        *,
        batch_size: int,
        split: str | None,
        input_shape: str | None,
        data_types: str | None,
        preprocess: Mapping[str, Any],
    ) -> None:
        self.data = data
        self._batch_size, self._split = batch_size, split
        self._shapes = parse_shapes(input_shape) if input_shape is not None else None
        self._types = data_types
        self._preprocess = preprocess

    def options(self, model: str) -> dict[str, Any]:
        """Keyword arguments of ``open_data`` for a model.

        Raises:
            ConfigError: bad preprocessing values.
            ModelError: the model cannot be read (only where --data-types needs its inputs).
        """
        from ort_quant_plugin.calibration.images import ImagePreprocess

        preprocess: ImagePreprocess = ImagePreprocess(**self._preprocess)
        options: dict[str, Any] = {"batch_size": self._batch_size, "preprocess": preprocess}
        if self._split is not None:
            options["split"] = self._split
        if self._shapes is not None:
            options["shapes"] = self._shapes
        if self._types is not None:
            options["dtypes"] = _parse_types(self._types, list(self._shapes or _input_names(model)))
        return options


def parse_shapes(text: str) -> dict[str, tuple[int, ...]]:
    """Parse AMCT's ``name1:n,c,h,w;name2:…``; the last colon separates, so names may hold colons."""
    shapes: dict[str, tuple[int, ...]] = {}
    for part in filter(None, (piece.strip() for piece in text.split(";"))):
        name, colon, dims = part.rpartition(":")
        try:
            sizes = tuple(int(dim) for dim in dims.split(","))
        except ValueError:
            sizes = ()
        if not colon or not name or not sizes or min(sizes) < 1 or name in shapes:
            raise click.BadParameter(
                f"{part!r} is not name:n,c,h,w with sizes of at least 1 and a new name.",
                click.get_current_context(),
                param_hint="'--input-shape'",
            )
        shapes[name] = sizes
    if not shapes:
        raise click.BadParameter("no shape is given.", click.get_current_context(), param_hint="'--input-shape'")
    return shapes


def _parse_types(text: str, names: Sequence[str]) -> dict[str, np.dtype[Any]]:
    import numpy as np

    types = [part.strip() for part in text.split(";") if part.strip()]
    unknown = [name for name in types if name not in DATA_TYPES]
    if unknown or len(types) != len(names):
        problem = f"{unknown[0]!r} is not a type" if unknown else f"{len(types)} types for {len(names)} inputs"
        raise click.BadParameter(
            f"{problem}; expected one of {', '.join(DATA_TYPES)} for each input.",
            click.get_current_context(),
            param_hint="'--data-types'",
        )
    return {name: np.dtype(kind) for name, kind in zip(names, types, strict=True)}


def _input_names(model: str) -> list[str]:
    from ort_quant_plugin.model import input_specs, read_model

    return [spec.name for spec in input_specs(read_model(model))]


class _Numbers(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4 only
    name = "numbers"

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        return "X[,Y,Z]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        if isinstance(value, tuple):
            return value
        try:
            return tuple(float(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is not a number or a comma-separated list of numbers.", param, ctx)


class _Size(click.ParamType):  # type: ignore[type-arg]
    name = "size"

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        return "N|H,W"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | tuple[int, int]:
        if isinstance(value, (int, tuple)):
            return value
        try:
            sizes = [int(part) for part in str(value).replace("x", ",").split(",")]
        except ValueError:
            sizes = []
        if len(sizes) == 1:
            return sizes[0]
        if len(sizes) == 2:
            return sizes[0], sizes[1]
        return self.fail(f"{value!r} is neither a size nor height,width.", param, ctx)
