"""A run as a folder for others: transformers, a Hugging Face Space, int8; with a model card.

In: a run. Out: a folder, uploaded if asked.
"""
