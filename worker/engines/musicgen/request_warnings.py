"""What a user should know about a request before hearing its music: what of a prompt is not understood, and its length.

Nothing here changes the music: prompts are used whole, as they are.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from shared.kinds.musicgen.lengths import count_clip_frames, get_delays
from shared.kinds.musicgen.model_figures import ModelFigures
from shared.texts import Text, text
from worker.engines.musicgen.model.tokenizer import PromptTokenizer
from worker.engines.musicgen.request import GenerationRequest, MusicGenerator, SampleRequest

TRAINED_MUSIC_S: Final = 30.0
"""The length of the pieces that MusicGen was trained on."""
TRAINED_TOKENS: Final = 512
"""The length of the texts that T5 was trained on. It reads longer ones too, and nothing is cut."""
MAX_SHOWN_CHARACTERS: Final = 10


def add_warnings(request: GenerationRequest, generator: MusicGenerator) -> GenerationRequest:
    """Return the request with the warnings about the prompt and the length of each sample."""
    figures = generator.config.figures
    prompts = {sample.prompt for sample in request.samples}
    about = {prompt: [*find_prompt_warnings(prompt, generator.tokenizer)] for prompt in prompts}
    samples = [
        replace(
            sample,
            warnings=[
                *sample.warnings,
                *about[sample.prompt],
                *find_length_warnings(sample, request.new_tokens, figures),
            ],
        )
        for sample in request.samples
    ]
    return replace(request, samples=samples)


def find_prompt_warnings(prompt: str | None, tokenizer: PromptTokenizer) -> Iterator[Text]:
    """Find what the text encoder does not understand of a prompt."""
    if prompt is None:
        return
    reading = tokenizer.read(prompt)
    if reading.unknown:
        unknown = "".join(dict.fromkeys(reading.unknown))
        more = "…" if len(unknown) > MAX_SHOWN_CHARACTERS else ""
        share = len(reading.unknown) / reading.characters
        code = "prompt-unknown" if share == 1 else "prompt-partly-unknown"
        yield text(code, share=share, unknown=f"{unknown[:MAX_SHOWN_CHARACTERS]}{more}")
    if reading.tokens > TRAINED_TOKENS:
        yield text("prompt-long", tokens=reading.tokens, trained=TRAINED_TOKENS)


def find_length_warnings(sample: SampleRequest, new_tokens: int, figures: ModelFigures) -> Iterator[Text]:
    """Find out whether the music, its clip included, is longer than the pieces that the model was trained on."""
    clip_frames = 0 if sample.clip is None else count_clip_frames(sample.clip.shape[1], figures)
    length = clip_frames + new_tokens
    length_s = (length - max(get_delays(1 + length, figures))) / figures.frame_rate
    if length_s > TRAINED_MUSIC_S:
        yield text("music-beyond-training", length_s=length_s, trained_s=TRAINED_MUSIC_S)
