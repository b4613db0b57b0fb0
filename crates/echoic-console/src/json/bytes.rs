//! Bytes that a request carries.

use base64::{Engine, prelude::BASE64_STANDARD};
use echoic_core::units::Hex;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::problem::Problem;

/// Bytes, in one of three forms.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BytesJson {
    /// As text, sent in UTF-8.
    #[schema(example = "hello")]
    pub(crate) text: Option<String>,
    /// As pairs of hexadecimal digits.
    #[schema(example = "68 65 6c 6c 6f")]
    pub(crate) hex: Option<String>,
    /// In base64.
    #[schema(example = "aGVsbG8=")]
    pub(crate) b64: Option<String>,
}

impl BytesJson {
    /// Returns the bytes, if exactly one form is given.
    pub(crate) fn decode(&self) -> Result<Vec<u8>, Problem> {
        match (&self.text, &self.hex, &self.b64) {
            (Some(text), None, None) => Ok(text.clone().into_bytes()),
            (None, Some(hex), None) => {
                let parsed = hex.parse::<Hex>();
                parsed
                    .map(|Hex(bytes)| bytes)
                    .map_err(|error| Problem::invalid(format!("invalid hex: {error}")))
            }
            (None, None, Some(b64)) => BASE64_STANDARD
                .decode(b64)
                .map_err(|error| Problem::invalid(format!("invalid b64: {error}"))),
            _ => Err(Problem::invalid(
                "expected bytes in one form: text, hex or b64",
            )),
        }
    }
}
