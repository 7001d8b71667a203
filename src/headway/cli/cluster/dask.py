"""``headway run --dask``: the shards of a run as tasks on a cluster of dask.distributed."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from headway.bulk import (
    Endpoint,
    InvalidInput,
    InvalidOutput,
    InvalidSettings,
    Progress,
    RunOptions,
    Shard,
    open_source,
)
from headway.bulk.output.merge import check_target, merge
from headway.bulk.output.opening import paths_of
from headway.bulk.output.paths import is_device, run_folder
from headway.bulk.output.replaced import identity_of
from headway.bulk.record.status import Forecast
from headway.cli.cluster import shards
from headway.errors import HeadwayError, MissingExtra
from headway.kinds._words import counted
from headway.rates import Limits
from headway.shared.stores.places import forget_here

__all__ = ["run"]

logger = logging.getLogger("headway")

_LOCAL = re.compile(r"local(?::(\d+))?")
_MOST_SHARDS = 64  # each reads the whole input once, and a process sends hundreds a second
_MOST_LOCAL = 8
_CONNECTING = 10.0  # seconds
_FIRST_WORKER = 60.0
_NEEDED = ["distributed.nanny", shards.__name__, "genai_prices.data"]
_EVERY = 0.25
_LOOK_EVERY = 0.5
_GONE = 5.0  # without a shard at work, after which a run that is asked for its end waits no more
_FETCHING = 2.0


def run(
    address: str,
    source: str,
    output: str | None,
    *,
    options: RunOptions,
    limits: Limits,
    patience: float,
    endpoint: Endpoint,
    shared: str | None,
    watch: Callable[[Progress], None],
    asked: Callable[[], int],
) -> Progress:
    """Run the shards of `source` on the cluster at `address`, and merge them to `output`.

    `address` is that of a scheduler, or ``"local"`` or ``"local:4"`` for so many processes of this
    machine. `watch` is shown the progress of all; `asked` says what is wanted of the run
    (`shards.DRAIN`, `shards.CANCEL`). Raises `MissingExtra` without dask.distributed,
    `HeadwayError` for a cluster that cannot be used or is gone, and what a bulk run raises; what
    the shards have then stays, for the next run to go on with.
    """
    _import_distributed()
    whole = _Whole(source, output, options, endpoint)
    place = _shared(address, shared, whole, limits)
    with ExitStack() as stack:
        client = stack.enter_context(_cluster(address))
        _meet(client, address, whole)
        session = _ClusterRun(client, address, whole, options, limits, asked)
        tasks = {
            index: shards.ShardTask(
                session.name, whole.source, path, whole.target, each, limits, patience,
                endpoint, place, identity_of(path),
            )
            for index, (path, each) in enumerate(whole.shards(_workers_of(client)))
        }  # fmt: skip
        progress = session.run(tasks, watch)
        if progress.stopped is None and not progress.remaining and not asked():
            progress = session.merge(tasks, progress)
            watch(progress)
    if shared is None and progress.output is not None:
        forget_here(place)
    return progress


def _import_distributed() -> Any:
    try:
        import distributed
    except ImportError as error:
        raise MissingExtra(
            "headway run --dask needs dask.distributed, which is not installed",
            fix="install it, here and on every worker, with: pip install 'headway[dask]'",
        ) from error
    return distributed


class _Whole:
    """What is to be run: the input, the output, and the shards between them.

    Raises `InvalidInput` and `InvalidOutput` for what cannot be run in shards.
    """

    def __init__(
        self, source: str, output: str | None, options: RunOptions, endpoint: Endpoint
    ) -> None:
        if options.shard is not None:
            raise InvalidInput(
                "--dask makes the shards by itself, and --shard was given too",
                fix="leave one of them out",
            )
        if options.limit is not None:
            raise InvalidInput(
                "--limit is about the first lines of a file, and --dask runs parts of it at once",
                fix="do the first lines with -o FILE and without --dask, or leave --limit out",
            )
        if source == "-" or Path(source).is_fifo() or source.startswith(("/dev/fd/", "/proc/")):
            name = "standard input" if source == "-" else source
            raise InvalidInput(
                f"{name} is a stream, of which many workers cannot each read a part",
                fix="write it to a file that all of them see, and give that",
            )
        paths = paths_of(source, output, None)
        if paths.output is None or is_device(paths.output):
            raise InvalidOutput(
                "--dask merges the rows of the shards in a file, and the output is a stream",
                fix="give a file with -o that all workers see",
            )
        if paths.table is not None:
            raise InvalidOutput(
                f"{paths.table} is a table, and the shards write rows",
                fix="give a .jsonl with -o, and make a table of it then: headway export",
            )
        self.output = paths.output
        self.source = os.path.abspath(source)
        self.target = os.path.realpath(self.output)
        self._named = source
        self._options = options
        begun = self._begun()
        check_target(self.output, overwrite=bool(begun) or options.overwrite)
        # The whole as one shard, for a file that has no shards is refused.
        lines = open_source(source, options.shape, shard=Shard(0, 1), trust_ids=True)
        with_models = endpoint.names_models
        try:
            if with_models:
                lines.require_models()
        finally:
            lines.close()
        self.lines = lines.lines or 0
        self.size = lines.size
        self._count = begun

    @property
    def named(self) -> str:
        """The input as its user calls it."""
        return self._named

    def shards(self, workers: int) -> Iterator[tuple[Path, RunOptions]]:
        """The output and the options of each: as many as were begun, or one for each worker."""
        count = self._count or min(max(1, workers), _MOST_SHARDS)
        options = self._options
        for index in range(count):
            yield (
                self._output_of(index, count),
                replace(
                    options,
                    shard=Shard(index, count),
                    ordered=False,  # as the merged rows are
                    max_cost=None if options.max_cost is None else options.max_cost / count,
                    max_tokens=(
                        None if options.max_tokens is None else max(1, options.max_tokens // count)
                    ),
                ),
            )

    def _output_of(self, index: int, count: int) -> Path:
        stem = Path(self.target).name.removesuffix(".jsonl")
        return Path(self.target).with_name(f"{stem}.{index}-of-{count}.jsonl")

    def _begun(self) -> int:
        """How many shards the run was begun with, 0 where it was not."""
        target = Path(self.target)
        stem = re.escape(target.name.removesuffix(".jsonl"))
        form = re.compile(rf"{stem}\.(\d+)-of-(\d+)\.jsonl")
        found = {
            int(match[2])
            for path in target.parent.iterdir()
            if (match := form.fullmatch(path.name)) and (run_folder(path) / "journal").exists()
        }
        if len(found) > 1:
            few, many = sorted(found)[:2]
            raise InvalidOutput(
                f"beside {self.output} are results of {counted(few, 'shard')} and of {many}, of "
                "which one run cannot go on with both",
                fix="move those away that are not to be gone on with, each with its .run folder",
            )
        return found.pop() if found else 0


def _shared(address: str, shared: str | None, whole: _Whole, limits: Limits) -> str:
    """Where the shards share their limits."""
    if shared is not None:
        return shared
    if _LOCAL.fullmatch(address):
        # Of the limits too: a run that goes on with others would be refused by those that are kept.
        what = hashlib.sha256(f"{whole.target}\n{limits}".encode("utf-8", "surrogatepass"))
        return f"run {whole.output.name[:40]} {what.hexdigest()[:12]}"
    raise InvalidSettings(
        "the workers of a cluster have to share the limits, and nothing says where",
        fix='give --shared an address that all of them reach, such as "valkey://host:6379/my-run"; '
        "where all are on this machine a name will do",
    )


# -- the cluster -----------------------------------------------------------------------------------


@contextmanager
def _cluster(address: str) -> Iterator[Any]:
    """A client of the cluster at `address`, which is made and ended where it is local."""
    distributed = _import_distributed()
    with ExitStack() as stack:
        at: Any = address
        if (local := _LOCAL.fullmatch(address)) is not None:
            count = int(local[1]) if local[1] else min(os.cpu_count() or 1, _MOST_LOCAL)
            if not 1 <= count <= _MOST_SHARDS:
                raise InvalidSettings(
                    f"--dask {address} is no number of processes: 1 to {_MOST_SHARDS}",
                    fix="--dask local:4",
                )
            at = stack.enter_context(_local(count))
        # What it says of workers that are lost is told in our words.
        for quiet in (logging.getLogger(name) for name in ("distributed", "distributed.client")):
            stack.callback(quiet.setLevel, quiet.level)
            quiet.setLevel(logging.CRITICAL)
        try:
            client = distributed.Client(at, timeout=_CONNECTING, set_as_default=False)
        except (OSError, ValueError, TypeError, ImportError) as error:
            raise InvalidSettings(
                f"no cluster of dask answers at {address}: {_first_line(error)}",
                fix="give the address of its scheduler, such as tcp://host:8786, or --dask local",
            ) from None
        stack.enter_context(client)
        yield client


@contextmanager
def _local(count: int) -> Iterator[Any]:
    """A cluster of so many processes of this machine, which end with this one."""
    import dask.config
    from distributed.utils import get_mp_context

    distributed = _import_distributed()
    with ExitStack() as stack:
        if sys.platform == "linux":
            # One process imports what all of them need, two seconds of CPU for each.
            method = {"distributed.worker.multiprocessing-method": "forkserver"}
            stack.enter_context(dask.config.set(method))
            context = get_mp_context()  # type: ignore[no-untyped-call]  # - dask states no types
            context.set_forkserver_preload(_NEEDED)
        try:
            cluster = distributed.LocalCluster(
                n_workers=count,
                threads_per_worker=1,
                processes=True,
                host="127.0.0.1",
                dashboard_address=None,
                # Its port would be 8787 otherwise, for which two runs fight, on every address.
                scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},
                memory_limit=0,
                silence_logs=logging.CRITICAL,
                preload=shards.__name__,
            )
        except (OSError, RuntimeError) as error:
            raise HeadwayError(
                f"cannot start {count} processes on this machine: {_first_line(error)}",
                fix="start fewer, such as --dask local:2, or run it without --dask",
            ) from error
        yield stack.enter_context(cluster)


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200].rstrip(". ")


def _workers_of(client: Any) -> int:
    return len(client.scheduler_info(n_workers=-1)["workers"])


def _meet(client: Any, address: str, whole: _Whole) -> None:
    """Raise `HeadwayError` unless there are workers, with headway, that see the files."""
    from headway import __version__

    try:
        client.wait_for_workers(1, timeout=_FIRST_WORKER)
    except TimeoutError:
        raise InvalidSettings(
            f"the cluster at {address} has had no worker for {_FIRST_WORKER:.0f} s",
            fix=f"start some: dask worker {address}",
        ) from None
    with tempfile.NamedTemporaryFile(dir=Path(whole.target).parent, prefix=".headway-") as probe:
        met = client.run(shards.meet, probe.name, whole.source, whole.size, on_error="return")
    for worker, found in met.items():
        if isinstance(found, ImportError):
            raise InvalidSettings(
                f"the worker {worker} cannot run headway: {_first_line(found)}",
                fix="install it on every worker: pip install 'headway[dask]'",
            )
        if isinstance(found, BaseException):
            continue  # it has gone, as workers do
        if found.version != __version__:
            raise InvalidSettings(
                f"the worker {worker} has headway {found.version}, and this is {__version__}",
                fix=f"install one version everywhere: pip install 'headway[dask]=={__version__}'",
            )
        if not found.sees_source:
            raise InvalidInput(
                f"the worker {worker} does not see {whole.source} as it is here",
                fix="put it on a file system that all workers see",
            )
        if not found.sees_output:
            raise InvalidOutput(
                f"the worker {worker} does not see {Path(whole.target).parent} as it is here",
                fix="give a file with -o on a file system that all workers see",
            )


class _Looking:
    """Asks the workers how far their shards are, in a thread: one that is about to be lost may
    hold an answer back for long.
    """

    def __init__(self, client: Any, session: str, target: str, asked: Callable[[], int]) -> None:
        self.found: dict[int, shards.ShardState] = {}
        self.at = time.monotonic()  # when something was last at work
        self._over = threading.Event()
        self._thread = threading.Thread(
            target=self._look, args=(client, session, target, asked), daemon=True
        )

    def _look(self, client: Any, session: str, target: str, asked: Callable[[], int]) -> None:
        while not self._over.wait(_LOOK_EVERY):
            with suppress(Exception):  # a cluster that is gone is seen by who waits for the shards
                by_worker = client.run(shards.look, session, target, asked(), on_error="ignore")
                found = {each.index: each for states in by_worker.values() for each in states}
                if found:
                    self.at = time.monotonic()
                self.found = found

    def __enter__(self) -> _Looking:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._over.set()
        self._thread.join(_GONE)


# -- the run ---------------------------------------------------------------------------------------


class _ClusterRun:
    """One session of a run: its shards on the cluster, until each has ended."""

    def __init__(
        self,
        client: Any,
        address: str,
        whole: _Whole,
        options: RunOptions,
        limits: Limits,
        asked: Callable[[], int],
    ) -> None:
        self.name = uuid.uuid4().hex
        self._client = client
        self._address = address
        self._whole = whole
        self._bounded = options.max_cost is not None or options.max_tokens is not None
        self._limits = limits
        self._user_asks = asked
        self._ending = 0  # asked for by what a shard met
        self._error: Exception | None = None
        self._attempts: dict[int, dict[str, Progress]] = {}  # by shard, the latest last
        self._lost: dict[int, int] = {}  # rows of a shard when it was last given up by the cluster
        self._futures: dict[int, Any] = {}
        self._forecast = Forecast()
        self._began = time.monotonic()

    def run(
        self, tasks: dict[int, shards.ShardTask], watch: Callable[[Progress], None]
    ) -> Progress:
        """Run all shards to their end, or to what stops them; how far they are then."""
        self._attempts = {index: {} for index in tasks}
        for index, task in tasks.items():
            self._submit(index, task)
        self._client.forward_logging("headway", level=logging.WARNING)
        with _Looking(self._client, self.name, self._whole.target, self._asked) as looking:
            while self._futures:
                for index, future in list(self._futures.items()):
                    self._settle(index, future, tasks[index])
                for state in looking.found.values():
                    if state.index in self._futures:
                        self._note(state.index, state.attempt, state.progress)
                watch(self.progress())
                if self._asked() and time.monotonic() - looking.at > _GONE:
                    break
                time.sleep(_EVERY)
        with suppress(Exception):
            self._client.unforward_logging("headway")
        self._client.cancel(list(self._futures.values()))
        progress = self.progress()
        watch(progress)
        if self._error is not None:
            raise self._error
        return progress

    def _asked(self) -> int:
        return max(self._ending, self._user_asks())

    def _submit(self, index: int, task: shards.ShardTask) -> None:
        self._futures[index] = self._client.submit(
            shards.work, task, key=f"headway-{uuid.uuid4().hex}-{index}", pure=False
        )

    def _settle(self, index: int, future: Any, task: shards.ShardTask) -> None:
        """Take up the shard's end, if that has come."""
        from distributed.scheduler import KilledWorker

        status = future.status
        if status == "finished":
            try:
                ended = future.result(timeout=_FETCHING)
            except TimeoutError:
                return  # the worker that has it may be gone: it is done again, and sends nothing
            del self._futures[index]
            self._note(index, ended.attempt, ended.progress)
            stopped = ended.progress.stopped if ended.progress is not None else None
            if ended.given_up and not self._asked():
                self._submit(index, task)
            if ended.error is not None:
                self._error = self._error or ended.error
            # Bounds of money are a shard's own; what the provider refuses is refused to all.
            if ended.error is not None or (stopped is not None and stopped.kind is not None):
                self._ending = shards.DRAIN
        elif status == "error":
            del self._futures[index]
            error = future.exception()
            if not isinstance(error, KilledWorker):
                raise error
            rows = max((each.rows for each in self._attempts[index].values()), default=0)
            if rows <= self._lost.get(index, -1):
                self._error = self._error or HeadwayError(
                    f"shard {index} of {len(self._attempts)} was lost with every worker that ran "
                    "it, and gets no further",
                    fix="see the workers' logs (memory?), then run the same command again",
                )
                self._ending = shards.DRAIN
                return
            self._lost[index] = rows
            self._submit(index, task)
        elif status in ("cancelled", "lost") or self._client.status == "closed":
            raise HeadwayError(
                f"the cluster at {self._address} is gone",
                fix="start it, then run the same command again to go on",
            )

    def _note(self, index: int, attempt: str, progress: Progress | None) -> None:
        """What is known of one attempt at a shard."""
        attempts = self._attempts[index]
        if progress is None:
            return
        if attempts and attempt not in attempts:
            logger.warning(
                "shard %s of %s was lost with its worker, and is gone on with by another",
                index, len(self._attempts),
            )  # fmt: skip
            last = next(reversed(attempts))
            attempts[last] = replace(attempts[last], in_flight=0)
        attempts[attempt] = progress

    def progress(self) -> Progress:
        """How far the whole is."""
        now = time.monotonic() - self._began
        progress = shards.together(
            [list(attempts.values()) for attempts in self._attempts.values()],
            source=self._whole.named,
            output=None,
            lines=self._whole.lines,
            bounded=self._bounded,
            limits=self._limits,
            seconds=now,
            eta=None,
        )
        self._forecast.see(now, progress.rows - progress.before)
        eta = self._forecast.eta(progress.remaining, progress.in_flight)
        return replace(progress, eta=eta)

    def merge(self, tasks: dict[int, shards.ShardTask], progress: Progress) -> Progress:
        """Merge the rows of all shards, all of which are done."""
        outputs = [task.output for task in tasks.values()]
        merged = merge(outputs, self._whole.output, overwrite=True)
        if merged.duplicates:
            logger.warning(
                "%s rows have a custom_id that came before: no shard knows the ids of another",
                f"{merged.duplicates:,}",
            )
        return replace(progress, output=self._whole.output)
