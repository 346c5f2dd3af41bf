"""Results of music jobs: each parameter has an effect, and the result has the form that the API describes."""

import hashlib
import io
import weakref
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from huggingface_hub import constants
from numpy.typing import NDArray

from shared.audio.provenance import ClipOrigin, Provenance
from shared.audio.resampling import resample
from shared.audio.tags import read_tags
from shared.errors import JobStoppedError
from shared.jobs import DeviceClass, Kind, Progress
from shared.kinds.musicgen.audio_encoding import decode
from shared.kinds.musicgen.catalogue import TINY
from shared.kinds.musicgen.parameters import MAX_SEED, Format, MusicgenParams
from shared.texts import Text, render, text
from shared.version import SOFTWARE
from tests.support.fake_hub import FakeHub
from tests.support.waiting import wait_until
from tests.unit.worker.engines.musicgen.engine_harness import (
    NEW_FRAMES,
    NEW_TOKENS,
    STEREO,
    EngineHarness,
    JobRun,
    MemoryCheckpoint,
    skip_without,
)
from worker.devices import Device
from worker.engines import ENGINES
from worker.engines.interface import JobContext
from worker.engines.knn.cells import Cells
from worker.engines.musicgen import music_checkpoint
from worker.engines.musicgen.backends import registry
from worker.engines.musicgen.model_cache import ModelKey
from worker.engines.musicgen.music_checkpoint import ResumeState
from worker.engines.musicgen.pipeline import MusicgenPipeline
from worker.engines.musicgen.request import GeneratedSample

RATE_HZ = 32_000
HOP = 640
CLIP_FRAMES = 10
# Five and a half frames. The codec pads the sixth frame.
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
    "sample_rate": {"sample_rate": 48_000},
    "loudness": {"loudness": "peak"},
}


def make_clip(samples: int, rate_hz: int, channels: int = 1) -> NDArray[np.float32]:
    """Make a tone for each channel, with a different frequency in each channel: shape (samples, channels)."""
    times_s = np.arange(samples) / rate_hz
    tones = [np.sin(2 * np.pi * 440 * (1 + channel) * times_s) for channel in range(channels)]
    clip: NDArray[np.float32] = (0.5 * np.stack(tones, axis=1)).astype(np.float32)
    return clip


@pytest.fixture(scope="module", autouse=True)
def clips(harness: EngineHarness, tmp_path_factory: pytest.TempPathFactory) -> dict[str, NDArray[np.float32]]:
    """Store the clips that the jobs may use.

    Returns the samples of the clips, keyed by name; each has the shape (samples, channels).
    """
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
        harness.clips[name] = folder / f"{name}.wav"
    return {name: samples for name, (samples, _) in content.items()}


def continue_clips(*names: str, **part: float) -> list[dict[str, Any]]:
    return [{"upload": name} | part for name in names]


def ignore() -> None:
    """Ignore the progress."""


def check_progress(run: JobRun) -> None:
    """Check that the progress of each stage never decreases and never exceeds the total of the stage."""
    for stage in run.stages:
        reports = [report for report in run.reports if report.stage == stage]
        assert len({(report.total, report.unit) for report in reports if report.total}) <= 1, stage
        assert all(before.done <= after.done for before, after in pairwise(reports)), stage
        assert all(0 <= report.done <= report.total for report in reports if stage != "downloading"), stage


@pytest.mark.parametrize("name", VARIATIONS)
def test_each_parameter_changes_the_audio(harness: EngineHarness, name: str) -> None:
    base, varied = harness.run(), harness.run(**VARIATIONS[name])
    assert harness.run().files == base.files
    audio = {file: content for file, content in base.music.items() if file.startswith("audio")}
    assert not audio.items() <= varied.music.items() or len(varied.files) > len(base.files)


def test_every_parameter_has_a_variation() -> None:
    # The parameter ``precision`` has a test of its own.
    assert VARIATIONS.keys() | {"precision"} == MusicgenParams.model_fields.keys()


@pytest.mark.parametrize("narrow", [{"top_k": 1}, {"top_p": 1e-9}, {"temperature": 1e-6}], ids=str)
def test_the_narrowest_sampling_chooses_the_most_likely_token(harness: EngineHarness, narrow: dict[str, Any]) -> None:
    greedy = harness.run(do_sample=False)
    assert harness.run(**narrow).music == greedy.music


