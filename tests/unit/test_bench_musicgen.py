"""What the music bench says of its measurements."""

import json
from pathlib import Path
from typing import Final

import pytest

from shared.models import CONFIGURATION
from tests.bench.memory_reads import count_cache_bytes, count_read_weights
from tests.bench.musicgen_report import Contender, Findings, write_report
from worker.engines.musicgen.configuration import DecoderConfig, ModelConfig
from worker.engines.musicgen.random_model import SMALL, describe
from worker.engines.musicgen.tensors import DECODER, HEADS, list_tensors

READ_IN_EACH_STEP: Final = (f"{DECODER}.layers.", f"{DECODER}.layer_norm.", f"{HEADS}.")
READ_ONCE_PER_JOB: Final = ("encoder_attn.k_proj", "encoder_attn.v_proj")


@pytest.fixture
def model(tmp_path: Path) -> ModelConfig:
    tmp_path.joinpath(CONFIGURATION).write_text(json.dumps(describe(SMALL)))
    return ModelConfig.read(tmp_path)


@pytest.fixture
def decoder(model: ModelConfig) -> DecoderConfig:
    return model.decoder


def test_a_step_reads_the_layers_and_the_heads(model: ModelConfig) -> None:
    counts = 0
    for name, shape in list_tensors(model).items():
        if name.startswith(READ_IN_EACH_STEP) and not any(part in name for part in READ_ONCE_PER_JOB):
            size = 1
            for length in shape:
                size *= length
            counts += size
    assert count_read_weights(model.decoder) == counts == 360_859_648


def test_caches_are_keys_and_values_of_every_layer(decoder: DecoderConfig) -> None:
    assert count_cache_bytes(decoder, rows=2, positions=3) == 2 * 24 * 2 * 3 * 1024 * 4


def test_ratios_are_ours_by_theirs_and_medians(decoder: DecoderConfig) -> None:
    step_bytes = 4 * count_read_weights(decoder) + count_cache_bytes(decoder, 2, 128)
    early_bytes, late_bytes = (count_cache_bytes(decoder, 16, capacity) for capacity in (128, 1_536))
    job = {"rss_bytes": 3 << 30, "peak_bytes": 5 << 30}
    report = write_report(
        Findings(
            config=decoder,
            contenders=[
                Contender("ours", {1: [9.0, 10.0, 30.0]}, [0.5]),
                Contender("transformers, float32", {1: [4.0, 5.0]}, [2.0]),
                Contender("MindNLP, float32", {1: [0.25]}),
            ],
            bytes_per_s=20.0 * step_bytes,
            starts={"load_s": 4.0, "first_step_s": 2.0, "first_decode_s": 1.0, "compile_s": {"128": 1.0}},
            reading={"frames_per_s": 200.0},
            places={
                "early": {"step_s": 0.1, "capacity": 128, "cache_bytes": early_bytes},
                "late": {
                    "step_s": 0.1 + 3 * (late_bytes - early_bytes) / (20.0 * step_bytes),
                    "capacity": 1_536,
                    "cache_bytes": late_bytes,
                },
            },
            long_jobs=[job],
            short_jobs=[job, job, job | {"rss_bytes": (3 << 30) + (7 << 20)}],
        )
    )
    assert "| ours / transformers, float32 (aim: 2) | 2.22 | - | - | - |" in report
    assert "| ours / MindNLP, float32 (aim: 40) | 40.00 | - | - | - |" in report
    assert "| ours / the memory's limit, float32 | 0.50 |" in report
    assert "late minus early: 3.00 times" in report
    assert "EnCodec decodes 10 s 4.00 times as fast" in report
    assert "peak 5.00 GiB" in report
    assert "grows by +7 MiB" in report
