"""The offered precisions are derived from the flags of the processor, and agree with what OpenVINO itself reports."""

from pathlib import Path

import openvino
import pytest

from shared.kinds.musicgen.parameters import Precision
from worker.engines.musicgen.backends import processor
from worker.engines.musicgen.backends.processor import (
    CPU_INFO,
    choose_openvino_precisions,
    list_openvino_precisions,
    read_processor_flags,
)

AVX2 = frozenset({"fpu", "sse4_2", "avx", "avx2", "fma", "f16c"})
AVX512 = AVX2 | {"avx512f", "avx512bw", "avx512vl", "avx512dq"}
ALL = (Precision.INT8, Precision.INT4, Precision.BFLOAT16, Precision.FLOAT32)
WITHOUT_BFLOAT16 = (Precision.INT8, Precision.INT4, Precision.FLOAT32)


@pytest.mark.parametrize(
    ("flags", "precisions"),
    [
        pytest.param(frozenset(), WITHOUT_BFLOAT16, id="unknown"),
        pytest.param(AVX2, WITHOUT_BFLOAT16, id="AVX2"),
        pytest.param(AVX2 | {"avx_vnni"}, WITHOUT_BFLOAT16, id="AVX2 with VNNI"),
        pytest.param(AVX2 | {"avx_vnni", "avx_ne_convert"}, ALL, id="AVX2 with bfloat16"),
        pytest.param(AVX2 | {"avx512f"}, WITHOUT_BFLOAT16, id="AVX-512 foundation alone"),
        pytest.param(AVX512, ALL, id="AVX-512"),
        pytest.param(AVX512 | {"avx512_bf16", "amx_bf16"}, ALL, id="AVX-512 with bfloat16"),
    ],
)
def test_offered_precisions_depend_on_the_flags_of_the_processor(
    flags: frozenset[str], precisions: tuple[Precision, ...]
) -> None:
    assert choose_openvino_precisions(flags) == precisions


def test_bfloat16_is_offered_on_this_machine_exactly_if_openvino_reports_support() -> None:
    capabilities = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    assert (Precision.BFLOAT16 in list_openvino_precisions()) == ("BF16" in capabilities)


@pytest.mark.parametrize(
    ("cpu_info", "flags"),
    [
        pytest.param(
            "processor\t: 0\nflags\t\t: fpu avx2 fma\nbugs\t\t: none\n\nprocessor\t: 1\nflags\t\t: fpu avx2 fma\n",
            {"fpu", "avx2", "fma"},
            id="x86",
        ),
        pytest.param("processor\t: 0\nFeatures\t: fp asimd\n", {"fp", "asimd"}, id="Arm"),
        pytest.param("processor\t: 0\n", set(), id="none"),
        pytest.param("", set(), id="empty"),
    ],
)
def test_flags_are_read_from_the_description_of_the_processor(cpu_info: str, flags: set[str]) -> None:
    assert read_processor_flags(cpu_info) == flags


def test_the_flags_of_this_machine_are_found() -> None:
    assert read_processor_flags(CPU_INFO.read_text())


def test_bfloat16_is_not_offered_if_the_description_of_the_processor_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processor, "CPU_INFO", tmp_path / "missing")
    assert list_openvino_precisions.__wrapped__() == WITHOUT_BFLOAT16
