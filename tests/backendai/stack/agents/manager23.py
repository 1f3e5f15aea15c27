"""Starts the published manager of 23.09, without those faults of it that a day of tests meets in a minute.

`SessionRow.get_session` and `list_sessions` add loader options to a default argument, a list that all calls
share: each session makes every later look-up slower and the process 15 MB larger; after 40 of them a create took
20 s and ran into retries of its own. Given a list of their own at each call, they do what they were meant to.

All transactions are serializable, and on tables as small as a test's they conflict. What consumes an event is
not tried again then, nor when a command ends before its session is RUNNING: the session stays RUNNING, with its
result. A session of several nodes is tried 20 times within a transaction that can't succeed any more, and holds
up all scheduling for a minute. On two busy cores one of these befell 3 of 5 rounds of ten sessions, and 0 of 15
since events are consumed again here and such a session waits for the next turn.

Its timers of 10 s (schedule, prepare, scale) tick every 2 s: tests of services waited for little else. At each
of these it looks through all installed packages for its schedulers, a fifth of its processor time; here once.
"""

import asyncio
import sys
from functools import cache, wraps

from ai.backend.common.distributed import GlobalTimer
from ai.backend.common.events import EventDispatcher
from ai.backend.manager.api.exceptions import GenericForbidden
from ai.backend.manager.models.session import SessionRow
from ai.backend.manager.models.utils import is_db_retry_error
from ai.backend.manager.registry import handle_batch_result
from ai.backend.manager.scheduler import dispatcher
from ai.backend.manager.server import main
from ai.backend.plugin import entrypoint
from sqlalchemy.exc import DBAPIError

TRIES = 20
PAUSE = 0.3
"""Seconds."""
FASTER = 5
"""So many times as often do its timers tick."""


def with_own_list(function):
    @wraps(function)
    async def call(cls, *args, **kwargs):
        kwargs.setdefault("eager_loading_op", [])
        return await function(cls, *args, **kwargs)

    return classmethod(call)


def tried_again(callback):
    @wraps(callback)
    async def call(*args):
        for _ in range(TRIES):
            try:
                return await callback(*args)
            except GenericForbidden:
                if callback is not handle_batch_result:
                    raise
            except DBAPIError as error:
                if not is_db_retry_error(error):
                    raise
            await asyncio.sleep(PAUSE)
        return await callback(*args)

    return call


def consumed_again(function):
    @wraps(function)
    def call(self, event, context, callback, *args, **kwargs):
        if asyncio.iscoroutinefunction(callback):
            callback = tried_again(callback)
        return function(self, event, context, callback, *args, **kwargs)

    return call


def only_whole_transactions(retry):
    @wraps(retry)
    async def call(function):
        inner = function.__qualname__.endswith("_schedule_multi_node_session.<locals>._reserve")
        return await (function() if inner else retry(function))

    return call


def faster(function):
    @wraps(function)
    def call(self, *args, **kwargs):
        function(self, *args, **kwargs)
        self.interval /= FASTER
        self.initial_delay /= FASTER

    return call


@cache
def scanned_once(group):
    return list(entrypoint.scan_entrypoints(group))


GlobalTimer.__init__ = faster(GlobalTimer.__init__)
for name in ("get_session", "list_sessions"):
    setattr(SessionRow, name, with_own_list(vars(SessionRow)[name].__func__))
for name in ("consume", "subscribe"):
    setattr(EventDispatcher, name, consumed_again(getattr(EventDispatcher, name)))
dispatcher.scan_entrypoints = scanned_once
dispatcher.execute_with_retry = only_whole_transactions(dispatcher.execute_with_retry)

if __name__ == "__main__":
    sys.exit(main())
