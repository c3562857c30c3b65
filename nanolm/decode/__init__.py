"""The group `decode`: one strategy a file, pure functions over `step(ids, cache) -> logits`.

In: prompts as ids. Out: hypotheses. Knows no text.
"""
