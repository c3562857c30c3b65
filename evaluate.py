"""python evaluate.py run=latest data=files data.path=mine.txt: bits per byte of any text under a run."""

from nanolm.cli.configs import EvaluateConfig
from nanolm.cli.door import door


def main(config: EvaluateConfig) -> None:
    from nanolm.cli.evaluate import evaluate

    evaluate(**vars(config))


if __name__ == "__main__":
    door("evaluate", main)
