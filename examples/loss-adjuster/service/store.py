"""What API and worker share: the version, the database and its tables."""

import os
import pathlib

import psycopg2

VERSION = pathlib.Path(__file__).with_name("VERSION").read_text().strip()


def database():
    password = pathlib.Path("/run/secrets/DB_PASSWORD").read_text().strip()
    return psycopg2.connect(host=os.environ["DB_HOST"], dbname="reports", user="reports", password=password, connect_timeout=3)


def prepare():
    """Both call it at their start, at the same time perhaps."""
    with database() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(1)")
        cursor.execute(
            "CREATE TABLE IF NOT EXISTS reports (id serial PRIMARY KEY, claim text NOT NULL, damage text NOT NULL,"
            " state text NOT NULL DEFAULT 'ordered', text text, written_by text)"
        )
