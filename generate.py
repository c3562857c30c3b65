"""python generate.py run=latest prompt="the army general": writes text with a trained model."""

from nanolm.schema import GenerateConfig, door


def main(config: GenerateConfig) -> None:
    from pathlib import Path

    from nanolm.generating import write

    machine = {"device": config.device, "precision": config.precision, "quantize": config.quantize}
    write(config.run, config.prompt, config.decode, config.seed, Path(config.outputs), **machine)


if __name__ == "__main__":
    door("generate", main)
