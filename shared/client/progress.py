"""Shows the progress of a job: as a bar on a terminal, and otherwise as plain lines."""

from typing import Final, NoReturn, Protocol, TextIO

from tqdm import tqdm

from shared.client.events import Event
from shared.client.responses import Progress, StateChange
from shared.jobs import State

_TEXT_ONLY: Final = "{desc}"


class Display(Protocol):
    """Shows the events of a job."""

    def show(self, event: Event) -> None:
        """Show an event."""

    def close(self) -> None:
        """Restore the terminal for other output."""


def open_display(file: TextIO) -> Display:
    """Open a bar if the output is a terminal, or plain lines if the output is a file."""
    return Bar(file) if file.isatty() else Lines(file)


class Bar:
    """A bar for the current stage of the job; it shows done, total, rate and remaining time."""

    def __init__(self, file: TextIO) -> None:
        self._bar: tqdm[NoReturn] = tqdm(file=file, leave=False, dynamic_ncols=True, bar_format=_TEXT_ONLY)
        self._stage: tuple[object, ...] = ()

    def show(self, event: Event) -> None:
        """Show an event."""
        match event.data:
            case StateChange() as change:
                self._bar.bar_format = _TEXT_ONLY
                self._bar.set_description_str(describe(change))
                self._stage = ()
            case Progress() as progress:
                self._move(progress)

    def close(self) -> None:
        """Remove the bar from the terminal."""
        self._bar.close()

    def _move(self, progress: Progress) -> None:
        stage = (progress.stage, progress.total)
        if stage != self._stage or progress.done < self._bar.n:
            self._stage = stage
            self._bar.bar_format = None
            self._bar.unit = f" {progress.unit}"
            self._bar.set_description_str(progress.stage, refresh=False)
            self._bar.reset(progress.total or None)
            # What was already done at the first report of the stage does not count for the rate.
            self._bar.initial = self._bar.n = progress.done
            self._bar.refresh()
        self._bar.update(progress.done - self._bar.n)


class Lines:
    """Writes a line for each state, for each stage, and for each tenth of a stage."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._last: tuple[object, ...] = ()

    def show(self, event: Event) -> None:
        """Show an event."""
        match event.data:
            case StateChange() as change:
                self._write(describe(change))
            case Progress(stage=stage, done=done, total=total, unit=unit):
                latest = (stage, total, 10 * done // total if total else done)
                if latest != self._last:
                    self._last = latest
                    self._write(f"{stage}: {done}/{total} {unit}")

    def close(self) -> None:
        """Do nothing: the lines stay in the output."""

    def _write(self, line: str) -> None:
        self._file.write(f"{line}\n")
        self._file.flush()


def describe(change: StateChange) -> str:
    """Describe a state in a few words."""
    attempt = f", attempt {change.attempt}" if change.attempt > 1 else ""
    cancelling = ", cancel requested" if change.cancel_requested and change.state is State.RUNNING else ""
    return f"{change.state}{attempt}{cancelling}"
