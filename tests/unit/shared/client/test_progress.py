"""How the client shows the progress of a job."""

import io

from shared.client import Event, Progress, StateChange
from shared.client.progress import open_display
from shared.jobs import State


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def change(state: State, attempt: int = 1, *, asked: bool = False) -> Event:
    return Event(StateChange(state=state, attempt=attempt, worker=None, cancel_requested=asked, error=None))


def move(stage: str, done: int, total: int, unit: str = "steps") -> Event:
    return Event(Progress(stage=stage, done=done, total=total, unit=unit))


def show(file: io.StringIO, *events: Event) -> str:
    display = open_display(file)
    for event in events:
        display.show(event)
    display.close()
    return file.getvalue()


def test_output_to_a_file_has_one_line_per_tenth_of_a_stage() -> None:
    moves = [move("decode", done, 1_000) for done in range(0, 1_001, 5)]
    text = show(io.StringIO(), change(State.QUEUED, 0), change(State.RUNNING), move("load", 0, 0, "files"), *moves)
    assert text.splitlines() == [
        "queued",
        "running",
        "load: 0/0 files",
        *(f"decode: {done}/1000 steps" for done in range(0, 1_001, 100)),
    ]


def test_second_attempt_and_cancel_request_are_shown() -> None:
    events = [change(State.QUEUED), change(State.RUNNING, 2), change(State.RUNNING, 2, asked=True)]
    text = show(io.StringIO(), *events, change(State.CANCELLED, 2, asked=True))
    expected = ["queued", "running, attempt 2", "running, attempt 2, cancel requested", "cancelled, attempt 2"]
    assert text.splitlines() == expected


def test_progress_bar_shows_stage_counts_and_unit_and_is_removed_at_the_end() -> None:
    lasting = [change(State.RUNNING), move("encode", 1, 2, "texts"), move("decode", 40, 100), move("decode", 10, 100)]
    shown = show(Terminal(), *lasting).split("\r")
    assert shown[-1] == ""
    assert shown[-2].strip() == ""
    texts = [text.strip() for text in shown if text.strip()]
    assert texts[0] == "running"
    assert texts[1].startswith("encode:   0%")
    assert any(text.startswith("decode:  40%") and "40/100" in text and "? steps/s" in text for text in texts)
    assert any(text.startswith("decode:  10%") and "10/100" in text for text in texts)
    assert all("steps" in text for text in texts if text.startswith("decode"))