def test_the_result_and_the_files_have_the_form_that_the_api_describes(harness: EngineHarness) -> None:
    run = harness.run(prompts=["rock", "jazz"], num_samples=2, duration_s=0.2, max_new_tokens=None)
    check_progress(run)
    result = run.result
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
    assert [(sample["prompt"], sample["seed"]) for sample in run.samples] == [
        ("rock", 5),
        ("rock", 6),
        ("jazz", 7),
        ("jazz", 8),
    ]
    expected: dict[str, str] = {}
    for index, sample in enumerate(run.samples):
        assert (sample["audio"], sample["codes"]) == (f"audio-{index}.wav", f"codes-{index}.npy")
        assert (sample["duration_s"], sample["warnings"]) == (0.2, [])
        assert sample["peak_dbfs"] == pytest.approx(20 * np.log10(np.abs(run.read_audio(index)).max()), abs=1e-4)
        assert -40 < sample["lufs"] < 0
        expected |= {
            f"audio-{index}.wav": "audio/wav",
            f"codes-{index}.npy": "application/octet-stream",
            f"waveform-{index}.svg": "image/svg+xml",
            f"spectrogram-{index}.png": "image/png",
        }
        codes = run.read_codes(index)
        assert (str(codes.dtype), codes.shape) == ("int16", (4, 10))
        assert run.read_audio(index).dtype == np.float32
        audio = harness.get_pipeline(TINY).model.codec.decode(codes, ignore)
        np.testing.assert_array_equal(run.read_audio(index), audio[None])
    assert {name: media_type for name, (media_type, _) in run.files.items()} == expected
    assert len({run.read_codes(index).tobytes() for index in range(4)}) == 4


def test_left_codebooks_of_a_stereo_model_come_first_and_loud_audio_is_not_clipped(harness: EngineHarness) -> None:
    run = harness.run(model=STEREO)
    codes, audio = run.read_codes(), run.read_audio()
    assert codes.shape == (8, NEW_FRAMES)
    codec = harness.get_pipeline(STEREO).model.codec
    np.testing.assert_array_equal(audio, [codec.decode(codes[:4], ignore), codec.decode(codes[4:], ignore)])
    assert np.abs(audio).max() > 1
    assert run.samples[0]["peak_dbfs"] > 0
    assert run.samples[0]["warnings"][0]["code"] == "audio-clipping"


@pytest.mark.parametrize(
    ("name", "extension", "media_type", "stored_as"),
    [
        ("wav16", "wav", "audio/wav", ("WAV", "PCM_16")),
        ("flac", "flac", "audio/flac", ("FLAC", "PCM_24")),
        ("mp3", "mp3", "audio/mpeg", ("MP3", "MPEG_LAYER_III")),
        ("ogg", "ogg", "audio/ogg", ("OGG", "VORBIS")),
    ],
)
def test_audio_is_stored_in_the_chosen_format(
    harness: EngineHarness, name: str, extension: str, media_type: str, stored_as: tuple[str, str]
) -> None:
    run = harness.run(format=name)
    assert run.samples[0]["audio"] == f"audio-0.{extension}"
    stored, content = run.files[f"audio-0.{extension}"]
    assert stored == media_type
    info = soundfile.info(io.BytesIO(content))
    assert (info.format, info.subtype) == stored_as
    assert harness.run(format=name).files == run.files


@pytest.mark.parametrize("loudness", ["peak", "rms", "lufs"])
@pytest.mark.parametrize("audio_format", ["wav", "wav16", "flac"])
def test_a_levelled_file_is_measured_and_gives_no_advice_to_level_it(
    harness: EngineHarness, loudness: str, audio_format: str
) -> None:
    raw = harness.run(model=STEREO)
    assert raw.samples[0]["warnings"][0]["code"] == "audio-clipping"
    run = harness.run(model=STEREO, loudness=loudness, format=audio_format)
    np.testing.assert_array_equal(run.read_codes(), raw.read_codes())
    peak = np.abs(decode(run.files[run.samples[0]["audio"]][1])).max()
    assert peak < 10 ** (-0.95 / 20)
    assert run.samples[0]["peak_dbfs"] == pytest.approx(20 * np.log10(peak), abs=1e-4)
    assert not [warning for warning in run.samples[0]["warnings"] if "full scale" in render(Text.parse(warning))]


