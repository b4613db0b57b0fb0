//! A certificate authority and a certificate for this machine, made on the spot and kept for the next start.
//!
//! Three files, for their owner alone: `ca.pem`, which clients verify by; `ca-key.pem`, its key and itself, which a
//! later certificate is signed by when the addresses of the machine have changed; and `server.pem`, the key and the
//! certificate of the server. A key stands in one file with its certificate, so that the two are replaced at once.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use echoic_wire::CertificateInfo;
use etcetera::BaseStrategy;
use jiff::{Timestamp, ToSpan, tz::TimeZone};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use tempfile::NamedTempFile;

use super::machine;
use crate::{exit::CliError, store_url::StoreUrl};

/// Validity of a certificate in days: the longest that browsers accept.
const VALID_DAYS: i64 = 397;

/// A certificate that is valid for less than this is replaced, in seconds.
const LEFT_MIN: i64 = 7 * 86_400;

/// Time to wait for another process that makes the files.
const LOCK_DEADLINE: Duration = Duration::from_secs(5);

/// The files.
#[derive(Debug)]
pub(in crate::serve) struct ThrowAway {
    /// The certificate that clients verify by.
    pub(in crate::serve) ca: PathBuf,
    /// Its SHA-256.
    pub(in crate::serve) ca_sha256: String,
    /// The key and the certificate of the server.
    pub(in crate::serve) server: PathBuf,
}

/// A certificate and its key, as PEM.
struct Pair {
    certificate: String,
    key: String,
    info: CertificateInfo,
}

/// Why the files cannot be made.
type Error = Box<dyn std::error::Error + Send + Sync>;

impl ThrowAway {
    /// Makes the files beside an SQLite file (`echoic.db-tls/`), else in the user's state folder
    /// (`$XDG_STATE_HOME/echoic/tls/`), or takes those that are there.
    pub(super) fn beside(store: &StoreUrl) -> Result<Self, CliError> {
        let Some(folder) = folder(store) else {
            return Err(CliError::system(
                "there is no folder for a certificate: neither XDG_STATE_HOME nor HOME is set; set one, or name a certificate with ?cert=FILE&key=FILE",
            ));
        };
        Self::within(&folder, &machine::names()).map_err(|error| {
            CliError::system(format!(
                "cannot make a certificate in {}: {error}; name one with ?cert=FILE&key=FILE",
                folder.display()
            ))
        })
    }

    /// Makes the files in `folder` for `names`.
    fn within(folder: &Path, names: &[String]) -> Result<Self, Error> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
        let _lock = lock(folder)?;
        let (ca_path, key_path) = (folder.join("ca.pem"), folder.join("ca-key.pem"));
        let server = folder.join("server.pem");
        let known = Pair::read(&key_path).filter(Pair::will_last);
        let ca = match known {
            Some(known) => known,
            None => {
                let made = Pair::new_ca()?;
                write(
                    folder,
                    &key_path,
                    &format!("{}{}", made.key, made.certificate),
                )?;
                made
            }
        };
        if fs::read_to_string(&ca_path).ok().as_ref() != Some(&ca.certificate) {
            write(folder, &ca_path, &ca.certificate)?;
        }
        let is_usable = |known: &Pair| {
            known.will_last()
                && known.info.issuer == ca.info.subject
                && names.iter().all(|name| known.info.names.contains(name))
        };
        if !Pair::read(&server).as_ref().is_some_and(is_usable) {
            let made = Pair::new_leaf(names, &ca)?;
            write(
                folder,
                &server,
                &format!("{}{}{}", made.key, made.certificate, ca.certificate),
            )?;
        }
        Ok(Self {
            ca: ca_path,
            ca_sha256: ca.info.sha256,
            server,
        })
    }
}

impl Pair {
    /// Reads a key and the certificate after it; `None` if they are not usable, or others may read them.
    fn read(path: &Path) -> Option<Self> {
        if fs::metadata(path).ok()?.permissions().mode() & 0o077 != 0 {
            return None;
        }
        let text = fs::read_to_string(path).ok()?;
        let begin = text.find("-----BEGIN CERTIFICATE-----")?;
        let (key, certificate) = text.split_at(begin);
        let end = certificate.find("-----END CERTIFICATE-----")?;
        let certificate = &certificate[..=certificate[end..].find('\n')? + end];
        Self::new(certificate.to_owned(), key.to_owned())
    }

    fn new(certificate: String, key: String) -> Option<Self> {
        let info = CertificateInfo::read_pem(certificate.as_bytes())?;
        KeyPair::from_pem(&key).ok()?;
        Some(Self {
            certificate,
            key,
            info,
        })
    }

    /// Whether it is valid for long enough.
    fn will_last(&self) -> bool {
        let now = Timestamp::now().as_second();
        self.info.not_before <= now && now + LEFT_MIN < self.info.not_after
    }

