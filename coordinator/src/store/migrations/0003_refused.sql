-- The newest host spec that a host did not accept, and why; both NULL once it accepts one.

ALTER TABLE hosts ADD COLUMN refused BIGINT;
ALTER TABLE hosts ADD COLUMN refused_why TEXT;
