"""python generate.py run=latest prompt="the army general": writes text with a trained model."""

from nanolm.schema import GenerateConfig, door


def main(config: GenerateConfig) -> None:
    from nanolm.generating import write

    write(**vars(config))


if __name__ == "__main__":
    door("generate", main)
