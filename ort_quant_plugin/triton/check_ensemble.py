"""Whether the steps of an ensemble exist and fit together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ort_quant_plugin.triton.config import config_messages

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ort_quant_plugin.triton.config import ModelConfig
    from ort_quant_plugin.triton.finding import Findings

__all__ = ["check_ensemble"]


def check_ensemble(config: ModelConfig, models: Mapping[str, ModelConfig | None], findings: Findings) -> None:
    """Follow the tensors through the steps.

    Args:
        config: The ensemble's configuration.
        models: All configurations of the repository by model; ``None`` for one that cannot be read.
        findings: Receives what is found.
    """
    # Tensors of the ensemble by name: what made each, and its description.
    made: dict[str, tuple[str, Any]] = {entry.name: ("the request", entry) for entry in config.input}
    wanted: list[tuple[str, str, Any]] = []
    for number, step in enumerate(config.ensemble_scheduling.step, 1):
        subject = f"step {number} ({step.model_name})"
        if step.model_name not in models:
            findings.error(subject, "There is no such model in the repository.", "Write it, or correct model_name.")
            continue
        model = models[step.model_name]
        if model is None:
            continue  # reported where it was read
        if model.max_batch_size < config.max_batch_size:
            findings.error(
                subject,
                f"Its max_batch_size {model.max_batch_size} is smaller than the ensemble's, {config.max_batch_size}.",
                "Give both the same.",
            )
        inputs = {entry.name: entry for entry in model.input}
        outputs = {entry.name: entry for entry in model.output}
        required = {name for name, entry in inputs.items() if not entry.optional}
        for name in sorted(required - set(step.input_map)):
            findings.error(subject, f"Input {name!r} is not fed.", "Add it to input_map.")
        _check_map(subject, "input", step.input_map, inputs, findings)
        _check_map(subject, "output", step.output_map, outputs, findings)
        wanted += [(subject, tensor, inputs[name]) for name, tensor in step.input_map.items() if name in inputs]
        made.update({tensor: (subject, outputs[name]) for name, tensor in step.output_map.items() if name in outputs})
    wanted += [("the answer", entry.name, entry) for entry in config.output]
    for subject, tensor, entry in wanted:
        _check_link(subject, tensor, entry, made, findings)
    if not findings.has_errors():
        findings.ok("ensemble", f"{len(config.ensemble_scheduling.step)} steps fit together.")


def _check_map(
    subject: str, what: str, mapped: Mapping[str, str], known: Mapping[str, Any], findings: Findings
) -> None:
    for name in sorted(set(mapped) - set(known)):
        findings.error(subject, f"The model has no {what} {name!r}; it has {', '.join(known)}.", f"Correct {what}_map.")


def _check_link(subject: str, tensor: str, entry: Any, made: Mapping[str, tuple[str, Any]], findings: Findings) -> None:
    if tensor not in made:
        findings.error(subject, f"Nothing makes tensor {tensor!r}.", "Let a step's output_map or an input give it.")
        return
    maker, source = made[tensor]
    if source.data_type != entry.data_type:
        name = config_messages().DataType.Name
        findings.error(
            subject,
            f"Tensor {tensor!r} is {name(source.data_type)} from {maker}, but {name(entry.data_type)} is wanted.",
            "Give both the same type.",
        )
    ours, theirs = list(entry.dims), list(source.dims)
    if len(ours) != len(theirs) or any(-1 not in {a, b} and a != b for a, b in zip(ours, theirs, strict=True)):
        findings.error(
            subject, f"Tensor {tensor!r} is {theirs} from {maker}, but {ours} is wanted.", "Give both the same dims."
        )
