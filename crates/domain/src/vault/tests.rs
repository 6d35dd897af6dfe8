//! What is sealed comes out again, and nothing else does.

use super::*;

fn vault(key: u8, previous: &[u8]) -> Vault {
    let key_of = |byte: &u8| MasterKey::from_bytes([*byte; 32]);
    Vault::new(key_of(&key), previous.iter().map(key_of).collect())
}

fn place() -> Place {
    columns::SIGNING_SECRET.at([0x11; 16])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn what_is_sealed_is_opened_at_its_place() {
    let vault = vault(7, &[]);
    for plain in [&b""[..], b"w", b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", &[0; 4096]] {
        let sealed = vault.seal(&place(), plain);
        assert_eq!(vault.open(&place(), &sealed).as_deref(), Ok(plain));
        assert_eq!(sealed.len(), HEAD + plain.len() + 16);
        assert_ne!(sealed, vault.seal(&place(), plain), "the same value is sealed differently every time");
    }
}

/// The values come from another implementation (Python's `cryptography`): HKDF-SHA256 with the salt `hookyard` and the
/// info `seal:1`, then AES-256-GCM with the place as additional data. Whoever changes the format makes all databases
/// unreadable.
#[test]
fn the_format_is_the_one_that_is_in_databases() {
    let key = MasterKey::from_bytes(std::array::from_fn(|at| u8::try_from(at).unwrap()));
    assert_eq!(key.id().to_string(), "9e83cc54477ac231");
    let nonce = std::array::from_fn(|at| 100 + u8::try_from(at).unwrap());
    let sealed = Held::new(&key).seal(&place(), b"whsec_x", nonce);
    assert_eq!(
        hex(&sealed),
        "ff4859019e83cc54477ac2316465666768696a6b6c6d6e6ff2b1f4ecc662daa6370906775419f1e9ef5468835624f4"
    );
    let vault = Vault::new(key, Vec::new());
    assert_eq!(vault.open(&place(), &sealed).as_deref(), Ok(&b"whsec_x"[..]));
    assert_eq!(
        hex(&vault.derive("csrf")),
        "3bc78233c293b4adaed9325c6a80a1e664e1de9a3fff682fcd5659959d18400a"
    );
}

#[test]
fn a_value_does_not_open_anywhere_else() {
    let vault = vault(7, &[]);
    let sealed = vault.seal(&place(), b"secret");
    for other in [
        columns::SIGNING_SECRET.at([0x12; 16]),
        columns::HOOK_WEBHOOK_SECRET.at([0x11; 16]),
        columns::TENANT_WEBHOOK_SECRET.at([0x11; 16]),
        columns::SIGNING_SECRET.at([]),
    ] {
        assert_eq!(vault.open(&other, &sealed), Err(VaultError::Damaged), "{other:?}");
    }
}

#[test]
fn every_flipped_bit_is_noticed() {
    let vault = vault(7, &[]);
    let sealed = vault.seal(&place(), b"secret");
    for bit in 0..sealed.len() * 8 {
        let mut changed = sealed.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let error = vault.open(&place(), &changed).unwrap_err();
        match bit / 8 {
            0..4 => assert_eq!(error, VaultError::NotSealed, "bit {bit}"),
            4..12 => {
                assert!(matches!(error, VaultError::UnknownKey(id) if id != vault.current()), "bit {bit}")
            }
            _ => assert_eq!(error, VaultError::Damaged, "bit {bit}: nonce, ciphertext and tag"),
        }
    }
}

#[test]
fn a_value_that_was_cut_or_lengthened_is_noticed() {
    let vault = vault(7, &[]);
    let sealed = vault.seal(&place(), b"secret");
    for length in 0..sealed.len() {
        let error = vault.open(&place(), &sealed[..length]).unwrap_err();
        let expected = if length < 12 { VaultError::NotSealed } else { VaultError::Damaged };
        assert_eq!(error, expected, "{length} bytes");
    }
    let longer = [&sealed[..], &[0]].concat();
    assert_eq!(vault.open(&place(), &longer), Err(VaultError::Damaged));
}

#[test]
fn plain_text_is_never_taken_for_sealed() {
    let vault = vault(7, &[]);
    for text in ["", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "ÿHY\u{1}", &"x".repeat(256)] {
        assert_eq!(vault.open(&place(), text.as_bytes()), Err(VaultError::NotSealed), "{text}");
    }
}

#[test]
fn a_previous_key_opens_and_the_current_one_seals() {
    let (old, new, both) = (vault(1, &[]), vault(2, &[]), vault(2, &[1, 2, 1]));
    assert_eq!(both.ids().collect::<Vec<_>>(), [new.current(), old.current()], "each key once");
    let before = old.seal(&place(), b"secret");
    assert_eq!(both.open(&place(), &before).as_deref(), Ok(&b"secret"[..]));
    assert_eq!(new.open(&place(), &before), Err(VaultError::UnknownKey(old.current())));
    let after = both.seal(&place(), b"secret");
    assert_eq!(new.open(&place(), &after).as_deref(), Ok(&b"secret"[..]));
}

#[test]
fn every_purpose_and_every_key_has_a_key_of_its_own() {
    let (old, both) = (vault(1, &[]), vault(2, &[1]));
    assert_eq!(both.derive_all("csrf"), [both.derive("csrf"), old.derive("csrf")]);
    assert_ne!(both.derive("csrf"), old.derive("csrf"));
    assert_ne!(both.derive("csrf"), both.derive("service"));
    // None of them is the key that is sealed with.
    let sealing = {
        let held = Held::new(&MasterKey::from_bytes([2; 32]));
        let mut key = [0; 32];
        held.derived.expand(&[SEALING], hkdf::HKDF_SHA256).unwrap().fill(&mut key).unwrap();
        key
    };
    for purpose in ["seal:1", "", ":seal:1"] {
        assert_ne!(both.derive(purpose), sealing, "{purpose}");
    }
}

#[test]
fn keys_are_not_shown() {
    let vault = vault(7, &[8]);
    let shown = format!("{vault:?}");
    assert_eq!(shown, format!("Vault({:?})", vault.ids().collect::<Vec<_>>()));
}

#[test]
fn no_two_columns_are_the_same_place() {
    let all = columns::ROTATED.iter().copied().chain([columns::OIDC_VERIFIER, columns::CANARY]);
    let mut places: Vec<Vec<u8>> = all.map(|column| column.at([1; 16]).bytes().to_vec()).collect();
    places.sort();
    places.dedup();
    assert_eq!(places.len(), columns::ROTATED.len() + 2);
}
