//! Says why nothing matches, where somebody is looking: with the nearest values that the record has.

use std::{
    collections::BTreeSet,
    io::{self, IsTerminal},
};

use echoic_core::{
    exchange::Conversation,
    filter::{Atom, Expr, Filter},
    store::{ConversationPage, Order},
};
use echoic_recorder::wall_clock_now;
use strsim::osa_distance;

use super::{LISTED_MAX, Log, Stop};
use crate::{cli::LogVerb, exit::CliError, term};

/// The newest conversations whose values are compared, in pages of [`LISTED_MAX`].
const PAGES_MAX: usize = 10;

/// The most values that are named if none is near.
const NAMED_MAX: usize = 5;

impl Log {
    /// Prints on standard error that nothing matches, if a person reads either output.
    pub(super) fn explain_nothing(&self, follow: bool) -> Result<(), Stop> {
        if !(term::is_on_terminal() || io::stderr().is_terminal()) {
            return Ok(());
        }
        let waiting = if follow { " yet" } else { "" };
        match self.reason()? {
            Some(why) => term::note(&format!("nothing matches{waiting}: {why}")),
            None => term::note(&format!("nothing matches{waiting}")),
        }
        Ok(())
    }

    fn reason(&self) -> Result<Option<String>, Stop> {
        if self.newest()? == 0 {
            return Ok(Some("the record has no exchanges".to_owned()));
        }
        let now = wall_clock_now();
        match self.filter.times(now) {
            None => return Ok(Some("no time is within these limits".to_owned())),
            Some(times) if *times.start() > now => {
                return Ok(Some("this time is yet to come".to_owned()));
            }
            Some(_) => {}
        }
        let mut unknown = Vec::new();
        unknown.extend(self.first_word.as_deref().and_then(misspelled_verb));
        unknown_values(self.filter.expr(), &self.seen()?, &mut unknown);
        Ok((!unknown.is_empty()).then(|| unknown.join("; ")))
    }

    /// Returns the values of the newest conversations.
    fn seen(&self) -> Result<Seen, Stop> {
        let (all, mut seen) = (Filter::all(), Seen::default());
        let mut page = ConversationPage {
            order: Order::NewestFirst,
            beyond: None,
            limit: LISTED_MAX,
            now: wall_clock_now(),
            without_exchanges: false,
        };
        for _ in 0..PAGES_MAX {
            let found = self
                .runtime
                .block_on(self.store.conversations(&all, page))
                .map_err(CliError::from)?;
            let conversations = found.conversations.iter();
            conversations.for_each(|listed| seen.add(&listed.conversation));
            page.beyond = found.next;
            if found.next.is_none() {
                break;
            }
        }
        Ok(seen)
    }
}

/// Values that conversations of the record have.
#[derive(Debug, Default)]
struct Seen {
    services: BTreeSet<String>,
    endpoints: BTreeSet<String>,
    ports: BTreeSet<u16>,
    servers: BTreeSet<String>,
}

impl Seen {
    fn add(&mut self, conversation: &Conversation) {
        let info = &conversation.endpoint_info;
        // A client's record has no service.
        if !info.service.is_empty() {
            let bare = info.service.split_once(':').map(|(bare, _)| bare);
            self.services.extend(bare.map(str::to_owned));
            self.services.insert(info.service.clone());
        }
        self.endpoints.insert(info.name.clone());
        self.ports.extend(conversation.served_at().port());
        self.servers.insert(conversation.server.name.clone());
    }
}

/// Describes each value that an exchange must have, and that the record does not have.
fn unknown_values(expr: &Expr, seen: &Seen, unknown: &mut Vec<String>) {
    match expr {
        Expr::And(parts) | Expr::Or(parts) => {
            for part in parts {
                unknown_values(part, seen, unknown);
            }
        }
        Expr::Atom(Atom::Service(names)) => {
            unknown.extend(unknown_value("svc", names, &seen.services));
        }
        Expr::Atom(Atom::Endpoint(names)) => {
            unknown.extend(unknown_value("ep", names, &seen.endpoints));
        }
        Expr::Atom(Atom::Server(names)) if names.iter().all(|name| !is_id(name)) => {
            unknown.extend(unknown_value("server", names, &seen.servers));
        }
        Expr::Atom(Atom::Port(ports)) => {
            let has_any = seen.ports.iter().any(|port| ports.contains((*port).into()));
            if !has_any && !seen.ports.is_empty() {
                let named = seen.ports.iter().map(ToString::to_string);
                unknown.push(format!("the record has {}", list("port", named)));
            }
        }
        // A negated value need not be there.
        Expr::All | Expr::Not(_) | Expr::Atom(_) => {}
    }
}

