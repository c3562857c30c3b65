"""Agreement: how often a run in bf16 or int8 writes what it writes in fp32, greedily, one prompt at a time.

python benchmarks/agreement.py RUN     # prompts: the first words of 200 texts that the run itself writes
"""

import sys
from itertools import takewhile
from pathlib import Path

from nanolm.generator import Generator, load

PROMPTS, WORDS, NEW = 200, 8, 48


def texts(generator: Generator, prompts: list[str]) -> list[list[int]]:
    """The ids that it writes after each prompt."""
    return [generator.complete([one], "greedy", max_new_tokens=NEW)[0][0].ids for one in prompts]


def main() -> None:
    run = Path(sys.argv[1])
    exact = load(run, device="cpu", precision="fp32")
    begun = exact.complete([""] * PROMPTS, "sample", seed=0, max_new_tokens=WORDS)
    prompts = [found.text for [found] in begun if not found.finished]
    wanted = texts(exact, prompts)
    print(f"{run.name}: {len(prompts)} prompts, {sum(map(len, wanted)) / len(wanted):.1f} tokens a text in fp32\n")
    print("| | texts that are equal | tokens before the first that differs |\n|---|---|---|")
    for name, how in (("bf16", {"precision": "bf16"}), ("int8", {"quantize": "int8"})):
        found = texts(load(run, device="cpu", **how), prompts)
        equal = sum(one == other for one, other in zip(found, wanted, strict=True)) / len(wanted)
        pairs = [zip(one, other, strict=False) for one, other in zip(found, wanted, strict=True)]
        same = sum(sum(1 for _ in takewhile(lambda two: two[0] == two[1], pair)) for pair in pairs) / len(wanted)
        print(f"| {name} | {equal:.1%} | {same:.1f} |")


if __name__ == "__main__":
    main()
