//! Whether a model is the file that it should be: its SHA-256, and its minisign signature. What is hashed are the bytes
//! that are used afterwards, mapped or copied, before anything of them is read as a model.

use crate::exit::{Code, Failure, Outcome, reason};
use crate::generate::stop_if_interrupted;
use crate::host::clock::Stopwatch;
use crate::host::{files, memory};
use crate::options::{Options, Verbosity};
use crate::report::progress::Progress;
use minisign_verify::{Error, PublicKey, Signature};
use sha2::{Digest, Sha256};
use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Bytes hashed between two looks at the clock.
const CHUNK: usize = 1 << 22;
/// A key or a signature has a few hundred bytes.
const SMALL_FILE_MAX: u64 = 16 << 10;

/// SHA-256 of `bytes`, in hexadecimal.
pub(crate) fn sha256(bytes: &[u8], verbosity: Verbosity) -> Outcome<String> {
    let mut digest = Sha256::new();
    in_chunks(bytes, verbosity, |chunk| digest.update(chunk))?;
    Ok(digest.finalize().iter().map(|b| format!("{b:02x}")).collect())
}

fn in_chunks(bytes: &[u8], verbosity: Verbosity, mut take: impl FnMut(&[u8])) -> Outcome {
    let mut progress = Progress::new("hashing", "bytes", bytes.len(), verbosity);
    let clock = Stopwatch::start();
    let mut done = 0;
    for chunk in bytes.chunks(CHUNK) {
        take(chunk);
        done += chunk.len();
        progress.update(done);
        stop_if_interrupted()?;
    }
    drop(progress);
    log::debug!("hashed {} in {:.2} s", memory::size(bytes.len() as u64), clock.seconds());
    Ok(())
}

/// A model's signature, and the key that it is to be by.
pub(crate) struct Signed {
    key: PublicKey,
    signature: Signature,
    pub(crate) file: PathBuf,
}

impl Signed {
    /// Reads key and signature as the options name them; `None` if they name no key.
    ///
    /// # Errors
    /// [`Code::Data`] for a model without a signature and for files that are neither; [`Code::NoInput`] for files that
    /// were named and are not there.
    pub(crate) fn read(options: &Options, model: &Path) -> Outcome<Option<Signed>> {
        let Some(key) = &options.key else { return Ok(None) };
        let key = read_key(key)?;
        let beside = || {
            let mut name = OsString::from(model);
            name.push(".minisig");
            PathBuf::from(name)
        };
        let file = options.signature.clone().unwrap_or_else(beside);
        let text = small_text(&file).map_err(|failure| match (&options.signature, failure.code) {
            (None, Code::NoInput) => Failure::new(Code::Data, "is not signed").about(model).remedy(format!(
                "{} is to hold its minisign signature ({})",
                file.display(),
                failure.message
            )),
            _ => failure,
        })?;
        let signature = Signature::decode(&text)
            .map_err(|_| Failure::new(Code::Data, "is not a minisign signature").about(&file))?;
        Ok(Some(Signed { key, signature, file }))
    }

    /// Whether the signature is the key's, and of these bytes.
    pub(crate) fn verify(&self, bytes: &[u8], verbosity: Verbosity) -> Outcome {
        let verified = match self.key.verify_stream(&self.signature) {
            Ok(mut stream) => {
                in_chunks(bytes, verbosity, |chunk| stream.update(chunk))?;
                stream.finalize()
            }
            // The form that minisign wrote before 2020: the bytes themselves are signed, not their hash.
            Err(Error::UnsupportedLegacyMode) => self.key.verify(bytes, &self.signature, true),
            Err(other) => Err(other),
        };
        verified.map_err(|error| {
            let what = match error {
                Error::UnexpectedKeyId => "is a signature by another key",
                Error::InvalidSignature => "is not the signature of this file: one of the two was changed",
                _ => "cannot be verified",
            };
            Failure::new(Code::Data, what).about(&self.file)
        })
    }

    /// What the signer wrote beside the signature, as harmless text; it is signed too.
    pub(crate) fn comment(&self) -> String {
        crate::terminal::neutralise_line(self.signature.trusted_comment())
    }
}

/// Whether the options demand anything of a model's bytes.
pub(crate) fn is_asked_for(options: &Options) -> bool {
    options.sha256.is_some() || options.key.is_some()
}

/// Refuses bytes that are not what the options demand. Called before they are parsed.
///
/// # Errors
/// [`Code::Data`] for another hash, no signature or a wrong one.
pub(crate) fn check(options: &Options, path: &Path, bytes: &[u8]) -> Outcome {
    check_hash(options, path, || sha256(bytes, options.verbosity))?;
    if let Some(signed) = Signed::read(options, path)? {
        signed.verify(bytes, options.verbosity).map_err(|f| f.about(path))?;
        log::debug!("the signature is good; trusted comment: {}", signed.comment());
    }
    Ok(())
}

/// Refuses another hash than that of `--sha256`.
pub(crate) fn check_hash(options: &Options, path: &Path, found: impl FnOnce() -> Outcome<String>) -> Outcome {
    let Some(wanted) = &options.sha256 else { return Ok(()) };
    let found = found()?;
    if found == *wanted {
        return Ok(());
    }
    Err(Failure::new(Code::Data, format!("is another file: its SHA-256 is {found}, not {wanted}")).about(path))
}

