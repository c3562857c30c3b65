#!/bin/bash
# transformers 5.23.0, tokenizers 0.23.3, torch 2.13.0, 2026-11-29
# One would have sworn: the generated_text of a text-generation pipeline is the text of the prompt's and the new tokens together.
# What happens: it is the prompt as typed with the new tokens' own text behind it, and a decoder that puts spaces between words, as
# that of any WordLevel tokenizer, puts none before the first: the prompt's last word and the first new one become one word.
# Seen (a tiny random model): all ids decoded: 'a cat ran mat hill'; the pipeline: 'a catran mat hill'.
set -euo pipefail
d=$(mktemp -d)
trap 'rm -rf "$d"' EXIT
cd "$d"
python3 -m venv v
v/bin/pip install -q transformers==5.23.0 tokenizers==0.23.3 torch==2.13.0 numpy==2.4.6

export HF_HUB_OFFLINE=1
v/bin/python - <<'END'
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM, pipeline

words = ["<UNK>", "<EOS>", *"a the cat dog sat ran on mat hill".split()]
tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, "<UNK>"))
tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<UNK>", eos_token="<EOS>")
torch.manual_seed(0)
shape = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2, head_dim=8)
model = Qwen3ForCausalLM(Qwen3Config(vocab_size=len(words), bos_token_id=None, eos_token_id=1, pad_token_id=1, **shape)).eval()

options = dict(do_sample=False, max_new_tokens=3, suppress_tokens=[0, 1])
prompt = tokenizer("a cat", return_tensors="pt")
whole = tokenizer.decode(model.generate(input_ids=prompt.input_ids, attention_mask=prompt.attention_mask, **options)[0])
found = pipeline("text-generation", model, tokenizer=tokenizer)("a cat", **options)[0]["generated_text"]
print("all ids decoded:", repr(whole))
print("the pipeline:   ", repr(found))
assert whole.startswith("a cat ") and found == whole.replace("a cat ", "a cat", 1)
END
