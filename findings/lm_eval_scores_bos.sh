#!/bin/bash
# lm-eval 0.4.13, transformers 5.23.0, torch 2.13.0, 2026-11-28
# One would have sworn: loglikelihood_rolling, the base of its perplexities and bits per byte, is log p(text | BOS), the same
# number as loglikelihood with an empty context.
# What happens: with a tokenizer that puts BOS first by itself (as many do), BOS is put there twice, and the second one is scored
# as a token of the text: log p(BOS, text | BOS). loglikelihood is right. Only add_bos_token=False, which reads like the contrary,
# makes the two agree.
# Seen (a tiny random model; other versions of torch may give other last digits): torch -34.03; loglikelihood -34.03;
# loglikelihood_rolling -37.44, with add_bos_token=True -37.44, with add_bos_token=False -34.03; torch, BOS twice: -37.44.
set -euo pipefail
d=$(mktemp -d)
trap 'rm -rf "$d"' EXIT
cd "$d"
python3 -m venv v
v/bin/pip install -q lm_eval==0.4.13 transformers==5.23.0 accelerate==1.15.0 torch==2.13.0 numpy==2.4.6

export HF_HUB_OFFLINE=1
v/bin/python - <<'END'
import torch
from tokenizers import Tokenizer, models, processors
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

vocabulary = {token: i for i, token in enumerate(["<BOS>", "<EOS>", *"abcdefghijklmnopqrstuvwxyz ."])}
tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
tokenizer.post_processor = processors.TemplateProcessing(single="<BOS> $A", special_tokens=[("<BOS>", 0)])
PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<BOS>", eos_token="<EOS>").save_pretrained("tiny")
torch.manual_seed(0)
shape = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2, head_dim=8)
Qwen3ForCausalLM(Qwen3Config(vocab_size=len(vocabulary), bos_token_id=0, eos_token_id=1, **shape)).save_pretrained("tiny")

from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from transformers import AutoModelForCausalLM, AutoTokenizer

text = "a cat sat."


def score(ids):
    """log p(ids[1:] | ids[0]) by torch alone."""
    with torch.no_grad():
        logits = AutoModelForCausalLM.from_pretrained("tiny")(torch.tensor([ids])).logits[0]
    return logits.log_softmax(-1)[:-1].gather(1, torch.tensor(ids[1:])[:, None]).sum().item()


def by_lm_eval(kind, arguments, **options):
    model = HFLM(pretrained="tiny", device="cpu", dtype="float32", batch_size=1, **options)
    found = getattr(model, kind)([Instance(kind, {}, arguments, 0)], disable_tqdm=True)[0]
    return found[0] if isinstance(found, tuple) else found


ids = AutoTokenizer.from_pretrained("tiny")(text).input_ids
assert ids[0] == 0 and ids.count(0) == 1
want, twice = score(ids), score([0, *ids])
empty = by_lm_eval("loglikelihood", ("", text))
rolling = by_lm_eval("loglikelihood_rolling", (text,))
with_bos = by_lm_eval("loglikelihood_rolling", (text,), add_bos_token=True)
without = by_lm_eval("loglikelihood_rolling", (text,), add_bos_token=False)
print(f"torch: {want:.2f}; torch, BOS twice: {twice:.2f}; loglikelihood: {empty:.2f}")
print(f"loglikelihood_rolling: {rolling:.2f}; add_bos_token=True: {with_bos:.2f}; add_bos_token=False: {without:.2f}")
assert abs(empty - want) < 1e-3 and abs(without - want) < 1e-3
assert abs(rolling - twice) < 1e-3 and abs(with_bos - twice) < 1e-3 and twice < want - 1
END