/// A hash as users write it: 64 hexadecimal digits.
pub(crate) fn parse_sha256(text: &OsStr) -> Result<String, String> {
    let text = text.to_str().unwrap_or_default();
    let is_hash = text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
    if is_hash { Ok(text.to_ascii_lowercase()) } else { Err("expected 64 hexadecimal digits".to_owned()) }
}

/// A public key: its text (`RW…`), or the file that minisign wrote.
fn read_key(given: &OsStr) -> Outcome<PublicKey> {
    if let Some(key) = given.to_str().and_then(key_in) {
        return Ok(key);
    }
    let path = Path::new(given);
    let text = small_text(path).map_err(|f| match f.code {
        Code::NoInput => f.remedy("a key is a file of minisign's, or its line that starts with RW"),
        _ => f,
    })?;
    key_in(&text).ok_or_else(|| Failure::new(Code::Data, "holds no minisign public key").about(path))
}

/// The key in a text: a line of its own, or after a comment.
fn key_in(text: &str) -> Option<PublicKey> {
    PublicKey::from_base64(text.trim()).or_else(|_| PublicKey::decode(text)).ok()
}

/// The text of a small regular file. Others are refused without waiting for them.
fn small_text(path: &Path) -> Outcome<String> {
    let file = files::regular(path)?;
    let mut text = String::new();
    match file.take(SMALL_FILE_MAX).read_to_string(&mut text) {
        Ok(_) => Ok(text),
        Err(e) if e.kind() == std::io::ErrorKind::InvalidData => {
            Err(Failure::new(Code::Data, "is not text").about(path))
        }
        Err(e) => Err(Failure::new(Code::Io, reason(&e)).about(path)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // The examples of minisign-verify's documentation: the file holds "test".
    const KEY: &str = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";
    const HASHED: &str = "untrusted comment: signature from minisign secret key\n\
        RUQf6LRCGA9i559r3g7V1qNyJDApGip8MfqcadIgT9CuhV3EMhHoN1mGTkUidF/z7SrlQgXdy8ofjb7bNJJylDOocrCo8KLzZwo=\n\
        trusted comment: timestamp:1556193335\tfile:test\n\
        y/rUw2y8/hOUYjZU71eHp/Wo1KZ40fGy2VJEDl34XMJM+TX48Ss/17u3IvIfbVR1FkZZSNCisQbuQY+bHwhEBg==\n";
    const LEGACY: &str = "untrusted comment: signature from minisign secret key\n\
        RWQf6LRCGA9i59SLOFxz6NxvASXDJeRtuZykwQepbDEGt87ig1BNpWaVWuNrm73YiIiJbq71Wi+dP9eKL8OC351vwIasSSbXxwA=\n\
        trusted comment: timestamp:1555779966\tfile:test\n\
        QtKMXWyYcwdpZAlPF7tE2ENJkRd1ujvKjlj1m9RtHTBnZPa5WKU5uWRs5GoP5M/VqE81QFuMKI5k/SfNQUaOAA==\n";

    fn signed(signature: &str) -> Signed {
        let (key, signature) = (key_in(KEY).unwrap(), Signature::decode(signature).unwrap());
        Signed { key, signature, file: "x.minisig".into() }
    }

    #[test]
    fn digests() {
        let hex = sha256(b"abc", Verbosity::Quiet).unwrap();
        assert_eq!(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(parse_sha256(OsStr::new(&hex.to_uppercase())), Ok(hex));
        for wrong in ["", "abc", &"g".repeat(64), &"a".repeat(63), &"a".repeat(65), &"é".repeat(32)] {
            assert!(parse_sha256(OsStr::new(wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn both_forms_of_signatures_are_verified() {
        for form in [HASHED, LEGACY] {
            let signed_file = signed(form);
            assert_eq!(signed_file.verify(b"test", Verbosity::Quiet), Ok(()));
            for other in [&b"Test"[..], b"", b"test\n"] {
                let failure = signed_file.verify(other, Verbosity::Quiet).unwrap_err();
                assert!(failure.code == Code::Data && failure.message.contains("changed"), "{}", failure.message);
            }
            // The trusted comment is signed as well.
            let forged = signed(&form.replace("file:test", "file:\u{1b}]0;x"));
            assert!(forged.verify(b"test", Verbosity::Quiet).is_err());
            assert!(!forged.comment().contains('\u{1b}') && signed_file.comment().contains("file:test"));
        }
    }

    #[test]
    fn keys_in_all_their_forms() {
        assert!(key_in(&format!("untrusted comment: minisign public key E7620F1842B4E81F\n{KEY}\n")).is_some());
        assert!(key_in(&format!("{KEY}\n")).is_some());
        for wrong in ["", "RW", "x.pub", HASHED, &KEY[..KEY.len() - 4], &"A".repeat(56)] {
            assert!(key_in(wrong).is_none(), "{wrong}");
        }
        assert_eq!(read_key(OsStr::new("/no/such/key.pub")).map(|_| ()).unwrap_err().code, Code::NoInput);
        assert_eq!(read_key(OsStr::new("/dev/zero")).map(|_| ()).unwrap_err().code, Code::NoInput);
    }
}
