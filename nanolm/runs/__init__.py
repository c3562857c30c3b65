"""The run folder: its files, their checksums, its weights, and how a run is found.

In: a folder, or `latest` and `best`. Out: verified parts, or an error that names the file.
"""
