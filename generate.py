"""python generate.py run=latest prompt="the army general": writes text with a trained model."""

from nanolm.cli.configs import GenerateConfig
from nanolm.cli.door import door


def main(config: GenerateConfig) -> None:
    from nanolm.cli.generate import generate

    generate(**vars(config))


if __name__ == "__main__":
    door("generate", main)
