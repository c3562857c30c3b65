"""The generator: prompts to texts, alone, in a batch and streamed."""

import math
from typing import Any

import pytest
import torch
from tiny_generator import PROMPTS, generator, tokenizer, told

from nanolm.decode.base import DecodeConfig
from nanolm.decode.beam import Beam
from nanolm.decode.greedy import Greedy
from nanolm.decode.sample import Sample
from nanolm.decode.strategy import strategy
from nanolm.errors import ConfigError, NanolmError
from nanolm.tokenizer.base import BOS, EOS
from nanolm.tokenizer.streaming import pieces

ORIGINAL = {"norm": "layer", "norm_position": "post", "positions": "sinusoidal", "mlp": "single"}
ARRANGEMENTS: dict[str, dict[str, Any]] = {
    "modern": {},
    "grouped": {"kv_heads": 1, "qk_norm": False, "tied": True},
    "ngrams": {"ngrams": 3, "ngram_rows": 100},
    "original": ORIGINAL,
}


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
