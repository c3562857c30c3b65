"""What several tests share: a real browser, a machine without a W&B account, one precision, and no GPU.

A GPU's sums promise no bits.

`precision=auto` means fp32 in the tests, whatever the CPU has; NANOLM_TEST_PRECISION=bf16 makes it bf16, right on any
CPU and slow on most.
"""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nanolm import hardware

os.environ["CUDA_VISIBLE_DEVICES"] = ""
PRECISION = os.environ.get("NANOLM_TEST_PRECISION", "fp32")
instructions = hardware.cpu_has
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc, or takes away what Linux has")
collect_ignore = ["test_ending.py", "test_parallel.py"] if os.name == "nt" else []  # they are about signals
posix_only = pytest.mark.skipif(os.name == "nt", reason="needs POSIX's signals, links or pipes")


def pytest_configure() -> None:
    """Lets `precision=auto` find what the tests were asked to run in."""
    if PRECISION not in ("fp32", "bf16"):
        pytest.exit(f"NANOLM_TEST_PRECISION={PRECISION}: must be fp32 or bf16", returncode=4)
    hardware.cpu_has = lambda kind: PRECISION == "bf16" if kind == "bf16" else instructions(kind)  # type: ignore[assignment]


@pytest.fixture
def no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than a tiny training; test_training.py draws."""
    monkeypatch.setattr("nanolm.training.report.draw_curves", lambda *_: None)


@pytest.fixture
def no_wandb_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No key, no account, no W&B variables of the machine's."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Headless Chromium, started once."""
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not program or not driver:
        pytest.skip("needs chromium and chromedriver")
    selenium = pytest.importorskip("selenium.webdriver")
    options = selenium.ChromeOptions()
    options.binary_location = program
    names = ["headless", "no-sandbox", "disable-gpu", "no-first-run", "disable-background-networking"]
    names += ["disable-component-update", "disable-sync", f"user-data-dir={tmp_path_factory.mktemp('chromium')}"]
    for name in names:
        options.add_argument(f"--{name}")
    found = selenium.Chrome(options, selenium.ChromeService(driver))
    yield found
    found.quit()


@pytest.fixture
def browser(chromium: Any) -> Any:
    """Chromium on an empty page; what the page before it had to say when its server went is forgotten."""
    chromium.get("about:blank")
    chromium.get_log("browser")
    return chromium
