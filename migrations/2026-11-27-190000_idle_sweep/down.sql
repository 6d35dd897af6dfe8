CREATE OR REPLACE FUNCTION hookyard_claim_due(as_of timestamptz, lease_until timestamptz, claimed_by uuid, at_most bigint)
    RETURNS SETOF deliveries LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY
    WITH due AS MATERIALIZED (
        SELECT d.event_id, d.subscription_id FROM deliveries d
        WHERE d.state = 0 AND d.next_attempt_at <= as_of
        ORDER BY d.next_attempt_at LIMIT at_most FOR UPDATE SKIP LOCKED)
    UPDATE deliveries d SET claim = claimed_by, next_attempt_at = lease_until FROM due
    WHERE d.event_id = due.event_id AND d.subscription_id = due.subscription_id
    RETURNING d.*;
END $$;
