-- The last stage (percent of the way to being disabled) of which the owner was warned, and in which run of failures: the one
-- that began at `warned_for`. Another run is warned of anew.
ALTER TABLE subscription_health
    ADD COLUMN warned smallint NOT NULL DEFAULT 0,
    ADD COLUMN warned_for timestamptz;
