"""What a musicgen job made, sample by sample, as its page shows it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shared.kinds.musicgen.catalogue import ModelCard, list_models
from shared.schemas import responses
from shared.settings import Settings


@dataclass(frozen=True)
class Sample:
    """One piece of music.

    Parameters
    ----------
    number
        From 0, as in the names of its files.
    prompt
        What was asked for; ``None`` where nothing was.
    facts
        Its entry in the job's result.
    files
        What it is (``audio``, ``codes``, ``waveform``, ``spectrogram``) to the artifact.
    """

    number: int
    prompt: str | None
    facts: Mapping[str, Any]
    files: Mapping[str, responses.Artifact]


@dataclass(frozen=True)
class Music:
    """The musicgen part of a job's page.

    Parameters
    ----------
    samples
        In the order of the result.
    other_files
        The artifacts that belong to no sample.
    model
        The model that played; ``None`` where this instance does not know it.
    """

    samples: Sequence[Sample]
    other_files: Sequence[responses.Artifact]
    model: ModelCard | None


def describe_music(job: responses.Job, settings: Settings) -> Music:
    """Bring together what belongs to each sample.

    Parameters
    ----------
    job
        As the API shows it.
    settings
        Say where the models lie.
    """
    samples = list_samples(job)
    shown = {file["name"] for sample in samples for file in sample.files.values()}
    return Music(
        samples,
        [artifact for artifact in job["artifacts"] if artifact["name"] not in shown],
        next((card for card in list_models(settings) if card.name == job["params"]["model"]), None),
    )


def list_samples(job: responses.Job) -> list[Sample]:
    """List what a job has played; nothing, if it is of another kind."""
    artifacts = {artifact["name"]: artifact for artifact in job["artifacts"]}
    return [
        Sample(number, facts["prompt"] or None, facts, _find_files(number, facts, artifacts))
        for number, facts in enumerate((job["result"] or {}).get("samples", []))
    ]


def _find_files(
    number: int, facts: Mapping[str, Any], artifacts: Mapping[str, responses.Artifact]
) -> dict[str, responses.Artifact]:
    names = {
        "audio": facts["audio"],
        "codes": facts["codes"],
        "waveform": f"waveform-{number}.svg",
        "spectrogram": f"spectrogram-{number}.png",
    }
    return {what: artifacts[name] for what, name in names.items() if name in artifacts}
