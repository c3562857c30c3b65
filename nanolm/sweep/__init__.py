"""Sweeps that survive: each job is a process with a folder of its own.

In: a composed config per job, from any Hydra launcher. Out: its score, its folder, a table.
"""
