"""Make the files in ``tests/references/musicgen``: the results of transformers on PyTorch for the cases.

This program needs an environment of its own, because MindNLP does not run if torch is installed. The build of PyTorch
for CPUs is enough::

    python3.11 -m venv /tmp/references
    /tmp/references/bin/pip install torch==2.13.0 transformers==4.55.4 tokenizers==0.21.4 numpy==1.26.4 \\
        safetensors==0.8.0 scipy sentencepiece protobuf
    /tmp/references/bin/python -m tests.references.make_musicgen [NAME...]

A file is written only if its case is a useful reference: a rounding error must
not be able to change a token or a code of a clip, and the codes must vary. If the
program runs again on the same type of processor, it writes the same bytes.

The file of a ``Case`` with B samples contains the arrays below. R is the number of rows in
the batch: B conditional rows and, if the case is guided, B unconditional rows after them.

=================== ============================================================================================
weights_sha256      the hash of the model's weights, from ``musicgen_cases.hash_weights``
input_ids           (B, text) int32, padded on the right; not for unconditional cases
attention_mask      (B, text) int32, 1 for text and 0 for padding; (B, 1) zeros for unconditional cases
text_states         (B, text, text_hidden), the output of T5; values at padding have no meaning
projected           (R, text, hidden), the states projected to the decoder's hidden size; zero where the mask is zero
prompt_codes        (B, codebooks, frames) int16, the clips with silence as padding on the left; only with clips
prompt_embeddings   (B, channels, codec_hidden, frames), the clips before quantisation; only with clips
padding_samples     (B,) int32, how many samples of silence each clip was padded with; only with clips
tokens              (B, codebooks, length) int16, all tokens that the decoder could read, with delays, start token first
positions           (P,) int32, the positions of ``states`` and ``logits``
states              (layers + 1, R, P, hidden), the inputs of all layers, then the output of the last norm
logits              (R, codebooks, P, codes), from which the tokens at the following positions are chosen
codes               (B, codebooks, frames) int16, without delays, including the codes of the clips
audio               (B, channels, samples) float32, including the padding at the start
smallest_gap        the smallest gap between a chosen token and the next best token
=================== ============================================================================================

The file of a ``CodecCase`` contains ``weights_sha256``; for each clip N, ``embeddings_N``
(codec_hidden, frames) and ``codes_N`` (codebooks, frames); and for array N of the codes that
the case gives, ``audio_N`` (samples,), which is decoded from this array.

To sample a token, each probability is divided by an exponential variate, and
the token with the largest quotient is chosen. This is equivalent to sampling from
the distribution. The variates come from
``worker.engines.musicgen.decoding.random_numbers``, so that transformers and the
backends use the same variates.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final
from unittest import mock

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from transformers.modeling_outputs import BaseModelOutput

from tests.references.choices import UnsuitableCaseError, check_choices, check_codes, check_variety, draw_exponentials
from tests.references.musicgen_cases import CASES, CODEC_CASES, FOLDER, Arrays, Case, CodecCase, Model, hash_weights

STORED_POSITIONS: Final = 3
LOGITS_TOLERANCE: Final = 1e-3
TRAINING_ONLY: Final = ("cluster_size", "embed_avg", "inited")

Inputs = dict[str, Any]


@dataclass(frozen=True)
class Loaded:
    """A model as transformers loads it."""

    model: Any
    processor: Any
    weights_sha256: str


@cache
def load(model: Model) -> Loaded:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model.write(folder)
        loaded, findings = transformers.MusicgenForConditionalGeneration.from_pretrained(
            folder, output_loading_info=True
        )
        findings["missing_keys"] = [key for key in findings["missing_keys"] if not key.endswith(TRAINING_ONLY)]
        if any(findings.values()):
            raise UnsuitableCaseError(f"transformers does not find all tensors that it looks for: {findings}")
        return Loaded(loaded.eval(), transformers.AutoProcessor.from_pretrained(folder), hash_weights(folder))


class StepRecorder(transformers.LogitsProcessor):  # type: ignore[misc] # untyped here
    """Records the logits of every step, and samples the tokens in place of ``torch.multinomial``."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.position = 0
        self.logits: list[NDArray[np.float64]] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self.position = input_ids.shape[-1]
        self.logits.append(scores.double().numpy())
        return scores

    def sample(self, probabilities: torch.Tensor, num_samples: int) -> torch.Tensor:
        keys = probabilities.double().numpy() / draw_exponentials(self.case, self.position)
        return torch.from_numpy(keys.argmax(axis=-1)).reshape(-1, num_samples)


