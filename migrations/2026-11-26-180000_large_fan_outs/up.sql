-- What is left of the fan-out of an event that very many hooks want (docs/decisions/0056): a group of that event alone, with the hooks that
-- want it, in order, and how many of them have their delivery. Whoever holds the claim goes on from there.
ALTER TABLE event_groups
    ADD COLUMN wanted uuid[],
    ADD COLUMN made integer NOT NULL DEFAULT 0,
    ADD COLUMN claim uuid,
    ADD COLUMN claimed_until timestamptz;
-- Nothing that moves is in it, so that a part moves no index.
CREATE INDEX event_groups_rest ON event_groups (id) WHERE wanted IS NOT NULL;
