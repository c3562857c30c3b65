"""python attend.py run=latest prompt="the army general is sent to": shows what a model's heads look at."""

from nanolm.schema import AttendConfig, door


def main(config: AttendConfig) -> None:
    from pathlib import Path

    from nanolm.attention import attend

    outputs = Path(config.outputs)
    attend(config.run, config.prompt, config.decode, config.seed, config.layer, config.head, outputs, config.device)


if __name__ == "__main__":
    door("attend", main)