@pytest.mark.parametrize("audio_format", ["wav16", "flac", "mp3", "ogg"])
def test_what_a_format_cuts_off_is_said_and_the_peak_is_that_of_the_file(
    harness: EngineHarness, audio_format: str
) -> None:
    run = harness.run(model=STEREO, format=audio_format)
    [sample] = run.samples
    warning = sample["warnings"][0]
    assert warning["code"] == "audio-cut"
    assert 'so does the format "wav"' in render(Text.parse(warning))
    written = decode(run.files[sample["audio"]][1])
    assert sample["peak_dbfs"] == pytest.approx(20 * np.log10(np.abs(written).max()), abs=1e-4)
    if audio_format in {"wav16", "flac"}:
        assert -0.001 < sample["peak_dbfs"] <= 0


@pytest.mark.parametrize("loudness", ["none", "peak"])
def test_another_sampling_rate_is_made_before_the_level_is_measured(harness: EngineHarness, loudness: str) -> None:
    params: dict[str, Any] = {"model": STEREO, "duration_s": 0.5, "max_new_tokens": None}
    raw = harness.run(**params)
    run = harness.run(sample_rate=44_100, loudness=loudness, **params)
    assert (run.result["sampling_rate"], run.samples[0]["duration_s"]) == (44_100, 0.5)
    np.testing.assert_array_equal(run.read_codes(), raw.read_codes())
    audio = run.read_audio()
    assert audio.shape == (2, 22_050)
    assert run.samples[0]["peak_dbfs"] == pytest.approx(20 * np.log10(np.abs(audio).max()), abs=1e-4)
    if loudness == "none":
        np.testing.assert_array_equal(audio, resample(raw.read_audio().T, RATE_HZ, 44_100).T)


@pytest.mark.parametrize("audio_format", Format)
def test_every_audio_file_says_what_made_it(harness: EngineHarness, audio_format: Format) -> None:
    prompt = "一首悲伤的\n钢琴曲 🎵"
    part = {"start_s": 0.04, "end_s": 0.16}
    run = harness.run(
        prompts=["rock", prompt], audio_prompts=continue_clips("stereo", "clip", **part), format=audio_format, top_k=9
    )
    content = run.files[run.samples[1]["audio"]][1]
    tags = read_tags(io.BytesIO(content))
    assert tags.title == prompt
    assert tags.software.startswith(SOFTWARE)
    provenance = run.read_provenance(1)
    assert provenance == Provenance(
        prompt=prompt,
        seed=6,
        model=TINY,
        parameters=provenance.parameters,
        engine="openvino",
        precision="int8",
        device="cpu",
        codes_sha256=hashlib.sha256(run.read_codes(1).tobytes()).hexdigest(),
        clip=ClipOrigin(sha256=hashlib.sha256(harness.clips["clip"].read_bytes()).hexdigest(), **part),
    )
    assert provenance.parameters["top_k"] == 9
    assert provenance.parameters.keys() == MusicgenParams.model_fields.keys() - {
        *("model", "prompts", "audio_prompts", "num_samples", "seed")
    }


