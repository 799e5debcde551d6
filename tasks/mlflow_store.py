"""Querying MLflow's store: temporary failures are retried, and no answer is an error, never an empty answer."""

import time
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any, TypeVar

from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from sqlalchemy.exc import SQLAlchemyError

from asdcore.storage.home import Home
from tasks.no_answer import no_answer

T = TypeVar("T")
PAUSES = (1.0, 3.0, 9.0)
"""seconds between attempts, in addition to the 20 s that MLflow waits for a locked SQLite file in each of them"""
SERVERS = ("http:", "https:")
"""Prefixes of tracking URIs that name a server, not a database. MLflow's client retries requests to a server itself."""
UNKNOWN = "RESOURCE_DOES_NOT_EXIST"
"""MLflow's code of a definite answer: there is no such model, version or run. The 404 of a proxy has another one."""
_ANSWERS = (UNKNOWN, "RESOURCE_ALREADY_EXISTS", "INVALID_PARAMETER_VALUE", "INVALID_STATE")
"""error codes that are answers of MLflow to the request"""


class StoreClient(MlflowClient):
    """MLflow's client, with methods that raise `NoAnswerError` where the store could not be asked.

    The exceptions of MLflow that they still raise are definite answers, such as `UNKNOWN`.
    """

    def __init__(self, home: Home) -> None:
        self._home = home
        asked(home, lambda: MlflowClient.__init__(self, home.mlflow_uri))

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name.startswith("_") or not callable(found):
            return found

        @wraps(found)
        def ask(*args: Any, **kwargs: Any) -> Any:
            return asked(self._home, lambda: found(*args, **kwargs))

        return ask


def asked(home: Home, question: Callable[[], T]) -> T:
    """The answer of the store of this home.

    Raises:
        NoAnswerError: there is none, even after several attempts.
    """
    pauses = list(PAUSES)
    while True:
        try:
            return question()
        except (MlflowException, SQLAlchemyError, OSError) as error:
            if isinstance(error, MlflowException) and error.error_code in _ANSWERS:
                raise
            if not (pauses and _may_pass(home, error)):
                raise no_answer(home, error) from None
        time.sleep(pauses.pop(0))


def _may_pass(home: Home, error: Exception) -> bool:
    temporary = isinstance(error, MlflowException) and error.error_code == "TEMPORARILY_UNAVAILABLE"
    return not home.mlflow_uri.startswith(SERVERS) and (temporary or "database is locked" in str(error))


def every(search: Callable[..., Any], *args: Any, **kwargs: Any) -> Iterator[Any]:
    """All results of one of the client's searches, page by page."""
    token = None
    while True:
        page = search(*args, **kwargs, page_token=token)
        yield from page
        token = page.token
        if not token:
            return
