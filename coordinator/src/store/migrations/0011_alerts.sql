-- Alerts: what was told to whom, what is still to be told, silences, and what only the coordinator can tell of hosts.
CREATE TABLE silences (
    id TEXT PRIMARY KEY,
    matchers TEXT NOT NULL,
    starts_ms BIGINT NOT NULL,
    ends_ms BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    reason TEXT NOT NULL
);
CREATE TABLE fleet_alerts (
    host TEXT PRIMARY KEY REFERENCES hosts (id) ON DELETE CASCADE,
    document TEXT NOT NULL
);
CREATE TABLE alert_groups (
    key TEXT PRIMARY KEY,
    document TEXT NOT NULL
);
CREATE TABLE notifications (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    notifier TEXT NOT NULL,
    group_key TEXT NOT NULL,
    document TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    next_ms BIGINT NOT NULL,
    -- Taken by some, and left for the others: nothing waits behind it.
    is_rest INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX notifications_of ON notifications (notifier, seq);
CREATE TABLE notifier_states (
    notifier TEXT PRIMARY KEY,
    delivered_ms BIGINT,
    failure TEXT
);
