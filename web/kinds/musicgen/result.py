"""What the page of a musicgen job shows of the job's result."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shared.kinds.musicgen.catalogue import ModelCard, list_models
from shared.kinds.musicgen.parameters import Format
from shared.schemas import responses
from shared.services import Services
from shared.texts import render
from web.kinds.spec import ResultView


@dataclass(frozen=True)
class Sample:
    """One piece of music.

    Parameters
    ----------
    number
        The number of the sample, counted from 0, as in the names of the sample's files.
    prompt
        The text from which the sample was generated; ``None`` for unconditional generation.
    facts
        The entry of the sample in the job's result.
    files
        The artifacts of the sample, keyed by their content: ``audio``, ``codes``, ``waveform``, ``spectrogram``.
    """

    number: int
    prompt: str | None
    facts: Mapping[str, Any]
    files: Mapping[str, responses.Artifact]


@dataclass(frozen=True)
class MusicResultView(ResultView):
    """The samples of a musicgen job.

    Parameters
    ----------
    samples
        The samples in the order of the job's result.
    model
        The model that generated the samples; ``None`` if this instance does not know the model.
    note
        What a user should know about the model.
    formats
        The formats in which a sample can be downloaded.
    """

    samples: Sequence[Sample]
    model: ModelCard | None
    note: str | None
    formats: Sequence[Format]


def view_result(services: Services, job: responses.Job) -> MusicResultView | None:
    """Collect what the page shows of each sample; ``None`` if the job has no samples."""
    samples = list_samples(job)
    if not samples:
        return None
    shown = {file["name"] for sample in samples for file in sample.files.values()}
    model = next((card for card in list_models(services.settings) if card.name == job["params"]["model"]), None)
    return MusicResultView(
        other_files=[artifact for artifact in job["artifacts"] if artifact["name"] not in shown],
        samples=samples,
        model=model,
        note=render(model.note) if model and model.note else None,
        formats=[*Format],
    )


def list_samples(job: responses.Job) -> list[Sample]:
    """List the samples that a musicgen job has generated."""
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
