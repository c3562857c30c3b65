"""Exports opened by transformers: nothing of ours."""

import csv
import gzip
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import untrained
from exported import ROOT, STOCK, out
from untrained import TEXTS, tokenizer

from nanolm.config import build
from nanolm.decode.beam import Beam
from nanolm.decode.greedy import Greedy
from nanolm.export.export import export
from nanolm.generator import load
from nanolm.runs.run import Run
from nanolm.text import normalise
from nanolm.tokenizer.base import BOS, EOS, PAD, UNK, Tokenizer

REAL = ROOT.parent / "shared" / "data" / "movie_extracts.csv.gz"
KINDS = [(name, mode) for name in ("char", "word", "bpe") for mode in ("clean", "none")]
ODD = ["<EOS>", "a <BOS> b", "<PAD><UNK>", "x<EOS>", "<bos>", "", "  ", "İΣ ΑΣ.", "a\n\nb\t<EOS>", "don't [1] stop!?"]
PROMPTS = ["the army", "", "a dog and a dragon fight", "the sea comes"]


def ended(row: list[int]) -> list[int]:
    """Ids up to <EOS>; transformers fills the rest with it or with <PAD>."""
    return row[: row.index(EOS) + 1] if EOS in row else [token for token in row if token != PAD]


@pytest.mark.slow
class TestByTransformers:
    """AutoModelForCausalLM and AutoTokenizer, nothing of ours."""

    transformers = pytest.importorskip("transformers")

    @pytest.mark.parametrize("kind", STOCK)
    def test_logits_are_equal(self, tmp_path: Path, kind: str) -> None:
        folder = out(tmp_path, **STOCK[kind])
        theirs = self.transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
        assert theirs.config.model_type == kind.partition("-")[0]
        ours = Run.open(tmp_path / "out" / "run").model()
        ids = torch.randint(4, ours.vocab_size, (3, ours.context), generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            expected = ours.logits(ours(ids))
            torch.testing.assert_close(theirs(ids).logits, expected, atol=1e-4, rtol=0)
        assert expected.abs().mean() > 0.5, "a model without opinions would prove little"

    @pytest.mark.parametrize("beams", [1, 10])
    @pytest.mark.parametrize("kind", STOCK)
    def test_generation_gives_the_same_tokens(self, tmp_path: Path, kind: str, beams: int) -> None:
        folder = out(tmp_path, **STOCK[kind])
        theirs = self.transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
        words = self.transformers.AutoTokenizer.from_pretrained(folder)
        writer = load(tmp_path / "out" / "run", device="cpu", precision="fp32")
        config = Beam(num_beams=beams, num_return_sequences=beams) if beams > 1 else Greedy()
        for prompt, found in zip(PROMPTS, writer.complete(PROMPTS, config), strict=True):
            given = words(prompt, return_tensors="pt")
            how = {"num_beams": beams, "num_return_sequences": beams, "max_length": writer.model.context + 1}
            rows = theirs.generate(**given, do_sample=False, **how)
            assert [ended(row[given.input_ids.shape[1] :]) for row in rows.tolist()] == [one.ids for one in found]
            assert words.decode(rows[0], skip_special_tokens=True).strip() == found[0].text

    def test_a_padded_batch_gives_the_same_tokens(self, tmp_path: Path) -> None:
        folder = out(tmp_path)
        theirs = self.transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
        words = self.transformers.AutoTokenizer.from_pretrained(folder)
        given = words(PROMPTS, return_tensors="pt", padding=True)
        rows = theirs.generate(**given, do_sample=False, max_new_tokens=9)[:, given.input_ids.shape[1] :]
        found = load(tmp_path / "out" / "run").complete(PROMPTS, Greedy(max_new_tokens=9))
        assert [ended(row) for row in rows.tolist()] == [one.ids for [one] in found]

    def test_generation_stops_at_eos_and_writes_no_special(self, tmp_path: Path) -> None:
        folder = out(tmp_path)
        theirs = self.transformers.AutoModelForCausalLM.from_pretrained(folder)
        assert theirs.generation_config.eos_token_id == EOS
        torch.manual_seed(0)
        how: dict[str, Any] = {"do_sample": True, "top_k": 0, "num_return_sequences": 64, "max_length": 25}
        rows = theirs.generate(torch.tensor([[BOS]]), **how)[:, 1:]
        written = [ended(row) for row in rows.tolist()]
        assert any(EOS in row for row in written)
        assert not {PAD, UNK, BOS} & {token for row in written for token in row}

    @pytest.mark.parametrize(("name", "mode"), KINDS)
    def test_typed_specials_are_text(self, tmp_path: Path, name: str, mode: str) -> None:
        self.same_ids(tmp_path, tokenizer(name, mode), ODD + TEXTS)

    @pytest.mark.parametrize(("name", "mode"), KINDS)
    def test_ids_of_real_texts_are_equal(self, tmp_path: Path, name: str, mode: str) -> None:
        if not REAL.exists():
            pytest.skip("needs ../shared/data")
        with gzip.open(REAL, "rt", encoding="utf-8", newline="") as file:
            texts = [row["Plot"] for row, _ in zip(csv.DictReader(file), range(1000), strict=False)]
        config = {"name": name} | ({"vocab_size": 1000} if name == "bpe" else {"minfreq": 2})
        words = build("tokenizer", config).fit([normalise(text, mode) for text in texts[:500]], mode)
        self.same_ids(tmp_path, words, texts)

    def same_ids(self, folder: Path, words: Tokenizer, texts: list[str]) -> None:
        untrained.run(folder, words)
        theirs = self.transformers.AutoTokenizer.from_pretrained(export("latest", outputs=str(folder / "out")))
        assert (theirs.bos_token_id, theirs.eos_token_id, theirs.pad_token_id) == (BOS, EOS, PAD)
        for text in texts:
            ids = words.encode(normalise(text, words.normalise))
            assert theirs(text).input_ids == [BOS, *ids], text
            spaced = words.config.name == "word" and words.normalise == "clean" and bool(ids)
            assert theirs.decode([BOS, *ids, EOS, PAD], skip_special_tokens=True) == " " * spaced + words.decode(ids)

    @pytest.mark.parametrize(("name", "mode"), KINDS)
    def test_pipelines_continue_the_text_as_we_do(
        self, tmp_path: Path, name: str, mode: str, capfd: pytest.CaptureFixture[str]
    ) -> None:
        untrained.run(tmp_path, tokenizer(name, mode))
        pipe = self.transformers.pipeline("text-generation", model=str(export("latest", outputs=str(tmp_path / "out"))))
        capfd.readouterr()
        [found] = pipe("the army", do_sample=False, max_new_tokens=5)
        ours = load(tmp_path / "out" / "run", precision="fp32").generate("the army", "greedy", max_new_tokens=5)
        assert found["generated_text"] == ours
        assert "max_length" not in "".join(capfd.readouterr())

    def test_the_harness_gets_our_nats(self, tmp_path: Path) -> None:
        """As lm-eval does with add_bos_token=False: <BOS> before ids that were read without special tokens."""
        folder = out(tmp_path)
        theirs = self.transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
        words = self.transformers.AutoTokenizer.from_pretrained(folder)
        run = Run.open(tmp_path / "out" / "run")
        for text in ("the army general", "a dog and a dragon fight over a river"):
            ids = words(text, add_special_tokens=False).input_ids
            assert ids == run.tokenizer().encode(text)
            with torch.inference_mode():
                scores = theirs(torch.tensor([[BOS, *ids[:-1]]])).logits[0].log_softmax(-1)
                nats = run.model().nats(torch.tensor([[BOS, *ids[:-1]]]), torch.tensor([ids]))
            assert -scores[range(len(ids)), ids].sum().item() == pytest.approx(nats.sum().item(), abs=1e-4)

    def test_the_cards_own_lines_run(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        folder = out(tmp_path)
        capsys.readouterr()
        code = re.search(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.S)
        assert code
        exec(code[1].replace("path/to/this/folder", str(folder)), {})
        assert capsys.readouterr().out.startswith("the army general")
