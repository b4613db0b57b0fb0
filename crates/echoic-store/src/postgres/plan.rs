//! Translates filters to conditions of SQL.
//!
//! A condition is necessary: it holds for every run with an exchange that the filter selects, and possibly for more. What it lets
//! through is matched again, by the filter itself. Where it is exact the exchanges need not be read to be counted.

use std::{collections::BTreeSet, ops::RangeInclusive};

use echoic_core::{
    ending::CloseReason,
    event::{Micros, ServerId},
    filter::{Atom, EndClass, Expr, Filter, Mask, Ranges, Side, State},
};

use super::sql::{Parameters, bigint};

/// Most ranges of numbers in one condition. Of more the smallest and the largest number bound the search.
const RANGES_MAX: usize = 16;

/// Least bytes for which the database looks in messages: shorter ones are in most of them.
const FRAGMENT_MIN: usize = 3;

/// A condition on runs, or on conversations.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// The condition, on the table `run` as `r` and `conversation` as `c`.
    pub(super) condition: String,
    /// What precedes the condition: `FROM run r`, joined with the conversations if the condition is about them.
    pub(super) from: &'static str,
    /// Whether it selects exactly the runs of which all exchanges match, and no exchange of another run matches.
    pub(super) is_exact: bool,
    pub(super) parameters: Parameters,
}

impl Plan {
    /// Plans a search for the exchanges that `filter` selects.
    pub(super) fn of_runs(filter: &Filter, now: Micros) -> Self {
        let plan = Self::new(filter.expr(), now, &RUNS);
        Self {
            is_exact: plan.is_exact && filter.steps().is_empty(),
            ..plan
        }
    }

    /// Adds a condition on the time of the read.
    pub(super) fn within(mut self, times: &RangeInclusive<Micros>) -> Self {
        if *times != (Micros::MIN..=Micros::MAX) {
            let first = self.parameters.number(*times.start());
            let last = self.parameters.number(*times.end());
            self.condition = format!("{} AND r.at BETWEEN {first} AND {last}", self.condition);
        }
        self
    }

    /// Plans a search for the conversations that meet a condition.
    pub(super) fn of_conversations(condition: &Expr, now: Micros) -> Self {
        Self::new(condition, now, &CONVERSATIONS)
    }

    /// Plans a search for the runs of some conversations.
    pub(super) fn of_conversation_ids(ids: impl IntoIterator<Item = u64>) -> Self {
        let mut parameters = Parameters::default();
        Self {
            condition: format!("r.conversation = ANY({})", parameters.ids(ids)),
            from: RUNS.from,
            is_exact: true,
            parameters,
        }
    }

    fn new(expr: &Expr, now: Micros, columns: &'static Columns) -> Self {
        let mut planner = Planner {
            now,
            columns,
            joins: false,
            is_exact: true,
            parameters: Parameters::default(),
        };
        // With every atom included this pushes negations down to them, and changes nothing else.
        let condition = planner.condition(&expr.necessary(&|_| true));
        Self {
            condition: condition.unwrap_or_else(|| "true".to_owned()),
            from: if planner.joins {
                columns.joined
            } else {
                columns.from
            },
            is_exact: planner.is_exact,
            parameters: planner.parameters,
        }
    }
}

/// Where the values are that conditions are about.
struct Columns {
    from: &'static str,
    joined: &'static str,
    conversation: &'static str,
    at: &'static str,
    /// Whether there are exchanges, and not only conversations.
    has_runs: bool,
}

const RUNS: Columns = Columns {
    from: "FROM run r",
    joined: "FROM run r LEFT JOIN conversation c ON c.id = r.conversation",
    conversation: "r.conversation",
    at: "r.at",
    has_runs: true,
};

const CONVERSATIONS: Columns = Columns {
    from: "FROM conversation c",
    joined: "FROM conversation c",
    conversation: "c.id",
    at: "c.opened",
    has_runs: false,
};

