-- Mostly nothing is due. A look at the schedule costs a fifth of the statement that claims, for which every partition, with its indexes,
-- is made ready to be written; and deliverers look 25 times a second.
CREATE OR REPLACE FUNCTION hookyard_claim_due(as_of timestamptz, lease_until timestamptz, claimed_by uuid, at_most bigint)
    RETURNS SETOF deliveries LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM deliveries d WHERE d.state = 0 AND d.next_attempt_at <= as_of ORDER BY d.next_attempt_at LIMIT 1;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    RETURN QUERY
    WITH due AS MATERIALIZED (
        SELECT d.event_id, d.subscription_id FROM deliveries d
        WHERE d.state = 0 AND d.next_attempt_at <= as_of
        ORDER BY d.next_attempt_at LIMIT at_most FOR UPDATE SKIP LOCKED)
    UPDATE deliveries d SET claim = claimed_by, next_attempt_at = lease_until FROM due
    WHERE d.event_id = due.event_id AND d.subscription_id = due.subscription_id
    RETURNING d.*;
END $$;
