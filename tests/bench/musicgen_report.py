"""Formats the results of ``tests.bench.musicgen`` in Markdown."""

import statistics
from collections.abc import Mapping
from typing import Final

from tests.bench.implementation import Implementation
from tests.bench.logits import LogitDifference
from tests.bench.memory_reads import FLOAT_BYTES, count_read_weights
from tests.bench.musicgen_ratios import BATCH_SIZES, DEFAULT_PRECISION, find_memory_share, list_ratios
from tests.bench.musicgen_results import Figures, Results
from tests.bench.section import Section, format_table
from tests.bench.workload import BATCH_STEPS, STEPS, TIMED_POSITIONS

EARLY_POSITION: Final = 64
LATE_POSITION: Final = 1_400
LONG_S: Final = 30.0
SHORT_S: Final = 5.0
SHORT_JOBS: Final = 10
MINDNLP_STEPS: Final = 5
LOGITS_POSITIONS: Final = 128


def format_section(results: Results) -> Section:
    """Format all results."""
    parts = (_format_speeds, _format_profile, _format_job, _format_differences, _format_memory, _format_rest)
    body = "\n\n".join(format_part(results) for format_part in parts)
    return Section(list_ratios(results), body, f"memory read at {results.bytes_per_s / 1e9:.1f} GB/s")


def _format_speeds(results: Results) -> str:
    """Format the steps per second of each implementation, with one job and with several jobs."""
    head = ["", "1 job", "its repeats", *(f"ms at {position}" for position in TIMED_POSITIONS), "of what memory allows"]
    head += [*(f"{jobs} jobs" for jobs in BATCH_SIZES), *(f"{jobs} jobs together" for jobs in BATCH_SIZES), "peak GiB"]
    implementations = results.implementations
    own = (*implementations.openvino.values(), implementations.mindspore)
    rows = [
        [
            each.title,
            _format_rate(each.find_steps_per_s()),
            _format_repeats(each),
            *(_format_position(each, position) for position in TIMED_POSITIONS),
            f"{find_memory_share(results, each):.2f}" if each in own else "-",
            *(_format_rate(each.find_steps_per_s(jobs)) for jobs in BATCH_SIZES),
            *(_format_rate(each.find_steps_per_s(jobs), jobs) for jobs in BATCH_SIZES),
            f"{each.peak_bytes / 2**30:.2f}",
        ]
        for each in implementations.all
    ]
    frame_rate = results.config.codec.frame_rate
    text = (
        f"musicgen-small's size, random weights, a text of {results.text_tokens} tokens, guidance 3, top-k 250, "
        f"temperature 1; {frame_rate:g} steps are one second of music. Each implementation has a process of its own, "
        f"which stays loaded, and they take turns; medians of {results.repeats} repeats. 1 job: {STEPS} steps around "
        f"each of the positions {', '.join(map(str, TIMED_POSITIONS))}, the whole loop with sampling, averaged over "
        "all positions by the trapezoidal rule; the positions before were read untimed (by transformers from "
        "`decoder_input_ids`). Its repeats: the slowest and the fastest. Several jobs: as one batch, "
        f"{BATCH_STEPS} steps from the start on. MindNLP takes seconds for a step: {MINDNLP_STEPS - 2} of them at the "
        "start, measured once. What memory allows: reading the weights, keys and values of a step at the speed above; "
        f"{count_read_weights(results.config.decoder):,} weights. Peak: of the process, including loading and "
        "memory-mapped files; OpenVINO's with compiled graphs from the disk."
    )
    return "\n\n".join(("### Steps per second", text + _format_unsupported(results), format_table(head, rows)))


def _format_unsupported(results: Results) -> str:
    if not results.unsupported:
        return ""
    titles = ", ".join(f"OpenVINO {precision}" for precision in results.unsupported)
    return f" Not measured, because this processor does not support it: {titles}."


def _format_rate(steps_per_s: float | None, jobs: int = 1) -> str:
    return "-" if steps_per_s is None else f"{steps_per_s * jobs:.2f}"


def _format_repeats(implementation: Implementation) -> str:
    repeats = implementation.list_repeats()
    return f"{min(repeats):.2f} to {max(repeats):.2f}" if repeats else "-"


def _format_position(implementation: Implementation, position: int) -> str:
    times_s = implementation.position_s.get(position)
    return f"{1_000 * statistics.median(times_s):.1f}" if times_s else "-"


def _format_profile(results: Results) -> str:
    """Format how the time of a step is divided."""
    profile = results.profile
    parts = dict(profile["parts"])
    step_s = parts.pop("step_s")
    nodes_s = {
        f"{kind}, {figures['count']} of them": figures["step_s"] for kind, figures in profile["nodes"].items()
    } | {"other operators": profile["others_s"]}
    between_s = profile["infer_s"] - sum(nodes_s.values())
    return (
        f"### Where an {DEFAULT_PRECISION} step goes\n\n"
        "The loop: one guided job from its start on, medians (network is OpenVINO's `infer`; loop is what passes slots "
        "to it and reports progress):\n\n"
        + _format_shares(parts, step_s)
        + f"\n\nThe network: around position {TIMED_POSITIONS[1]}, while OpenVINO measures its operators:\n\n"
        + _format_shares(nodes_s | {"between operators": between_s}, profile["infer_s"])
    )


