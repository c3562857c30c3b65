"""python evaluate.py run=latest data=files data.path=mine.txt: bits per byte of any text under a run."""

from nanolm.schema import EvaluateConfig, door


def main(config: EvaluateConfig) -> None:
    from nanolm.evaluating import evaluate

    evaluate(**vars(config))


if __name__ == "__main__":
    door("evaluate", main)
