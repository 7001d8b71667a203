"""What a command says of arguments that it cannot take, which may hold a secret."""

from typing import Any

from typer.core import TyperCommand

__all__ = ["Command"]


class Command(TyperCommand):
    """A command that repeats nothing of the arguments that are too many: a header without quotes
    falls to pieces, of which one is the key.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """The arguments that are left; ends with the way out where there are any."""
        ctx.allow_extra_args = True
        left = super().parse_args(ctx, args)
        if left and not ctx.resilient_parsing:
            more = "1 argument" if len(left) == 1 else f"{len(left)} arguments"
            ctx.fail(
                f"{more} too many. What holds a space goes in quotes: --header 'X-Team: search'"
            )
        return left
