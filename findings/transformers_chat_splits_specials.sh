#!/bin/bash
# transformers 5.23.0, tokenizers 0.23.3, 2026-11-29
# One would have sworn: split_special_tokens=True is about what a user types; the special tokens of a tokenizer's own chat template
# stay tokens, as the one that its post-processor puts first does.
# What happens: apply_chat_template renders to text and reads that as any text, so each of the template's special tokens is cut into
# pieces, without a warning. tokenizer_kwargs={"split_special_tokens": False} gives the tokens, and lets the user type them again.
# Seen: by default [2, 4, 6, 7, 3, 8, ...], the letters of '<BOS>' first; with split_special_tokens=False [0, 8, 34, 10, 8, 27, 1].
set -euo pipefail
d=$(mktemp -d)
trap 'rm -rf "$d"' EXIT
cd "$d"
python3 -m venv v
v/bin/pip install -q transformers==5.23.0 tokenizers==0.23.3 jinja2==3.1.6 numpy==2.4.6

v/bin/python - <<'END'
from tokenizers import Tokenizer, models, processors
from transformers import PreTrainedTokenizerFast

vocabulary = {token: i for i, token in enumerate(["<BOS>", "<EOS>", *"<>BEOSabcdefghijklmnopqrstuvwxyz ."])}
tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
tokenizer.post_processor = processors.TemplateProcessing(single="<BOS> $A", special_tokens=[("<BOS>", 0)])
tokenizer = PreTrainedTokenizerFast(
    tokenizer_object=tokenizer, bos_token="<BOS>", eos_token="<EOS>", split_special_tokens=True
)
tokenizer.chat_template = "{{ bos_token }}{% for message in messages %}{{ message['content'] }}{{ eos_token }}{% endfor %}"

chat = [{"role": "user", "content": "a cat"}]
typed = tokenizer("a<EOS>").input_ids
default = tokenizer.apply_chat_template(chat, return_dict=False)
asked = tokenizer.apply_chat_template(chat, return_dict=False, tokenizer_kwargs={"split_special_tokens": False})
print("typed:", typed)
print("apply_chat_template:", default)
print("with split_special_tokens=False:", asked)
assert typed[0] == 0 and 1 not in typed
assert 0 not in default and 1 not in default
assert (asked[0], asked[-1]) == (0, 1)
END
