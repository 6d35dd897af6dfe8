DROP INDEX deliveries_attempting;
DROP TABLE scheduled_past;
CREATE OR REPLACE FUNCTION hookyard_disabled() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.disabled_at := CASE WHEN NEW.state <> 3 THEN NULL
        WHEN TG_OP = 'UPDATE' AND OLD.state = 3 THEN OLD.disabled_at
        ELSE NEW.updated_at END;
    RETURN NEW;
END $$;
ALTER TABLE subscriptions DROP COLUMN enabled_at;
ALTER TABLE recoveries DROP COLUMN kept_from;
