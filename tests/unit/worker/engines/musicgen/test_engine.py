"""What a job of music makes: each parameter has its effect, and the result is as the API says."""

import io
import json
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from huggingface_hub import constants
from numpy.typing import NDArray

from shared.errors import JobStoppedError
from shared.jobs import DeviceClass, Kind, Progress
from shared.kinds.musicgen.catalogue import TINY
from shared.kinds.musicgen.parameters import MAX_SEED, MusicgenParams
from tests.support.fake_hub import FakeHub
from tests.support.waiting import wait_until
from tests.unit.worker.engines.musicgen.engine_harness import (
    NEW_FRAMES,
    NEW_TOKENS,
    STEREO,
    EngineHarness,
    JobRun,
    KeptCheckpoint,
    skip_without,
)
from worker import registry
from worker.devices import Device
from worker.engines.interface import JobContext
from worker.engines.knn.cells import Cells
from worker.engines.musicgen import engine as engine_module
from worker.engines.musicgen import resume_state
from worker.engines.musicgen.model_cache import ModelKey
from worker.engines.musicgen.pipeline import MusicgenPipeline
from worker.engines.musicgen.resume_state import ResumeState

RATE_HZ = 32_000
HOP = 640
CLIP_FRAMES = 10
# The frames of the second clip begin in the middle of one, counted from its end.
SHORT_CLIP_SAMPLES = 3_520

VARIATIONS: dict[str, dict[str, Any]] = {
    "model": {"model": STEREO},
    "prompts": {"prompts": ["jazz"]},
    "num_samples": {"num_samples": 2},
    "audio_prompts": {"audio_prompts": [{"upload": "clip"}]},
    "duration_s": {"duration_s": 0.06, "max_new_tokens": None},
    "max_new_tokens": {"max_new_tokens": NEW_TOKENS + 1},
    "do_sample": {"do_sample": False},
    "guidance_scale": {"guidance_scale": 1.0},
    "temperature": {"temperature": 3.0},
    "top_k": {"top_k": 2},
    "top_p": {"top_p": 0.1},
    "seed": {"seed": 6},
    "format": {"format": "flac"},
    "loudness": {"loudness": "peak"},
}


def make_clip(samples: int, rate_hz: int, channels: int = 1) -> NDArray[np.float32]:
    """Make tones, others in each channel: shape (samples, channels)."""
    times_s = np.arange(samples) / rate_hz
    tones = [np.sin(2 * np.pi * 440 * (1 + channel) * times_s) for channel in range(channels)]
    clip: NDArray[np.float32] = (0.5 * np.stack(tones, axis=1)).astype(np.float32)
    return clip


@pytest.fixture(scope="module", autouse=True)
def clips(studio: EngineHarness, tmp_path_factory: pytest.TempPathFactory) -> dict[str, NDArray[np.float32]]:
    """The clips that the jobs may use, as they are stored: shape (samples, channels) each."""
    folder = tmp_path_factory.mktemp("clips")
    stereo = make_clip(CLIP_FRAMES * HOP, RATE_HZ, channels=2)
    content = {
        "clip": (make_clip(CLIP_FRAMES * HOP, RATE_HZ), RATE_HZ),
        "short": (make_clip(SHORT_CLIP_SAMPLES, RATE_HZ), RATE_HZ),
        "stereo": (stereo, RATE_HZ),
        "mean": (stereo.mean(axis=1, keepdims=True), RATE_HZ),
        "cd": (make_clip(8_820, 44_100), 44_100),
    }
    for name, (samples, rate_hz) in content.items():
        soundfile.write(folder / f"{name}.wav", samples, rate_hz, subtype="FLOAT")
        studio.clips[name] = folder / f"{name}.wav"
    return {name: samples for name, (samples, _) in content.items()}


def continue_clips(*names: str, **part: float) -> list[dict[str, Any]]:
    return [{"upload": name} | part for name in names]


def get_composer(studio: EngineHarness, model: str) -> MusicgenPipeline:
    composer = studio.engine._shelf.find(model, "int8")
    assert isinstance(composer, MusicgenPipeline)
    return composer


def ignore() -> None:
    """For work that nobody follows."""


def check_progress(take: JobRun) -> None:
    """Each stage goes on and never back, and never beyond its end."""
    for stage in take.stages:
        reports = [report for report in take.reports if report.stage == stage]
        assert len({(report.total, report.unit) for report in reports if report.total}) <= 1, stage
        assert all(before.done <= after.done for before, after in pairwise(reports)), stage
        assert all(0 <= report.done <= report.total for report in reports if stage != "downloading"), stage


