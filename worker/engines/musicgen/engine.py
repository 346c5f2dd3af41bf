"""The MusicGen engine: it takes the parameters and clips of a job, saves the files and returns the result."""

import time
from collections.abc import Collection, Iterator, Sequence
from typing import Any, TypeVar

from shared.errors import JobFailedError
from shared.kinds.musicgen.lengths import count_clip_frames, count_min_tokens, count_new_tokens
from shared.kinds.musicgen.parameters import MAX_SEED, MusicgenParams, Precision
from shared.settings import Settings
from shared.texts import text
from worker.devices import Device
from worker.engines.interface import JobContext, ReportProgress
from worker.engines.musicgen.audio.clips import Clip, ClipFormat, DecodingLimits, read_clip
from worker.engines.musicgen.backends.registry import choose_backend
from worker.engines.musicgen.decoding.scheduler import BatchLimits
from worker.engines.musicgen.model.configuration import ModelConfig
from worker.engines.musicgen.model.model_folder import download, is_download_needed, open_model
from worker.engines.musicgen.model_cache import ModelCache, ModelKey
from worker.engines.musicgen.music_checkpoint import CheckpointWriter, ResumeState
from worker.engines.musicgen.request import GenerationRequest, MusicGenerator, SampleRequest, Sampling
from worker.engines.musicgen.request_warnings import add_warnings
from worker.engines.musicgen.sample_files import SampleFiles

Item = TypeVar("Item")


class MusicgenEngine:
    """Generates music on the device that this process is pinned to.

    Parameters
    ----------
    device
        The device.
    settings
        Where models are stored, which backend computes, and how much memory models and batches may take.
    """

    downloaded_parameter = "model"

    def __init__(self, device: Device, settings: Settings) -> None:
        self._backend = choose_backend(device.device_class, settings)
        self.name: str = self._backend.name
        self._device = device
        self._settings = settings
        self.models = ModelCache(self._load, settings.musicgen_memory_mb * 2**20)

    def prepare(self) -> None:
        """Import the framework of the backend now, so that the first job does not wait for the import."""
        self._backend.import_loader()

    def find_missing(self, params: MusicgenParams) -> str | None:
        """Return the model of a job if it must be downloaded before the job can run; ``None`` if not."""
        return params.model if is_download_needed(self._settings, params.model) else None

    def download(self, name: str, keep: Collection[str], report: ReportProgress) -> None:
        """Download a model.

        Raises
        ------
        JobFailedError
            The model cannot be downloaded.
        JobStoppedError
            Passed on from ``report``.
        """
        download(self._settings, name, keep, report)

    def can_batch(self, params: MusicgenParams, running: Sequence[MusicgenParams]) -> bool:
        """Return whether a job can join the batch.

        The job must use the same model in the same precision as the running jobs, the model must be
        loaded, and there must be enough free slots.
        """
        jobs = [params, *running]
        if len({(job.model, job.precision) for job in jobs}) > 1:
            return False
        generator = self.models.find(jobs[0].model, self.choose_precision(jobs[0].precision))
        return generator is not None and sum(map(count_slots, jobs)) <= generator.max_slots

    def run(self, context: JobContext[MusicgenParams]) -> dict[str, Any]:
        """Run one job.

        Raises
        ------
        JobFailedError
            The model is not available or not usable, or it cannot do what the parameters request.
        JobStoppedError
            Passed on from ``context.report``.
        """
        params = context.params
        precision = self.choose_precision(params.precision)
        state = ResumeState.load_or_start(context.checkpoint, params.seed)
        with open_model(self._settings, params.model, context.report) as folder:
            key = ModelKey(params.model, folder, str(precision))
            if not self.models.is_loaded(key):
                context.report(stage="loading", done=0, total=1, unit="models")
            generator = self.models.get(key)
        request = build_request(context, generator.config, state.seed, DecodingLimits.of(self._settings))
        request = add_warnings(request, generator)
        files = SampleFiles(context, generator, request, self._device)
        writer = CheckpointWriter(context.checkpoint, state.seed)
        stopwatch = Stopwatch()
        generated = generator.generate(request, context.report, writer.update, state.tokens or None)
        samples = files.save_all(stopwatch.time(generated))
        music_s = sum(sample["duration_s"] for sample in samples)
        return {
            "sampling_rate": files.sample_rate_hz,
            "frame_rate": generator.config.codec.frame_rate,
            "samples": samples,
            "tokens_per_s": None if writer.tokens_per_s is None else round(writer.tokens_per_s, 2),
            "realtime_factor": round(music_s / stopwatch.elapsed_s, 4),
            "engine": generator.backend,
            "precision": generator.precision,
        }

    def choose_precision(self, wanted: Precision) -> Precision:
        """Return the precision in which a job computes on this device.

        Raises
        ------
        JobFailedError
            The backend does not offer the wanted precision on this device.
        """
        offered = self._backend.list_precisions(self._device)
        if wanted is Precision.AUTO:
            return Precision(offered[0])
        if wanted not in offered:
            raise JobFailedError(
                "precision-unavailable",
                text(
                    "precision-unavailable",
                    precision=wanted,
                    backend=self.name,
                    device_class=self._device.device_class,
                    choices=", ".join(["auto", *offered]),
                ),
            )
        return wanted

    def _load(self, key: ModelKey) -> MusicGenerator:
        settings = self._settings
        limits = BatchLimits(settings.musicgen_max_slots, settings.musicgen_cache_mb * 2**20)
        return self._backend.import_loader()(key, self._device, limits, settings.compiled)


