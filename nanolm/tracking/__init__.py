"""The group `tracking`: where the figures of a run are logged while it trains.

One file an option; none of them can stop a training.
"""
