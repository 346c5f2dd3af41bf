"""The MusicGen engine: a job's parameters in, music out."""

import io
import logging
import math
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from shared.errors import JobFailedError
from shared.kinds.musicgen.audio_encoding import encode
from shared.kinds.musicgen.parameters import DEFAULT_DURATION_S, MAX_SEED, MusicgenParams, Precision
from shared.settings import Settings
from worker.devices import Device
from worker.engines.interface import JobContext
from worker.engines.musicgen.audio.clips import ClipForm, read_clip
from worker.engines.musicgen.audio.loudness import level, measure
from worker.engines.musicgen.audio.pictures import draw_spectrogram, draw_waveform
from worker.engines.musicgen.audio.quality import find_warnings
from worker.engines.musicgen.backends.registry import choose_backend
from worker.engines.musicgen.decoding import delay
from worker.engines.musicgen.decoding.scheduler import BatchLimits
from worker.engines.musicgen.model.configuration import ModelConfig
from worker.engines.musicgen.model.download import fetch
from worker.engines.musicgen.model_cache import ModelCache, ModelKey
from worker.engines.musicgen.request import (
    Audio,
    GeneratedSample,
    GenerationRequest,
    MusicGenerator,
    SampleRequest,
    Sampling,
)
from worker.engines.musicgen.resume_state import CheckpointWriter, ResumeState

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Work:
    """A job, its model loaded."""

    params: MusicgenParams
    context: JobContext[MusicgenParams]
    composer: MusicGenerator
    order: GenerationRequest


class MusicgenEngine:
    """Generates music on the device that this process is pinned to.

    Parameters
    ----------
    device_class
        The device's.
    settings
        Where models are, which engine computes, and how much memory it may take.
    """

    def __init__(self, device: Device, settings: Settings) -> None:
        self._backend = choose_backend(device.device_class, settings)
        self.name: str = self._backend.name
        self._device = device
        self._settings = settings
        self._shelf = ModelCache(self._load, settings.musicgen_memory_mb * 2**20)

    def prepare(self) -> None:
        """Import what the first job would otherwise wait for."""
        self._backend.import_loader()

    def can_batch(self, params: MusicgenParams, running: Sequence[MusicgenParams]) -> bool:
        """Tell whether a job can share the batch: the same model, which is loaded, and enough free slots."""
        jobs = [params, *running]
        if len({(job.model, job.precision) for job in jobs}) > 1:
            return False
        composer = self._shelf.find(jobs[0].model, self._choose_precision(jobs[0].precision))
        return composer is not None and sum(map(count_rows, jobs)) <= composer.max_slots

    def run(self, context: JobContext[MusicgenParams]) -> dict[str, Any]:
        """Run one job.

        Raises
        ------
        JobFailedError
            The model is not to be had or not usable, or the parameters ask what it cannot do.
        JobStoppedError
            Passed on from ``report``.
        """
        params = context.params
        precision = self._choose_precision(params.precision)
        memo = self._read_memo(context, params)
        folder = fetch(self._settings, params.model, context.report)
        title = ModelKey(params.model, folder, str(precision))
        if not self._shelf.holds(title):
            context.report(stage="loading", done=0, total=1, unit="models")
        composer = self._shelf.take(title)
        order = make_order(params, context, composer.config, memo.seed)
        work = _Work(params, context, composer, order)
        recorder = CheckpointWriter(context.checkpoint, memo.seed)
        started_s = time.perf_counter()
        pieces = composer.compose(order, context.report, recorder.keep, memo.tokens or None)
        compute_s = time.perf_counter() - started_s
        samples = [self._write(work, index, piece) for index, piece in enumerate(pieces)]
        made_s = sum(sample["duration_s"] for sample in samples)
        return {
            "sampling_rate": composer.config.codec.sample_rate_hz,
            "frame_rate": composer.config.codec.frame_rate,
            "samples": samples,
            "tokens_per_s": None if recorder.tokens_per_s is None else round(recorder.tokens_per_s, 2),
            "realtime_factor": round(made_s / compute_s, 4),
            "engine": composer.engine,
            "precision": composer.precision,
        }

    def _read_memo(self, context: JobContext[MusicgenParams], params: MusicgenParams) -> ResumeState:
        """Read what an earlier attempt left, or begin: a seed that is drawn stays the job's from now on."""
        content = context.checkpoint.load()
        if content is not None:
            try:
                return ResumeState.read(content)
            except Exception:  # an older version's, or damaged: the job begins anew
                logger.exception("a checkpoint cannot be read; the job begins anew")
        memo = ResumeState(secrets.randbelow(MAX_SEED + 1) if params.seed is None else params.seed, ())
        context.checkpoint.store(memo.write())
        return memo

    def _choose_precision(self, wanted: Precision) -> Precision:
        offered = self._backend.list_precisions(self._device)
        if wanted is Precision.AUTO:
            return Precision(offered[0])
        if wanted not in offered:
            raise JobFailedError(
                "precision-unavailable",
                f"precision {wanted} is not offered by {self.name} on {self._device.device_class}; "
                f"choose auto or {' or '.join(offered)}.",
            )
        return wanted

    def _load(self, title: ModelKey) -> MusicGenerator:
        settings = self._settings
        limits = BatchLimits(settings.musicgen_max_slots, settings.musicgen_cache_mb * 2**20)
        return self._backend.import_loader()(title, self._device, limits, settings.compiled)

    def _write(self, work: _Work, index: int, piece: GeneratedSample) -> dict[str, Any]:
        """Write one sample's files; return its part of the result."""
        total = len(work.order.samples)
        work.context.report(stage="writing", done=index, total=total, unit="samples")
        rate_hz = work.composer.config.codec.sample_rate_hz
        sample = work.order.samples[index]
        check_audio(piece.audio, index)
        prompt_samples = 0 if sample.clip is None else sample.clip.shape[1]
        warnings = find_warnings(piece.audio, sample.clip, rate_hz, prompt_samples)
        audio = level(piece.audio, rate_hz, work.params.loudness)
        content, media_type = encode(audio, rate_hz, work.params.format)
        names = {"audio": f"audio-{index}.{work.params.format}", "codes": f"codes-{index}.npy"}
        save = work.context.save
        save(names["audio"], media_type, content)
        save(names["codes"], "application/octet-stream", write_codes(piece, work.composer.config))
        save(f"waveform-{index}.svg", "image/svg+xml", draw_waveform(audio, rate_hz))
        save(f"spectrogram-{index}.png", "image/png", draw_spectrogram(audio, rate_hz))
        work.context.report(stage="writing", done=index + 1, total=total, unit="samples")
        levels = measure(audio, rate_hz)
        return {
            "prompt": sample.prompt,
            "seed": sample.seed,
            "duration_s": round(audio.shape[1] / rate_hz, 3),
            **names,
            "peak_dbfs": levels.peak_dbfs,
            "lufs": levels.lufs,
            "warnings": warnings,
        }


