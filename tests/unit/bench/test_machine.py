"""How the report names the processor."""

import pytest

from tests.bench.machine import describe_machine, describe_processor

CPU_INFO = (
    "processor\t: 0\nmodel name\t: Example 9000\nflags\t\t: fpu {flags}\nprocessor\t: 1\nmodel name\t: Example 9000\n"
)


@pytest.mark.parametrize(
    ("flags", "described"),
    [
        ("avx avx2", "AVX2; without AVX-512F, VNNI, BF16, AMX"),
        ("avx2 avx_vnni", "AVX2, VNNI; without AVX-512F, BF16, AMX"),
        ("avx2 avx512f avx512_vnni", "AVX2, AVX-512F, VNNI; without BF16, AMX"),
        ("avx2 avx512f avx512_vnni avx512_bf16 amx_tile amx_int8", "AVX2, AVX-512F, VNNI, BF16, AMX"),
        ("sse2", "without AVX2, AVX-512F, VNNI, BF16, AMX"),
    ],
)
def test_processor_is_named_with_its_instruction_sets(flags: str, described: str) -> None:
    assert describe_processor(CPU_INFO.format(flags=flags)) == f"Example 9000 ({described})"


def test_processor_without_information_is_unknown() -> None:
    assert describe_processor("") == "unknown processor"


def test_machine_is_described_with_processor_and_memory() -> None:
    description = describe_machine()
    assert " cores, " in description
    assert " GiB, " in description
