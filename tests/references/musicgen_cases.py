"""The cases in which the backends are compared with transformers: models, prompts, clips, and sampling.

The tests and ``make_musicgen`` write the same random models and the same clips from
the definitions in this module. ``tests/references/musicgen`` contains the results of
transformers, and ``make_musicgen`` describes these files.

The prompts and seeds were found by trying: in none of the cases can a rounding error
change a token. ``make_musicgen`` refuses cases in which a rounding error could do this.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from worker.engines.musicgen.model.random_model import Size, Spelling, write_random_model
from worker.engines.musicgen.request import Audio, GenerationRequest, SampleRequest, Sampling

FOLDER: Final = Path(__file__).parent / "musicgen"
PEAK: Final = 0.9
LEVELS: Final = 2**14
"""How many different values an audio sample can have between 0 and 1."""

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Model:
    """A random model; equal ``Model`` objects write the same files."""

    size: Size
    seed: int
    spelling: Spelling = Spelling.PARAMETRISED
    shard_bytes: int | None = None

    def write(self, folder: Path) -> None:
        """Write the model's files in the layout of the Hugging Face hub."""
        write_random_model(folder, self.size, self.seed, self.spelling, self.shard_bytes)


@dataclass(frozen=True)
class Clip:
    """A synthetic audio clip: a few tones with noise."""

    samples: int
    seed: int

    def make(self, size: Size, channels: int) -> Audio:
        """Compute the clip: shape (channels, samples), at the model's sampling rate.

        The samples are rounded to multiples of a power of two, so that they are the same on every machine, although
        the sines that machines compute can differ in the last bits.
        """
        random = np.random.default_rng([self.seed, self.samples])
        times_s = np.arange(self.samples) / size.sample_rate_hz
        tones_hz = random.uniform(0.01, 0.3, (channels, 4, 1)) * size.sample_rate_hz
        phases = random.uniform(0, 2 * np.pi, (channels, 4, 1))
        tones = np.sin(2 * np.pi * tones_hz * times_s + phases).sum(axis=1) / 4
        noise = random.uniform(-1, 1, (channels, self.samples))
        rounded: NDArray[np.float64] = np.round(PEAK * LEVELS * (0.75 * tones + 0.25 * noise))
        return (rounded / LEVELS).astype(np.float32)


@dataclass(frozen=True)
class Case:
    """A batch of samples to generate.

    Parameters
    ----------
    prompts
        One prompt per sample; ``None`` for unconditional generation, for which transformers
        uses no guidance, even if ``guidance_scale`` is larger than 1.
    clips
        Empty, or one clip per sample, with the sampling rate and the number of channels of the
        model.
    seeds
        One seed per sample. If empty, every seed is 0.
    """

    name: str
    model: Model
    prompts: tuple[str | None, ...]
    new_tokens: int
    clips: tuple[Clip, ...] = ()
    seeds: tuple[int, ...] = ()
    do_sample: bool = False
    guidance_scale: float = 3.0
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0

    @property
    def guided(self) -> bool:
        """Whether each conditional row of the batch has an unconditional row."""
        return self.guidance_scale > 1 and self.prompts[0] is not None

    def make_clips(self) -> list[Audio]:
        """Compute the clips: shape (channels, samples) each."""
        return [clip.make(self.model.size, self.model.size.channels) for clip in self.clips]

    def make_request(self) -> GenerationRequest:
        """Make the request that a backend gets for this case.

        transformers pads the clips of a batch with silence on the left to the length of the longest clip. The service
        pads no clip, so the request of a case has padded clips, and its results include the padding.
        """
        clips: Sequence[Audio | None] = pad_clips(self.make_clips()) or [None] * len(self.prompts)
        seeds = self.seeds or (0,) * len(self.prompts)
        return GenerationRequest(
            samples=[SampleRequest(*sample) for sample in zip(self.prompts, clips, seeds, strict=True)],
            new_tokens=self.new_tokens,
            sampling=Sampling(self.do_sample, self.guidance_scale, self.temperature, self.top_k, self.top_p),
        )

    def read(self) -> Arrays:
        """Read the results of transformers."""
        return read(self.name)