@pytest.mark.parametrize("name", VARIATIONS)
def test_each_parameter_changes_what_is_made(studio: EngineHarness, name: str) -> None:
    base, varied = studio.run(), studio.run(**VARIATIONS[name])
    assert studio.run().files == base.files
    audio = {file: content for file, content in base.files.items() if file.startswith("audio")}
    assert not audio.items() <= varied.files.items() or len(varied.files) > len(base.files)


def test_no_parameter_was_forgotten() -> None:
    # That of the precision has tests of its own.
    assert VARIATIONS.keys() | {"precision"} == MusicgenParams.model_fields.keys()


@pytest.mark.parametrize("narrow", [{"top_k": 1}, {"top_p": 1e-9}, {"temperature": 1e-6}], ids=str)
def test_the_narrowest_sampling_takes_the_likeliest_token(studio: EngineHarness, narrow: dict[str, Any]) -> None:
    likeliest = studio.run(do_sample=False)
    assert studio.run(**narrow).files == likeliest.files


def test_result_and_files_are_as_the_contract_says(studio: EngineHarness) -> None:
    take = studio.run(prompts=["rock", "jazz"], num_samples=2, duration_s=0.2, max_new_tokens=None)
    check_progress(take)
    result = take.result
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert [result[name] for name in ("sampling_rate", "frame_rate", "engine", "precision")] == [
        RATE_HZ,
        50,
        "openvino",
        "int8",
    ]
    assert result["tokens_per_s"] > 0
    assert result["realtime_factor"] > 0
    assert result.keys() == {
        *("sampling_rate", "frame_rate", "samples", "tokens_per_s", "realtime_factor", "engine", "precision")
    }
    assert [(sample["prompt"], sample["seed"]) for sample in take.samples] == [
        ("rock", 5),
        ("rock", 6),
        ("jazz", 7),
        ("jazz", 8),
    ]
    expected: dict[str, str] = {}
    for index, sample in enumerate(take.samples):
        assert (sample["audio"], sample["codes"]) == (f"audio-{index}.wav", f"codes-{index}.npy")
        assert (sample["duration_s"], sample["warnings"]) == (0.2, [])
        assert sample["peak_dbfs"] == pytest.approx(20 * np.log10(np.abs(take.read_audio(index)).max()), abs=1e-4)
        assert -40 < sample["lufs"] < 0
        expected |= {
            f"audio-{index}.wav": "audio/wav",
            f"codes-{index}.npy": "application/octet-stream",
            f"waveform-{index}.svg": "image/svg+xml",
            f"spectrogram-{index}.png": "image/png",
        }
        codes = take.read_codes(index)
        assert (str(codes.dtype), codes.shape) == ("int16", (4, 10))
        assert take.read_audio(index).dtype == np.float32
        audio = get_composer(studio, TINY)._parts.codec.decode(codes, ignore)
        np.testing.assert_array_equal(take.read_audio(index), audio[None])
    assert {name: media_type for name, (media_type, _) in take.files.items()} == expected
    assert len({take.read_codes(index).tobytes() for index in range(4)}) == 4


def test_a_stereo_models_left_codebooks_come_first_and_loud_audio_is_not_clipped(studio: EngineHarness) -> None:
    take = studio.run(model=STEREO)
    codes, audio = take.read_codes(), take.read_audio()
    assert codes.shape == (8, NEW_FRAMES)
    codec = get_composer(studio, STEREO)._parts.codec
    np.testing.assert_array_equal(audio, [codec.decode(codes[:4], ignore), codec.decode(codes[4:], ignore)])
    assert np.abs(audio).max() > 1
    assert take.samples[0]["peak_dbfs"] > 0
    assert "Clipping" in take.samples[0]["warnings"][0]


@pytest.mark.parametrize(("name", "media_type"), [("flac", "audio/flac"), ("mp3", "audio/mpeg"), ("ogg", "audio/ogg")])
def test_other_formats(studio: EngineHarness, name: str, media_type: str) -> None:
    take = studio.run(format=name)
    assert take.samples[0]["audio"] == f"audio-0.{name}"
    stored, content = take.files[f"audio-0.{name}"]
    assert stored == media_type
    assert soundfile.info(io.BytesIO(content)).format == name.upper()


@pytest.mark.parametrize("loudness", ["peak", "rms", "lufs"])
def test_levelled_audio_is_measured_as_it_is_stored_and_judged_as_it_was(studio: EngineHarness, loudness: str) -> None:
    raw, take = studio.run(model=STEREO), studio.run(model=STEREO, loudness=loudness)
    np.testing.assert_array_equal(take.read_codes(), raw.read_codes())
    peak = np.abs(take.read_audio()).max()
    assert peak < 10 ** (-0.95 / 20)
    assert take.samples[0]["peak_dbfs"] == pytest.approx(20 * np.log10(peak), abs=1e-4)
    assert take.samples[0]["warnings"] == raw.samples[0]["warnings"] != []