def make(case: Case) -> Arrays:
    """Generate the samples of a case, and return the results and the intermediate results."""
    loaded = load(case.model)
    model = loaded.model
    inputs = prepare(case, loaded)
    recorder = StepRecorder(case)
    apply = mock.patch.object(model.decoder, "apply_delay_pattern_mask", wraps=model.decoder.apply_delay_pattern_mask)
    with mock.patch.object(torch, "multinomial", recorder.sample), apply as applied:
        audio = model.generate(
            **inputs,
            max_new_tokens=case.new_tokens,
            do_sample=case.do_sample,
            temperature=case.temperature,
            top_k=case.top_k,
            top_p=case.top_p,
            logits_processor=transformers.LogitsProcessorList([recorder]),
        )
    # The last call applies the delay pattern to all tokens.
    chosen, pattern = applied.call_args.args
    samples = len(case.prompts)
    generated = (pattern == -1).reshape(samples, -1, pattern.shape[-1]).numpy()
    tokens = torch.where(pattern == -1, chosen, pattern).reshape(generated.shape)
    generated[..., : -case.new_tokens] = False  # without delays, the pattern is -1 even where tokens are given
    arrays = {"weights_sha256": np.array(loaded.weights_sha256), "tokens": tokens.numpy().astype(np.int16)}
    arrays["smallest_gap"] = np.float32(check_choices(case, recorder.logits, arrays["tokens"], generated))
    check_variety(arrays["tokens"], generated)
    arrays |= encode_clips(case, loaded, inputs)
    arrays |= run_decoder(case, loaded, inputs, tokens)
    check_logits(recorder.logits, arrays)
    codes = tokens[tokens != case.model.size.codebook_size].reshape(samples, generated.shape[1], -1)
    arrays |= {"codes": codes.numpy().astype(np.int16), "audio": audio.numpy()}
    check_prompts(case, loaded, inputs, arrays)
    return arrays


def prepare(case: Case, loaded: Loaded) -> Inputs:
    """Prepare the arguments of ``generate``."""
    if case.prompts[0] is None:
        inputs = dict(loaded.model.get_unconditional_inputs(num_samples=len(case.prompts)))
    else:
        inputs = dict(loaded.processor(text=list(case.prompts), padding=True, return_tensors="pt"))
        inputs["guidance_scale"] = case.guidance_scale
    if case.clips:
        clips = [clip[0] if len(clip) == 1 else clip for clip in case.make_clips()]
        rate = case.model.size.sample_rate_hz
        inputs |= loaded.processor(audio=clips, sampling_rate=rate, padding=True, return_tensors="pt")
    return inputs


def encode_clips(case: Case, loaded: Loaded, inputs: Inputs) -> Arrays:
    """Encode the clips."""
    if not case.clips:
        return {}
    codec = loaded.model.audio_encoder
    values, mask = inputs["input_values"], inputs["padding_mask"]
    channels = values.unbind(1)
    embeddings = torch.stack([codec.encoder(channel[:, None]) for channel in channels], dim=1)
    codes = torch.stack([codec.encode(channel[:, None], mask).audio_codes[0] for channel in channels], dim=2)
    for channel in range(len(channels)):
        check_codes(embeddings[:, channel], codes[:, :, channel], codec)
    return {
        "prompt_codes": codes.flatten(1, 2).numpy().astype(np.int16),  # left and right alternate
        "prompt_embeddings": embeddings.numpy(),
        "padding_samples": (mask == 0).sum(dim=-1).numpy().astype(np.int32),
    }


def run_decoder(case: Case, loaded: Loaded, inputs: Inputs, tokens: torch.Tensor) -> Arrays:
    """Run the model once on the whole of the finished sequences, and return what the model computes."""
    model = loaded.model
    mask = inputs["attention_mask"]
    arrays = {"attention_mask": mask.numpy().astype(np.int32)}
    if "encoder_outputs" in inputs:
        states = inputs["encoder_outputs"][0]
    else:
        states = model.text_encoder(input_ids=inputs["input_ids"], attention_mask=mask).last_hidden_state
        arrays |= {"input_ids": inputs["input_ids"].numpy().astype(np.int32), "text_states": states.numpy()}
    rows = tokens[..., :-1]
    if case.guided:
        states, mask, rows = torch.cat([states, 0 * states]), torch.cat([mask, 0 * mask]), torch.cat([rows, rows])
    forward = mock.patch.object(model.decoder, "forward", wraps=model.decoder.forward)
    with forward as decode:
        output = model(
            encoder_outputs=BaseModelOutput(last_hidden_state=states),
            attention_mask=mask,
            decoder_input_ids=rows.flatten(0, 1),
            output_hidden_states=True,
        )
    positions = np.unique(np.linspace(0, rows.shape[-1] - 1, STORED_POSITIONS).round().astype(np.int32))
    logits = output.logits.reshape(*rows.shape, -1).numpy()
    return arrays | {
        "projected": decode.call_args.kwargs["encoder_hidden_states"].numpy(),
        "positions": positions,
        "states": np.stack([layer.numpy()[:, positions] for layer in output.decoder_hidden_states]),
        "logits": logits[:, :, positions],
    }


