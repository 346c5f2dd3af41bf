"""Warnings about prompts that the tokenizer does not know, and about music longer than the model was trained on."""

import string
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from tokenizers import Tokenizer, normalizers
from tokenizers.models import BPE, Unigram, WordLevel
from tokenizers.pre_tokenizers import Metaspace, Whitespace
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import UnigramTrainer

from shared.kinds.musicgen.catalogue import TOKENIZER
from shared.kinds.musicgen.model_figures import PUBLISHED
from shared.texts import Text, render
from tests.references.musicgen_cases import MONO
from tests.unit.worker.engines.musicgen.conftest import Write
from tests.unit.worker.engines.musicgen.engine_harness import EngineHarness
from worker.engines.musicgen.model.tokenizer import PromptTokenizer
from worker.engines.musicgen.request import SampleRequest
from worker.engines.musicgen.request_warnings import find_length_warnings, find_prompt_warnings

ORDINARY: Final = (
    "80s pop track with bassy drums and synth",
    "Lo-fi hip-hop, 90 BPM: warm piano; rain & vinyl crackle!",
    "Une valse légère à l'accordéon, très gaie, où le cœur chante",
    "Fröhliche Blasmusik mit großen Trommeln, überschwänglich",
    "O doină tristă cântată la vioară, în ritm așezat și liniștit, țărănească",
)
FOREIGN: Final = ("一首悲伤的钢琴曲", "愤怒的金属摇滚", "悲しいピアノの曲。", "🎵", "🎵🎶 🎸", "슬픈 피아노 곡")


def train_unigram() -> Tokenizer:
    """Train a tokenizer of the kind that T5 has, on the languages that T5 knows."""
    tokenizer = Tokenizer(Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace("  ", " ")])
    tokenizer.pre_tokenizer = Metaspace()
    trainer = UnigramTrainer(
        vocab_size=400,
        special_tokens=["<pad>", "</s>", "<unk>"],
        unk_token="<unk>",  # noqa: S106 - no secret
        initial_alphabet=[*string.printable.strip()],
        show_progress=False,
    )
    tokenizer.train_from_iterator(ORDINARY * 20, trainer)
    tokenizer.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return tokenizer


def make_byte_fallback() -> Tokenizer:
    pieces = [("<unk>", 0.0), ("▁", -1.0), *((f"<0x{byte:02X}>", -2.0) for byte in range(256))]
    tokenizer = Tokenizer(Unigram(pieces, unk_id=0, byte_fallback=True))
    tokenizer.pre_tokenizer = Metaspace()
    return tokenizer


def make_words() -> Tokenizer:
    words = {"[UNK]": 0, "calm": 1, "rock": 2}
    tokenizer = Tokenizer(WordLevel(words, unk_token="[UNK]"))  # noqa: S106 - no secret
    tokenizer.pre_tokenizer = Whitespace()
    return tokenizer


@pytest.fixture
def read(tmp_path: Path) -> Callable[[Tokenizer], PromptTokenizer]:
    def save_and_read(tokenizer: Tokenizer) -> PromptTokenizer:
        tokenizer.save(str(tmp_path / TOKENIZER))
        return PromptTokenizer(tmp_path)

    return save_and_read


def describe(warnings: list[Text]) -> dict[str, dict[str, Any]]:
    for warning in warnings:
        assert "{" not in render(warning)
    return {warning.code: dict(warning.values) for warning in warnings}


def find(prompt: str, tokenizer: PromptTokenizer) -> dict[str, dict[str, Any]]:
    return describe([*find_prompt_warnings(prompt, tokenizer)])


@pytest.mark.parametrize("prompt", ORDINARY)
def test_an_ordinary_prompt_has_no_warning(read: Callable[[Tokenizer], PromptTokenizer], prompt: str) -> None:
    assert find(prompt, read(train_unigram())) == {}


