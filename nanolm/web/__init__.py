"""HTML pages that are one file each, and their styles and scripts.

In: elements and plain data. Out: HTML that needs no network.
"""
