"""The verb behind generate.py: prompts from the command line or the terminal, text to stdout, all else to stderr.

In: the name of a run, a prompt (or none: it asks), a decoding config. Out: text, as it comes where it is a single one.
What a terminal might obey is shown as an escape.
"""

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import Any

from nanolm.config import between
from nanolm.decode.base import DecodeConfig
from nanolm.errors import DataError
from nanolm.generator import Generator, load, say
from nanolm.text import escape_controls


def generate(
    run: str, prompt: str | None, decode: DecodeConfig, seed: int | None = None, outputs: Any = "outputs", **how: Any
) -> None:
    """Writes what follows `prompt`. Without one it asks for one after the other: at a terminal until ctrl-d (ctrl-c
    stops the text being written), from a pipe line by line. outputs, how (device, precision, quantize): see
    `generator.load`. Raises NanolmError.
    """
    between("seed", seed, 0)
    generator = load(run, outputs, **how)
    say(faint(f"run={generator.run}"))
    if prompt is not None:
        return write_text(generator, prompt, decode, seed)
    for asked in ask():
        try:
            write_text(generator, asked, decode, seed)
        except KeyboardInterrupt:
            if not sys.stdin.isatty():
                raise
            print()


def write_text(generator: Generator, prompt: str, decode: DecodeConfig, seed: int | None) -> None:
    """Writes the text (as it comes, if it is one) or the texts, a blank line between them, and how fast it went."""
    start, ids = time.perf_counter(), list[int]()
    if decode.num_return_sequences == 1:
        for piece in generator.stream(prompt, decode, seed, full=True, on_token=ids.append):
            print(for_terminal(piece), end="", flush=True)
        print()
    else:
        [found] = generator.complete([prompt], decode, seed)
        print("\n\n".join(for_terminal(one.text) for one in found), flush=True)
        ids = [token for one in found for token in one.ids]
    say(faint(f"{len(ids)} tokens, {len(ids) / (time.perf_counter() - start):,.0f} tokens/s"))


def ask() -> Iterator[str]:
    """One prompt after the other from stdin."""
    if not sys.stdin.isatty():
        try:
            yield from (line.rstrip("\n") for line in sys.stdin)
        except UnicodeDecodeError as error:
            raise DataError(f"stdin: not UTF-8 ({error.reason}); convert it, as in: iconv -t UTF-8") from error
        return
    with contextlib.suppress(ImportError):  # arrow keys and history in input(), where the system has it
        import readline  # noqa: F401
    say(faint("a prompt, and enter; ctrl-d ends"))
    with contextlib.suppress(EOFError):
        while True:
            yield input("> " if sys.stdout.isatty() else "")
    say("")


def for_terminal(text: str) -> str:
    """The text with what a terminal might obey, or stdout can't encode, written as escapes."""
    text = escape_controls(text)
    encoding = sys.stdout.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def faint(line: str) -> str:
    """The line in faint letters, where stderr is a terminal."""
    return f"\033[2m{line}\033[0m" if sys.stderr.isatty() else line
