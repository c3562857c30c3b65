"""What makes writing fast on a CPU, and nothing else: packed and int8 weights, quick and recorded steps.

In: a trained Transformer. Out: the same model, quicker; each beside its plain version in a test.
"""
