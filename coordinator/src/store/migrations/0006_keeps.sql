-- Apps of which a host holds another state than this store knows, since it was restored from a backup: they stay as they
-- are on that host until somebody asks for another state of them.

CREATE TABLE host_keeps (
    host TEXT NOT NULL REFERENCES hosts (id) ON DELETE CASCADE,
    app  TEXT NOT NULL,
    PRIMARY KEY (host, app)
);