def build_request(
    context: JobContext[MusicgenParams], config: ModelConfig, seed: int, limits: DecodingLimits
) -> GenerationRequest:
    """Build the request of a job: each prompt is repeated ``num_samples`` times, and each sample has its own seed.

    The seed of sample n is the job's seed plus n, so that a single sample can be generated again.

    Raises
    ------
    JobFailedError
        An audio prompt cannot be used.
    """
    params = context.params
    form = ClipFormat(
        config.codec.sample_rate_hz, config.decoder.channels, (config.decoder.positions - 1) / config.codec.frame_rate
    )
    clips: Sequence[Clip | None] = _read_clips(context, form, limits)
    prompts: list[str | None] = [*params.prompts] or [None] * max(len(clips), 1)
    pairs = zip(prompts, clips or [None] * len(prompts), strict=True)
    repeated = [pair for pair in pairs for _ in range(params.num_samples)]
    samples = [
        SampleRequest(
            prompt,
            None if clip is None else clip.audio,
            (seed + index) % (MAX_SEED + 1),
            () if clip is None else clip.warnings,
        )
        for index, (prompt, clip) in enumerate(repeated)
    ]
    # At more than 10 frames per second, the shortest clip is long enough for the delay pattern, and so are all others.
    shortest = min((sample.clip.shape[1] for sample in samples if sample.clip is not None), default=0)
    clip_frames = count_clip_frames(shortest, config.figures)
    check_continuation(params, clip_frames, config)
    return GenerationRequest(samples, count_new_tokens(params, clip_frames, config.figures), build_sampling(params))


def _read_clips(context: JobContext[MusicgenParams], form: ClipFormat, limits: DecodingLimits) -> list[Clip]:
    prompts = context.params.audio_prompts
    clips: list[Clip] = []
    read: dict[tuple[str, float, float | None], Clip] = {}  # several prompts often continue the same part

    def report() -> None:
        context.report(stage="reading", done=len(clips), total=len(prompts), unit="clips")

    for index, prompt in enumerate(prompts):
        report()
        where, path = f"params.audio_prompts[{index}]", context.uploads[prompt.upload]
        part = (prompt.upload, prompt.start_s, prompt.end_s)
        if part not in read:
            read[part] = read_clip(path, prompt, form, where, limits=limits, check_wanted=report)
        clips.append(read[part])
    return clips


def check_continuation(params: MusicgenParams, clip_frames: int, config: ModelConfig) -> None:
    """Refuse a continuation with too few new tokens: because of the delays, it would have no new frame.

    Raises
    ------
    JobFailedError
        The continuation is too short; the error says how many tokens are needed.
    """
    if not clip_frames or params.max_new_tokens is None:
        return
    min_new_tokens = count_min_tokens(params.max_new_tokens, clip_frames, config.figures)
    if params.max_new_tokens < min_new_tokens:
        raise JobFailedError(
            "too-short",
            text(
                "continuation-too-short",
                max_new_tokens=params.max_new_tokens,
                delay_steps=min_new_tokens - 1,
                min_new_tokens=min_new_tokens,
            ),
        )


def count_slots(params: MusicgenParams) -> int:
    """Count the decoder slots that a job takes; a sample with guidance takes two."""
    samples = max(len(params.prompts), len(params.audio_prompts), 1) * params.num_samples
    return samples * (2 if params.prompts and params.guidance_scale > 1 else 1)


def build_sampling(params: MusicgenParams) -> Sampling:
    """Return the parameters by which tokens are chosen."""
    return Sampling(params.do_sample, params.guidance_scale, params.temperature, params.top_k, params.top_p)


class Stopwatch:
    """Measures how long an iterator takes to compute its items, without what is done with them."""

    def __init__(self) -> None:
        self.elapsed_s = 0.0

    def time(self, items: Iterator[Item]) -> Iterator[Item]:
        """Yield the items, and measure the time until each of them is there."""
        while True:
            started_s = time.perf_counter()
            try:
                item = next(items)
            except StopIteration:
                return
            finally:
                self.elapsed_s += time.perf_counter() - started_s
            yield item
            del item  # the next item may need the memory
