"""MusicGen with MindNLP: model and processor of transformers, on MindNLP's replacement of torch.

This backend is much slower than the other backends, and serves for comparison
with them. The code of transformers computes the model. Only the choice of tokens
and the delay pattern are the service's own code, as in the other backends. So the
same seed makes the same music with every backend, up to rounding.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import groupby
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shared.errors import JobFailedError
from shared.texts import text
from worker.devices import Device
from worker.engines.interface import ReportProgress
from worker.engines.musicgen.backends.mindnlp.patches import import_mindnlp, patch_model
from worker.engines.musicgen.decoding.delay import build_pattern, remove_delays
from worker.engines.musicgen.decoding.scheduler import BatchLimits
from worker.engines.musicgen.decoding.sequence import TokenSequence
from worker.engines.musicgen.model.configuration import DecoderConfig, ModelConfig, unusable_model
from worker.engines.musicgen.model.tokenizer import PromptTokenizer
from worker.engines.musicgen.model.weights import Weights
from worker.engines.musicgen.model_cache import ModelKey
from worker.engines.musicgen.request import (
    Codes,
    GeneratedSample,
    GenerationRequest,
    OnTokens,
    SampleRequest,
    Tokens,
)

_TRAINING_ONLY: Final = ("cluster_size", "embed_avg", "inited")
"""The ends of the names of tensors with statistics of EnCodec's training. The files of a model need not have these."""


class MindnlpGenerator:
    """A model that MindNLP has loaded; implements `worker.engines.musicgen.request.MusicGenerator`.

    Creating the first generator imports MindNLP, which changes the process permanently; see ``import_mindnlp``.

    Parameters
    ----------
    folder
        The folder of the model's files, in the layout of the Hugging Face hub.

    Raises
    ------
    JobFailedError
        The files cannot be used.
    """

    backend = "mindnlp"
    precision = "float32"
    max_slots = 0

    def __init__(self, folder: Path) -> None:
        self.config = ModelConfig.read(folder)
        # This checks the files: transformers would fill missing tensors with random numbers.
        Weights.open(folder, self.config)
        mindnlp = import_mindnlp()
        self._torch = mindnlp.torch
        try:
            self._processor = mindnlp.processor_class.from_pretrained(folder, local_files_only=True)
            self._model, findings = mindnlp.model_class.from_pretrained(
                folder, local_files_only=True, torch_dtype=self._torch.float32, output_loading_info=True
            )
        except (OSError, ValueError) as error:
            raise unusable_model(text("mindnlp-model-unreadable", folder=str(folder), error=str(error))) from error
        missing = [name for name in findings["missing_keys"] if not name.endswith(_TRAINING_ONLY)]
        if missing:
            raise unusable_model(text("mindnlp-tensor-missing", folder=str(folder), tensor=missing[0]))
        patch_model(self._model, self._torch)
        self.tokenizer = PromptTokenizer(folder)

    def close(self) -> None:
        """Drop the model; the memory is freed when nothing else refers to the model."""
        del self._model

    def generate(
        self, request: GenerationRequest, report: ReportProgress, on_tokens: OnTokens, resumed: Sequence[Tokens] | None
    ) -> Iterator[GeneratedSample]:
        """Generate the samples of a job; see `worker.engines.musicgen.request.MusicGenerator.generate`.

        Transformers generates the samples of one call as one batch, and would pad clips to the length of the longest
        one, which changes their codes. So each call gets neighbouring samples whose clips are equally long. The job
        fails if only some of the samples have a prompt, or if only some of them have a clip.
        """
        kinds = zip(*((sample.prompt is not None, sample.clip is not None) for sample in request.samples), strict=True)
        if any(0 < sum(given) < len(request.samples) for given in kinds):
            raise JobFailedError("unsupported", text("mindnlp-mixed-samples"))
        progress = _JobProgress(request, report, on_tokens, resumed)
        for samples in _divide(request.samples):
            yield from self._generate_batch(replace(request, samples=samples), progress)
            progress.first += len(samples)

    def _generate_batch(self, request: GenerationRequest, progress: "_JobProgress") -> Iterator[GeneratedSample]:
        """Generate samples without clips, or with clips of the same length."""
        run = _GenerationRun(request, self.config.decoder, progress)
        run.report_progress()
        inputs = self._prepare(request.samples)
        inputs["guidance_scale"] = request.sampling.guidance_scale if run.guided else 1.0
        with _attach(run, self._model, self._torch), _postpone_decoding(self._model):
            self._model.generate(
                **inputs,
                max_new_tokens=request.new_tokens,
                do_sample=False,  # `_force_tokens` chooses the tokens
                logits_processor=[partial(_force_tokens, run, self._torch)],
            )
        for sequence in run.sequences:
            yield self._decode(sequence.tokens, run)
            run.decoded += 1

    def _prepare(self, samples: Sequence[SampleRequest]) -> dict[str, Any]:
        """Make the model's inputs from prompts and clips."""
        given: dict[str, Any] = {}
        prompts = [sample.prompt for sample in samples if sample.prompt is not None]
        if prompts:
            given["text"] = prompts
        clips = [sample.clip for sample in samples if sample.clip is not None]
        if clips:
            # transformers expects mono audio without an axis for the channel.
            given["audio"] = [clip[0] if len(clip) == 1 else clip for clip in clips]
            given["sampling_rate"] = self.config.codec.sample_rate_hz
        inputs: dict[str, Any] = {}
        if given:
            inputs |= self._processor(**given, padding=True, return_tensors="pt").to(self._model.device)
        if not prompts:
            inputs |= self._model.get_unconditional_inputs(num_samples=len(samples))
        return inputs

    def _decode(self, tokens: Tokens, run: "_GenerationRun") -> GeneratedSample:
        """Decode the tokens of a sample.

        Transformers would decode all samples of a job as one batch, and the audio of all of them would be in memory.
        """
        codes, channels = remove_delays(tokens, self.config.decoder), self.config.decoder.channels
        with _report_layers(run, self._model), self._torch.no_grad():
            audio = [self._decode_channel(codes[channel::channels]) for channel in range(channels)]
        return GeneratedSample(codes, np.stack(audio))

    def _decode_channel(self, codes: Codes) -> NDArray[np.float32]:
        chunk = self._torch.from_numpy(codes.astype(np.int64)[None, None]).to(self._model.device)
        decoded = self._model.audio_encoder.decode(chunk, audio_scales=[None]).audio_values
        audio: NDArray[np.float32] = decoded.numpy()[0, 0]
        return audio


