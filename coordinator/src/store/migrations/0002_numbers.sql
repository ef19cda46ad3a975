-- The highest numbers that hosts have told of: of releases by app; app '' is for rollouts. A store restored from a backup
-- counts on from them.

CREATE TABLE numbers (app TEXT PRIMARY KEY, highest BIGINT NOT NULL);
