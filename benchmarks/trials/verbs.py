"""What a user does with a run folder, each verb in a child with little memory and little time, and what came of it.

In: a run folder. Out: status, output, and a result that tells equal answers from others.
"""

import json
import resource
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tiny_run import tiny_config

from nanolm.app.models import Models
from nanolm.app.runs import comparison
from nanolm.cli.attend import attend
from nanolm.cli.evaluate import evaluate
from nanolm.cli.generate import generate
from nanolm.comparing.compare import compare
from nanolm.comparing.config import CompareConfig
from nanolm.config import build
from nanolm.export.export import export
from nanolm.files import sha256
from nanolm.generator import load
from nanolm.training.train import train
from trials.fork import CRASH, Ended, child, watched

MEMORY = 6 * 2**30  # bytes of address space beyond which a child has lost
SECONDS = 300  # a pipe would wait for ever; a busy machine may take its time
GREEDY = build("decode", {"name": "greedy", "max_new_tokens": 12})


def generated(run: Path, out: Path) -> Any:
    generate(str(run), "ada", GREEDY, 1, out)
    return load(run).generate(["", "ada finds"], GREEDY)


def evaluated(run: Path, out: Path) -> Any:
    return evaluate(str(run), None, "test", out).bits.tolist()


def resumed(run: Path, out: Path) -> Any:
    watched()
    folder = out.parent  # the text of tiny_run lies there
    return train(tiny_config(folder, resume=str(run), outputs=str(out), epochs=4), ["epochs=4"])


def compared(run: Path, out: Path) -> Any:
    page = compare(CompareConfig(runs=str(run), outputs=str(out), baselines=False))
    return (page.parent / "compare.csv").read_text().replace(str(run), "RUN")


def with_baselines(run: Path, out: Path) -> Any:
    page = compare(CompareConfig(runs=str(run), outputs=str(out)))
    return (page.parent / "compare.csv").read_text().replace(str(run), "RUN")


def exported(run: Path, out: Path, kind: str = "hf") -> Any:
    place = export(str(run), kind, str(out / "exported"), None, str(out))
    names = ("model.safetensors", "tokenizer.json", "config.json", "model.json")
    return [sha256(place / name) for name in names if (place / name).exists()]


def space(run: Path, out: Path) -> Any:
    return exported(run, out, "space")


def attended(run: Path, out: Path) -> Any:
    return attend(str(run), "ada finds", None, 1, 1, 1, out, "cpu") and None


def app(run: Path, out: Path) -> Any:
    models = Models(run.parent, str(run), "cpu")
    page = comparison(models.outputs, (0.0,))
    return [models.choices(), models.about(models.first), "finished" in page]


VERBS: dict[str, Callable[[Path, Path], Any]] = {
    "generate": generated,
    "evaluate": evaluated,
    "resume": resumed,
    "compare": compared,
    "export": exported,
    "space": space,
    "attend": attended,
    "app": app,
}


def tried(verb: str, run: Path, out: Path, log: Path) -> tuple[Ended, Any]:
    """One verb on a run: how it ended, and its result (None without one). A child that runs away is a crash."""
    result = log.with_suffix(".json")
    result.unlink(missing_ok=True)

    def work() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        signal.alarm(SECONDS)
        result.write_text(json.dumps(VERBS[verb](run, out)))

    shutil.rmtree(out / "exported", ignore_errors=True)
    ended = child(work, log)
    if ended.status < 0:
        ended = Ended(CRASH, f"{ended.output}\nended by signal {-ended.status}", ended.seconds)
    return ended, json.loads(result.read_text()) if result.exists() else None


def judged(ended: Ended, result: Any, usual: Any, names: list[str]) -> list[str]:
    """What is wrong with an answer: a traceback, a complaint that names no file, or another answer without a word."""
    lines = [*ended.output.splitlines(), json.dumps(result)]  # the app's word, `damaged`, stands in its answer
    said = [line for line in lines if any(name in line for name in [*names, "damaged"])]
    if ended.crashed:
        return [f"crashed ({ended.status}): {ended.output[-1200:]}"]
    if ended.status and ended.output.count("train.py: ") != 1:
        return [f"not one line: {ended.output[-500:]}"]
    if ended.status and not said:
        return [f"names no file: {ended.output[-300:]}"]
    if not ended.status and result != usual and not said:
        return ["another answer without a word"]
    return []
