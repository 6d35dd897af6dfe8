//! What a snapshot in memory is refreshed by: rows that know the transaction which changed them (`changed_in`).

/// `h.horizon`: transactions below it have ended; `h.ceiling`: those from it on have not begun. Read by the statement that reads the
/// rows, so that both are of the same instant.
pub(crate) const HORIZON: &str = "(SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS horizon, \
     pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS ceiling) h";
