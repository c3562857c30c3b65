"""python export.py run=best format=hf: a folder that transformers opens, or a Hugging Face Space."""

from nanolm.cli.configs import ExportConfig
from nanolm.cli.door import door


def main(config: ExportConfig) -> None:
    from nanolm.export.export import export

    export(config.run, config.format, config.folder, config.push, config.outputs, config.runtime)


if __name__ == "__main__":
    door("export", main)
