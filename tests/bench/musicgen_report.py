"""What ``tests.bench.musicgen`` measured, in Markdown: ratios first."""

import statistics
from collections.abc import Mapping
from typing import Final

from tests.bench.findings import Figures, Findings
from tests.bench.logits import Distance
from tests.bench.memory_reads import FLOAT_BYTES, count_read_weights
from tests.bench.musicgen_ratios import FASTEST, SIDES, find_memory_share, list_ratios
from tests.bench.positions import PLACES, SIDE_STEPS, STEPS
from tests.bench.section import Section, write_table
from tests.bench.timing import Contender

EARLY: Final = 64
LATE: Final = 1_400
LONG_S: Final = 30.0
SHORT_S: Final = 5.0
SHORT_JOBS: Final = 10
MINDNLP_STEPS: Final = 5
LOGITS_POSITIONS: Final = 128


def write_section(findings: Findings) -> Section:
    """Write it all."""
    parts = (_write_race, _write_profile, _write_job, _write_distances, _write_memory, _write_rest)
    body = "\n\n".join(write(findings) for write in parts)
    return Section(list_ratios(findings), body, f"memory read at {findings.bytes_per_s / 1e9:.1f} GB/s")


def _write_race(findings: Findings) -> str:
    """Write how many steps per second each makes, with how many jobs."""
    head = ["", "1 job", "its repeats", *(f"ms at {place}" for place in PLACES), "of what memory allows"]
    head += [*(f"{jobs} jobs" for jobs in SIDES), *(f"{jobs} jobs together" for jobs in SIDES), "peak GiB"]
    race = findings.race
    ours = (*race.openvino.values(), race.mindspore)
    rows = [
        [
            contender.title,
            _write_pace(contender.find_steps_per_s()),
            _write_repeats(contender),
            *(_write_ms(contender, place) for place in PLACES),
            f"{find_memory_share(findings, contender):.2f}" if contender in ours else "-",
            *(_write_pace(contender.find_steps_per_s(jobs)) for jobs in SIDES),
            *(_write_pace(contender.find_steps_per_s(jobs), jobs) for jobs in SIDES),
            f"{contender.peak_bytes / 2**30:.2f}",
        ]
        for contender in race.contenders
    ]
    frame_rate = findings.config.codec.frame_rate
    return (
        "### Steps per second\n\n"
        f"musicgen-small's shape, random weights, a text of {findings.text_tokens} tokens, guidance 3, top-k 250, "
        f"temperature 1; {frame_rate:g} steps are one second of music. Everyone has a process of its own, loaded all "
        f"the while, and takes turns; medians of {findings.repeats} repeats. One job: {STEPS} steps around each of the "
        f"positions {', '.join(map(str, PLACES))}, the whole loop with sampling, averaged over all positions between "
        "by trapezoids; what precedes was read beforehand (by transformers from `decoder_input_ids`). Its repeats: "
        f"the slowest and the fastest. Several jobs: as one batch, {SIDE_STEPS} steps from the start on. MindNLP takes "
        f"seconds for a step: {MINDNLP_STEPS - 2} of them at the start, once. What memory allows: the weights, keys "
        f"and values that a step reads, at the speed above; {count_read_weights(findings.config.decoder):,} weights. "
        "Peak: of the process, loading and files mapped into memory included; OpenVINO's from graphs that were "
        "kept.\n\n" + write_table(head, rows)
    )


def _write_pace(pace: float | None, jobs: int = 1) -> str:
    return "-" if pace is None else f"{pace * jobs:.2f}"


def _write_repeats(contender: Contender) -> str:
    repeats = contender.list_repeats()
    return f"{min(repeats):.2f} to {max(repeats):.2f}" if repeats else "-"


def _write_ms(contender: Contender, place: int) -> str:
    times_s = contender.windows_s.get(place)
    return f"{1_000 * statistics.median(times_s):.1f}" if times_s else "-"


def _write_profile(findings: Findings) -> str:
    """Write where the time of a step goes."""
    profile = findings.profile
    parts = dict(profile["parts"])
    step_s = parts.pop("step_s")
    nodes_s = {
        f"{kind}, {figures['count']} of them": figures["step_s"] for kind, figures in profile["nodes"].items()
    } | {"other operators": profile["others_s"]}
    between_s = profile["infer_s"] - sum(nodes_s.values())
    return (
        f"### Where an {FASTEST} step goes\n\n"
        "The loop, one guided job from its start on, medians (the network is OpenVINO's `infer`; the loop is what "
        "passes rows to it and tells of progress):\n\n"
        + _write_shares(parts, step_s)
        + f"\n\nThe network, around position {PLACES[1]}, with the counting of its operators' times on:\n\n"
        + _write_shares(nodes_s | {"between operators": between_s}, profile["infer_s"])
    )


