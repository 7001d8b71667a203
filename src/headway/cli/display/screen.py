"""The screen of ``headway top``, which textual draws."""

from __future__ import annotations

import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.widgets import DataTable, Footer, Static

from headway.cli.display.watched import moments_of, page, rate_now, state
from headway.errors import HeadwayError
from headway.hooks.watch.client import Target, ask, look
from headway.hooks.watch.history import History, Moment
from headway.kinds import _words as words

__all__ = ["Top"]

_EVERY = 1.0  # seconds between two looks
_AGAIN = 3.0  # seconds in which d is pressed a second time
_ALL = "all"
_NAME = 24  # columns: the number of the process and its state have to be seen beside it
_HELP = (
    "up, down: choose a process. page up, page down: scroll. p: pause, and go on. d, twice: drain. "
    "q, Ctrl-C: quit."
)


class Top(App[None]):
    """Every scheduler that is watched, or the one at `path` alone; asked once a second.

    `first` is what a first look found, and what was wrong with others.
    """

    CSS = """
    #processes { height: auto; max-height: 8; }
    #processes.one { display: none; }
    #detail { padding: 0 1; height: auto; }
    VerticalScroll { height: 1fr; }
    """
    BINDINGS = [
        ("p", "pause", "pause/resume"),
        ("d", "drain", "drain"),
        Binding("pageup", "page(-1)", show=False, priority=True),
        Binding("pagedown", "page(1)", show=False, priority=True),
        ("question_mark", "keys", "help"),
        ("q", "quit", "quit"),
        Binding("ctrl+c", "quit", show=False, priority=True),
    ]
    ENABLE_COMMAND_PALETTE = False
    TITLE = "headway top"

    def __init__(
        self, path: Path | None = None, first: tuple[list[Target], list[str]] | None = None
    ) -> None:
        super().__init__()
        self._first = first
        self.found: list[Target] = []
        self._only = path
        self._histories: dict[Path, History] = {}
        self._problems: list[str] = []
        self._looked = False
        self._drain_asked = -_AGAIN

    def compose(self) -> ComposeResult:
        """The processes, what is known of the chosen one, and the keys."""
        table: DataTable[Text] = DataTable(id="processes", cursor_type="row", classes="one")
        for name in ("process", "pid", "state", "queued", "in flight", "per minute", "refused"):
            table.add_column(name)
        yield table
        with VerticalScroll(id="page", can_focus=False):
            yield Static(id="detail")
        yield Footer()

    def on_mount(self) -> None:
        """Look at once, and then again and again."""
        self.set_interval(_EVERY, self._look)
        if self._first is None:
            self._look()
        else:
            self.call_after_refresh(self._see, *self._first)

    def _look(self) -> None:
        since = {path: history.last for path, history in self._histories.items()}
        self.run_worker(partial(self._ask_all, since), thread=True, exclusive=True, group="look")

    def _ask_all(self, since: dict[Path, float]) -> None:
        found, problems = look(since=since)
        self.call_from_thread(self._see, found, problems)

    def _see(self, found: list[Target], problems: list[str]) -> None:
        if not self._is_up:
            return
        self._looked = True
        self.found = [each for each in found if self._only in (None, each.path)]
        self._problems = problems
        paths = {each.path for each in self.found}
        self._histories = {p: one for p, one in self._histories.items() if p in paths}
        for each in self.found:
            history = self._histories.setdefault(each.path, History())
            for moment in moments_of(each.status):
                if moment[0] > history.last:
                    history.add(moment)
        self._fill_table()
        self.draw()

    @property
    def _is_up(self) -> bool:
        """Whether the screen is there, and has not ended while something was asked."""
        return bool(self.screen_stack) and len(self.query("#processes, #detail")) == 2

    def _fill_table(self) -> None:
        table = self.query_one("#processes", DataTable)
        before = self._chosen_key()
        table.clear()
        several = len(self.found) > 1
        table.set_class(not several, "one")
        if not several:
            return
        sums = [sum(column) for column in zip(*map(self._counts, self.found), strict=True)]
        table.add_row(*_cells(_ALL, "", "", sums), key=_ALL)
        for each in self.found:
            cells = _cells(each.name, each.pid, state(each.status), self._counts(each))
            table.add_row(*cells, key=str(each.path))
        keys = [_ALL, *(str(each.path) for each in self.found)]
        table.move_cursor(row=keys.index(before) if before in keys else 0)
        table.focus()

    def _counts(self, found: Target) -> list[float]:
        """What is queued, in flight, sent a minute and refused."""
        now = found.status["statistics"]
        rate = 60 * rate_now(self._moments(found))
        return [now["queued"], now["in_flight"], rate, sum(now["refused"].values())]

    def _moments(self, found: Target) -> list[Moment]:
        return self._histories[found.path].since(-1.0)

    def _chosen_key(self) -> str:
        table = self.query_one("#processes", DataTable)
        if not table.row_count:
            return _ALL
        key = table.coordinate_to_cell_key(table.cursor_coordinate).row_key.value
        return key or _ALL

    @property
    def chosen(self) -> list[Target]:
        """The scheduler that the cursor is on, or all of them."""
        key = self._chosen_key()
        return [each for each in self.found if key in (_ALL, str(each.path))]

    def draw(self) -> None:
        """Draw what is known of the chosen ones."""
        if not self._is_up:
            return
        detail = self.query_one("#detail", Static)
        if not self._looked:
            detail.update("")
            return
        several = [(str(one), one.status, self._moments(one)) for one in self.chosen]
        detail.update(page(several, self._problems, self.size.width))

    def on_data_table_row_highlighted(self) -> None:
        """Another one is chosen."""
        self.draw()

    def on_resize(self) -> None:
        """The terminal has another size."""
        self.draw()

    def action_pause(self) -> None:
        """Pause the chosen ones; those that are paused go on."""
        for each in self.chosen:
            paused = each.status["statistics"]["binds"] == "paused"
            self._do(each, "resume" if paused else "pause")

    def action_drain(self) -> None:
        """Drain the chosen ones, where it is asked for twice: that cannot be undone."""
        now = time.monotonic()
        if now - self._drain_asked > _AGAIN:
            self._drain_asked = now
            names = ", ".join(str(each) for each in self.chosen)
            self.notify(f"d once more drains {names}: nothing new is taken", markup=False)
            return
        self._drain_asked = -_AGAIN
        for each in self.chosen:
            self._do(each, "drain")

    def action_page(self, step: int) -> None:
        """Scroll what is known of the chosen ones."""
        page = self.query_one("#page", VerticalScroll)
        page.scroll_page_down() if step > 0 else page.scroll_page_up()

    def action_keys(self) -> None:
        """Say what the keys do."""
        self.notify(_HELP, title="keys", markup=False)

    def _do(self, found: Target, what: str) -> None:
        self.run_worker(partial(self._ask, found, what), thread=True, group="ask")

    def _ask(self, found: Target, what: str) -> None:
        try:
            ask(found.path, what)
            said, severity = f"{found}: {what}", "information"
        except (HeadwayError, OSError) as error:
            said, severity = f"{found}: {error}", "error"
        self.call_from_thread(self.notify, said, severity=severity, markup=False)
        self.call_from_thread(self._look)


def _cells(name: str, pid: str, state: str, counts: Iterable[float]) -> list[Text]:
    numbers = [Text(words.count(count), justify="right") for count in counts]
    said = Text(name)
    said.truncate(_NAME, overflow="ellipsis")
    return [said, Text(pid), Text(state), *numbers]
