"""headway for plain functions: threads, sync SDKs, scripts without async, under one scheduler."""

from headway import Outcome, _show_under
from headway.sync._lease import Lease
from headway.sync._runs import AsCompleted, Map
from headway.sync._scheduler import Scheduler, View

__all__ = ["AsCompleted", "Lease", "Map", "Outcome", "Scheduler", "View"]

_show_under(__name__, [AsCompleted, Lease, Map, Scheduler, View])
