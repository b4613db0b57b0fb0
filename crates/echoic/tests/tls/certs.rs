//! Certificates for the tests, in the directory of a test.

use std::{fs, path::Path};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};

/// An issuer of certificates.
pub(crate) struct Ca {
    pub(crate) pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// The validity of a certificate.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Valid {
    Now,
    Past,
    Future,
}

/// A certificate and its key, as PEM.
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

fn params(subject: &str, names: &[&str], valid: Valid) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, subject);
    (params.not_before, params.not_after) = match valid {
        Valid::Now => (date_time_ymd(2020, 1, 1), date_time_ymd(2199, 1, 1)),
        Valid::Past => (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1)),
        Valid::Future => (date_time_ymd(2198, 1, 1), date_time_ymd(2199, 1, 1)),
    };
    params
}

fn ca_params(subject: &str) -> CertificateParams {
    let mut params = params(subject, &[], Valid::Now);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

impl Ca {
    /// A root.
    pub(crate) fn new(subject: &str) -> Self {
        let (params, key) = (ca_params(subject), KeyPair::generate().unwrap());
        Self {
            pem: params.self_signed(&key).unwrap().pem(),
            issuer: Issuer::new(params, key),
        }
    }

    /// An intermediate issuer.
    pub(crate) fn below(&self, subject: &str) -> Self {
        let (params, key) = (ca_params(subject), KeyPair::generate().unwrap());
        Self {
            pem: params.signed_by(&key, &self.issuer).unwrap().pem(),
            issuer: Issuer::new(params, key),
        }
    }

    /// A certificate of a server for `names`.
    pub(crate) fn server(&self, names: &[&str], valid: Valid) -> Pair {
        self.leaf("server", names, valid, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// A certificate of a client.
    pub(crate) fn client(&self, subject: &str, valid: Valid) -> Pair {
        self.leaf(subject, &[], valid, ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn leaf(
        &self,
        subject: &str,
        names: &[&str],
        valid: Valid,
        usage: ExtendedKeyUsagePurpose,
    ) -> Pair {
        let key = KeyPair::generate().unwrap();
        let mut params = params(subject, names, valid);
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        Pair {
            certificate: params.signed_by(&key, &self.issuer).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }
}

impl Pair {
    /// A certificate that is signed by itself, without the flag of an issuer.
    pub(crate) fn self_signed(names: &[&str]) -> Self {
        let key = KeyPair::generate().unwrap();
        let params = params("alone", names, Valid::Now);
        Self {
            certificate: params.self_signed(&key).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }

    /// Writes `NAME.pem` and `NAME.key`.
    pub(crate) fn write(&self, directory: &Path, name: &str) {
        fs::write(directory.join(format!("{name}.pem")), &self.certificate).unwrap();
        fs::write(directory.join(format!("{name}.key")), &self.key).unwrap();
    }
}
