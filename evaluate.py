"""python evaluate.py run=latest data=files data.path=mine.txt: bits per byte of any text under a run."""

from nanolm.schema import EvaluateConfig, door


def main(config: EvaluateConfig) -> None:
    from pathlib import Path

    from nanolm.evaluating import evaluate

    machine = {"device": config.device, "precision": config.precision, "quantize": config.quantize}
    evaluate(config.run, config.data, config.split, Path(config.outputs), **machine)


if __name__ == "__main__":
    door("evaluate", main)
