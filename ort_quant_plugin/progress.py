"""Progress of long steps, as events: whoever calls decides how they look."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

__all__ = ["Progress", "ProgressEvent", "bar_updates", "progress_bar", "terminal_progress"]


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
    """A bar on stderr when that is a terminal, else ``None``; it ends with the last event of a stage."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        return None
    bar = progress_bar(console)
    update = bar_updates(bar)

    def show(event: ProgressEvent) -> None:
        bar.start()
        update(event)
        if event.done == event.total:
            bar.stop()

    return show


def progress_bar(console: Console) -> Bar:
    """A bar with count, rate, time left and the memory this process holds."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    return Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[memory]}"),
        console=console,
        transient=True,
    )


def bar_updates(bar: Bar) -> Progress:
    """A callback that shows events on a bar, one task a stage."""
    tasks: dict[str, tuple[TaskID, int, float]] = {}

    def show(event: ProgressEvent) -> None:
        if (
            event.stage not in tasks
        ):  # the rate counts from the first event: what a resumed run finds done is not its work
            task = bar.add_task(event.stage, total=event.total, completed=event.done, rate="", memory="")
            tasks[event.stage] = task, event.done, time.monotonic()
            return
        task, first, started = tasks[event.stage]
        rate = (event.done - first) / max(time.monotonic() - started, 1e-9)
        bar.update(task, completed=event.done, rate=f"{rate:.1f} {event.unit}/s", memory=_memory())

    return show


def _memory() -> str:
    """Resident memory of this process, where the system tells it."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return ""
    return f"{pages * os.sysconf('SC_PAGE_SIZE') / 2**20:.0f} MiB"
