//! Bodies that a transformation has made. They are kept from before the first try on, so that what is sent again is the same,
//! whatever becomes of the transformation meanwhile (contract §8). Without a transformation a body is part of the event's, and
//! nothing is kept.

use diesel::{
    OptionalExtension, PgConnection, QueryableByName, RunQueryDsl,
    sql_types::{Binary, Uuid},
};

use crate::{
    Result,
    db::{partition, prepared::prepared},
    id::DeliveryId,
};

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = Binary)]
    body: Vec<u8>,
}

/// The body of a delivery, if there is one.
///
/// # Errors
/// When the database is away.
pub fn find(conn: &mut PgConnection, id: DeliveryId) -> Result<Option<Vec<u8>>> {
    let table = partition::holding("delivery_bodies", id.event);
    let row = prepared(format!("SELECT body FROM {table} WHERE event_id = $1 AND subscription_id = $2"))
        .bind::<Uuid, _>(id.event)
        .bind::<Uuid, _>(id.subscription)
        .get_result::<Row>(conn)
        .optional();
    match row {
        Ok(row) => Ok(row.map(|row| row.body)),
        Err(error) if partition::is_dropped(&error) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Keeps the body of a delivery. Returns what is to be sent: this, or what somebody else has kept before.
///
/// # Errors
/// When the database is away.
pub fn keep(conn: &mut PgConnection, id: DeliveryId, body: Vec<u8>) -> Result<Vec<u8>> {
    let table = partition::holding("delivery_bodies", id.event);
    let kept = prepared(format!(
        "INSERT INTO {table} (event_id, subscription_id, body) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING"
    ))
    .bind::<Uuid, _>(id.event)
    .bind::<Uuid, _>(id.subscription)
    .bind::<Binary, _>(body.as_slice())
    .execute(conn);
    match kept {
        Ok(1) => Ok(body),
        Ok(_) => Ok(find(conn, id)?.unwrap_or(body)),
        Err(error) if partition::is_dropped(&error) => Ok(body),
        Err(error) => Err(error.into()),
    }
}
