"""The database in which videos and quotas lie, so that every process of a server, and every replica, knows of them.

SQLite, a file, for the processes of one machine; PostgreSQL for several machines. One schema and one set of statements
serve both (SQLAlchemy Core). Times are seconds since 1970 by the database's clock: those of the machines may differ.
"""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import IO, Any

from sqlalchemy import (
    DDL,
    URL,
    BigInteger,
    Boolean,
    Column,
    Connection,
    Double,
    Engine,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    case,
    create_engine,
    event,
    exc,
    insert,
    make_url,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from mien.errors import ConfigError, need
from mien.files import cannot_write, clipped, expanded
from mien.locks import lock_file
from mien.serve.auth import LIMITS, Key
from mien.serve.problems import ApiError

_VERSION = 1  # of the schema
_FILE = "jobs.sqlite"
_PATIENCE_S = 10  # for a connection, and for another process that writes to the same file
_PAGES = 1024  # of a file, 4 kB each, that are given back to the disk at a time
_LOST_S = 5  # after which clients are told to try again
_TABLES = MetaData()
_SCHEMA = Table("mien_schema", _TABLES, Column("version", Integer, primary_key=True, autoincrement=False))
JOBS = Table(
    "mien_jobs",
    _TABLES,
    Column("id", String(22), primary_key=True),
    Column("status", String(9), nullable=False),
    Column("progress", Double, nullable=False),
    Column("problem", Text),  # JSON
    Column("about", Text),  # JSON: what the results say before their rows
    Column("tries", Integer, nullable=False),  # how often somebody began to work on it
    Column("owner", String(22)),  # the process that receives or analyses it
    Column("lease_s", Double),  # until when it is its owner's, who renews it while it lives
    Column("begun_s", Double, nullable=False),
    Column("changed_s", Double, nullable=False),
    Column("bytes", BigInteger, nullable=False),  # that it takes or was given room for
    Column("fetched", Boolean, nullable=False),
)
PIECES = Table(  # of videos and results, a megabyte or so each
    "mien_pieces",
    _TABLES,
    Column("job", String(22), primary_key=True),
    Column("name", String(8), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("data", LargeBinary, nullable=False),
)
_QUOTAS = Table(
    "mien_quotas",
    _TABLES,
    Column("client", Text, primary_key=True),
    Column("name", String(32), primary_key=True),  # of the limit
    Column("span", BigInteger, nullable=False),  # number of the minute or day
    Column("count", BigInteger, nullable=False),
)
# Videos do not become smaller.
event.listen(
    PIECES,
    "after_create",
    DDL(  # type: ignore[no-untyped-call]
        "ALTER TABLE mien_pieces ALTER COLUMN data SET STORAGE EXTERNAL"
    ).execute_if(dialect="postgresql"),
)


class now_s(FunctionElement[float]):
    """Seconds since 1970 by the database's clock."""

    type = Double()
    inherit_cache = True


@compiles(now_s, "sqlite")
def _of_sqlite(*_: Any, **__: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(now_s, "postgresql")
def _of_postgresql(*_: Any, **__: Any) -> str:
    return "CAST(extract(epoch FROM clock_timestamp()) AS double precision)"


class DatabaseLost(ApiError):
    """The database does not answer; nothing was changed."""

    def __init__(self) -> None:
        super().__init__(
            f"the database of videos and quotas does not answer; try again in {_LOST_S} seconds",
            503,
            {"Retry-After": str(_LOST_S)},
        )


class Database:
    """Connections to one database. Safe to use from threads, not after a fork.

    name: for messages, without the password. outlives: whether what lies there outlives the server.
    """

    def __init__(self, address: str | None, folder: Path) -> None:
        """Open or make it. address: of ServeConfig.jobs; None: a file in `folder`, which goes with the server.

        Raises ConfigError where it cannot be reached, OutputError where its file cannot be written.
        """
        self.outlives = address is not None
        url = _url(address or str(folder / _FILE))
        self._is_file = url.get_backend_name() == "sqlite"
        self.name = str(url.database) if self._is_file else _shown(url)
        self._answers = True
        self._life: IO[bytes] | None = None
        if self._is_file:
            self._file = _made(Path(self.name))
        self._engine = self._opened(url)
        # SQLite lets one connection write at a time; who begins by reading may not go on by writing.
        self._reading = self._engine.execution_options(only_reads=True)
        self._make_tables()

    def _opened(self, url: URL) -> Engine:
        if self._is_file:
            engine = create_engine(url, connect_args={"timeout": _PATIENCE_S}, hide_parameters=True)
            fsync = "FULL" if self.outlives else "OFF"
            pragmas = (
                "auto_vacuum = INCREMENTAL",
                "journal_mode = WAL",
                f"synchronous = {fsync}",
                "journal_size_limit = 16000000",
            )

            def connected(connection: Any, _: object) -> None:
                connection.isolation_level = None  # SQLAlchemy says BEGIN itself, below
                for pragma in pragmas:
                    connection.execute(f"PRAGMA {pragma}").close()

            def begun(connection: Connection) -> None:
                only_reads = connection.get_execution_options().get("only_reads")
                connection.exec_driver_sql("BEGIN" if only_reads else "BEGIN IMMEDIATE")

            event.listen(engine, "connect", connected)
            event.listen(engine, "begin", begun)
            return engine
        keeping = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}
        given = {"connect_timeout": _PATIENCE_S, "application_name": "mien", "tcp_user_timeout": 20_000}
        return create_engine(
            url,
            # Without prepared statements, which poolers such as PgBouncer may not keep.
            connect_args={**keeping, **given, "prepare_threshold": None, **url.query},
            hide_parameters=True,
            pool_pre_ping=True,  # a connection that ended meanwhile is made anew
            pool_timeout=_PATIENCE_S,
        )

    def _make_tables(self) -> None:
        for left in reversed(range(3)):
            try:
                _TABLES.create_all(self._engine)
                with self._engine.begin() as connection:
                    found = connection.scalar(select(_SCHEMA.c.version))
                    if found is None:
                        connection.execute(insert(_SCHEMA).values(version=_VERSION))
                break
            except SQLAlchemyError as error:  # perhaps another process made them at the same moment
                if not left:
                    raise ConfigError(
                        f"the database {self.name} of --jobs cannot be used: {_line(error)}; is it running, and may "
                        "this user make tables in it?"
                    ) from None  # what SQLAlchemy says may hold the address
                time.sleep(0.2)
        if found not in (None, _VERSION):
            raise ConfigError(
                f"the database {self.name} of --jobs was made by another version of mien (its form is {found}, ours "
                f"{_VERSION}); name another, or remove its tables mien_*"
            )

    def check(self) -> None:
        """Raise ApiError (503) where the file is no longer the one that was opened."""
        try:
            lost = self._is_file and _identity(Path(self.name)) != self._file
        except OSError:
            lost = True
        if lost:
            where = "its database of videos" if self.outlives else "its folder for temporary files"
            raise ApiError(f"this server has lost {where}; start it again", 503)

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction: all of the block or nothing. DatabaseLost, OutputError for a full disk."""
        self.check()
        with self._worded(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Like `writing`, for what changes nothing."""
        self.check()
        with self._worded(), self._reading.begin() as connection:
            yield connection

    @contextmanager
    def _worded(self) -> Iterator[None]:
        try:
            yield
        except (DBAPIError, exc.TimeoutError) as error:
            if _is_full(error):
                full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                raise cannot_write(Path("the database of videos and quotas"), full) from None
            if self._answers:  # one line for each time that it begins to fail
                logging.getLogger("mien").error(
                    "the database %s does not answer: %s", self.name, _line(error)
                )
            self._answers = False
            raise DatabaseLost from None
        if not self._answers:
            logging.getLogger("mien").error("the database %s answers again", self.name)
        self._answers = True

    def lock(self, connection: Connection) -> None:
        """Let no other transaction that asks for this go on before ours ends."""
        connection.execute(select(_SCHEMA.c.version).with_for_update())

    def give_back(self, seconds: float) -> None:
        """Give the room of what was deleted back to the disk, for about so long; PostgreSQL uses it again by itself."""
        left, ends = self._is_file, time.monotonic() + seconds
        while left and time.monotonic() < ends:  # a little at a time, so that others get their turn
            with self.writing() as connection:
                # Without SQLAlchemy, which has no use for the rows without columns that each page makes.
                file: Any = connection.connection.driver_connection
                file.execute(f"PRAGMA incremental_vacuum({_PAGES})").fetchall()
                left = bool(file.execute("PRAGMA freelist_count").fetchone()[0])

    def take(self, key: Key | None, *, pictures: int = 0, videos: int = 0) -> None:
        """Count what a client asks for, in the running minute and day (UTC), over all that share the database.

        ApiError (429) where that is more than it may; then nothing is counted.
        """
        asked = {"pictures": pictures, "videos": videos}
        wanted = [
            (name, asked[what], limit, length_s)
            for name, (what, length_s) in LIMITS.items()
            if key and asked[what] and (limit := getattr(key, name)) is not None
        ]
        if key is None or not wanted:
            return
        with self.writing() as connection:
            if not self._is_file:  # a count that a crash of the database loses is no harm
                connection.exec_driver_sql("SET LOCAL synchronous_commit = off")
            now: float = connection.scalar(select(now_s()))  # type: ignore[assignment]
            for name, count, limit, length_s in wanted:
                span = int(now // length_s)
                had = self._counted(connection, key.name, name, span, count) - count
                if had + count > limit:
                    what, _, each = name.partition("_per_")
                    left_s = (span + 1) * length_s - now
                    raise ApiError(
                        f"{key.name} may ask for {limit:,} {what} a {each} and has had {had:,}; try again later",
                        429,
                        {"Retry-After": str(int(left_s) + 1)},
                    )

    def _counted(self, connection: Connection, client: str, name: str, span: int, count: int) -> int:
        """Add to a count and return it; the row is ours until the transaction ends, or is undone with it."""
        add = (sqlite if self._is_file else postgresql).insert(_QUOTAS)
        old, new = _QUOTAS.c, add.excluded
        added = case((old.span == new.span, old.count + new.count), else_=new.count)
        statement = (
            add.values(client=client, name=name, span=span, count=count)
            .on_conflict_do_update(
                index_elements=[old.client, old.name], set_={"span": new.span, "count": added}
            )
            .returning(old.count)
        )
        return int(connection.execute(statement).scalar_one())

    def say_alive(self, owner: str) -> None:
        """Let other processes see that the one lives that calls itself so, until `close` or its end, however that ends.

        Where the database is a file, all are on its machine, and a locked file beside it says so. Those of PostgreSQL
        are on many, where leases alone tell.
        """
        if self._is_file:
            with suppress(OSError):  # then its lease tells
                self._life = self._life_of(owner).open("wb")
                lock_file(self._life)

    def ended(self, owners: Iterable[str]) -> list[str]:
        """Return those that said that they live and do no more. Some may be left out that have ended."""
        return [owner for owner in owners if self._is_file and _is_free(self._life_of(owner))]

    def forget_ended(self, owners: Collection[str]) -> None:
        """Remove what processes left that were killed, apart from these."""
        start = self._life_of("").name
        for path in Path(self.name).parent.glob(f"{escape(start)}*") if self._is_file else ():
            if path.name.removeprefix(start) not in owners and _is_free(path):
                with suppress(OSError):
                    path.unlink()

    def _life_of(self, owner: str) -> Path:
        return Path(f"{self.name}-alive-{owner}")

    def close(self) -> None:
        self._engine.dispose()
        if self._life:
            self._life.close()
            with suppress(OSError):
                Path(self._life.name).unlink()


def _is_free(path: Path) -> bool:
    """Say whether a file is there that nobody has locked."""
    try:
        with path.open("r+b") as stream:
            return lock_file(stream)
    except OSError:
        return False


def _url(address: str) -> URL:
    if "://" not in address:
        return URL.create("sqlite", database=str(expanded(address).absolute()))
    try:
        url = make_url(address)
    except (ArgumentError, ValueError):
        raise ConfigError(
            "the address of --jobs cannot be read; write postgresql://USER:PASSWORD@HOST:PORT/DATABASE (in a password, "
            "@ is %40, / is %2F, : is %3A), or the path of a file"
        ) from None
    need("psycopg", "postgres", "--jobs with PostgreSQL")
    return url.set(drivername="postgresql+psycopg")


def _shown(url: URL) -> str:
    port = f":{url.port}" if url.port else ""
    return f"{url.database or url.username or ''} on {url.host or 'this machine'}{port}"


def _made(path: Path) -> tuple[int, int]:
    """Make a file that this user alone may read, where there is none, and its folder; return which one it is."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        return _identity(path)
    except OSError as error:
        raise cannot_write(path, error) from error


def _identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino


def _line(error: Exception) -> str:
    """Say in one line what the driver said; it names no password, but SQLAlchemy's own words may hold an address."""
    original = error.orig if isinstance(error, DBAPIError) else None
    return clipped(" ".join(str(original).split()), 300) if original else type(error).__name__


def _is_full(error: SQLAlchemyError) -> bool:
    original = error.orig if isinstance(error, DBAPIError) else None
    full = getattr(original, "sqlite_errorname", "") == "SQLITE_FULL"
    return full or getattr(original, "sqlstate", "") == "53100"