/// Whether a reply of the run may not have left in full, which the end of its conversation tells.
const MAY_BE_UNSENT: &str =
    "coalesce(r.outcome = 'ok' AND c.ended IS NOT NULL AND c.role = 'server'
    AND c.sent < r.reply_offset + octet_length(r.rep), false)";

struct Planner {
    now: Micros,
    columns: &'static Columns,
    joins: bool,
    is_exact: bool,
    parameters: Parameters,
}

/// A condition for an atom.
enum Part {
    /// It holds for all exchanges of exactly the runs that have a match.
    Exact(String),
    /// It holds at least for the runs that have a match.
    Necessary(String),
    /// SQL cannot tell.
    Unknown,
}

impl Planner {
    /// Returns a condition that is necessary for `expr`, whose negations are around atoms; `None` if there is none.
    fn condition(&mut self, expr: &Expr) -> Option<String> {
        match expr {
            Expr::All => None,
            Expr::And(parts) => {
                let parts: Vec<_> = parts
                    .iter()
                    .filter_map(|part| self.condition(part))
                    .collect();
                (!parts.is_empty()).then(|| format!("({})", parts.join(" AND ")))
            }
            Expr::Or(parts) => {
                let parts: Vec<_> = parts.iter().map(|part| self.condition(part)).collect();
                let parts: Option<Vec<_>> = parts.into_iter().collect();
                parts.map(|parts| format!("({})", parts.join(" OR ")))
            }
            Expr::Atom(atom) => {
                let part = self.part(atom);
                self.take(part)
            }
            Expr::Not(part) => {
                let part = match &**part {
                    Expr::Atom(atom) => self.negation(atom),
                    // The negations were pushed down.
                    _ => Part::Unknown,
                };
                self.take(part)
            }
        }
    }

    fn take(&mut self, part: Part) -> Option<String> {
        match part {
            Part::Exact(sql) => Some(sql),
            Part::Necessary(sql) => {
                self.is_exact = false;
                Some(sql)
            }
            Part::Unknown => {
                self.is_exact = false;
                None
            }
        }
    }

    fn negation(&mut self, atom: &Atom) -> Part {
        if let Atom::Is(states) = atom {
            return self.states(states, false);
        }
        match self.part(atom) {
            Part::Exact(sql) => Part::Exact(format!("NOT {sql}")),
            Part::Necessary(_) | Part::Unknown => Part::Unknown,
        }
    }

    fn part(&mut self, atom: &Atom) -> Part {
        match atom {
            Atom::After(when) => {
                let at = self.parameters.number(when.at(self.now));
                Part::Exact(format!("({} >= {at})", self.columns.at))
            }
            Atom::Before(when) => {
                let at = self.parameters.number(when.at(self.now));
                Part::Exact(format!("({} < {at})", self.columns.at))
            }
            Atom::Conversation(ids) => self.ranges(self.columns.conversation, ids),
            Atom::Endpoint(_)
            | Atom::Protocol(_)
            | Atom::Service(_)
            | Atom::Role(_)
            | Atom::Server(_)
            | Atom::Sni(_)
            | Atom::Tls(_)
            | Atom::End(_) => self.of_conversation(atom),
            Atom::Is(states) => self.states(states, true),
            _ if !self.columns.has_runs => Part::Unknown,
            Atom::Latency(ranges) => self.ranges("r.latency_ns", ranges),
            Atom::Size(ranges) => self.size(ranges),
            Atom::Number(ranges) => self.number(ranges),
            Atom::Text(side, needle) => self.bytes(*side, fragment(needle.bytes())),
            Atom::Hex(mask) => self.bytes(Side::Any, known(mask)),
            // An id may be inside a run; the search is bounded by the ids anyway.
            Atom::Id(_)
            | Atom::Peer(_)
            | Atom::Port(_)
            | Atom::Regex(..)
            | Atom::Tag(_)
            | Atom::Note(_) => Part::Unknown,
        }
    }

