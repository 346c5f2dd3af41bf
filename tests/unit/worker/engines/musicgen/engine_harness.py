"""Runs the jobs of the engine's tests: parameters and clips in; what a user would get out."""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import openvino
import pytest
from numpy.typing import NDArray
from scipy.io import wavfile

from shared.errors import JobFailedError
from shared.jobs import DeviceClass, Kind, Progress
from shared.kinds.musicgen.catalogue import TINY
from shared.kinds.musicgen.parameters import MusicgenParams
from shared.settings import Settings
from tests.unit.worker.engines.result_check import check_result
from worker.engines.interface import Checkpoint, JobContext, NullCheckpoint
from worker.engines.musicgen.engine import MusicgenEngine

STEREO: Final = "someone/stereo"
NEW_TOKENS: Final = 8
NEW_FRAMES: Final = NEW_TOKENS - 3  # the last codebook is three steps late
BASE: Final[Mapping[str, Any]] = {"model": TINY, "prompts": ["rock"], "max_new_tokens": NEW_TOKENS, "seed": 5}


def skip_without(precision: str) -> None:
    """Skip a test of numbers that this processor does not compute in."""
    if precision == "bfloat16" and "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this processor has no bfloat16")


@dataclass(frozen=True)
class JobRun:
    """What a job has made."""

    result: dict[str, Any]
    reports: list[Progress]
    files: dict[str, tuple[str, bytes]]
    """Name to media type and content."""

    @property
    def stages(self) -> list[str]:
        """Each stage once, in the order in which they began."""
        return list(dict.fromkeys(report.stage for report in self.reports))

    @property
    def samples(self) -> list[dict[str, Any]]:
        """The result's."""
        samples: list[dict[str, Any]] = self.result["samples"]
        return samples

    def read_codes(self, sample: int = 0) -> NDArray[np.int16]:
        """Read a sample's codes, shape (codebooks, frames)."""
        codes: NDArray[np.int16] = np.load(io.BytesIO(self.files[f"codes-{sample}.npy"][1]), allow_pickle=False)
        return codes

    def read_audio(self, sample: int = 0) -> NDArray[np.float32]:
        """Read a sample's WAV file, shape (channels, samples)."""
        _, audio = wavfile.read(io.BytesIO(self.files[f"audio-{sample}.wav"][1]))
        channels: NDArray[np.float32] = np.atleast_2d(np.asarray(audio).T)
        return channels


@dataclass
class KeptCheckpoint:
    """A checkpoint in memory."""

    earlier: bytes | None = None
    stored: list[bytes] = field(default_factory=list)

    def load(self) -> bytes | None:
        """Return what the test put there."""
        return self.earlier

    def store(self, content: bytes) -> None:
        """Keep all, one after the other."""
        self.stored.append(content)


class EngineHarness:
    """An engine, with models and clips.

    Parameters
    ----------
    folder
        For all of its files.
    """

    def __init__(self, folder: Path) -> None:
        self.models = folder / "models"
        self.clips: dict[str, Path] = {}
        self.settings = Settings(home=folder / "home", models_dir=self.models)
        self.engine = MusicgenEngine(DeviceClass.CPU, self.settings)

    def make_engine(self, name: str, device_class: DeviceClass = DeviceClass.CPU) -> MusicgenEngine:
        """Make another engine, of the same models, by its setting."""
        return MusicgenEngine(device_class, self.settings.model_copy(update={"musicgen_backend": name}))

    def run(
        self,
        *,
        engine: MusicgenEngine | None = None,
        checkpoint: Checkpoint | None = None,
        look: Callable[[Progress], None] = lambda _: None,
        **params: Any,
    ) -> JobRun:
        """Run a job, the parameters of which are ``BASE`` where not given.

        Parameters
        ----------
        engine
            Where it is not the studio's own.
        look
            Told of each report; may raise.
        """
        take = JobRun({}, [], {})

        def report(*, stage: str, done: int, total: int, unit: str) -> None:
            take.reports.append(Progress(stage, done, total, unit))
            look(take.reports[-1])

        def save(name: str, media_type: str, content: bytes) -> None:
            assert name not in take.files
            take.files[name] = (media_type, content)

        complete = MusicgenParams.model_validate({**BASE, **params}).model_dump(mode="json")
        assignment = JobContext(complete, self.clips, report, save, checkpoint or NullCheckpoint())
        take.result.update((engine or self.engine).run(assignment))
        check_result(Kind.MUSICGEN, take.result)
        return take

    def fail(self, **params: Any) -> JobFailedError:
        """Run a job that must fail; see that the next one does not mind."""
        before = self.run()
        with pytest.raises(JobFailedError) as caught:
            self.run(**params)
        after = self.run()
        assert after.files == before.files
        assert "loading" not in after.stages
        return caught.value
