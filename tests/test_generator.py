"""Text from a run: over untrained models of every arrangement, since what matters here holds for any weights."""

import io
import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_run import tiny_config

from nanolm import load
from nanolm.cli.generate import for_terminal, generate, piped_lines
from nanolm.config import build, fill, plain
from nanolm.decode.base import DecodeConfig
from nanolm.decode.beam import Beam
from nanolm.decode.greedy import Greedy
from nanolm.decode.sample import Sample
from nanolm.decode.strategy import strategy
from nanolm.decode.windows import last_window
from nanolm.errors import ConfigError, NanolmError
from nanolm.generator import Generator
from nanolm.model.config import ModelConfig
from nanolm.model.transformer import Transformer
from nanolm.runs.run import BEST, Run
from nanolm.runs.weights import write_weights
from nanolm.text import normalise
from nanolm.tokenizer.base import BOS, EOS, Tokenizer
from nanolm.tokenizer.streaming import pieces

TEXTS = [
    "the army general is sent to the front . he falls in love with a spy",
    "a dog and a dragon fight over a river of gold . the naïve dog wins",
    "two sisters open a café in a quiet town by the sea , and the sea comes in …",
]
ORIGINAL = {"norm": "layer", "norm_position": "post", "positions": "sinusoidal", "mlp": "single"}
ARRANGEMENTS: dict[str, dict[str, Any]] = {
    "modern": {},
    "grouped": {"kv_heads": 1, "qk_norm": False, "tied": True},
    "original": ORIGINAL,
}
PROMPTS = ["the army general", "", "a dog and a dragon fight over a river", "dog", "the sea"]


def tokenizer(name: str = "word", mode: str = "clean") -> Tokenizer:
    config = {"name": name} | ({"vocab_size": 300} if name == "bpe" else {})
    return build("tokenizer", config).fit([normalise(text, mode) for text in TEXTS] * 3, mode)


def generator(name: str = "word", mode: str = "clean", context: int = 24, **model: Any) -> Generator:
    torch.manual_seed(0)
    config = fill(ModelConfig, {"dims": 16, "heads": 2, "nblocks": 2, "tied": False} | model, "model")
    words, lines = tokenizer(name, mode), list[str]()
    network = Transformer(config, len(words), context)
    with torch.no_grad():
        network.output_weight.normal_(0, 0.5)  # as it starts, all tokens are as likely as each other
    made = Generator(network, words, tell=lines.append)
    made.told = lines  # type: ignore[attr-defined]
    return made


def told(made: Generator) -> list[str]:
    return made.told  # type: ignore[attr-defined, no-any-return]


STRATEGIES = [
    Greedy(),
    Greedy(max_new_tokens=7, repetition_penalty=1.3),
    Sample(),
    Sample(temperature=0.8, top_k=20, top_p=0.95, no_repeat_ngram_size=2),
    Beam(num_beams=4),
    Beam(num_beams=3, early_stopping="never", length_penalty=2.0),
]


@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
@pytest.mark.parametrize("config", STRATEGIES, ids=str)
def test_a_prompt_in_a_batch_is_continued_as_alone(config: DecodeConfig, arrangement: str) -> None:
    made = generator(**ARRANGEMENTS[arrangement])
    together = made.complete(PROMPTS, config, seed=5)
    for i, (prompt, found) in enumerate(zip(PROMPTS, together, strict=True)):
        [ids] = [ids for _, ids in made.encode_prompts([prompt], config)]
        alone = config.decode(made.model, [ids], 24, [(5, i)])[0]
        assert [one.ids for one in alone] == [one.ids for one in found]
        assert [one.logprob for one in alone] == pytest.approx([one.logprob for one in found], abs=1e-4)
        assert len(ids) + len(found[0].ids) <= 25


@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
@pytest.mark.parametrize("config", STRATEGIES, ids=str)
def test_the_cache_gives_the_tokens_of_the_uncached_model(config: DecodeConfig, arrangement: str) -> None:
    made = generator(**ARRANGEMENTS[arrangement])
    for prompt, found in zip(PROMPTS, made.complete(PROMPTS, config, seed=5), strict=True):
        ids = [*made.encode_prompts([prompt], config)[0][1], *found[0].ids]
        nats = made.model.nats(torch.tensor([ids[:-1]]), torch.tensor([ids[1:]]))[0, -len(found[0].ids) :].sum()
        assert found[0].logprob == pytest.approx(-float(nats), abs=1e-3)


