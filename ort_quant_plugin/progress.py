"""Progress of long steps, as events: whoever calls decides how they look."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Progress", "ProgressEvent"]


@dataclass(frozen=True)
class ProgressEvent:
    """One step forward.

    Attributes:
        stage: What is being done (``calibrate``).
        done: Units finished so far.
        total: Units in all, ``None`` when unknown.
        unit: What a unit is (``batch``).
    """

    stage: str
    done: int
    total: int | None
    unit: str = "batch"


Progress = Callable[[ProgressEvent], None]


def terminal_progress() -> Progress | None:
    """A bar on stderr when that is a terminal, else ``None``; it ends with the last event."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    if not console.is_terminal:
        return None
    bar = Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )
    tasks = {}

    def show(event: ProgressEvent) -> None:
        if event.stage not in tasks:
            bar.start()
            tasks[event.stage] = bar.add_task(event.stage, total=event.total)
        bar.update(tasks[event.stage], completed=event.done)
        if event.done == event.total:
            bar.stop()

    return show
