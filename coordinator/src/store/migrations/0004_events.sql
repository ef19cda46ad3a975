-- What happened on hosts, and to them and to rollouts (then host is NULL, unless it is about one). Numbered as it comes in; at_ms is by
-- the host's own clock. Removed hosts keep their events, under the name they had.

CREATE TABLE events (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    host        TEXT,
    host_name   TEXT,
    at_ms       BIGINT NOT NULL,
    received_ms BIGINT NOT NULL,
    app         TEXT,
    kind        TEXT NOT NULL,
    message     TEXT NOT NULL
);
CREATE INDEX events_host ON events (host, id);

-- Up to which number the events of a spool are in: what is sent again is left out.
CREATE TABLE event_spools (
    host    TEXT NOT NULL REFERENCES hosts (id) ON DELETE CASCADE,
    spool   TEXT NOT NULL,
    highest BIGINT NOT NULL,
    used_ms BIGINT NOT NULL,
    PRIMARY KEY (host, spool)
);