    /// Returns a condition on a number that all exchanges of a run share.
    fn ranges(&mut self, column: &str, ranges: &Ranges) -> Part {
        let Some(hull) = ranges.hull() else {
            return Part::Exact("false".to_owned());
        };
        let between = |parameters: &mut Parameters, least: u64, most: u64| {
            if least > bigint(u64::MAX).cast_unsigned() {
                return "false".to_owned();
            }
            let (least, most) = (parameters.id(least), parameters.id(most));
            format!("{column} BETWEEN {least} AND {most}")
        };
        if ranges.iter().count() > RANGES_MAX {
            let sql = between(&mut self.parameters, *hull.start(), *hull.end());
            return Part::Necessary(format!("({sql})"));
        }
        let parts = ranges.iter().map(|range| {
            let (least, most) = range.into_inner();
            between(&mut self.parameters, least, most)
        });
        let parts: Vec<_> = parts.collect();
        Part::Exact(format!("({})", parts.join(" OR ")))
    }

    /// The size of a run is at least that of each of its exchanges.
    fn size(&mut self, ranges: &Ranges) -> Part {
        let Some(hull) = ranges.hull() else {
            return Part::Exact("false".to_owned());
        };
        let size = "octet_length(r.req)::bigint + octet_length(r.rep)";
        let (least, most) = (
            self.parameters.id(*hull.start()),
            self.parameters.id(*hull.end()),
        );
        Part::Necessary(format!(
            "({size} >= {least} AND (r.count > 1 OR {size} <= {most}))"
        ))
    }

    fn number(&mut self, ranges: &Ranges) -> Part {
        let Some(hull) = ranges.hull() else {
            return Part::Exact("false".to_owned());
        };
        let (least, most) = (
            self.parameters.id(*hull.start()),
            self.parameters.id(*hull.end()),
        );
        Part::Necessary(format!("(r.n <= {most} AND r.n > {least} - r.count)"))
    }

    /// The bytes of an exchange are among those of its run.
    fn bytes(&mut self, side: Side, bytes: Option<Vec<u8>>) -> Part {
        let Some(bytes) = bytes else {
            return Part::Unknown;
        };
        let bytes = self.parameters.bytes(&bytes);
        let is_in = |column| format!("position({bytes} IN r.{column}) > 0");
        Part::Necessary(match side {
            Side::Request => format!("({})", is_in("req")),
            Side::Reply => format!("({})", is_in("rep")),
            Side::Any => format!("({} OR {})", is_in("req"), is_in("rep")),
        })
    }

