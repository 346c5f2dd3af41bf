"""What ``tests.bench.musicgen`` measured, in Markdown: ratios first."""

import statistics
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, Final

from tests.bench.memory_reads import FLOAT_BYTES, count_cache_bytes, count_read_weights
from worker.engines.musicgen.configuration import DecoderConfig
from worker.engines.musicgen.network.shapes import CAPACITIES

JOBS: Final = (1, 4, 8)
STEPS: Final = 24
REPEATS: Final = 3
MINDNLP_STEPS: Final = 5
EARLY: Final = 64
LATE: Final = 1_400
LONG_S: Final = 30.0
SHORT_S: Final = 5.0
SHORT_JOBS: Final = 10

AIMS: Final = {"transformers, float32": " (aim: 2)", "MindNLP, float32": " (aim: 40)"}

Figures = dict[str, Any]


@dataclass
class Contender:
    """A way to generate, and what was measured of it: per number of jobs, the steps/s of each repeat."""

    title: str
    steps_per_s: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))
    decode_s: list[float] = field(default_factory=list)
    peak_bytes: int = 0

    def find_median(self, jobs: int) -> float | None:
        """Return the median of the repeats, each of which is a median of steps."""
        return statistics.median(self.steps_per_s[jobs]) if jobs in self.steps_per_s else None


@dataclass(frozen=True)
class Findings:
    """All that was measured.

    Parameters
    ----------
    config
        The model's decoder.
    contenders
        Ours, transformers in float32 and in bfloat16, and MindNLP.
    bytes_per_s
        How fast the machine reads memory.
    starts, reading, places
        As ``native_steps`` tells them.
    long_jobs, short_jobs
        As ``native_memory`` tells them, one by one.
    """

    config: DecoderConfig
    contenders: list[Contender]
    bytes_per_s: float
    starts: Figures
    reading: Figures
    places: Figures
    long_jobs: list[Figures]
    short_jobs: list[Figures]


def write_report(findings: Findings) -> str:
    """Write it all."""
    return "\n\n".join((_write_race(findings), _write_places(findings), _write_rest(findings)))


def _write_race(findings: Findings) -> str:
    """Write how many steps per second each makes, with how many jobs."""
    ours, *peers = findings.contenders
    medians = [ours.find_median(jobs) or 0.0 for jobs in JOBS]
    limits = {name: _find_limits(findings, size) for name, size in (("float32", 4), ("bfloat16", 2))}
    rows = [["", *(f"{jobs} {'job' if jobs == 1 else 'jobs'}" for jobs in JOBS), "peak memory GiB"]]
    rows.append(["---", *("---:" for _ in JOBS), "---:"])
    rows += [[f"ours / {peer.title}{AIMS.get(peer.title, '')}", *_divide(ours, peer), "-"] for peer in peers]
    shares = [f"{median / limit:.2f}" for median, limit in zip(medians, limits["float32"], strict=True)]
    rows.append(["ours / the memory's limit, float32", *shares, "-"])
    for contender in findings.contenders:
        cells = ["-" if median is None else f"{median:.2f}" for median in map(contender.find_median, JOBS)]
        rows.append([f"{contender.title}, steps/s", *cells, f"{contender.peak_bytes / 2**30:.2f}"])
    together = [f"{median * jobs:.1f}" for median, jobs in zip(medians, JOBS, strict=True)]
    rows.append([f"{ours.title}, steps/s of all jobs together", *together, "-"])
    rows += [
        [f"the memory's limit, {name}, steps/s", *(f"{limit:.1f}" for limit in row), "-"]
        for name, row in limits.items()
    ]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return (
        "musicgen-small's shape, random weights. Guided steps per second, two rows a job, top-k 250 with us and "
        f"MindNLP, 50 with transformers; medians of {STEPS - 1} steps, the first left out, and of {REPEATS} repeats "
        f"in turn. MindNLP takes seconds for a step: {MINDNLP_STEPS - 2} of them, once, of 1 job. All cores together "
        f"read memory at {findings.bytes_per_s / 1e9:.1f} GB/s; its limit is what a step reads, "
        f"{count_read_weights(findings.config):,} weights and {CAPACITIES[0]} positions of keys and values, at that "
        "speed. Peak memory: of the process with the most jobs, model included.\n\n" + table
    )


