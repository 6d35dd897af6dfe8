//! Schedules: tasks that are made by the clock. When a schedule ticks is a pure rule over a cron expression and a time zone;
//! that no tick fires twice is held by a unique key.

mod fire;
pub mod store;

use std::{fmt, str::FromStr};

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use croner::{
    Cron,
    parser::{CronParser, Seconds, Year},
};
use diesel::{
    deserialize::{self, FromSql, FromSqlRow},
    expression::AsExpression,
    pg::{Pg, PgValue},
    serialize::{self, Output, ToSql},
    sql_types::SmallInt,
};

use super::{Draft, model::Models, run::clean, webhook::WebhookUrls};
use crate::{
    event::DraftError,
    wire::{Json, Object, to_canonical},
};

/// The longest name, in characters.
pub const MAX_NAME_CHARS: usize = 200;
/// Schedules of a tenant at most.
pub const MAX_SCHEDULES: i64 = 1_000;
/// A tick that is fired later than this was missed.
const GRACE: TimeDelta = TimeDelta::seconds(60);
/// Ticks of one schedule that are fired at once.
const AT_ONCE: usize = 100;

/// What becomes of ticks that passed while nobody fired: no runner was there, or the schedule was not enabled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, AsExpression, FromSqlRow)]
#[diesel(sql_type = SmallInt)]
pub enum Missed {
    /// They are gone.
    Skip,
    /// One task for all of them.
    Once,
    /// A task for each.
    All,
}

impl Missed {
    /// Every policy.
    pub const ALL: [Self; 3] = [Self::Skip, Self::Once, Self::All];

    /// The word for it on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Skip => "skip",
            Self::Once => "once",
            Self::All => "all",
        }
    }
}

impl FromStr for Missed {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|missed| missed.as_str() == text).ok_or(())
    }
}

impl FromSql<SmallInt, Pg> for Missed {
    fn from_sql(bytes: PgValue<'_>) -> deserialize::Result<Self> {
        let code = <i16 as FromSql<SmallInt, Pg>>::from_sql(bytes)?;
        Self::ALL
            .into_iter()
            .find(|missed| *missed as i16 == code)
            .ok_or_else(|| format!("no policy for missed ticks {code}").into())
    }
}

impl ToSql<SmallInt, Pg> for Missed {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        let code = *self as i16;
        ToSql::<SmallInt, Pg>::to_sql(&code, &mut out.reborrow())
    }
}

/// When a schedule ticks: five fields of cron, in a time zone.
#[derive(Clone, Debug)]
pub struct Timetable {
    cron: Cron,
    zone: Tz,
}

/// What is to be done about a schedule now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Due {
    /// Ticks to be fired.
    pub fire: Vec<DateTime<Utc>>,
    /// The first tick that is given up, if one is.
    pub missed: Option<DateTime<Utc>>,
    /// The tick after that.
    pub next: Option<DateTime<Utc>>,
}

impl Timetable {
    /// Reads a cron expression and the name of a time zone.
    ///
    /// # Errors
    /// Which of them cannot be read, and why.
    pub fn parse(cron: &str, zone: &str) -> Result<Self, DraftError> {
        let wrong = |field, reason: String| DraftError { field, reason };
        let zone = zone.parse::<Tz>().map_err(|_| {
            wrong("time_zone", "must be the name of a time zone, such as Europe/Paris or UTC".to_owned())
        })?;
        let told = || {
            wrong("cron", "must have five fields: minute, hour, day of month, month, day of week".to_owned())
        };
        if cron.split_whitespace().count() != 5 || cron.len() > 200 {
            return Err(told());
        }
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let cron = parser.parse(cron).map_err(|_| told())?;
        Ok(Self { cron, zone })
    }

    /// The first tick after an instant; `None` when there never is one.
    #[must_use]
    pub fn after(&self, at: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.cron.find_next_occurrence(&at.with_timezone(&self.zone), false).ok().map(|at| at.to_utc())
    }

    /// The last tick up to an instant.
    fn latest(&self, at: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.cron.find_previous_occurrence(&at.with_timezone(&self.zone), true).ok().map(|at| at.to_utc())
    }

