//! URLs that people, programs and attackers send.

use super::*;

#[test]
fn zapiers_urls_are_accepted_as_they_are_written() {
    let rules = UrlRules::default();
    for good in [
        "https://hooks.zapier.com/hooks/catch/123456/abcdef/",
        "https://hooks.zapier.com/hooks/standard/1234567/0123456789abcdef0123456789abcdef/",
        "https://hooks.zapier.com/fake-subscription-url",
        "https://hooks.zapier.com",
        "https://hooks.zapier.com/",
        "https://hooks.zapier.com:443/x",
        "https://HOOKS.Zapier.COM/x",
        "HTTPS://hooks.zapier.com/x",
        "https://hooks.zapier.com/x?y=1&z=%20",
        "https://hooks.zapier.com/a%2Fb",
        "https://hooks.zapier.com//x",
        "https://zapier.com/hooks/standard/1/2/",
        "https://zapier.com/hooks/callback/1/2/3/",
        "https://zapier.com:443/hooks/x",
    ] {
        assert_eq!(rules.check(good).map(|url| url.as_str().to_owned()), Ok(good.to_owned()), "{good}");
    }
}

#[test]
fn everything_else_is_refused_with_its_reason() {
    use UrlError::{Characters, Fragment, Host, Path, Port, Scheme, Syntax, Userinfo};
    let rules = UrlRules::default();
    let table = [
        ("", Syntax),
        ("hooks.zapier.com/hooks/catch/1/2", Syntax),
        ("/hooks/catch/1/2", Syntax),
        ("//hooks.zapier.com/x", Syntax),
        ("https://", Syntax),
        ("https:///", Syntax),
        ("https://:443/", Syntax),
        ("https://hooks.zapier.com:99999/", Syntax),
        ("https://hooks.zapier.com:x/", Syntax),
        ("https://[::1/", Syntax),
        ("https://hooks%00.zapier.com/", Syntax),
        ("https://hooks%2Ezapier.com/x", Syntax),
        ("https://%68ooks.zapier.com/x", Syntax),
        ("https:hooks.zapier.com/x", Syntax),
        ("https:/hooks.zapier.com/x", Syntax),
        ("https:///hooks.zapier.com/x", Syntax),
        ("https:@hooks.zapier.com/x", Syntax),
        ("https://hooks.zapier.com:/x", Syntax),
        ("https://hooks.zapier.com:0443/x", Syntax),
        ("https://hooks.zapier.com%2F@evil.com/", Userinfo),
        ("http://hooks.zapier.com/x", Scheme),
        ("ftp://hooks.zapier.com/x", Scheme),
        ("javascript:alert(1)", Scheme),
        ("data:text/html,x", Scheme),
        ("mailto:a@hooks.zapier.com", Scheme),
        ("file:///etc/passwd", Scheme),
        ("wss://hooks.zapier.com/", Scheme),
        ("https://user@hooks.zapier.com/x", Userinfo),
        ("https://user:pass@hooks.zapier.com/x", Userinfo),
        ("https://:pass@hooks.zapier.com/x", Userinfo),
        ("https://@hooks.zapier.com/x", Userinfo),
        ("https://:@hooks.zapier.com/x", Userinfo),
        ("https://hooks.zapier.com@evil.com/", Userinfo),
        ("https://hooks.zapier.com:443@evil.com/", Userinfo),
        ("https://hooks.zapier.com/x#y", Fragment),
        ("https://hooks.zapier.com/x#", Fragment),
        ("https://hooks.zapier.com:8443/x", Port),
        ("https://hooks.zapier.com:80/x", Port),
        ("https://zapier.com:444/hooks/x", Port),
        ("https://evilzapier.com/hooks/catch/1/2", Host),
        ("https://evil-hooks.zapier.com/x", Host),
        ("https://hooks.zapier.com.evil.com/x", Host),
        ("https://hooks.zapier.comx/x", Host),
        ("https://hooks.zapier.co/x", Host),
        ("https://hookszapier.com/x", Host),
        ("https://hooks-zapier.com/x", Host),
        ("https://www.hooks.zapier.com/x", Host),
        ("https://api.zapier.com/hooks/x", Host),
        ("https://hooks.zapier.com./x", Host),
        ("https://zapier.com./hooks/x", Host),
        ("https://example.com/https://hooks.zapier.com/", Host),
        ("https://example.com/?u=hooks.zapier.com", Host),
        ("https://127.0.0.1/hooks/", Host),
        ("https://[::1]/hooks/", Host),
        ("https://2130706433/hooks/", Host),
        ("https://0x7f.1/hooks/", Host),
        ("https://localhost/hooks/", Host),
        ("https://xn--hooks-zapier.com/", Syntax),
        ("https://hooks.zapier.com.:443/x", Host),
        ("https://zapier.com/", Path),
        ("https://zapier.com/hooks", Path),
        ("https://zapier.com/app/hooks/x", Path),
        ("https://zapier.com/hooksx/1", Path),
        ("https://zapier.com/hooks/../app", Path),
        ("https://zapier.com/hooks/%2e%2e/app", Path),
        ("https://hooks.zapier.com/a b", Characters),
        (" https://hooks.zapier.com/x", Characters),
        ("https://hooks.zapier.com/x ", Characters),
        ("https://hooks.zapier.com/x\n", Characters),
        ("https://hooks.\tzapier.com/x", Characters),
        ("https://evil.com\\@hooks.zapier.com/x", Characters),
        ("https:\\\\hooks.zapier.com\\x", Characters),
        ("https://hooks.zapier.com/x\0", Characters),
        ("https://hооks.zapier.com/x", Characters), // Cyrillic о
        ("https://hooks。zapier.com/x", Characters),
        ("https://ｈooks.zapier.com/x", Characters),
        ("https://hooks.zapier.com/é", Characters),
        ("https://hooks\u{ad}.zapier.com/x", Characters),
    ];
    for (bad, expected) in table {
        assert_eq!(rules.check(bad).map(|url| url.url), Err(expected), "{bad:?}");
    }
}

