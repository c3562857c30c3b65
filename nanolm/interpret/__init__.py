"""What happens inside a model while it reads: where its heads look.

In: a generator and a text. Out: arrays, tables, a page.
"""
