"""The model: config, layers, spelling, n-grams, attention, cache, positions, loss, width; `fast/` writes faster.

In: ids. Out: hidden vectors, logits, nats.
"""
