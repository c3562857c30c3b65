"""The group `tokenizer`: char, word and bpe, and the one file tokenizer.json.

In: normalised text. Out: ids, and text again.
"""
