"""python evaluate.py run=latest data=files data.path=mine.txt: bits per byte of any text under a run."""

from nanolm.cli.configs import EvaluateConfig
from nanolm.cli.door import door


def main(config: EvaluateConfig, overrides: list[str]) -> None:
    given = vars(config) | {"typed": [override.partition("=")[0] for override in overrides]}
    if given["benchmark"] is None:
        from nanolm.cli.evaluate import evaluate

        evaluate(**{key: value for key, value in given.items() if key not in ("benchmark", "checkpoints")})
    else:
        from nanolm.cli.benchmark import benchmark

        benchmark(**{key: value for key, value in given.items() if key not in ("data", "split", "path")})


if __name__ == "__main__":
    door("evaluate", main)