    /// What is to be done, when `next` is the first tick that was not dealt with.
    #[must_use]
    pub fn due(&self, next: DateTime<Utc>, missed: Missed, now: DateTime<Utc>) -> Due {
        if next > now {
            return Due { next: Some(next), ..Due::default() };
        }
        // At least `next` itself, whatever the time zone has done since it was computed.
        let latest = self.latest(now).map_or(next, |latest| latest.max(next));
        match missed {
            Missed::Skip => {
                let late = now - latest > GRACE;
                let given_up = if late || next < latest { Some(next) } else { None };
                let fire = if late { Vec::new() } else { vec![latest] };
                Due { fire, missed: given_up, next: self.after(now) }
            }
            Missed::Once => Due { fire: vec![latest], missed: None, next: self.after(now) },
            Missed::All => {
                let mut fire = vec![next];
                let mut following = self.after(next);
                while let Some(tick) = following
                    && tick <= now
                    && fire.len() < AT_ONCE
                {
                    fire.push(tick);
                    following = self.after(tick);
                }
                Due { fire, missed: None, next: following }
            }
        }
    }
}

/// A schedule as somebody wants it.
#[derive(Clone, Debug)]
pub struct ScheduleDraft {
    /// What it is called.
    pub name: String,
    /// The cron expression, as written.
    pub cron: String,
    /// The time zone, as written.
    pub time_zone: String,
    /// Whether it ticks.
    pub enabled: bool,
    /// What becomes of missed ticks.
    pub missed: Missed,
    /// Canonical JSON: the body of a request that makes a task.
    pub task: String,
    /// When it ticks.
    pub timetable: Timetable,
}

impl ScheduleDraft {
    /// Checks `{name, cron, time_zone?, enabled?, missed?, task}`. Unknown members are ignored.
    ///
    /// # Errors
    /// Names the first member that is missing or not acceptable; of the task, too.
    pub fn parse(
        json: Json,
        models: &Models,
        urls: &WebhookUrls,
        now: DateTime<Utc>,
    ) -> Result<Self, DraftError> {
        let wrong = |field: &'static str, reason: &str| DraftError { field, reason: reason.to_owned() };
        let Json::Object(mut object) = json else { return Err(wrong("schedule", "must be a JSON object")) };
        let text = |object: &mut Object, field: &'static str| match object.remove(field) {
            None | Some(Json::Null) => Ok(None),
            Some(value) => match value.as_str() {
                Some(text) => Ok(Some(clean(text.to_owned()))),
                None => Err(wrong(field, "must be a string")),
            },
        };
        let name = text(&mut object, "name")?.ok_or_else(|| wrong("name", "is missing"))?;
        if name.trim().is_empty() || name.chars().nth(MAX_NAME_CHARS).is_some() {
            return Err(wrong("name", &format!("must have 1 to {MAX_NAME_CHARS} characters")));
        }
        let cron = text(&mut object, "cron")?.ok_or_else(|| wrong("cron", "is missing"))?;
        let time_zone = text(&mut object, "time_zone")?.unwrap_or_else(|| "UTC".to_owned());
        let timetable = Timetable::parse(&cron, &time_zone)?;
        if timetable.after(now).is_none() {
            return Err(wrong("cron", "never comes true"));
        }
        let enabled = match object.remove("enabled") {
            None | Some(Json::Null) => true,
            Some(value) => value.as_bool().ok_or_else(|| wrong("enabled", "must be true or false"))?,
        };
        let missed = match text(&mut object, "missed")? {
            None => Missed::Skip,
            Some(word) => word.parse().map_err(|()| wrong("missed", "must be skip, once or all"))?,
        };
        let task = match object.remove("task") {
            None | Some(Json::Null) => return Err(wrong("task", "is missing")),
            Some(task @ Json::Object(_)) => task,
            Some(_) => return Err(wrong("task", "must be a JSON object")),
        };
        if task.get("deadline_at").is_some_and(|value| !value.is_null()) {
            return Err(wrong("deadline_at", "is a fixed time, which a schedule cannot have"));
        }
        if task.get("webhook_secret").is_some_and(|value| !value.is_null()) {
            return Err(wrong(
                "webhook_secret",
                "would be kept readable in a schedule; set it for the tenant instead",
            ));
        }
        let canonical = String::from_utf8_lossy(&to_canonical(&task)).into_owned();
        Draft::parse(task, models, urls, now)?;
        Ok(Self { name, cron, time_zone, enabled, missed, task: canonical, timetable })
    }
}

