-- How many tries of an endpoint arrived and failed in each ten minutes: its activity. Written with its health, kept for some hours.
CREATE TABLE endpoint_activity (
    subscription_id uuid NOT NULL,
    -- The beginning of the ten minutes.
    slot timestamptz NOT NULL,
    delivered integer NOT NULL,
    failed integer NOT NULL,
    PRIMARY KEY (subscription_id, slot)
) WITH (fillfactor = 50);
CREATE INDEX endpoint_activity_slot ON endpoint_activity (slot);

-- Endpoints that a deliverer leaves alone after failures in a row, told when that changes. Unlogged: it is what a process knows,
-- and after a crash of Postgres it is told anew (docs/decisions/0047).
CREATE UNLOGGED TABLE endpoint_breakers (
    subscription_id uuid PRIMARY KEY,
    opened_at timestamptz NOT NULL,
    -- Not before then one try is made as a probe.
    next_probe_at timestamptz NOT NULL,
    -- Failures in a row.
    failures integer NOT NULL
) WITH (fillfactor = 50);
