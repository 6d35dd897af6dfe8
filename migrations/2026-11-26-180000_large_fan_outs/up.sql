-- What is left of the fan-out of an event that very many hooks want (docs/decisions/0056): a group of that event alone, with the last
-- hook that has its delivery. Whoever holds the claim goes on from there.
ALTER TABLE event_groups
    ADD COLUMN made_up_to uuid,
    ADD COLUMN claim uuid,
    ADD COLUMN claimed_until timestamptz;
CREATE INDEX event_groups_rest ON event_groups (id) WHERE made_up_to IS NOT NULL;
