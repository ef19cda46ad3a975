-- A host whose certificates were revoked stays listed until it is removed or enrolled again.
ALTER TABLE hosts ADD COLUMN revoked_ms BIGINT;
