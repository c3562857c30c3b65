"""What `auto` stands for."""

import platform
import subprocess
import sys

import pytest
import torch

from nanolm import hardware
from nanolm.errors import ConfigError, NanolmWarning


@pytest.mark.parametrize(
    ("flags", "able"),
    [
        ("flags\t\t: fpu avx512f avx512_bf16 vaes", True),
        ("flags : amx_bf16 amx_tile", True),
        ("Features\t: fp asimd bf16", True),
        ("flags\t\t: fpu avx2 avx512f avx512_vnni", False),
        ("model name : bf16", False),
    ],
)
def test_flags(flags: str, able: bool) -> None:
    assert hardware.has_flag(flags, "bf16") is able


@pytest.mark.parametrize(("able", "precision"), [(True, "bf16"), (False, "fp32")])
def test_auto_precision_follows_the_flags(able: bool, precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "cpu_has", lambda kind: able)
    assert hardware.pick_precision("auto", torch.device("cpu")) == precision
    assert hardware.pick_precision("fp32", torch.device("cpu")) == "fp32"


def test_an_explicit_bf16_without_instructions_warns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "cpu_has", lambda kind: False)
    with pytest.warns(NanolmWarning, match="precision=bf16: this CPU lacks"):
        assert hardware.pick_precision("bf16", torch.device("cpu")) == "bf16"


def test_devices() -> None:
    assert hardware.pick_device("cpu") == torch.device("cpu")
    assert hardware.pick_device("auto").type in ("cpu", "cuda")
    for name in ("cuda:99", "nonsense"):
        with pytest.raises(ConfigError, match=f"^device={name}: "):
            hardware.pick_device(name)


def test_peak_memory_holds_what_was_held() -> None:
    lines = ["import torch; from nanolm.hardware import peak_memory; cpu = torch.device('cpu')"]
    lines += ["before = peak_memory(cpu); torch.ones(30_000_000).sum(); print(before, peak_memory(cpu))"]  # 120 MB more
    done = subprocess.run([sys.executable, "-c", "; ".join(lines)], capture_output=True, text=True, check=True)
    before, after = map(float, done.stdout.split())
    assert before > 50
    assert 80 < after - before < 200


FAULTS = """
import resource, torch
from nanolm.hardware import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        both = [torch.ones(7_000_000) for _ in range(2)]
        del both
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

found = [faults(), keep_freed_memory() or faults(), faults()]
print(*found)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="for glibc")
def test_freed_memory_is_kept() -> None:
    run = subprocess.run([sys.executable, "-c", FAULTS], check=True, capture_output=True, text=True)
    before, _, after = map(int, run.stdout.split())
    assert after < before / 10  # the kernel gives every page only once
