"""What several tests share: a real browser, and no GPU: tests compare to the bit, which a GPU's sums don't promise."""

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

os.environ["CUDA_VISIBLE_DEVICES"] = ""


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
