-- Days of whose events some were fanned out later than they were accepted, and when the last of them was. Their partitions are
-- kept from then on as long as others are from their day on.
CREATE TABLE scheduled_days (
    day date PRIMARY KEY,
    fanned_out_at timestamptz NOT NULL
);
