"""The model: config, layers, attention, cache, positions, loss, width; `fast/` makes it write faster.

In: ids. Out: hidden vectors, logits, nats.
"""
