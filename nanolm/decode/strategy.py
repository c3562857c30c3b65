"""Which decoding strategy is meant by a name, a config, or fields alone.

In: what a caller of `generate` gives. Out: a decoding config, or ConfigError.
"""

import dataclasses
from typing import Any

from nanolm.config import build, options, plain
from nanolm.decode.base import DecodeConfig
from nanolm.errors import ConfigError


def strategy(decode: str | DecodeConfig | None, fields: dict[str, Any]) -> DecodeConfig:
    """The decoding config that the words mean: `decode` (a config or a name) with `fields` put in.

    Without `decode`: the strategy that has all `fields`; sample, where more than one has. Raises ConfigError.
    """
    if isinstance(fields.get("stop"), str):
        fields = {**fields, "stop": [fields["stop"]]}
    if isinstance(decode, DecodeConfig):
        return build("decode", plain(decode) | fields) if fields else decode
    if decode is not None:
        return build("decode", {**fields, "name": decode})
    known = {name: {field.name for field in dataclasses.fields(cls)[1:]} for name, cls in options("decode").items()}
    every: set[str] = set().union(*known.values())
    if odd := [key for key in fields if key not in every]:
        raise ConfigError(f"decode.{odd[0]}: no such field; there are {', '.join(sorted(every))}")
    if able := [name for name in ("sample", *known) if set(fields) <= known[name]]:
        return build("decode", {**fields, "name": able[0]})
    owners = (f"{key} ({' | '.join(name for name in known if key in known[name])})" for key in fields)
    raise ConfigError(f"no decode strategy has all of {', '.join(owners)}: leave some out")
