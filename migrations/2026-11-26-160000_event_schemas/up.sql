-- What payloads of a type look like, and whether those that do not are taken.

ALTER TABLE event_types
    -- Canonical JSON of a JSON Schema (2020-12) for payloads. NULL = none.
    ADD COLUMN schema bytea,
    -- What happens to a posted payload that breaks the schema: 0 off, 1 warn, 2 reject.
    ADD COLUMN validation smallint NOT NULL DEFAULT 0,
    -- The part of the product that the type belongs to.
    ADD COLUMN feature_group text,
    ADD COLUMN changed_in bigint NOT NULL DEFAULT 0;
-- Gateways and runners know the rules of types in memory (docs/decisions/0039).
CREATE INDEX event_types_changed ON event_types (changed_in);
CREATE TRIGGER event_types_changed BEFORE INSERT OR UPDATE ON event_types
    FOR EACH ROW EXECUTE FUNCTION hookyard_changed();
