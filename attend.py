"""python attend.py run=latest prompt="the army general is sent to": shows what a model's heads look at."""

from nanolm.cli.configs import AttendConfig
from nanolm.cli.door import door


def main(config: AttendConfig) -> None:
    from nanolm.cli.attend import attend

    attend(**vars(config))


if __name__ == "__main__":
    door("attend", main)
