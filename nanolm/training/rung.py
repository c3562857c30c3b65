"""A rung: where a sweep stops a run before the end of its plan, and scores it there, to choose which ones go on.

In: a session that has come to its rung. Out: rungs.json, status `stopped`. The plan is that of the whole run, and its
metrics, best weights and random numbers know nothing of the rung: a run that goes on is bit for bit one that was never
stopped.
"""

from typing import Any

from nanolm.files import read_json, write_json
from nanolm.training.loop import Outlets, Session, score_split

RUNGS = "rungs.json"  # a list: share of the plan, step, of how many, val_bpb; bits and bytes of each val document


def stop_at_rung(session: Session, outlets: Outlets, until: float) -> float:
    """Scores val with the weights of this step, notes it and prints it; returns the score."""
    run, progress = session.run, session.progress
    val = score_split(session, "val")
    path = run.folder / RUNGS
    known: list[dict[str, Any]] = read_json(path) if path.exists() else []
    rung = {"share": until, "step": progress.step, "of": session.steps, "val_bpb": val.bpb}
    documents = {"bits": val.bits.tolist(), "bytes": val.bytes.tolist()}
    write_json(path, [*(old for old in known if old["share"] != until), rung | documents])
    figures = {"state": "stopped", "rung": until, "rung_bpb": val.bpb}
    run.update_status(**figures, step=progress.step, tokens=progress.tokens, seconds=progress.seconds)
    outlets.tracker.report(figures, [], {})
    where = f"stopped at the rung of {until:.0%}, after step {progress.step:,} of {session.steps:,}"
    print(f"{where}: {val.bpb:.4f} bits per byte; go on: python train.py {run.word('resume')}")
    return float(val.bpb)
