"""Where the Optuna study lives: SQLite in the study's folder, a database server, or a journal file."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from analysis.errors import TailtuneError, UsageError

ENVIRONMENT = "TAILTUNE_STORAGE"
_JOURNAL = "journal:"
_SECRETS = {"password", "passwd", "pwd", "passphrase", "sslpassword"}


def open_storage(folder: Path, storage: str | None, *, create: bool = False) -> BaseStorage:
    """Return the storage of the study in `folder`.

    Args:
        folder: The study's.
        storage: None for `study.db` in the folder, `journal:PATH` for a journal file, else a database URL
            as SQLAlchemy takes it.
        create: Make the file where there is none.

    Raises:
        UsageError: If it is no such thing, or its driver is not installed.
        TailtuneError: If it cannot be reached or written, or its file is gone.
    """
    if (path := _journal_file(folder, storage)) is not None:
        return _journal(path, create=create)
    url = storage or f"sqlite:///{folder / 'study.db'}"
    try:
        parsed = make_url(url)
        sqlite = parsed.get_backend_name() == "sqlite"
    except (ArgumentError, ValueError):
        raise _no_url(url) from None
    except ImportError as error:
        raise _no_driver(url, error) from None
    if sqlite and not create and parsed.database and not parsed.database.startswith((":", "file:")):
        _require(Path(parsed.database))
    try:
        # One writer, but dashboards and `status` read beside it.
        return RDBStorage(url, engine_kwargs={"connect_args": {"timeout": 60}} if sqlite else None)
    except ArgumentError:
        raise _no_url(url) from None
    except ImportError as error:
        raise _no_driver(url, error) from None
    except (SQLAlchemyError, RuntimeError) as error:
        raise storage_error(url, error) from None


def _no_url(url: str) -> UsageError:
    return UsageError(
        f"--storage must be a database URL or journal:PATH, got '{masked(url)}'",
        "for example postgresql+psycopg://user@host/database, or journal:study.log",
    )


def _no_driver(url: str, error: ImportError) -> UsageError:
    return UsageError(
        f"the driver for {masked(url)} is not installed: {error}", "pip install 'tailtune[postgres]'"
    )


def storage_error(url: str, error: BaseException) -> TailtuneError:
    """Return the error for a storage that cannot be reached or written."""
    cause = getattr(error, "orig", None) or error
    lines = str(cause).strip().splitlines()
    return TailtuneError(
        f"cannot use the study's storage {masked(url)}: {lines[0][:200] if lines else type(cause).__name__}",
        f"check that it is there and can be written, or give its full URL by ${ENVIRONMENT}",
    )


def masked(storage: str) -> str:
    """Return `storage` with its passwords hidden, as messages and logs may show it."""
    if storage.startswith(_JOURNAL):
        return storage
    try:
        url = make_url(storage)
    except (ArgumentError, ValueError):  # a password may stand anywhere in what is no URL
        scheme = storage.partition(":")[0]
        return "..." if "@" in scheme else scheme
    return url.update_query_dict(dict.fromkeys(_secret_keys(url), "***")).render_as_string(hide_password=True)


def without_password(storage: str) -> str:
    """Return `storage` as study.yaml may hold it: a resume takes the password from the environment."""
    if storage.startswith(_JOURNAL):
        return storage
    try:
        url = make_url(storage)
    except (ArgumentError, ValueError):
        return masked(storage)
    url = url.difference_update_query(_secret_keys(url))
    return url._replace(password=None).render_as_string(hide_password=False)


def _secret_keys(url: URL) -> list[str]:
    """Return the keys of the URL's query whose values are passwords: drivers take them there, too."""
    return [key for key in url.query if key.lower() in _SECRETS]


def given_storage(stored: str | None) -> str | None:
    """Return `$TAILTUNE_STORAGE` where that is the stored one with its password, else the stored one."""
    given = os.environ.get(ENVIRONMENT)
    return given if given and stored and without_password(given) == stored else stored


def _journal_file(folder: Path, storage: str | None) -> Path | None:
    is_journal = storage is not None and storage.startswith(_JOURNAL)
    return folder / storage.removeprefix(_JOURNAL) if storage is not None and is_journal else None


def _journal(path: Path, *, create: bool) -> BaseStorage:
    if not create:
        _require(path)
    try:
        return JournalStorage(JournalFileBackend(str(path)))
    except OSError as error:
        raise storage_error(str(path), error) from None


def _require(path: Path) -> None:
    """Refuse a file that is gone, where an empty one would pass for a study without a trial."""
    if not path.exists():
        raise TailtuneError(
            f"the study's storage {path} is gone, and with it the state of every trial",
            "put it back, or begin a new study under another name",
        )


def mend_storage(folder: Path, storage: str | None) -> None:
    """Cut off a journal's last line that a killed writer left torn: nothing could be written after it.

    Only for who holds the study's lock: a living driver's last line may be torn for a moment, too.
    """
    path = _journal_file(folder, storage)
    if path is None or not path.exists():
        return
    with path.open("rb+") as file:
        size = file.seek(0, os.SEEK_END)
        at = max(0, size - 1_000_000)
        file.seek(at)
        tail = file.read()
        if tail and not tail.endswith(b"\n"):
            file.truncate(at + tail.rfind(b"\n") + 1)


def open_study(
    storage: BaseStorage, name: str, identity: str, url: str, *, create: bool = False
) -> optuna.Study:
    """Return the Optuna study `name`; higher values are better.

    Args:
        storage: Where it lives.
        name: Of the study.
        identity: Of the study's folder: another folder's study of the same name is refused.
        url: Of the storage, for messages.
        create: Make it if it is not there.

    Raises:
        TailtuneError: If the name is taken by another study, or the storage cannot be used, or has no such
            study.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # it greets on stderr
    try:
        study = _created(name, storage) if create else optuna.load_study(study_name=name, storage=storage)
        owner = study.user_attrs.get("tailtune_id")
        if create and owner is None and not study.get_trials(deepcopy=False):
            study.set_user_attr("tailtune_id", identity)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                study.set_metric_names(["macro_f1"])
        elif owner != identity:
            raise TailtuneError(
                f"{masked(url)} has another study called '{name}'", "choose another --study name or storage"
            )
    except KeyError:
        raise TailtuneError(
            f"{masked(url)} has no study called '{name}' any more, so the state of every trial is gone",
            "put the storage back, or begin a new study under another name",
        ) from None
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError, OSError) as error:
        raise storage_error(url, error) from None
    return study


def _created(name: str, storage: BaseStorage) -> optuna.Study:
    return optuna.create_study(study_name=name, storage=storage, direction="maximize", load_if_exists=True)
