"""What is said of an input: how its lines become requests, and which part of it is meant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from headway.bulk.input.lines import InvalidInput
from headway.kinds._words import shown

__all__ = ["Shape", "Shard"]


@dataclass(frozen=True, slots=True)
class Shape:
    """How lines become requests: what of the options changes the requests.

    `endpoint` is the url of lines without one, a short name or a path. `model` is for prompts, and
    for bodies of the plain form that name none. `parameters` are further members of a prompt's
    body, such as ``{"temperature": 0}``. Raises `InvalidInput` for what is no text, or no mapping.
    """

    endpoint: str | None = None
    model: str | None = None
    prompt_column: str | None = None
    id_column: str | None = None
    template: str | None = None
    system: str | None = None
    parameters: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("endpoint", "model", "prompt_column", "id_column", "template", "system"):
            value = getattr(self, name)
            if not isinstance(value, str | None):
                raise InvalidInput(
                    f"{name}={shown(value)} is not text", fix=f"give {name} as a string, or none"
                )
        names = self.parameters if isinstance(self.parameters, Mapping) else [None]
        if not all(isinstance(name, str) for name in names):
            raise InvalidInput(
                f"parameters={shown(self.parameters)} is not a mapping of names to values",
                fix='give parameters={"temperature": 0}, or none',
            )


@dataclass(frozen=True, slots=True)
class Shard:
    """The part `index` (from 0) of `count`: the lines that start in its share of the bytes."""

    index: int
    count: int

    def __post_init__(self) -> None:
        whole = all(type(each) is int for each in (self.index, self.count))
        if not (whole and 0 <= self.index < self.count):
            raise InvalidInput(
                f"there is no shard {self.index}/{self.count}",
                fix="give i/N with i from 0 to N - 1, like 0/8",
            )

    @classmethod
    def parse(cls, text: str) -> Shard:
        """The shard that "3/8" means; `InvalidInput` for what is none."""
        # Who has no type checker may pass anything.
        index, slash, count = text.partition("/") if isinstance(text, str) else ("", "", "")
        if not (
            slash and index.isascii() and index.isdigit() and count.isascii() and count.isdigit()
        ):
            raise InvalidInput(
                f"{text!r} is no shard", fix="give i/N with i from 0 to N - 1, like 0/8"
            )
        return cls(int(index), int(count))
