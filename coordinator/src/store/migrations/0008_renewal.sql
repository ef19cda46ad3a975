-- By which CA a certificate was signed, which CAs its owner was told of with it (a JSON list), and which certificate it takes
-- over from when it is first used. An empty issuer: it was given before this was noted.
ALTER TABLE certificates ADD COLUMN issuer TEXT NOT NULL DEFAULT '';
ALTER TABLE certificates ADD COLUMN roots TEXT NOT NULL DEFAULT '[]';
ALTER TABLE certificates ADD COLUMN replaces TEXT;
ALTER TABLE certificates ADD COLUMN seen_ms BIGINT;
CREATE INDEX certificates_replaces ON certificates (replaces);