#[test]
fn the_length_holds_at_n_and_n_plus_one() {
    let rules = UrlRules::default();
    let url = |length: usize| format!("{:x<length$}", "https://hooks.zapier.com/");
    assert!(rules.check(&url(MAX_URL_BYTES)).is_ok());
    assert_eq!(rules.check(&url(MAX_URL_BYTES + 1)), Err(UrlError::TooLong));
}

#[test]
fn a_prefix_opens_its_own_origin_and_path_and_nothing_like_it() {
    let rules = UrlRules::new(&[
        "http://127.0.0.1:9000/in/".to_owned(),
        "http://127.0.0.1:80".to_owned(),
        "http://[::1]:9000/whole".to_owned(),
    ])
    .unwrap();
    let table = [
        ("http://127.0.0.1:9000/in/x", true),
        ("http://127.0.0.1:9000/in/", true),
        ("http://2130706433:9000/in/x", true), // the same address, however it is written
        ("http://127.0.0.1/x", true),
        ("https://hooks.zapier.com/x", true),
        ("http://[::1]:9000/whole", true),
        ("http://[::1]:9000/whole/x", true),
        ("http://[::1]:9000/wholesale", false),
        ("http:/127.0.0.1:9000/in/x", false),
        ("http:127.0.0.1:9000/in/x", false),
        ("http://127.0.0.1:9000/in", false),
        ("http://127.0.0.1:9000/in/../out", false),
        ("http://127.0.0.1:9000/out", false),
        ("https://127.0.0.1:9000/in/x", false),
        ("http://127.0.0.2:9000/in/x", false),
        ("http://127.0.0.1:9001/in/x", false),
        ("http://127.0.0.1:8080/", false),
        ("http://127.0.0.1:80@evil.com/", false),
        ("http://127.0.0.1:9000@evil.com/in/", false),
        ("http://user@127.0.0.1:9000/in/x", false),
        ("http://127.0.0.1:9000/in/x#y", false),
    ];
    for (url, expected) in table {
        assert_eq!(rules.check(url).is_ok(), expected, "{url}");
    }
    for bad in [
        "",
        "127.0.0.1",
        "http:127.0.0.1",
        "http://%6c/",
        "ftp://x/",
        "http://u@x/",
        "http://x/?a",
        "http://x/#a",
        "http://x y/",
    ] {
        assert!(UrlRules::new(&[bad.to_owned()]).is_err(), "{bad}");
    }
}
