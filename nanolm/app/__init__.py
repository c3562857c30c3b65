"""The page in a browser: write with a run, look inside it, see its tokens, compare runs, watch sweeps.

And the page of a Space. Laid out with Gradio over `generator.py` and `comparing/`; everything is served from here.
"""
