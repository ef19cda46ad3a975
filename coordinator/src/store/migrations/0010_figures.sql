-- What hosts were doing, in steps of five minutes: per host and hour one row, with twelve points of 99 bytes at most. A day of a
-- thousand hosts is 30 MB.
CREATE TABLE figures (
    host   TEXT NOT NULL REFERENCES hosts (id) ON DELETE CASCADE,
    hour   BIGINT NOT NULL,
    points BLOB NOT NULL,
    PRIMARY KEY (host, hour)
);
CREATE INDEX figures_by_hour ON figures (hour);

-- From where a host's last stream came, and where it serves metrics, so that Prometheus can be told.
ALTER TABLE hosts ADD COLUMN peer TEXT NOT NULL DEFAULT '';
ALTER TABLE hosts ADD COLUMN metrics_listen TEXT NOT NULL DEFAULT '';
ALTER TABLE hosts ADD COLUMN metrics_tls BIGINT NOT NULL DEFAULT 0;
