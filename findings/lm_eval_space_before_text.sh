#!/bin/bash
# lm-eval 0.4.13, transformers 5.23.0, datasets 5.2.0, torch 2.13.0, 2026-11-29
# One would have sworn: a task without a context (doc_to_text: "", as that of BLiMP) scores each choice as it stands in the data.
# What happens: target_delimiter is a space unless the task says otherwise, and stands before each choice though there is nothing to
# delimit it from. A tokenizer that keeps spaces reads another text: here one more token, paid for by the model.
# Seen (a tiny random model): ('', ' a cat sat.') -37.15; with target_delimiter: "" ('', 'a cat sat.') -34.03.
set -euo pipefail
d=$(mktemp -d)
trap 'rm -rf "$d"' EXIT
cd "$d"
python3 -m venv v
v/bin/pip install -q lm_eval==0.4.13 transformers==5.23.0 datasets==5.2.0 accelerate==1.15.0 torch==2.13.0 numpy==2.4.6

export HF_HUB_OFFLINE=1 HF_HOME="$d/hub"
mkdir tasks
echo '{"sentence_good": "a cat sat.", "sentence_bad": "a sat cat."}' > pairs.jsonl
for name in plain bare; do
  cat > "tasks/$name.yaml" <<END
task: $name
dataset_path: json
dataset_kwargs: {data_files: {train: $d/pairs.jsonl}}
output_type: multiple_choice
validation_split: train
doc_to_text: ""
doc_to_target: 0
doc_to_choice: "{{[sentence_good, sentence_bad]}}"
metric_list: [{metric: acc}]
END
done
echo 'target_delimiter: ""' >> tasks/bare.yaml

v/bin/python - <<'END'
import torch
from lm_eval.evaluator import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

vocabulary = {token: i for i, token in enumerate(["<BOS>", "<EOS>", *"abcdefghijklmnopqrstuvwxyz ."])}
tokenizer = PreTrainedTokenizerFast(
    tokenizer_object=Tokenizer(models.BPE(vocab=vocabulary, merges=[])), bos_token="<BOS>", eos_token="<EOS>"
)
torch.manual_seed(0)
shape = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2, head_dim=8)
model = Qwen3ForCausalLM(Qwen3Config(vocab_size=len(vocabulary), bos_token_id=0, eos_token_id=1, **shape)).eval()


def score(text):
    """log p(text | BOS) by torch alone."""
    ids = torch.tensor([[0, *tokenizer(text).input_ids]])
    with torch.no_grad():
        return model(ids).logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None]).sum().item()


judge = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=1)
tasks = TaskManager(include_path="tasks", include_defaults=False)
done = simple_evaluate(judge, tasks=["plain", "bare"], task_manager=tasks, bootstrap_iters=0)
found = {}
for name, [sample] in done["samples"].items():
    context, choice = sample["arguments"][0]
    found[name] = sample["resps"][0][0][0]
    print(name, (context, choice), round(found[name], 2))
print("torch:", round(score(" a cat sat."), 2), round(score("a cat sat."), 2))
assert abs(found["plain"] - score(" a cat sat.")) < 1e-3 and abs(found["bare"] - score("a cat sat.")) < 1e-3
assert found["plain"] < found["bare"] - 1
END
