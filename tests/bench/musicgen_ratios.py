"""What the music bench is about, in quotients: each with its aim."""

import statistics
from typing import Final

from tests.bench.findings import Findings
from tests.bench.memory_reads import count_step_bytes
from tests.bench.positions import PLACES
from tests.bench.section import Ratio
from tests.bench.timing import Contender

SIDES: Final = (4, 8)
"""How many jobs run side by side."""
FASTEST: Final = "int8"
MAX_OTHERS_RATIO: Final = 0.1
"""What all but decoding may take of a job."""
MAX_MEMORY_GIB: Final = 6.0


def list_ratios(findings: Findings) -> list[Ratio]:
    """List them."""
    ours, peers, config = findings.race.openvino, findings.race.peers, findings.config
    mindspore, mindnlp, exact = findings.race.mindspore, findings.race.mindnlp, peers["float32"]
    ratios = [
        _divide(ours[FASTEST], peers["bfloat16"], 1, 1.8),
        _divide(ours[FASTEST], exact, 1, 6.0),
        _divide(ours["float32"], exact, 1, 3.0),
        _divide(mindspore, exact, 1, 2.0),
        *(_divide(mindspore, exact, jobs, 2.0) for jobs in SIDES),
        Ratio(
            f"{mindspore.title} / {mindnlp.title}, 1 job, at its start",
            mindspore.find_first_per_s() / (mindnlp.find_steps_per_s() or 0.0),
            40.0,
        ),
        *(
            Ratio(
                f"{ours[precision].title} / real time, 1 job",
                _find_pace(ours[precision]) / config.codec.frame_rate,
                1.0,
            )
            for precision in (FASTEST, "int4")
        ),
        *(
            Ratio(f"{contender.title} / what the memory allows, 1 job", find_memory_share(findings, contender))
            for contender in (*ours.values(), mindspore)
        ),
        *(_divide(ours[FASTEST], peers[precision], jobs) for jobs in SIDES for precision in ("bfloat16", "float32")),
        *(_divide(ours["float32"], exact, jobs) for jobs in SIDES),
    ]
    decode_s = {who.title: statistics.median(who.decode_s) for who in (ours[FASTEST], mindspore, exact)}
    parts = findings.job["parts"]
    return [
        *ratios,
        *(
            Ratio(f"EnCodec, 10 s, float32: {engine} / transformers", decode_s[exact.title] / decode_s[who.title])
            for engine, who in (("OpenVINO", ours[FASTEST]), ("MindSpore", mindspore))
        ),
        Ratio(
            f"all but decoding / a job of {findings.job['duration_s']:.0f} s, {FASTEST}",
            1 - parts["decoding"] / sum(parts.values()),
            MAX_OTHERS_RATIO,
            is_upper_bound=True,
        ),
        Ratio("a job of 30 s: peak memory, GiB", _find_peak_gib(findings), MAX_MEMORY_GIB, is_upper_bound=True),
    ]


def find_memory_share(findings: Findings, contender: Contender) -> float:
    """Divide the steps per second of one guided job by those that reading what they need would allow."""
    middle = (PLACES[0] + PLACES[-1]) // 2
    step_bytes = count_step_bytes(findings.config.decoder, contender.precision, 2, middle, findings.text_tokens)
    return _find_pace(contender) * step_bytes / findings.bytes_per_s


def _divide(ours: Contender, theirs: Contender, jobs: int, aim: float | None = None) -> Ratio:
    pace = _find_pace(ours, jobs) / _find_pace(theirs, jobs)
    return Ratio(f"{ours.title} / {theirs.title}, {jobs} {'job' if jobs == 1 else 'jobs'}", pace, aim)


def _find_pace(contender: Contender, jobs: int = 1) -> float:
    pace = contender.find_steps_per_s(jobs)
    if pace is None:
        raise ValueError(f"{contender.title} was not measured with {jobs} jobs")
    return pace


def _find_peak_gib(findings: Findings) -> float:
    (job,) = findings.long_jobs
    return float(job["peak_bytes"]) / 2**30
