//! Tags and notes: what people and scripts write on recorded exchanges and conversations.

use std::collections::BTreeSet;

use thiserror::Error;

use crate::{
    escape,
    event::{ConversationId, ExchangeId},
    units::quoted,
};

/// The tags and the note of an exchange or a conversation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels {
    /// Tags in alphabetic order, each once.
    pub tags: Vec<String>,
    /// The note.
    pub note: Option<String>,
}

impl Labels {
    /// Returns labels without a tag and a note.
    pub fn none() -> &'static Self {
        static NONE: Labels = Labels {
            tags: Vec::new(),
            note: None,
        };
        &NONE
    }

    /// Longest tag, in bytes. A tag is a word: it has no white space, comma, quote or control character, so that a filter can name
    /// it.
    pub const TAG_BYTES_MAX: usize = 64;

    /// Longest note, in bytes.
    pub const NOTE_BYTES_MAX: usize = 4096;

    /// Most tags of one exchange or conversation.
    pub const TAGS_MAX: usize = 32;

    /// Whether there is neither a tag nor a note.
    pub fn is_empty(&self) -> bool {
        self.tags.is_empty() && self.note.is_none()
    }

    /// Applies a change, whose [`LabelChange::of`] is ignored. Nothing is changed if there would be too many tags.
    pub fn apply(&mut self, change: &LabelChange) -> Result<(), InvalidLabel> {
        let mut tags: BTreeSet<&String> = self.tags.iter().chain(&change.add).collect();
        for tag in &change.remove {
            tags.remove(tag);
        }
        if tags.len() > Self::TAGS_MAX {
            return Err(InvalidLabel::TooMany);
        }
        self.tags = tags.into_iter().cloned().collect();
        if let Some(note) = &change.note {
            self.note = note.clone().filter(|note| !note.is_empty());
        }
        Ok(())
    }
}

/// Error of a label that cannot be stored.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InvalidLabel {
    /// A tag that no filter could name.
    #[error(
        "invalid tag {}: expected a word of at most {} bytes, without spaces, commas, quotes, parentheses and backslashes",
        quoted(.0),
        Labels::TAG_BYTES_MAX
    )]
    Tag(String),
    /// A tag is added and removed.
    #[error("the tag {0} is both added and removed")]
    Both(String),
    /// A long note.
    #[error("note too long: {0} bytes; the limit is {most}", most = Labels::NOTE_BYTES_MAX)]
    Note(usize),
    /// Too many tags.
    #[error(
        "too many tags on one exchange or conversation; the limit is {most}",
        most = Labels::TAGS_MAX
    )]
    TooMany,
}

/// What is labelled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Labelled {
    /// These exchanges.
    Exchanges(Vec<ExchangeId>),
    /// One conversation. `tag:` and `note:` then find each of its exchanges.
    Conversation(ConversationId),
}

/// A change of labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelChange {
    /// What is labelled.
    pub of: Labelled,
    /// Tags to add.
    pub add: Vec<String>,
    /// Tags to remove.
    pub remove: Vec<String>,
    /// The new note; `Some(None)` removes it, `None` leaves it.
    pub note: Option<Option<String>>,
}

impl LabelChange {
    /// Checks the tags and the note. Stores call it: nothing is changed if it fails.
    pub fn check(&self) -> Result<(), InvalidLabel> {
        if let Some(tag) = self.add.iter().find(|tag| !is_tag(tag)) {
            return Err(InvalidLabel::Tag(tag.clone()));
        }
        if let Some(tag) = self.add.iter().find(|tag| self.remove.contains(tag)) {
            return Err(InvalidLabel::Both(tag.clone()));
        }
        if self.add.len() > Labels::TAGS_MAX {
            return Err(InvalidLabel::TooMany);
        }
        match &self.note {
            Some(Some(note)) if note.len() > Labels::NOTE_BYTES_MAX => {
                Err(InvalidLabel::Note(note.len()))
            }
            _ => Ok(()),
        }
    }
}

/// Whether a filter can name the tag as it is, and a terminal shows all of it.
fn is_tag(tag: &str) -> bool {
    let is_shown = escape::text(tag.as_bytes()).to_string() == tag;
    let is_word = !tag.contains(|c: char| c.is_whitespace() || ",\"'()\\".contains(c));
    (1..=Labels::TAG_BYTES_MAX).contains(&tag.len()) && is_shown && is_word
}

/// A tag and how often it is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagCount {
    /// The tag.
    pub tag: String,
    /// Exchanges that have it themselves.
    pub exchanges: u64,
    /// Conversations that have it.
    pub conversations: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adding(tag: &str) -> LabelChange {
        LabelChange {
            of: Labelled::Conversation(1),
            add: vec![tag.to_owned()],
            remove: Vec::new(),
            note: None,
        }
    }

    #[test]
    fn tag_is_a_word_that_a_filter_can_name() {
        for tag in ["bug", "v1.2", "größe", "a/b:c", "-x"] {
            assert_eq!(adding(tag).check(), Ok(()), "{tag}");
            let filter = crate::filter::Filter::parse(&format!("tag:{tag}")).unwrap();
            assert!(filter.to_string().contains(tag), "{filter}");
        }
        let long = "x".repeat(65);
        for tag in [
            "",
            "two words",
            "a,b",
            "\"q\"",
            "it's",
            "(x)",
            "\u{1b}[2J",
            "\u{202e}x",
            "a\\n",
            &long,
        ] {
            let error = adding(tag).check().unwrap_err();
            assert_eq!(error, InvalidLabel::Tag(tag.to_owned()));
            assert!(!error.to_string().contains('\u{1b}'), "{error}");
        }
    }

    #[test]
    fn change_adds_and_removes_and_has_a_limit() {
        let mut labels = Labels::default();
        labels.apply(&adding("b")).unwrap();
        labels.apply(&adding("a")).unwrap();
        labels.apply(&adding("b")).unwrap();
        assert_eq!(labels.tags, ["a", "b"]);
        let note = LabelChange {
            remove: vec!["a".into()],
            add: vec![],
            note: Some(Some("n".into())),
            ..adding("")
        };
        labels.apply(&note).unwrap();
        assert_eq!(
            (&*labels.tags, labels.note.as_deref()),
            (&["b".to_owned()][..], Some("n"))
        );
        for i in 1..Labels::TAGS_MAX {
            labels.apply(&adding(&i.to_string())).unwrap();
        }
        assert_eq!(
            labels.apply(&adding("one-more")),
            Err(InvalidLabel::TooMany)
        );
        assert_eq!(labels.tags.len(), Labels::TAGS_MAX);
    }
}
