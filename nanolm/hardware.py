"""What this machine can do: the device and the precision that a config's `auto` stands for; what memory a run took.

In: the words of the config. Out: a torch.device, "fp32" or "bf16", megabytes. bf16 on a CPU without AVX512-BF16 or AMX
runs up to hundreds of times slower than fp32, so `auto` never picks it there.
"""

import ctypes
import platform
import re
import warnings
from functools import cache
from pathlib import Path

import psutil
import torch

from nanolm.config import one_of
from nanolm.errors import ConfigError, NanolmWarning

FLAGS = {  # of instructions for such products: x86, then Arm
    "bf16": {"avx512_bf16", "amx_bf16", "bf16"},
    "int8": {"avx2", "avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"},
    "wide int8": {"avx512_vnni"},  # whose sums of products of 8 bits each can't overflow
}


def has_flag(cpuinfo: str, kind: str) -> bool:
    """Whether the text of /proc/cpuinfo names an instruction set for products of `kind`, of FLAGS."""
    lines = [line.split() for line in cpuinfo.lower().splitlines() if line.startswith(("flags", "features"))]
    return any(FLAGS[kind] & set(words) for words in lines)


@cache
def cpu_has(kind: str) -> bool:
    """Whether this CPU has instructions for products of `kind`, of FLAGS; False where it can't be told."""
    if platform.system() == "Linux":
        return has_flag(Path("/proc/cpuinfo").read_text("utf-8", "replace"), kind)
    apple = (platform.system(), platform.machine()) == ("Darwin", "arm64")
    return kind == "int8" and (apple or torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512"))


def has_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bf16 natively: a CPU with the instructions, NVIDIA's GPUs from Ampere on, AMD's."""
    if device.type == "cuda":
        return bool(torch.version.hip) or torch.cuda.get_device_capability(device) >= (8, 0)
    return device.type == "cpu" and cpu_has("bf16")


def pick_device(name: str) -> torch.device:
    """`auto`: the first GPU if there is one, else the CPU; any other name must be a device that torch can use."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"device={name}: torch can't use it here; try device=auto or device=cpu") from error
    return torch.device(name)


def pick_precision(name: str, device: torch.device) -> str:
    """`fp32` or `bf16`: `auto` is bf16 on a GPU or CPU with instructions for it; an explicit bf16 elsewhere warns."""
    one_of("precision", name, ("auto", "fp32", "bf16"))
    able = has_bf16(device)
    if name == "auto":
        return "bf16" if able else "fp32"
    if name == "bf16" and not able:
        why = "this CPU lacks the instructions" if device.type == "cpu" else f"{device.type} may lack the instructions"
        warnings.warn(f"precision=bf16: {why}; it may be slower than fp32", NanolmWarning, stacklevel=2)
    return name


def peak_memory(device: torch.device) -> float:
    """Megabytes: the most that this process has held at once; on a GPU with a memory of its own, the most that its
    tensors took there."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    memory = psutil.Process().memory_info()
    if hasattr(memory, "peak_wset"):  # Windows
        return float(memory.peak_wset / 1e6)
    if platform.system() == "Linux":  # where ru_maxrss begins with that of the process that started this one
        (line,) = re.findall(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text("utf-8"))
        return int(line) * 1024 / 1e6
    import resource  # not on Windows

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # macOS counts bytes


def keep_freed_memory() -> None:
    """Has glibc keep up to 2 GB of what is freed: every step wants the same again, and the kernel took 6% of one
    at 512 dims to hand out new pages. Other C libraries stay as they are."""
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(-3, 2**25)  # M_MMAP_THRESHOLD, the most it takes: larger ones still go back at once
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD


def give_back_memory() -> None:
    """Has glibc hand what it keeps back to the kernel: other things than before are wanted next."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


def total_memory() -> int:
    """Bytes of memory that this machine has."""
    return int(psutil.virtual_memory().total)


def check_quantize(name: str | None, device: torch.device) -> None:
    """None, `bf16` or `int8`, which is for the CPU; warns where it may be slower than fp32. Raises ConfigError."""
    one_of("quantize", name, (None, "bf16", "int8"))
    if name == "int8" and device.type != "cpu":
        raise ConfigError(f"quantize=int8: is for the CPU, not {device.type}; give quantize=bf16, or device=cpu")
    if name and device.type == "cpu" and not cpu_has(name):
        line = f"quantize={name}: this CPU lacks the instructions, so it saves memory but may be slower than fp32"
        warnings.warn(line, NanolmWarning, stacklevel=2)