def _write_job(findings: Findings) -> str:
    """Write where the time of a job goes."""
    job = findings.job
    parts: Mapping[str, float] = job["parts"]
    pace = findings.config.codec.frame_rate * job["duration_s"] / parts["decoding"]
    return (
        f"### Where a job of {job['duration_s']:.0f} s goes\n\n"
        f"One guided job, alone, by the engine ({job['engine']}, {job['precision']}), the model being loaded, loudness "
        f"`lufs`, files and checkpoints synced to the disk as in a worker; {pace:.1f} frames decoded per second:\n\n"
        + _write_shares(parts, sum(parts.values()))
    )


def _write_shares(parts: Mapping[str, float], whole_s: float) -> str:
    rows = [[name, f"{1_000 * seconds:.2f}", f"{seconds / whole_s:.1%}"] for name, seconds in parts.items()]
    return write_table(["", "ms", "share"], [*rows, ["all", f"{1_000 * whole_s:.2f}", "100%"]])


def _write_distances(findings: Findings) -> str:
    """Write what fewer bits change."""
    rows = [
        [precision, *_write_distance(findings.full_size[precision]), *_write_distance(findings.fixtures[precision])]
        for precision in findings.full_size
    ]
    head = ["", "full size: error", "equal tokens", "fixtures: error", "equal tokens"]
    return (
        "### What fewer bits change\n\n"
        "Guided logits beside float32, both by OpenVINO, both reading the same tokens: root mean square of the "
        "difference over that of the logits, and the share of greedy tokens that are the same. At full size over "
        f"{LOGITS_POSITIONS} positions; with the tiny models, the average of all cases in `tests/references`. Random "
        "weights have no outliers, and nearly equal logits for many tokens: real ones differ in both.\n\n"
        + write_table(head, rows)
    )


def _write_distance(distance: Distance) -> tuple[str, str]:
    return f"{distance.error:.4f}", f"{distance.equal:.1%}"


def _write_memory(findings: Findings) -> str:
    """Write what jobs take of the memory, and whether a late step takes longer by more than what it reads."""
    (long_job,) = findings.long_jobs
    sizes = [job["rss_bytes"] for job in findings.short_jobs]
    listed = ", ".join(f"{size / 2**20:.0f}" for size in sizes)
    long_line = (
        f"a guided job of {LONG_S:.0f} s, by the engine ({long_job['engine']}): peak "
        f"{long_job['peak_bytes'] / 2**30:.2f} GiB, all but its last tokens resumed, so that the caches have their "
        "full size"
    )
    short_line = (
        f"{SHORT_JOBS} such jobs of {SHORT_S:.0f} s in a row: the process grows by "
        f"{(sizes[-1] - sizes[1]) / 2**20:+.0f} MiB from the 2nd to the last; after each, MiB: {listed}"
    )
    lines = [long_line, short_line, *_write_places(findings)]
    return "### Memory\n\n" + "\n".join(f"- {line}" for line in lines)


def _write_places(findings: Findings) -> list[str]:
    weights_bytes = FLOAT_BYTES * count_read_weights(findings.config.decoder)
    early, late = findings.places["early"], findings.places["late"]
    lines = []
    for position, place in ((EARLY, early), (LATE, late)):
        read_bytes = weights_bytes + place["cache_bytes"]
        bytes_per_s = read_bytes / place["step_s"]
        lines.append(
            f"a MindSpore step of {SIDES[-1]} guided jobs, the network alone, caches full, at position {position:,}: "
            f"{1_000 * place['step_s']:.0f} ms for {read_bytes / 1e9:.2f} GB (room for {place['capacity']:,} "
            f"positions), {bytes_per_s / 1e9:.1f} GB/s, {bytes_per_s / findings.bytes_per_s:.2f} of the memory's speed"
        )
    more_s = late["step_s"] - early["step_s"]
    least_s = (late["cache_bytes"] - early["cache_bytes"]) / findings.bytes_per_s
    lines.append(
        f"late minus early: {more_s / least_s:.2f} times what reading the larger caches takes ({1_000 * more_s:.0f} "
        f"and {1_000 * least_s:.0f} ms); with a copy of them at each write it would be more than 3"
    )
    return lines


def _write_rest(findings: Findings) -> str:
    """Write the rest, a line each."""
    decode_s = {who.title: statistics.median(who.decode_s) for who in findings.race.contenders if who.decode_s}
    decoders = ", ".join(f"{title} {seconds:.2f} s" for title, seconds in decode_s.items())
    readers = ", ".join(f"{title} {frames:.0f}" for title, frames in findings.reading.items())
    lines = [
        _write_start("the first start, which compiles", findings.cold),
        _write_start("the second, which finds kept graphs", findings.second),
        f"EnCodec decodes 10 s: {decoders} (in float32, whatever the decoder computes in)",
        f"known positions, 10 s of audio prompt, frames/s for one row, of which a guided job has two: {readers}",
    ]
    return "### Starts, EnCodec, known positions\n\n" + "\n".join(f"- {line}" for line in lines)


def _write_start(name: str, start: Figures) -> str:
    return (
        f"{FASTEST}, {name}, the model's file being cached: {start['load_s']:.1f} s from nothing to loaded, "
        f"{start['first_step_s']:.1f} s more to the first step's end, peak {start['peak_bytes'] / 2**30:.2f} GiB"
    )