    /// Returns a condition on the conversation.
    fn of_conversation(&mut self, atom: &Atom) -> Part {
        let parameters = &mut self.parameters;
        let sql = match atom {
            Atom::Endpoint(names) => {
                let names = parameters.texts(names);
                format!("c.endpoint IN (SELECT id FROM endpoint WHERE name = ANY({names}))")
            }
            Atom::Protocol(protocols) => {
                let words = parameters.texts(protocols.iter().map(|protocol| protocol.word()));
                format!("c.endpoint IN (SELECT id FROM endpoint WHERE proto = ANY({words}))")
            }
            Atom::Service(names) => {
                let names = parameters.texts(names);
                format!(
                    "c.endpoint IN (SELECT id FROM endpoint
                        WHERE service = ANY({names}) OR split_part(service, ':', 1) = ANY({names}))"
                )
            }
            Atom::Role(roles) => {
                let words = parameters.texts(roles.iter().map(|role| role.word()));
                format!("c.role = ANY({words})")
            }
            Atom::Server(names) => {
                let ids = names
                    .iter()
                    .filter_map(|name| name.parse::<ServerId>().ok());
                let ids = parameters.texts(ids.map(|id| id.to_string()));
                let names = parameters.texts(names);
                format!(
                    "c.server IN (SELECT key FROM server WHERE name = ANY({names}) OR id = ANY({ids}))"
                )
            }
            Atom::Sni(names) => {
                let names = parameters.texts(names);
                format!("EXISTS (SELECT FROM tls WHERE conversation = c.id AND sni = ANY({names}))")
            }
            Atom::Tls(words) => {
                let words = parameters.texts(words.iter().map(|word| word.to_ascii_lowercase()));
                format!(
                    "EXISTS (SELECT FROM tls WHERE conversation = c.id
                        AND (lower(version) = ANY({words}) OR lower(cipher) = ANY({words})))"
                )
            }
            Atom::End(classes) => ended_with(parameters, &|class| {
                classes.iter().any(|of| of.word() == class)
            }),
            _ => return Part::Unknown,
        };
        Part::Exact(self.or_unknown(&sql, atom))
    }

    /// Completes a condition for conversations whose opening was not recorded, which have no row.
    fn or_unknown(&mut self, sql: &str, atom: &Atom) -> String {
        self.joins = true;
        let of_unknown = atom.matches(&crate::unknown(0), self.now);
        // Without a row all columns are NULL, of which some conditions are false and others NULL.
        format!("(CASE WHEN c.id IS NULL THEN {of_unknown} ELSE {sql} END)")
    }

    /// Returns a condition for a run or conversation to have one of the states, or if not `wanted` none of them.
    fn states(&mut self, states: &BTreeSet<State>, wanted: bool) -> Part {
        let (mut parts, mut is_exact) = (Vec::new(), true);
        for state in states {
            let part = self.state(*state);
            let part = match (part, wanted) {
                (Part::Exact(sql), true) => Some(sql),
                (Part::Exact(sql), false) => Some(format!("NOT {sql}")),
                (Part::Necessary(sql), true) => {
                    is_exact = false;
                    Some(sql)
                }
                (Part::Necessary(_), false) => {
                    is_exact = false;
                    self.without(*state)
                }
                (Part::Unknown, true) => return Part::Unknown,
                (Part::Unknown, false) => {
                    is_exact = false;
                    None
                }
            };
            parts.extend(part);
        }
        if parts.is_empty() {
            return Part::Unknown;
        }
        let sql = format!("({})", parts.join(if wanted { " OR " } else { " AND " }));
        if is_exact {
            Part::Exact(sql)
        } else {
            Part::Necessary(sql)
        }
    }

    fn state(&mut self, state: State) -> Part {
        let sql = match state {
            State::Open => "c.ended IS NULL".to_owned(),
            State::Closed => "c.ended IS NOT NULL".to_owned(),
            State::Half => "(c.ended IS NULL AND c.half_closed IS NOT NULL)".to_owned(),
            State::Reset => self.ended_as(EndClass::Rst),
            State::Timeout => self.ended_as(EndClass::Timeout),
            State::Limit => self.ended_as(EndClass::Limit),
            State::Drain => self.ended_as(EndClass::Drain),
            State::Error => self.ended_as(EndClass::Error),
            _ => return self.outcome(state),
        };
        let atom = Atom::Is([state].into());
        Part::Exact(self.or_unknown(&sql, &atom))
    }

    fn outcome(&mut self, state: State) -> Part {
        if !self.columns.has_runs {
            return Part::Unknown;
        }
        match state {
            State::Unanswered | State::Withheld | State::Unpaired => {
                Part::Exact(format!("(r.outcome = '{}')", state.word()))
            }
            State::Ok => Part::Necessary("(r.outcome = 'ok')".to_owned()),
            State::Unsent => {
                self.joins = true;
                Part::Necessary(format!("(r.outcome = 'unsent' OR {MAY_BE_UNSENT})"))
            }
            _ => Part::Unknown,
        }
    }

    /// Returns a condition that is necessary for an exchange not to have a state that no condition is exact for.
    fn without(&mut self, state: State) -> Option<String> {
        match state {
            State::Ok => {
                self.joins = true;
                Some(format!("(r.outcome <> 'ok' OR {MAY_BE_UNSENT})"))
            }
            State::Unsent => Some("(r.outcome <> 'unsent')".to_owned()),
            _ => None,
        }
    }

    fn ended_as(&mut self, class: EndClass) -> String {
        ended_with(&mut self.parameters, &|of| of == class.word())
    }
}

