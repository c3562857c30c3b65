"""Bits per byte: a model's score, what an <UNK> costs to spell, the floor, and what a model has to beat.

In: nats per token and documents. Out: figures that compare across tokenizers.
"""
