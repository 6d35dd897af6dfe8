//! Whoever runs a command, for the audit log: the account at the operating system, which is all that is known of them.

use hookyard_domain::audit::Actor;

/// The operator.
pub(crate) fn actor() -> Actor {
    let uid = rustix::process::geteuid().as_raw();
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    Actor::operator(&name(&passwd, uid))
}

/// The name of an account in the text of `/etc/passwd`; one that is not there, as in a container or of a directory
/// service, is called by its number.
fn name(passwd: &str, uid: u32) -> String {
    let found = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    found.unwrap_or_else(|| format!("uid {uid}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_has_a_name_or_a_number() {
        let passwd = "root:x:0:0::/root:/bin/sh\n:x:7:7::/:/x\nalice:x:1000:1000:A:/home/a:/x\nbad\n";
        for (uid, expected) in [(0, "root"), (1000, "alice"), (7, "uid 7"), (10001, "uid 10001")] {
            assert_eq!(name(passwd, uid), expected);
        }
        assert_eq!(name("", 5), "uid 5");
    }
}