@pytest.mark.parametrize("mode", ["clean", "none"])
@pytest.mark.parametrize("name", ["char", "word", "bpe"])
def test_streamed_pieces_are_the_continuation(name: str, mode: str) -> None:
    made = generator(name, mode)
    for prompt in ("", "the naïve sea …"):
        for config in (Greedy(), Sample(), Beam(num_beams=2)):
            [[whole]] = made.complete([prompt], config, seed=1)
            ids: list[int] = []
            assert "".join(made.stream(prompt, config, seed=1, on_token=ids.append)) == whole.continuation
            assert ids == whole.ids
            assert "".join(made.stream(prompt, config, seed=1, full=True)) == whole.text
            start = made.encode_prompts([prompt], config)[0][1]
            decode = made.tokenizer.decode
            assert whole.text == whole.prompt + decode([*start, *whole.ids])[len(decode(start)) :]


def test_bpe_pieces_are_whole_characters() -> None:
    words = tokenizer("bpe", "none")
    ids = words.encode("naïve … 🐉 café")
    streamed = list(pieces(words, [BOS], ids))
    assert "".join(streamed) == "naïve … 🐉 café"
    assert not any("\ufffd" in piece for piece in streamed)
    assert "".join(pieces(words, [BOS], words.encode("🐉")[:-1])).strip("\ufffd") == ""
    assert "".join(pieces(words, ids, [])) == ""


def test_what_generate_returns() -> None:
    made = generator()
    assert isinstance(made.generate("the dog", seed=1), str)
    assert made.generate("The DOG!", seed=1).startswith("the dog .")
    several = made.generate("the dog", seed=1, num_return_sequences=3)
    assert [type(text) for text in several] == [str] * 3
    assert several[0] == made.generate("the dog", seed=1)
    assert made.generate(["the dog", "a sea"], seed=1)[0] == made.generate("the dog", seed=1)
    assert [len(texts) for texts in made.generate(["the dog", "a sea"], num_beams=3, num_return_sequences=2)] == [2, 2]
    assert made.generate([]) == []
    assert made.generate("the dog") != made.generate("the dog")  # no seed: new chance each time


def test_more_prompts_than_fit_a_batch_keep_their_order() -> None:
    made, prompts = generator(), [PROMPTS[i % 5] for i in range(150)]
    found = made.complete(prompts, Sample(max_new_tokens=4), seed=2)
    assert [one.prompt for [one] in found] == prompts
    alone = made.complete(prompts[:5], Sample(max_new_tokens=4), seed=2)
    assert [one.text for [one] in found[:5]] == [one.text for [one] in alone]


def test_the_fields_choose_the_strategy() -> None:
    assert strategy(None, {}) == Sample()
    assert strategy(None, {"max_new_tokens": 3}) == Sample(max_new_tokens=3)
    assert strategy(None, {"num_beams": 10}) == Beam(num_beams=10)
    assert strategy("greedy", {"min_new_tokens": 2}) == Greedy(min_new_tokens=2)
    assert strategy(Beam(num_beams=3), {"length_penalty": 0.5}) == Beam(num_beams=3, length_penalty=0.5)
    with pytest.raises(ConfigError, match=r"decode\.beams: no such field; there are early_stopping, .*num_beams"):
        strategy(None, {"beams": 3})
    with pytest.raises(ConfigError, match=r"num_beams \(beam\), top_k \(sample\): leave some out"):
        strategy(None, {"num_beams": 3, "top_k": 2})
    with pytest.raises(ConfigError, match=r"decode\.num_beams: no such key"):
        strategy("sample", {"num_beams": 3})
    with pytest.raises(ConfigError, match=r"decode\.num_return_sequences=2: must be one of 1"):
        generator().stream("the dog", num_return_sequences=2)
    with pytest.raises(ConfigError, match="seed=-1"):
        generator().generate("the dog", seed=-1)


def test_unknown_words_are_read_as_unk_and_named_once() -> None:
    made = generator()
    [[found]] = made.complete(["the zorblax general zorblax \x1b[31mq"], Greedy())
    assert found.text.startswith("the zorblax general zorblax mq")
    assert told(made) == ["not in this run's vocabulary, read as <UNK>: 'zorblax', 'mq'"]
    assert generator("bpe").generate("zorblax", Greedy())


def test_a_long_prompt_keeps_its_last_tokens() -> None:
    made, words = generator(), "the army general is sent to the front"
    long = " ".join([words] * 4)
    for config, room in ((Greedy(), 6), (Greedy(max_new_tokens=2), 2), (Greedy(max_new_tokens=9), 6)):
        [(text, ids)] = made.encode_prompts([long], config)
        assert text == long
        assert ids == [BOS, *made.tokenizer.encode(long)[-(24 - room) :]]
        [[found]] = made.complete([long], config)
        assert found.text.startswith(long)
        assert len(found.ids) <= room
    assert told(made)[0] == "prompt of 32 tokens: only its last 18 are read, the context is 24"
    assert len(made.encode_prompts([" ".join(["dog"] * 23)], Greedy())[0][1]) == 24  # fits, and nothing is cut


