"""python attend.py run=latest prompt="the army general is sent to": shows what a model's heads look at."""

from nanolm.schema import AttendConfig, door


def main(config: AttendConfig) -> None:
    from nanolm.attention import attend

    attend(**vars(config))


if __name__ == "__main__":
    door("attend", main)
