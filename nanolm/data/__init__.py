"""The group `data`: one dataset a file, each yields raw documents.

In: a path or a seed. Out: documents in order, and the identity of their source.
"""