def make_order(
    params: MusicgenParams, context: JobContext[MusicgenParams], config: ModelConfig, seed: int
) -> GenerationRequest:
    """Say what is to be made: each prompt as often as asked for, each sample with a seed of its own.

    SampleRequest n has the job's seed plus n, so that it can be asked for again alone.

    Raises
    ------
    JobFailedError
        An audio prompt cannot be used.
    """
    form = ClipForm(
        config.codec.sample_rate_hz, config.decoder.channels, (config.decoder.positions - 1) / config.codec.frame_rate
    )
    clips: list[Audio | None] = [
        read_clip(context.uploads[prompt.upload], prompt, form, f"params.audio_prompts[{index}]")
        for index, prompt in enumerate(params.audio_prompts)
    ]
    prompts: list[str | None] = [*params.prompts] or [None] * max(len(clips), 1)
    pairs = zip(prompts, clips or [None] * len(prompts), strict=True)
    repeated = [pair for pair in pairs for _ in range(params.num_samples)]
    samples = [SampleRequest(*pair, (seed + index) % (MAX_SEED + 1)) for index, pair in enumerate(repeated)]
    longest = max((clip.shape[1] for clip in clips if clip is not None), default=0)
    prompt_frames = math.ceil(longest / config.codec.hop)
    check_news(params, prompt_frames, config)
    return GenerationRequest(samples, count_new_tokens(params, prompt_frames, config), make_sampling(params))


def check_news(params: MusicgenParams, prompt_frames: int, config: ModelConfig) -> None:
    """Refuse a continuation that would have no new frame, because the last codebooks end late.

    Raises
    ------
    JobFailedError
        With the least that is needed.
    """
    least = max(delay.get_delays(1 + prompt_frames + (params.max_new_tokens or 0), config.decoder)) + 1
    if prompt_frames and params.max_new_tokens is not None and params.max_new_tokens < least:
        raise JobFailedError(
            "too-short",
            f"max_new_tokens {params.max_new_tokens} is too little to continue an audio prompt: the model's codebooks "
            f"end up to {least - 1} steps late, so give at least {least}, or give duration_s.",
        )


def count_new_tokens(params: MusicgenParams, prompt_frames: int, config: ModelConfig) -> int:
    """Count the positions to generate; ``duration_s`` is that of the new music, without the audio prompt's."""
    if params.max_new_tokens is not None:
        return params.max_new_tokens
    frames = max(1, round((params.duration_s or DEFAULT_DURATION_S) * config.codec.frame_rate))
    return delay.count_new_tokens(frames, prompt_frames, config.decoder)


def count_rows(params: MusicgenParams) -> int:
    """Count the decoder's rows that a job takes; a sample that is guided has two."""
    samples = max(len(params.prompts), len(params.audio_prompts), 1) * params.num_samples
    return samples * (2 if params.prompts and params.guidance_scale > 1 else 1)


def make_sampling(params: MusicgenParams) -> Sampling:
    """Say how tokens are chosen."""
    return Sampling(params.do_sample, params.guidance_scale, params.temperature, params.top_k, params.top_p)


def check_audio(audio: Audio, index: int) -> None:
    """Refuse audio that no player could play; see `decoding.sequence.Track.extend` for the codes.

    Raises
    ------
    JobFailedError
        It has samples that are not numbers.
    """
    if not np.isfinite(audio).all():
        raise JobFailedError(
            "not-finite",
            f"The audio of sample {index} is not finite: the weights of the model's codec are damaged, or too large "
            "for the precision. Choose another model, or precision float32.",
        )


def write_codes(piece: GeneratedSample, config: ModelConfig) -> bytes:
    """Write codes as ``.npy``: int16, (codebooks, frames), the left channel's codebooks before the right's."""
    channels = config.decoder.channels
    buffer = io.BytesIO()
    np.save(buffer, np.concatenate([piece.codes[channel::channels] for channel in range(channels)]))
    return buffer.getvalue()