def _divide(samples: Sequence[SampleRequest]) -> Iterator[list[SampleRequest]]:
    """Divide the samples of a job into runs of neighbours whose clips are equally long."""
    for _, run in groupby(samples, lambda sample: 0 if sample.clip is None else sample.clip.shape[1]):
        yield list(run)


class _JobProgress:
    """The progress and the tokens of all samples of a job, of which one batch after another is generated.

    Attributes
    ----------
    first
        The place in the job of the first sample of the batch.
    """

    def __init__(
        self,
        request: GenerationRequest,
        report: ReportProgress,
        on_tokens: OnTokens,
        resumed: Sequence[Tokens] | None,
    ) -> None:
        self._request = request
        self._report = report
        self._on_tokens = on_tokens
        # No token of the samples of later batches is known yet.
        self._tokens = [*(resumed or [np.zeros((0, 0), np.int32)] * len(request.samples))]
        self.first = 0

    @property
    def known(self) -> Sequence[Tokens]:
        """The tokens that each sample of the batch, and each sample after it, had in an earlier attempt."""
        return self._tokens[self.first :]

    def report_step(self, done: int, batch: int) -> None:
        """Report how many steps of a batch of this many samples are done, as a mean over all samples of the job."""
        total, samples = self._request.new_tokens, len(self._request.samples)
        steps = (self.first * total + batch * done) // samples
        self._report(stage="generating", done=steps, total=total, unit="steps")

    def report_stage(self, stage: str, done: int) -> None:
        """Report a stage that has no steps, and how many samples of the batch are done."""
        self._report(stage=stage, done=self.first + done, total=len(self._request.samples), unit="samples")

    def pass_tokens(self, tokens: Sequence[Tokens]) -> None:
        """Pass on the tokens that each sample of the batch has so far, together with those of the other samples."""
        self._tokens[self.first : self.first + len(tokens)] = tokens
        self._on_tokens([*self._tokens])


