"""Writes the files of the samples of a job, and describes each sample."""

import hashlib
import io
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np

from shared.audio.provenance import ClipOrigin, Provenance
from shared.audio.resampling import resample
from shared.audio.tags import Tags
from shared.errors import JobFailedError
from shared.kinds.musicgen.audio_encoding import check_rate, decode, encode
from shared.kinds.musicgen.parameters import MusicgenParams
from shared.texts import Text, text
from shared.version import SOFTWARE
from worker.devices import Device
from worker.engines.interface import JobContext
from worker.engines.musicgen.audio.loudness import level, measure
from worker.engines.musicgen.audio.pictures import draw_spectrogram, draw_waveform
from worker.engines.musicgen.audio.quality import find_clipping, find_warnings
from worker.engines.musicgen.model.configuration import ModelConfig
from worker.engines.musicgen.request import Audio, Codes, GeneratedSample, GenerationRequest, MusicGenerator

_OF_THE_SAMPLE: Final = {"model", "prompts", "audio_prompts", "num_samples", "seed"}
"""The parameters that a file states otherwise, or that concern the other samples of the job."""


class SampleFiles:
    """Writes the files of the samples of one job, one sample at a time.

    Parameters
    ----------
    generator, device
        What computes the samples.

    Raises
    ------
    JobFailedError
        The format of the files does not support the sampling rate of the audio.
    """

    def __init__(
        self,
        context: JobContext[MusicgenParams],
        generator: MusicGenerator,
        request: GenerationRequest,
        device: Device,
    ) -> None:
        self._context = context
        self._generator = generator
        self._request = request
        self._device = device
        self._hash_upload = cache(_hash_file)
        self.sample_rate_hz = context.params.sample_rate or generator.config.codec.sample_rate_hz
        """The sampling rate of the files."""
        check_rate(context.params.format, self.sample_rate_hz)

    def save_all(self, generated: Iterator[GeneratedSample]) -> list[dict[str, Any]]:
        """Write the files of each sample before the next one is computed; see `save`.

        So the audio of one sample is in memory at a time.
        """
        samples: list[dict[str, Any]] = []
        while (sample := next(generated, None)) is not None:
            samples.append(self.save(len(samples), sample))
            del sample  # a loop variable would keep it until the next sample is there
        return samples

    def save(self, index: int, generated: GeneratedSample) -> dict[str, Any]:
        """Write the files of a sample, and return the part of the result that describes this sample.

        Raises
        ------
        JobFailedError
            The audio has NaN or infinite values.
        JobStoppedError
            Passed on from ``report``.
        """
        context, total = self._context, len(self._request.samples)
        sample = self._request.samples[index]
        context.report(stage="writing", done=index, total=total, unit="samples")
        check_audio(generated.audio, index)
        codes = order_codes(generated.codes, self._generator.config)
        prompt_samples = 0 if sample.clip is None else sample.clip.shape[1]
        warnings = find_warnings(
            generated.audio, sample.clip, self._generator.config.codec.sample_rate_hz, prompt_samples
        )
        names = {"audio": f"audio-{index}.{context.params.format.extension}", "codes": f"codes-{index}.npy"}
        written, clipping = self._write_audio(names["audio"], generated.audio, index, codes)
        context.save(names["codes"], "application/octet-stream", serialize_codes(codes))
        context.save(f"waveform-{index}.svg", "image/svg+xml", draw_waveform(written, self.sample_rate_hz))
        context.save(f"spectrogram-{index}.png", "image/png", draw_spectrogram(written, self.sample_rate_hz))
        levels = measure(written, self.sample_rate_hz)
        context.report(stage="writing", done=index + 1, total=total, unit="samples")
        return {
            "prompt": sample.prompt,
            "seed": sample.seed,
            "duration_s": round(written.shape[1] / self.sample_rate_hz, 3),
            **names,
            "peak_dbfs": levels.peak_dbfs,
            "lufs": levels.lufs,
            "warnings": [warning.serialize() for warning in [*sample.warnings, *clipping, *warnings]],
        }

    def _write_audio(self, name: str, raw: Audio, index: int, codes: Codes) -> tuple[Audio, list[Text]]:
        """Write the audio; return what a player decodes from the file, and the warnings about it."""
        params, model_hz = self._context.params, self._generator.config.codec.sample_rate_hz
        if self.sample_rate_hz != model_hz:
            raw = np.ascontiguousarray(resample(raw.T, model_hz, self.sample_rate_hz).T)
        audio = level(raw, self.sample_rate_hz, params.loudness)
        tags = self._describe(index, codes)
        seed = self._request.samples[index].seed
        content, media_type = encode(audio, self.sample_rate_hz, params.format, tags, dither_seed=seed)
        self._context.save(name, media_type, content)
        written = decode(content)
        warning = find_clipping(audio, written, params.format, params.loudness)
        return written, [] if warning is None else [warning]

    def _describe(self, index: int, codes: Codes) -> Tags:
        """Return the texts of the file of a sample: its title, and what made it."""
        params, sample = self._context.params, self._request.samples[index]
        provenance = Provenance(
            job=self._context.job_id,
            prompt=sample.prompt,
            seed=sample.seed,
            model=params.model,
            parameters=params.model_dump(mode="json", exclude=_OF_THE_SAMPLE),
            engine=self._generator.backend,
            precision=self._generator.precision,
            device=self._device.device_class,
            codes_sha256=hashlib.sha256(codes.astype("<i2").tobytes()).hexdigest(),
            clip=self._find_clip(index // params.num_samples),
        )
        title = sample.prompt or f"{params.model}, {sample.seed}"
        return Tags(title, provenance.serialize(), SOFTWARE)

    def _find_clip(self, row: int) -> ClipOrigin | None:
        prompts = self._context.params.audio_prompts
        if not prompts:
            return None
        part = prompts[row]
        sha256 = self._hash_upload(self._context.uploads[part.upload])
        return ClipOrigin(sha256=sha256, start_s=part.start_s, end_s=part.end_s)


def check_audio(audio: Audio, index: int) -> None:
    """Refuse audio with NaN or infinite values, which no player could play.

    The logits are checked for such values earlier, in `decoding.sequence.TokenSequence.extend`.

    Raises
    ------
    JobFailedError
        The audio has NaN or infinite values.
    """
    if not np.isfinite(audio).all():
        raise JobFailedError("not-finite", text("audio-not-finite", sample=index))


def order_codes(codes: Codes, config: ModelConfig) -> Codes:
    """Put the codebooks of the left channel before those of the right channel: shape (codebooks, frames)."""
    channels = config.decoder.channels
    return np.concatenate([codes[channel::channels] for channel in range(channels)])


def serialize_codes(codes: Codes) -> bytes:
    """Return codes as a ``.npy`` file: int16, shape (codebooks, frames)."""
    buffer = io.BytesIO()
    np.save(buffer, codes)
    return buffer.getvalue()


def _hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