def test_without_prompts_and_clips_music_is_unconditional(studio: EngineHarness) -> None:
    take = studio.run(prompts=[], num_samples=2)
    assert [(sample["prompt"], sample["seed"]) for sample in take.samples] == [(None, 5), (None, 6)]
    assert not np.array_equal(take.read_codes(0), take.read_codes(1))
    # There is nothing that guidance could guide to.
    assert studio.run(prompts=[], num_samples=2, guidance_scale=9.0).files == take.files


def test_a_sample_can_be_asked_for_again_alone(studio: EngineHarness) -> None:
    together = studio.run(prompts=["rock", "jazz"], num_samples=2)
    alone = studio.run(prompts=["jazz"], seed=together.samples[3]["seed"])
    np.testing.assert_array_equal(alone.read_codes(), together.read_codes(3))


def test_the_last_seed_is_followed_by_the_first(studio: EngineHarness) -> None:
    take = studio.run(num_samples=2, seed=MAX_SEED)
    assert [sample["seed"] for sample in take.samples] == [MAX_SEED, 0]


def test_a_drawn_seed_is_reported_and_makes_the_same_again(studio: EngineHarness) -> None:
    drawn, other = studio.run(seed=None), studio.run(seed=None)
    assert drawn.samples[0]["seed"] != other.samples[0]["seed"]
    assert studio.run(seed=drawn.samples[0]["seed"]).files == drawn.files


@pytest.mark.parametrize("prompts", [["rock"], []], ids=["text", "clip alone"])
@pytest.mark.parametrize("upload", ["clip", "cd"])
def test_a_clip_is_continued_and_its_codes_are_included(studio: EngineHarness, prompts: list[str], upload: str) -> None:
    take = studio.run(prompts=prompts, audio_prompts=continue_clips(upload), duration_s=0.2, max_new_tokens=None)
    codes = take.read_codes()
    assert codes.shape == (4, 2 * CLIP_FRAMES)
    given = soundfile.read(studio.clips["clip"], dtype="float32", always_2d=True)[0].T
    if upload == "clip":
        expected = get_composer(studio, TINY)._encode_clip(given, ignore)
        np.testing.assert_array_equal(codes[:, :CLIP_FRAMES], expected)
    assert take.samples[0]["duration_s"] == 0.4
    assert take.samples[0]["prompt"] == (prompts[0] if prompts else None)


def test_a_prompt_counts_beside_a_clip(studio: EngineHarness) -> None:
    takes = [studio.run(prompts=each, audio_prompts=continue_clips("clip")) for each in (["rock"], ["jazz"], [])]
    assert len({take.read_codes().tobytes() for take in takes}) == 3


def test_clips_of_other_lengths_keep_theirs(studio: EngineHarness) -> None:
    take = studio.run(prompts=[], audio_prompts=continue_clips("clip", "short"), duration_s=0.2, max_new_tokens=None)
    assert [sample["duration_s"] for sample in take.samples] == [0.4, 0.31]
    assert [take.read_codes(index).shape[1] for index in range(2)] == [20, 16]
    assert [take.read_audio(index).shape for index in range(2)] == [(1, 12_800), (1, SHORT_CLIP_SAMPLES + 6_400)]


def test_a_part_of_a_clip_is_that_part(studio: EngineHarness, clips: Mapping[str, NDArray[np.float32]]) -> None:
    part = continue_clips("clip", start_s=0.04, end_s=0.16)
    codes = studio.run(audio_prompts=part).read_codes()
    expected = get_composer(studio, TINY)._encode_clip(clips["clip"].T[:, 2 * HOP : 8 * HOP], ignore)
    assert codes.shape[1] == 6 + NEW_FRAMES
    np.testing.assert_array_equal(codes[:, :6], expected)


def test_a_mono_model_hears_the_mean_and_a_stereo_model_both_sides(
    studio: EngineHarness, clips: Mapping[str, NDArray[np.float32]]
) -> None:
    stereo = studio.run(audio_prompts=continue_clips("stereo"))
    assert stereo.files == studio.run(audio_prompts=continue_clips("mean")).files
    codes = studio.run(model=STEREO, audio_prompts=continue_clips("stereo")).read_codes()
    codec = get_composer(studio, STEREO)._parts.codec
    for side in range(2):
        given = codec.encode(np.ascontiguousarray(clips["stereo"][:, side]), ignore)
        np.testing.assert_array_equal(codes[4 * side : 4 * side + 4, :CLIP_FRAMES], given)


