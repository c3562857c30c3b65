"""How many jobs of a sweep run at once: chosen by measuring, bounded by memory, kept."""

import multiprocessing
from collections.abc import Callable
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from tiny_run import tiny_config

from nanolm.sweep import split as splitting
from nanolm.sweep.local import gpu
from nanolm.sweep.split import Split, Trial, candidates, choose_split, fit_memory
from nanolm.training.speed import measure_speed


def test_the_cores_are_shared_out_without_a_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, jobs, expected in [
        (2, 8, [(2, 1), (1, 2)]),
        (8, 3, [(3, 2), (2, 4), (1, 8)]),
        (8, 99, [(8, 1), (4, 2), (2, 4), (1, 8)]),
        (6, 9, [(6, 1), (3, 2), (1, 4)]),
    ]:
        monkeypatch.setattr(splitting, "CORES", cores)
        assert [(split.jobs, split.threads) for split in candidates(jobs)] == expected


def test_the_fastest_is_chosen_and_measured_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    speeds, tried = {8: 800.0, 4: 900.0, 2: 700.0}, []

    def try_split(config: Any, split: Split, measure: Callable[..., None]) -> Trial:
        tried.append(split.jobs)
        return Trial(split, speeds[split.jobs], 100.0)

    monkeypatch.setattr(splitting, "CORES", 8)
    monkeypatch.setattr(splitting, "try_split", try_split)
    config = tiny_config(tmp_path)
    assert choose_split(config, 9, print, tmp_path) == choose_split(config, 9, print, tmp_path) == Split(4, 2)
    assert tried == [8, 4, 2]  # no further than what gets slower, and only once
    assert "4 jobs at once, 2 threads each (8 x 1: 800 tokens/s, 4 x 2: 900" in capsys.readouterr().out
    wider = tiny_config(tmp_path, model={"dims": 32})
    choose_split(wider, 9, print, tmp_path)
    assert len(tried) == 6, "another shape is measured"


def test_memory_bounds_the_jobs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(splitting, "CORES", 8)
    assert fit_memory(Trial(Split(8, 1), 1.0, 1000.0), 64_000) == Split(8, 1)
    assert fit_memory(Trial(Split(8, 1), 1.0, 1000.0), 3_000) == Split(2, 4)
    assert "a job takes 1,000 MB, and 3,000 MB are free: 2 at once" in capsys.readouterr().out
    assert fit_memory(Trial(Split(8, 1), 1.0, 99_000.0), 3_000).jobs == 1
    assert fit_memory(Trial(Split(4, 2, gpus=2), 1.0, 99_000.0), 3_000).jobs == 4


def test_gpus_are_given_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert [gpu(Split(4, 1, gpus=2), slot)["CUDA_VISIBLE_DEVICES"] for slot in range(4)] == ["0", "1", "0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    assert gpu(Split(2, 1, gpus=2), 1) == {"CUDA_VISIBLE_DEVICES": "7"}
    assert gpu(Split(2, 1, gpus=1), 1) == gpu(Split(2, 1), 1) == {}


def test_a_training_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nanolm.training.speed.SECONDS", 0.01)
    receiving, sending = multiprocessing.Pipe(duplex=False)
    measure_speed(tiny_config(tmp_path), 1, Barrier(1), sending)
    speed = receiving.recv()
    assert speed["tokens_per_s"] > 0
    assert speed["memory_mb"] > 10
    assert speed["gpus"] == 0


@pytest.mark.slow
def test_two_trainings_are_measured_side_by_side(tmp_path: Path) -> None:
    trial = splitting.try_split(tiny_config(tmp_path), Split(2, 1), measure_speed)
    assert trial
    assert trial.tokens_per_s > 0
    broken = tiny_config(tmp_path, data={"path": "nowhere.txt"})
    assert splitting.try_split(broken, Split(2, 1), measure_speed) is None
