"""Files of text, of any form, packed or not, as streams of documents; nothing in them is ever executed.

In: a Source (a file, or a member of a zip) and ReadOptions. Out: one string a document, or a DataError in one line.
"""
