-- Times are Unix ms. Lists and maps are JSON. Text and BIGINT only, so that another engine can read the same statements.

CREATE TABLE schema_version (version BIGINT PRIMARY KEY);

CREATE TABLE certificates (
    serial       TEXT PRIMARY KEY,
    owner_kind   TEXT NOT NULL CHECK (owner_kind IN ('host', 'operator')),
    owner        TEXT NOT NULL,
    issued_ms    BIGINT NOT NULL,
    not_after_ms BIGINT NOT NULL,
    revoked_ms   BIGINT
);
CREATE INDEX certificates_owner ON certificates (owner_kind, owner);

CREATE TABLE hosts (
    id            TEXT PRIMARY KEY,
    name          TEXT NOT NULL UNIQUE,
    labels        TEXT NOT NULL,
    token_id      TEXT NOT NULL,
    enrolled_by   TEXT NOT NULL,
    enrolled_ms   BIGINT NOT NULL,
    serial        TEXT NOT NULL REFERENCES certificates (serial),
    last_seen_ms  BIGINT,
    agent_version TEXT NOT NULL,
    os            TEXT NOT NULL,
    generation    BIGINT NOT NULL,
    accepted      BIGINT NOT NULL,
    report        TEXT,
    reported_ms   BIGINT
);

CREATE TABLE host_apps (
    host    TEXT NOT NULL REFERENCES hosts (id) ON DELETE CASCADE,
    app     TEXT NOT NULL,
    release BIGINT NOT NULL,
    rollout BIGINT NOT NULL,
    paused  BIGINT NOT NULL,
    PRIMARY KEY (host, app)
);
CREATE INDEX host_apps_app ON host_apps (app, release);

CREATE TABLE releases (
    app        TEXT NOT NULL,
    number     BIGINT NOT NULL,
    spec       TEXT NOT NULL,
    digest     TEXT NOT NULL,
    secrets    TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    good_ms    BIGINT,
    PRIMARY KEY (app, number)
);

CREATE TABLE rollouts (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    app        TEXT NOT NULL,
    active     BIGINT NOT NULL,
    document   TEXT NOT NULL,
    started_ms BIGINT NOT NULL,
    ended_ms   BIGINT
);
CREATE INDEX rollouts_app ON rollouts (app, id);
CREATE INDEX rollouts_active ON rollouts (active);

-- What `drover secret set` stored; environment '' is for every one. `value` is sealed by the vault.
CREATE TABLE secrets (
    name        TEXT NOT NULL,
    environment TEXT NOT NULL,
    version     BIGINT NOT NULL,
    value       TEXT NOT NULL,
    set_ms      BIGINT NOT NULL,
    set_by      TEXT NOT NULL,
    removed_ms  BIGINT,
    PRIMARY KEY (name, environment, version)
);

-- What was generated, once per app (its name carries the environment).
CREATE TABLE generated_secrets (
    app        TEXT NOT NULL,
    name       TEXT NOT NULL,
    version    BIGINT NOT NULL,
    value      TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    PRIMARY KEY (app, name, version)
);

CREATE TABLE operators (
    name         TEXT PRIMARY KEY,
    added_ms     BIGINT NOT NULL,
    added_by     TEXT NOT NULL,
    logged_in_ms BIGINT,
    revoked_ms   BIGINT
);

-- Of a token's secret only the SHA-256 is kept.
CREATE TABLE tokens (
    id          TEXT PRIMARY KEY,
    kind        TEXT NOT NULL CHECK (kind IN ('join', 'login')),
    secret_hash TEXT NOT NULL,
    labels      TEXT NOT NULL,
    operator    TEXT REFERENCES operators (name),
    uses_left   BIGINT NOT NULL,
    expires_ms  BIGINT NOT NULL,
    created_ms  BIGINT NOT NULL,
    created_by  TEXT NOT NULL,
    revoked_ms  BIGINT
);

CREATE TABLE audit (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    at_ms   BIGINT NOT NULL,
    who     TEXT NOT NULL,
    action  TEXT NOT NULL,
    subject TEXT NOT NULL
);
