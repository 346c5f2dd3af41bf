"""The English sentences of the kind ``musicgen``; see `shared.texts`."""

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
    # The parameters.
    "clip-end-before-start": "must be after start_s, {start_s:g} s",
    "length-given-twice": "gives the length a second time; give max_new_tokens or duration_s, not both",
    "clips-per-prompt": "must have one clip per prompt; clips: {clips}, prompts: {prompts}",
    "format-rate": "The audio has a sampling rate of {rate_hz} Hz, which {format} files do not support. Choose the format wav (params.format), or a sampling rate (params.sample_rate).",
    # Lengths, judged at submission. The sentences are shown at the fields.
    "duration-beyond-model": "must be at most {max_s:g} s, since this model makes no longer music",
    "duration-beyond-clip": "must be at most {max_s:g} s: the clip takes {clip_s:.2f} s of the {total_s:g} s that this model can make; a shorter part of the clip leaves more",
    "tokens-beyond-model": "must be at most {max_tokens}, since this model makes no more than {total_s:g} s of music",
    "tokens-beyond-clip": "must be at most {max_tokens}: the clip takes {clip_s:.2f} s of the {total_s:g} s that this model can make; a shorter part of the clip leaves more",
    "tokens-too-few": "must be at least {min_tokens} to continue a clip: with fewer, no new music is made",
    "clip-leaves-no-room": "leaves no room for new music: the clip has {clip_s:.2f} s, and the model can use at most {max_s:g} s of it; set it to at most {max_end_s:g}",
    "music-too-much": "makes too much music in one job: num_samples {samples} for each of {rows} prompts, at {sample_s:g} s, are {music_s:,.0f} s, and the limit is {max_s:,.0f} s; ask for less, submit several jobs, or ask the operator to raise MINDJOBS_MAX_JOB_MUSIC_S",
    "music-limit": "makes {amount:,.0f} s of music, and your queued and running jobs make {unended:,.0f} s, together more than the limit of {max_amount:,.0f} s; submit it when some of them have ended, cancel some, or ask the operator to raise MINDJOBS_MAX_QUEUED_MUSIC_S",
    # Clips, judged at submission. The sentences are shown at the fields.
    "clip-file-too-short": "has only {length_s:.3f} s of sound; upload at least {min_s:g} s",
    "clip-starts-beyond-end": "is {start_s:g} s, but the file is {length_s:.2f} s long; set it to at most {max_s:g}",
    "clip-starts-too-late": "is {start_s:g} s, which leaves less than {min_s:g} s of the file, which is {length_s:.2f} s long; set it to at most {max_s:g}",
    "clip-ends-beyond-end": "is {end_s:g} s, but the file is {length_s:.2f} s long; set it to at most {max_s:g}, or leave it empty",
    "clip-ends-too-early": "leaves less than {min_s:g} s after the start of the clip at {start_s:g} s; set it to at least {min_end_s:g}",
    # Clips, judged by the worker.
    "clip-problem": "The clip of {where}: {details}",
    "clip-undecodable": "The clip of {where} made its decoder fail. Save it again as WAV or FLAC, and upload that.",
    "clip-too-short": "The clip of {where} has only {length_s:.3f} s to continue. Choose at least {min_length_s:g} s.",
    "clip-start-beyond-end": "The clip of {where} is {length_s:.2f} s long, and start_s is {start_s:g}. Set start_s to less "
    "than its length.",
    "clip-end-beyond-end": "The clip of {where} is {length_s:.2f} s long, and end_s is {end_s:g}. Set end_s to its length or "
    "less, or leave it out.",
    "clip-too-long": "The clip of {where} has {length_s:.2f} s to continue, but the model can use at most "
    "{max_length_s:.2f} s. Set end_s to {max_end_s:.2f} or less.",
    # Warnings about prompts and lengths.
    "prompt-unknown": "Prompt not understood: the text encoder knows none of it ({unknown}), so that every such prompt makes the same music. Write it in English.",
    "prompt-partly-unknown": "Prompt partly not understood: the text encoder does not know {share:.0%} of it ({unknown}). Write these words in English.",
    "prompt-long": "Long prompt: it has {tokens} tokens, and the text encoder was trained on at most {trained}. All of them are used, but a shorter prompt is followed better.",
    "music-beyond-training": "Long music: the model was trained on pieces of {trained_s:g} s, and this one has {length_s:.1f} s. What comes later may lose its form.",
    # Warnings about the audio.
    "clip-warning": "The clip that is continued: {details}",
    "audio-clipping": "Clipping: {share:.2%} of the samples in the file are beyond full scale, by up to {excess_db:.1f} dB. "
    'Players cut them off. With the loudness "peak", "rms" or "lufs" the music is as a whole below full scale.',
    "audio-cut": "Clipping: {share:.2%} of the samples were beyond full scale, by up to {excess_db:.1f} dB, and were cut off "
    'in the file, because {format} files end at full scale. The loudness "peak", "rms" or "lufs" keeps them, and so does '
    'the format "wav".',
    "audio-overshoot": "Clipping: {share:.2%} of the samples in the file are beyond full scale, by up to {excess_db:.1f} dB, "
    'because {format} files are not exact. Players cut them off. The formats "wav", "wav16" and "flac" have none.',
    "audio-silent": "Silence: the music is below {level_dbfs:g} dBFS. Another seed or prompt may help.",
    "audio-mostly-silent": "Silence: {share:.0%} of the music is below {level_dbfs:g} dBFS. Another seed or prompt may help.",
    "audio-starts-quiet": "Quiet start: the first {start_s:.1f} s of new music are {drop_db:.0f} dB quieter than the clip. "
    "Another seed, or a part of the clip that ends at full level, may help.",
    "audio-starts-silent": "Silent start: the first {start_s:.1f} s of new music are silent, unlike the clip. "
    "Another seed, or a part of the clip that ends at full level, may help.",
    # Notes about models.
    "model-note-random": "Random weights: the output is noise. For trying out the service.",
    "model-note-missing-file": "{path} is missing or cannot be read.",
    # The files of a model.
    "model-value-codebook-size": "{path}: {field}: a codebook of {value} code leaves no choice.",
    "model-file-unreadable": "{path} cannot be read ({error}). Download the model again.",
    "model-file-missing": "{path} is missing. Download the model again.",
    "model-file-damaged": "{path} is damaged ({error}). Delete it and download the model again.",
    "model-part-missing": "{path} has no {part!r}. This is not a MusicGen model in the Hugging Face layout.",
    "model-codebooks-mismatch": "{path}: the decoder has {codebooks} codebooks of {codes} codes, but the codec has {codec_codebooks} of {codec_codes}.",
    "model-value-indivisible": "{path}: {field}: {value} is not divisible by 2 and by {heads} heads.",
    "model-value-channels": "{path}: {field}: {value} does not fit {codebooks} codebooks.",
    "model-value-unsupported": "{path}: {field}: {value} is not supported, only {wanted} is.",
    "model-value-not-positive": "{path}: {field}: {value} is not a positive number below {max_value:g}.",
    "model-value-not-integer": "{path}: {field}: {value} is not an integer, or not a list of integers.",
    "model-value-not-boolean": "{path}: {field}: {value} is neither true nor false.",
    "model-value-not-numbers": "{path}: {field}: {value} is not a list of numbers.",
    "model-pickled": "{where} has its weights as {files}, not as safetensors. Pickled weights can run any code when they are read, so they are refused. Convert them on a machine where you trust them: load the model with transformers and save it with save_pretrained(folder, safe_serialization=True).",
    "model-tensor-missing": "The weights in {folder} have no tensor {tensor!r}. Download the model again.",
    "model-tensor-shape": "{path}: the tensor {tensor!r} has the shape {shape}, but the configuration of the model requires {wanted}. Download the model again.",
    "model-tensor-dtype": "{path}: the tensor {tensor!r} is stored as {dtype}, which is not supported. Convert the model to float32, float16 or bfloat16.",
    "model-folder-incomplete": "{missing} is missing or cannot be read. Complete that folder, or delete it so that the model is downloaded.",
    "model-builtin-not-written": "{missing} is missing or cannot be read, and the built-in model cannot be written again ({error}). Free some space, or delete that folder.",
    # The download of a model.
    "model-not-allowed": "{model} is not among the models that this service allows. Choose one that GET /models lists, or ask the operator to add this one to MINDJOBS_MODELS_ALLOWED or to MINDJOBS_MODELS_DIR.",
    "model-too-large": "{model} has {size_gb:.1f} GB, and the limit is {max_gb:.1f} GB. Choose a smaller model, or ask the operator to raise MINDJOBS_MAX_MODEL_MB.",
    "model-cache-full": "{model} has {size_gb:.1f} GB, but downloaded models may take {max_gb:.1f} GB together, and those in use leave too little of that. Try again later, or ask the operator to raise MINDJOBS_MAX_MODEL_CACHE_MB.",
    "hub-sent-too-much": "{hub} sent more of {file} of {model} than the {bytes} bytes that it had stated. Nothing of this file was kept. Check HF_ENDPOINT, or choose another model.",
    "model-download-incomplete": "{model} was downloaded, but parts of its weights are missing at its source. Report this to its authors.",
    "model-not-musicgen": "{model} has no {file}. Choose a MusicGen model in the Hugging Face layout.",
    "download-process-failed": "The download of {model} ended with status {status}. The worker's log has the reason.",
    "download-disk-full": "The disk was full before {model} was complete. Free some space on the disk of {cache}, or set HF_HOME for the workers to a folder on a larger disk.",
    "download-too-large": "{model} needs {missing_gb:.1f} GB more, but the disk has {free_gb:.1f} GB left. Free some space on the disk of {cache}, or set HF_HOME for the workers to a folder on a larger disk.",
    "hub-offline": "{model} is not on this machine, and HF_HUB_OFFLINE is set. Unset it for the workers, put the files of the model into the folder {model} of MINDJOBS_MODELS_DIR, set HF_ENDPOINT to a mirror for the workers, or use {tiny}.",
    "hub-name-invalid": "{model} is not a valid name on a hub. Check the name.",
    "hub-not-a-hub": "{hub} does not respond as a hub does. Check HF_ENDPOINT, put the files of {model} into the folder {model} of MINDJOBS_MODELS_DIR, or use {tiny}.",
    "hub-unreachable": "{model} is not on this machine, and {hub} cannot be reached or stopped responding ({error}). Try again later, put the files of the model into the folder {model} of MINDJOBS_MODELS_DIR, set HF_ENDPOINT to a mirror for the workers, or use {tiny}.",
    "hub-cache-not-writable": "{model} cannot be stored in {cache} ({error}). Set HF_HOME for the workers to a folder that they may write.",
    "hub-gated": "{model} is available only to users who accepted its conditions. Accept them at {hub}/{model}, and set HF_TOKEN for the workers.",
    "hub-forbidden": "{hub} does not allow this service to read {model} ({status}): the model is private, or does not exist. Check the name, and set HF_TOKEN for the workers if it is private.",
    "hub-model-not-found": "There is no model {model} at {hub}. Check the name, put the files of the model into the folder {model} of MINDJOBS_MODELS_DIR, set HF_ENDPOINT to a mirror for the workers, or use {tiny}.",
    "hub-error": "{hub} responded with {status} to the request for {model}. Try again later, put the files of the model into the folder {model} of MINDJOBS_MODELS_DIR, set HF_ENDPOINT to a mirror for the workers, or use {tiny}.",
    # Pages.
    "sample-not-found": "The job {job} has no sample {sample}.",
    # The backend MindNLP.
    "mindnlp-mixed-samples": "With the backend MindNLP, either all samples of a job have a prompt or none has, and "
    "either all continue an audio prompt or none does. Submit such samples as separate jobs.",
    "mindnlp-model-unreadable": "MindNLP cannot load {folder} ({error}). Download the model again.",
    "mindnlp-tensor-missing": "MindNLP does not find the tensor {tensor!r} in {folder}. Select the backend mindspore or "
    "openvino (MINDJOBS_MUSICGEN_BACKEND), which read more layouts of weights.",
}
"""The sentences, keyed by code."""

TITLES: Final[Mapping[str, str]] = {
    "clip-unreadable": "The audio clip cannot be read",
    "clip-empty": "The audio clip is empty",
    "clip-range": "The audio clip does not have this part",
    "clip-too-long": "The part of the audio clip is too long",
    "format-unfit": "The format does not support the audio",
    "model-invalid": "The model's files cannot be used",
    "model-cache-full": "There is no room for another downloaded model",
    "model-not-allowed": "The model is not allowed",
    "model-too-large": "The model is too large",
    "model-unavailable": "The model cannot be downloaded",
    "not-finite": "The model produced NaN or infinite values",
    "precision-unavailable": "This precision is not available here",
    "too-long": "The music is longer than the model can generate",
    "too-short": "No new audio would be generated",
    "unsupported": "The backend does not support this",
}
"""The titles of errors, keyed by the type of error."""
