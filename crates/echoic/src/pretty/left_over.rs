//! Formats the bytes of a conversation that made no message.

use std::fmt::Write;

use echoic_core::{escape, exchange::Conversation, left_over::LeftOver, units::for_people};

use super::Body;
use crate::term::{RECEIVED, sanitize};

/// Characters shown of the bytes in a line.
const LINE_CHARS_MAX: usize = 40;

fn of(conversation: &Conversation) -> Option<(&LeftOver, String)> {
    let (_, ending) = conversation.ended.as_ref()?;
    let left_over = ending.left_over.as_deref()?;
    let why = left_over.explain(conversation.endpoint_info.framing.inbound);
    Some((left_over, sanitize(why)))
}

/// For the line of a conversation's end: `; left over ▸ \xff\xffab (4 B): length 65535 claimed by ff ff`.
pub(super) fn at_end(conversation: &Conversation) -> String {
    let Some((left_over, why)) = of(conversation) else {
        return String::new();
    };
    let bytes = escape::text_up_to(&left_over.bytes, LINE_CHARS_MAX);
    format!(
        "; left over ▸ {bytes} ({}): {why}",
        for_people(left_over.total)
    )
}

/// All of them that are kept, as a block of lines; empty without any.
pub(crate) fn left_over(conversation: &Conversation, body: Body) -> String {
    let Some((left_over, why)) = of(conversation) else {
        return String::new();
    };
    let LeftOver { total, bytes, .. } = left_over;
    let first = if *total > bytes.len() as u64 {
        format!(", the first {} of them", for_people(bytes.len() as u64))
    } else {
        String::new()
    };
    let mut text = String::new();
    let _ = writeln!(
        text,
        "  {RECEIVED}▸ {} made no message{first}: {why}{RECEIVED:#}",
        for_people(*total)
    );
    body.write(&mut text, bytes);
    text
}
