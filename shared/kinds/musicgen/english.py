"""The sentences of music generation in English; see `shared.texts`."""

from collections.abc import Mapping
from typing import Final

SENTENCES: Final[Mapping[str, str]] = {
    # The engine and the decode loop.
    "precision-unavailable": "The backend {backend} does not offer the precision {precision} on {device_class}. "
    "Choose one of: {choices}.",
    "continuation-too-short": "max_new_tokens {max_new_tokens} is too small to continue an audio prompt: the model's "
    "last codebook is delayed by {delay_steps} steps. Set max_new_tokens to at least {min_new_tokens}, or give "
    "duration_s instead.",
    "music-too-long": "The model has {positions} positions. The start token and the audio prompts take {used}, which "
    "leaves {free} for new tokens, but the job needs {new_tokens}. Make duration_s, max_new_tokens or the audio "
    "prompts shorter.",
    "logits-not-finite": "At position {position}, the model's logits have NaN or infinite values: its weights are "
    "damaged, or too large for the precision. Choose another model, or the precision float32.",
    "audio-not-finite": "The audio of sample {sample} has NaN or infinite values: the weights of the model's codec are "
    "damaged, or too large for the precision. Choose another model, or the precision float32.",
    "tokenizer-unreadable": "{path} cannot be read ({error}). Download the model again.",
    "musicgen-backend-unavailable": "MINDJOBS_MUSICGEN_BACKEND: {backend!r} does not generate music on {device_class}. "
    "Choose one of: {choices}.",
    # Pages.
    "sample-not-found": "The job {job} has no sample {sample}.",
    # The backend MindNLP.
    "mindnlp-mixed-samples": "With the backend MindNLP, either all samples of a job have a prompt or none has, and "
    "either all continue an audio prompt or none does. Submit such samples as separate jobs.",
    "mindnlp-model-unreadable": "MindNLP cannot load {folder} ({error}). Download the model again.",
    "mindnlp-tensor-missing": "MindNLP does not find the tensor {tensor!r} in {folder}. Select the backend mindspore or "
    "openvino (MINDJOBS_MUSICGEN_BACKEND), which read more layouts of weights.",
}
"""Code to sentence."""

TITLES: Final[Mapping[str, str]] = {
    "clip-unreadable": "The audio clip cannot be read",
    "clip-empty": "The audio clip is empty",
    "clip-range": "The audio clip does not have this part",
    "clip-too-long": "The part of the audio clip is too long",
    "format-unfit": "The format does not support the audio",
    "model-invalid": "The model's files cannot be used",
    "model-unavailable": "The model cannot be downloaded",
    "not-finite": "The model produced NaN or infinite values",
    "precision-unavailable": "This precision is not available here",
    "too-long": "The music is longer than the model can generate",
    "too-short": "No new audio would be generated",
    "unsupported": "The backend does not support this",
}
"""Type of error to its title."""