/// As cron has it.
impl fmt::Display for Timetable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.cron.as_str(), self.zone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn table(cron: &str, zone: &str) -> Timetable {
        Timetable::parse(cron, zone).unwrap()
    }

    #[test]
    fn a_timetable_ticks_in_its_time_zone() {
        let nine = table("0 9 * * MON-FRI", "Europe/Paris");
        // 2026-03-29: clocks go forward in Paris.
        assert_eq!(nine.after(at("2026-03-27T08:00:00Z")), Some(at("2026-03-30T07:00:00Z")));
        assert_eq!(nine.after(at("2026-03-26T08:00:00Z")), Some(at("2026-03-27T08:00:00Z")));
        let quarter = table("*/15 * * * *", "UTC");
        assert_eq!(quarter.after(at("2026-01-01T00:00:00Z")), Some(at("2026-01-01T00:15:00Z")));
        // An hour that is there twice ticks a daily schedule once.
        let twice = table("30 2 * * *", "Europe/Paris");
        let first = twice.after(at("2026-10-24T12:00:00Z")).unwrap();
        assert_eq!(twice.after(first), Some(at("2026-10-26T01:30:00Z")));
        assert_eq!(table("0 0 30 2 *", "UTC").after(at("2026-01-01T00:00:00Z")), None);
    }

    #[test]
    fn what_is_no_timetable_is_named() {
        for (cron, zone, field) in [
            ("* * * *", "UTC", "cron"),
            ("* * * * * *", "UTC", "cron"),
            ("60 * * * *", "UTC", "cron"),
            ("", "UTC", "cron"),
            ("@daily", "UTC", "cron"),
            ("* * * * *", "Mars/Olympus", "time_zone"),
            ("* * * * *", "", "time_zone"),
        ] {
            assert_eq!(Timetable::parse(cron, zone).unwrap_err().field, field, "{cron} {zone}");
        }
    }

    #[test]
    fn missed_ticks_follow_the_policy() {
        let hourly = table("0 * * * *", "UTC");
        let next = at("2026-01-01T10:00:00Z");
        let due = |missed, now: &str| hourly.due(next, missed, at(now));
        for missed in Missed::ALL {
            assert_eq!(due(missed, "2026-01-01T09:59:59Z"), Due { next: Some(next), ..Due::default() });
            let on_time = Due { fire: vec![next], missed: None, next: Some(at("2026-01-01T11:00:00Z")) };
            assert_eq!(due(missed, "2026-01-01T10:00:00Z"), on_time, "{missed:?}");
            assert_eq!(due(missed, "2026-01-01T10:01:00Z"), on_time, "{missed:?}");
        }
        let later = "2026-01-01T13:30:00Z";
        let after = Some(at("2026-01-01T14:00:00Z"));
        assert_eq!(due(Missed::Skip, later), Due { fire: vec![], missed: Some(next), next: after });
        assert_eq!(
            due(Missed::Skip, "2026-01-01T13:00:10Z"),
            Due { fire: vec![at("2026-01-01T13:00:00Z")], missed: Some(next), next: after }
        );
        assert_eq!(
            due(Missed::Once, later),
            Due { fire: vec![at("2026-01-01T13:00:00Z")], missed: None, next: after }
        );
        let each = ["10", "11", "12", "13"].map(|hour| at(&format!("2026-01-01T{hour}:00:00Z")));
        assert_eq!(due(Missed::All, later), Due { fire: each.to_vec(), missed: None, next: after });
    }

    #[test]
    fn of_very_many_missed_ticks_some_are_fired_at_a_time() {
        let minutes = table("* * * * *", "UTC");
        let next = at("2026-01-01T00:00:00Z");
        let due = minutes.due(next, Missed::All, at("2026-02-01T00:00:00Z"));
        assert_eq!(due.fire.len(), AT_ONCE);
        assert_eq!(due.next, Some(next + TimeDelta::minutes(100)));
    }
}
