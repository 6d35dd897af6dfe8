//! Problems in words: what is wrong, and what the owner of the receiver can do about it. English and French.

use super::Problem;
use crate::person::Locale;

/// A problem for people to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Words {
    /// What is wrong, in one sentence.
    pub explanation: &'static str,
    /// What to do about it.
    pub advice: &'static str,
}

impl Problem {
    /// The problem in a language.
    #[must_use]
    pub const fn words(self, locale: Locale) -> Words {
        match locale {
            Locale::En => self.english(),
            Locale::Fr => self.french(),
        }
    }

    const fn english(self) -> Words {
        let (explanation, advice) = match self {
            Self::Dns => (
                "The host name of the URL has no address.",
                "Check the spelling of the host name and its DNS records (A or AAAA).",
            ),
            Self::Refused => (
                "Nobody takes connections at the address of the receiver.",
                "Check that the server is running, that the port is right, and that a firewall lets us in.",
            ),
            Self::TlsChain => (
                "The certificate of the receiver is not signed by an authority that is trusted here.",
                "Serve the full chain, with the intermediate certificates, of a public authority; a browser may have them already, we do not.",
            ),
            Self::TlsName => (
                "The certificate of the receiver is for another host name.",
                "Use a certificate that names the host of the URL, or correct the URL.",
            ),
            Self::TlsExpired => (
                "The certificate of the receiver has expired, or is not valid yet.",
                "Renew the certificate.",
            ),
            Self::ClientCertificate => (
                "The receiver wants a client certificate, or does not accept the one that it is shown.",
                "Give the consumer a certificate and its key (`client_certificate`) of an authority that the receiver trusts, and check until when it is valid; hooks show none.",
            ),
            Self::Tls => (
                "No TLS connection to the receiver can be made.",
                "Check that the port speaks TLS 1.2 or 1.3, and whether it asks for a client certificate; `openssl s_client -connect HOST:443` shows what it does.",
            ),
            Self::Timeout => (
                "The receiver did not answer in time.",
                "Answer with 2xx at once and do the work afterwards.",
            ),
            Self::Reset => (
                "The receiver broke the connection off before its answer was complete.",
                "Look into the logs of the receiver and of the proxy in front of it.",
            ),
            Self::NotHttp => (
                "What the receiver answers is not HTTP.",
                "Check that the URL and its port lead to a web server.",
            ),
            Self::Forbidden => (
                "The host name of the URL leads to an address that is not public; nothing was sent.",
                "Let the host name lead to a public address only.",
            ),
            Self::Redirect => (
                "The receiver redirects to another URL; redirects are not followed.",
                "Subscribe with the URL to which it redirects.",
            ),
            Self::Unauthorized => (
                "The receiver refuses us: it wants a credential, or does not accept ours.",
                "Let the receiver verify the signature instead of a log-in, or check its key.",
            ),
            Self::NotFound => (
                "There is nothing at the URL that takes what is sent.",
                "Check the path of the URL, and that the receiver accepts the method: POST, or PUT for a consumer that is set so.",
            ),
            Self::Gone => {
                ("The receiver says that it is gone for good.", "Subscribe again if it is needed after all.")
            }
            Self::Throttled => (
                "The receiver asks us to slow down.",
                "Nothing: we wait as long as it says. Raise its limit, or subscribe to fewer events.",
            ),
            Self::Rejected => (
                "The receiver does not accept what is sent.",
                "Its answer often says why; look at `last_failure.reply`.",
            ),
            Self::ServerError => (
                "The receiver fails with an error of its own.",
                "Look into the logs of the receiver; its answer is in `last_failure.reply`.",
            ),
            Self::Untransformable => (
                "The transformation makes nothing of the event that could be sent; nothing was sent.",
                "Mend the transformation, then retry the delivery; `last_failure.reply` says what it makes.",
            ),
            Self::Slow => (
                "The receiver answers, but takes more than half of the time that it has.",
                "Answer with 2xx at once and do the work afterwards, before deliveries begin to fail.",
            ),
        };
        Words { explanation, advice }
    }

