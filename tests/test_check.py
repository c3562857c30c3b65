"""`make check` tells a result that is promised from one that isn't."""

import re

import pytest

from benchmarks import check

SMALL = ["data.plots=80", "data.val=0.2", "data.test=0.2", "tokens=300", "model.dims=16", "model.nblocks=1"]


@pytest.mark.slow
def test_it_says_whether_the_result_is_the_promised_one(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert check.main(SMALL) == 1
    found = re.search(
        r"NOT AS PROMISED: test ([\d.]+) bits per byte, 0\.\d+ \+- 0\.\d+ expected", capfd.readouterr().out
    )
    assert found
    monkeypatch.setattr(check, "PROMISED", float(found[1]))
    assert check.main(SMALL) == 0
    assert "\nas promised: test" in capfd.readouterr().out
    assert check.main(["model.heads=0"]) == 1
