"""The page in a browser: write with a run, look inside it, see its tokens, compare runs; and the page of a Space.

Laid out with Gradio over `generator.py` and `comparing/`; everything on it is served from this machine.
"""