def _format_job(results: Results) -> str:
    """Format how the time of a job is divided."""
    job = results.job
    parts: Mapping[str, float] = job["parts"]
    frames_per_s = results.config.codec.frame_rate * job["duration_s"] / parts["decoding"]
    return (
        f"### Where a job of {job['duration_s']:.0f} s goes\n\n"
        f"One guided job alone, run by the engine ({job['backend']}, {job['precision']}) with the model loaded, "
        "loudness `lufs`, files and checkpoints synced to the disk as in a worker; "
        f"{frames_per_s:.1f} frames decoded per second:\n\n" + _format_shares(parts, sum(parts.values()))
    )


def _format_shares(parts: Mapping[str, float], whole_s: float) -> str:
    rows = [[name, f"{1_000 * seconds:.2f}", f"{seconds / whole_s:.1%}"] for name, seconds in parts.items()]
    return format_table(["", "ms", "share"], [*rows, ["all", f"{1_000 * whole_s:.2f}", "100%"]])


def _format_differences(results: Results) -> str:
    """Format how much the logits of the lower precisions differ from those of float32."""
    rows = [
        [
            precision,
            *_format_difference(results.full_size[precision]),
            *_format_difference(results.references[precision]),
        ]
        for precision in results.full_size
    ]
    head = ["", "full size: error", "equal tokens", "references: error", "equal tokens"]
    return (
        "### What fewer bits change\n\n"
        "Guided logits compared with float32, both computed by OpenVINO from the same tokens: the root mean square of "
        "the difference divided by that of the logits, and the share of greedy tokens that are equal. At full size "
        f"over {LOGITS_POSITIONS} positions; with the tiny models, the average over all cases of `tests/references`. "
        "Random weights have no outliers, and give many tokens nearly equal logits: real weights differ in both.\n\n"
        + format_table(head, rows)
    )


def _format_difference(difference: LogitDifference) -> tuple[str, str]:
    return f"{difference.relative_error:.4f}", f"{difference.equal_tokens:.1%}"


def _format_memory(results: Results) -> str:
    """Format how much memory jobs take, and whether a late step takes longer only because it reads larger caches."""
    (long_job,) = results.long_jobs
    sizes = [job["rss_bytes"] for job in results.short_jobs]
    listed = ", ".join(f"{size / 2**20:.0f}" for size in sizes)
    long_line = (
        f"a guided job of {LONG_S:.0f} s, run by the engine ({long_job['backend']}): peak "
        f"{long_job['peak_bytes'] / 2**30:.2f} GiB; it resumes with all but its last tokens known, so that the caches "
        "have their full size"
    )
    short_line = (
        f"{SHORT_JOBS} such jobs of {SHORT_S:.0f} s one after another: the process grows by "
        f"{(sizes[-1] - sizes[1]) / 2**20:+.0f} MiB from the 2nd to the last; after each, MiB: {listed}"
    )
    lines = [long_line, short_line, *_format_full_caches(results)]
    return "### Memory\n\n" + "\n".join(f"- {line}" for line in lines)


def _format_full_caches(results: Results) -> list[str]:
    weights_bytes = FLOAT_BYTES * count_read_weights(results.config.decoder)
    early, late = results.full_caches["early"], results.full_caches["late"]
    lines = []
    for position, figures in ((EARLY_POSITION, early), (LATE_POSITION, late)):
        read_bytes = weights_bytes + figures["cache_bytes"]
        bytes_per_s = read_bytes / figures["step_s"]
        lines.append(
            f"a MindSpore step of {BATCH_SIZES[-1]} guided jobs, the network alone, caches full, at position "
            f"{position:,}: {1_000 * figures['step_s']:.0f} ms for {read_bytes / 1e9:.2f} GB (room for "
            f"{figures['capacity']:,} positions), {bytes_per_s / 1e9:.1f} GB/s, "
            f"{bytes_per_s / results.bytes_per_s:.2f} of the memory's speed"
        )
    more_s = late["step_s"] - early["step_s"]
    read_s = (late["cache_bytes"] - early["cache_bytes"]) / results.bytes_per_s
    lines.append(
        f"late minus early: {more_s / read_s:.2f} times what reading the larger caches takes ({1_000 * more_s:.0f} "
        f"and {1_000 * read_s:.0f} ms); if each write copied them, it would be more than 3"
    )
    return lines


def _format_rest(results: Results) -> str:
    """Format the starts, the decoding of EnCodec, and the reading of known positions, one line each."""
    decode_s = {each.title: statistics.median(each.decode_s) for each in results.implementations.all if each.decode_s}
    decoders = ", ".join(f"{title} {seconds:.2f} s" for title, seconds in decode_s.items())
    prefill = ", ".join(f"{title} {frames:.0f}" for title, frames in results.prefill.items())
    lines = [
        _format_start("the first start, which compiles the graphs and measures the batch size", results.first_start),
        _format_start("the second, which finds both on the disk", results.second_start),
        f"EnCodec decodes 10 s: {decoders} (in float32, in whatever precision the decoder computes)",
        f"known positions, 10 s of audio prompt, frames/s of one slot; a guided job has two: {prefill}",
    ]
    return "### Starts, EnCodec, known positions\n\n" + "\n".join(f"- {line}" for line in lines)


def _format_start(name: str, start: Figures) -> str:
    return (
        f"{DEFAULT_PRECISION}, {name}, with the model's file in the page cache: {start['load_s']:.1f} s until it is "
        f"loaded, {start['first_step_s']:.1f} s more until the end of the first step, peak "
        f"{start['peak_bytes'] / 2**30:.2f} GiB"
    )
