"""A rung: where a sweep stops a run before the end of its plan, and scores it there, to choose which ones go on.

In: a session that has come to its rung. Out: rungs.json, status `stopped`. The plan is that of the whole run, and its
metrics, best weights and random numbers know nothing of the rung: a run that goes on is bit for bit one that was never
stopped. What is scored is the mean of the weights over the second half of the steps so far (or since a resume, where
one came later): the weights themselves would show a high learning rate as worse than it is once it has decayed.
"""

from pathlib import Path
from typing import Any

from nanolm.files import read_json, write_json
from nanolm.training.loop import Outlets, Session, score_split

RUNGS = "rungs.json"  # a list: share of the plan, step, of how many, val_bpb; bits and bytes of each val document


def stop_at_rung(session: Session, outlets: Outlets, until: float) -> float:
    """Scores val, notes it and prints it; returns the score."""
    run, progress = session.run, session.progress
    score = score_rung(session)
    others = [old for old in known_rungs(run.folder) if old["share"] != until]
    rung = {"share": until, "step": progress.step, "of": session.steps}
    write_json(run.folder / RUNGS, [*others, rung | score])
    figures = {"state": "stopped", "rung": until, "rung_bpb": score["val_bpb"]}
    run.update_status(**figures, step=progress.step, tokens=progress.tokens, seconds=progress.seconds)
    outlets.tracker.report(figures, [], {})
    where = f"stopped at the rung of {until:.0%}, after step {progress.step:,} of {session.steps:,}"
    print(f"{where}: {score['val_bpb']:.4f} bits per byte; go on: python train.py {run.word('resume')}")
    return float(score["val_bpb"])


def score_rung(session: Session) -> dict[str, Any]:
    """`val_bpb`, and the bits and bytes of each val document; those of an earlier rung where it came no further."""
    for old in known_rungs(session.run.folder):
        if old["step"] == session.progress.step and session.judged is None:
            return {key: old[key] for key in ("val_bpb", "bits", "bytes")}
    val = score_split(session, "val")
    return {"val_bpb": val.bpb, "bits": val.bits.tolist(), "bytes": val.bytes.tolist()}


def known_rungs(folder: Path) -> list[dict[str, Any]]:
    """What rungs.json holds."""
    return read_json(folder / RUNGS) if (folder / RUNGS).exists() else []