/// Returns a condition for the reason of the end to be of one of the classes.
fn ended_with(parameters: &mut Parameters, is_of: &dyn Fn(&str) -> bool) -> String {
    let reasons = CloseReason::all().filter(|reason| is_of(reason.class()));
    let words = parameters.texts(reasons.map(CloseReason::word));
    format!("(c.ended IS NOT NULL AND c.reason = ANY({words}))")
}

/// Returns the longest part of a text that only itself matches: case is folded, and letters of ASCII are matched by others too.
fn fragment(text: &[u8]) -> Option<Vec<u8>> {
    longest(text.split(|byte| !byte.is_ascii() || byte.is_ascii_alphabetic()))
}

/// Returns the longest part of a mask without wildcards.
fn known(mask: &Mask) -> Option<Vec<u8>> {
    let parts: Vec<Vec<u8>> = mask
        .bytes()
        .split(Option::is_none)
        .map(|part| part.iter().copied().flatten().collect())
        .collect();
    longest(parts.iter().map(Vec::as_slice))
}

fn longest<'a>(parts: impl Iterator<Item = &'a [u8]>) -> Option<Vec<u8>> {
    let longest = parts.max_by_key(|part| part.len())?;
    (longest.len() >= FRAGMENT_MIN).then(|| longest.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the condition without the values of its parameters, and whether it is exact.
    fn plan(text: &str) -> (String, bool) {
        let plan = Plan::of_runs(&text.parse().expect("a filter"), 0);
        (plan.condition, plan.is_exact)
    }

    #[test]
    fn condition_of_a_filter_is_exact_where_runs_decide() {
        for (text, sql, is_exact) in [
            ("", "true", true),
            ("needle", "true", false),
            ("lat:>5ms", "(r.latency_ns BETWEEN $1 AND $2)", true),
            ("-lat:>5ms", "NOT (r.latency_ns BETWEEN $1 AND $2)", true),
            (
                "lat:>5ms needle",
                "((r.latency_ns BETWEEN $1 AND $2))",
                false,
            ),
            ("lat:>5ms OR needle", "true", false),
            ("is:withheld", "((r.outcome = 'withheld'))", true),
            ("is:ok", "((r.outcome = 'ok'))", false),
            ("-is:unsent", "((r.outcome <> 'unsent'))", false),
            ("before:1h", "(r.at < $1)", true),
            ("id:5", "true", false),
            (
                "is:withheld THEN lat:>5ms",
                "(r.latency_ns BETWEEN $1 AND $2)",
                false,
            ),
        ] {
            assert_eq!(plan(text), (sql.to_owned(), is_exact), "{text}");
        }
    }

    #[test]
    fn bytes_of_a_condition_are_those_that_only_themselves_match() {
        let of = |text: &str| {
            fragment(text.as_bytes()).map(|part| String::from_utf8(part).unwrap_or_default())
        };
        assert_eq!(of("order 12345"), Some(" 12345".to_owned()));
        assert_eq!(of("straße 12"), Some(" 12".to_owned()));
        assert_eq!(of("error"), None);
        assert_eq!(of("a-1"), None);
        let mask = Mask::new("00 ?? 01 02 03 ?? 04").expect("a mask");
        assert_eq!(known(&mask), Some(vec![1, 2, 3]));
        // No other character folds to one of these.
        for c in (0..=u32::from(char::MAX)).filter_map(char::from_u32) {
            let folded = c.to_lowercase().next().unwrap_or(c);
            assert!(
                !folded.is_ascii() || folded.is_ascii_alphabetic() || folded == c,
                "{c:?}"
            );
        }
    }

    #[test]
    fn values_of_a_filter_are_parameters() {
        let hostile = "x'); DROP TABLE run; --";
        for text in ["ep", "svc", "server"].map(|key| format!("{key}:\"{hostile}\"")) {
            let (sql, _) = plan(&text);
            assert!(!sql.contains("DROP"), "{sql}");
        }
    }
}
