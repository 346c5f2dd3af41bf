"""A harness that runs jobs in a MusicGen engine: it takes parameters and clips, and returns results and files."""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.io import wavfile

from shared.audio.provenance import Provenance
from shared.audio.tags import read_tags
from shared.errors import JobFailedError
from shared.jobs import DeviceClass, Kind, Progress
from shared.kinds.musicgen.audio_encoding import decode
from shared.kinds.musicgen.catalogue import TINY
from shared.kinds.musicgen.parameters import MusicgenParams
from shared.settings import Settings
from tests.unit.worker.engines.result_check import check_result
from worker.devices import Device
from worker.engines.interface import Checkpoint, JobContext, NullCheckpoint
from worker.engines.musicgen.backends.processor import list_openvino_precisions
from worker.engines.musicgen.engine import MusicgenEngine
from worker.engines.musicgen.pipeline import MusicgenPipeline
from worker.engines.musicgen.request import Tokens

CPU: Final = Device(DeviceClass.CPU, 0)
STEREO: Final = "someone/stereo"
NEW_TOKENS: Final = 8
NEW_FRAMES: Final = NEW_TOKENS - 3  # the last codebook is delayed by three steps
BASE: Final[Mapping[str, Any]] = {"model": TINY, "prompts": ["rock"], "max_new_tokens": NEW_TOKENS, "seed": 5}


def ignore_report(*, stage: str, done: int, total: int, unit: str) -> None:
    """Ignore the progress."""


def ignore_tokens(tokens: Sequence[Tokens]) -> None:
    """Store nothing for a later attempt."""


def skip_without(precision: str) -> None:
    """Skip the test if OpenVINO does not offer the precision on this processor."""
    if precision not in list_openvino_precisions():
        pytest.skip(f"this processor has no {precision}")


@dataclass(frozen=True)
class JobRun:
    """The result of a job, its progress reports and its files."""

    result: dict[str, Any]
    reports: list[Progress]
    files: dict[str, tuple[str, bytes]]
    """For each file name, the media type and the content."""

    @property
    def stages(self) -> list[str]:
        """The name of each stage once, in the order in which the stages began."""
        return list(dict.fromkeys(report.stage for report in self.reports))

    @property
    def samples(self) -> list[dict[str, Any]]:
        """The samples of the result."""
        samples: list[dict[str, Any]] = self.result["samples"]
        return samples

    @property
    def music(self) -> dict[str, bytes]:
        """The content of each file; of audio, what is heard, without what the file says about the job."""
        return {
            name: decode(content).tobytes() if media_type.startswith("audio/") else content
            for name, (media_type, content) in self.files.items()
        }

    def read_provenance(self, sample: int = 0) -> Provenance:
        """Read what the audio file of a sample says about itself."""
        content = self.files[self.samples[sample]["audio"]][1]
        provenance = Provenance.parse(read_tags(io.BytesIO(content)).comment)
        assert provenance is not None
        return provenance

    def read_codes(self, sample: int = 0) -> NDArray[np.int16]:
        """Read the codes of a sample, shape (codebooks, frames)."""
        codes: NDArray[np.int16] = np.load(io.BytesIO(self.files[f"codes-{sample}.npy"][1]), allow_pickle=False)
        return codes

    def read_audio(self, sample: int = 0) -> NDArray[np.float32]:
        """Read the WAV file of a sample, shape (channels, samples)."""
        _, audio = wavfile.read(io.BytesIO(self.files[f"audio-{sample}.wav"][1]))
        channels: NDArray[np.float32] = np.atleast_2d(np.asarray(audio).T)
        return channels


@dataclass
class MemoryCheckpoint:
    """A checkpoint in memory."""

    earlier: bytes | None = None
    """What an earlier attempt stored."""
    stored: list[bytes] = field(default_factory=list)

    def load(self) -> bytes | None:
        """Return what an earlier attempt stored."""
        return self.earlier

    def store(self, content: bytes) -> None:
        """Append the content to ``stored``, the contents that this attempt has stored so far."""
        self.stored.append(content)


class EngineHarness:
    """An engine, with models and clips.

    Parameters
    ----------
    folder
        The folder for the models and for the files of the engine.
    """

    def __init__(self, folder: Path) -> None:
        self.models = folder / "models"
        self.clips: dict[str, Path] = {}
        self.settings = Settings(home=folder / "home", models_dir=self.models, models_allowed="someone/*")
        self.engine = MusicgenEngine(CPU, self.settings)

    def make_engine(self, backend: str, device: Device = CPU) -> MusicgenEngine:
        """Make another engine for the same models; ``backend`` is the value of the setting ``musicgen_backend``."""
        return MusicgenEngine(device, self.make_settings(backend))

    def make_settings(self, backend: str) -> Settings:
        """Return the settings with another value of ``musicgen_backend``."""
        return self.settings.model_copy(update={"musicgen_backend": backend})

    def get_pipeline(self, model: str, precision: str = "int8") -> MusicgenPipeline:
        """Return the pipeline of a model that a job has already loaded."""
        pipeline = self.engine.models.find(model, precision)
        assert isinstance(pipeline, MusicgenPipeline)
        return pipeline

    def run(
        self,
        *,
        engine: MusicgenEngine | None = None,
        checkpoint: Checkpoint | None = None,
        on_report: Callable[[Progress], None] = lambda _: None,
        **params: Any,
    ) -> JobRun:
        """Run a job; parameters that are not given have the values in ``BASE``.

        Parameters
        ----------
        engine
            The engine that runs the job; if it is not given, the engine of the harness.
        on_report
            Called with each progress report; may raise an exception to stop the job.
        """
        run = JobRun({}, [], {})

        def report(*, stage: str, done: int, total: int, unit: str) -> None:
            run.reports.append(Progress(stage, done, total, unit))
            on_report(run.reports[-1])

        def save(name: str, media_type: str, content: bytes) -> None:
            assert name not in run.files
            run.files[name] = (media_type, content)

        parsed = MusicgenParams.model_validate({**BASE, **params})
        context = JobContext(parsed, self.clips, report, save, checkpoint or NullCheckpoint())
        run.result.update((engine or self.engine).run(context))
        check_result(Kind.MUSICGEN, run.result)
        return run

    def fail(self, **params: Any) -> JobFailedError:
        """Run a job that must fail, check that the failure does not affect the next job, and return the error."""
        before = self.run()
        with pytest.raises(JobFailedError) as caught:
            self.run(**params)
        after = self.run()
        assert after.files == before.files
        assert "loading" not in after.stages
        return caught.value
