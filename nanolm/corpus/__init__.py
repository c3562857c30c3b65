"""Documents -> normalised, unique, split text -> ids -> batches, all of it cached on disk.

In: a DataConfig and a tokenizer. Out: memory-mapped splits and batches of ids.
"""
