"""python look.py run=latest prompt="the army general is sent to": what a model does inside, on one page."""

from nanolm.cli.configs import LookConfig
from nanolm.cli.door import door


def main(config: LookConfig) -> None:
    from nanolm.cli.look import look

    look(**vars(config))


if __name__ == "__main__":
    door("look", main)
