"""How much memory the samples of one job take together, compared with a job of one sample."""

import sys
import tempfile
from pathlib import Path
from typing import Final

from tests.bench.measured_process import collect_errors, run_command, run_in_process
from tests.bench.progress import log_progress
from tests.bench.section import Ratio, Section
from worker.engines.musicgen.model.builtin_model import build_tiny

SAMPLES: Final = 64
DURATION_S: Final = 10.0
MAX_GROWTH_MIB: Final = 60.0


def run() -> Section:
    """Measure the peak memory of two guided jobs of the built-in model, each in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="mj-bench-") as home:
        model, compiled = Path(home, "tiny"), Path(home, "compiled")
        run_in_process(build_tiny, model)
        one_mib, many_mib = (_find_peak_mib(model, compiled, samples) for samples in (1, SAMPLES))
    title = f"{SAMPLES} samples of {DURATION_S:.0f} s in one guided job: peak above one sample, MiB"
    body = (
        "### Samples of one job\n\n"
        f"- the built-in model, {DURATION_S:.0f} s: peak {one_mib:.0f} MiB with one sample, {many_mib:.0f} MiB with "
        f"{SAMPLES}; each sample is written before the next one is decoded"
    )
    return Section([Ratio(title, many_mib - one_mib, MAX_GROWTH_MIB, is_upper_bound=True)], body)


def _find_peak_mib(model: Path, compiled: Path, samples: int) -> float:
    log_progress(f"memory of {samples} samples")
    command = (sys.executable, "-m", "tests.bench.own_memory", model, compiled)
    with collect_errors() as errors:
        (job,) = run_command(errors, *command, "--duration-s", DURATION_S, "--samples", samples)
    return float(job["peak_bytes"]) / 2**20


if __name__ == "__main__":
    sys.stdout.write(run().format())