def check_logits(steps: list[NDArray[np.float64]], arrays: Arrays) -> None:
    """Check that the logits computed for all tokens at once equal the logits of the single steps."""
    first = arrays["tokens"].shape[-1] - len(steps) - 1
    for index, position in enumerate(arrays["positions"]):
        if position >= first:
            at_once = arrays["logits"][:, :, index]
            stepwise = steps[position - first].reshape(at_once.shape)
            if not np.allclose(at_once, stepwise, atol=LOGITS_TOLERANCE, rtol=0):
                raise UnsuitableCaseError(
                    f"The logits at position {position} are not those that the token was chosen by."
                )


def check_prompts(case: Case, loaded: Loaded, inputs: Inputs, arrays: Arrays) -> None:
    """Check that the codes start with the codes of the clips, and that transformers removes the recorded padding."""
    if not case.clips:
        return
    prompts, audio = arrays["prompt_codes"], arrays["audio"]
    codes = arrays["codes"][..., : prompts.shape[-1]]
    if not np.array_equal(codes, prompts[..., : codes.shape[-1]]):
        raise UnsuitableCaseError("The codes do not start with those of the clip.")
    if audio.shape[1] > 1 or audio.shape[-1] < inputs["padding_mask"].shape[-1]:
        return  # transformers 4.55 can remove padding neither from stereo audio nor from audio shorter than the clip
    trimmed = loaded.processor.batch_decode(audio, padding_mask=inputs["padding_mask"])
    for whole, part, padding in zip(audio, trimmed, arrays["padding_samples"], strict=True):
        if not np.array_equal(whole[:, padding:], part.astype(np.float32)):
            raise UnsuitableCaseError("The padding is not what transformers removes.")


def make_codec(case: CodecCase) -> Arrays:
    """Encode the clips and decode the codes of a case; return the results."""
    loaded = load(case.model)
    codec = loaded.model.audio_encoder
    arrays: Arrays = {"weights_sha256": np.array(loaded.weights_sha256)}
    for index, clip in enumerate(case.make_clips()):
        values = torch.from_numpy(clip)[None]
        embeddings, codes = codec.encoder(values), codec.encode(values).audio_codes[0]
        check_codes(embeddings, codes, codec)
        arrays[f"embeddings_{index}"] = embeddings[0].numpy()
        arrays[f"codes_{index}"] = codes[0].numpy().astype(np.int16)
    for index, given in enumerate(case.make_codes()):
        audio = codec.decode(torch.from_numpy(given.astype(np.int64))[None, None], [None]).audio_values
        arrays[f"audio_{index}"] = audio[0, 0].numpy()
    return arrays


def make_all(names: list[str]) -> Iterator[tuple[str, Arrays]]:
    """Make the cases with these names, or all cases if there are no names."""
    for case in (*CASES, *CODEC_CASES):
        if names and case.name not in names:
            continue
        try:
            yield case.name, make(case) if isinstance(case, Case) else make_codec(case)
        except UnsuitableCaseError as error:
            raise UnsuitableCaseError(f"{case.name}: {error}") from error


def main() -> None:
    """Make the files of the requested cases."""
    parser = argparse.ArgumentParser(prog="python -m tests.references.make_musicgen")
    parser.add_argument("names", nargs="*", help="the cases to make; all by default")
    names = parser.parse_args().names
    unknown = set(names) - {case.name for case in (*CASES, *CODEC_CASES)}
    if unknown:
        parser.error(f"there is no case {', '.join(sorted(unknown))}")
    transformers.logging.set_verbosity_error()
    torch.set_grad_enabled(False)
    torch.set_num_threads(1)  # the number of threads changes the last bits of sums
    FOLDER.mkdir(exist_ok=True)
    for name, arrays in make_all(names):
        np.savez_compressed(FOLDER / f"{name}.npz", **arrays)
        gap = f", smallest gap {arrays['smallest_gap']:.4f}" if "smallest_gap" in arrays else ""
        sys.stdout.write(f"{name}: {(FOLDER / name).with_suffix('.npz').stat().st_size} bytes{gap}\n")


if __name__ == "__main__":
    main()
