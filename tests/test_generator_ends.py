"""Where a text ends: stop strings, the end of the context and beyond it, a blank at the prompt's end."""

from dataclasses import replace

import pytest
import torch
from tiny_generator import PROMPTS, generator, told

from nanolm.decode.base import DecodeConfig
from nanolm.decode.beam import Beam
from nanolm.decode.greedy import Greedy
from nanolm.decode.sample import Sample
from nanolm.decode.windows import last_window
from nanolm.errors import ConfigError
from nanolm.tokenizer.base import EOS


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