    const fn french(self) -> Words {
        let (explanation, advice) = match self {
            Self::Dns => (
                "Le nom d'hôte de l'URL n'a pas d'adresse.",
                "Vérifiez l'orthographe du nom d'hôte et ses enregistrements DNS (A ou AAAA).",
            ),
            Self::Refused => (
                "Personne n'accepte de connexions à l'adresse du récepteur.",
                "Vérifiez que le serveur tourne, que le port est le bon et qu'un pare-feu nous laisse passer.",
            ),
            Self::TlsChain => (
                "Le certificat du récepteur n'est pas signé par une autorité reconnue ici.",
                "Servez la chaîne complète d'une autorité publique, avec les certificats intermédiaires ; un navigateur les a peut-être déjà, pas nous.",
            ),
            Self::TlsName => (
                "Le certificat du récepteur est établi pour un autre nom d'hôte.",
                "Utilisez un certificat qui porte le nom d'hôte de l'URL, ou corrigez l'URL.",
            ),
            Self::TlsExpired => (
                "Le certificat du récepteur a expiré ou n'est pas encore valable.",
                "Renouvelez le certificat.",
            ),
            Self::ClientCertificate => (
                "Le récepteur exige un certificat client, ou n'accepte pas celui qui lui est présenté.",
                "Donnez au consommateur un certificat et sa clé (`client_certificate`) d'une autorité que le récepteur reconnaît, et vérifiez jusqu'à quand il est valable ; les hooks n'en présentent pas.",
            ),
            Self::Tls => (
                "Aucune connexion TLS avec le récepteur n'est possible.",
                "Vérifiez que le port parle TLS 1.2 ou 1.3 et s'il demande un certificat client ; `openssl s_client -connect HOST:443` montre ce qu'il fait.",
            ),
            Self::Timeout => (
                "Le récepteur n'a pas répondu à temps.",
                "Répondez 2xx tout de suite et faites le travail ensuite.",
            ),
            Self::Reset => (
                "Le récepteur a coupé la connexion avant la fin de sa réponse.",
                "Regardez les journaux du récepteur et du proxy placé devant lui.",
            ),
            Self::NotHttp => (
                "Ce que répond le récepteur n'est pas du HTTP.",
                "Vérifiez que l'URL et son port mènent à un serveur web.",
            ),
            Self::Forbidden => (
                "Le nom d'hôte de l'URL mène à une adresse non publique ; rien n'a été envoyé.",
                "Faites mener le nom d'hôte à une adresse publique uniquement.",
            ),
            Self::Redirect => (
                "Le récepteur redirige vers une autre URL ; les redirections ne sont pas suivies.",
                "Abonnez l'URL vers laquelle il redirige.",
            ),
            Self::Unauthorized => (
                "Le récepteur nous refuse : il exige un identifiant ou n'accepte pas le nôtre.",
                "Faites vérifier la signature par le récepteur plutôt qu'une connexion, ou vérifiez sa clé.",
            ),
            Self::NotFound => (
                "Rien à cette URL n'accepte ce qui est envoyé.",
                "Vérifiez le chemin de l'URL, et que le récepteur accepte la méthode : POST, ou PUT pour un consommateur réglé ainsi.",
            ),
            Self::Gone => (
                "Le récepteur dit avoir disparu pour de bon.",
                "Abonnez-le de nouveau s'il est tout de même utile.",
            ),
            Self::Throttled => (
                "Le récepteur nous demande de ralentir.",
                "Rien : nous attendons aussi longtemps qu'il le dit. Relevez sa limite ou abonnez-le à moins d'événements.",
            ),
            Self::Rejected => (
                "Le récepteur n'accepte pas ce qui est envoyé.",
                "Sa réponse dit souvent pourquoi ; voyez `last_failure.reply`.",
            ),
            Self::ServerError => (
                "Le récepteur échoue par une erreur qui lui est propre.",
                "Regardez les journaux du récepteur ; sa réponse est dans `last_failure.reply`.",
            ),
            Self::Untransformable => (
                "La transformation ne tire de l'événement rien qui puisse être envoyé ; rien n'a été envoyé.",
                "Corrigez la transformation, puis relancez la livraison ; `last_failure.reply` dit ce qu'elle en tire.",
            ),
            Self::Slow => (
                "Le récepteur répond, mais prend plus de la moitié du temps qu'il a.",
                "Répondez 2xx tout de suite et faites le travail ensuite, avant que des livraisons n'échouent.",
            ),
        };
        Words { explanation, advice }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_problem_has_words_of_its_own_in_both_languages() {
        let mut seen = std::collections::HashSet::new();
        for problem in Problem::ALL {
            assert!(seen.insert(problem.as_str().to_owned()));
            for locale in [Locale::En, Locale::Fr] {
                let words = problem.words(locale);
                assert!(seen.insert(words.explanation.to_owned()), "{problem:?} {locale:?}");
                assert!(words.explanation.ends_with('.') && words.advice.ends_with('.'), "{problem:?}");
            }
        }
    }
}
