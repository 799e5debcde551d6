"""The error for a registry that does not answer. MLflow is imported only where it has already failed."""

import re
from pathlib import Path

from asdcore.errors import AsdError
from asdcore.storage.home import Home, without_userinfo


class NoAnswerError(AsdError):
    """The registry does not answer: what it holds is not known."""


def no_answer(home: Home, error: Exception) -> NoAnswerError:
    """The error for a registry that cannot be asked: one sentence, with a remedy if there is one."""
    said, registry = said_by(error), home.registry_name
    if schema := re.search(r"database schema \(found version (\w+)", said):
        return NoAnswerError(_other_mlflow(home, schema[1]))
    if "database is locked" in said:
        said = "another program keeps it locked, such as a backup or a database viewer: close it, and try again"
    elif "not a database" in said or "malformed" in said:
        said = "the file is damaged. Restore it from a backup; without one, move it away and run `asd retrain`"
    return NoAnswerError(f"the registry {registry} does not answer: {without_userinfo(said)}")


def said_by(error: Exception) -> str:
    """The message of an error of MLflow or SQLAlchemy, without the SQL statement and the links below it, or the page
    that something else than MLflow has answered with.
    """
    return re.split(r"\n\[SQL:|\n\(Background|\. Response body:", str(error))[0].strip()


def _other_mlflow(home: Home, revision: str) -> str:
    """What to do if the tables are those of another version of MLflow."""
    import mlflow

    migrations = Path(mlflow.__file__).parent / "store" / "db_migrations" / "versions"
    uri = without_userinfo(home.mlflow_uri)
    if not any(migrations.glob(f"{revision}_*.py")):
        return (
            f"the registry {home.registry_name} was written by a newer MLflow than the installed one "
            f"({mlflow.__version__}): install that version again"
        )
    return (
        f"the registry {home.registry_name} was written by an older MLflow than the installed one "
        f"({mlflow.__version__}): stop what uses it, back it up, and run `mlflow db upgrade {uri}`"
    )
