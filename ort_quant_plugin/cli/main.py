"""``ort-quant``: finds the verb, maps failures to exit codes.

Exit codes: 0 done · 1 finding (a gate failed, models differ more than allowed) · 2 bad input or usage ·
3 internal error · 130 interrupted.
"""

from __future__ import annotations

import importlib
import sys
import traceback
from typing import TYPE_CHECKING, Any

import click

from ort_quant_plugin.cli.options import output_options
from ort_quant_plugin.cli.output import (
    EXIT_PIPE,
    Settings,
    close_broken_pipe,
    get_output,
    logging_to_stderr,
    print_error,
)
from ort_quant_plugin.errors import OrtQuantError
from ort_quant_plugin.logs import LOGGER

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["cli", "main"]

EXIT_FINDING, EXIT_INPUT, EXIT_INTERNAL, EXIT_INTERRUPTED = 1, 2, 3, 130

_COMMANDS_KEY = "ort_quant_plugin.plugin_commands"

# Verb → one line for the listing; the module cli/<verb>.py is imported only when the verb runs.
VERBS = {
    "quantize": "Float model and data in, quantized models out: the whole chain.",
    "config": "Write a quantization configuration for a model.",
    "prepare": "Write the calibration model and its record file.",
    "calibrate": "Run a calibration model over data; it fills in its record file.",
    "ranges": "Show what each calibration method chooses, from saved sketches.",
    "export": "Write the quantized models from a calibrated record.",
    "lower": "Deploy model in, fast int8 model for ONNX Runtime on CPUs out.",
    "inspect": "List the layers of a model: quantized or why not, scales, granularity.",
    "compare": "Compare quantized models with the float model on data.",
    "gate": "Fail a build when a quantized model loses more than it may.",
    "ops": "Show and check the custom-op library.",
    "triton": "Write, check, serve and measure Triton model repositories.",
    "plugins": "List installed plugins and what they add.",
    "demo": "Quantize the shipped digits network and judge the result.",
}


class Cli(click.Group):
    """The command group: verbs are imported when they run; plugins add theirs; failures become exit codes."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Built-in verbs in the order of the workflow, then those of plugins."""
        return [*VERBS, *sorted(_plugin_commands(ctx))]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one verb."""
        if cmd_name in VERBS:
            module = importlib.import_module(f"ort_quant_plugin.cli.{cmd_name}")
            command: click.Command = module.command
            return command
        return _plugin_commands(ctx).get(cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the verbs without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))
        added = _plugin_commands(ctx)
        if added:
            with formatter.section("Commands of plugins"):
                formatter.write_dl([(name, added[name].get_short_help_str(60)) for name in sorted(added)])

    def main(  # type: ignore[override]  # click overloads it on standalone_mode
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        *,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run and exit; with ``standalone_mode=False`` return or raise as click does."""
        settings = extra.setdefault("obj", Settings())
        settings.arguments = list(sys.argv[1:] if args is None else args)

        def run() -> Any:
            return super(Cli, self).main(args, prog_name, complete_var, standalone_mode=False, **extra)

        if not standalone_mode:
            return run()
        sys.exit(_exit_code(settings, run))


def _plugin_commands(ctx: click.Context) -> Mapping[str, click.Command]:
    """Commands of plugins by name; asked for once an invocation, so that a broken plugin is reported once."""
    meta = ctx.find_root().meta
    if _COMMANDS_KEY not in meta:
        from ort_quant_plugin.plugins import build_plugin_manager

        entries = build_plugin_manager().commands().entries()
        for entry in entries:
            if entry.name in VERBS:
                LOGGER.warning("Command '%s' of %s is not available: ort-quant has its own.", entry.name, entry.owner)
        meta[_COMMANDS_KEY] = {entry.name: entry.value for entry in entries if entry.name not in VERBS}
    commands: Mapping[str, click.Command] = meta[_COMMANDS_KEY]
    return commands


def _exit_code(settings: Settings, run: Callable[[], Any]) -> int:
    try:
        code = run()
        sys.stdout.flush()
    except OrtQuantError as error:
        return _fail(settings, error.message, error.hint, EXIT_INPUT)
    except click.ClickException as error:
        return _fail_usage(settings, error)
    except (click.Abort, KeyboardInterrupt):
        return _fail(settings, "Interrupted.", None, EXIT_INTERRUPTED)
    except BrokenPipeError:
        close_broken_pipe()
        return EXIT_PIPE
    except Exception as error:  # the last frame: an unknown failure must not look like a finding (exit code 1)
        hint = None if settings.debug else "This is a bug: run again with --debug and report what it prints."
        return _fail(settings, f"Internal error: {type(error).__name__}: {error}", hint, EXIT_INTERNAL)
    return code if isinstance(code, int) else 0


def _fail(settings: Settings, message: str, hint: str | None, code: int) -> int:
    if settings.debug:
        traceback.print_exc()
    print_error(settings, message, hint)
    return code


def _fail_usage(settings: Settings, error: click.ClickException) -> int:
    context = getattr(error, "ctx", None)
    message = error.format_message()
    if context is not None and message == context.get_help():  # called without arguments
        click.echo(message, err=True)
        return EXIT_INPUT
    hint = f"Run '{context.command_path} --help'." if context is not None else None
    return _fail(settings, message, hint, EXIT_INPUT)


def _normalize(name: str) -> str:
    """Accept AMCT's spelling of options: ``--save_path`` is ``--save-path``."""
    return name.replace("_", "-")


def _print_version(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from ort_quant_plugin import __version__

        click.echo(f"ort-quant {__version__}")
        ctx.exit()


@click.group(
    cls=Cli,
    name="ort-quant",
    context_settings={
        "help_option_names": ["-h", "--help"],
        "token_normalize_func": _normalize,
        "max_content_width": 110,
    },
    epilog="Exit codes: 0 done, 1 finding, 2 bad input or usage, 3 internal error, 130 interrupted.",
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Show the version."
)
@output_options
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Quantize ONNX models to int8: calibrate inside ONNX Runtime, write models for simulation, Ascend and CPU."""
    ctx.with_resource(logging_to_stderr(get_output().settings))


def main() -> None:
    """Entry point of the ``ort-quant`` script."""
    cli(prog_name="ort-quant")
