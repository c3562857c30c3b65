"""What happens inside a model while it reads: where its heads look, what each layer would say, what each part is worth.

In: a generator and a text. Out: arrays, tables, a page.
"""
