-- What is left to cancel of a subscription that takes nothing any more (docs/decisions/0058): the first piece was full, and a registry goes
-- on. A row is gone when nothing is left, or when the subscription was found enabled again.
CREATE TABLE cancellations (
    subscription_id uuid PRIMARY KEY REFERENCES subscriptions ON DELETE CASCADE,
    tenant_id uuid NOT NULL,
    -- The `last_reason` of what is cancelled.
    reason text NOT NULL,
    -- Up to this event everything was looked at.
    after uuid NOT NULL
);
