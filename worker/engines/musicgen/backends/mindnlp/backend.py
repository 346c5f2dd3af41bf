"""MusicGen as MindNLP has it: transformers' own model and processor, over MindNLP's replacement of torch.

Much slower than the engine's own model, and what that one is compared with.
Only how tokens are chosen, and how codes are delayed, is the engine's own code:
so the same seed makes the same music with both, up to rounding.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shared.errors import JobFailedError
from worker.devices import Device
from worker.engines.interface import ReportProgress
from worker.engines.musicgen.backends.mindnlp.patches import import_mindnlp, repair_model
from worker.engines.musicgen.decoding.delay import build_pattern, remove_delays
from worker.engines.musicgen.decoding.scheduler import BatchLimits
from worker.engines.musicgen.decoding.sequence import TokenSequence
from worker.engines.musicgen.model.configuration import DecoderConfig, ModelConfig, unusable_model
from worker.engines.musicgen.model.weights import Weights
from worker.engines.musicgen.model_cache import ModelKey
from worker.engines.musicgen.request import GeneratedSample, GenerationRequest, OnTokens, SampleRequest, Tokens

_UNUSED: Final = ("cluster_size", "embed_avg", "inited")
"""Statistics of EnCodec's training, which a file need not have."""


class MindnlpGenerator:
    """A model that MindNLP has loaded.

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
        Weights.open(folder, self.config)  # transformers would make up what is missing
        mindnlp = import_mindnlp()
        self._torch = mindnlp.torch
        try:
            self._processor = mindnlp.processor_class.from_pretrained(folder, local_files_only=True)
            self._model, findings = mindnlp.model_class.from_pretrained(
                folder, local_files_only=True, torch_dtype=self._torch.float32, output_loading_info=True
            )
        except (OSError, ValueError) as error:
            raise unusable_model(f"MindNLP cannot load {folder} ({error}); download the model again.") from error
        missing = [name for name in findings["missing_keys"] if not name.endswith(_UNUSED)]
        if missing:
            raise unusable_model(f"MindNLP finds no {missing[0]!r} in {folder}; choose the engine mindspore.")
        repair_model(self._model, self._torch)

    def close(self) -> None:
        """Let go of the model, whose memory is freed with its last reference."""
        del self._model

    def generate(
        self, order: GenerationRequest, report: ReportProgress, keep: OnTokens, resumed: Sequence[Tokens] | None
    ) -> list[GeneratedSample]:
        """Make the music; see ``Composer``.

        Transformers generates a batch as a whole: all its samples have prompts
        or none has, and so with clips.
        """
        if any(0 < sum(has) < len(order.samples) for has in zip(*map(_list_givens, order.samples), strict=True)):
            raise JobFailedError(
                "unsupported",
                "With the engine mindnlp, all samples of a job have prompts or none has, and so with audio prompts; "
                "choose the engine mindspore.",
            )
        course = _Course(order, self.config.decoder, report, keep, resumed)
        course.tell()
        inputs = self._prepare(order.samples)
        inputs["guidance_scale"] = order.sampling.guidance_scale if course.guided else 1.0
        with _follow(self._model, course, self._torch):
            audio = self._model.generate(
                **inputs,
                max_new_tokens=order.new_tokens,
                do_sample=False,  # the course has chosen already
                logits_processor=[partial(_force, course, self._torch)],
            ).numpy()
        lengths = [0 if sample.clip is None else sample.clip.shape[1] for sample in order.samples]
        return [
            self._cut(track.tokens, samples, max(lengths) - length)
            for track, samples, length in zip(course.tracks, audio, lengths, strict=True)
        ]

    def _prepare(self, samples: Sequence[SampleRequest]) -> dict[str, Any]:
        """Make what the model takes of prompts and clips."""
        given: dict[str, Any] = {}
        prompts = [sample.prompt for sample in samples if sample.prompt is not None]
        if prompts:
            given["text"] = prompts
        clips = [sample.clip for sample in samples if sample.clip is not None]
        if clips:
            # transformers takes mono without an axis for its channel.
            given["audio"] = [clip[0] if len(clip) == 1 else clip for clip in clips]
            given["sampling_rate"] = self.config.codec.sample_rate_hz
        inputs: dict[str, Any] = {}
        if given:
            inputs |= self._processor(**given, padding=True, return_tensors="pt").to(self._model.device)
        if not prompts:
            inputs |= self._model.get_unconditional_inputs(num_samples=len(samples))
        return inputs

    def _cut(self, tokens: Tokens, audio: NDArray[np.float32], padding: int) -> GeneratedSample:
        """Take off the silence that the clip was padded with on its left.

        The processor's own ``batch_decode`` cannot do this for two channels.
        """
        frames = padding // self.config.codec.hop
        return GeneratedSample(
            remove_delays(tokens, self.config.decoder)[:, frames:], np.ascontiguousarray(audio[:, padding:])
        )


def _list_givens(sample: SampleRequest) -> tuple[bool, bool]:
    return sample.prompt is not None, sample.clip is not None


class _Course:
    """An order on its way: what is chosen, and what is told of it. NumPy alone."""

    def __init__(
        self,
        order: GenerationRequest,
        config: DecoderConfig,
        report: ReportProgress,
        keep: OnTokens,
        resumed: Sequence[Tokens] | None,
    ) -> None:
        self._order = order
        self._config = config
        self._report = report
        self._keep = keep
        self._resumed = resumed
        self.tracks: list[TokenSequence] = []
        self._given = 0

    @property
    def guided(self) -> bool:
        """Whether each row has a second one without the text."""
        return self._order.sampling.guidance_scale > 1 and self._order.samples[0].prompt is not None

    def tell(self) -> None:
        """ReportProgress how far it is; may raise."""
        if self.tracks and not self.tracks[0].finished:
            done = self.tracks[0].known_length - self._given
            self._report(stage="generating", done=done, total=self._order.new_tokens, unit="steps")
        else:
            stage = "decoding" if self.tracks else "encoding"
            self._report(stage=stage, done=0, total=len(self._order.samples), unit="samples")

    def begin(self, prompts: NDArray[np.int64]) -> tuple[Tokens, Tokens]:
        """Lay the sequences out.

        Parameters
        ----------
        prompts
            The start token and the clips' codes: shape (samples * codebooks, 1 + frames).

        Returns
        -------
        The tokens known so far, and the whole pattern: shapes (samples * codebooks, known) and
        (samples * codebooks, positions).
        """
        codes = prompts[:, 1:].reshape(len(self._order.samples), self._config.codebooks, -1).astype(np.int16)
        patterns = [build_pattern(clip, self._order.new_tokens, self._config) for clip in codes]
        self._given = prompts.shape[1]
        # The rows of a batch go in step; another engine may have left them at different positions.
        resumed = self._resumed or [pattern[:, : self._given] for pattern in patterns]
        known = min(tokens.shape[1] for tokens in resumed)
        self.tracks = [
            TokenSequence(pattern, None, self._order.sampling, sample.seed, tokens[:, :known])
            for pattern, sample, tokens in zip(patterns, self._order.samples, resumed, strict=True)
        ]
        self.tell()
        # generate takes a step at least, and what that chooses is already known here.
        read = min(self.tracks[0].known_length, self.tracks[0].length - 1)
        return np.concatenate([track.tokens[:, :read] for track in self.tracks]), np.concatenate(patterns)

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
        samples = len(self.tracks)
        for index, track in enumerate(self.tracks):
            if not track.finished:
                track.extend(rows[index], rows[samples + index] if self.guided else None)
        self._keep([track.tokens[:, : track.known_length] for track in self.tracks])
        self.tell()
        return np.concatenate([track.tokens[:, track.position] for track in self.tracks])


@contextmanager
def _follow(model: Any, course: _Course, torch: Any) -> Iterator[None]:  # noqa: ANN401 - MindNLP has no types
    """Let the course lay out the sequences that the model generates, and tell of each layer that computes.

    Telling of steps would not do: one takes seconds.
    """

    def begin(input_ids: Any, **_: object) -> tuple[Any, Any]:  # noqa: ANN401 - the same
        known, pattern = course.begin(input_ids.numpy())
        return (
            torch.from_numpy(known.astype(np.int64)).to(input_ids.device),
            torch.from_numpy(pattern.astype(np.int64)).to(input_ids.device),
        )

    model.decoder.build_delay_pattern_mask = begin
    layers = [layer for layer in model.modules() if not any(layer.children())]
    hooks = [layer.register_forward_pre_hook(lambda *_: course.tell()) for layer in layers]
    try:
        yield
    finally:
        del model.decoder.build_delay_pattern_mask
        for hook in hooks:
            hook.remove()


def _force(course: _Course, torch: Any, _input_ids: object, scores: Any) -> Any:  # noqa: ANN401 - MindNLP has no types
    """Choose, as a logits processor: return scores whose largest are the chosen tokens'.

    Guidance comes after it and leaves them alone, since both halves are the same.
    """
    chosen = course.choose(scores.numpy())
    forced = np.arange(scores.shape[-1]) == np.resize(chosen, scores.shape[0])[:, None]
    return torch.from_numpy(forced.astype(np.float32)).to(scores.device)


def load_generator(key: ModelKey, device: Device, limits: BatchLimits, compiled: Path) -> MindnlpGenerator:  # noqa: ARG001 - the model decides by itself
    """Load a model as `backends.registry.Load` says."""
    return MindnlpGenerator(key.folder)
