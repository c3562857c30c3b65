"""python app.py run=best: a page to write with a model, look inside it, see tokens, and compare runs."""

from nanolm.cli.configs import AppConfig
from nanolm.cli.door import door


def main(config: AppConfig) -> None:
    from pathlib import Path

    from nanolm.app.page import build_app, serve

    blocks = build_app(Path(config.outputs), config.run, config.device, config.precision)
    serve(blocks, config.host, config.port, browser=config.open, auth=config.auth)


if __name__ == "__main__":
    door("app", main)
