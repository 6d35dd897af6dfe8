-- Numbers of deliveries: to each hook and consumer its own, from 1, without a gap (docs/decisions/0048).

-- NULL = of no subscription that counts (a webhook of a task, a callback, a good-bye), or made before there were numbers.
ALTER TABLE deliveries ADD COLUMN sequence bigint;
CREATE INDEX deliveries_sequence ON deliveries (subscription_id, sequence) WHERE sequence IS NOT NULL;

-- Which numbers of a subscription are given. Locked until the commit by whoever gives some, so that a number is never seen before
-- a smaller one.
CREATE TABLE subscription_sequences (
    subscription_id uuid PRIMARY KEY,
    -- The number given last.
    last bigint NOT NULL,
    -- No number above was ever given, and that is on disk: after a crash counting goes on behind it.
    reserved bigint NOT NULL,
    -- The generation in which a number was given last.
    generation uuid NOT NULL,
    -- Numbers that a crash has left without a delivery.
    void int8multirange NOT NULL DEFAULT '{}'
) WITH (fillfactor = 50);

-- The generation in which numbers are given. Unlogged, and so emptied when Postgres recovers from a crash, and only then.
CREATE UNLOGGED TABLE sequence_generation (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    id uuid NOT NULL
);

-- The present generation; begins one when there is none.
CREATE FUNCTION hookyard_sequence_generation() RETURNS uuid LANGUAGE plpgsql AS $$
DECLARE
    present uuid;
BEGIN
    SELECT id INTO present FROM sequence_generation WHERE one;
    IF present IS NULL THEN
        INSERT INTO sequence_generation (id) VALUES (gen_random_uuid()) ON CONFLICT DO NOTHING;
        SELECT id INTO present FROM sequence_generation WHERE one;
    END IF;
    RETURN present;
END $$;
