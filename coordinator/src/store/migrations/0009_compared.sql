-- After a restore from a backup every host is compared once with what this store holds for it, whoever has counted further.
-- `compared`: the newest restore (its line in the audit) since which that was done.
ALTER TABLE hosts ADD COLUMN compared BIGINT NOT NULL DEFAULT 0;

-- What has been asked of a host since the restore, before it was compared: newer than anything that it holds.
CREATE TABLE host_asked (
    host    TEXT NOT NULL REFERENCES hosts (id) ON DELETE CASCADE,
    app     TEXT NOT NULL,
    restore BIGINT NOT NULL,
    PRIMARY KEY (host, app, restore)
);

-- A host that has reported since the last restore has been compared; of the others, rollouts tell what they were asked.
UPDATE hosts SET compared = (SELECT COALESCE(MAX(id), 0) FROM audit WHERE action = 'restore')
WHERE COALESCE(reported_ms, 0) > (SELECT COALESCE(MAX(at_ms), 0) FROM audit WHERE action = 'restore')
OR enrolled_ms > (SELECT COALESCE(MAX(at_ms), 0) FROM audit WHERE action = 'restore');
INSERT INTO host_asked (host, app, restore)
SELECT DISTINCT h.id, r.app, restored.id
FROM rollouts r, (SELECT id, at_ms FROM audit WHERE action = 'restore' ORDER BY id DESC LIMIT 1) restored,
     json_each(r.document, '$.hosts') run, hosts h
WHERE r.started_ms > restored.at_ms AND h.id = json_extract(run.value, '$.id') AND h.compared < restored.id
AND json_extract(run.value, '$.asked') IS NOT NULL;