def test_a_typed_special_token_is_text() -> None:
    made = generator("char", "none")
    assert EOS not in made.encode_prompts(["<EOS>"], Greedy())[0][1]


def test_damaged_weights_are_one_line() -> None:
    made = generator()
    with torch.no_grad():
        made.model.output_weight.fill_(math.nan)
    for config in (Greedy(), Sample(), Beam()):
        with pytest.raises(NanolmError, match="nan"):
            made.generate("the dog", config)


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    """A folder with one run in it, never trained."""
    config = tiny_config(tmp_path, model={"context": 24})
    words = tokenizer()
    network = Transformer(config.model, len(words), 24)
    folder = tmp_path / "out" / "one"
    run = Run.create(folder, plain(config), {}, {"tokenizer.json": words.save})
    write_weights(run.folder / BEST, network.state_dict(), {})
    return tmp_path / "out"


def test_a_run_is_loaded_and_written_with(outputs: Path) -> None:
    for made in (load("latest", outputs=outputs), load(str(outputs / "one"), precision="fp32")):
        assert made.run == outputs / "one"
        assert made.generate("the army general", seed=1, num_beams=10).startswith("the army general")
    assert load("one", outputs=outputs, precision="bf16").generate("the dog", seed=3, max_new_tokens=5)
    with pytest.raises(NanolmError, match="no run"):
        load("best", outputs=outputs / "one" / "none")
    with pytest.raises(ConfigError, match="which=worst"):
        load("latest", outputs=outputs, which="worst")


