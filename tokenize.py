"""python tokenize.py tokenizer=word tokenizer.minfreq=5: fits a tokenizer and shows what it does to the text.

The name shadows Python's own module `tokenize`, which inspect, linecache, torch and pytest import: imported, this
file becomes that module; run as a script, it is a door like the others.
"""

if getattr(__spec__, "name", None) == "tokenize":
    # Imported (linecache, inspect, torch ...) or run with -m: Python's own module is meant, so become it.
    import os
    import sys
    from importlib.machinery import SourceFileLoader

    __file__ = os.path.join(os.path.dirname(os.__file__), "tokenize.py")
    SourceFileLoader(__name__, __file__).exec_module(sys.modules[__name__])
else:
    from nanolm.cli.configs import TokenizeConfig
    from nanolm.cli.door import door

    def main(config: TokenizeConfig) -> None:
        from nanolm.cli.tokenize import tokenize

        tokenize(**vars(config))

    if __name__ == "__main__":
        door("tokenize", main)
