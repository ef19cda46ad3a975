-- Of an app on a host: whether the host may run the hooks that run on one host of its rollout only, and the rollout that
-- last asked for a restart (0: none). Of a host: who cordoned it and when (NULL: nobody).

ALTER TABLE host_apps ADD COLUMN run_once BIGINT NOT NULL DEFAULT 0;
ALTER TABLE host_apps ADD COLUMN restart BIGINT NOT NULL DEFAULT 0;
ALTER TABLE hosts ADD COLUMN cordoned_ms BIGINT;
ALTER TABLE hosts ADD COLUMN cordoned_by TEXT;
