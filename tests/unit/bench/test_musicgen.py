"""How the music benchmark evaluates and formats its measurements."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from shared.kinds.musicgen.catalogue import CONFIGURATION
from shared.kinds.musicgen.parameters import Precision
from tests.bench import musicgen_comparison, musicgen_jobs
from tests.bench.implementation import Implementation
from tests.bench.logits import LogitDifference
from tests.bench.memory_reads import count_cache_bytes, count_read_weights, count_step_bytes
from tests.bench.musicgen_comparison import PRECISIONS, list_precisions
from tests.bench.musicgen_jobs import JOB_COUNTS, BatchTimes
from tests.bench.musicgen_ratios import BATCH_SIZES, list_ratios
from tests.bench.musicgen_report import format_section
from tests.bench.musicgen_results import Implementations, Results
from tests.bench.workload import TIMED_POSITIONS
from worker.engines.musicgen.backends.processor import choose_openvino_precisions
from worker.engines.musicgen.model.configuration import DecoderConfig, ModelConfig
from worker.engines.musicgen.model.random_model import SMALL, describe
from worker.engines.musicgen.model.tensors import DECODER, HEADS, list_tensors

READ_IN_EACH_STEP: Final = (f"{DECODER}.layers.", f"{DECODER}.layer_norm.", f"{HEADS}.")
READ_ONCE_PER_JOB: Final = ("encoder_attn.k_proj", "encoder_attn.v_proj")


@pytest.fixture
def model(tmp_path: Path) -> ModelConfig:
    tmp_path.joinpath(CONFIGURATION).write_text(json.dumps(describe(SMALL)))
    return ModelConfig.read(tmp_path)


@pytest.fixture
def decoder(model: ModelConfig) -> DecoderConfig:
    return model.decoder


def test_step_reads_the_weights_of_the_layers_and_the_heads(model: ModelConfig) -> None:
    counts = 0
    for name, shape in list_tensors(model).items():
        if name.startswith(READ_IN_EACH_STEP) and not any(part in name for part in READ_ONCE_PER_JOB):
            size = 1
            for length in shape:
                size *= length
            counts += size
    assert count_read_weights(model.decoder) == counts == 360_859_648


def test_caches_hold_keys_and_values_of_every_layer(decoder: DecoderConfig) -> None:
    assert count_cache_bytes(decoder, slots=2, positions=3) == 2 * 24 * 2 * 3 * 1024 * 4


def test_lower_precisions_read_fewer_bytes(decoder: DecoderConfig) -> None:
    weights, text = count_read_weights(decoder), count_cache_bytes(decoder, 2, 40)
    cache = count_cache_bytes(decoder, 2, 250)
    assert count_step_bytes(decoder, "float32", 2, 250, 40) == 4 * weights + cache + text
    assert count_step_bytes(decoder, "bfloat16", 2, 250, 40) == 2 * weights + cache / 2 + text
    assert count_step_bytes(decoder, "int8", 2, 250, 40) == weights + cache / 2 + text
    assert weights / 2 < count_step_bytes(decoder, "int4", 2, 0, 0) < 0.6 * weights


def test_speed_is_the_median_over_repeats() -> None:
    implementation = Implementation("ours", "int8")
    for early_s, late_s in ((0.01, 0.02), (0.02, 0.06), (0.03, 0.01)):
        implementation.add_position_steps({"0": early_s, "500": late_s})
    implementation.jobs_s[4] += [0.1, 0.2, 0.5]
    assert implementation.find_steps_per_s() == pytest.approx(1 / 0.02)
    assert implementation.find_steps_per_s(4) == pytest.approx(5.0)
    assert implementation.find_steps_per_s(8) is None
    assert implementation.find_first_steps_per_s() == pytest.approx(50.0)
    assert implementation.list_repeats() == pytest.approx([1 / 0.015, 1 / 0.04, 1 / 0.02])


def test_ratios_divide_the_medians(model: ModelConfig) -> None:
    results = make_results(model)
    values = {ratio.name: ratio for ratio in list_ratios(results)}
    assert values["OpenVINO int8 / transformers bfloat16, 1 job"].value == pytest.approx(2.0)
    assert values["OpenVINO int8 / transformers bfloat16, 1 job"].met
    assert values["OpenVINO int8 / transformers float32, 1 job"].value == pytest.approx(8.0)
    assert values["MindSpore float32 / transformers float32, 8 jobs"].value == pytest.approx(2.0)
    assert values["MindSpore float32 / MindNLP float32, 1 job, at its start"].value == pytest.approx(50.0)
    assert values["OpenVINO int8 / real time, 1 job"].value == pytest.approx(0.8)
    assert values["OpenVINO float32 / what the memory allows, 1 job"].value == pytest.approx(0.5)
    assert values["EnCodec, 10 s, float32: OpenVINO / transformers"].value == pytest.approx(8.0)
    assert values["EnCodec, 10 s, float32: MindSpore / transformers"].value == pytest.approx(4.0)
    assert values["all but decoding / a job of 10 s, int8"].value == pytest.approx(0.2)
    assert not values["all but decoding / a job of 10 s, int8"].met
    assert values["a job of 30 s: peak memory, GiB"].met


def test_report_contains_every_figure(model: ModelConfig) -> None:
    section = format_section(make_results(model))
    assert "| OpenVINO int8 | 40.00 | 40.00 to 40.00 | 25.0 | 25.0 | 25.0 |" in section.body
    assert "| choice of tokens | 1.00 | 4.0% |" in section.body
    assert "| between operators | 2.00 | 8.0% |" in section.body
    assert "| codec | 1000.00 | 10.0% |" in section.body
    assert "| int4 | 0.2000 | 80.0% | 0.1000 | 90.0% |" in section.body
    assert "late minus early: 3.00 times" in section.body
    assert "grows by +7 MiB" in section.body
    assert "62.5 frames decoded per second" in section.body
    assert section.conditions.startswith("memory read at ")


@pytest.mark.parametrize(
    ("flags", "missing"),
    [({"avx2"}, {Precision.BFLOAT16}), ({"avx2", "avx512f", "avx512bw", "avx512vl", "avx512dq"}, set[Precision]())],
)
def test_precision_that_the_processor_does_not_support_is_left_out(
    flags: set[str], missing: set[Precision], monkeypatch: pytest.MonkeyPatch
) -> None:
    offered = choose_openvino_precisions(frozenset(flags))
    monkeypatch.setattr(musicgen_comparison, "list_openvino_precisions", lambda: offered)
    assert list_precisions() == tuple(precision for precision in PRECISIONS if precision not in missing)


def test_report_names_the_precision_that_was_left_out(model: ModelConfig) -> None:
    complete = make_results(model)
    openvino = {name: each for name, each in complete.implementations.openvino.items() if name != "bfloat16"}
    implementations = replace(complete.implementations, openvino=openvino)
    section = format_section(replace(complete, implementations=implementations, unsupported=["bfloat16"]))
    assert "because this processor does not support it: OpenVINO bfloat16." in section.body
    assert "| OpenVINO bfloat16 |" not in section.body
    assert "OpenVINO int8 / transformers bfloat16, 1 job" in {ratio.name for ratio in section.ratios}
    assert "does not support" not in format_section(complete).body


def test_jobs_that_run_at_once_are_compared_with_jobs_that_run_one_after_another() -> None:
    times = BatchTimes()
    for jobs in JOB_COUNTS:
        times.last_s[jobs] += [9.0, 10.0 + 22 / 7 * (jobs - 1), 99.0]
        times.mean_s[jobs] += [1.0, 5.0 + 2.5 * jobs, 99.0]
    section = musicgen_jobs.format_section(times, 10.0, 8.0, 3)
    last, mean, alone = section.ratios
    assert last.value == pytest.approx(32 / 80)
    # If eight jobs ran one after another, they would end after 10 s to 80 s, on average after 45 s.
    assert mean.value == pytest.approx(25 / 45)
    assert last.met
    assert mean.met
    assert alone.value == pytest.approx(10 / 8)
    assert "| 8 | 32.0 | 0.40 | 25.0 | 0.56 |" in section.body


def make_results(config: ModelConfig) -> Results:
    def make(title: str, precision: str, step_s: float, decode_s: float | None = None) -> Implementation:
        implementation = Implementation(f"{title} {precision}", precision, peak_bytes=2 << 30)
        implementation.add_position_steps(dict.fromkeys(map(str, TIMED_POSITIONS), step_s))
        for jobs in BATCH_SIZES:
            implementation.jobs_s[jobs].append(jobs * step_s)
        if decode_s is not None:
            implementation.decode_s.append(decode_s)
        return implementation

    steps_s = {"int8": 0.025, "int4": 0.02, "bfloat16": 0.04, "float32": 0.05}
    # With this memory bandwidth, a step in float32 takes twice as long as the reading of its bytes.
    bytes_per_s = count_step_bytes(config.decoder, "float32", 2, 250, 40) / steps_s["float32"] * 2
    early_bytes, late_bytes = (count_cache_bytes(config.decoder, 16, capacity) for capacity in (128, 1_536))
    mindnlp = Implementation("MindNLP float32", "float32")
    mindnlp.jobs_s[1].append(5.0)
    job = {"rss_bytes": 3 << 30, "peak_bytes": 5 << 30, "backend": "openvino, int8"}
    start = {"load_s": 4.0, "first_step_s": 1.0, "peak_bytes": 2 << 30}
    differences = {"int8": LogitDifference(0.01, 0.99), "int4": LogitDifference(0.2, 0.8)}
    return Results(
        config=config,
        implementations=Implementations(
            {precision: make("OpenVINO", precision, step_s, 0.25) for precision, step_s in steps_s.items()},
            make("MindSpore", "float32", 0.1, 0.5),
            {"float32": make("transformers", "float32", 0.2, 2.0), "bfloat16": make("transformers", "bfloat16", 0.05)},
            mindnlp,
        ),
        unsupported=[],
        bytes_per_s=bytes_per_s,
        text_tokens=40,
        repeats=1,
        first_start=start,
        second_start=start,
        prefill={"ours": 200.0},
        full_caches={
            "early": {"step_s": 0.1, "capacity": 128, "cache_bytes": early_bytes},
            "late": {
                "step_s": 0.1 + 3 * (late_bytes - early_bytes) / bytes_per_s,
                "capacity": 1_536,
                "cache_bytes": late_bytes,
            },
        },
        profile={
            "parts": {"step_s": 0.025, "network": 0.023, "choice of tokens": 0.001, "loop": 0.001},
            "infer_s": 0.025,
            "nodes": {"FullyConnected": {"step_s": 0.022, "count": 145}},
            "others_s": 0.001,
        },
        job={
            "duration_s": 10.0,
            "parts": {"text": 1.0, "decoding": 8.0, "codec": 1.0},
            "backend": "openvino",
            "precision": "int8",
        },
        long_jobs=[job],
        short_jobs=[job, job, job | {"rss_bytes": (3 << 30) + (7 << 20)}],
        full_size=differences,
        references=differences | {"int4": LogitDifference(0.1, 0.9)},
    )
