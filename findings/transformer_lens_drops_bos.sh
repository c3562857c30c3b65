#!/bin/bash
# transformer-lens 4.3.0, transformers 5.23.0, torch 2.13.0, 2026-11-28
# One would have sworn: TransformerBridge tokenizes a prompt as the model's own tokenizer does.
# What happens: for a Qwen3 folder it takes off the BOS that the tokenizer itself puts first, because the architecture (and not
# the folder's tokenizer) decides: cfg.default_prepend_bos is False. The logits are those of another prompt, without a warning.
# Seen: tokenizer: [0, 2, 28, 4, 2, 21]; bridge: [2, 28, 4, 2, 21]; with prepend_bos=True: [0, 2, 28, 4, 2, 21].
set -euo pipefail
d=$(mktemp -d)
trap 'rm -rf "$d"' EXIT
cd "$d"
python3 -m venv v
v/bin/pip install -q transformer-lens==4.3.0 transformers==5.23.0 torch==2.13.0 numpy==2.4.6

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

from transformer_lens.model_bridge import TransformerBridge
from transformers import AutoTokenizer

text = "a cat"
ids = AutoTokenizer.from_pretrained("tiny")(text).input_ids
bridge = TransformerBridge.boot_transformers("tiny", device="cpu")
default, asked = (bridge.to_tokens(text, **options)[0].tolist() for options in ({}, {"prepend_bos": True}))
print("tokenizer:", ids)
print("bridge:", default, "default_prepend_bos:", bridge.cfg.default_prepend_bos)
print("bridge, prepend_bos=True:", asked)
assert ids[0] == 0 and default == ids[1:] and asked == ids
END
