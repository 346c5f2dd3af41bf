"""The key figures of the music benchmark: ratios, each with its aim."""

import statistics
from typing import Final

from tests.bench.implementation import Implementation
from tests.bench.memory_reads import count_step_bytes
from tests.bench.musicgen_results import Results
from tests.bench.section import Ratio
from tests.bench.workload import TIMED_POSITIONS

BATCH_SIZES: Final = (4, 8)
"""The numbers of jobs that share a batch in the measurements."""
DEFAULT_PRECISION: Final = "int8"
"""The default precision of OpenVINO; a job uses it unless the job requests another precision."""
MAX_OVERHEAD: Final = 0.1
"""The largest share of a job's time that may be spent on everything except decoding (the generation of tokens)."""
MAX_MEMORY_GIB: Final = 6.0


def list_ratios(results: Results) -> list[Ratio]:
    """List all key figures."""
    return [
        *_list_speed_ratios(results),
        *_list_memory_shares(results),
        *_list_batch_ratios(results),
        *_list_codec_ratios(results),
        _find_overhead(results),
        Ratio("a job of 30 s: peak memory, GiB", _find_peak_gib(results), MAX_MEMORY_GIB, is_upper_bound=True),
    ]


def _list_speed_ratios(results: Results) -> list[Ratio]:
    """List the ratios of speeds that have an aim: for one job, and for MindSpore also with several jobs."""
    implementations = results.implementations
    openvino, transformers = implementations.openvino, implementations.transformers
    mindspore, mindnlp, exact = implementations.mindspore, implementations.mindnlp, transformers["float32"]
    return [
        _divide(openvino[DEFAULT_PRECISION], transformers["bfloat16"], 1, 1.8),
        _divide(openvino[DEFAULT_PRECISION], exact, 1, 6.0),
        _divide(openvino["float32"], exact, 1, 3.0),
        _divide(mindspore, exact, 1, 2.0),
        *(_divide(mindspore, exact, jobs, 2.0) for jobs in BATCH_SIZES),
        Ratio(
            f"{mindspore.title} / {mindnlp.title}, 1 job, at its start",
            mindspore.find_first_steps_per_s() / _find_steps_per_s(mindnlp),
            40.0,
        ),
        *(
            Ratio(
                f"{openvino[precision].title} / real time, 1 job",
                _find_steps_per_s(openvino[precision]) / results.config.codec.frame_rate,
                1.0,
            )
            for precision in (DEFAULT_PRECISION, "int4")
        ),
    ]


def _list_memory_shares(results: Results) -> list[Ratio]:
    own = (*results.implementations.openvino.values(), results.implementations.mindspore)
    return [Ratio(f"{each.title} / what the memory allows, 1 job", find_memory_share(results, each)) for each in own]


def _list_batch_ratios(results: Results) -> list[Ratio]:
    openvino, transformers = results.implementations.openvino, results.implementations.transformers
    return [
        *(
            _divide(openvino[DEFAULT_PRECISION], transformers[precision], jobs)
            for jobs in BATCH_SIZES
            for precision in ("bfloat16", "float32")
        ),
        *(_divide(openvino["float32"], transformers["float32"], jobs) for jobs in BATCH_SIZES),
    ]


def _list_codec_ratios(results: Results) -> list[Ratio]:
    implementations = results.implementations
    baseline_s = statistics.median(implementations.transformers["float32"].decode_s)
    own = {"OpenVINO": implementations.openvino[DEFAULT_PRECISION], "MindSpore": implementations.mindspore}
    return [
        Ratio(f"EnCodec, 10 s, float32: {name} / transformers", baseline_s / statistics.median(each.decode_s))
        for name, each in own.items()
    ]


def _find_overhead(results: Results) -> Ratio:
    parts = results.job["parts"]
    return Ratio(
        f"all but decoding / a job of {results.job['duration_s']:.0f} s, {DEFAULT_PRECISION}",
        1 - parts["decoding"] / sum(parts.values()),
        MAX_OVERHEAD,
        is_upper_bound=True,
    )


def find_memory_share(results: Results, implementation: Implementation) -> float:
    """Divide the steps per second of one guided job by the steps per second that memory allows.

    The latter are the steps per second that would be reached if a step did nothing but read its data from memory.
    """
    middle = (TIMED_POSITIONS[0] + TIMED_POSITIONS[-1]) // 2
    step_bytes = count_step_bytes(results.config.decoder, implementation.precision, 2, middle, results.text_tokens)
    return _find_steps_per_s(implementation) * step_bytes / results.bytes_per_s


def _divide(own: Implementation, baseline: Implementation, jobs: int, aim: float | None = None) -> Ratio:
    ratio = _find_steps_per_s(own, jobs) / _find_steps_per_s(baseline, jobs)
    return Ratio(f"{own.title} / {baseline.title}, {jobs} {'job' if jobs == 1 else 'jobs'}", ratio, aim)


def _find_steps_per_s(implementation: Implementation, jobs: int = 1) -> float:
    steps_per_s = implementation.find_steps_per_s(jobs)
    if steps_per_s is None:
        raise ValueError(f"{implementation.title} was not measured with {jobs} jobs")
    return steps_per_s


def _find_peak_gib(results: Results) -> float:
    (job,) = results.long_jobs
    return float(job["peak_bytes"]) / 2**30
