"""The record of a campaign: what the parts that have ended have measured. It is a JSON file between two parts."""

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self


class OtherCampaignError(Exception):
    """The kept record belongs to a campaign with another seed or another size."""


@dataclass
class Record:
    """The figures of all parts together.

    Parameters
    ----------
    seed, jobs, faults
        The campaign: with the same seed and the same number, the same faults are drawn.
    position
        How many of the drawn faults are done.
    acknowledged
        How many submissions the instance has acknowledged.
    states
        How many jobs have ended in each state.
    attempts
        The number of attempts, and how many jobs needed so many.
    artifacts
        How many files were compared with their recorded SHA-256 and size.
    answers
        How often each status was an answer, and how often there was none.
    recoveries_s
        For each fault, how long each recovery took.
    skipped
        For each fault that this machine cannot inject, the reason.
    problems
        What was lost, doubled, damaged or did not recover.
    parts
        A description of each part.
    """

    seed: int
    jobs: int
    faults: int
    position: int = 0
    acknowledged: int = 0
    states: Counter[str] = field(default_factory=Counter)
    attempts: Counter[str] = field(default_factory=Counter)
    artifacts: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    recoveries_s: dict[str, list[float]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)

    @property
    def is_complete(self) -> bool:
        """Whether all faults are done and all jobs are submitted."""
        return self.position >= self.faults and self.acknowledged >= self.jobs

    @classmethod
    def load(cls, path: Path, seed: int, jobs: int, faults: int) -> Self:
        """Read the record of a campaign, or begin one.

        Raises
        ------
        OtherCampaignError
            The record belongs to another campaign.
        """
        if not path.exists():
            return cls(seed, jobs, faults)
        record = cls(**json.loads(path.read_text(encoding="utf-8")))
        if (record.seed, record.jobs, record.faults) != (seed, jobs, faults):
            raise OtherCampaignError(
                f"{path} belongs to the campaign --seed {record.seed} --jobs {record.jobs} --faults {record.faults}. "
                "Go on with it, or remove the file to begin another campaign."
            )
        record.states, record.attempts = Counter(record.states), Counter(record.attempts)
        record.answers = Counter(record.answers)
        return record

    def save(self, path: Path) -> None:
        """Write the record; an interruption leaves the former one."""
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".part")
        temporary.write_text(json.dumps(vars(self), indent=1) + "\n", encoding="utf-8")
        temporary.replace(path)
