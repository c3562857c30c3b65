"""One run from its config to its end: set up, plan, step, evaluate, save, report.

In: a TrainConfig. Out: a run folder.
"""
