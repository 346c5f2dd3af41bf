"""MusicGen with MindNLP: model and processor of transformers, on MindNLP's replacement of torch.

It is much slower than the other backends, which are compared with it. Only the
choice of tokens and the delay pattern are the service's own code. So the same
seed makes the same music with every backend, up to rounding.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
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
from worker.engines.musicgen.model.weights import Weights
from worker.engines.musicgen.model_cache import ModelKey
from worker.engines.musicgen.request import GeneratedSample, GenerationRequest, OnTokens, SampleRequest, Tokens

_TRAINING_ONLY: Final = ("cluster_size", "embed_avg", "inited")
"""Statistics of EnCodec's training, which a file need not have."""


class MindnlpGenerator:
    """A model that MindNLP has loaded; implements `worker.engines.musicgen.request.MusicGenerator`.

    The first one imports MindNLP, and changes its process for good; see ``import_mindnlp``.

    Parameters
    ----------
    folder
        The model's files, in the layout of the Hugging Face hub.

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
        Weights.open(folder, self.config)  # checks the files: transformers would fill in missing tensors at random
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

    def close(self) -> None:
        """Drop the model; its memory is freed with the last reference to it."""
        del self._model

    def generate(
        self, request: GenerationRequest, report: ReportProgress, on_tokens: OnTokens, resumed: Sequence[Tokens] | None
    ) -> list[GeneratedSample]:
        """Generate the samples of a job; see the protocol.

        Transformers generates a batch as a whole: either all its samples have
        prompts or none has, and likewise with clips.
        """
        kinds = zip(*((sample.prompt is not None, sample.clip is not None) for sample in request.samples), strict=True)
        if any(0 < sum(given) < len(request.samples) for given in kinds):
            raise JobFailedError("unsupported", text("mindnlp-mixed-samples"))
        run = _GenerationRun(request, self.config.decoder, report, on_tokens, resumed)
        run.report_progress()
        inputs = self._prepare(request.samples)
        inputs["guidance_scale"] = request.sampling.guidance_scale if run.guided else 1.0
        with _attach(run, self._model, self._torch):
            audio = self._model.generate(
                **inputs,
                max_new_tokens=request.new_tokens,
                do_sample=False,  # the tokens have been chosen already
                logits_processor=[partial(_force_tokens, run, self._torch)],
            ).numpy()
        lengths = [0 if sample.clip is None else sample.clip.shape[1] for sample in request.samples]
        return [
            self._remove_padding(sequence.tokens, samples, max(lengths) - length)
            for sequence, samples, length in zip(run.sequences, audio, lengths, strict=True)
        ]

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

    def _remove_padding(self, tokens: Tokens, audio: NDArray[np.float32], padding: int) -> GeneratedSample:
        """Remove the silence that the clip was padded with on its left.

        The processor's own ``batch_decode`` cannot do this for two channels.
        """
        frames = padding // self.config.codec.hop
        return GeneratedSample(
            remove_delays(tokens, self.config.decoder)[:, frames:], np.ascontiguousarray(audio[:, padding:])
        )


class _GenerationRun:
    """One request while it is computed: chooses tokens and reports progress. NumPy alone."""

    def __init__(
        self,
        request: GenerationRequest,
        config: DecoderConfig,
        report: ReportProgress,
        on_tokens: OnTokens,
        resumed: Sequence[Tokens] | None,
    ) -> None:
        self._request = request
        self._config = config
        self._report = report
        self._on_tokens = on_tokens
        self._resumed = resumed
        self.sequences: list[TokenSequence] = []
        self._given_length = 0

    @property
    def guided(self) -> bool:
        """Whether each conditional row of the batch has an unconditional one."""
        return self._request.sampling.guidance_scale > 1 and self._request.samples[0].prompt is not None

    def report_progress(self) -> None:
        """Report how many steps or samples are done; may raise."""
        if self.sequences and not self.sequences[0].finished:
            done = self.sequences[0].known_length - self._given_length
            self._report(stage="generating", done=done, total=self._request.new_tokens, unit="steps")
        else:
            stage = "decoding" if self.sequences else "encoding"
            self._report(stage=stage, done=0, total=len(self._request.samples), unit="samples")

    def start(self, given: NDArray[np.int64]) -> tuple[Tokens, Tokens]:
        """Build the sequences.

        Parameters
        ----------
        given
            The start token and the clips' codes: shape (samples * codebooks, 1 + frames).

        Returns
        -------
        The tokens known so far, and the whole pattern: shapes (samples * codebooks, known) and
        (samples * codebooks, positions).
        """
        codes = given[:, 1:].reshape(len(self._request.samples), self._config.codebooks, -1).astype(np.int16)
        patterns = [build_pattern(clip, self._request.new_tokens, self._config) for clip in codes]
        self._given_length = given.shape[1]
        # All rows of a batch are at the same position here; another backend may have left them at different ones.
        resumed = self._resumed or [pattern[:, : self._given_length] for pattern in patterns]
        known = min(tokens.shape[1] for tokens in resumed)
        self.sequences = [
            TokenSequence(pattern, None, self._request.sampling, sample.seed, tokens[:, :known])
            for pattern, sample, tokens in zip(patterns, self._request.samples, resumed, strict=True)
        ]
        self.report_progress()
        # transformers computes at least one step, even if all its tokens are known.
        read = min(self.sequences[0].known_length, self.sequences[0].length - 1)
        return np.concatenate([sequence.tokens[:, :read] for sequence in self.sequences]), np.concatenate(patterns)

    def choose(self, logits: NDArray[np.float32]) -> Tokens:
        """Choose the tokens of the next position.

        Parameters
        ----------
        logits
            Shape (rows * codebooks, vocabulary), the conditional rows first.

        Returns
        -------
        Shape (samples * codebooks,).
        """
        rows = logits.reshape(-1, self._config.codebooks, logits.shape[-1])
        samples = len(self.sequences)
        for index, sequence in enumerate(self.sequences):
            if not sequence.finished:
                sequence.extend(rows[index], rows[samples + index] if self.guided else None)
        self._on_tokens([sequence.tokens[:, : sequence.known_length] for sequence in self.sequences])
        self.report_progress()
        return np.concatenate([sequence.tokens[:, sequence.position] for sequence in self.sequences])


@contextmanager
def _attach(run: _GenerationRun, model: Any, torch: Any) -> Iterator[None]:  # noqa: ANN401 - MindNLP has no types
    """Let the run build the sequences that the model generates, and report progress before each layer.

    Reports at each step would be too rare: a step takes seconds.
    """

    def build_delay_pattern_mask(input_ids: Any, **_: object) -> tuple[Any, Any]:  # noqa: ANN401 - the same
        known, pattern = run.start(input_ids.numpy())
        return (
            torch.from_numpy(known.astype(np.int64)).to(input_ids.device),
            torch.from_numpy(pattern.astype(np.int64)).to(input_ids.device),
        )

    model.decoder.build_delay_pattern_mask = build_delay_pattern_mask
    layers = [layer for layer in model.modules() if not any(layer.children())]
    hooks = [layer.register_forward_pre_hook(lambda *_: run.report_progress()) for layer in layers]
    try:
        yield
    finally:
        del model.decoder.build_delay_pattern_mask
        for hook in hooks:
            hook.remove()


def _force_tokens(run: _GenerationRun, torch: Any, _input_ids: object, scores: Any) -> Any:  # noqa: ANN401 - MindNLP has no types
    """Choose tokens, and return scores that are largest for these: a logits processor.

    Guidance comes after it and does not change the scores, since those of both halves are the same.
    """
    tokens = run.choose(scores.numpy())
    forced = np.arange(scores.shape[-1]) == np.resize(tokens, scores.shape[0])[:, None]
    return torch.from_numpy(forced.astype(np.float32)).to(scores.device)


def load_generator(key: ModelKey, device: Device, limits: BatchLimits, compiled_folder: Path) -> MindnlpGenerator:  # noqa: ARG001 - MindNLP computes on CPUs, without a batch of several jobs
    """Load a model; see `worker.engines.musicgen.backends.registry.Load`."""
    return MindnlpGenerator(key.folder)
