-- Inboxes (contract §2): subscriptions whose deliveries nobody sends. They wait until their owner leases them, or reads them in order.

-- subscriptions.kind: 0 REST hook, 1 endpoint of tasks, 2 endpoint of callbacks, 3 consumer, 4 inbox. An inbox has no receiver: its
-- url is `inbox:` and its id, and nothing is signed for it.
ALTER TABLE subscriptions ALTER COLUMN signing_secret DROP NOT NULL;
ALTER TABLE subscriptions ADD CONSTRAINT subscriptions_signed CHECK (kind = 4 OR signing_secret IS NOT NULL);
CREATE INDEX subscriptions_inboxes ON subscriptions (tenant_id, id) WHERE kind = 4;

-- What an inbox has beside its subscription. Whoever changes a row changes the subscription's, too, so that snapshots hear of it.
CREATE TABLE inboxes (
    id uuid PRIMARY KEY REFERENCES subscriptions,
    name text NOT NULL,
    -- As they were written (may be aliases); `patterns` are what is matched. None = everything.
    event_types text[] NOT NULL,
    patterns text[] NOT NULL,
    -- Of the company that an event is about, at least one of them; none = any event.
    tags text[] NOT NULL,
    -- A message that was leased so often and not acknowledged is quarantined.
    max_leases smallint NOT NULL CHECK (max_leases > 0),
    -- Seconds after which a message that was not acknowledged is not given out any more; NULL = as long as it is kept.
    ttl_s integer CHECK (ttl_s > 0),
    -- Since when nothing is leased; NULL = it is not paused.
    paused_at timestamptz
);

-- Deliveries of inboxes (profile 5) are messages. Their state is that of all deliveries: pending = waiting or leased, delivered =
-- acknowledged, dead = quarantined. `tries` counts leases, `claim` is the lease token, `due_at` tells since when it is in the inbox.
-- Until when a message is nobody else's; NULL = it may be leased.
ALTER TABLE deliveries ADD COLUMN leased_until timestamptz;

-- Whoever puts a message of an inbox on the schedule (the fan-out, a retry of dead letters, a replay) puts it into the inbox instead:
-- no deliverer ever takes it, whoever writes such a statement next. The condition is what all others pay.
CREATE FUNCTION hookyard_put_into_inbox() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.next_attempt_at := 'infinity';
    NEW.claim := '00000000-0000-0000-0000-000000000000';
    NEW.leased_until := NULL;
    RETURN NEW;
END $$;
CREATE TRIGGER deliveries_into_inbox BEFORE INSERT OR UPDATE OF next_attempt_at ON deliveries FOR EACH ROW
    WHEN (NEW.profile = 5 AND NEW.state = 0 AND NEW.next_attempt_at <> 'infinity')
    EXECUTE FUNCTION hookyard_put_into_inbox();

-- What may be leased, and what is quarantined, in order of arrival. Statements ask for a state that the planner does not know, so that
-- it cannot take the index of everything that is pending instead.
CREATE INDEX deliveries_inbox_waiting ON deliveries (subscription_id, state, sequence)
    WHERE profile = 5 AND state IN (0, 2) AND leased_until IS NULL;
-- What is leased, and what waits for the end of a delay: when it may be leased again.
CREATE INDEX deliveries_inbox_leased ON deliveries (subscription_id, leased_until)
    WHERE profile = 5 AND state IN (0, 2) AND leased_until IS NOT NULL;
-- Dead letters by themselves: what waits in an inbox is pending, and must not be walked through to find them.
CREATE INDEX deliveries_dead ON deliveries (tenant_id, event_id, subscription_id) WHERE state = 2;