def test_audio_of_one_sample_at_a_time_is_in_memory(harness: EngineHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    alive: list[weakref.ref[NDArray[np.float32]]] = []
    harness.run()
    decode_sample = MusicgenPipeline._decode_sample

    def watch(*arguments: Any) -> GeneratedSample:
        assert not [audio for audio in alive if audio() is not None]
        sample = decode_sample(*arguments)
        alive.append(weakref.ref(sample.audio))
        return sample

    monkeypatch.setattr(MusicgenPipeline, "_decode_sample", watch)
    harness.run(num_samples=4)
    assert len(alive) == 4


def test_generation_is_unconditional_without_prompts_and_clips(harness: EngineHarness) -> None:
    run = harness.run(prompts=[], num_samples=2)
    assert [(sample["prompt"], sample["seed"]) for sample in run.samples] == [(None, 5), (None, 6)]
    assert not np.array_equal(run.read_codes(0), run.read_codes(1))
    # Without a prompt, guidance has no effect.
    assert harness.run(prompts=[], num_samples=2, guidance_scale=9.0).music == run.music


def test_a_sample_can_be_generated_again_alone(harness: EngineHarness) -> None:
    together = harness.run(prompts=["rock", "jazz"], num_samples=2)
    alone = harness.run(prompts=["jazz"], seed=together.samples[3]["seed"])
    np.testing.assert_array_equal(alone.read_codes(), together.read_codes(3))


def test_the_largest_seed_is_followed_by_zero(harness: EngineHarness) -> None:
    run = harness.run(num_samples=2, seed=MAX_SEED)
    assert [sample["seed"] for sample in run.samples] == [MAX_SEED, 0]


def test_a_drawn_seed_is_in_the_result_and_reproduces_the_files(harness: EngineHarness) -> None:
    drawn, other = harness.run(seed=None), harness.run(seed=None)
    assert drawn.samples[0]["seed"] != other.samples[0]["seed"]
    assert harness.run(seed=drawn.samples[0]["seed"]).files == drawn.files


@pytest.mark.parametrize("prompts", [["rock"], []], ids=["clip and text", "clip alone"])
@pytest.mark.parametrize("upload", ["clip", "cd"])
def test_a_clip_is_continued_and_its_codes_are_in_the_result(
    harness: EngineHarness, prompts: list[str], upload: str
) -> None:
    run = harness.run(prompts=prompts, audio_prompts=continue_clips(upload), duration_s=0.2, max_new_tokens=None)
    codes = run.read_codes()
    assert codes.shape == (4, 2 * CLIP_FRAMES)
    clip = soundfile.read(harness.clips["clip"], dtype="float32", always_2d=True)[0].T
    if upload == "clip":
        expected = harness.get_pipeline(TINY).encode_clip(clip, ignore)
        np.testing.assert_array_equal(codes[:, :CLIP_FRAMES], expected)
    assert run.samples[0]["duration_s"] == 0.4
    assert run.samples[0]["prompt"] == (prompts[0] if prompts else None)


def test_a_prompt_changes_how_a_clip_is_continued(harness: EngineHarness) -> None:
    runs = [harness.run(prompts=each, audio_prompts=continue_clips("clip")) for each in (["rock"], ["jazz"], [])]
    assert len({run.read_codes().tobytes() for run in runs}) == 3


def test_clips_of_different_lengths_are_continued_as_if_each_were_alone(harness: EngineHarness) -> None:
    length: dict[str, Any] = {"prompts": [], "duration_s": 0.2, "max_new_tokens": None}
    run = harness.run(audio_prompts=continue_clips("clip", "short"), **length)
    assert [sample["duration_s"] for sample in run.samples] == [0.4, 0.32]
    assert [run.read_codes(index).shape[1] for index in range(2)] == [20, 16]
    assert [run.read_audio(index).shape for index in range(2)] == [(1, 12_800), (1, 16 * HOP)]
    alone = harness.run(audio_prompts=continue_clips("short"), seed=run.samples[1]["seed"], **length)
    np.testing.assert_array_equal(run.read_codes(1), alone.read_codes())
    swapped = harness.run(audio_prompts=continue_clips("short", "clip"), seed=run.samples[1]["seed"], **length)
    np.testing.assert_array_equal(swapped.read_codes(0), alone.read_codes())


def test_only_the_chosen_part_of_a_clip_is_continued(
    harness: EngineHarness, clips: Mapping[str, NDArray[np.float32]]
) -> None:
    part = continue_clips("clip", start_s=0.04, end_s=0.16)
    codes = harness.run(audio_prompts=part).read_codes()
    expected = harness.get_pipeline(TINY).encode_clip(clips["clip"].T[:, 2 * HOP : 8 * HOP], ignore)
    assert codes.shape[1] == 6 + NEW_FRAMES
    np.testing.assert_array_equal(codes[:, :6], expected)


def test_a_mono_model_gets_the_mean_of_two_channels_and_a_stereo_model_gets_both(
    harness: EngineHarness, clips: Mapping[str, NDArray[np.float32]]
) -> None:
    stereo = harness.run(audio_prompts=continue_clips("stereo"))
    assert stereo.music == harness.run(audio_prompts=continue_clips("mean")).music
    codes = harness.run(model=STEREO, audio_prompts=continue_clips("stereo")).read_codes()
    codec = harness.get_pipeline(STEREO).model.codec
    for channel in range(2):
        expected = codec.encode(np.ascontiguousarray(clips["stereo"][:, channel]), ignore)
        np.testing.assert_array_equal(codes[4 * channel : 4 * channel + 4, :CLIP_FRAMES], expected)


@pytest.mark.parametrize(("name", "compiling"), [("openvino", []), ("mindspore", ["compiling"])])
def test_the_first_job_reports_all_stages_and_the_second_job_loads_nothing(
    harness: EngineHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, compiling: list[str]
) -> None:
    harness.run()
    built = harness.settings.home / "models" / TINY
    model = f"someone/{name}"
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf" / "hub"))
    engine = harness.make_engine(name)
    with FakeHub() as hub:
        hub.models[model] = {path.name: path.read_bytes() for path in built.iterdir()}
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        first = harness.run(engine=engine, model=model)
    second = harness.run(engine=engine, model=model)
    assert first.stages == ["downloading", "loading", "encoding", "generating", *compiling, "decoding", "writing"]
    assert [report.stage for report in first.reports].count("loading") == 1
    assert second.stages == ["encoding", "generating", "decoding", "writing"]
    assert second.files == first.files
    assert second.music == harness.run(engine=engine).music
    for run in (first, second):
        check_progress(run)
        assert [report.done for report in run.reports if report.stage == "generating"][-1] == NEW_TOKENS
        assert run.reports[-1] == Progress("writing", 1, 1, "samples")


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8", "int4"])
def test_the_model_computes_in_the_chosen_precision(harness: EngineHarness, precision: str) -> None:
    skip_without(precision)
    run = harness.run(precision=precision)
    assert (run.result["engine"], run.result["precision"]) == ("openvino", precision)
    assert harness.get_pipeline(TINY, precision).precision == precision
    if precision == "int8":
        assert harness.run(precision="auto").music == run.music
    if precision == "float32":
        other = harness.run(engine=harness.make_engine("mindspore"))
        assert (other.result["engine"], other.result["precision"]) == ("mindspore", "float32")
        np.testing.assert_array_equal(run.read_codes(), other.read_codes())
        exact, rounded = (harness.run(precision=each, max_new_tokens=200) for each in (precision, "int8"))
        assert exact.read_codes().tobytes() != rounded.read_codes().tobytes()


def count_stored(content: bytes) -> int:
    return sum(tokens.shape[1] for tokens in ResumeState.parse(content).tokens)


def test_a_second_attempt_keeps_the_seed_and_continues_from_the_stored_tokens(
    harness: EngineHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(music_checkpoint, "CHECKPOINT_INTERVAL_S", 0.0)
    checkpoint = MemoryCheckpoint()

    def stop(report: Progress) -> None:
        if (report.stage, report.done) == ("generating", 5):
            wait_until(lambda: count_stored(checkpoint.stored[-1]) == 2 * (1 + 5), "the tokens so far to be stored")
            raise JobStoppedError(text("cancelled"))

    with pytest.raises(JobStoppedError):
        harness.run(seed=None, num_samples=2, checkpoint=checkpoint, on_report=stop)
    checkpoint.earlier = checkpoint.stored[-1]
    resumed = harness.run(seed=None, num_samples=2, checkpoint=checkpoint)
    seed = ResumeState.parse(checkpoint.stored[0]).seed
    assert [sample["seed"] for sample in resumed.samples] == [seed, seed + 1]
    assert next(report.done for report in resumed.reports if report.stage == "generating") == 5
    check_progress(resumed)
    assert harness.run(seed=seed, num_samples=2).files == resumed.files


def test_music_is_the_same_after_the_knn_engine_has_freed_its_graphs(harness: EngineHarness) -> None:
    before = harness.run()
    Cells().clear()
    after = harness.run()
    assert after.files == before.files
    assert "loading" not in after.stages


def test_the_setting_chooses_the_backend(harness: EngineHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    harness.run()
    settings = harness.make_settings("mindnlp")
    loaded: list[ModelKey] = []
    imported: list[str] = []

    class RenamedPipeline(MusicgenPipeline):
        def __init__(self, key: ModelKey) -> None:
            loaded.append(key)
            self.__dict__.update(harness.get_pipeline(TINY).__dict__, backend="mindnlp")

    def record_import(backend: registry.MusicBackend) -> Callable[[], registry.Load]:
        def import_loader() -> registry.Load:
            imported.append(backend.name)
            return lambda key, *_: RenamedPipeline(key)

        return import_loader

    backends = tuple(replace(backend, import_loader=record_import(backend)) for backend in registry.BACKENDS)
    monkeypatch.setattr(registry, "BACKENDS", backends)
    device = Device(DeviceClass.CPU, 0)
    spec = ENGINES[Kind.MUSICGEN]
    engine = spec.make(device, settings)
    assert engine.name == spec.choose_backend(device.device_class, settings).name == "mindnlp"
    engine.prepare()
    params = MusicgenParams.model_validate({"model": TINY, "max_new_tokens": NEW_TOKENS})
    result = engine.run(JobContext(params, {}, lambda **_: None, lambda *_: None))
    assert set(imported) == {"mindnlp"}
    assert [(key.name, key.precision) for key in loaded] == [(TINY, "float32")]
    assert result["engine"] == "mindnlp"
