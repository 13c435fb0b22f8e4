"""What can be chosen about `mien label`: the one home of its settings. Imports nothing heavy: the command reads it."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from functools import cached_property

from mien.errors import ConfigError
from mien.label.history import TABLE, class_name, person_name
from mien.serve.config import PORT, ServeConfig
from mien.settings import setting


@dataclass(frozen=True, kw_only=True)
class LabelConfig:
    """The settings of `mien label`. Raises ConfigError."""

    classes: tuple[str, ...] = setting(
        (),
        "classes to choose from; more can be added on the page at any time. One with a comma in its name stands in "
        "double quotes: '\"calm, still\",bored'",
    )
    who: str = setting(
        "me", "the name under which answers are kept, until somebody types another on the page"
    )
    learn: bool = setting(True, "learn from the answers meanwhile, and guess")
    host: str = setting("127.0.0.1", "address to listen on; any but this machine's own needs a token")
    port: int = setting(8010, "port to listen on; 0: any free one", within=PORT)
    token: str | None = setting(
        None, "what everybody must type to get in; better given in $MIEN_TOKEN, where ps does not show it"
    )
    allow_host: tuple[str, ...] = setting(
        (), "names by which this server may be called; none: this machine's own where it listens only there"
    )

    def __post_init__(self) -> None:
        for name in self.classes:
            class_name(name)
        if person_name(self.who) == TABLE:
            raise ConfigError(f"{TABLE!r} stands for whoever edits the table; choose another name for who")
        if not self.serve.is_local and self.token is None:
            raise ConfigError(
                f"everybody who reaches {self.host} could see the faces and change the labels: give a token, as "
                f"--token {secrets.token_urlsafe(15)} or in $MIEN_TOKEN"
            )

    @cached_property
    def serve(self) -> ServeConfig:
        """The same as the server's own settings, with its limits."""
        return ServeConfig(
            host=self.host,
            port=self.port,
            token=self.token,
            allow_host=self.allow_host,
            max_megabytes=4,  # ids of 100,000 faces
            grace_s=3.0,
            drain_s=0.0,
        )
