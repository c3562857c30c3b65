"""Damaged run folders: each file missing, empty, cut or with a bit turned, one at a time, against every verb.

In: how many bits to turn in each file. Out: a Count. Right is the usual answer, a complaint that names the file, or
another answer with a word about the file.
"""

import random
import shutil
from pathlib import Path

from tiny_run import tiny_config

from nanolm.training.train import train
from trials.count import Count
from trials.fork import child
from trials.verbs import VERBS, judged, tried, watched

CHECKED = ("config.json", "tokenizer.json", "speller.json", "best.safetensors", "last.safetensors", "status.json")
LATE = ("metrics.csv", "test_bits.csv", "samples.txt")


def make(folder: Path, name: str = "good") -> Path:
    """A finished run of two epochs under folder/out; in a child, like all trainings here."""
    run = folder / "out" / name

    def work() -> None:
        watched()
        train(tiny_config(folder, epochs=2, samples=1, checkpoint_seconds=0), folder=run)

    ended = child(work, folder / "log.txt")
    assert ended.status == 0, ended.output
    return run


def damages(data: bytes, chance: random.Random, flips: int) -> dict[str, bytes | None]:
    """What a file may become; None: it is gone."""
    found: dict[str, bytes | None] = {"missing": None, "empty": b"", "cut": data[: len(data) // 3]}
    found["cut at the end"] = data[:-3]
    for _ in range(flips if data else 0):
        place, bit = chance.randrange(len(data)), chance.randrange(8)
        turned = bytearray(data)
        turned[place] ^= 1 << bit
        found[f"bit {bit} of byte {place} turned"] = bytes(turned)
    return found


def damage(count: Count, folder: Path, trials: int, seed: int) -> None:
    """Every file, every damage, every verb; `trials` bits turned in each file that a checksum covers."""
    chance, log, out = random.Random(seed), folder / "log.txt", folder / "out2"
    good = make(folder)
    usual = {}
    for verb in VERBS:
        run = Path(shutil.copytree(good, folder / "case" / "run", dirs_exist_ok=True))
        ended, usual[verb] = tried(verb, run, out, log)
        assert ended.status == 0, (verb, ended.output)
        shutil.rmtree(run)
    for path in sorted(good.iterdir()):
        for what, data in damages(path.read_bytes(), chance, trials if path.name in (*CHECKED, *LATE) else 0).items():
            if not path.stat().st_size and data is not None:
                continue
            for verb in VERBS:
                run = Path(shutil.copytree(good, folder / "case" / "run"))
                if data is None:
                    (run / path.name).unlink()
                else:
                    (run / path.name).write_bytes(data)
                ended, result = tried(verb, run, out, log)
                # of a checkpoint that is gone nobody can tell; the message names the folder then
                names = [
                    path.name,
                    "no checkpoint can be read",
                    "there is no checkpoint",
                    "no run folder",
                    "not ranked",
                ]
                count.add(f"{verb}: {path.name} {what}", judged(ended, result, usual[verb], names))
                shutil.rmtree(run)