    fn new_ca() -> Result<Self, Error> {
        let key = KeyPair::generate()?;
        let mut params = params(Vec::new())?;
        // A serial of its own in the name, so that a store of certificates keeps two of them apart.
        let serial = key.public_key_raw().iter().rev().take(4);
        let serial = serial.fold(0_u32, |serial, byte| serial << 8 | u32::from(*byte));
        let name = format!("echoic throw-away CA {serial:08x}");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key)?.pem();
        Self::new(certificate, key.serialize_pem()).ok_or_else(|| "it is not readable".into())
    }

    fn new_leaf(names: &[String], ca: &Self) -> Result<Self, Error> {
        let issuer = Issuer::from_ca_cert_pem(&ca.certificate, KeyPair::from_pem(&ca.key)?)?;
        let key = KeyPair::generate()?;
        let mut params = params(names.to_vec())?;
        let name = names.get(1).map_or("echoic", |name| name);
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &issuer)?.pem();
        Self::new(certificate, key.serialize_pem()).ok_or_else(|| "it is not readable".into())
    }
}

/// Returns what all our certificates have: names and dates.
fn params(names: Vec<String>) -> Result<CertificateParams, Error> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    let day = |days: i64| -> Result<_, Error> {
        let day = Timestamp::now()
            .to_zoned(TimeZone::UTC)
            .checked_add(days.days())?;
        Ok(date_time_ymd(
            day.year().into(),
            day.month().unsigned_abs(),
            day.day().unsigned_abs(),
        ))
    };
    // From yesterday on, for machines whose clocks are behind.
    (params.not_before, params.not_after) = (day(-1)?, day(VALID_DAYS - 1)?);
    Ok(params)
}

fn folder(store: &StoreUrl) -> Option<PathBuf> {
    if let StoreUrl::Sqlite(path) = store {
        let mut folder = path.clone().into_os_string();
        folder.push("-tls");
        return Some(folder.into());
    }
    let state = etcetera::choose_base_strategy().ok()?.state_dir()?;
    Some(state.join("echoic").join("tls"))
}

/// Keeps other processes from making the files at the same time.
fn lock(folder: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true).mode(0o600);
    let file = options.open(folder.join("lock"))?;
    let deadline = Instant::now() + LOCK_DEADLINE;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(20));
            }
            Err(TryLockError::WouldBlock) => {
                return Err(io::Error::other(
                    "another process is making it, and does not end",
                ));
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
}

/// Replaces a file at once. It is for its owner alone.
fn write(folder: &Path, path: &Path, text: &str) -> io::Result<()> {
    let mut file = NamedTempFile::new_in(folder)?;
    file.write_all(text.as_bytes())?;
    file.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn files_are_private_and_reused_and_a_new_address_keeps_the_authority() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("echoic.db-tls");
        let first = ThrowAway::within(&folder, &names(&["localhost", "web-1", "::1"])).unwrap();
        for file in ["ca.pem", "ca-key.pem", "server.pem"] {
            let mode = fs::metadata(folder.join(file))
                .unwrap()
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o600, "{file}");
        }
        assert_eq!(
            fs::metadata(&folder).unwrap().permissions().mode() & 0o777,
            0o700
        );
        let server = fs::read_to_string(&first.server).unwrap();
        let again = ThrowAway::within(&folder, &names(&["localhost", "::1"])).unwrap();
        assert_eq!(fs::read_to_string(&again.server).unwrap(), server);
        let moved = ThrowAway::within(&folder, &names(&["localhost", "10.0.0.7"])).unwrap();
        assert_eq!(moved.ca_sha256, first.ca_sha256);
        let renewed = Pair::read(&moved.server).unwrap();
        assert_ne!(fs::read_to_string(&moved.server).unwrap(), server);
        assert_eq!(renewed.info.names, ["localhost", "10.0.0.7"]);
        let days = (renewed.info.not_after - Timestamp::now().as_second()) / 86_400;
        assert!((390..=397).contains(&days), "{days}");
    }

    #[test]
    fn key_that_others_may_read_is_replaced_and_torn_file_too() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("tls");
        let first = ThrowAway::within(&folder, &names(&["localhost"])).unwrap();
        let key = folder.join("ca-key.pem");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
        let second = ThrowAway::within(&folder, &names(&["localhost"])).unwrap();
        assert_ne!(second.ca_sha256, first.ca_sha256);
        let leaf = Pair::read(&second.server).unwrap();
        assert_eq!(leaf.info.issuer, Pair::read(&key).unwrap().info.subject);
        fs::write(&second.server, "-----BEGIN").unwrap();
        fs::write(&second.ca, "").unwrap();
        let third = ThrowAway::within(&folder, &names(&["localhost"])).unwrap();
        assert_eq!(third.ca_sha256, second.ca_sha256);
        assert!(Pair::read(&third.server).is_some());
        assert!(!fs::read_to_string(&third.ca).unwrap().is_empty());
    }
}
