//! The words of the audit log: what can be done, and to what. One line each; the word is what leaves over the wire and
//! must not change.

use std::{fmt, str::FromStr};

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($variant:ident $word:literal;)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $(#[doc = concat!("`", $word, "`")] $variant,)+
        }

        impl $name {
            /// Every one of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The word for it on the wire.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

words! {
    /// What was done.
    Action {
        TenantCreated "tenant.created";
        TenantSecretSet "tenant.secret_set";
        SecretsRotated "secrets.rotated";

        SigningKeyRotated "signing_key.rotated";

        KeyCreated "key.created";
        KeyUpdated "key.updated";
        KeyRevoked "key.revoked";
        IntegrationKeyRotated "integration_key.rotated";
        SourceKeyCreated "source_key.created";
        SourceKeyRevoked "source_key.revoked";
        WorkerTokenCreated "worker_token.created";
        WorkerTokenRevoked "worker_token.revoked";
        CredentialThrottled "credential.throttled";

        UserCreated "user.created";
        UserRoleChanged "user.role_changed";
        UserRemoved "user.removed";
        UserDisabled "user.disabled";
        UserEnabled "user.enabled";
        UserIdentityLinked "user.identity_linked";
        InvitationCreated "invitation.created";
        InvitationAccepted "invitation.accepted";
        InvitationRevoked "invitation.revoked";
        SessionLoggedIn "session.logged_in";
        SessionLoggedOut "session.logged_out";
        SessionLoggedOutEverywhere "session.logged_out_everywhere";
        LoginThrottled "login.throttled";
        PasswordChanged "password.changed";
        TotpEnabled "totp.enabled";
        TotpDisabled "totp.disabled";

        ClientCreated "client.created";
        ClientRevoked "client.revoked";
        ClientSecretRotated "client.secret_rotated";
        GrantGiven "grant.given";
        GrantRevoked "grant.revoked";
        GrantReuseDetected "grant.reuse_detected";

        HookSubscribed "hook.subscribed";
        HookUpdated "hook.updated";
        HookUnsubscribed "hook.unsubscribed";
        HookEnabled "hook.enabled";
        HookDisabled "hook.disabled";
        HookRemoved "hook.removed";
        HookAddressForbidden "hook.address_forbidden";
        HookSecretShown "hook.secret_shown";
        HookReplayed "hook.replayed";
        ConsumerCreated "consumer.created";
        ConsumerUpdated "consumer.updated";
        ConsumerDeleted "consumer.deleted";
        ConsumerEnabled "consumer.enabled";
        ConsumerDisabled "consumer.disabled";
        ConsumerAddressForbidden "consumer.address_forbidden";
        ConsumerSecretShown "consumer.secret_shown";
        ConsumerSecretRotated "consumer.secret_rotated";
        InboxCreated "inbox.created";
        InboxUpdated "inbox.updated";
        InboxDeleted "inbox.deleted";
        InboxPaused "inbox.paused";
        InboxResumed "inbox.resumed";
        TaskEndpointSecretShown "task_endpoint.secret_shown";
        TaskEndpointDisabled "task_endpoint.disabled";
        TaskEndpointAddressForbidden "task_endpoint.address_forbidden";
        CallbackAddressForbidden "callback.address_forbidden";
        TaskAnswered "task.answered";
        DeliveryRetried "delivery.retried";
        ConsumerReplayed "consumer.replayed";
        RecoveryStarted "recovery.started";
        RecoveryCancelled "recovery.cancelled";
        RecoveryEnded "recovery.ended";
        GapsDelivered "gaps.delivered";
        DeadLettersRetried "dead_letters.retried";
        DeadLettersDiscarded "dead_letters.discarded";
        EventPayloadPurged "event.payload_purged";
        EventTypeCreated "event_type.created";
        EventTypeUpdated "event_type.updated";

        ConnectionCreated "connection.created";
        ConnectionChanged "connection.changed";
        ConnectionTested "connection.tested";
        ConnectionDeleted "connection.deleted";
        TaskCancelled "task.cancelled";
        TaskRetried "task.retried";
        ScheduleCreated "schedule.created";
        ScheduleUpdated "schedule.updated";
        ScheduleDeleted "schedule.deleted";
        ScheduleRun "schedule.run";
        BudgetSet "budget.set";
        LlmKeySet "llm_key.set";
        LlmKeyRemoved "llm_key.removed";
    }
}

words! {
    /// What something was done to.
    ObjectKind {
        Installation "installation";
        Tenant "tenant";
        Key "key";
        SigningKey "signing_key";
        Address "address";
        User "user";
        Invitation "invitation";
        Session "session";
        Login "login";
        Client "client";
        Grant "grant";
        Hook "hook";
        Consumer "consumer";
        Inbox "inbox";
        Task "task";
        TaskEndpoint "task_endpoint";
        Callback "callback";
        Delivery "delivery";
        DeadLetters "dead_letters";
        Recovery "recovery";
        Event "event";
        EventType "event_type";
        Connection "connection";
        Schedule "schedule";
        Budget "budget";
        LlmKey "llm_key";
    }
}

/// A text that names no action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an action is a word such as `key.created`")]
pub struct ActionError;

impl FromStr for Action {
    type Err = ActionError;
    fn from_str(text: &str) -> Result<Self, ActionError> {
        Self::ALL.iter().copied().find(|action| action.as_str() == text).ok_or(ActionError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_action_has_a_word_of_its_own_and_it_is_noun_and_verb() {
        for (at, action) in Action::ALL.iter().enumerate() {
            let word = action.as_str();
            assert!(Action::ALL[..at].iter().all(|other| other.as_str() != word), "{word}");
            assert_eq!(word.parse(), Ok(*action));
            let plain = |part: &str| {
                !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
            };
            assert!(word.split_once('.').is_some_and(|(noun, verb)| plain(noun) && plain(verb)), "{word}");
        }
        assert_eq!("key.eaten".parse::<Action>(), Err(ActionError));
    }
}
