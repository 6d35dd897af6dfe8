//! `hookyard users`.

use std::io::Read as _;

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use hookyard_domain::{
    Error,
    audit::{self, Action, Actor, Entry, ObjectKind, ObjectRef},
    clock::Clock,
    credential::directory::known_everywhere,
    db::Db,
    email::{self, letter::Letter},
    event::wire_time,
    id::{InvitationId, TenantId, UserId},
    person::{
        Locale, Role,
        invitation::{self, NewInvitation, Purpose},
        membership::{self, Seat},
        password::{self, Cost, Hasher},
        session, totp,
        user::{self, NewUser, User},
    },
    tenant,
    vault::Vault,
};
use serde_json::json;

use crate::{command, process, secrets, settings::Settings};

use super::{listing, operator};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Makes somebody a user of a tenant: with a password at once, else by an invitation link, which is printed
    Create(Create),
    /// Lists the users of a tenant, or of all
    List {
        /// Only those of this tenant.
        #[arg(long)]
        tenant: Option<TenantId>,
        /// Print JSON, an object per line.
        #[arg(long)]
        json: bool,
    },
    /// Changes what a user may do at a tenant
    SetRole {
        /// The tenant's id.
        #[arg(long)]
        tenant: TenantId,
        /// The user's e-mail address.
        #[arg(long)]
        email: String,
        /// admin, developer or viewer.
        #[arg(long)]
        role: Role,
    },
    /// Ends all sessions of a user, and lets them in no more
    Disable {
        /// The user's e-mail address.
        #[arg(long)]
        email: String,
    },
    /// Lets a user in again
    Enable {
        /// The user's e-mail address.
        #[arg(long)]
        email: String,
    },
    /// Sets a user's password, or prints a link with which they set it themselves
    ResetPassword {
        /// The user's e-mail address.
        #[arg(long)]
        email: String,
        /// Read the password from standard input instead of printing a link.
        #[arg(long)]
        password_stdin: bool,
        /// Also take the second factor away, of somebody who has lost it.
        #[arg(long)]
        drop_second_factor: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Create {
    /// The tenant's id.
    #[arg(long)]
    tenant: TenantId,
    /// E-mail address.
    #[arg(long)]
    email: String,
    /// Name, for people: 1 to 100 characters. Needed with a password; else people give their own.
    #[arg(long)]
    name: Option<String>,
    /// admin, developer or viewer.
    #[arg(long)]
    role: Role,
    /// Read a password from standard input: 12 to 128 characters.
    #[arg(long)]
    password_stdin: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(command: Command, settings: Settings) -> anyhow::Result<()> {
    process::block_on(&settings.clone(), async move {
        let db = command::database(&settings)?;
        let at = At { actor: operator::actor(), now: Clock::system().now(), db, settings };
        match command {
            Command::Create(create) => at.create(create).await,
            Command::List { tenant, json } => at.list(tenant, json).await,
            Command::SetRole { tenant, email, role } => at.set_role(tenant, &email, role).await,
            Command::Disable { email } => at.disable(&email).await,
            Command::Enable { email } => at.enable(&email).await,
            Command::ResetPassword { email, password_stdin, drop_second_factor } => {
                at.reset(&email, password_stdin, drop_second_factor).await
            }
        }
    })
}

/// Who commands, when, and where.
struct At {
    actor: Actor,
    now: DateTime<Utc>,
    db: Db,
    settings: Settings,
}

impl At {
    async fn create(self, create: Create) -> anyhow::Result<()> {
        let email = user::parse_email(&create.email).map_err(|reason| anyhow::anyhow!("--email {reason}"))?;
        if !create.password_stdin {
            return self.invite(create, email).await;
        }
        let name = create.name.context("--name is needed with a password")?;
        let name = user::parse_name(&name).map_err(|reason| anyhow::anyhow!("--name {reason}"))?;
        let hash = hashed(&email, &name).await?;
        let Self { actor, now, db, .. } = self;
        let (tenant, role) = (create.tenant, create.role);
        let new =
            NewUser { id: UserId::new(now), email, name, locale: Locale::En, password_hash: Some(hash) };
        let id = new.id;
        db.run(move |conn| {
            hookyard_domain::tenant::store::find(conn, tenant)?.ok_or(Error::NotFound { what: "tenant" })?;
            user::insert(conn, &new, now)?;
            membership::insert(conn, tenant, id, role, now)?;
            let entry = Entry::new(tenant, Action::UserCreated, ObjectRef::new(ObjectKind::User, id))
                .after(json!({ "email": new.email, "name": new.name, "role": role.as_str() }));
            audit::record(conn, &actor, &entry, now)
        })
        .await?;
        if create.json {
            println!("{}", json!({ "user_id": id.to_string() }));
        } else {
            println!("user {id}");
        }
        Ok(())
    }

    async fn invite(self, create: Create, email: String) -> anyhow::Result<()> {
        let (tenant, role, is_json) = (create.tenant, create.role, create.json);
        let link = self.link(Purpose::Join(tenant), Some(email), role).await?;
        if is_json {
            println!("{}", json!({ "invite_url": link }));
        } else {
            println!("{link}\n(an invitation for seven days; this is the only time it is shown)");
        }
        Ok(())
    }

    /// A link, stored and audited.
    async fn link(self, purpose: Purpose, email: Option<String>, role: Role) -> anyhow::Result<String> {
        let Self { actor, now, db, settings } = self;
        let vault = secrets::of_command(&settings, &db).await?;
        let id = InvitationId::new(now);
        let token = invitation::token(&vault, id);
        let tenant = match purpose {
            Purpose::Join(tenant) => Some(tenant),
            Purpose::Reset(_) | Purpose::SetUp => None,
        };
        let (object, after) = match purpose {
            Purpose::Reset(user) => {
                (ObjectRef::new(ObjectKind::User, user), json!({ "link": "new password" }))
            }
            Purpose::Join(_) | Purpose::SetUp => {
                let after = json!({ "email": email, "role": role.as_str() });
                (ObjectRef::new(ObjectKind::Invitation, id), after)
            }
        };
        let new = NewInvitation { id, purpose, email, role, invited_by: None, hash: token.hash() };
        let link = settings.http.link(&format!("/invitations/{}", token.expose()));
        let mail = settings.mail.is_on().then(|| (vault, link.clone()));
        db.run(move |conn| {
            invitation::insert(conn, &new, now)?;
            if let Some((vault, link)) = &mail {
                write_to(conn, vault, &new, link, now)?;
            }
            let entry = Entry::new(tenant, Action::InvitationCreated, object).after(after);
            audit::record(conn, &actor, &entry, now)
        })
        .await?;
        Ok(link)
    }

    async fn list(self, tenant: Option<TenantId>, is_json: bool) -> anyhow::Result<()> {
        let listed = self.db.once(move |conn| {
            let users = user::list(conn)?;
            let with_seats = users.into_iter().map(|user| {
                let seats = membership::of_user(conn, user.id)?;
                Ok((user, seats))
            });
            with_seats.collect::<hookyard_domain::Result<Vec<_>>>()
        });
        let of_tenant =
            |seats: &[Seat]| tenant.is_none_or(|tenant| seats.iter().any(|seat| seat.tenant_id == tenant));
        let listed = listed.await?;
        let listed = listed.iter().filter(|(_, seats)| of_tenant(seats));
        listing::lines(listed.map(|(user, seats)| Ok(line(user, seats, is_json))))
    }

    async fn find(&self, email: &str) -> anyhow::Result<User> {
        let wanted = user::parse_email(email).map_err(|reason| anyhow::anyhow!("--email {reason}"))?;
        let found = self.db.once(move |conn| user::find_by_email(conn, &wanted)).await?;
        found.with_context(|| format!("there is no user {email}"))
    }

    async fn set_role(self, tenant: TenantId, email: &str, role: Role) -> anyhow::Result<()> {
        let user = self.find(email).await?;
        let Self { actor, now, db, .. } = self;
        let revoked = db
            .run(move |conn| {
                let (before, revoked) = membership::set_role(conn, tenant, user.id, role, now)?;
                let object = ObjectRef::new(ObjectKind::User, user.id);
                let entry = Entry::new(tenant, Action::UserRoleChanged, object)
                    .before(json!({ "role": before.as_str() }))
                    .after(json!({ "role": role.as_str() }));
                audit::record(conn, &actor, &entry, now)?;
                Ok(revoked)
            })
            .await?;
        if revoked {
            known_everywhere().await;
        }
        println!("done");
        Ok(())
    }

    async fn disable(self, email: &str) -> anyhow::Result<()> {
        let user = self.find(email).await?;
        let Self { actor, now, db, .. } = self;
        db.run(move |conn| {
            if user::disable(conn, user.id, now)? {
                tell(conn, &actor, &user, Action::UserDisabled, now)?;
            }
            Ok(())
        })
        .await?;
        known_everywhere().await;
        println!("done");
        Ok(())
    }

    async fn enable(self, email: &str) -> anyhow::Result<()> {
        let user = self.find(email).await?;
        let Self { actor, now, db, .. } = self;
        db.run(move |conn| {
            if user::enable(conn, user.id)? {
                tell(conn, &actor, &user, Action::UserEnabled, now)?;
            }
            Ok(())
        })
        .await?;
        println!("done");
        Ok(())
    }

    async fn reset(self, email: &str, from_stdin: bool, drop_second_factor: bool) -> anyhow::Result<()> {
        let user = self.find(email).await?;
        let hash = if from_stdin { Some(hashed(&user.email, &user.name).await?) } else { None };
        let (db, actor, now, id) = (self.db.clone(), self.actor.clone(), self.now, user.id);
        db.run(move |conn| {
            if drop_second_factor && totp::remove(conn, id)? {
                tell(conn, &actor, &user, Action::TotpDisabled, now)?;
            }
            if let Some(hash) = &hash {
                user::set_password(conn, id, hash)?;
                session::close_all(conn, id, None)?;
                tell(conn, &actor, &user, Action::PasswordChanged, now)?;
            }
            Ok(())
        })
        .await?;
        if from_stdin {
            println!("done");
        } else {
            let link = self.link(Purpose::Reset(id), None, Role::Viewer).await?;
            println!("{link}\n(a link for seven days; this is the only time it is shown)");
        }
        Ok(())
    }
}

/// Writes to whom the link is for, when this installation sends mail.
fn write_to(
    conn: &mut hookyard_domain::db::Conn,
    vault: &Vault,
    new: &NewInvitation,
    link: &str,
    now: DateTime<Utc>,
) -> hookyard_domain::Result<()> {
    match (new.purpose, &new.email) {
        (Purpose::Join(id), Some(address)) => {
            let name = tenant::store::find(conn, id)?.map_or_else(String::new, |tenant| tenant.name);
            let letter = Letter::Invitation { tenant: &name, inviter: None, role: new.role, link };
            email::store::enqueue(conn, vault, Some(id), &letter.to(address, Locale::default()), now)?;
        }
        (Purpose::Reset(id), _) => {
            if let Some(user) = user::find(conn, id)? {
                let locale = Locale::parse(&user.locale).unwrap_or_default();
                let mail = Letter::NewPassword { link }.to(&user.email, locale);
                email::store::enqueue(conn, vault, None, &mail, now)?;
            }
        }
        (Purpose::Join(_), None) | (Purpose::SetUp, _) => {}
    }
    Ok(())
}

/// Something that concerns a person at every tenant; without one, the installation.
fn tell(
    conn: &mut hookyard_domain::db::Conn,
    actor: &Actor,
    user: &User,
    action: Action,
    now: DateTime<Utc>,
) -> hookyard_domain::Result<()> {
    let seats = membership::of_user(conn, user.id)?;
    let chains: Vec<Option<TenantId>> =
        if seats.is_empty() { vec![None] } else { seats.iter().map(|seat| Some(seat.tenant_id)).collect() };
    let entries: Vec<Entry> = chains
        .into_iter()
        .map(|tenant| {
            Entry::new(tenant, action, ObjectRef::new(ObjectKind::User, user.id))
                .after(json!({ "email": user.email }))
        })
        .collect();
    audit::record_all(conn, actor, &entries, now)
}

/// The hash of the password on standard input; a line feed at its end is none of it.
async fn hashed(email: &str, name: &str) -> anyhow::Result<String> {
    let mut text = String::new();
    std::io::stdin().take(4096).read_to_string(&mut text).context("cannot read the password")?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    password::check(text, email, name).map_err(|weakness| anyhow::anyhow!("the password {weakness}"))?;
    Ok(Hasher::new(Cost::STANDARD)?.hash(text.to_owned()).await?)
}

/// What a list says of a person.
fn line(user: &User, seats: &[Seat], is_json: bool) -> String {
    if is_json {
        let seats: Vec<_> = seats
            .iter()
            .map(|seat| json!({ "tenant_id": seat.tenant_id.to_string(), "role": seat.role.as_str() }))
            .collect();
        let person = json!({
            "user_id": user.id.to_string(), "email": user.email, "name": user.name,
            "second_factor": user.has_totp, "created_at": wire_time(user.created_at),
            "disabled_at": user.disabled_at.map(wire_time),
            "last_login_at": user.last_login_at.map(wire_time), "tenants": seats,
        });
        return person.to_string();
    }
    let state = if user.disabled_at.is_some() { "disabled" } else { "active" };
    let roles: Vec<String> =
        seats.iter().map(|seat| format!("{} at {}", seat.role, seat.tenant_id)).collect();
    format!("{}  {state}  {}  {}  [{}]", user.id, user.email, user.name, roles.join(", "))
}