@pytest.mark.parametrize(("name", "compiling"), [("openvino", []), ("mindspore", ["compiling"])])
def test_the_stages_come_in_order_and_the_second_job_loads_nothing(
    studio: EngineHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, compiling: list[str]
) -> None:
    studio.run()
    built = studio.settings.home / "models" / TINY
    model = f"someone/{name}"
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf" / "hub"))
    engine = studio.make_engine(name)
    with FakeHub() as hub:
        hub.models[model] = {path.name: path.read_bytes() for path in built.iterdir()}
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        first = studio.run(engine=engine, model=model)
    second = studio.run(engine=engine, model=model)
    assert first.stages == ["downloading", "loading", "encoding", "generating", *compiling, "decoding", "writing"]
    assert [report.stage for report in first.reports].count("loading") == 1
    assert second.stages == ["encoding", "generating", "decoding", "writing"]
    assert second.files == first.files == studio.run(engine=engine).files
    for take in (first, second):
        check_progress(take)
        assert [report.done for report in take.reports if report.stage == "generating"][-1] == NEW_TOKENS
        assert take.reports[-1] == Progress("writing", 1, 1, "samples")


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8", "int4"])
def test_the_music_is_computed_in_the_numbers_asked_for(studio: EngineHarness, precision: str) -> None:
    skip_without(precision)
    take = studio.run(precision=precision)
    assert (take.result["engine"], take.result["precision"]) == ("openvino", precision)
    assert studio.engine._shelf.find(TINY, precision) is not None
    if precision == "int8":
        assert studio.run(precision="auto").files == take.files
    if precision == "float32":
        other = studio.run(engine=studio.make_engine("mindspore"))
        assert (other.result["engine"], other.result["precision"]) == ("mindspore", "float32")
        np.testing.assert_array_equal(take.read_codes(), other.read_codes())
        exact, rounded = (studio.run(precision=each, max_new_tokens=200) for each in (precision, "int8"))
        assert exact.read_codes().tobytes() != rounded.read_codes().tobytes()


def count_kept(memory: bytes) -> int:
    return sum(tokens.shape[1] for tokens in ResumeState.read(memory).tokens)


def test_a_second_attempt_keeps_the_seed_and_goes_on(studio: EngineHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resume_state, "CHECKPOINT_INTERVAL_S", 0.0)
    checkpoint = KeptCheckpoint()

    def stop(report: Progress) -> None:
        if (report.stage, report.done) == ("generating", 5):
            wait_until(lambda: count_kept(checkpoint.stored[-1]) == 2 * (1 + 5), "the tokens so far to be kept")
            raise JobStoppedError("enough")

    with pytest.raises(JobStoppedError):
        studio.run(seed=None, num_samples=2, checkpoint=checkpoint, look=stop)
    checkpoint.earlier = checkpoint.stored[-1]
    resumed = studio.run(seed=None, num_samples=2, checkpoint=checkpoint)
    seed = ResumeState.read(checkpoint.stored[0]).seed
    assert [sample["seed"] for sample in resumed.samples] == [seed, seed + 1]
    assert next(report.done for report in resumed.reports if report.stage == "generating") == 5
    check_progress(resumed)
    assert studio.run(seed=seed, num_samples=2).files == resumed.files


def test_music_outlives_that_knn_frees_its_graphs(studio: EngineHarness) -> None:
    before = studio.run()
    Cells().clear()
    after = studio.run()
    assert after.files == before.files
    assert "loading" not in after.stages


def test_the_setting_chooses_the_engine(studio: EngineHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = studio.settings.model_copy(update={"musicgen_backend": "mindnlp"})
    loaded: list[ModelKey] = []

    class Stub(MusicgenPipeline):
        def __init__(self, title: ModelKey) -> None:
            loaded.append(title)
            self.__dict__.update(get_composer(studio, TINY).__dict__, engine="mindnlp")

    imported: list[str] = []

    def import_stub(engine: str) -> Callable[..., Stub]:
        imported.append(engine)
        return lambda title, *_: Stub(title)

    monkeypatch.setattr(engine_module, "import_loader", import_stub)
    device = Device(DeviceClass.GPU, 0)
    engine = registry.make_engine(Kind.MUSICGEN, device, settings)
    assert engine.name == registry.name_engine(Kind.MUSICGEN, device.device_class, settings) == "mindnlp"
    engine.prepare()
    params = MusicgenParams.model_validate({"model": TINY, "max_new_tokens": NEW_TOKENS}).model_dump(mode="json")
    result = engine.run(JobContext(params, {}, lambda **_: None, lambda *_: None))
    assert set(imported) == {"mindnlp"}
    assert [(title.name, title.precision) for title in loaded] == [(TINY, "float32")]
    assert result["engine"] == "mindnlp"