def test_english_french_and_german_have_no_warning_with_the_tokenizer_of_the_references(write_model: Write) -> None:
    tokenizer = PromptTokenizer(write_model(MONO))
    for prompt in (ORDINARY[0], "très fort", "größer"):
        assert find(prompt, tokenizer) == {}


@pytest.mark.parametrize("prompt", FOREIGN)
@pytest.mark.parametrize("trained", [True, False], ids=["trained", "of the references"])
def test_a_prompt_of_which_nothing_is_known_is_said_to_be_so(
    read: Callable[[Tokenizer], PromptTokenizer], write_model: Write, prompt: str, trained: bool
) -> None:
    tokenizer = read(train_unigram()) if trained else PromptTokenizer(write_model(MONO))
    (code,) = found = find(prompt, tokenizer)
    assert code == "prompt-unknown"
    assert found[code]["share"] == 1
    assert prompt[0] in found[code]["unknown"]


def test_punctuation_that_is_known_does_not_make_a_foreign_prompt_known(write_model: Write) -> None:
    assert [*find("钢琴, 吉他!", PromptTokenizer(write_model(MONO)))] == ["prompt-unknown"]


def test_the_share_of_a_prompt_that_is_not_known_is_said(read: Callable[[Tokenizer], PromptTokenizer]) -> None:
    found = find("rock 音乐", read(train_unigram()))
    assert found == {"prompt-partly-unknown": {"share": pytest.approx(2 / 6), "unknown": "音乐"}}
    many = "".join(map(chr, range(0x4E00, 0x4E40)))
    unknown = find(f"calm {many}", read(train_unigram()))["prompt-partly-unknown"]["unknown"]
    assert unknown == f"{many[:10]}…"


def test_a_tokenizer_that_falls_back_to_bytes_knows_everything(read: Callable[[Tokenizer], PromptTokenizer]) -> None:
    tokenizer = read(make_byte_fallback())
    assert tokenizer.read("悲").tokens > 3
    for prompt in FOREIGN:
        assert find(prompt, tokenizer) == {}


def test_the_token_for_unknown_words_is_found_by_its_name(read: Callable[[Tokenizer], PromptTokenizer]) -> None:
    tokenizer = read(make_words())
    assert find("calm rock", tokenizer) == {}
    assert find("calm jazz", tokenizer) == {"prompt-partly-unknown": {"share": 0.5, "unknown": "jaz"}}
    assert find("jazz", read(Tokenizer(BPE({"j": 0}, [])))) == {}  # without a token for unknown text


def test_a_long_prompt_is_used_whole_and_its_length_is_said(write_model: Write) -> None:
    tokenizer = PromptTokenizer(write_model(MONO))
    prompt = "calm " * 200
    tokens = len(tokenizer.encode(prompt))
    assert tokens > 1_000
    assert find(prompt, tokenizer) == {"prompt-long": {"tokens": tokens, "trained": 512}}
    assert find("calm " * 20, tokenizer) == {}


@pytest.mark.parametrize(
    ("clip_s", "new_s", "expected"), [(0, 30, None), (0, 30.02, 30.02), (20, 10, None), (20, 11, 31.0), (38, 2, 40.0)]
)
def test_music_beyond_the_trained_length_is_said(clip_s: float, new_s: float, expected: float | None) -> None:
    clip = np.zeros((1, round(clip_s * 32_000)), np.float32) if clip_s else None
    sample = SampleRequest(None, clip, 1)
    found = describe([*find_length_warnings(sample, round(new_s * 50) + 3, PUBLISHED[1])])
    wanted = {"length_s": pytest.approx(expected), "trained_s": 30.0}
    assert found == ({} if expected is None else {"music-beyond-training": wanted})


def test_each_sample_of_a_job_has_the_warnings_of_its_prompt(harness: EngineHarness) -> None:
    run = harness.run(prompts=["rock", "🎵"], num_samples=2, duration_s=0.2, max_new_tokens=None)
    codes = [[warning["code"] for warning in sample["warnings"]] for sample in run.samples]
    assert codes == [[], [], ["prompt-unknown"], ["prompt-unknown"]]
