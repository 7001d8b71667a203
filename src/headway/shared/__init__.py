"""Limits that many processes and machines hold together: ``Scheduler(shared="my-account")``.

One ledger, a small state under a name, is kept in a store: a SQLite file of this user's (nothing to
start), Valkey or Redis, or Postgres. A worker, which is one scheduler, asks it a few times a second
for starts, tokens and slots, and decides everything else by itself.
"""

from headway.rates import Shared

__all__ = ["Shared"]
