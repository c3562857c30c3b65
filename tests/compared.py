"""Tables of runs, for the tests of comparing."""

from pathlib import Path

import pytest
from comparing_runs import config, make_run

from nanolm.files import write_json


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    """A sweep over dims and heads with three seeds for one pair, and three runs that can't be ranked."""
    sweep = tmp_path / "sweeps" / "dims_heads"
    sweep.mkdir(parents=True)
    write_json(sweep / "sweep.json", {"swept": ["model.dims", "model.heads"], "started": 0})
    for dims in (32, 64):
        for heads in (2, 4):
            for seed in (1, 2, 3) if (dims, heads) == (64, 4) else (1,):
                values = config(model__dims=dims, model__heads=heads, seed=seed)
                make_run(sweep / f"dims={dims},heads={heads},seed={seed}", values, shift=0.002 * seed)

    (sweep / "heads=3").mkdir()
    write_json(sweep / "heads=3" / "status.json", {"state": "failed", "error": "model.heads=3: 64 is no multiple"})
    make_run(sweep / "going", config(model__dims=128), {"state": "running"})
    (make_run(sweep / "damaged", config(model__dims=128)) / "config.json").write_text("{")
    return tmp_path
