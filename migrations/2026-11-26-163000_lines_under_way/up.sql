-- What is under way in lines: of the line of a key at most one delivery (docs/decisions/0042), which is looked for before the next
-- one goes. Only what was let go, so that a long line costs nothing here.
CREATE INDEX deliveries_under_way ON deliveries (ordering)
    WHERE state = 0 AND ordering IS NOT NULL AND next_attempt_at <> 'infinity';
