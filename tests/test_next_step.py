"""What compare.py proposes to sweep next: commands that can be typed, with values that are worth it."""

import json
from pathlib import Path

import pytest
from comparing_runs import config, make_run

from nanolm.comparing.compare import compare
from nanolm.comparing.config import CompareConfig
from nanolm.comparing.next_step import values_around


@pytest.mark.parametrize(
    ("tried", "best", "expected"),
    [
        ([64, 128, 256], 256, [192, 256, 512, 1024]),  # at the end: beyond it
        ([64, 128, 256], 128, [96, 128, 192]),  # between: halfway
        ([0.001, 0.01, 0.1], 0.001, [1e-5, 1e-4, 0.001, 0.003162]),
        ([0.0, 0.1, 0.2], 0.0, [0.0, 0.05]),  # never below 0
        ([0.0, 0.1, 0.2], 0.2, [0.15, 0.2, 0.3, 0.4]),
        ([1, 2, 3], 3, [2, 3, 4, 5]),
        ([4], 4, []),
        (["word", "char"], "word", []),
        ([True, False], True, []),
    ],
)
def test_values_around_the_best(tried: list[float], best: float, expected: list[float]) -> None:
    assert values_around(tried, best) == pytest.approx(expected)


def test_compare_ends_with_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = tmp_path / "sweeps" / "s"
    for dims in (32, 64, 128):
        for heads in (2, 4):
            make_run(sweep / f"{dims}-{heads}", config(model__dims=dims, model__heads=heads))
    words = ["train.py", "-m", "model.dims=32,64,128", "model.heads=2,4", "data.path=my text.txt"]
    note = {"swept": ["model.dims", "model.heads"], "command": [*words, "hydra.launcher.n_jobs=2"]}
    (sweep / "sweep.json").write_text(json.dumps(note))
    compare(CompareConfig(sweep=str(sweep), baselines=False, outputs=str(tmp_path)))
    lines = capsys.readouterr().out.splitlines()
    proposed = lines[lines.index("next:") + 1].strip()
    assert proposed == (
        "python train.py -m hydra/sweeper=halving 'data.path=my text.txt' model.heads=2 model.dims=96,128,256,512"
    )