def _divide(ours: Contender, peer: Contender) -> list[str]:
    pairs = [(ours.find_median(jobs), peer.find_median(jobs)) for jobs in JOBS]
    return ["-" if not mine or not theirs else f"{mine / theirs:.2f}" for mine, theirs in pairs]


def _find_limits(findings: Findings, number_bytes: int) -> list[float]:
    """Find how many steps per second the memory allows, per number of jobs."""
    config = findings.config
    numbers = [
        count_read_weights(config) + count_cache_bytes(config, 2 * jobs, CAPACITIES[0]) // FLOAT_BYTES for jobs in JOBS
    ]
    return [findings.bytes_per_s / (number_bytes * count) for count in numbers]


def _write_places(findings: Findings) -> str:
    """Write whether a step at a late position takes longer by more than what it reads."""
    weights_bytes = FLOAT_BYTES * count_read_weights(findings.config)
    early, late = findings.places["early"], findings.places["late"]
    lines = [f"A step of {JOBS[-1]} guided jobs, the network alone, with caches that are full:", ""]
    for position, place in ((EARLY, early), (LATE, late)):
        read_bytes = weights_bytes + place["cache_bytes"]
        bytes_per_s = read_bytes / place["step_s"]
        lines.append(
            f"- at position {position:,}: {1_000 * place['step_s']:.0f} ms for {read_bytes / 1e9:.2f} GB (room for "
            f"{place['capacity']:,} positions), {bytes_per_s / 1e9:.1f} GB/s, "
            f"{bytes_per_s / findings.bytes_per_s:.2f} of the memory's speed"
        )
    more_s = late["step_s"] - early["step_s"]
    least_s = (late["cache_bytes"] - early["cache_bytes"]) / findings.bytes_per_s
    lines.append(
        f"- late minus early: {more_s / least_s:.2f} times what reading the larger caches takes ({1_000 * more_s:.0f} "
        f"and {1_000 * least_s:.0f} ms); with a copy of them at each write it would be more than 3"
    )
    return "\n".join(lines)


def _write_rest(findings: Findings) -> str:
    """Write the rest, a line each."""
    ours, theirs, *_ = findings.contenders
    decode_s, peer_s = statistics.median(ours.decode_s), statistics.median(theirs.decode_s)
    frames_per_s = findings.reading["frames_per_s"]
    compile_s = [f"{seconds:.1f} ({capacity})" for capacity, seconds in findings.starts["compile_s"].items()]
    (long_job,) = findings.long_jobs
    sizes = [job["rss_bytes"] for job in findings.short_jobs]
    return "\n".join(
        (
            (
                f"- EnCodec decodes 10 s {peer_s / decode_s:.2f} times as fast as transformers in float32: "
                f"{decode_s:.2f} s, {peer_s:.2f} s; the first time {findings.starts['first_decode_s']:.1f} s"
            ),
            (
                f"- known positions, 10 s of audio prompt: {frames_per_s:.0f} frames/s for one row, "
                f"{frames_per_s / 2:.0f} for a guided job's two"
            ),
            (
                f"- from nothing to loaded: {findings.starts['load_s']:.1f} s (its file being cached); from there "
                f"to the first step's end, what is compiled for it included: {findings.starts['first_step_s']:.1f} s"
            ),
            f"- compiling the step of one guided job, s (positions that it has room for): {', '.join(compile_s)}",
            (
                f"- a guided job of {LONG_S:.0f} s, by the engine: peak {long_job['peak_bytes'] / 2**30:.2f} GiB (aim: "
                "less than 6), all but its last tokens resumed, so that the caches have their full size"
            ),
            (
                f"- {SHORT_JOBS} such jobs of {SHORT_S:.0f} s in a row: the process grows by "
                f"{(sizes[-1] - sizes[1]) / 2**20:+.0f} MiB from the 2nd to the last; after each, MiB: "
                f"{', '.join(f'{size / 2**20:.0f}' for size in sizes)}"
            ),
        )
    )
