"""The verb behind generate.py: prompts from the command line or the terminal, text to stdout, all else to stderr.

In: the name of a run, a prompt (or none: it asks), a decoding config. Out: text, as it comes where it is a single one;
or a line of JSON for each text, for programs. What a terminal might obey is shown as an escape.
"""

import codecs
import contextlib
import io
import json
import sys
import time
from collections.abc import Iterator
from typing import Any, TextIO

from nanolm.config import between, one_of
from nanolm.data.readers.lines import guess_encoding
from nanolm.decode.base import DecodeConfig
from nanolm.errors import DataError
from nanolm.generator import Generator, load, say
from nanolm.text import counted, escape_controls


def generate(
    run: str,
    prompt: str | None,
    decode: DecodeConfig,
    seed: int | None = None,
    outputs: Any = "outputs",
    output: str = "text",
    **how: Any,
) -> None:
    """Writes what follows `prompt`. Without one it asks for one after the other: at a terminal until ctrl-d (ctrl-c
    stops the text being written), from a pipe line by line. output: text, or jsonl, a line for each text. outputs, how
    (device, precision, quantize, recorded): see `generator.load`. Raises NanolmError.
    """
    between("seed", seed, 0)
    one_of("output", output, ("text", "jsonl"))
    generator = load(run, outputs, **how)
    say(faint(f"run={generator.run}"))
    write = write_text if output == "text" else write_jsonl
    if prompt is not None:
        return write(generator, prompt, decode, seed)
    for asked in ask():
        try:
            write(generator, asked, decode, seed)
        except KeyboardInterrupt:
            if not sys.stdin.isatty():
                raise
            print()


def write_text(generator: Generator, prompt: str, decode: DecodeConfig, seed: int | None) -> None:
    """Writes the text (as it comes, if it is one) or the texts, a blank line between them, and how fast it went."""
    start, ids = time.perf_counter(), list[int]()
    if decode.num_return_sequences == 1:
        text = generator.stream(prompt, decode, seed, full=True, on_token=ids.append)
        later = list[str]()  # what there is to say of the end comes after it, on a line of its own
        generator.tell, tell = later.append, generator.tell
        try:
            for piece in text:
                print(for_terminal(piece), end="", flush=True)
        finally:
            generator.tell = tell
        print()
        for line in later:
            tell(line)
    else:
        [found] = generator.complete([prompt], decode, seed)
        print("\n\n".join(for_terminal(one.text) for one in found), flush=True)
        ids = [token for one in found for token in one.ids]
    say(faint(f"{counted(len(ids), 'token')}, {len(ids) / (time.perf_counter() - start):,.0f} tokens/s"))


def write_jsonl(generator: Generator, prompt: str, decode: DecodeConfig, seed: int | None) -> None:
    """Writes a line of ASCII for each text: prompt (normalised), text (with the prompt), tokens, logprob, finished."""
    [found] = generator.complete([prompt], decode, seed)
    for one in found:
        fields = {"prompt": one.prompt, "text": one.text, "tokens": one.tokens}
        print(json.dumps(fields | {"logprob": one.logprob, "finished": one.finished}), flush=True)


def ask() -> Iterator[str]:
    """One prompt after the other from stdin."""
    if not sys.stdin.isatty():
        yield from piped_lines(sys.stdin)
        return
    with contextlib.suppress(ImportError):  # arrow keys and history in input(), where the system has it
        import readline  # noqa: F401
    say(faint("a prompt, and enter; ctrl-d ends"))
    with contextlib.suppress(EOFError):
        while True:
            yield input("> " if sys.stdout.isatty() else "")
    say("")


def piped_lines(stdin: TextIO) -> Iterator[str]:
    """The lines of a pipe, as soon as each is there: UTF-8, or UTF-16 with its byte order mark; CR, CRLF or LF."""
    raw: Any = getattr(stdin, "buffer", None)
    if raw is None:
        yield from (line.rstrip("\n") for line in stdin)
        return
    head = raw.peek(2)[:2] if isinstance(raw, io.BufferedReader) else b""
    encoding = "utf-16" if head in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"
    text = io.TextIOWrapper(raw, encoding)
    try:
        yield from (line.rstrip("\n") for line in text)
    except UnicodeDecodeError as error:
        guess = guess_encoding(error.object) or "cp1252"
        raise DataError(f"stdin: not UTF-8, perhaps {guess}; convert it: iconv -f {guess} -t UTF-8") from error
    finally:
        text.detach()  # its end would close stdin


def for_terminal(text: str) -> str:
    """The text with what a terminal might obey, or stdout can't encode, written as escapes."""
    text = escape_controls(text)
    encoding = sys.stdout.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def faint(line: str) -> str:
    """The line in faint letters, where stderr is a terminal."""
    return f"\033[2m{line}\033[0m" if sys.stderr.isatty() else line
