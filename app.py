"""python app.py run=best: a page to write with a model, look inside it, see tokens, compare runs and watch sweeps."""

from nanolm.cli.configs import AppConfig
from nanolm.cli.door import door


def main(config: AppConfig) -> None:
    from pathlib import Path

    from nanolm.app.page import build_app, serve

    built = build_app(Path(config.outputs), config.run, config.device, config.precision)
    serve(*built, config.host, config.port, browser=config.open, auth=config.auth)


if __name__ == "__main__":
    door("app", main)
