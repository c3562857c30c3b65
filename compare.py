"""python compare.py sweep=latest: one table, plots and a page that say what a set of runs has taught."""

from nanolm.cli.door import door
from nanolm.comparing.config import CompareConfig


def main(config: CompareConfig) -> None:
    if config.watch:
        from nanolm.comparing.watch import watch_runs

        watch_runs(config)
    else:
        from nanolm.comparing.compare import compare

        compare(config)


if __name__ == "__main__":
    door("compare", main)
