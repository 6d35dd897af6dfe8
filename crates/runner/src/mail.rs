//! Sending mail from the outbox, by SMTP. A mail is held while it is sent; one whose sender was killed is sent again when its
//! lease ends, with the same `Message-ID`.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::Context as _;
use chrono::TimeDelta;
use hookyard_domain::{
    email::{self, Tls, store},
    id::ClaimId,
};
use lettre::{
    AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor,
    message::{Mailbox, header::ContentType},
    transport::smtp::{
        authentication::Credentials,
        client::{Certificate, Tls as SmtpTls, TlsParameters},
        extension::ClientId,
    },
};
use tokio_util::sync::CancellationToken;

use crate::context::Context;

/// How often the outbox is looked at.
const EVERY: Duration = Duration::from_secs(1);
/// Mail taken at once.
const AT_ONCE: i64 = 10;
/// Longest wait for the server at each step of the conversation.
const PATIENCE: Duration = Duration::from_secs(20);
/// For how long a batch is held: every mail of it may take its time.
const LEASE: TimeDelta = TimeDelta::minutes(10);
/// How often mail that ended long ago is deleted, and after how long.
const FORGET_EVERY: u32 = 3_600;
const KEPT: TimeDelta = TimeDelta::days(30);

/// The way to the mail server.
pub(crate) struct Post {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    domain: String,
}

impl Post {
    pub(crate) fn new(settings: &email::Settings) -> anyhow::Result<Self> {
        let host = settings.host.clone().context("mail.host is not set")?;
        let from: Mailbox = settings
            .from
            .as_deref()
            .context("mail.from is not set")?
            .parse()
            .context("mail.from is no address")?;
        let tls = || tls(&host, settings.extra_ca_file.as_deref());
        let protected = match settings.tls {
            Tls::Starttls => SmtpTls::Required(tls()?),
            Tls::Tls => SmtpTls::Wrapper(tls()?),
            Tls::None => SmtpTls::None,
        };
        let domain = from.email.domain().to_owned();
        let mut transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&host)
            .port(settings.port)
            .tls(protected)
            .timeout(Some(PATIENCE))
            .hello_name(ClientId::Domain(domain.clone()));
        if let (Some(username), Some(password)) = (&settings.username, &settings.password) {
            transport =
                transport.credentials(Credentials::new(username.clone(), password.expose().to_owned()));
        }
        Ok(Self { transport: transport.build(), from, domain })
    }

    /// What went wrong, and whether it will again.
    async fn send(&self, held: &store::HeldEmail) -> Result<(), (String, bool)> {
        let message = self.message(held).map_err(|error| (format!("{error:#}"), true))?;
        match self.transport.send(message).await {
            Ok(_) => Ok(()),
            Err(error) => {
                let refused = error.is_permanent();
                Err((format!("{:#}", anyhow::Error::from(error)), refused))
            }
        }
    }

    fn message(&self, held: &store::HeldEmail) -> anyhow::Result<Message> {
        Ok(Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(None, held.email.to.parse()?))
            .subject(held.email.subject.clone())
            .message_id(Some(format!("<{}@{}>", held.id.uuid(), self.domain)))
            .header(ContentType::TEXT_PLAIN)
            .body(held.email.text.clone())?)
    }
}

fn tls(host: &str, extra_ca_file: Option<&Path>) -> anyhow::Result<TlsParameters> {
    let mut parameters = TlsParameters::builder(host.to_owned());
    if let Some(path) = extra_ca_file {
        let told = || format!("mail.extra_ca_file `{}` cannot be read as PEM", path.display());
        let pem = std::fs::read(path).with_context(told)?;
        anyhow::ensure!(
            String::from_utf8_lossy(&pem).contains("-----BEGIN CERTIFICATE-----"),
            "mail.extra_ca_file `{}` holds no certificate",
            path.display()
        );
        parameters = parameters.add_root_certificate(Certificate::from_pem(&pem).with_context(told)?);
    }
    parameters.build().context("tls for the mail server cannot be set up")
}

/// Sends mail until `stop`; a mail that is being sent is sent to its end.
pub(crate) async fn run(context: Arc<Context>, post: Post, stop: CancellationToken) {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for ticks in 0_u32.. {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        if let Err(error) = send_due(&context, &post, &stop).await {
            tracing::warn!(error = error.chain(), "the outbox cannot be read yet");
        }
        if ticks.is_multiple_of(FORGET_EVERY) {
            let before = context.clock.now() - KEPT;
            if let Err(error) = context.db.once(move |conn| store::forget_old(conn, before)).await {
                tracing::warn!(error = error.chain(), "old mail cannot be deleted yet");
            }
        }
    }
}

async fn send_due(context: &Context, post: &Post, stop: &CancellationToken) -> hookyard_domain::Result<()> {
    loop {
        let (vault, now) = (context.vault.clone(), context.clock.now());
        let claim = ClaimId::new(now);
        let due = context
            .db
            .once(move |conn| store::claim_due(conn, &vault, claim, now, now + LEASE, AT_ONCE))
            .await?;
        let full = due.len() == usize::try_from(AT_ONCE).unwrap_or(usize::MAX);
        for held in due {
            // The rest is sent by others when the lease ends.
            if stop.is_cancelled() {
                return Ok(());
            }
            let outcome = post.send(&held).await;
            let now = context.clock.now();
            match outcome {
                Ok(()) => {
                    context.metrics.mail("sent");
                    context.db.once(move |conn| store::sent(conn, &held, now)).await?;
                }
                Err((error, refused)) => {
                    context.metrics.mail(if refused { "refused" } else { "failed" });
                    tracing::warn!(email.id = %held.id.uuid(), error, refused, "a mail was not sent");
                    let told = context.db.once(move |conn| store::failed(conn, &held, &error, refused, now));
                    told.await?;
                }
            }
        }
        if !full {
            return Ok(());
        }
    }
}
