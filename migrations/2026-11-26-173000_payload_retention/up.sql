-- Payloads leave before the rest of their events: by their age, or because somebody wants one of them gone.

-- When the payload went: `body` is empty from then on, and the other columns tell what is left of the event. NULL = it is there.
ALTER TABLE events ADD COLUMN payload_purged_at timestamptz;

-- Days whose payloads are past their age. A row is a day on which it was begun to let them go.
CREATE TABLE payload_days (
    day date PRIMARY KEY,
    -- Since when the payloads of its events are gone, but for those that somebody still has to get.
    events_at timestamptz NOT NULL,
    -- Since when the replies to its tries are gone, too; NULL = not yet.
    attempts_at timestamptz,
    -- Since when nothing of it is left; NULL = somebody still has to get some.
    closed_at timestamptz
);

-- Events whose payload was purged a moment ago. Whoever had it in his hands then may write of it once more; a registry looks
-- after that, and forgets the row.
CREATE TABLE purged_payloads (
    event_id uuid PRIMARY KEY,
    purged_at timestamptz NOT NULL
);

-- What of a tenant waits for its time: listed without a look at what others have.
CREATE INDEX scheduled_events_listed ON scheduled_events (tenant_id, id);