/// Whether a server is named by its id, a random number.
fn is_id(server: &str) -> bool {
    server.parse::<echoic_core::event::ServerId>().is_ok()
}

/// `the record has no svc:uper; did you mean svc:upper?`; `None` if it has one of `names`, or no values of this kind.
fn unknown_value(key: &str, names: &BTreeSet<String>, seen: &BTreeSet<String>) -> Option<String> {
    if seen.is_empty() || names.iter().any(|name| seen.contains(name)) {
        return None;
    }
    let asked = list(key, names.iter().cloned());
    let nearest = names.iter().filter_map(|name| nearest(name, seen));
    let nearest = nearest.min_by_key(|(distance, _)| *distance);
    Some(match nearest {
        Some((_, name)) => format!("the record has no {asked}; did you mean {key}:{name}?"),
        None => {
            let named = seen.iter().take(NAMED_MAX).cloned();
            let more = if seen.len() > NAMED_MAX { ", …" } else { "" };
            format!(
                "the record has no {asked}; it has {}{more}",
                list(key, named)
            )
        }
    })
}

/// `wiat is a word to find; did you mean the verb in 'echoic log wait'?`
fn misspelled_verb(word: &str) -> Option<String> {
    let is_plain = word.chars().all(|c| c.is_ascii_alphabetic());
    let verbs = LogVerb::words().into_iter().collect();
    let (_, verb) = nearest(word, &verbs).filter(|(_, verb)| is_plain && *verb != word)?;
    Some(format!(
        "{word} is a word to find; did you mean the verb in 'echoic log {verb}'?"
    ))
}

/// Returns the name in `seen` that differs least, in less than half of its characters.
fn nearest<'a>(name: &str, seen: &'a BTreeSet<String>) -> Option<(usize, &'a str)> {
    let name = name.to_lowercase();
    seen.iter()
        .map(|known| (osa_distance(&name, &known.to_lowercase()), known.as_str()))
        .filter(|(distance, known)| 2 * distance < known.chars().count())
        .min_by_key(|(distance, _)| *distance)
}

/// `svc:greet, svc:upper`
fn list(key: &str, names: impl Iterator<Item = String>) -> String {
    let named: Vec<String> = names
        .take(NAMED_MAX)
        .map(|name| format!("{key}:{name}"))
        .collect();
    named.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn reason(filter: &str, seen: &Seen) -> String {
        let mut unknown = Vec::new();
        unknown_values(Filter::parse(filter).unwrap().expr(), seen, &mut unknown);
        unknown.join("; ")
    }

    #[test]
    fn unknown_value_names_the_nearest_or_all() {
        let seen = Seen {
            services: set(&["upper", "greet", "greet:Hello"]),
            endpoints: set(&["tcp:5000", "udp:5000", "tcp:12345"]),
            ports: [5000, 12345].into(),
            servers: set(&["web-1:4242"]),
        };
        for (filter, why) in [
            (
                "svc:uper",
                "the record has no svc:uper; did you mean svc:upper?",
            ),
            (
                "svc:Upper x",
                "the record has no svc:Upper; did you mean svc:upper?",
            ),
            (
                "svc:echo",
                "the record has no svc:echo; it has svc:greet, svc:greet:Hello, svc:upper",
            ),
            ("svc:upper,echo", ""),
            ("-svc:echo", ""),
            (
                "ep:tcp:5001",
                "the record has no ep:tcp:5001; did you mean ep:tcp:5000?",
            ),
            ("port:80", "the record has port:5000, port:12345"),
            ("port:>80", ""),
            (
                "server:web-2:4242",
                "the record has no server:web-2:4242; did you mean server:web-1:4242?",
            ),
            ("hello", ""),
        ] {
            assert_eq!(reason(filter, &seen), why, "{filter}");
        }
        assert_eq!(reason("svc:uper", &Seen::default()), "");
    }
}