def test_the_verb_writes_only_text_to_stdout(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generate("latest", "the dog zorb", Sample(), 1, outputs)
    out, err = capsys.readouterr()
    assert out == load("latest", outputs=outputs).generate("the dog zorb", Sample(), seed=1) + "\n"
    assert "zorb" in err
    assert "tokens/s" in err
    with pytest.raises(ConfigError, match="seed=-1"):
        generate("latest", "the dog", Sample(), -1, outputs)
    generate("latest", "the dog", Beam(num_return_sequences=3), None, outputs)
    assert capsys.readouterr().out.count("\n\n") == 2


def test_without_a_prompt_the_verb_reads_lines(
    outputs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("the dog\n\nthe sea"))
    generate("latest", None, Greedy(), None, outputs)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("the dog")
    assert lines[2].startswith("the sea")


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_prompts_from_a_pipe_are_text_whatever_its_form(encoding: str, ends: str, tmp_path: Path) -> None:
    (tmp_path / "prompts").write_bytes(f"the café{ends}{ends}the sea".encode(encoding))
    with open(tmp_path / "prompts", encoding="ascii") as file:
        assert list(piped_lines(file)) == ["the café", "", "the sea"]
        assert not file.buffer.closed


def test_a_pipe_in_another_encoding_is_one_line_with_a_guess(tmp_path: Path) -> None:
    (tmp_path / "prompts").write_bytes("the naïve café – “quoted”\n".encode("cp1252"))
    with (
        open(tmp_path / "prompts") as file,
        pytest.raises(NanolmError, match=r"^stdin: not UTF-8, .*iconv -f \w+ -t UTF-8"),
    ):
        list(piped_lines(file))


def test_what_is_told_of_a_texts_end_comes_after_it(
    outputs: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", sys.stdout)
    generate("latest", "the dog", Greedy(max_new_tokens=90, min_new_tokens=90), None, outputs)
    lines = capfd.readouterr().out.splitlines()
    assert lines[1].startswith("the dog")
    assert lines[2].startswith("decode.max_new_tokens=90: the context of 24 was full")


def test_jsonl_holds_what_a_program_needs(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = Sample(num_return_sequences=3, max_new_tokens=6)
    generate("latest", "The café", config, 4, outputs, output="jsonl")
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    [found] = load("latest", outputs=outputs).complete(["The café"], config, seed=4)
    for row, one in zip(rows, found, strict=True):
        assert row == {key: getattr(one, key) for key in ("prompt", "text", "tokens", "logprob", "finished")}
    with pytest.raises(ConfigError, match="output=xml: must be one of text, jsonl"):
        generate("latest", "the dog", config, 4, outputs, output="xml")


@pytest.mark.parametrize("config", [Greedy(), Sample(num_return_sequences=2), Beam(num_beams=3)], ids=str)
@pytest.mark.parametrize("name", ["char", "word", "bpe"])
def test_a_stop_string_ends_the_text_that_holds_it(name: str, config: DecodeConfig) -> None:
    made = generator(name, "none")
    whole = made.complete(PROMPTS, replace(config, max_new_tokens=15), seed=3)
    string = whole[0][0].continuation[3:5].strip("\ufffd") or " "
    stopping = replace(config, max_new_tokens=15, stop=[string, "never there"])
    stopped = made.complete(PROMPTS, stopping, seed=3)
    for found, free in zip(stopped, whole, strict=True):
        for one, other in zip(found, free, strict=True):
            before = len(one.continuation) - len(one.tokens[-1])
            assert one.finished == (string in one.continuation or one.ids[-1] == EOS)
            assert string not in one.continuation or one.continuation.index(string) + len(string) >= before
            if not isinstance(config, Beam):
                assert one.ids == other.ids[: len(one.ids)]
                assert (string in other.continuation) == (string in one.continuation)
    alone = made.complete(PROMPTS[:1], stopping, seed=3)
    assert [one.ids for one in alone[0]] == [one.ids for one in stopped[0]]
    if config.num_return_sequences == 1:
        assert "".join(made.stream(PROMPTS[0], stopping, seed=3)) == stopped[0][0].continuation


def test_a_stop_string_may_be_one_or_many_and_never_begins_in_the_prompt() -> None:
    made = generator("word", "clean")
    free = made.generate("the dog", "greedy", max_new_tokens=10)
    word = free.split()[4]
    assert made.generate("the dog", "greedy", max_new_tokens=10, stop=word) == " ".join(free.split()[:5])
    assert made.generate("the dog", "greedy", max_new_tokens=10, stop=["dog", "xyz"]).startswith(
        " ".join(free.split()[:3])
    )
    with pytest.raises(ConfigError, match=r"decode\.stop: an empty string"):
        made.generate("the dog", stop=[""])
    made.generate("the dog", "greedy", stop=["The END!"], max_new_tokens=2)
    assert "decode.stop: 'The END!' is never in the text of this run" in told(made)[-1]


@pytest.mark.parametrize("config", [Greedy(), Sample(num_return_sequences=2), Beam(num_beams=3)], ids=str)
def test_a_text_slides_beyond_the_context(config: DecodeConfig) -> None:
    made = generator()
    with torch.no_grad():
        made.model.output_weight[EOS] = -9 * made.model.output_weight.abs().mean()
    sliding = replace(config, max_new_tokens=60, min_new_tokens=60, overflow="slide")
    assert len(made.encode_prompts(["the army general"], sliding)[0][1]) == 4
    both = made.complete(["the army general", "dog"], sliding, seed=7)
    assert [len(one.ids) for found in both for one in found] == [60] * (2 * config.num_return_sequences)
    assert not told(made)
    streamed: dict[int, list[int]] = {}
    [(_, ids)] = made.encode_prompts(["the army general"], sliding)
    for which, token in made.stream_ids(sliding, ids, 7):
        streamed.setdefault(which, []).append(token)
    assert [streamed[which] for which in range(config.num_return_sequences)] == [one.ids for one in both[0]]
    first = made.complete(["the army general"], replace(config, min_new_tokens=21), seed=7)[0][0]
    assert both[0][0].ids[:21] == first.ids  # the first window is the text that ends with the context
    window = last_window([*ids, *first.ids], 24, 39)
    assert len(window) == 19
    rest = replace(config, max_new_tokens=39, min_new_tokens=39, num_return_sequences=1)
    second = rest.decode(made.model, [window], 24, [(7, 0, 0, 1)])[0][0].ids
    assert both[0][0].ids[21:27] == second


def test_a_text_that_the_context_ends_says_so() -> None:
    made = generator()
    made.complete(["the army general", "dog"], Greedy(max_new_tokens=300, min_new_tokens=100))
    assert told(made)[-1].startswith("decode.max_new_tokens=300: the context of 24 was full after 21 new tokens; ")
    "".join(made.stream("dog", Greedy(max_new_tokens=300, min_new_tokens=100)))
    assert "after 23 new tokens; decode.overflow=slide" in told(made)[-1]
    told(made).clear()
    made.complete(["the army general"], Greedy(max_new_tokens=3))
    made.complete(["the army general"], Greedy())
    assert not told(made)
    with pytest.raises(ConfigError, match=r"decode\.overflow=slide: a text may never end; give decode\.max_new_tokens"):
        made.generate("dog", overflow="slide")


def test_a_blank_at_the_end_is_told_where_it_is_half_a_word() -> None:
    for name, mode, odd in (
        ("bpe", "none", True),
        ("word", "none", False),
        ("char", "none", False),
        ("bpe", "clean", False),
    ):
        made = generator(name, mode)
        made.generate("the dog ", max_new_tokens=1)
        assert any("a blank at a prompt's end" in line for line in told(made)) == odd, (name, mode)


def test_what_a_terminal_might_obey_is_shown() -> None:
    assert for_terminal("a\tb\nc é 🐉") == "a\tb\nc é 🐉"
    assert for_terminal("\x1b[31m\r\x07\x9b\u202e\ud800\x00") == "\\x1b[31m\\r\\x07\\x9b\\u202e\\ud800\\x00"
