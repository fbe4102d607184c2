//! The master key: seals what seals everything else, and never lies beside it.
//!
//! It comes from `WEFT_MASTER_KEY` or from a file outside the data directory that only its owner
//! can read, so that a stolen copy of the data opens nothing.

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

/// 32 bytes.
pub type MasterKey = [u8; 32];

/// Why there is no master key. The text never holds the key.
#[derive(Debug, thiserror::Error)]
pub enum MasterKeyError {
    #[error("{0} is not a key: expected 64 hex digits, or 32 bytes in base64")]
    Malformed(String),
    #[error(
        "the master key {} lies inside the data directory, where a stolen copy of the data would include it; move it out and set master_key_file", .0.display()
    )]
    InsideData(PathBuf),
    #[error("the master key {} can be read by others; run: chmod 600 {}", .0.display(), .0.display())]
    Exposed(PathBuf),
    #[error(
        "{} holds data, but its master key {} is missing: put it back or set WEFT_MASTER_KEY", .data.display(), .key.display()
    )]
    Missing { data: PathBuf, key: PathBuf },
    #[error("the master key {}: {source}", .path.display())]
    Io { path: PathBuf, source: io::Error },
}

/// The key: from `variable` (the value of `WEFT_MASTER_KEY`) if it is set, else from the file at
/// `path`, which is made when neither it nor any data is there yet.
pub fn load(variable: Option<&str>, path: &Path, data: &Path) -> Result<MasterKey, MasterKeyError> {
    if let Some(text) = variable {
        return parse(text).ok_or_else(|| MasterKeyError::Malformed("WEFT_MASTER_KEY".into()));
    }
    if real(path).starts_with(real(data)) {
        return Err(MasterKeyError::InsideData(path.to_owned()));
    }
    let failed = |source| MasterKeyError::Io { path: path.to_owned(), source };
    match fs::metadata(path) {
        Ok(metadata) if metadata.permissions().mode() & 0o077 != 0 => {
            Err(MasterKeyError::Exposed(path.to_owned()))
        }
        Ok(_) => {
            let text = fs::read_to_string(path).map_err(failed)?;
            parse(&text).ok_or_else(|| MasterKeyError::Malformed(path.display().to_string()))
        }
        Err(err) if err.kind() == io::ErrorKind::NotFound => {
            let holds_data = fs::read_dir(data).is_ok_and(|mut entries| entries.next().is_some());
            if holds_data {
                return Err(MasterKeyError::Missing { data: data.to_owned(), key: path.to_owned() });
            }
            create(path).map_err(failed)
        }
        Err(source) => Err(failed(source)),
    }
}

/// 64 hex digits, or 32 bytes in either alphabet of base64, padded or not.
fn parse(text: &str) -> Option<MasterKey> {
    let text = text.trim();
    if text.len() == 64 {
        let mut key = MasterKey::default();
        for (byte, digits) in key.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let digit = |at: usize| char::from(digits[at]).to_digit(16);
            *byte = u8::try_from(digit(0)? * 16 + digit(1)?).ok()?;
        }
        return Some(key);
    }
    let lenient = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    [alphabet::STANDARD, alphabet::URL_SAFE]
        .into_iter()
        .find_map(|alphabet| GeneralPurpose::new(&alphabet, lenient).decode(text).ok())
        .and_then(|bytes| bytes.try_into().ok())
}

/// A new random key, on disk with its name before anything is sealed with it.
fn create(path: &Path) -> io::Result<MasterKey> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(parent)?;
    let key: MasterKey = rand::random();
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let digits: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    writeln!(file, "{digits}")?;
    file.sync_all()?;
    fs::File::open(parent)?.sync_all()?;
    Ok(key)
}

/// The path without links and dots, as far as it exists.
fn real(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let exists = absolute.ancestors().find_map(|part| Some((part, part.canonicalize().ok()?)));
    match exists {
        Some((part, real)) => real.join(absolute.strip_prefix(part).unwrap_or(Path::new(""))),
        None => absolute,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1eff";

    #[test]
    fn a_key_is_hex_or_base64_of_32_bytes() {
        let key = parse(HEX).expect("hex");
        #[rustfmt::skip]
        let cases = [
            ("upper-case hex, and a newline", format!("{}\n", HEX.to_uppercase()),                true),
            ("base64",                        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHv8=".into(), true),
            ("base64url without padding",     "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHv8".into(),  true),
            ("a digit short",                 HEX[1..].to_owned(),                                false),
            ("not hex",                       HEX.replace('f', "g"),                              false),
            ("31 bytes",                      "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHg==".into(), false),
            ("empty",                         String::new(),                                      false),
        ];
        for (why, text, fits) in cases {
            assert_eq!(parse(&text), fits.then_some(key), "{why}");
        }
    }

    #[test]
    fn it_is_made_once_for_its_owner_only() {
        let dir = tempfile::tempdir().expect("a directory");
        let (path, data) = (dir.path().join("weft.key"), dir.path().join("data"));
        let key = load(None, &path, &data).expect("it is made");
        assert_eq!(fs::metadata(&path).expect("it is there").permissions().mode() & 0o777, 0o600);
        assert_eq!(load(None, &path, &data).expect("it is read"), key);
        assert_ne!(load(Some(HEX), &path, &data).expect("the variable wins"), key);
        assert!(matches!(load(Some("short"), &path, &data), Err(MasterKeyError::Malformed(_))));

        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("it is ours");
        assert!(matches!(load(None, &path, &data), Err(MasterKeyError::Exposed(_))));
    }

    #[test]
    fn it_never_lies_inside_the_data_nor_is_replaced_beside_data() {
        let dir = tempfile::tempdir().expect("a directory");
        let data = dir.path().join("data");
        fs::create_dir(&data).expect("it is ours");
        std::os::unix::fs::symlink(&data, dir.path().join("link")).expect("it is ours");
        for inside in ["data/key", "link/key", "data/../data/key", "data/sub/../key"] {
            let refused = load(None, &dir.path().join(inside), &data);
            assert!(matches!(refused, Err(MasterKeyError::InsideData(_))), "{inside}");
        }
        fs::write(data.join("journal"), "x").expect("it is ours");
        let refused = load(None, &dir.path().join("data.key"), &data);
        assert!(matches!(refused, Err(MasterKeyError::Missing { .. })));
        assert!(!dir.path().join("data.key").exists());
    }
}
