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
    # Clips.
    "clip-rate": "The clip of {where} has a sampling rate of {rate_hz} Hz. Upload it at 44100 Hz, for example.",
    "clip-empty": "The clip of {where} contains no audio. Upload another file.",
    "clip-undecodable": "The clip of {where} cannot be decoded ({reason}). Upload a complete WAV, FLAC, OGG or MP3 file.",
    "clip-incomplete": "The clip of {where} ends after {decoded_s:.2f} s. Set end_s to that or less.",
    "clip-too-short": "The clip of {where} has only {length_s:.3f} s to continue. Choose at least {min_length_s:g} s.",
    "clip-not-finite": "The clip of {where} has samples that are NaN or infinite. Upload an intact sound file.",
    "clip-start-beyond-end": "The clip of {where} is {length_s:.2f} s long, and start_s is {start_s:g}. Set start_s to less "
    "than its length.",
    "clip-end-beyond-end": "The clip of {where} is {length_s:.2f} s long, and end_s is {end_s:g}. Set end_s to its length or "
    "less, or leave it out.",
    "clip-too-long": "The clip of {where} has {length_s:.2f} s to continue, but the model can use at most "
    "{max_length_s:.2f} s. Set end_s to {max_end_s:.2f} or less.",
    # Warnings about the audio.
    "audio-clipping": "Clipping: {share:.2%} of the model's samples are beyond full scale, by up to {excess_db:.1f} dB. "
    'With the loudness "peak", "rms" or "lufs" they are not cut off.',
    "audio-silent": "Silence: the music is below {level_dbfs:g} dBFS. Another seed or prompt may help.",
    "audio-mostly-silent": "Silence: {share:.0%} of the music is below {level_dbfs:g} dBFS. Another seed or prompt may help.",
    "audio-starts-quiet": "Quiet start: the first {start_s:.1f} s of new music are {drop_db:.0f} dB quieter than the clip. "
    "Another seed, or a part of the clip that ends at full level, may help.",
    "audio-starts-silent": "Silent start: the first {start_s:.1f} s of new music are silent, unlike the clip. "
    "Another seed, or a part of the clip that ends at full level, may help.",
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
