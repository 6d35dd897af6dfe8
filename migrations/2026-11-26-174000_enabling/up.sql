-- Enabling with what was kept: exactly that, and the same answer when it is asked for again (docs/decisions/0045).

-- Of events accepted before this only those that did not arrive because their delivery ended, or their time came, from then on; NULL =
-- all of the range.
ALTER TABLE recoveries ADD COLUMN kept_from timestamptz;

-- When it was enabled last, after it had been disabled: a recovery of that enabling was made at this very time.
ALTER TABLE subscriptions ADD COLUMN enabled_at timestamptz;
CREATE OR REPLACE FUNCTION hookyard_disabled() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.disabled_at := CASE WHEN NEW.state <> 3 THEN NULL
        WHEN TG_OP = 'UPDATE' AND OLD.state = 3 THEN OLD.disabled_at
        ELSE NEW.updated_at END;
    IF TG_OP = 'UPDATE' AND OLD.state = 3 AND NEW.state < 3 THEN
        NEW.enabled_at := NEW.updated_at;
    END IF;
    RETURN NEW;
END $$;

-- Events that were scheduled, whose time has come: who was disabled then has missed them, however long ago they were accepted. Kept as
-- long as the days of such events (`scheduled_days`).
CREATE TABLE scheduled_past (
    id uuid PRIMARY KEY,
    tenant_id uuid NOT NULL,
    due_at timestamptz NOT NULL
);
CREATE INDEX scheduled_past_due ON scheduled_past (tenant_id, due_at);
CREATE INDEX scheduled_past_age ON scheduled_past (due_at);

-- What is tried again, for the message log: what waits in inboxes is pending, too, and must not be walked through to find it.
CREATE INDEX deliveries_attempting ON deliveries (tenant_id, event_id, subscription_id) WHERE state = 0 AND attempts > 0;