class _GenerationRun:
    """One request while it is computed. It chooses the tokens and reports the progress, and uses only NumPy."""

    def __init__(self, request: GenerationRequest, config: DecoderConfig, progress: _JobProgress) -> None:
        self._request = request
        self._config = config
        self._progress = progress
        self.sequences: list[TokenSequence] = []
        self.decoded = 0
        """How many samples of the batch are decoded."""
        self._given_length = 0

    @property
    def guided(self) -> bool:
        """Whether the batch has an unconditional row for each conditional row (guidance)."""
        return self._request.sampling.guidance_scale > 1 and self._request.samples[0].prompt is not None

    def report_progress(self) -> None:
        """Report how many steps or samples are done; may raise to stop the job."""
        if self.sequences and not self.sequences[0].finished:
            self._progress.report_step(self.sequences[0].known_length - self._given_length, len(self.sequences))
        else:
            self._progress.report_stage("decoding" if self.sequences else "encoding", self.decoded)

    def start(self, given: NDArray[np.int64]) -> tuple[Tokens, Tokens]:
        """Build the sequences of all samples.

        Parameters
        ----------
        given
            The start token and the clips' codes: shape (samples * codebooks, 1 + frames).

        Returns
        -------
        The tokens known so far, shape (samples * codebooks, known), and the whole delay pattern, shape
        (samples * codebooks, positions).
        """
        codes = given[:, 1:].reshape(len(self._request.samples), self._config.codebooks, -1).astype(np.int16)
        patterns = [build_pattern(clip, self._request.new_tokens, self._config) for clip in codes]
        self._given_length = given.shape[1]
        # With MindNLP, all samples of a batch must be at the same position. If another backend has chosen the resumed
        # tokens, these may end at a different position in each sample. So only the positions whose tokens are known for
        # all samples are used.
        resumed = self._progress.known[: len(patterns)]
        known = min(tokens.shape[1] for tokens in resumed)
        self.sequences = [
            TokenSequence(pattern, None, self._request.sampling, sample.seed, tokens[:, :known])
            for pattern, sample, tokens in zip(patterns, self._request.samples, resumed, strict=True)
        ]
        self.report_progress()
        # transformers computes at least one step, even if all tokens are known already.
        read = min(self.sequences[0].known_length, self.sequences[0].length - 1)
        return np.concatenate([sequence.tokens[:, :read] for sequence in self.sequences]), np.concatenate(patterns)

    def choose(self, logits: NDArray[np.float32]) -> Tokens:
        """Choose the tokens of the next position.

        Parameters
        ----------
        logits
            Shape (rows * codebooks, vocabulary), the conditional rows before the unconditional rows.

        Returns
        -------
        The chosen tokens, shape (samples * codebooks,).
        """
        rows = logits.reshape(-1, self._config.codebooks, logits.shape[-1])
        samples = len(self.sequences)
        for index, sequence in enumerate(self.sequences):
            if not sequence.finished:
                sequence.extend(rows[index], rows[samples + index] if self.guided else None)
        self._progress.pass_tokens([sequence.tokens[:, : sequence.known_length] for sequence in self.sequences])
        self.report_progress()
        return np.concatenate([sequence.tokens[:, sequence.position] for sequence in self.sequences])


@contextmanager
def _attach(run: _GenerationRun, model: Any, torch: Any) -> Iterator[None]:  # noqa: ANN401 - MindNLP has no types
    """Let ``run`` build the sequences that the model generates, and report progress before each layer.

    A single report per step would be too rare, since a step takes seconds.
    """

    def build_delay_pattern_mask(input_ids: Any, **_: object) -> tuple[Any, Any]:  # noqa: ANN401 - MindNLP has no types
        known, pattern = run.start(input_ids.numpy())
        return (
            torch.from_numpy(known.astype(np.int64)).to(input_ids.device),
            torch.from_numpy(pattern.astype(np.int64)).to(input_ids.device),
        )

    model.decoder.build_delay_pattern_mask = build_delay_pattern_mask
    try:
        with _report_layers(run, model):
            yield
    finally:
        del model.decoder.build_delay_pattern_mask


@contextmanager
def _report_layers(run: _GenerationRun, model: Any) -> Iterator[None]:  # noqa: ANN401 - MindNLP has no types
    """Report progress before each layer."""
    layers = [layer for layer in model.modules() if not any(layer.children())]
    hooks = [layer.register_forward_pre_hook(lambda *_: run.report_progress()) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def _postpone_decoding(model: Any) -> Iterator[None]:  # noqa: ANN401 - MindNLP has no types
    """Let ``model.generate`` return the codes in place of the audio."""

    def return_codes(codes: Any, **_: object) -> Any:  # noqa: ANN401 - MindNLP has no types
        return SimpleNamespace(audio_values=codes)

    model.audio_encoder.decode = return_codes
    try:
        yield
    finally:
        del model.audio_encoder.decode


def _force_tokens(run: _GenerationRun, torch: Any, _input_ids: object, scores: Any) -> Any:  # noqa: ANN401 - MindNLP has no types
    """Choose tokens, and return scores that are largest for the chosen tokens. This is a logits processor.

    The guidance of transformers is applied after this function, and does not change the scores: the conditional row and
    the unconditional row of a sample have the same scores.
    """
    tokens = run.choose(scores.numpy())
    forced = np.arange(scores.shape[-1]) == np.resize(tokens, scores.shape[0])[:, None]
    return torch.from_numpy(forced.astype(np.float32)).to(scores.device)


def load_generator(key: ModelKey, device: Device, limits: BatchLimits, compiled_folder: Path) -> MindnlpGenerator:  # noqa: ARG001 - MindNLP computes on CPUs, without a batch of several jobs
    """Load a model; see `worker.engines.musicgen.backends.registry.Load`."""
    return MindnlpGenerator(key.folder)
