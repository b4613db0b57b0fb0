//! The values of the API, as their schemas describe them.

mod bytes;
mod conversation;
mod endpoint;
mod exchange;
mod process;

pub(crate) use self::{
    bytes::BytesJson,
    conversation::{ConversationJson, MarkJson},
    endpoint::{CountsJson, EndpointJson},
    exchange::{ExchangeJson, Preview},
    process::ProcessJson,
};