def pad_clips(clips: Sequence[Audio]) -> list[Audio]:
    """Pad clips with silence on the left to the length of the longest clip."""
    longest = max((clip.shape[1] for clip in clips), default=0)
    return [np.pad(clip, ((0, 0), (longest - clip.shape[1], 0))) for clip in clips]


@dataclass(frozen=True)
class CodecCase:
    """Clips for EnCodec to encode one by one, and codes for it to decode; all are mono, because EnCodec itself is mono.

    Parameters
    ----------
    frames
        The number of frames of each array of codes.
    """

    name: str
    model: Model
    clips: tuple[Clip, ...]
    frames: tuple[int, ...]

    def make_clips(self) -> list[Audio]:
        """Compute the clips: shape (1, samples) each."""
        return [clip.make(self.model.size, 1) for clip in self.clips]

    def make_codes(self) -> list[NDArray[np.int16]]:
        """Draw the codes to decode: shape (codebooks, frames) each."""
        size = self.model.size
        return [
            np.random.default_rng(frames).integers(size.codebook_size, size=(size.codebooks, frames), dtype=np.int16)
            for frames in self.frames
        ]

    def read(self) -> Arrays:
        """Read the results of transformers."""
        return read(self.name)


def read(name: str) -> Arrays:
    """Read the file of a case."""
    with np.load(FOLDER / f"{name}.npz") as arrays:
        return dict(arrays)


def hash_weights(folder: Path) -> str:
    """Hash the names and the values of a model's weights; how the weights are divided among files has no effect.

    If the hash differs from ``weights_sha256`` of a reference, the reference was made
    with another random model, and a comparison has no meaning.
    """
    tensors = {name: array for path in folder.glob("*.safetensors") for name, array in load_file(path).items()}
    digest = hashlib.sha256()
    for name, array in sorted(tensors.items()):
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


TINY: Final = Size(
    hidden=32,
    layers=2,
    heads=4,
    feed_forward=64,
    text_hidden=24,
    text_layers=2,
    text_heads=3,
    text_feed_forward=48,
    text_vocabulary=160,
    filters=4,
    codec_hidden=16,
    codebook_size=64,
    ratios=(4, 2),
    sample_rate_hz=3_200,
    positions=512,
)
MONO: Final = Model(TINY, 1)
STEREO: Final = Model(replace(TINY, channels=2), 2)
CLASSIC: Final = Model(TINY, 3, Spelling.CLASSIC, shard_bytes=100_000)
SHORTCUT: Final = Model(replace(TINY, shortcut=True), 4)
UNPROJECTED: Final = Model(replace(TINY, text_hidden=32, text_heads=4), 6)
# EnCodec with the strides of the published models, but few filters; the other parts are as small as possible.
STRIDES: Final = Model(replace(TINY, codebook_size=2_048, ratios=(8, 5, 4, 4), sample_rate_hz=32_000, layers=1), 6)

POP: Final = "80s pop track with bassy drums and synth"
ROCK: Final = "rock"
PIANO: Final = "calm piano piece of a solo violin"
GUITARS: Final = "80s piano piece of loud guitars"
STORY: Final = (
    "A slow waltz in three movements for a small string orchestra and a harp: first the violas alone, very soft; "
    "then everyone, louder and louder; at last one violin over a long held chord of the basses, fading."
)

