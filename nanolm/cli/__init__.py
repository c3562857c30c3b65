"""Hydra's door, what each verb can be told, and a file per verb that prints.

In: argv. Out: a checked config, a call downwards, text on the terminal. Nobody imports this room.
"""
