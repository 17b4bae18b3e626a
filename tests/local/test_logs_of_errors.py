"""What a log says of an error: what kind it was and where, never what it quoted."""

import json
import logging
from typing import Literal

import asyncpg
import pytest
import structlog

from service.logs import configure_logging, trace_of


def fail(name: str) -> None:
    try:
        {}[name]
    except KeyError as error:
        raise ValueError(name) from error


def test_the_kinds_and_places_of_a_chain_are_told_without_messages() -> None:
    name = "adA"[::-1]  # a traceback shows lines of the program
    with pytest.raises(ValueError, match=name) as caught:
        fail(name)
    trace = trace_of(caught.value)
    assert name not in trace
    assert "builtins.ValueError" in trace
    assert "builtins.KeyError" in trace
    assert "in fail" in trace


@pytest.mark.parametrize("log_format", ["json", "console"])
async def test_what_postgresql_quotes_is_not_logged(
    connection: "asyncpg.Connection[asyncpg.Record]", capsys: pytest.CaptureFixture[str], log_format: str
) -> None:
    configure_logging(log_format)  # type: ignore[arg-type]
    log = structlog.get_logger("test").new()
    await connection.execute("CREATE TEMP TABLE t (name text CHECK (name <> $$Ada$$))")
    for statement, value in (("INSERT INTO t VALUES ($1)", "Ada"), ("SELECT $1::int", "Ada")):
        with pytest.raises((asyncpg.PostgresError, asyncpg.DataError), match="Ada") as caught:
            await connection.execute(statement, value)
        log.error("it failed", exc_info=caught.value)
    said = capsys.readouterr().err
    assert "Ada" not in said
    assert "sqlstate=23514" in said
    assert "asyncpg.exceptions.DataError" in said
    if log_format == "json":
        assert [json.loads(line)["event"] for line in said.splitlines()] == ["it failed"] * 2


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_what_libraries_log_is_cut_to_its_first_line(capsys: pytest.CaptureFixture[str], log_format: Literal["json", "console"]) -> None:
    configure_logging(log_format)
    error = ValueError("Ada")
    message = "Task exception was never retrieved\nfuture: <ValueError('Ada')>"
    record = logging.LogRecord("asyncio", logging.ERROR, "", 0, message, (), (ValueError, error, None))
    logging.getLogger("asyncio").handle(record)
    said = capsys.readouterr().err
    assert "Task exception was never retrieved" in said
    assert "builtins.ValueError" in said
    assert "Ada" not in said