CASES: Final = (
    Case("text_guided", MONO, (GUITARS,), 24),
    Case("text_unguided", MONO, (PIANO,), 24, guidance_scale=1.0),
    Case("text_two", MONO, (PIANO, "a waltz"), 20),
    Case("text_two_unguided", MONO, ("jazz", PIANO), 20, guidance_scale=1.0),
    Case("text_long", MONO, (STORY,), 16),
    Case("text_four", MONO, (POP,) * 4, 20, seeds=(201, 202, 203, 204), do_sample=True),
    Case("unconditional", MONO, (None,), 24),
    Case("unconditional_two", MONO, (None, None), 20, seeds=(5, 6), do_sample=True),
    Case("clip", MONO, (None,), 20, (Clip(100, 1),)),
    Case("clip_text", MONO, (POP,), 20, (Clip(101, 1),)),
    Case("clip_text_unguided", MONO, (POP,), 20, (Clip(96, 1),), guidance_scale=1.0),
    Case("clips_two", MONO, (POP, ROCK), 20, (Clip(75, 1), Clip(133, 2))),
    Case("clips_two_alone", MONO, (None, None), 20, (Clip(120, 1), Clip(51, 2))),
    Case("clip_sampled", MONO, (ROCK,), 20, (Clip(99, 103),), (107,), do_sample=True, top_k=20),
    Case("clip_long", MONO, ("techno",), 40, (Clip(1_201, 404),)),
    Case("clip_shortest", MONO, (ROCK,), 3, (Clip(100, 1),)),
    Case("clip_and_frame", MONO, (ROCK,), 4, (Clip(100, 1),)),
    Case("stereo_text", STEREO, (POP,), 24),
    Case("stereo_sampled", STEREO, (POP, ROCK), 16, seeds=(201, 202), do_sample=True, guidance_scale=1.0),
    Case("stereo_clip", STEREO, (PIANO,), 20, (Clip(101, 101),)),
    Case(
        "stereo_clips_two",
        STEREO,
        ("calm rock song of bassy drums and synth", "techno"),
        16,
        (Clip(90, 301), Clip(59, 302)),
    ),
    Case("stereo_undelayed", STEREO, (POP,), 5),
    Case("classic", CLASSIC, (POP,), 16, (Clip(77, 1),)),
    Case("shortcut", SHORTCUT, (PIANO,), 16, (Clip(78, 101),)),
    Case("unprojected", UNPROJECTED, ("jazz", PIANO), 16),
    Case("undelayed", MONO, (POP, ROCK), 5),
    Case("undelayed_clip", MONO, (POP,), 3, (Clip(13, 1),)),
    Case("delayed_shortest", MONO, (POP,), 6),
    Case("sampled", MONO, (POP,), 24, seeds=(11,), do_sample=True),
    Case("sampled_unguided", MONO, (POP,), 24, seeds=(12,), do_sample=True, guidance_scale=1.0),
    Case("sampled_hot", MONO, (POP,), 20, seeds=(13,), do_sample=True, temperature=1.7, top_k=250),
    Case("sampled_top_k", MONO, (POP,), 20, seeds=(2**63 - 1,), do_sample=True, temperature=1.3, top_k=5),
    Case("sampled_top_p", MONO, (POP,), 20, seeds=(15,), do_sample=True, temperature=2.5, top_p=0.8),
    Case(
        "sampled_all",
        MONO,
        (POP, ROCK),
        20,
        seeds=(16, 17),
        do_sample=True,
        guidance_scale=2.5,
        temperature=3.0,
        top_k=12,
        top_p=0.7,
    ),
    Case("long", MONO, (POP,), 300, seeds=(818,), do_sample=True, temperature=1.5),
)

CODEC_CASES: Final = (
    CodecCase(
        "codec_short",
        MONO,
        tuple(Clip(samples, 1) for samples in (1, 2, 3, 5, 7, 8, 9, 13, 16, 17, 100)),
        (1, 2, 3, 30),
    ),
    CodecCase("codec_shortcut", SHORTCUT, (Clip(203, 102),), (25,)),
    CodecCase("codec_strides", STRIDES, (Clip(31_991, 1), Clip(6_400, 2), Clip(641, 3), Clip(37, 4)), (1, 16)),
)
